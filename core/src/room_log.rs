//! One room's part of the log: its kept entries, numbered without a hole.
//!
//! Keeps *Order* and *No silent gap*: whoever asks for what came after a position gets all of it, or is told what is missing.

use crate::event::Entry;
use crate::ids::{Epoch, Position, Seq};
use crate::time::Wall;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// Why a client doesn't get all that it missed: `reason` of `system:gap`.
///
/// ```
/// use fanfare_core::GapReason;
/// assert_eq!(serde_json::to_string(&GapReason::Trimmed)?, r#""trimmed""#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum GapReason {
    /// The log no longer has it.
    Trimmed,
    /// The position is of another numbering, or of the future.
    Epoch,
    /// The receiver was too slow.
    Slow,
}

/// Events of a room that a receiver will not get: `from` to `to`, both included; none where `to` is before `from`.
///
/// ```
/// use fanfare_core::Gap;
/// fn is_about_the_past(gap: &Gap) -> bool {
///     gap.to >= gap.from
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The room's epoch now, which `from` and `to` belong to.
    pub epoch: Epoch,
    /// The first missing event.
    pub from: Seq,
    /// The last missing event.
    pub to: Seq,
    /// Why.
    pub reason: GapReason,
}

/// What a room has for somebody who got as far as a position.
///
/// ```
/// use fanfare_core::{Resume, Seq};
/// fn recovered(resume: &Resume) -> bool {
///     matches!(resume, Resume::Complete { .. })
/// }
/// assert!(recovered(&Resume::Complete { after: Seq::ZERO }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// Everything after `after` is there.
    Complete {
        /// The position's seq.
        after: Seq,
    },
    /// Not everything; what is there comes after `after`.
    Gap {
        /// What is missing.
        gap: Gap,
        /// Where reading goes on.
        after: Seq,
    },
}

/// How many events a room keeps, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) events_max: usize,
    pub(crate) age_ms_max: u64,
}

#[derive(Debug)]
pub(crate) struct RoomLog {
    epoch: Epoch,
    head: Seq,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    bounds: Bounds,
}

impl RoomLog {
    pub(crate) const fn new(epoch: Epoch, bounds: Bounds) -> Self {
        Self {
            epoch,
            head: Seq::ZERO,
            entries: VecDeque::new(),
            bytes: 0,
            bounds,
        }
    }

    pub(crate) fn position(&self) -> Position {
        Position {
            epoch: self.epoch.clone(),
            seq: self.head,
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The seq before the oldest kept entry's.
    pub(crate) fn floor(&self) -> Seq {
        let kept = self.entries.len() as u64;
        let floor = Seq::new(self.head.number().saturating_sub(kept));
        floor.unwrap_or(Seq::ZERO)
    }

    /// Takes the entry that has the seq after the head.
    pub(crate) fn append(&mut self, entry: Arc<Entry>, cost: usize) {
        self.head = self.head.next();
        self.bytes += cost;
        self.entries.push_back(entry);
        self.trim(
            self.entries
                .back()
                .map_or_else(Wall::default, |entry| entry.event().at),
        );
    }

    /// Drops what is too old or too much. Amortised O(1) an append.
    pub(crate) fn trim(&mut self, now: Wall) {
        while let Some(oldest) = self.entries.front() {
            let over = self.entries.len() > self.bounds.events_max
                || now.since(oldest.event().at) >= self.bounds.age_ms_max;
            if !over {
                break;
            }
            self.drop_oldest();
        }
        self.check();
    }

    pub(crate) fn drop_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= share(&oldest);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first kept entry after `after`, with its seq.
    pub(crate) fn next_after(&self, after: Seq) -> Option<(Seq, &Arc<Entry>)> {
        let floor = self.floor();
        let skip = usize::try_from(after.number().saturating_sub(floor.number())).ok()?;
        let entry = self.entries.get(skip)?;
        Some((after.max(floor).next(), entry))
    }

    /// The entry with this seq, if it is kept. O(1).
    pub(crate) fn entry(&self, seq: Seq) -> Option<&Arc<Entry>> {
        let (found, entry) = self.next_after(seq.before())?;
        (found == seq).then_some(entry)
    }

    /// The seq of the last entry whose place in the order of all is before `index`.
    pub(crate) fn seq_before(&self, index: u64) -> Seq {
        let before = self.entries.partition_point(|entry| entry.index() < index) as u64;
        Seq::new(self.floor().number() + before).unwrap_or(self.head)
    }

    /// Whether what came after `after` is still there, and if not, what is missing.
    pub(crate) fn missing_after(&self, after: Seq, reason: GapReason) -> Option<Gap> {
        (after < self.floor()).then(|| Gap {
            epoch: self.epoch.clone(),
            from: after.next(),
            to: self.floor(),
            reason,
        })
    }

    fn check(&self) {
        assert!(self.entries.len() <= self.bounds.events_max);
        assert!(self.entries.len() as u64 <= self.head.number());
        debug_assert_eq!(
            self.bytes,
            self.entries.iter().map(|entry| share(entry)).sum::<usize>()
        );
    }
}

/// The part of an entry's cost that each of its rooms bears.
pub(crate) fn share(entry: &Entry) -> usize {
    entry.cost().div_ceil(entry.places().len().max(1))
}
