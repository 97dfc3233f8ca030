//! What an outlet knows of one connection: what waits for it, whether it comes live, and whether the other side is there.

use crate::close::CloseCode;
use crate::event::{Entry, Retention};
use crate::frame::Frame;
use crate::heartbeat::{Beat, Heartbeat};
use crate::ids::{Position, RoomId};
use crate::limits::Limits;
use crate::outbox::{Full, Outbox};
use crate::sim_reached;
use crate::time::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most ephemeral events that are kept for the time after reading, and most bytes of them.
const DEFERRED_MAX: usize = 16;
const DEFERRED_BYTES_MAX: usize = 64 << 10;

/// Where a connection's events come from.
#[derive(Debug)]
pub(super) enum Mode {
    /// As they happen.
    Live,
    /// From the log, once the hub knows that it has to be read.
    Behind(Box<Behind>),
    /// From the log.
    Reading(Box<Reading>),
    /// Nowhere: the hub is about to close it.
    Failing,
    /// Nowhere: it gets its last frames, at the latest by this time.
    Leaving {
        code: CloseCode,
        until: Time,
        /// Its last frame, until that is sent.
        goodbye: Option<Frame>,
    },
}

/// What did not come live while the hub did not know.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// The first of each room.
    pub(super) missed: BTreeMap<RoomId, Position>,
    pub(super) deferred: Deferred,
}

#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Whether the hub was asked for more, and has not said that there is some.
    pub(super) asked: bool,
    /// The first of each room that did not come live, until something is read: then the hub knows of them.
    pub(super) missed: BTreeMap<RoomId, Position>,
    pub(super) deferred: Deferred,
}

/// The last ephemeral event of each room and key, for the time after reading: it tells of now.
#[derive(Debug, Default)]
pub(super) struct Deferred(Vec<Arc<Entry>>);

impl Deferred {
    /// Keeps an event, if it has a key: without one it is dropped.
    fn defer(&mut self, entry: &Arc<Entry>) {
        let key = |entry: &Entry| match &entry.event().retention {
            Retention::Ephemeral { key } => key.clone(),
            Retention::Kept => None,
        };
        let Some(new) = key(entry) else {
            sim_reached!("ephemeral_without_key_dropped");
            return;
        };
        let same =
            |old: &Arc<Entry>| key(old).as_ref() == Some(&new) && old.places() == entry.places();
        self.0.retain(|old| !same(old));
        let bytes: usize = self.0.iter().map(|entry| entry.cost()).sum();
        if self.0.len() < DEFERRED_MAX && bytes + entry.cost() <= DEFERRED_BYTES_MAX {
            self.0.push(entry.clone());
        }
    }

    pub(super) fn take(&mut self) -> Vec<Arc<Entry>> {
        std::mem::take(&mut self.0)
    }
}

/// What a deadline of a connection brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A ping is to be sent.
    Ping,
    /// It is to be closed.
    Close(CloseCode),
    /// It did not take its last frames in time.
    Drop,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) outbox: Outbox,
    pub(super) mode: Mode,
    pub(super) heartbeat: Heartbeat,
    /// Messages and pings of which the hub has not said that it looks at them.
    pub(super) unhandled: u8,
    /// Since when something waits without being pulled; `None` where nothing waits, or it rides on a turn.
    pub(super) waiting_since: Option<Time>,
    /// When the outlet looks at it next.
    pub(super) scheduled: Option<Time>,
}

impl Line {
    pub(super) const fn new(now: Time, limits: &Limits) -> Self {
        Self {
            outbox: Outbox::new(limits.outbox_bytes),
            mode: Mode::Live,
            heartbeat: Heartbeat::Heard(now),
            unhandled: 0,
            waiting_since: None,
            scheduled: None,
        }
    }

    /// Whether an event for it may wait in a turn: nothing else waits, and no ping is out, to which its progress would matter.
    pub(super) const fn may_ride(&self) -> bool {
        matches!(self.mode, Mode::Live)
            && matches!(self.heartbeat, Heartbeat::Heard(_))
            && self.waiting_since.is_none()
    }

    /// Whether nothing ends it yet.
    pub(super) const fn is_served(&self) -> bool {
        !matches!(self.mode, Mode::Failing | Mode::Leaving { .. })
    }

