//! What a room keeps, a page at a time: the log as it may be read without a connection.

use crate::bus::EventBus;
use crate::event::Entry;
use crate::ids::{Epoch, Position, RoomId, Seq};
use crate::port::Fetch;
use crate::room_log::RoomLog;
use crate::rows;
use crate::time::Wall;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Which part of a room's log is read.
///
/// ```
/// use fanfare_core::{Hub, History, Limits, Now, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let page = hub.history(Now::default(), UserId::new(7).into(), &History::default());
/// assert!(page.events.is_empty() && page.next.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// From where, and in which direction.
    pub from: Start,
    /// Most events of a page; 0 counts as 1.
    pub limit: usize,
    /// Most bytes of a page's events; a single event may be larger.
    pub bytes: usize,
}

/// Where a page begins.
///
/// ```
/// use fanfare_core::Start;
/// assert_ne!(Start::Oldest, Start::Newest);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The oldest event that is kept, then newer ones.
    Oldest,
    /// The event after this position, then newer ones; [`Start::Oldest`] where that is no longer kept, or of another epoch.
    After(Position),
    /// The newest event, then older ones.
    Newest,
    /// The event before this position, then older ones; [`Start::Newest`] where it is of another epoch.
    Before(Position),
}

impl Default for History {
    /// The 100 oldest events, at most 1 MiB.
    fn default() -> Self {
        Self {
            from: Start::Oldest,
            limit: 100,
            bytes: 1 << 20,
        }
    }
}

/// A part of a room's log.
///
/// ```
/// use fanfare_core::{Draft, Hub, History, Limits, Now, Payload, UserId};
/// let (now, user) = (Now::default(), UserId::new(7));
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// for _ in 0..3 {
///     let draft = Draft::new("note:added".parse()?, Payload::default());
///     hub.at(now).publish_to_user(user, draft)?;
/// }
/// let page = hub.history(now, user.into(), &History { limit: 2, ..History::default() });
/// assert_eq!((page.first.number(), page.seq.number()), (1, 3));
/// assert_eq!((page.events.len(), page.next.map(|seq| seq.number())), (2, Some(2)));
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The number of the oldest event that is kept; `seq + 1` where none is.
    pub first: Seq,
    /// The room's last number.
    pub seq: Seq,
    /// The events with their numbers, in the order that was asked for.
    pub events: Vec<(Seq, Arc<Entry>)>,
    /// The number from which the next page goes on, in the same direction; `None` where there is nothing more.
    pub next: Option<Seq>,
}

/// A page that is to be read: its room as it was when it was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    epoch: Epoch,
    floor: Seq,
    head: Seq,
    is_upwards: bool,
    /// The number before the page's first event in its direction: below it going up, above it going down.
    start: Seq,
    limit: usize,
    bytes: usize,
}

impl Plan {
    pub(crate) fn new(bus: &mut EventBus, now: Wall, room: RoomId, history: &History) -> Self {
        bus.trim(now, room);
        let Position { epoch, seq: head } = bus.position(room);
        let floor = bus.room_log(room).map_or(head, RoomLog::floor);
        let here = |position: &Position| (position.epoch == epoch).then_some(position.seq);
        let end = head.next();
        let (is_upwards, start) = match &history.from {
            Start::Oldest => (true, floor),
            Start::After(position) => (true, here(position).map_or(floor, |seq| seq.max(floor))),
            Start::Newest => (false, end),
            Start::Before(position) => (false, here(position).map_or(end, |seq| seq.min(end))),
        };
        Self {
            epoch,
            floor,
            head,
            is_upwards,
            start,
            limit: history.limit.max(1),
            bytes: history.bytes,
        }
    }

    /// The numbers that come in its direction.
    fn seqs(&self) -> RangeInclusive<Seq> {
        if self.is_upwards {
            self.start.next()..=self.head
        } else {
            self.floor.next()..=self.start.before()
        }
    }

    /// What to read from the store; `None` where memory has all of the page.
    pub(crate) fn fetch(&self, bus: &EventBus, room: RoomId) -> Option<Fetch> {
        let cached = bus.room_log(room).map_or(self.head, RoomLog::cached_floor);
        let seqs = self.seqs();
        let limit = self.limit as u64;
        let lowest = if self.is_upwards {
            seqs.start().number()
        } else {
            let lowest = (seqs.end().number() + 1).saturating_sub(limit);
            lowest.max(seqs.start().number())
        };
        let in_memory = seqs.is_empty() || lowest > cached.number();
        let bounds = (self.limit, self.bytes);
        (!in_memory).then(|| rows::fetch_entries(room, seqs, !self.is_upwards, bounds))
    }

    /// The oldest of the numbers that are still there, as it was found: what is before it went while it was read.
    pub(crate) fn begin(&mut self, oldest: Option<Seq>) {
        let floor = oldest.map_or(self.head, Seq::before);
        if self.is_upwards && self.start < floor {
            (self.floor, self.start) = (floor, floor);
        }
    }

