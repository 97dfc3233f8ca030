//! `fanfare-sim run`: the worlds of a range of seeds, several at once.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use async_signal::{Signal, Signals};
use clap::Args;
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::coverage::Coverage;
use crate::generate::generate;
use crate::tally::{Counts, Tally};
use crate::world::{self, Failure, Report};
use crate::{coverage, say, story, verdict};

/// What `run` is told.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The first seed and the one behind the last, as in 0..2000
    #[arg(long, value_name = "FROM..TO", value_parser = Seeds::parse)]
    seeds: Seeds,
    #[command(flatten)]
    jobs: Jobs,
    /// Prints how many seeds came to each mark in the server's code, and fails where none came to one, or to a fault or a
    /// step; needs a build with `--features marks`
    #[arg(long)]
    coverage: bool,
    /// Folder to which the plan of a world that fails is written
    #[arg(long, value_name = "DIR", default_value = ".")]
    plans: PathBuf,
}

/// Each is a thread.
const JOBS_MAX: i64 = 1_024;

/// How much is done at once.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Jobs {
    /// Worlds that run at once [default: as many as there are cores]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=JOBS_MAX))]
    jobs: Option<u16>,
}

impl Jobs {
    pub(crate) fn number(self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(cores, usize::from)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeds {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Seeds {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (from, to) = text
            .split_once("..")
            .ok_or("expected two numbers with `..` between, such as 0..2000")?;
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|error| format!("`{text}`: {error}"))
        };
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(format!("{from} is above {to}: did you mean {to}..{from}?"));
        }
        if from == to {
            return Err(format!(
                "no seed is in it: {from}..{} has one",
                from.saturating_add(1)
            ));
        }
        Ok(Self { from, to })
    }

    /// The next one that nobody has begun, where they are counted in `next`.
    pub(crate) fn next(self, next: &AtomicU64) -> Option<u64> {
        let one_more = |seed: u64| (seed < self.to).then(|| seed + 1);
        let begun = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        begun.ok()
    }
}

/// What all worlds came to so far.
#[derive(Default)]
struct Totals {
    worlds: u64,
    seen: u64,
    simulated_ms: u64,
    tally: Tally,
    /// How many worlds reached each mark.
    marks: Counts,
    /// The lowest seed that failed, and how.
    wrong: Option<(u64, Failure)>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.seen += report.seen;
        self.simulated_ms += report.simulated_ms;
        self.tally.merge(&report.tally);
        for mark in &report.marks {
            self.marks.add(mark, 1);
        }
    }

    /// The same seed is told however many worlds run at once.
    fn found(&mut self, seed: u64, wrong: Failure) {
        if self.wrong.as_ref().is_none_or(|(other, _)| seed < *other) {
            self.wrong = Some((seed, wrong));
        }
    }

    fn hours(&self) -> f64 {
        Duration::from_millis(self.simulated_ms).as_secs_f64() / 3_600.0
    }

    fn summary(&self, took: Duration) -> String {
        let rate = self.rate(took);
        let seconds = took.as_secs_f64();
        format!(
            "{} worlds in {seconds:.1} s ({rate:.1} a second), {:.1} simulated hours, {} observations, {} steps, {} faults, devices connected {} % of the time",
            self.worlds,
            self.hours(),
            self.seen,
            self.tally.steps.total(),
            self.tally.faults.total(),
            self.tally.connected(),
        )
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn rate(&self, took: Duration) -> f64 {
        self.worlds as f64 / took.as_secs_f64().max(0.001)
    }
}

/// What all threads of a run share.
struct Shared {
    seeds: Seeds,
    next: AtomicU64,
    totals: Mutex<Totals>,
    bar: ProgressBar,
    began: Instant,
}

impl Shared {
    fn totals(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(seed) = self.seeds.next(&self.next) {
            let plan = generate(seed);
            let mut report = world::run(&plan, &mut |_| {});
            let failure = report.failure.take();
            if failure.is_some() {
                self.next.store(self.seeds.to, Ordering::Relaxed);
            }
            let mut totals = self.totals();
            totals.add(&report);
            if let Some(failure) = failure {
                totals.found(seed, failure);
            }
            let rate = totals.rate(self.began.elapsed());
            self.bar.set_position(totals.worlds);
            self.bar.set_message(format!(
                "{rate:.1} seeds a second, {:.1} simulated hours, {} faults",
                totals.hours(),
                totals.tally.faults.total()
            ));
        }
    }
}

