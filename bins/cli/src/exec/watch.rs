//! Carries a command through to its end: its output, the keys and signals that it gets, how it ended.

use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use async_signal::{Signal, Signals};
use futures::StreamExt;
use rustix::process::{Signal as Number, getpgrp, kill_process_group};

use super::child::{Child, End, Output};
use super::feed::Stream;
use super::notes::Notes;
use super::pump::{self, Pump, Shared, Traffic};
use super::terminal::Raw;
use crate::error::Error;

/// How long output may still come after the command ended, from processes that it left behind. Time in which our own
/// output takes none does not count.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How often that is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a signal may still come to us after it has ended the command, where both get it.
const SAME_MOMENT: Duration = Duration::from_millis(500);
/// The signal that kills. Two may come at once by no one's wish, as from a terminal that is closed and its shell; and
/// many a command takes the second for a request to hurry.
const LAST: u32 = 3;

/// The signals that ask a command to end.
const ENDS: [(Signal, &str, Number); 4] = [
    (Signal::Int, "SIGINT", Number::INT),
    (Signal::Term, "SIGTERM", Number::TERM),
    (Signal::Hup, "SIGHUP", Number::HUP),
    (Signal::Quit, "SIGQUIT", Number::QUIT),
];

/// What can happen while the command runs.
pub(crate) enum Happening {
    Ended,
    Signal(Signal),
    /// A key was typed of which the command's terminal makes this signal.
    Asked(&'static str),
    /// Something was typed after it: the command did not end by it.
    TypedOn,
    /// The key was typed that stops a job.
    Suspend,
    /// Our standard output or error is closed.
    Unread,
}

/// How it ended, and the signal by which it was asked to.
pub(crate) struct Outcome {
    pub(crate) end: End,
    pub(crate) asked: Option<&'static str>,
}

/// Our own signals: those that end a command, tell of a new window size, or of a child's end. One of the first that
/// was ignored when we started stays so: that is how `nohup` works.
pub(crate) fn catch() -> Result<Signals, Error> {
    let ignored = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        });
    let ignored = ignored.unwrap_or(0);
    let caught = ENDS
        .into_iter()
        .map(|(signal, ..)| signal)
        .filter(|signal| ignored >> (*signal as u32 - 1) & 1 == 0)
        // Where the last is ignored, the system keeps no exit status.
        .chain([Signal::Winch, Signal::Child]);
    Signals::new(caught).map_err(|source| Error::System {
        what: "can't catch signals",
        source,
    })
}

/// The next signal that asks to end.
pub(crate) async fn next_end(signals: &mut Signals) -> Option<Signal> {
    loop {
        let signal = signals.next().await?.ok()?;
        if ENDS.iter().any(|(end, ..)| *end == signal) {
            return Some(signal);
        }
    }
}

/// Whether a command that ended so did it for a signal: by it, or as a shell that took it.
fn ended_by(end: End, signal: Signal) -> bool {
    u8::try_from(signal as u32).is_ok_and(|number| end.status() == 128 + number)
}

fn name(signal: Signal) -> Option<&'static str> {
    ENDS.iter()
        .find(|(end, ..)| *end == signal)
        .map(|(_, name, _)| *name)
}

/// A command that runs, and how often it was asked to end.
struct Watch<'a> {
    child: &'a Child,
    signals: &'a mut Signals,
    asked: Option<&'static str>,
    times: u32,
}