    /// The page, of entries that `entry` finds by their numbers. O(its events).
    pub(crate) fn page(self, entry: impl Fn(Seq) -> Option<Arc<Entry>>) -> Page {
        let mut events = Vec::new();
        let (mut at, mut bytes) = (self.start, 0);
        while events.len() < self.limit {
            let seq = if self.is_upwards {
                at.next()
            } else {
                at.before()
            };
            let in_range = self.floor < seq && seq <= self.head;
            let Some(entry) = in_range.then(|| entry(seq)).flatten() else {
                break;
            };
            bytes += entry.event().data.as_str().len();
            if bytes > self.bytes && !events.is_empty() {
                break;
            }
            events.push((seq, entry));
            at = seq;
        }
        if planted!(HistorySkipsLast) && events.len() > 1 {
            events.pop();
        }
        let more = if self.is_upwards {
            at < self.head
        } else {
            at > self.floor.next()
        };
        Page {
            first: self.floor.next(),
            seq: self.head,
            next: (more && !events.is_empty()).then_some(at),
            events,
            epoch: self.epoch,
        }
    }
}

/// Reads a page from memory.
pub(crate) fn read(bus: &mut EventBus, now: Wall, room: RoomId, history: &History) -> Page {
    let plan = Plan::new(bus, now, room, history);
    let log = bus.room_log(room);
    plan.page(|seq| log.and_then(|log| log.entry(seq)).cloned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Draft;
    use crate::hub::Hub;
    use crate::ids::UserId;
    use crate::limits::Limits;
    use crate::payload::Payload;
    use crate::time::Now;

    #[test]
    fn pages_go_up_and_down_from_any_position_and_say_where_the_next_begins() {
        let (now, user) = (Now::default(), UserId::new(7));
        let limits = Limits {
            user_log_events: 5,
            ..Limits::default()
        };
        let mut hub = Hub::new(limits, [0; 32]);
        for _ in 0..9 {
            let draft = Draft::new("note:added".parse().unwrap(), Payload::default());
            hub.at(now).publish_to_user(user, draft).unwrap();
        }
        // 5 to 9 are kept.
        let epoch = hub.inbox(now, user).epoch;
        let at = |number| Position {
            epoch: epoch.clone(),
            seq: Seq::new(number).unwrap(),
        };
        let elsewhere: Position = "elsewhere:7".parse().unwrap();
        for (from, limit, seqs, next) in [
            (Start::Oldest, 3, &[5, 6, 7][..], Some(7)),
            (Start::Oldest, 5, &[5, 6, 7, 8, 9], None),
            (Start::Oldest, 0, &[5], Some(5)),
            (Start::After(at(7)), 5, &[8, 9], None),
            (Start::After(at(7)), 1, &[8], Some(8)),
            (Start::After(at(2)), 2, &[5, 6], Some(6)),
            (Start::After(at(9)), 2, &[], None),
            (Start::After(at(100)), 2, &[], None),
            (Start::After(elsewhere.clone()), 2, &[5, 6], Some(6)),
            (Start::Newest, 2, &[9, 8], Some(8)),
            (Start::Newest, 9, &[9, 8, 7, 6, 5], None),
            (Start::Before(at(8)), 2, &[7, 6], Some(6)),
            (Start::Before(at(7)), 2, &[6, 5], None),
            (Start::Before(at(5)), 2, &[], None),
            (Start::Before(at(0)), 2, &[], None),
            (Start::Before(at(100)), 1, &[9], Some(9)),
            (Start::Before(elsewhere), 1, &[9], Some(9)),
        ] {
            let history = History {
                from: from.clone(),
                limit,
                bytes: 1_000,
            };
            let page = hub.history(now, user.into(), &history);
            let came: Vec<u64> = page.events.iter().map(|(seq, _)| seq.number()).collect();
            assert_eq!(came, seqs, "{from:?} {limit}");
            assert_eq!(page.next.map(Seq::number), next, "{from:?} {limit}");
            assert_eq!((page.first.number(), page.seq.number()), (5, 9));
        }
        let nothing = hub.history(now, UserId::new(8).into(), &History::default());
        assert_eq!((nothing.first.number(), nothing.seq.number()), (1, 0));
    }

    #[test]
    fn a_page_is_bounded_in_bytes_and_never_empty_for_that() {
        let (now, user) = (Now::default(), UserId::new(7));
        let mut hub = Hub::new(Limits::default(), [0; 32]);
        for bytes in [10, 10, 500, 10] {
            let data = Payload::from_value(&"x".repeat(bytes)).unwrap();
            let draft = Draft::new("note:added".parse().unwrap(), data);
            hub.at(now).publish_to_user(user, draft).unwrap();
        }
        let mut from = Start::Oldest;
        let mut lengths = Vec::new();
        loop {
            let history = History {
                from,
                limit: 100,
                bytes: 30,
            };
            let page = hub.history(now, user.into(), &history);
            lengths.push(page.events.len());
            let Some(seq) = page.next else { break };
            from = Start::After(Position {
                epoch: page.epoch,
                seq,
            });
        }
        assert_eq!(lengths, [2, 1, 1]);
    }
}
