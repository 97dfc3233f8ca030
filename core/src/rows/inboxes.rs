//! What users have not read, and where their devices are.

use super::{put, read, value, wall};
use crate::era::{Bare, Era};
use crate::ids::{DeviceId, Position, Seq, UserId};
use crate::port::{Change, Fetch, Table};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Behind the user in a key of `Inboxes`.
const UNREAD: u8 = b'u';
const DEVICE: u8 = b'd';

#[derive(Serialize, Deserialize)]
struct DeviceValue {
    epoch: Bare,
    seq: Seq,
    seen: u64,
}

/// A row of a user's inbox.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InboxRow {
    /// A notification that was not read, and the beginning of its id's digest.
    Unread(Seq, u64),
    /// A device: its name, its cursor, and when it was seen last.
    Device(DeviceId, Position, Wall),
}

fn inbox_key(user: UserId, kind: u8, rest: &[u8]) -> Vec<u8> {
    [&user.number().to_be_bytes(), [kind].as_slice(), rest].concat()
}

pub(crate) fn put_unread(user: UserId, seq: Seq, id: u64) -> Change {
    let key = inbox_key(user, UNREAD, &seq.number().to_be_bytes());
    put(Table::Inboxes, key, id.to_be_bytes().as_slice().into())
}

pub(crate) fn remove_unread(user: UserId, seqs: RangeInclusive<Seq>) -> Change {
    let key = |seq: &Seq| inbox_key(user, UNREAD, &seq.number().to_be_bytes());
    Change::DeleteRange {
        table: Table::Inboxes,
        from: key(seqs.start()),
        to: key(seqs.end()),
    }
}

pub(crate) fn put_device(user: UserId, device: &DeviceId, cursor: &Position, seen: Wall) -> Change {
    let row = DeviceValue {
        epoch: Bare::of(&cursor.epoch),
        seq: cursor.seq,
        seen: seen.as_unix_millis(),
    };
    let key = inbox_key(user, DEVICE, device.as_str().as_bytes());
    put(Table::Inboxes, key, value(&row))
}

pub(crate) fn remove_device(user: UserId, device: &DeviceId) -> Change {
    Change::Delete {
        table: Table::Inboxes,
        key: inbox_key(user, DEVICE, device.as_str().as_bytes()),
    }
}

/// The rows of a user's inbox that come after `after`, in pages.
pub(crate) fn fetch_inbox(user: UserId, after: Option<Vec<u8>>, rows: usize) -> Fetch {
    let from = after.map_or_else(
        || user.number().to_be_bytes().to_vec(),
        |mut key| {
            key.push(0);
            key
        },
    );
    Fetch {
        table: Table::Inboxes,
        from,
        to: inbox_key(user, u8::MAX, &[]),
        newest_first: false,
        rows,
        bytes: usize::MAX,
    }
}

pub(crate) fn read_inbox(key: &[u8], row: &[u8], era: &Era) -> Option<InboxRow> {
    match key.get(8..)?.split_first()? {
        (&UNREAD, seq) => {
            let seq = Seq::new(u64::from_be_bytes(seq.try_into().ok()?)).ok()?;
            Some(InboxRow::Unread(
                seq,
                u64::from_be_bytes(row.try_into().ok()?),
            ))
        }
        (&DEVICE, name) => {
            let name = std::str::from_utf8(name).ok()?.parse().ok()?;
            let DeviceValue { epoch, seq, seen } = read(row)?;
            let epoch = epoch.within(era)?;
            Some(InboxRow::Device(name, Position { epoch, seq }, wall(seen)))
        }
        _ => None,
    }
}
