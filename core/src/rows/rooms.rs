//! The rows of rooms: their heads, and the state of tasks.

use super::{put, read, value, wall};
use crate::era::{Bare, Era};
use crate::ids::{Epoch, RoomId, Seq, TaskId, UserId};
use crate::lifecycle::Status;
use crate::payload::Payload;
use crate::port::{Change, Fetch, Table};
use crate::tasks::{Record, Snapshot};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is known of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomRow {
    pub(crate) epoch: Epoch,
    pub(crate) head: Seq,
    /// What is kept comes after it.
    pub(crate) floor: Seq,
    /// When its last event was taken, or it was deleted.
    pub(crate) at: Wall,
    /// The oldest kept event is not older.
    pub(crate) oldest: Wall,
}

#[derive(Serialize, Deserialize)]
struct RoomValue {
    epoch: Bare,
    head: Seq,
    floor: Seq,
    at: u64,
    oldest: u64,
}

#[derive(Serialize, Deserialize)]
struct TaskValue {
    status: Status,
    at: Option<u64>,
    last: Option<Payload>,
    touched: u64,
}

/// What begins the key of everything of a room: its kind and its number, of fixed length.
pub(crate) fn room_key(room: RoomId) -> Vec<u8> {
    match room {
        RoomId::Task(task) => [b"t".as_slice(), task.uuid().as_bytes()].concat(),
        RoomId::User(user) => [b"u".as_slice(), &user.number().to_be_bytes()].concat(),
    }
}

/// The room whose key this is.
pub(crate) fn room_of(key: &[u8]) -> Option<RoomId> {
    match key.split_first()? {
        (b't', uuid) => {
            let uuid = Uuid::from_slice(uuid).ok()?;
            Some(RoomId::Task(TaskId::new(uuid)))
        }
        (b'u', number) => Some(RoomId::User(UserId::new(u64::from_be_bytes(
            number.try_into().ok()?,
        )))),
        _ => None,
    }
}

impl RoomRow {
    /// A room in which nothing happened in `epoch` yet.
    pub(crate) const fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            head: Seq::ZERO,
            floor: Seq::ZERO,
            at: wall(0),
            oldest: wall(0),
        }
    }

    pub(crate) fn put(&self, room: RoomId) -> Change {
        let row = RoomValue {
            epoch: Bare::of(&self.epoch),
            head: self.head,
            floor: self.floor,
            at: self.at.as_unix_millis(),
            oldest: self.oldest.as_unix_millis(),
        };
        put(Table::Rooms, room_key(room), value(&row))
    }

    pub(crate) fn read(row: &[u8], era: &Era) -> Option<Self> {
        let row: RoomValue = read(row)?;
        (row.floor <= row.head).then_some(Self {
            epoch: row.epoch.within(era)?,
            head: row.head,
            floor: row.floor,
            at: wall(row.at),
            oldest: wall(row.oldest),
        })
    }
}

impl Record {
    pub(crate) fn put(&self, room: RoomId) -> Change {
        let row = TaskValue {
            status: self.snapshot.status,
            at: self.snapshot.at.map(Wall::as_unix_millis),
            last: self.snapshot.last.clone(),
            touched: self.touched.as_unix_millis(),
        };
        put(Table::Tasks, room_key(room), value(&row))
    }

    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let row: TaskValue = read(row)?;
        Some(Self {
            snapshot: Snapshot {
                status: row.status,
                at: row.at.map(wall),
                last: row.last,
            },
            touched: wall(row.touched),
        })
    }
}

/// Rooms that come after `after`, by the order of their keys.
pub(crate) fn fetch_rooms(after: &[u8], rows: usize) -> Fetch {
    Fetch {
        table: Table::Rooms,
        from: [after, &[0]].concat(),
        to: vec![u8::MAX],
        newest_first: false,
        rows,
        bytes: usize::MAX,
    }
}

/// Removes all that is known of a room but its entries.
pub(crate) fn remove_room(room: RoomId) -> [Change; 2] {
    [Table::Rooms, Table::Tasks].map(|table| Change::Delete {
        table,
        key: room_key(room),
    })
}
