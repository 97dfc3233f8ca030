//! What one connection reads from the log: what it missed before it came, or what it was too slow for.
//!
//! Keeps *Resume* and *No silent gap*. Rooms that are read here get no live events: those are in the log, and come in
//! their turn. Several rooms come merged in the order of entries, each entry once. Holds positions only, whatever the
//! length of what is read.

use crate::bus::EventBus;
use crate::event::{Entry, Place, Retention};
use crate::frame::Frame;
use crate::ids::{Epoch, RoomId, Seq};
use crate::protocol;
use crate::room_log::GapReason;
use std::sync::Arc;

/// Ephemeral events with a key that wait for the end of the reading; a further one is dropped.
const DEFERRED_MAX: usize = 16;
/// Bytes of them.
const DEFERRED_BYTES_MAX: usize = 64 << 10;

#[derive(Debug)]
struct Cursor {
    room: RoomId,
    epoch: Epoch,
    after: Seq,
}

#[derive(Debug)]
pub(crate) struct CatchUp {
    cursors: Vec<Cursor>,
    reason: GapReason,
    /// The first entry that is new to who reads, and not missed: `system:welcome` said what was unread before.
    new_from: u64,
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
            deferred: Vec::new(),
        }
    }

    /// Reads `room` too, from the event after `after`.
    pub(crate) fn read(&mut self, room: RoomId, epoch: Epoch, after: Seq) {
        assert!(!self.reads(room), "a room is read by one cursor");
        self.cursors.push(Cursor { room, epoch, after });
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

    /// The next event or gap, or `None` when all is read. O(rooms that are read).
    pub(crate) fn next(&mut self, bus: &EventBus) -> Option<Frame> {
        let mut next: Option<(u64, Arc<Entry>)> = None;
        for cursor in &mut self.cursors {
            let position = bus.position(cursor.room);
            if position.epoch != cursor.epoch {
                let gap = bus.unknown_position(cursor.room);
                (cursor.epoch, cursor.after) = (position.epoch, gap.to);
                return Some(protocol::gap(cursor.room, &gap));
            }
            let Some(log) = bus.room_log(cursor.room) else {
                continue;
            };
            if let Some(gap) = log.missing_after(cursor.after, self.reason) {
                cursor.after = gap.to;
                return Some(protocol::gap(cursor.room, &gap));
            }
            if let Some((_, entry)) = log.next_after(cursor.after)
                && next
                    .as_ref()
                    .is_none_or(|(index, _)| entry.index() < *index)
            {
                next = Some((entry.index(), entry.clone()));
            }
        }
        let (_, entry) = next?;
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
        Some(entry.encode(places, unread))
    }
}

/// What the user has unread, with the last event of the user's room.
fn unread(bus: &EventBus, place: &Place) -> Option<usize> {
    match place.room {
        RoomId::User(user) if bus.position(place.room).seq == place.seq => Some(bus.unread(user)),
        RoomId::User(_) | RoomId::Task(_) => None,
    }
}