/// On standard error, if that is a terminal.
pub(crate) fn bar(length: Option<u64>, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::with_draw_target(length, target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message("just begun");
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}

/// Ctrl-C or SIGTERM, from when they are watched.
pub(crate) struct Interrupts(Option<Signals>);

impl Interrupts {
    pub(crate) fn watch() -> Self {
        // It ends the process by itself, where it can't be watched.
        Self(Signals::new([Signal::Int, Signal::Term]).ok())
    }

    async fn come(self) {
        match self.0 {
            Some(mut signals) => drop(signals.next().await),
            None => std::future::pending().await,
        }
    }

    /// Waits until `work` has ended, or for Ctrl-C. Whether that came first.
    pub(crate) fn before(self, work: impl Future<Output = ()>) -> bool {
        let work = async {
            work.await;
            false
        };
        let come = async {
            self.come().await;
            true
        };
        smol::block_on(smol::future::or(work, come))
    }

    /// Does `work` to its end, which `stop` is to bring about when Ctrl-C comes. Whether it came.
    pub(crate) fn during(self, stop: &AtomicBool, work: impl FnOnce() + Send) -> bool {
        let (sender, ended) = async_channel::bounded::<()>(1);
        thread::scope(|threads| {
            threads.spawn(move || {
                work();
                drop(sender);
            });
            let interrupted = self.before(async {
                let _ = ended.recv().await;
            });
            stop.store(true, Ordering::Relaxed);
            interrupted
        })
    }
}

/// Runs them, and stops at the first world that fails.
pub(crate) fn run(args: &Run) -> ExitCode {
    if args.coverage && !coverage::COUNTS {
        say("fanfare-sim: this build counts no marks: \
             cargo run --release -p fanfare-sim --features marks -- run --coverage ...");
        return ExitCode::from(verdict::USAGE);
    }
    if !args.plans.is_dir() {
        say(&format!(
            "fanfare-sim: {}: no such folder: the plan of a world that fails would be lost",
            args.plans.display()
        ));
        return ExitCode::from(verdict::USAGE);
    }
    let seeds = args.seeds;
    let jobs = args.jobs.number();
    let shared = Arc::new(Shared {
        seeds,
        next: AtomicU64::new(seeds.from),
        totals: Mutex::default(),
        bar: bar(
            Some(seeds.to - seeds.from),
            "{spinner} running {bar:30} {percent}% of {len} worlds, {msg}, {eta} left",
        ),
        began: Instant::now(),
    });
    let interrupts = Interrupts::watch();
    say(&format!(
        "seeds {}..{}, {jobs} at once",
        seeds.from, seeds.to
    ));
    let (sender, ended) = async_channel::bounded::<()>(1);
    let workers = (0..jobs).map(|_| {
        let (shared, sender) = (Arc::clone(&shared), sender.clone());
        thread::spawn(move || {
            shared.work();
            drop(sender);
        })
    });
    let workers: Vec<_> = workers.collect();
    drop(sender);
    // The channel is closed when the last thread has ended; Ctrl-C does not wait for that.
    let interrupted = interrupts.before(async {
        let _ = ended.recv().await;
    });
    shared.bar.finish_and_clear();
    // Said by the thread itself.
    let is_broken = !interrupted && workers.into_iter().any(|worker| worker.join().is_err());
    let mut totals = shared.totals();
    say(&totals.summary(shared.began.elapsed()));
    say(&format!("steps\n{}", totals.tally.steps));
    say(&format!("faults\n{}", totals.tally.faults));
    let wrong = totals.wrong.take();
    match wrong {
        None if interrupted => {
            if args.coverage {
                say_marks(&coverage::report(&totals.marks, &totals.tally));
            }
            let next = shared.next.load(Ordering::Relaxed);
            say(&format!("interrupted: seeds from {next} on were not begun"));
            ExitCode::from(verdict::INTERRUPTED)
        }
        None if is_broken => ExitCode::from(verdict::PANIC),
        None if args.coverage => covered(&totals),
        None => ExitCode::SUCCESS,
        Some((seed, failure)) => tell(seed, &failure, &args.plans),
    }
}

fn say_marks(coverage: &Coverage) {
    say(&format!(
        "marks, by how many seeds came to each\n{}",
        coverage.lines
    ));
}

/// Says what the worlds came to.
fn covered(totals: &Totals) -> ExitCode {
    let coverage = coverage::report(&totals.marks, &totals.tally);
    say_marks(&coverage);
    if coverage.missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    for it in coverage.missing {
        say(&format!("coverage: no seed came to {it}"));
    }
    ExitCode::from(verdict::COVERAGE)
}

/// Writes the plan of the world that failed, and says how it did.
fn tell(seed: u64, failure: &Failure, folder: &Path) -> ExitCode {
    let file = folder.join(format!("seed-{seed}.json"));
    let plan = generate(seed);
    let (told, report) = story::tell(&plan);
    match plan.write(&file, &told) {
        Ok(()) => {
            say(&format!("seed {seed} failed"));
            say(&format!(
                "  shorten   fanfare-sim shrink {}",
                file.display()
            ));
            say(&format!(
                "  replay    fanfare-sim replay {}",
                file.display()
            ));
        }
        Err(error) => say(&format!("seed {seed} failed, and {error}")),
    }
    say(&verdict::story(&plan, &report, failure, &told));
    failure.code()
}