    pub(super) const fn is_reading(&self) -> bool {
        matches!(self.mode, Mode::Reading(_))
    }

    /// What was missed, the first of each room, as far as the hub may not know of it.
    pub(super) fn missed(&mut self) -> Option<&mut BTreeMap<RoomId, Position>> {
        match &mut self.mode {
            Mode::Behind(behind) => Some(&mut behind.missed),
            Mode::Reading(reading) => Some(&mut reading.missed),
            Mode::Live | Mode::Failing | Mode::Leaving { .. } => None,
        }
    }

    /// Takes an event that came live. Whether it fell behind by it.
    pub(super) fn take_event(&mut self, entry: &Arc<Entry>, room: RoomId, frame: Frame) -> bool {
        let taken = match &entry.event().retention {
            Retention::Ephemeral { key: Some(key) } => self.outbox.replace_event(room, key, frame),
            Retention::Ephemeral { key: None } | Retention::Kept => self.outbox.push_event(frame),
        };
        // An ephemeral one that does not fit is dropped.
        taken.is_err() && entry.is_kept() && !planted!(OverflowForgotten)
    }

    /// Takes what the server has to say.
    pub(super) fn take_word(&mut self, frame: Frame) -> Result<(), Full> {
        if self.may_be_told() {
            return self.outbox.push_system(frame);
        }
        sim_reached!("reply_after_goodbye");
        Ok(())
    }

    /// Whether anything may still be sent: the goodbye is the last, and what it does not wait for is dropped.
    pub(super) fn may_be_told(&self) -> bool {
        match &self.mode {
            Mode::Leaving { code, goodbye, .. } => {
                *code == CloseCode::DRAINING && goodbye.is_some()
            }
            Mode::Failing => false,
            Mode::Live | Mode::Behind(_) | Mode::Reading(_) => true,
        }
    }

    /// Keeps an ephemeral event for the time after reading. Whether that is what becomes of it.
    pub(super) fn defer(&mut self, entry: &Arc<Entry>) -> bool {
        let deferred = match &mut self.mode {
            Mode::Behind(behind) => &mut behind.deferred,
            Mode::Reading(reading) => &mut reading.deferred,
            Mode::Live | Mode::Failing | Mode::Leaving { .. } => return false,
        };
        sim_reached!("ephemeral_deferred");
        deferred.defer(entry);
        true
    }

    /// When [`Line::tick`] is due.
    pub(super) fn deadline(&self, limits: &Limits) -> Time {
        match &self.mode {
            Mode::Leaving { until, .. } => return *until,
            // The hub's order comes by itself.
            Mode::Failing => return Time::from_millis(u64::MAX),
            Mode::Live | Mode::Behind(_) | Mode::Reading(_) => {}
        }
        let alive = self.heartbeat.deadline(limits);
        let stalled = self.waiting_since.map(|since| since.plus(limits.stall_ms));
        stalled.map_or(alive, |stalled| stalled.min(alive))
    }

    /// What is due at `now`, one thing a call. An early call does nothing.
    pub(super) fn tick(&mut self, now: Time, limits: &Limits) -> Option<Due> {
        match &self.mode {
            Mode::Leaving { until, .. } => return (*until <= now).then_some(Due::Drop),
            Mode::Failing => return None,
            Mode::Live | Mode::Behind(_) | Mode::Reading(_) => {}
        }
        let stalled = self.waiting_since.map(|since| since.plus(limits.stall_ms));
        if stalled.is_some_and(|stalled| stalled <= now) {
            sim_reached!("stalled");
            return Some(Due::Close(CloseCode::TOO_SLOW));
        }
        match self.heartbeat.tick(now, limits) {
            Beat::Fine => None,
            Beat::Ping => Some(Due::Ping),
            Beat::Dead => {
                sim_reached!("no_heartbeat");
                Some(Due::Close(CloseCode::NO_HEARTBEAT))
            }
        }
    }

    /// What the driver pulled counts as a sign of life.
    pub(super) fn progressed(&mut self, now: Time, limits: &Limits) {
        self.waiting_since = Some(now);
        self.heartbeat.progress(now, limits);
    }
}
