//! `fanfare-sim replay`: one plan, with all that is seen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::plan::Plan;
use crate::{say, verdict, world};

/// What `replay` is told.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The plan's file
    plan: PathBuf,
    /// Prints everything that is seen from outside
    #[arg(long)]
    trace: bool,
}

pub(crate) fn run(args: &Replay) -> ExitCode {
    let plan = match Plan::read(args.plan.clone()) {
        Ok(plan) => plan,
        Err(error) => {
            say(&format!("fanfare-sim: {error}"));
            return ExitCode::from(verdict::USAGE);
        }
    };
    let report = world::run(&plan, &mut |it| {
        if args.trace {
            say(&it.to_string());
        }
    });
    say(&format!(
        "{} observations, digest {}",
        report.seen, report.digest
    ));
    match &report.failure {
        Some(failure) => {
            say(&verdict::story(&plan, &report, failure));
            failure.code()
        }
        None => {
            say("every promise was kept");
            ExitCode::SUCCESS
        }
    }
}
