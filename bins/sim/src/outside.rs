//! `fanfare-sim outside`: the real program over loopback TCP. Its clients, their lines and what goes wrong with these are those of
//! a simulated world, at the pace of the real clock; behind each line's far end stands a TCP connection. `crash` is `kill -9`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use fanfare_core::Time;
use fanfare_loopback::Stream;
use futures::future::try_join;
use futures::io::copy;
use futures::{AsyncReadExt, AsyncWriteExt};
use rustix::process::{Pid, Signal, kill_process};
use smol::future::or;
use smol::{Async, LocalExecutor, Timer};

use crate::disk::Keeping;
use crate::generate::generate;
use crate::machine::{API_KEY, BEGINNING, SECRET};
use crate::names::Names;
use crate::plan::{Bounds, Network, Plan, Step, Timed};
use crate::run::Interrupts;
use crate::world::{self, Failure};
use crate::{say, trace, verdict};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);
/// How often Ctrl-C is looked for.
const LOOK: Duration = Duration::from_millis(200);
/// Devices at most: all of it runs on the machine that judges.
const DEVICES_MAX: usize = 20;
/// Lines of the trace that are shown of a failure.
const SHOWN: usize = 40;

/// What `outside` is told.
#[derive(Debug, Args)]
pub(crate) struct Outside {
    /// The program [default: the `fanfare-server` beside this one]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,
    /// Seconds in which faults happen; what is owed is waited for after that, for about half a minute
    #[arg(long, value_name = "NUMBER", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// The seed from which the plan is drawn
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// The program keeps everything in memory, and loses it with each crash
    #[arg(long)]
    memory: bool,
}

pub(crate) fn run(args: &Outside) -> ExitCode {
    let beside = || {
        Some(
            std::env::current_exe()
                .ok()?
                .with_file_name("fanfare-server"),
        )
    };
    let program = args.server.clone().or_else(beside).unwrap_or_default();
    if !program.is_file() {
        say(&format!(
            "fanfare-sim: {}: no such program: cargo build --release -p fanfare-server builds it, and --server names another",
            program.display()
        ));
        return ExitCode::from(verdict::USAGE);
    }
    let plan = plan(args.seed, args.seconds, args.memory);
    let data = match tempfile::tempdir() {
        Ok(data) => data,
        Err(error) => {
            say(&format!("fanfare-sim: no folder for its data: {error}"));
            return ExitCode::from(verdict::USAGE);
        }
    };
    say(&format!(
        "{} for {} s: {} devices, {} steps",
        program.display(),
        args.seconds,
        plan.world.devices.len(),
        plan.steps.len()
    ));
    let data = (!args.memory).then(|| data.path().to_owned());
    let stop = Arc::new(AtomicBool::new(false));
    let mut code = ExitCode::from(verdict::INTERRUPTED);
    let interrupted = Interrupts::watch().during(&stop, || {
        let stop = Arc::clone(&stop);
        code = judge(&plan, &Rc::new(Program::new(program, data, stop)));
    });
    if interrupted {
        say("interrupted: what was owed was not waited for");
        return ExitCode::from(verdict::INTERRUPTED);
    }
    code
}

/// Runs the plan with the program, and says what came of it.
fn judge(plan: &Plan, program: &Rc<Program>) -> ExitCode {
    let names = Names::new(plan);
    let mut last = VecDeque::new();
    let report = world::outside(plan, Rc::clone(program), &mut |it| {
        last.push_back(trace::line(&names, it));
        if last.len() > SHOWN {
            last.pop_front();
        }
    });
    if let (Some(Failure::Panic(words)), 0) = (&report.failure, program.starts.get()) {
        say(&format!("fanfare-sim: {words}"));
        return ExitCode::from(verdict::USAGE);
    }
    say(&format!(
        "{} observations, {} steps, {} starts of the server; faults\n{}",
        report.seen,
        report.tally.steps.total(),
        program.starts.get(),
        report.tally.faults
    ));
    let Some(failure) = &report.failure else {
        say("every promise was kept");
        return ExitCode::SUCCESS;
    };
    if program.stop.load(Ordering::Relaxed) {
        return ExitCode::from(verdict::INTERRUPTED);
    }
    for line in last {
        say(&format!("  {line}"));
    }
    let what = match failure {
        Failure::Safety(broken) | Failure::Liveness(broken) => broken.what.clone(),
        Failure::Panic(words) => words.clone(),
    };
    say(&format!("{}: {}", failure.name(), names.shorten(&what)));
    say(&format!("  expected  {}", verdict::promise(failure.name())));
    failure.code()
}

