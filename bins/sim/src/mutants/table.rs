//! Plants one fault after the other, and runs worlds until an oracle complains.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use fanfare_core::mutants::{Mutant, plant};

use super::Mutants;
use crate::generate::generate;
use crate::run::{Interrupts, Seeds};
use crate::{say, verdict, world};

/// The exit code where one was not found, as `--help` has it.
const SURVIVED: u8 = 15;

/// Where one was found.
struct Found {
    seed: u64,
    steps: usize,
    oracle: &'static str,
}

pub(crate) fn run(args: &Mutants) -> ExitCode {
    let mutants = match chosen(args) {
        Ok(mutants) => mutants,
        Err(error) => {
            say(&format!("fanfare-sim: {error}"));
            return ExitCode::from(verdict::USAGE);
        }
    };
    let jobs = args.jobs.number();
    let stop = AtomicBool::new(false);
    let (mut found, mut survived) = (0, Vec::new());
    let began = Instant::now();
    let (name, oracle) = ("mutant", "oracle");
    say(&format!(
        "{name:<24} {:>6} {:>6}  {oracle:<22} what is wrong",
        "seed", "steps"
    ));
    let interrupted = Interrupts::watch().during(&stop, || {
        for mutant in mutants {
            let result = look(mutant, args.seeds, jobs, &stop);
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (name, what) = (mutant.name(), mutant.what());
            if let Some(Found {
                seed,
                steps,
                oracle,
            }) = result
            {
                found += 1;
                say(&format!(
                    "{name:<24} {seed:>6} {steps:>6}  {oracle:<22} {what}"
                ));
            } else {
                survived.push(name);
                say(&format!(
                    "{name:<24} {:>6} {:>6}  {:<22} {what}",
                    "-", "-", "SURVIVED"
                ));
            }
        }
    });
    let took = began.elapsed().as_secs_f64();
    say(&format!(
        "{found} found, {} survived, {took:.0} s",
        survived.len()
    ));
    match (survived.as_slice(), interrupted) {
        ([], false) => ExitCode::SUCCESS,
        ([], true) => ExitCode::from(verdict::INTERRUPTED),
        (names, _) => {
            say(&format!("no oracle sees {}", names.join(", ")));
            ExitCode::from(SURVIVED)
        }
    }
}

/// Those that are asked for.
fn chosen(args: &Mutants) -> Result<Vec<Mutant>, String> {
    let all = Mutant::ALL;
    if let Some(few) = args.few {
        let from = args.turn.wrapping_mul(few) % all.len();
        let turn = all.iter().cycle().skip(from).take(few.min(all.len()));
        return Ok(turn.copied().collect());
    }
    if args.only.is_empty() {
        return Ok(all.to_vec());
    }
    args.only.iter().map(|name| named(name)).collect()
}

/// The one of this name.
pub(crate) fn named(name: &str) -> Result<Mutant, String> {
    let known = Mutant::ALL.iter().find(|mutant| mutant.name() == name);
    known.copied().ok_or_else(|| {
        let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!(
            "there is no mutant `{name}`; there are {}",
            names.join(", ")
        )
    })
}

/// Runs worlds with it, until one fails. The lowest seed that does is told, however many run at once.
fn look(mutant: Mutant, seeds: Seeds, jobs: usize, stop: &AtomicBool) -> Option<Found> {
    plant(Some(mutant));
    let next = AtomicU64::new(seeds.from);
    let found: Mutex<Option<Found>> = Mutex::new(None);
    thread::scope(|threads| {
        for _ in 0..jobs {
            threads.spawn(|| {
                while let Some(seed) = seeds.next(&next) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = world::run(&generate(seed), &mut |_| {});
                    let Some(failure) = report.failure else {
                        continue;
                    };
                    next.store(seeds.to, Ordering::Relaxed);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    if found.as_ref().is_none_or(|other| seed < other.seed) {
                        *found = Some(Found {
                            seed,
                            steps: report.taken,
                            oracle: failure.name(),
                        });
                    }
                }
            });
        }
    });
    plant(None);
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}
