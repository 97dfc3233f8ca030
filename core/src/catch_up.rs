//! What one connection reads from the log: what it missed before it came, or what it was too slow for.
//!
//! Keeps *Resume* and *No silent gap*. Rooms that are read here get no live events: those are in the log, and come in
//! their turn. Several rooms come merged in the order of entries, each entry once. Holds positions only, whatever the
//! length of what is read; with a store, also a page for each room whose entries are not in memory.

use crate::bus::EventBus;
use crate::era::Era;
use crate::event::{Entry, Place, Retention};
use crate::frame::Frame;
use crate::ids::{Epoch, RoomId, Seq};
use crate::port::{Fetch, Fetched};
use crate::protocol;
use crate::room_log::GapReason;
use crate::rows;
use std::collections::VecDeque;
use std::sync::Arc;

/// Ephemeral events with a key that wait for the end of the reading; a further one is dropped.
const DEFERRED_MAX: usize = 16;
/// Bytes of them.
const DEFERRED_BYTES_MAX: usize = 64 << 10;

/// Entries and bytes that are read from the store at once for one room.
const PAGE_ROWS: usize = 64;
const PAGE_BYTES: usize = 64 << 10;

#[derive(Debug)]
struct Cursor {
    room: RoomId,
    epoch: Epoch,
    after: Seq,
    /// What was read from the store and not sent yet, in order.
    page: VecDeque<(Seq, Arc<Entry>)>,
    /// The store has nothing up to here.
    missing: Seq,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// These pages have to be read from the store first.
    Pages(Vec<PageOf>),
    /// Pages are being read.
    Wait,
    Done,
}

/// A page of a room: what comes after `after`, up to `to`.
#[derive(Debug, Clone)]
pub(crate) struct PageOf {
    room: RoomId,
    epoch: Epoch,
    after: Seq,
    to: Seq,
}

impl PageOf {
    pub(crate) fn fetch(&self) -> Fetch {
        let bounds = (PAGE_ROWS, PAGE_BYTES);
        rows::fetch_entries(self.room, self.after.next()..=self.to, false, bounds)
    }
}

#[derive(Debug)]
pub(crate) struct CatchUp {
    cursors: Vec<Cursor>,
    reason: GapReason,
    /// The first entry that is new to who reads, and not missed: `system:welcome` said what was unread before.
    new_from: u64,
    /// Whether pages are being read from the store.
    waits: bool,
    /// The last ephemeral event of each room and key, for the time after: it tells of now.
    deferred: Vec<Arc<Entry>>,
}

impl CatchUp {
    /// `reason` is said of what is trimmed before it was read; entries from `new_from` on are new, and not missed.
    pub(crate) const fn new(reason: GapReason, new_from: u64) -> Self {
        Self {
            cursors: Vec::new(),
            reason,
            new_from,
            waits: false,
            deferred: Vec::new(),
        }
    }

    /// Reads `room` too, from the event after `after`.
    pub(crate) fn read(&mut self, room: RoomId, epoch: Epoch, after: Seq) {
        assert!(!self.reads(room), "a room is read by one cursor");
        self.cursors.push(Cursor {
            room,
            epoch,
            after,
            page: VecDeque::new(),
            missing: Seq::ZERO,
        });
    }

    pub(crate) fn reads(&self, room: RoomId) -> bool {
        self.cursors.iter().any(|cursor| cursor.room == room)
    }

    /// How far `room` was read, where it is.
    pub(crate) fn position(&self, room: RoomId) -> Option<Seq> {
        let cursor = self.cursors.iter().find(|cursor| cursor.room == room)?;
        Some(cursor.after)
    }

    /// Stops reading `room`; the last event of it that was read.
    pub(crate) fn stop(&mut self, room: RoomId) -> Option<Seq> {
        let at = self.cursors.iter().position(|cursor| cursor.room == room)?;
        Some(self.cursors.swap_remove(at).after)
    }

    /// Keeps an ephemeral event for the time after, if it has a key: without one it is dropped.
    pub(crate) fn defer(&mut self, entry: &Arc<Entry>) {
        let key = |entry: &Entry| match &entry.event().retention {
            Retention::Ephemeral { key } => key.clone(),
            Retention::Kept => None,
        };
        let Some(new) = key(entry) else {
            return;
        };
        let same =
            |old: &Arc<Entry>| key(old).as_ref() == Some(&new) && old.places() == entry.places();
        self.deferred.retain(|old| !same(old));
        let bytes: usize = self.deferred.iter().map(|entry| entry.cost()).sum();
        if self.deferred.len() < DEFERRED_MAX && bytes + entry.cost() <= DEFERRED_BYTES_MAX {
            self.deferred.push(entry.clone());
        }
    }