/// The seed's plan, as far as it can be done to a real program, and in this time.
fn plan(seed: u64, seconds: u64, memory: bool) -> Plan {
    let mut plan = generate(seed);
    let (before, faults_ms) = (plan.world.faults_ms.max(1), seconds * 1_000);
    plan.world.faults_ms = faults_ms;
    plan.world.devices.truncate(DEVICES_MAX);
    for device in &mut plan.world.devices {
        device.given_up = false;
    }
    plan.world.rolls = false;
    // How fast its disk is, is its machine's business.
    plan.world.store = (!memory).then_some(Keeping {
        relaxed: false,
        sync_ms: [0, 0],
        log_bytes: 0,
    });
    plan.world.limits = Bounds::default();
    plan.world.network = bearable(&plan.world.network);
    let devices = plan.world.devices.len();
    plan.steps.retain_mut(|timed| {
        timed.at_ms = timed.at_ms * faults_ms / before;
        if let Step::Weather { network } = &mut timed.step {
            *network = bearable(network);
        }
        let can_be_done = !matches!(
            timed.step,
            Step::Pause { .. }
                | Step::NoDescriptors { .. }
                | Step::Clock { .. }
                | Step::Token { .. }
                | Step::Background { .. }
                | Step::Crash {}
                | Step::PowerCut { .. }
                | Step::BadDisk { .. }
                | Step::Drain {}
        );
        can_be_done && timed.step.names().0.is_none_or(|it| it < devices)
    });
    let ends = [
        Step::Crash {},
        Step::Crash {},
        Step::Drain {},
        Step::Crash {},
    ];
    for (number, step) in (1..).zip(ends) {
        let at_ms = faults_ms * number / 5;
        plan.steps.push(Timed { at_ms, step });
    }
    plan.steps.sort_by_key(|timed| timed.at_ms);
    plan
}

/// A network in which a minute is long enough for something to happen.
fn bearable(network: &Network) -> Network {
    let [from, to] = network.latency_ms;
    Network {
        latency_ms: [from.min(100), to.min(300)],
        bytes_per_ms: network.bytes_per_ms.max(50),
        ..network.clone()
    }
}

/// The program, as a process that runs or does not.
pub(crate) struct Program {
    path: PathBuf,
    /// Where it keeps what it is told; none: in memory.
    data: Option<PathBuf>,
    child: RefCell<Option<(Child, SocketAddr)>>,
    /// Of the connections to it.
    executor: LocalExecutor<'static>,
    began: Instant,
    starts: Cell<u64>,
    /// What it should not have done.
    failed: RefCell<Option<String>>,
    /// Set when there is no time for more.
    stop: Arc<AtomicBool>,
}

impl Program {
    fn new(path: PathBuf, data: Option<PathBuf>, stop: Arc<AtomicBool>) -> Self {
        Self {
            path,
            data,
            child: RefCell::default(),
            executor: LocalExecutor::new(),
            began: Instant::now(),
            starts: Cell::new(0),
            failed: RefCell::default(),
            stop,
        }
    }

    /// Milliseconds by which the real wall clock is ahead of that of a simulated world.
    pub(crate) fn ahead_ms(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(now.saturating_sub(self.began.elapsed()).as_millis());
        now.unwrap_or_default()
            .saturating_sub(BEGINNING.as_unix_millis())
    }

