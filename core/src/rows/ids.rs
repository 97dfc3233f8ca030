//! Publishers' ids, and the order of their age.

use super::{put, read, value, wall};
use crate::era::{Bare, Era};
use crate::ids::{EventId, RoomId, Seq};
use crate::port::{Change, Fetch, Table};
use crate::receipt::{Receipt, RoomReceipt};
use crate::retries::{Fingerprint, Stored};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Serialize, Deserialize)]
struct IdValue<'a> {
    #[serde(borrow)]
    print: Cow<'a, str>,
    at: u64,
    rooms: Vec<(RoomId, Bare, Seq, usize)>,
}

fn id_time_key(at: Wall, id: &EventId) -> Vec<u8> {
    [&at.as_unix_millis().to_be_bytes(), id.as_str().as_bytes()].concat()
}

/// The rows of an id: its answer, and its place in the order of age.
pub(crate) fn put_id(id: &EventId, print: Fingerprint, at: Wall, receipt: &Receipt) -> [Change; 2] {
    let rooms = receipt.rooms().iter();
    let row = IdValue {
        print: Cow::Owned(print.to_string()),
        at: at.as_unix_millis(),
        rooms: rooms
            .map(|room| (room.room, Bare::of(&room.epoch), room.seq, room.connected))
            .collect(),
    };
    [
        put(Table::Ids, id.as_str().into(), value(&row)),
        put(Table::IdTimes, id_time_key(at, id), [].as_slice().into()),
    ]
}

pub(crate) fn fetch_id(id: &EventId) -> Fetch {
    Fetch::key(Table::Ids, id.as_str().into())
}

pub(crate) fn read_id(id: &EventId, row: &[u8], era: &Era) -> Option<Stored> {
    let row: IdValue<'_> = read(row)?;
    let rooms = row.rooms.into_iter();
    let rooms = rooms.map(|(room, epoch, seq, connected)| {
        Some(RoomReceipt {
            room,
            epoch: epoch.within(era)?,
            seq,
            connected,
        })
    });
    let rooms: Option<Vec<_>> = rooms.collect();
    let receipt = Receipt::new(id.clone(), rooms?);
    Some((row.print.parse().ok()?, wall(row.at), receipt))
}

/// The oldest ids.
pub(crate) fn fetch_oldest_ids(rows: usize) -> Fetch {
    Fetch {
        table: Table::IdTimes,
        from: Vec::new(),
        to: vec![u8::MAX; 8],
        newest_first: false,
        rows,
        bytes: usize::MAX,
    }
}

/// When an id was taken, by its key in the order of age.
pub(crate) fn id_time(key: &[u8]) -> Option<Wall> {
    Some(wall(u64::from_be_bytes(*key.first_chunk::<8>()?)))
}

/// Removes an id, by its key in the order of age.
pub(crate) fn remove_id(key: &[u8]) -> [Change; 2] {
    let delete = |table, key: &[u8]| Change::Delete {
        table,
        key: key.to_vec(),
    };
    [
        delete(Table::IdTimes, key),
        delete(Table::Ids, key.get(8..).unwrap_or_default()),
    ]
}
