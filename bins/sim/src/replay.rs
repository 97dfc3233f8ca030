//! `fanfare-sim replay`: one plan, with all that is seen.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fanfare_loopback::Digest;

use crate::names::Names;
use crate::plan::Plan;
use crate::{picture, say, story, trace, verdict, world};

/// What `replay` is told.
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The plan's file
    plan: PathBuf,
    /// Prints what each node saw, with the steps between
    #[arg(long)]
    trace: bool,
    /// Writes a picture of the run to this file: a page without need of a network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) fn run(args: &Replay) -> ExitCode {
    let plan = match Plan::read(args.plan.clone()) {
        Ok(plan) => plan,
        Err(error) => {
            say(&format!("fanfare-sim: {error}"));
            return ExitCode::from(verdict::USAGE);
        }
    };
    let (told, _) = story::tell(&plan);
    if let Some(file) = &args.html
        && let Err(error) = picture::write(&plan, &told, file)
    {
        say(&format!(
            "fanfare-sim: {}: can't be written: {error}",
            file.display()
        ));
        return ExitCode::from(verdict::USAGE);
    }
    let names = Names::new(&plan);
    let mut steps = plan.steps.iter().zip(&told).peekable();
    // Of everything that was seen, with its time.
    let mut digest = Digest::default();
    let report = world::run(&plan, &mut |it| {
        digest.bytes(it.to_string().as_bytes());
        if !args.trace {
            return;
        }
        let is_past = |at_ms| at_ms <= it.time.as_millis();
        while let Some((_, line)) = steps.next_if(|(timed, _)| is_past(timed.at_ms)) {
            say(&format!("* {line}"));
        }
        say(&format!("  {}", trace::line(&names, it)));
    });
    say(&format!("{} observations, digest {digest}", report.seen));
    match &report.failure {
        Some(failure) => {
            say(&verdict::story(&plan, &report, failure, &told));
            failure.code()
        }
        None => {
            say("every promise was kept");
            ExitCode::SUCCESS
        }
    }
}
