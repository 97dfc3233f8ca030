//! What is in the rows of a store: keys whose order is the order of reading, and values in JSON.
//!
//! JSON, since what is kept outlives the version that wrote it, and an event's `data` is JSON already: it is carried as it
//! came. A row that can't be read is `None`: the store's checksums say that it is what some version wrote.

mod entries;
mod ids;
mod inboxes;
mod meta;
mod rooms;

pub(crate) use entries::{fetch_entries, put_entry, read_entry, remove_entries};
pub(crate) use ids::{fetch_id, fetch_oldest_ids, id_time, put_id, read_id, remove_id};
pub(crate) use inboxes::{
    InboxRow, fetch_inbox, put_device, put_unread, read_inbox, remove_device, remove_unread,
};
pub(crate) use meta::Meta;
pub(crate) use rooms::{RoomRow, fetch_rooms, remove_room, room_key, room_of};

use crate::port::{Change, Table};
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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

#[cfg(test)]
mod tests {
    use super::entries::entry_key;
    use super::meta::STORE;
    use super::*;
    use crate::era::{Bare, Era};
    use crate::error::Error;
    use crate::event::{Draft, Entry, Event, Place, Retention, Target};
    use crate::ids::{DeviceId, Epoch, EventId, Position, RoomId, Seq, UserId};
    use crate::lifecycle::Status;
    use crate::payload::Payload;
    use crate::receipt::{Receipt, RoomReceipt};
    use crate::retries::Fingerprint;
    use crate::tasks::{Record, Snapshot};

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
