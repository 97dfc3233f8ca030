//! What the bus does for users' inboxes: what is read and acknowledged, and by which device.

use super::{EventBus, Prepared};
use crate::devices::Devices;
use crate::error::Error;
use crate::event::Draft;
use crate::ids::{DeviceId, EventId, EventType, Position, RoomId, Seq, UserId};
use crate::inbox::{self, Kept, KnownDevice};
use crate::payload::Payload;
use crate::receipt::{Receipt, RoomReceipt};
use crate::rows;
use crate::time::{Now, Wall};
use std::collections::BTreeSet;

/// Which notifications a user has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    /// All up to this number in the user's room.
    UpTo(Seq),
    /// The events of these ids. Those that are not there are passed over.
    Ids(Vec<EventId>),
}

/// Notifications that are read when their `inbox:read` is applied.
#[derive(Debug)]
pub(super) enum Reading {
    UpTo(Seq),
    /// In order.
    Seqs(Vec<Seq>),
}

impl Reading {
    pub(super) fn has(&self, seq: Seq) -> bool {
        match self {
            Self::UpTo(last) => seq <= *last,
            Self::Seqs(seqs) => seqs.binary_search(&seq).is_ok(),
        }
    }
}

impl EventBus {
    /// Notifications that are kept and that the user has not read.
    pub(crate) fn unread(&self, user: UserId) -> usize {
        self.inboxes.unread(user, &self.log.kept(user))
    }

    /// A user whose inbox is to be given up, since all of them are too large.
    pub(crate) fn idle_inbox(&self) -> Option<UserId> {
        self.inboxes.excess_but_last()
    }

    /// The user has read all, and no device.
    pub(crate) fn forget_inbox(&mut self, user: UserId) {
        self.inboxes.forget(user);
    }

    /// The user has read what `read` names. Where that changes something, all devices are to be told by an event.
    pub(crate) fn read(
        &mut self,
        now: Now,
        user: UserId,
        read: &Read,
        connected: impl Fn(RoomId) -> usize,
    ) -> Result<Option<Prepared>, Error> {
        self.log.trim(now.wall, user.into());
        let Some((reading, data)) = self.reading(user, read)? else {
            return Ok(None);
        };
        let draft = Draft {
            notify: Some(false),
            ..Draft::new(inbox_read(), Payload::from_value(&data)?)
        };
        let event = self.event(now, None, draft, None, false);
        let entry = self.place(event, &[user.into()]);
        let places = entry.places().iter().map(|place| RoomReceipt {
            room: place.room,
            epoch: place.epoch.clone(),
            seq: place.seq,
            connected: connected(place.room),
        });
        let prepared = Prepared {
            receipt: Receipt::new(entry.event().id.clone(), places.collect()),
            entry,
            id: None,
            record: None,
            reborn: None,
            reading: Some((user, reading)),
        };
        self.write(&prepared);
        Ok(Some(prepared))
    }

    /// What a `read` reads, and the data of its event; `None` where it changes nothing.
    fn reading(
        &self,
        user: UserId,
        read: &Read,
    ) -> Result<Option<(Reading, serde_json::Value)>, Error> {
        let kept = self.log.kept(user);
        let mut unread = self.inboxes.all_unread(user, &kept);
        let (reading, data) = match read {
            Read::UpTo(seq) if *seq > kept.head => return Err(beyond("read", *seq, kept.head)),
            Read::UpTo(seq) => (Reading::UpTo(*seq), serde_json::json!({ "up_to": seq })),
            Read::Ids(ids) => {
                let wanted: BTreeSet<u64> = ids.iter().map(inbox::id_digest).collect();
                let named = unread.clone().filter(|unread| wanted.contains(&unread.id));
                let seqs = named.map(|unread| unread.seq).collect();
                (Reading::Seqs(seqs), serde_json::json!({ "ids": ids }))
            }
        };
        let changes = unread.any(|unread| reading.has(unread.seq));
        Ok(changes.then_some((reading, data)))
    }

