//! What is in the rows of a store: keys whose order is the order of reading, and values in JSON.
//!
//! JSON, since what is kept outlives the version that wrote it, and an event's `data` is JSON already: it is carried as it
//! came. A row that can't be read is `None`: the store's checksums say that it is what some version wrote.

use crate::era::{Bare, Era};
use crate::error::Error;
use crate::event::{Entry, Event, Place, Retention};
use crate::ids::{DeviceId, Epoch, EventId, EventType, Position, RoomId, Seq, UserId};
use crate::lifecycle::Status;
use crate::payload::Payload;
use crate::port::{Change, Fetch, Table};
use crate::receipt::{Receipt, RoomReceipt};
use crate::retries::{Fingerprint, Stored};
use crate::tasks::{Record, Snapshot};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The layout of rows that this version writes. It rises when an older version could not read what a newer one wrote.
const SCHEMA: u32 = 2;
/// Behind the user in a key of `Inboxes`.
const UNREAD: u8 = b'u';
const DEVICE: u8 = b'd';
const STORE: &[u8] = b"store";

/// What is kept once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The epoch of rooms without a row.
    pub(crate) epoch: Epoch,
    /// The place in the order of all that the next entry gets.
    pub(crate) next_index: u64,
    /// When the last event was taken.
    pub(crate) last_at: Wall,
    /// Rows of `Ids`.
    pub(crate) ids: u64,
}

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
struct MetaValue {
    schema: u32,
    epoch: Bare,
    next: u64,
    at: u64,
    ids: u64,
}

/// Of which any version can read as much.
#[derive(Deserialize)]
struct AnyMeta {
    schema: u32,
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

#[derive(Serialize, Deserialize)]
struct DeviceValue {
    epoch: Bare,
    seq: Seq,
    seen: u64,
}

#[derive(Serialize, Deserialize)]
struct IdValue<'a> {
    #[serde(borrow)]
    print: Cow<'a, str>,
    at: u64,
    rooms: Vec<(RoomId, Bare, Seq, usize)>,
}

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

fn value<T: Serialize>(value: &T) -> Arc<[u8]> {
    #[expect(
        clippy::expect_used,
        reason = "strings, numbers and lists have a JSON form"
    )]
    serde_json::to_vec(value)
        .expect("a row has a JSON form")
        .into()
}

fn read<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Option<T> {
    serde_json::from_slice(value).ok()
}

const fn wall(millis: u64) -> Wall {
    Wall::from_unix_millis(millis)
}

fn put(table: Table, key: Vec<u8>, value: Arc<[u8]>) -> Change {
    Change::Put { table, key, value }
}

impl Meta {
    /// What the rows of `Meta` say; `None` in a new store.
    ///
    /// # Errors
    /// [`Error::NewerStore`] and [`Error::UnreadableStore`].
    pub(crate) fn read(rows: &[(Vec<u8>, Vec<u8>)], era: &Era) -> Result<Option<Self>, Error> {
        let Some((_, row)) = rows.iter().find(|(key, _)| key == STORE) else {
            return Ok(None);
        };
        let any: AnyMeta = read(row).ok_or(Error::UnreadableStore)?;
        if any.schema > SCHEMA {
            let (found, known) = (any.schema, SCHEMA);
            return Err(Error::NewerStore { found, known });
        }
        let meta: MetaValue = read(row).ok_or(Error::UnreadableStore)?;
        Ok(Some(Self {
            epoch: meta.epoch.within(era).ok_or(Error::UnreadableStore)?,
            next_index: meta.next,
            last_at: wall(meta.at),
            ids: meta.ids,
        }))
    }

