//! Carries a command through to its end: its output, the keys and signals that it gets, how it ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use futures::StreamExt;
use rustix::process::{Signal as Number, getpgrp, kill_process_group};

use super::child::{Child, End, Output};
use super::feed::Stream;
use super::notes::Notes;
use super::pump::{self, Shared, Traffic};
use super::terminal::{self, Raw};
use crate::error::Error;

/// How long output may still come after the command ended, from processes that it left behind. Time in which our own
/// output takes none does not count.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How often that is looked at.
const TICK: Duration = Duration::from_millis(50);
/// How long a signal of the terminal may come to us after it has ended the command. Both get it at once.
const SAME_MOMENT: Duration = Duration::from_millis(500);
/// The signal that is not asked for any more: as many as make a person sure.
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

pub(crate) struct Watch<'a> {
    pub(crate) child: Child,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) notes: &'a Notes,
    pub(crate) signals: &'a mut Signals,
    pub(crate) asked: Option<&'static str>,
    pub(crate) times: u32,
}

impl Watch<'_> {
    /// Until the command has ended and its output was passed on.
    pub(crate) async fn run(mut self, outputs: Vec<(Stream, Output)>) -> Result<Outcome, Error> {
        let (tell, happenings) = async_channel::bounded(64);
        // Before the first output is shown: who answers it by a key means the command, not us.
        let mut raw = self.child.keyboard().and_then(|_| Raw::enter());
        self.notes.set_raw(raw.is_some());
        let keyboard = self
            .child
            .keyboard()
            .and_then(|pty| pump::keyboard(Arc::clone(pty), tell.clone()).ok());
        let traffic = Traffic::default();
        let (done, all_done) = async_channel::bounded::<()>(1);
        for (stream, output) in outputs {
            let shared = Arc::clone(self.shared);
            let way = (traffic.clone(), tell.clone(), done.clone());
            pump::output(output, stream, shared, way);
        }
        drop(done);
        let wait = self.child.waiter();
        std::thread::spawn(move || {
            wait();
            let _ = tell.send_blocking(Happening::Ended);
        });
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
                Some(Happening::Suspend) => self.suspend(&mut raw),
                // What a terminal that is gone says to its programs. One that has a pipe notices by itself.
                Some(Happening::Unread) => self.child.hang_up(),
                Some(Happening::Ended) | None => break,
            }
        }
        let end = self.child.reap().map_err(|source| Error::System {
            what: "can't learn how the command ended",
            source,
        })?;
        let shares_our_group = self.child.shares_our_group();
        let told = self.listen_on(end, shares_our_group);
        let passed_on = pass_on(&all_done, &traffic);
        let asked = smol::future::zip(told, passed_on).await.0;
        drop(keyboard);
        drop(raw);
        self.notes.set_raw(false);
        Ok(Outcome { end, asked })
    }
}
