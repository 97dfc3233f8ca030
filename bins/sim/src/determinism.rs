//! That a plan is one run: everything that goes into the hub and comes out of it is hashed step by step, twice in this
//! process and once in another one, where addresses and the seeds of hash maps are others.

use std::cell::RefCell;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use clap::Args;
use fanfare_core::{Change, Effect, Fetched, Input, Pull, Time};
use fanfare_loopback::Digest;
use fanfare_websocket::Passes;

use crate::generate::generate;
use crate::names::seconds;
use crate::plan::Plan;
use crate::run::{Interrupts, Jobs, Seeds};
use crate::{say, verdict, world};

/// Steps that are shown before the one that differs.
const BEFORE: usize = 5;

/// What `determinism` is told.
#[derive(Debug, Args)]
pub(crate) struct Determinism {
    /// The first seed and the one behind the last, as in 0..50
    #[arg(long, value_name = "FROM..TO", value_parser = Seeds::parse)]
    seeds: Seeds,
    #[command(flatten)]
    jobs: Jobs,
    /// What the other process is for: a line for each step's hash
    #[arg(long, hide = true)]
    hashes: bool,
    /// And what it was, for these steps
    #[arg(long, hide = true, value_parser = Seeds::parse)]
    texts: Option<Seeds>,
}

/// The steps of a run: each one's hash, and what some of them were.
#[derive(Debug, Default)]
struct Steps {
    hashes: Vec<u64>,
    texts: Vec<String>,
}

/// Runs a plan and hashes its steps; keeps what those of this range were.
fn steps(plan: &Plan, texts: Range<usize>) -> Steps {
    let kept = Rc::new(RefCell::new(Steps::default()));
    let witness = {
        let kept = Rc::clone(&kept);
        Rc::new(move |at: Time, passes: Passes<'_>| {
            let text = format!("t={}s {}", seconds(at.as_millis()), describe(passes));
            let mut steps = kept.borrow_mut();
            let mut digest = Digest::default();
            digest.bytes(text.as_bytes());
            if texts.contains(&steps.hashes.len()) {
                steps.texts.push(text);
            }
            steps.hashes.push(digest.number());
        })
    };
    world::watched(plan, &mut |_| {}, Some(witness));
    kept.take()
}

/// All of it: what may not be in a log is here.
fn describe(passes: Passes<'_>) -> String {
    let mut text = String::new();
    let rows = |text: &mut String, rows: &[(Vec<u8>, Vec<u8>)]| {
        for (key, value) in rows {
            let _ = write!(text, " {key:02x?}={value:02x?}");
        }
    };
    match passes {
        Passes::Input(Input::Publish { ticket, publish }) => {
            let data = publish.draft.data.as_str();
            let _ = write!(text, "in Publish {ticket:?} {publish:?} {data}");
        }
        Passes::Input(Input::Fetched {
            id,
            result: Ok(fetched),
        }) => {
            let _ = write!(text, "in Fetched {id:?}");
            for Fetched { rows: found, more } in fetched {
                let _ = write!(text, " more={more}");
                rows(&mut text, found);
            }
        }
        Passes::Input(input) => {
            let _ = write!(text, "in {input:?}");
        }
        Passes::Open(open) => {
            let _ = write!(text, "in {open:?}");
        }
        Passes::Effect(Effect::Commit(changes)) => {
            text.push_str("out Commit");
            for change in changes {
                match change {
                    Change::Put { table, key, value } => {
                        let _ = write!(text, " {table:?} {key:02x?}={value:02x?}");
                    }
                    Change::Delete { .. } | Change::DeleteRange { .. } => {
                        let _ = write!(text, " {change:?}");
                    }
                }
            }
        }
        Passes::Effect(effect) => {
            let _ = write!(text, "out {effect:?}");
        }
        Passes::Pull(conn, Pull::Frame(frame)) => {
            let _ = write!(text, "out to {conn}: {}", frame.text());
        }
        Passes::Pull(conn, pull) => {
            let _ = write!(text, "out to {conn}: {pull:?}");
        }
        Passes::Order(order) => {
            let _ = write!(text, "to an outlet {order:?}");
        }
        Passes::Ride(conn, bytes) => {
            let _ = write!(text, "out to {conn}: {}", String::from_utf8_lossy(bytes));
        }
    }
    text
}

/// Where two runs part, if they do.
fn parting(one: &[u64], other: &[u64]) -> Option<usize> {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    differs.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())))
}

