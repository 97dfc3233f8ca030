//! One room's part of the log: its kept entries, numbered without a hole.
//!
//! Keeps *Order* and *No silent gap*: whoever asks for what came after a position gets all of it, or is told what is missing.

use crate::event::Entry;
use crate::ids::{Epoch, Position, Seq};
use crate::rows::RoomRow;
use crate::time::Wall;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// Most events that go from the store together: what a room has there is its bound and so many more.
const TRIM_LOT_MAX: u64 = 64;

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

/// What is kept is numbered from after `floor` to `head`. Its newest part is in memory; all of it, where there is no store.
#[derive(Debug)]
pub(crate) struct RoomLog {
    epoch: Epoch,
    head: Seq,
    floor: Seq,
    /// Up to and with the head.
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    bounds: Bounds,
    /// The oldest kept event is not older.
    oldest: Wall,
    /// When the last event was taken.
    last: Wall,
}

impl RoomLog {
    pub(crate) const fn new(epoch: Epoch, bounds: Bounds) -> Self {
        Self {
            epoch,
            head: Seq::ZERO,
            floor: Seq::ZERO,
            entries: VecDeque::new(),
            bytes: 0,
            bounds,
            oldest: Wall::from_unix_millis(0),
            last: Wall::from_unix_millis(0),
        }
    }

    /// The log of which a store has this row.
    pub(crate) fn restored(row: RoomRow, bounds: Bounds) -> Self {
        Self {
            head: row.head,
            floor: row.floor,
            oldest: row.oldest,
            last: row.at,
            ..Self::new(row.epoch, bounds)
        }
    }

    /// What a store has to know of this log as it is.
    pub(crate) fn row(&self) -> RoomRow {
        RoomRow {
            epoch: self.epoch.clone(),
            head: self.head,
            floor: self.floor,
            at: self.last,
            oldest: self.oldest,
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
    pub(crate) const fn floor(&self) -> Seq {
        self.floor
    }

    /// The seq before that of the oldest entry in memory.
    pub(crate) fn cached_floor(&self) -> Seq {
        let cached = self.entries.len() as u64;
        let floor = Seq::new(self.head.number().saturating_sub(cached));
        floor.unwrap_or(Seq::ZERO)
    }

    /// The floor that the log has when its head is `head`, as far as the number of events decides.
    pub(crate) fn floor_at(&self, head: Seq) -> Seq {
        let events_max = self.bounds.events_max as u64 - u64::from(planted!(TrimTakesOneMore));
        let floor = Seq::new(head.number().saturating_sub(events_max));
        floor.map_or(self.floor, |floor| floor.max(self.floor))
    }

    /// How many events that a full log no longer keeps go from the store together.
    pub(crate) fn trim_lot(&self) -> u64 {
        (self.bounds.events_max as u64 / 8).clamp(1, TRIM_LOT_MAX)
    }

    /// Takes the entry that has the seq after the head.
    pub(crate) fn append(&mut self, entry: Arc<Entry>, cost: usize) {
        let at = entry.event().at;
        if self.floor == self.head {
            self.oldest = at;
        }
        self.head = self.head.next();
        self.last = at;
        self.bytes += cost;
        self.entries.push_back(entry);
        self.trim(at);
    }

    /// Drops what is too old or too much, as far as memory can tell. Amortised O(1) an append.
    pub(crate) fn trim(&mut self, now: Wall) {
        self.raise_floor(self.floor_at(self.head), self.oldest);
        while self.cached_floor() == self.floor
            && let Some(oldest) = self.entries.front()
        {
            self.oldest = oldest.event().at;
            if now.since(self.oldest) < self.bounds.age_ms_max {
                break;
            }
            self.drop_oldest();
        }
        self.check();
    }

    /// Whether some of what is kept may be too old, and only the store can tell.
    pub(crate) fn is_stale(&self, now: Wall) -> bool {
        self.floor < self.cached_floor() && self.is_old(now, self.oldest)
    }

    /// Whether an event of this time is too old to be kept.
    pub(crate) const fn is_old(&self, now: Wall, at: Wall) -> bool {
        now.since(at) >= self.bounds.age_ms_max
    }

    /// Nothing up to `floor` is kept any more, and nothing older than `oldest`.
    pub(crate) fn raise_floor(&mut self, floor: Seq, oldest: Wall) {
        self.floor = self.floor.max(floor.min(self.head));
        self.oldest = self.oldest.max(oldest);
        while self.cached_floor() < self.floor {
            self.uncache_oldest();
        }
    }

    pub(crate) fn drop_oldest(&mut self) {
        self.uncache_oldest();
        self.floor = self.floor.max(self.cached_floor());
    }

    fn uncache_oldest(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= share(&oldest);
        }
    }

    /// Puts all entries out of memory: a store has them.
    pub(crate) fn uncache(&mut self) {
        self.entries = VecDeque::new();
        self.bytes = 0;
    }

    /// Takes entries that follow each other back into memory, if they end where it begins. The store has them.
    pub(crate) fn cache(&mut self, entries: &[(Seq, Arc<Entry>)]) {
        let last = entries.last().map(|(seq, _)| *seq);
        if last != Some(self.cached_floor()) {
            return;
        }
        let kept = entries
            .iter()
            .rev()
            .take_while(|(seq, _)| *seq > self.floor);
        for (_, entry) in kept {
            self.bytes += share(entry);
            self.entries.push_front(entry.clone());
        }
        self.check();
    }

    /// Entries in memory.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The first entry in memory after `after`, with its seq.
    pub(crate) fn next_after(&self, after: Seq) -> Option<(Seq, &Arc<Entry>)> {
        let floor = self.cached_floor();
        let skip = usize::try_from(after.number().saturating_sub(floor.number())).ok()?;
        let entry = self.entries.get(skip)?;
        Some((after.max(floor).next(), entry))
    }

    /// The entry with this seq, if it is in memory. O(1).
    pub(crate) fn entry(&self, seq: Seq) -> Option<&Arc<Entry>> {
        let (found, entry) = self.next_after(seq.before())?;
        (found == seq).then_some(entry)
    }

    /// Whether what came after `after` is still there, and if not, what is missing; at least up to `lost`.
    pub(crate) fn missing_after(&self, after: Seq, lost: Seq, reason: GapReason) -> Option<Gap> {
        let to = self.floor.max(lost);
        (after < to).then(|| Gap {
            epoch: self.epoch.clone(),
            from: after.next(),
            to,
            reason,
        })
    }

    fn check(&self) {
        assert!(self.floor <= self.cached_floor() && self.cached_floor() <= self.head);
        assert!(self.entries.len() <= self.bounds.events_max);
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
