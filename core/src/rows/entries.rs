//! The entries of rooms.

use super::{put, read, room_key, value, wall};
use crate::era::{Bare, Era};
use crate::event::{Entry, Event, Place, Retention};
use crate::ids::{EventId, EventType, RoomId, Seq, UserId};
use crate::payload::Payload;
use crate::port::{Change, Fetch, Table};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::ops::RangeInclusive;
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct EntryValue<'a> {
    index: u64,
    at: u64,
    r#type: EventType,
    id: EventId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    notifies: bool,
    rooms: Vec<(RoomId, Bare, Seq)>,
    #[serde(borrow)]
    data: &'a RawValue,
}

pub(super) fn entry_key(room: RoomId, seq: Seq) -> Vec<u8> {
    let mut key = room_key(room);
    key.extend(seq.number().to_be_bytes());
    key
}

/// The rows of an entry, one for each of its rooms but `without`; they share their value.
pub(crate) fn put_entry(entry: &Entry, without: Option<RoomId>) -> Vec<Change> {
    let event = entry.event();
    let stored = EntryValue {
        index: entry.index(),
        at: event.at.as_unix_millis(),
        r#type: event.kind.clone(),
        id: event.id.clone(),
        from: event.from.map(UserId::number),
        notifies: event.notifies,
        rooms: entry
            .places()
            .iter()
            .map(|place| (place.room, Bare::of(&place.epoch), place.seq))
            .collect(),
        data: event.data.raw(),
    };
    let value = value(&stored);
    let places = entry.places().iter();
    let places = places.filter(|place| Some(place.room) != without);
    places
        .map(|place| {
            put(
                Table::Entries,
                entry_key(place.room, place.seq),
                value.clone(),
            )
        })
        .collect()
}

/// An entry and its seq in the room under whose key it is.
pub(crate) fn read_entry(key: &[u8], row: &[u8], era: &Era) -> Option<(Seq, Arc<Entry>)> {
    let seq = key.last_chunk::<8>()?;
    let seq = Seq::new(u64::from_be_bytes(*seq)).ok()?;
    let stored: EntryValue<'_> = read(row)?;
    let event = Event {
        kind: stored.r#type,
        id: stored.id,
        at: wall(stored.at),
        from: stored.from.map(UserId::new),
        data: Payload::of_raw(stored.data),
        retention: Retention::Kept,
        notifies: stored.notifies,
    };
    let places = stored.rooms.into_iter();
    let places = places.map(|(room, epoch, seq)| {
        let epoch = epoch.within(era)?;
        Some(Place { room, epoch, seq })
    });
    let places: Option<Box<[_]>> = places.collect();
    let entry = Entry::new(stored.index, event, places?);
    Some((seq, Arc::new(entry)))
}

/// Entries of a room.
pub(crate) fn fetch_entries(
    room: RoomId,
    seqs: RangeInclusive<Seq>,
    newest_first: bool,
    (rows, bytes): (usize, usize),
) -> Fetch {
    Fetch {
        table: Table::Entries,
        from: entry_key(room, *seqs.start()),
        to: entry_key(room, *seqs.end()),
        newest_first,
        rows,
        bytes,
    }
}

/// Removes the entries of a room up to `seq`.
pub(crate) fn remove_entries(room: RoomId, seq: Seq) -> Change {
    Change::DeleteRange {
        table: Table::Entries,
        from: entry_key(room, Seq::ZERO),
        to: entry_key(room, seq),
    }
}