    pub(crate) fn put(&self) -> Change {
        let meta = MetaValue {
            schema: SCHEMA,
            epoch: Bare::of(&self.epoch),
            next: self.next_index,
            at: self.last_at.as_unix_millis(),
            ids: self.ids,
        };
        put(Table::Meta, STORE.to_vec(), value(&meta))
    }
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
            let uuid = uuid::Uuid::from_slice(uuid).ok()?;
            Some(RoomId::Task(crate::ids::TaskId::new(uuid)))
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

fn entry_key(room: RoomId, seq: Seq) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Draft, Target};

    fn entry() -> Entry {
        let place = |room: &str, seq| Place {
            room: room.parse().unwrap(),
            epoch: "k3J9".parse().unwrap(),
            seq: Seq::new(seq).unwrap(),
        };
        let event = Event {
            kind: "task:status".parse().unwrap(),
            id: "a:1".parse().unwrap(),
            at: wall(1_763_885_820_123),
            from: Some(UserId::new(u64::MAX)),
            data: Payload::parse(r#"{"a":  [1.50, "ü"]}"#).unwrap(),
            retention: Retention::Kept,
            notifies: true,
        };
        let places = [
            place("task:550e8400-e29b-41d4-a716-446655440000", 18),
            place("user:7", 41),
        ];
        Entry::new(12, event, Box::new(places))
    }

    #[test]
    fn an_entry_is_read_as_it_was_put_under_each_of_its_rooms() {
        let entry = entry();
        let rows = put_entry(&entry, None);
        let mut seqs = Vec::new();
        for row in &rows {
            let Change::Put { key, value, .. } = row else {
                panic!("{row:?}")
            };
            let (seq, read) = read_entry(key, value, &Era::default()).unwrap();
            assert_eq!(*read, entry);
            assert_eq!(read.event().data.as_str(), r#"{"a":  [1.50, "ü"]}"#);
            seqs.push(seq.number());
        }
        assert_eq!(seqs, [18, 41]);
        assert_eq!(put_entry(&entry, Some(UserId::new(7).into())).len(), 1);
    }

    #[test]
    fn keys_are_in_the_order_of_seqs_and_of_rooms() {
        let seq = |number| Seq::new(number).unwrap();
        let rooms: [RoomId; 4] = [
            "task:00000000-0000-0000-0000-000000000001".parse().unwrap(),
            "task:ffffffff-ffff-ffff-ffff-ffffffffffff".parse().unwrap(),
            UserId::new(255).into(),
            UserId::new(256).into(),
        ];
        let mut keys = Vec::new();
        for room in rooms {
            assert_eq!(room_of(&room_key(room)), Some(room));
            keys.extend([0, 1, 255, 256].map(|number| entry_key(room, seq(number))));
        }
        assert!(keys.is_sorted());
        let all = fetch_rooms(&[], 1);
        assert!(
            rooms
                .map(room_key)
                .iter()
                .all(|key| all.from < *key && *key < all.to)
        );
    }

    fn value_of(change: &Change) -> (Vec<u8>, Vec<u8>) {
        let Change::Put { key, value, .. } = change else {
            panic!("{change:?}")
        };
        (key.clone(), value.to_vec())
    }

    fn era(seed: u8) -> Era {
        Era::read(&[value_of(&Era::begin([seed; 32]))]).unwrap()
    }

    /// Every epoch in every row that has one, put as of the era of `epoch` and read as of another.
    fn epochs_of_rows(epoch: &str, era: &Era) -> Vec<String> {
        let (user, id): (_, EventId) = (UserId::new(7), "a:1".parse().unwrap());
        let epoch: Epoch = epoch.parse().unwrap();
        let (room, seq) = (user.into(), Seq::ZERO.next());
        let position = Position { epoch, seq };
        let place = || Place {
            room,
            epoch: position.epoch.clone(),
            seq,
        };
        let (_, meta) = value_of(
            &Meta {
                epoch: position.epoch.clone(),
                next_index: 5,
                last_at: wall(7),
                ids: 3,
            }
            .put(),
        );
        let meta = Meta::read(&[(STORE.to_vec(), meta)], era).unwrap().unwrap();
        let (_, row) = value_of(&RoomRow::new(position.epoch.clone()).put(room));
        let row = RoomRow::read(&row, era).unwrap();
        let entry = Entry::new(1, entry().event().clone(), Box::new([place()]));
        let (key, value) = value_of(&put_entry(&entry, None)[0]);
        let (_, entry) = read_entry(&key, &value, era).unwrap();
        let device = put_device(user, &"phone".parse().unwrap(), &position, wall(8));
        let (key, value) = value_of(&device);
        let Some(InboxRow::Device(_, cursor, _)) = read_inbox(&key, &value, era) else {
            panic!()
        };
        let draft = Draft::new("a:b".parse().unwrap(), Payload::default());
        let print = Fingerprint::of(None, &Target::User(user), &draft);
        let Place { epoch, .. } = place();
        let told = RoomReceipt {
            room,
            epoch,
            seq,
            connected: 3,
        };
        let receipt = Receipt::new(id.clone(), vec![told]);
        let (_, value) = value_of(&put_id(&id, print, wall(9), &receipt)[0]);
        let (_, _, receipt) = read_id(&id, &value, era).unwrap();
        let epochs = [
            &meta.epoch,
            &row.epoch,
            &entry.places()[0].epoch,
            &cursor.epoch,
            &receipt.rooms()[0].epoch,
        ];
        epochs.map(ToString::to_string).to_vec()
    }

    #[test]
    fn every_row_that_has_an_epoch_is_of_the_era_in_which_it_is_read() {
        let (first, one, other) = (Era::default(), era(1), era(2));
        let named = |era| {
            Bare::of(&"k3J9".parse().unwrap())
                .within(era)
                .unwrap()
                .to_string()
        };
        for put in [&first, &one, &other].map(named) {
            for read in [&first, &one, &other] {
                let epochs = epochs_of_rows(&put, read);
                assert_eq!(epochs, vec![named(read); 5], "{put}");
            }
        }
    }

    #[test]
    fn every_row_is_read_as_it_was_put() {
        let era = Era::default();
        let user = UserId::new(7);
        let position: Position = "k3J9:41".parse().unwrap();
        let row = RoomRow {
            epoch: position.epoch.clone(),
            head: position.seq,
            floor: Seq::ZERO,
            at: wall(9),
            oldest: wall(3),
        };
        assert_eq!(
            RoomRow::read(&value_of(&row.put(user.into())).1, &era),
            Some(row)
        );
        let record = Record {
            snapshot: Snapshot {
                status: Status::Started,
                at: Some(wall(5)),
                last: Payload::parse(r#"{"p":0.40}"#).ok(),
            },
            touched: wall(6),
        };
        assert_eq!(
            Record::read(&value_of(&record.put(user.into())).1),
            Some(record)
        );
        let device: DeviceId = "phone".parse().unwrap();
        let (key, value) = value_of(&put_device(user, &device, &position, wall(8)));
        let expected = InboxRow::Device(device, position, wall(8));
        assert_eq!(read_inbox(&key, &value, &era), Some(expected));
        let (key, value) = value_of(&put_unread(user, Seq::MAX, u64::MAX));
        assert_eq!(
            read_inbox(&key, &value, &era),
            Some(InboxRow::Unread(Seq::MAX, u64::MAX))
        );
        let fetch = fetch_inbox(user, None, 1);
        assert!(fetch.from < key && key < fetch.to);
        let meta = Meta {
            epoch: "abc".parse().unwrap(),
            next_index: 5,
            last_at: wall(7),
            ids: 3,
        };
        assert_eq!(
            Meta::read(&[value_of(&meta.put())], &era),
            Ok(Some(meta.clone()))
        );
        assert_eq!(Meta::read(&[], &era), Ok(None));
        let (key, older) = value_of(&meta.put());
        let older = String::from_utf8(older).unwrap().replacen('2', "1", 1);
        assert!(older.starts_with(r#"{"schema":1,"#), "{older}");
        assert_eq!(Meta::read(&[(key, older.into())], &era), Ok(Some(meta)));
        let newer = (STORE.to_vec(), br#"{"schema":3,"other":1}"#.to_vec());
        assert_eq!(
            Meta::read(&[newer], &era),
            Err(Error::NewerStore { found: 3, known: 2 })
        );
        assert_eq!(
            Meta::read(&[(STORE.to_vec(), b"{}".to_vec())], &era),
            Err(Error::UnreadableStore)
        );
    }

    #[test]
    fn an_id_is_read_and_removed_by_its_place_in_the_order_of_age() {
        let id: EventId = "order:17".parse().unwrap();
        let draft = Draft::new("a:b".parse().unwrap(), Payload::default());
        let print = Fingerprint::of(None, &Target::User(UserId::new(7)), &draft);
        let room = RoomReceipt {
            room: UserId::new(7).into(),
            epoch: "k3".parse().unwrap(),
            seq: Seq::ZERO.next(),
            connected: 3,
        };
        let receipt = Receipt::new(id.clone(), vec![room]);
        let [
            Change::Put { key, value, .. },
            Change::Put { key: time_key, .. },
        ] = put_id(&id, print, wall(9), &receipt)
        else {
            panic!()
        };
        assert_eq!(
            read_id(&id, &value, &Era::default()),
            Some((print, wall(9), receipt))
        );
        assert_eq!(id_time(&time_key), Some(wall(9)));
        let removed = remove_id(&time_key).map(|change| {
            let Change::Delete { key, .. } = change else {
                panic!("{change:?}")
            };
            key
        });
        assert_eq!(removed, [time_key, key]);
    }
}