    pub(crate) fn now(&self) -> Time {
        let millis = self.began.elapsed().as_millis();
        Time::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// Starts it, and waits until it listens. Whether it did not run before.
    pub(crate) fn start(&self) -> bool {
        if self.child.borrow().is_some() {
            return false;
        }
        match self.spawn() {
            Ok(running) => {
                self.starts.set(self.starts.get() + 1);
                *self.child.borrow_mut() = Some(running);
                true
            }
            Err(error) => {
                let words = format!("the server does not start: {error}");
                self.failed.borrow_mut().get_or_insert(words);
                false
            }
        }
    }

    fn spawn(&self) -> io::Result<(Child, SocketAddr)> {
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FANFARE_") {
                command.env_remove(name);
            }
        }
        match &self.data {
            Some(data) => command.arg("--data").arg(data),
            None => command.arg("--memory"),
        };
        let secret = String::from_utf8_lossy(SECRET);
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--log", "info"])
            .env("FANFARE_TOKEN_SECRET", &*secret)
            .env("FANFARE_API_KEY", API_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (sender, addresses) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let parsed: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if parsed["message"] == "listening"
                    && let Some(address) = parsed["address"].as_str().and_then(|it| it.parse().ok())
                {
                    let _ = sender.send(address);
                }
                // What it says when it is not well.
                if parsed["level"] == "ERROR" || parsed.is_null() {
                    let _ = writeln!(io::stderr(), "server: {line}");
                }
            }
        });
        match addresses.recv_timeout(START) {
            Ok(address) => Ok((child, address)),
            // Its log has ended, and so has it.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait()?;
                let words = format!("{}: it ended with {status}", self.path.display());
                Err(io::Error::other(words))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                let (path, seconds) = (self.path.display(), START.as_secs());
                let words = format!("{path}: within {seconds} s it does not say that it listens");
                Err(io::Error::other(words))
            }
        }
    }

    /// Puts a real connection behind a line. Whether there is a server.
    pub(crate) fn accept(&self, line: Stream) -> bool {
        let Some((_, address)) = &*self.child.borrow() else {
            return false;
        };
        let connection = pump(line, *address);
        self.executor
            .spawn(async move {
                // Both ends know by themselves.
                let _ = connection.await;
            })
            .detach();
        true
    }

    /// `kill -9`. Whether it ran.
    pub(crate) fn kill(&self) -> bool {
        let Some((mut child, _)) = self.child.take() else {
            return false;
        };
        let _ = child.kill();
        let _ = child.wait();
        true
    }

    /// Asks it to end in order. Whether it runs.
    pub(crate) fn terminate(&self) -> bool {
        let child = self.child.borrow();
        let pid = child.as_ref().map(|(child, _)| Pid::from_child(child));
        pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok())
    }

    /// Whether it has ended in order and in time, once it has ended.
    pub(crate) fn ended(&self) -> Option<bool> {
        let mut child = self.child.borrow_mut();
        let Some((running, _)) = &mut *child else {
            return Some(false);
        };
        let status = running.try_wait().ok()??;
        *child = None;
        Some(status.success())
    }

    pub(crate) fn tick(&self) -> bool {
        self.executor.try_tick()
    }

    /// What went wrong with the program itself.
    pub(crate) fn failure(&self) -> Option<String> {
        let interrupted = || {
            let stop = self.stop.load(Ordering::Relaxed);
            stop.then(|| "it was interrupted".to_owned())
        };
        self.failed.take().or_else(interrupted)
    }

    /// Waits for something to do, at most until this time, and not so long that Ctrl-C would not be seen.
    pub(crate) fn wait(&self, actors: &LocalExecutor<'static>, until: Time) {
        let until = self.began + Duration::from_millis(until.as_millis());
        let until = until.min(Instant::now() + LOOK);
        let late = async {
            Timer::at(until).await;
        };
        smol::block_on(or(or(actors.tick(), self.executor.tick()), late));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Carries bytes between a line and a connection of its own, both ways, to the end of both.
async fn pump(line: Stream, address: SocketAddr) -> io::Result<()> {
    let tcp = Async::<TcpStream>::connect(address).await?;
    let (from_client, mut to_client) = line.split();
    let up = async {
        copy(from_client, &mut &tcp).await?;
        tcp.get_ref().shutdown(Shutdown::Write)
    };
    let down = async {
        copy(&tcp, &mut to_client).await?;
        to_client.close().await
    };
    let done = try_join(up, down).await;
    if done.is_err() {
        // A line that is reset is reset to its end.
        let _ = socket2::SockRef::from(tcp.get_ref()).set_linger(Some(Duration::ZERO));
    }
    done.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_for_a_real_program_names_what_there_is_and_kills_it() {
        for seed in 0..20 {
            let plan = plan(seed, 60, seed % 2 == 0);
            assert_eq!(plan.check(), Ok(()), "{seed}");
            let crashes = plan.steps.iter().filter(|it| it.step == Step::Crash {});
            assert_eq!(crashes.count(), 3, "{seed}");
        }
    }
}