    pub(crate) fn into_deferred(self) -> Vec<Arc<Entry>> {
        self.deferred
    }

    /// Takes what the store has of the pages that were to be read; nothing, where it could not read.
    pub(crate) fn fill(&mut self, pages: &[PageOf], fetched: &[Fetched], era: &Era) {
        self.waits = false;
        for (asked, fetched) in pages.iter().zip(fetched) {
            let cursor = self.cursors.iter_mut().find(|cursor| {
                let (room, epoch, after) = (cursor.room, &cursor.epoch, cursor.after);
                (room, epoch, after) == (asked.room, &asked.epoch, asked.after)
            });
            let Some(cursor) = cursor else { continue };
            let rows = fetched.rows.iter();
            let mut next = asked.after.next();
            cursor.page.clear();
            for (seq, entry) in rows.map_while(|(key, row)| rows::read_entry(key, row, era)) {
                let of_epoch = |place: &Place| {
                    (place.room, &place.epoch, place.seq) == (asked.room, &asked.epoch, seq)
                };
                let first = cursor.page.is_empty();
                if !entry.places().iter().any(of_epoch) || (seq != next && !first) {
                    break;
                }
                cursor.page.push_back((seq, entry));
                next = seq.next();
            }
            // What was removed while it was read is said to be missing.
            let first = cursor.page.front().map(|(seq, _)| seq.before());
            cursor.missing = first.unwrap_or(asked.to);
        }
    }

    /// The next event or gap. O(rooms that are read).
    pub(crate) fn next(&mut self, bus: &EventBus) -> Next {
        let mut next: Option<(u64, Arc<Entry>)> = None;
        let mut wanted = Vec::new();
        for cursor in &mut self.cursors {
            let position = bus.position(cursor.room);
            if position.epoch != cursor.epoch {
                let gap = bus.unknown_position(cursor.room);
                (cursor.epoch, cursor.after) = (position.epoch, gap.to);
                return Next::Frame(protocol::gap(cursor.room, &gap));
            }
            let Some(log) = bus.room_log(cursor.room) else {
                continue;
            };
            if let Some(gap) = log.missing_after(cursor.after, cursor.missing, self.reason) {
                cursor.after = gap.to;
                return Next::Frame(protocol::gap(cursor.room, &gap));
            }
            while cursor
                .page
                .pop_front_if(|(seq, _)| *seq <= cursor.after)
                .is_some()
            {}
            let entry = match cursor.page.front() {
                Some((_, entry)) => Some(entry),
                None if cursor.after < log.cached_floor() => {
                    wanted.push(PageOf {
                        room: cursor.room,
                        epoch: cursor.epoch.clone(),
                        after: cursor.after,
                        to: log.cached_floor(),
                    });
                    None
                }
                None => log.next_after(cursor.after).map(|(_, entry)| entry),
            };
            if let Some(entry) = entry
                && next
                    .as_ref()
                    .is_none_or(|(index, _)| entry.index() < *index)
            {
                next = Some((entry.index(), entry.clone()));
            }
        }
        if !wanted.is_empty() {
            return match std::mem::replace(&mut self.waits, true) {
                true => Next::Wait,
                false => Next::Pages(wanted),
            };
        }
        let Some((_, entry)) = next else {
            return Next::Done;
        };
        Next::Frame(self.take(bus, &entry))
    }

    /// Encodes an entry for all rooms that are read and have it next, and goes on behind it.
    fn take(&mut self, bus: &EventBus, entry: &Entry) -> Frame {
        let mut places = Vec::new();
        for cursor in &mut self.cursors {
            let place = entry
                .places()
                .iter()
                .find(|place| place.room == cursor.room);
            // A room that began to be read after this entry has it behind it already.
            if let Some(place) =
                place.filter(|place| place.epoch == cursor.epoch && place.seq > cursor.after)
            {
                assert_eq!(place.seq, cursor.after.next(), "a replay has no hole");
                cursor.after = place.seq;
                places.push(place);
            }
        }
        places.sort_unstable_by_key(|place| place.room);
        let is_new = entry.index() >= self.new_from;
        let unread = places
            .iter()
            .filter(|_| is_new)
            .find_map(|place| unread(bus, place));
        let places = places.iter().map(|place| (&place.room, place.seq));
        entry.encode(places, unread)
    }
}

/// What the user has unread, with the last event of the user's room.
fn unread(bus: &EventBus, place: &Place) -> Option<usize> {
    match place.room {
        RoomId::User(user) if bus.position(place.room).seq == place.seq => Some(bus.unread(user)),
        RoomId::User(_) | RoomId::Task(_) => None,
    }
}
