//! `fanfare-sim`: the server that ships, its network and its clients in one seeded, deterministic simulation.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    reason = "of JSON, where what is absent is null"
)]

mod device;
mod generate;
mod history;
mod machine;
mod net;
mod oracle;
mod plan;
mod publisher;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::{Parser, Subcommand};

use crate::plan::Plan;
use crate::world::{Failure, Report};

/// Runs Fanfare's server with simulated clients, networks and clocks, and judges what they see.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes:
  0   every promise was kept
  2   wrong usage, or a plan that is none
  10  a promise was broken
  11  something that was owed did not come
  12  a panic
  13  two runs of one plan differ"
)]
struct Args {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Runs the worlds of these seeds, and stops at the first that fails
    Run {
        /// The first seed and the one behind the last, as in 0..2000
        #[arg(long, value_name = "FROM..TO", value_parser = seeds)]
        seeds: Seeds,
        /// Worlds that run at once [default: as many as there are cores]
        #[arg(long, value_name = "NUMBER")]
        jobs: Option<usize>,
        /// Every world is run twice, and has to come out the same
        #[arg(long)]
        twice: bool,
        /// Folder to which the plan of a world that fails is written
        #[arg(long, value_name = "DIR", default_value = ".")]
        plans: PathBuf,
    },
    /// Runs a plan
    Replay {
        /// The plan's file
        plan: PathBuf,
        /// Prints everything that is seen from outside
        #[arg(long)]
        trace: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Seeds {
    from: u64,
    to: u64,
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("expected two numbers with `..` between, such as 0..2000")?;
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|error| format!("`{text}`: {error}"))
    };
    let (from, to) = (number(from)?, number(to)?);
    if from >= to {
        return Err(format!("no seed is from {from} to before {to}"));
    }
    Ok(Seeds { from, to })
}

fn main() -> ExitCode {
    match Args::parse().command {
        Subcommands::Run {
            seeds,
            jobs,
            twice,
            plans,
        } => run(seeds, jobs, twice, &plans),
        Subcommands::Replay { plan, trace } => replay(plan, trace),
    }
}

/// What all worlds came to together.
#[derive(Default)]
struct Totals {
    worlds: AtomicU64,
    seen: AtomicU64,
    faults: AtomicU64,
    simulated_ms: AtomicU64,
}

impl Totals {
    fn add(&self, report: &Report) {
        let counts = [
            (&self.worlds, 1),
            (&self.seen, report.seen),
            (&self.faults, report.faults),
            (&self.simulated_ms, report.simulated_ms),
        ];
        for (total, count) in counts {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// What went wrong first: the seed, and how.
enum Wrong {
    Failed(Failure),
    Differs,
}

fn run(seeds: Seeds, jobs: Option<usize>, twice: bool, plans: &std::path::Path) -> ExitCode {
    let jobs = jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let (next, totals) = (AtomicU64::new(seeds.from), Totals::default());
    let wrong: Mutex<Option<(u64, Wrong)>> = Mutex::new(None);
    let began = Instant::now();
    let found = |seed: u64, what: Wrong| {
        let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
        // The same seed is told however many worlds run at once.
        if wrong.as_ref().is_none_or(|(other, _)| seed < *other) {
            *wrong = Some((seed, what));
        }
        next.store(seeds.to, Ordering::Relaxed);
    };
    std::thread::scope(|threads| {
        for _ in 0..jobs.unwrap_or(1).max(1) {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.to {
                        break;
                    }
                    let plan = generate::generate(seed);
                    let report = world::run(&plan, &mut |_| {});
                    totals.add(&report);
                    if twice && world::run(&plan, &mut |_| {}).digest != report.digest {
                        found(seed, Wrong::Differs);
                    }
                    if let Some(failure) = report.failure {
                        found(seed, Wrong::Failed(failure));
                    }
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let of = |total: &AtomicU64| total.load(Ordering::Relaxed);
    let hours = std::time::Duration::from_millis(of(&totals.simulated_ms)).as_secs_f64() / 3_600.0;
    say(&format!(
        "{} worlds in {took:.1} s, {hours:.1} simulated hours, {} observations, {} faults",
        of(&totals.worlds),
        of(&totals.seen),
        of(&totals.faults),
    ));
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Some((seed, wrong)) = wrong else {
        return ExitCode::SUCCESS;
    };
    let file = plans.join(format!("seed-{seed}.json"));
    let plan = generate::generate(seed);
    let text = serde_json::to_string_pretty(&plan).unwrap_or_default();
    match std::fs::write(&file, text) {
        Ok(()) => say(&format!(
            "seed {seed} failed: fanfare-sim replay {}",
            file.display()
        )),
        Err(error) => say(&format!(
            "seed {seed} failed; its plan can't be written: {}: {error}",
            file.display()
        )),
    }
    match wrong {
        Wrong::Failed(failure) => failed(&failure),
        Wrong::Differs => {
            say("two runs of it differ");
            ExitCode::from(13)
        }
    }
}

fn replay(file: PathBuf, trace: bool) -> ExitCode {
    let plan = match Plan::read(file) {
        Ok(plan) => plan,
        Err(error) => {
            say(&format!("fanfare-sim: {error}"));
            return ExitCode::from(2);
        }
    };
    let report = world::run(&plan, &mut |it| {
        if trace {
            say(&it.to_string());
        }
    });
    say(&format!(
        "{} observations, digest {}",
        report.seen, report.digest
    ));
    report
        .failure
        .map_or(ExitCode::SUCCESS, |failure| failed(&failure))
}

fn failed(failure: &Failure) -> ExitCode {
    let (what, code) = match failure {
        Failure::Safety(broken) => (broken.to_string(), 10),
        Failure::Liveness(broken) => (broken.to_string(), 11),
        Failure::Panic(words) => (format!("panic: {words}"), 12),
    };
    say(&what);
    ExitCode::from(code)
}

/// A line to standard output, which may be closed.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