pub(crate) fn run(args: &Determinism) -> ExitCode {
    if args.hashes {
        return other_process(args);
    }
    let next = AtomicU64::new(args.seeds.from);
    let (worlds, all) = (AtomicU64::new(0), AtomicU64::new(0));
    let found: Mutex<Option<(u64, String)>> = Mutex::default();
    let began = Instant::now();
    let interrupts = Interrupts::watch();
    say(&format!(
        "seeds {}..{}, {} at once",
        args.seeds.from,
        args.seeds.to,
        args.jobs.number()
    ));
    let stop = AtomicBool::new(false);
    let work = || {
        while let Some(seed) = args.seeds.next(&next) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            match compare(seed) {
                Ok(steps) => {
                    worlds.fetch_add(1, Ordering::Relaxed);
                    all.fetch_add(steps as u64, Ordering::Relaxed);
                }
                Err(differs) => {
                    next.store(args.seeds.to, Ordering::Relaxed);
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    if found.as_ref().is_none_or(|(other, _)| seed < *other) {
                        *found = Some((seed, differs));
                    }
                }
            }
        }
    };
    let interrupted = interrupts.during(&stop, || {
        thread::scope(|threads| {
            for _ in 0..args.jobs.number() {
                threads.spawn(work);
            }
        });
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Ctrl-C may have ended another process before this one.
    if let Some((seed, differs)) = found.filter(|_| !interrupted) {
        say(&format!("determinism: two runs of seed {seed} differ"));
        say(&differs);
        return ExitCode::from(verdict::DETERMINISM);
    }
    say(&format!(
        "{} worlds, each three times, in {:.1} s: their {} steps are the same in two runs of one process and in another process",
        worlds.into_inner(),
        began.elapsed().as_secs_f64(),
        all.into_inner(),
    ));
    if interrupted {
        say("interrupted: no more were begun");
        return ExitCode::from(verdict::INTERRUPTED);
    }
    ExitCode::SUCCESS
}

/// Runs a seed's plan twice here and once in another process. How many steps it has, or how they differ.
fn compare(seed: u64) -> Result<usize, String> {
    let plan = generate(seed);
    let one = steps(&plan, 0..0).hashes;
    if one.is_empty() {
        return Err("no step was seen, so nothing is compared".to_owned());
    }
    if let Some(at) = parting(&one, &steps(&plan, 0..0).hashes) {
        let shown = at.saturating_sub(BEFORE)..at + 1;
        let (one, other) = (steps(&plan, shown.clone()), steps(&plan, shown));
        return Err(told(at, "again in one process", &one.texts, &other.texts));
    }
    let hashes = elsewhere(seed, None)?;
    let hashes = hashes.iter().map(|line| u64::from_str_radix(line, 16));
    let other: Vec<u64> = hashes
        .collect::<Result<_, _>>()
        .map_err(|error| format!("the other process: {error}"))?;
    if let Some(at) = parting(&one, &other) {
        let shown = at.saturating_sub(BEFORE)..at + 1;
        let other = elsewhere(seed, Some(shown.clone()))?;
        return Err(told(
            at,
            "in another process",
            &steps(&plan, shown).texts,
            &other,
        ));
    }
    Ok(one.len())
}

/// The first step that differs, with those before it.
fn told(at: usize, run: &str, one: &[String], other: &[String]) -> String {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    let differs =
        differs.or_else(|| (one.len() != other.len()).then(|| one.len().min(other.len())));
    let Some(differs) = differs else {
        return format!("  at step {at}, when run {run}; not when they were run once more");
    };
    let mut lines = vec![format!("  at step {at}, when run {run}")];
    lines.extend(
        one.iter()
            .take(differs)
            .map(|line| format!("  both  {line}")),
    );
    let of = |texts: &[String]| {
        texts
            .get(differs)
            .map_or_else(|| "ends".to_owned(), Clone::clone)
    };
    lines.push(format!("  one   {}", of(one)));
    lines.push(format!("  other {}", of(other)));
    lines.join("\n")
}

/// Asks another process for the steps of a seed: their hashes, or what those of a range were.
fn elsewhere(seed: u64, texts: Option<Range<usize>>) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("another process can't be run: {error}");
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command
        .args(["determinism", "--hashes", "--seeds"])
        .arg(format!("{seed}..{}", seed + 1))
        // Moves the stack; what is mapped where is the system's choice.
        .env(
            "FANFARE_SIM_PADDING",
            "x".repeat(1 + usize::try_from(seed).unwrap_or(0) % 4_000),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(texts) = texts {
        command
            .arg("--texts")
            .arg(format!("{}..{}", texts.start, texts.end));
    }
    let mut child = command.spawn().map_err(failed)?;
    let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let lines = lines.collect::<Result<_, _>>().map_err(failed);
    child.wait().map_err(failed)?;
    lines
}

/// Is that other process.
fn other_process(args: &Determinism) -> ExitCode {
    let number = |seed: u64| usize::try_from(seed).unwrap_or(usize::MAX);
    let texts = args.texts.map_or(0..0, |it| number(it.from)..number(it.to));
    let steps = steps(&generate(args.seeds.from), texts);
    if args.texts.is_some() {
        steps.texts.iter().for_each(|text| say(text));
    } else {
        steps
            .hashes
            .iter()
            .for_each(|hash| say(&format!("{hash:016x}")));
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_two_runs_part_is_found() {
        for (one, other, at) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], None),
            (&[1, 2, 3], &[1, 9, 3], Some(1)),
            (&[1, 2], &[1, 2, 3], Some(2)),
            (&[], &[1], Some(0)),
        ] {
            assert_eq!(parting(one, other), at, "{one:?} {other:?}");
        }
    }

    #[test]
    fn two_runs_of_a_plan_have_the_same_steps_and_another_seed_has_others() {
        let plan = generate(1);
        let (one, other) = (steps(&plan, 0..10), steps(&plan, 0..10));
        assert_eq!(parting(&one.hashes, &other.hashes), None);
        assert_eq!(one.texts, other.texts);
        assert_eq!(one.texts.len(), 10);
        let mut drawn = plan;
        drawn.seed += 1;
        assert_ne!(parting(&one.hashes, &steps(&drawn, 0..0).hashes), None);
    }

    #[test]
    fn what_a_witness_keeps_is_no_part_of_the_world() {
        let kept = Rc::new(RefCell::new(Vec::new()));
        let witness = {
            let kept = Rc::clone(&kept);
            Rc::new(move |_: Time, _: Passes<'_>| kept.borrow_mut().push(vec![0_u8; 10_000]))
        };
        let report = world::watched(&generate(1), &mut |_| {}, Some(witness));
        assert!(kept.borrow().len() > 1_000);
        assert_eq!(report.failure, None);
    }

    #[test]
    fn a_difference_is_told_with_what_was_before() {
        let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
        let told = told(7, "again", &[a.clone(), b], &[a, c]);
        assert_eq!(
            told,
            "  at step 7, when run again\n  both  a\n  one   b\n  other c"
        );
    }
}