    /// From where a device goes on that names no position; `None` where it gets what is new only.
    pub(crate) fn arrive(
        &mut self,
        now: Wall,
        user: UserId,
        device: &DeviceId,
        devices: &Devices,
    ) -> Option<Position> {
        self.log.trim(now, user.into());
        let kept = self.log.kept(user);
        let is_connected = |device: &DeviceId| devices.connected(user, device) > 0;
        let arrival = self.inboxes.arrive(now, user, &kept, device, is_connected);
        self.write_device(user, device, arrival.forgotten);
        arrival.cursor
    }

    /// A device of the user's went.
    pub(crate) fn depart(&mut self, now: Wall, user: UserId, device: &DeviceId) {
        self.inboxes.leave(now, user, device);
        self.write_device(user, device, Vec::new());
    }

    fn write_device(&mut self, user: UserId, device: &DeviceId, forgotten: Vec<DeviceId>) {
        let Some(journal) = &mut self.journal else {
            return;
        };
        for device in forgotten {
            journal.push(rows::remove_device(user, &device));
        }
        if let Some(known) = self.inboxes.device(user, device) {
            let mut cursor = known.cursor.clone();
            let Kept { epoch, .. } = self.log.kept(user);
            match journal.cursor(user, device) {
                Some(seq) if epoch == cursor.epoch => cursor.seq = cursor.seq.max(seq),
                Some(seq) => cursor = Position { epoch, seq },
                None => {}
            }
            journal.push(rows::put_device(user, device, &cursor, known.seen));
        }
    }

    /// The device says that it has everything up to `seq`; it was sent everything up to `sent`. The journal is told.
    pub(crate) fn ack(
        &mut self,
        user: UserId,
        device: &DeviceId,
        seq: Seq,
        sent: Seq,
    ) -> Result<(), Error> {
        let kept = self.log.kept(user);
        let cursor = self.inboxes.cursor(user, &kept, device);
        let coming = self.journal.as_ref();
        let coming = coming.and_then(|journal| journal.cursor(user, device));
        if !planted!(AckUnchecked) && seq > sent && Some(seq) > cursor.max(coming) {
            return Err(beyond("ack", seq, sent));
        }
        if let Some(journal) = &mut self.journal {
            journal.put_cursor(user, device, seq);
            self.write_device(user, device, Vec::new());
        }
        Ok(())
    }

    /// What the device said is safe. Where its cursor is now.
    pub(crate) fn acked(
        &mut self,
        now: Wall,
        user: UserId,
        device: &DeviceId,
        seq: Seq,
        devices: &Devices,
    ) -> Position {
        let kept = self.log.kept(user);
        let was_known = self.inboxes.device(user, device).is_some();
        let is_connected = |device: &DeviceId| devices.connected(user, device) > 0;
        let (seq, forgotten) = self
            .inboxes
            .ack(now, user, &kept, device, seq, is_connected);
        if !was_known {
            self.write_device(user, device, forgotten);
        }
        let epoch = kept.epoch;
        Position { epoch, seq }
    }

    /// The user's devices that are known, by name, and with their cursors.
    pub(crate) fn known_devices(
        &self,
        now: Wall,
        user: UserId,
        devices: &Devices,
    ) -> Vec<KnownDevice> {
        let connected = |device: &DeviceId| devices.connected(user, device);
        let kept = self.log.kept(user);
        self.inboxes.known(now, user, &kept, connected)
    }
}

fn inbox_read() -> EventType {
    #[expect(clippy::expect_used, reason = "every read of the tests comes here")]
    "inbox:read".parse().expect("a valid type")
}

fn beyond(op: &str, seq: Seq, last: Seq) -> Error {
    Error::BadRequest(format!(
        "`{op}` names {seq}, and the last event is {last}: name one that was received"
    ))
}