/// Until the command has ended and its output was passed on.
pub(crate) async fn watch(
    child: Child,
    outputs: Vec<(Stream, Output)>,
    shared: &Arc<Shared>,
    notes: &Notes,
    signals: &mut Signals,
) -> Result<Outcome, Error> {
    let (tell, happenings) = async_channel::bounded(64);
    // Before the first output is shown: who answers it by a key means the command, not us.
    let mut raw = child.keyboard().and_then(|_| Raw::enter());
    notes.set_raw(raw.is_some());
    let keyboard = child
        .keyboard()
        .and_then(|pty| pump::keyboard(Arc::clone(pty), tell.clone()).ok());
    let traffic = Traffic::default();
    let (done, all_done) = async_channel::bounded::<()>(1);
    for (stream, from) in outputs {
        let pump = Pump {
            stream,
            shared: Arc::clone(shared),
            traffic: traffic.clone(),
            tell: tell.clone(),
            done: done.clone(),
        };
        pump.start(from);
    }
    drop(done);
    let wait = child.waiter();
    std::thread::spawn(move || {
        wait();
        let _ = tell.send_blocking(Happening::Ended);
    });
    let mut watch = Watch {
        child: &child,
        signals,
        asked: None,
        times: 0,
    };
    watch.until_ended(&happenings, &mut raw, notes).await;
    let mut asked = watch.asked;
    let end = child.reap().map_err(|source| Error::System {
        what: "can't learn how the command ended",
        source,
    })?;
    let other_signal = async {
        while let Some(signal) = next_end(signals).await {
            // A terminal or a supervisor tells the command and us, in whatever order.
            if asked.is_some() || !ended_by(end, signal) {
                return;
            }
            asked = name(signal);
        }
    };
    smol::future::or(pass_on(&all_done, &traffic), other_signal).await;
    if asked.is_none() && ENDS.iter().any(|(signal, ..)| ended_by(end, *signal)) {
        let too_late = async {
            async_io::Timer::after(SAME_MOMENT).await;
            None
        };
        let signal = smol::future::or(next_end(signals), too_late).await;
        asked = signal
            .filter(|signal| ended_by(end, *signal))
            .and_then(name);
    }
    drop(keyboard);
    drop(raw);
    notes.set_raw(false);
    Ok(Outcome { end, asked })
}

impl Watch<'_> {
    async fn until_ended(
        &mut self,
        happenings: &Receiver<Happening>,
        raw: &mut Option<Raw>,
        notes: &Notes,
    ) {
        loop {
            let signal = async {
                let signal = self.signals.next().await?.ok()?;
                Some(Happening::Signal(signal))
            };
            let other = async { happenings.recv().await.ok() };
            match smol::future::or(other, signal).await {
                Some(Happening::Signal(Signal::Winch)) => self.child.resize(),
                Some(Happening::Signal(signal)) => self.ask(signal),
                Some(Happening::Asked(name)) => self.asked = Some(name),
                Some(Happening::TypedOn) => self.asked = None,
                Some(Happening::Suspend) => self.suspend(raw, notes),
                Some(Happening::Unread) => self.child.hang_up(),
                Some(Happening::Ended) | None => return,
            }
        }
    }

    /// Hands on a signal. The last time there is no asking.
    fn ask(&mut self, signal: Signal) {
        let Some((_, name, number)) = ENDS.into_iter().find(|(end, ..)| *end == signal) else {
            return;
        };
        self.times += 1;
        self.asked.get_or_insert(name);
        if self.times >= LAST {
            self.child.signal(Number::KILL);
        // What a key of the terminal made reached the command together with us.
        } else if !(self.child.shares_our_group() && matches!(signal, Signal::Int | Signal::Quit)) {
            self.child.signal(number);
        }
    }

    /// Stops the command and us, as a shell expects of its job, until the shell lets us go on.
    ///
    /// The command's terminal can't do it: nobody in there could wake it, so the system does not stop it.
    fn suspend(&self, raw: &mut Option<Raw>, notes: &Notes) {
        // Where a shell runs in there, its job is stopped by that terminal, and that shell goes on.
        if !self.child.is_in_its_foreground() {
            return;
        }
        self.child.signal(Number::STOP);
        drop(raw.take());
        notes.set_raw(false);
        // All of a pipeline. It takes hold before the call returns.
        let _ = kill_process_group(getpgrp(), Number::TSTP);
        *raw = Raw::enter();
        notes.set_raw(raw.is_some());
        self.child.resize();
        self.child.signal(Number::CONT);
    }
}

/// Until the output is at its end, or nothing more is to be expected from what the command left behind.
async fn pass_on(all_done: &Receiver<()>, traffic: &Traffic) {
    let mut quiet = Duration::ZERO;
    while quiet < AFTERMATH {
        let at_end = async {
            let _ = all_done.recv().await;
            true
        };
        let tick = async {
            async_io::Timer::after(TICK).await;
            false
        };
        if smol::future::or(at_end, tick).await {
            return;
        }
        if !traffic.is_held_up() {
            quiet += TICK;
        }
    }
}
