//! A run, from the first connection to the last delivery: one thread, which waits for its sockets only.

use std::io;
use std::time::{Duration, Instant};

use async_signal::{Signal, Signals};
use futures::{FutureExt, StreamExt};

use super::address::Reached;
use super::crowd::{Buffer, Crowd};
use super::ledger::Ledger;
use super::live::Live;
use super::pace::{Next, Pace};
use super::poll::{Poll, Source};
use super::process::{self, Usage};
use super::refused;
use super::report::Ended;
use super::senders::Senders;
use super::target::Target;
use crate::args::Bench;
use crate::error::Error;

/// How often it is looked whether something takes too long, and how often whether all is there.
const TICK: Duration = Duration::from_millis(250);
const END_TICK: Duration = Duration::from_millis(10);
/// How long a publish that is not everywhere counts as under way, and how long the end is waited for while nothing
/// comes, in nanoseconds.
const STALL: u64 = 5_000_000_000;
/// How often the line on the terminal is new.
const SHOWN: u64 = 500_000_000;

pub(crate) struct Run<'a> {
    args: &'a Bench,
    target: &'a Target,
    pub(crate) crowd: Crowd,
    pub(crate) senders: Senders,
    pub(crate) ledger: Ledger,
    poll: Poll,
    buffer: Buffer,
    signals: Signals,
    interrupts: u32,
    began: Instant,
    live: Live,
    /// When the line was shown, and the deliveries then.
    shown: (u64, u64),
    pub(crate) connect_seconds: f64,
    pub(crate) seconds: f64,
    pub(crate) unsent: u64,
    pub(crate) stalled: u64,
    pub(crate) ended: Ended,
    /// Whether the server, or a part of it, is on this machine.
    pub(crate) is_local: bool,
    /// The server's processes, and what they used before the connections, before the publishes and at the end.
    pub(crate) pids: Vec<u32>,
    pub(crate) usage: [Option<Usage>; 3],
    /// The same of this process, before the publishes and at the end.
    pub(crate) own: [Option<Usage>; 2],
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        args: &'a Bench,
        target: &'a Target,
        in_flight: u16,
        (sockets, publishes): (Reached, Reached),
    ) -> Result<Self, Error> {
        let (connections, rooms) = (args.connections, args.rooms);
        let poll = Poll::new().map_err(system)?;
        let signals = Signals::new([Signal::Int, Signal::Term, Signal::Hup]).map_err(system)?;
        poll.add(&signals, Source::Signal, false).map_err(system)?;
        let data = args.size as usize - target.quotes();
        // A process of this machine that listens at another machine's port is not who is measured.
        let local = [sockets, publishes].into_iter().filter(|it| it.local);
        let mut pids = args.pid.clone();
        if pids.is_empty() {
            pids.extend(local.clone().flat_map(|it| process::listeners(it.address)));
            pids.sort_unstable();
            pids.dedup();
        }
        Ok(Self {
            crowd: Crowd::new(target, sockets.address, args),
            senders: Senders::new(publishes.address, in_flight, data, args.rate.is_none()),
            ledger: Ledger::new(target.rooms, connections, rooms, in_flight),
            args,
            target,
            poll,
            buffer: Buffer::new(),
            signals,
            interrupts: 0,
            began: Instant::now(),
            live: Live::new(args.quiet),
            shown: (0, 0),
            connect_seconds: 0.0,
            seconds: 0.0,
            unsent: 0,
            stalled: 0,
            ended: Ended::Done,
            is_local: local.count() > 0,
            pids,
            usage: [None; 3],
            own: [None; 2],
        })
    }

    /// Opens all connections. The first alone: what is refused to it is refused to all.
    pub(crate) fn connect(&mut self) -> Result<(), Error> {
        self.usage[0] = process::usage(&self.pids);
        let began = self.now();
        loop {
            let now = self.now();
            let failed = self.crowd.failures.total();
            let at_once = match self.crowd.open {
                0 if failed > 0 => {
                    let words = self.crowd.failures.kinds().next();
                    let words = words.map(|(words, _)| words).unwrap_or_default();
                    return Err(refused(self.target, self.crowd.refusal.as_ref(), words));
                }
                0 => 1,
                _ => self.args.connecting,
            };
            while self.crowd.opening() < at_once && self.crowd.begun() < self.args.connections {
                self.crowd.add(&self.poll, now);
            }
            if self.crowd.opening() == 0 || self.interrupts > 0 {
                break;
            }
            self.turn(TICK)?;
            self.crowd.too_long(self.now());
            let (open, all) = (self.crowd.open, self.args.connections);
            self.show(|_| format!("connecting: {open} of {all}"));
        }
        if self.interrupts > 0 {
            self.ended = Ended::Interrupted;
        }
        self.connect_seconds = seconds(self.now() - began);
        self.usage[1] = process::usage(&self.pids);
        Ok(())
    }

    /// Publishes, and waits until all is there.
    pub(crate) fn publish(&mut self, mut pace: Pace) -> Result<(), Error> {
        let mut room = 0;
        let mut progress = ((0, 0), 0);
        self.own[0] = process::usage(&[std::process::id()]);
        let began = self.now();
        pace.begin(began);
        let mut checked = began;
        loop {
            let now = self.now();
            let mut over = false;
            loop {
                match pace.next(now, self.interrupts > 0) {
                    Next::Due(due) => {
                        let Some(sender) = self.senders.next_free(now) else {
                            break;
                        };
                        pace.sent();
                        let members = if pace.waits_for_all() {
                            self.crowd.in_room(room)
                        } else {
                            0
                        };
                        let with = (&self.poll, self.target);
                        let what = (room, due, members);
                        self.senders
                            .publish(sender, what, with, &mut self.ledger, now);
                        room = (room + 1) % self.crowd.rooms();
                    }
                    Next::At(time) => {
                        self.poll
                            .alarm(Duration::from_nanos(time - now))
                            .map_err(system)?;
                        break;
                    }
                    Next::Over => {
                        over = true;
                        break;
                    }
                }
            }
            self.turn(if over { END_TICK } else { TICK })?;
            let now = self.now();
            while let Some(sender) = self.ledger.next_done() {
                self.senders.done(sender, now);
            }
            if self.senders.answered == 0
                && let Some(refusal) = &self.senders.refusal
            {
                return Err(refused(self.target, Some(refusal), ""));
            }
            if now - checked > u64::try_from(TICK.as_nanos()).unwrap_or(u64::MAX) {
                checked = now;
                self.stalled += self.senders.too_long(&mut self.ledger, STALL, now);
                self.show(|run| run.line(now - began));
            }
            if self.crowd.all_open().next().is_none() {
                self.ended = Ended::ServerGone;
                break;
            }
            let what = (self.ledger.counts.deliveries, self.senders.answered);
            if (what, over) != (progress.0, true) {
                progress = (what, now);
            }
            let still = now - progress.1 > STALL;
            if over && (self.interrupts > 1 || still || self.is_done()) {
                break;
            }
        }
        self.finish(began, &pace);
        Ok(())
    }

    fn is_done(&self) -> bool {
        let has_all = |number| self.ledger.has_all(number, self.crowd.room(number));
        self.senders.waiting() == 0 && self.crowd.all_open().all(has_all)
    }

    fn finish(&mut self, began: u64, pace: &Pace) {
        let now = self.now();
        self.usage[2] = process::usage(&self.pids);
        self.own[1] = process::usage(&[std::process::id()]);
        let last = if self.ledger.last > began {
            self.ledger.last
        } else {
            now
        };
        self.seconds = seconds(last - began);
        self.unsent = pace.unsent(now);
        if self.interrupts > 0 {
            self.ended = Ended::Interrupted;
        }
        // Who asks twice does not wait for what is under way: it is not lost.
        if self.interrupts < 2 {
            for number in self.crowd.all_open() {
                self.ledger.end(number, self.crowd.room(number));
            }
        }
    }

    /// Waits for sockets and sees to them.
    fn turn(&mut self, at_most: Duration) -> Result<(), Error> {
        for at in 0..self.poll.wait(at_most).map_err(system)? {
            let Some(ready) = self.poll.ready(at) else {
                break;
            };
            // For each read anew: what was read later in a turn also came later.
            let now = self.now();
            match ready.source {
                Source::Member(number) => {
                    let with = (&self.poll, self.target, &mut self.buffer);
                    self.crowd
                        .ready(ready, number, with, &mut self.ledger, now)?;
                }
                Source::Sender(number) => {
                    let with = (&self.poll, &mut self.buffer);
                    self.senders
                        .ready(ready, number, with, &mut self.ledger, now);
                }
                Source::Signal => {
                    while let Some(Some(_)) = self.signals.next().now_or_never() {
                        self.interrupts += 1;
                    }
                }
                // It is set anew, or not at all.
                Source::Timer => self.poll.alarm(Duration::ZERO).map_err(system)?,
            }
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn show(&mut self, line: impl FnOnce(&Self) -> String) {
        let now = self.now();
        if now - self.shown.0 >= SHOWN {
            let text = line(self);
            self.live.show(|| text);
            self.shown = (now, self.ledger.counts.deliveries);
        }
    }

    fn line(&self, passed: u64) -> String {
        let counts = &self.ledger.counts;
        let since = seconds(self.now() - self.shown.0).max(0.001);
        let rate = (counts.deliveries - self.shown.1) as f64 / since;
        format!(
            "{:.0} s: {} publishes, {rate:.0} deliveries a second, p99 {:.2} ms, {} lost, {} errors",
            seconds(passed),
            self.senders.answered,
            self.ledger.latency.permille(990) as f64 / 1e6,
            counts.lost,
            self.senders.failures.total(),
        )
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

pub(crate) fn system(source: io::Error) -> Error {
    Error::System {
        what: "can't measure",
        source,
    }
}
