//! The bus: takes a publish, decides whether it may be, gives it its place, and tells its subscribers.
//!
//! Keeps *Order*, *Retried is not doubled* and *Terminal is terminal*. Who of the connected gets an entry is `hub`'s business.
//! A publish goes three steps: `admit` decides and changes nothing; `prepare` gives it its seqs, and says what a store has
//! to keep of it; `apply` makes it known. Without a store they follow at once; with one, `apply` comes when it is safe.

use crate::devices::Devices;
use crate::entropy::Entropy;
use crate::error::Error;
use crate::event::{Draft, Entry, Event, Place, Publish, Retention, Target};
use crate::ids::{
    DeviceId, Epoch, EventId, EventType, Pattern, Position, RoomId, Seq, TaskId, UserId,
};
use crate::inbox::{self, Device, Inboxes, Kept, KnownDevice, Unread};
use crate::journal::{Group, Journal};
use crate::lifecycle::{Status, TaskEvent};
use crate::limits::Limits;
use crate::log::{Carrier, Log};
use crate::payload::Payload;
use crate::receipt::{Receipt, RoomReceipt};
use crate::retries::{Fingerprint, Known, Retries, Stored};
use crate::room_log::{Gap, Resume, RoomLog};
use crate::rows::{self, Meta, RoomRow};
use crate::subscriptions::{Delivery, SubscriptionId, Subscriptions};
use crate::tasks::{Record, Snapshot, Tasks};
use crate::time::{Now, Wall};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Namespaces of which only the server publishes.
const RESERVED: [&str; 2] = ["system", "inbox"];

/// A publish that was taken: what its publisher is told, and what is to be fanned out.
///
/// ```
/// use fanfare_core::Published;
/// fn is_new(published: &Published) -> bool {
///     published.entry.is_some()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What the publisher is told.
    pub receipt: Receipt,
    /// The entry; `None` for a retry, whose entry was fanned out the first time.
    pub entry: Option<Arc<Entry>>,
}

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
enum Reading {
    UpTo(Seq),
    /// In order.
    Seqs(Vec<Seq>),
}

impl Reading {
    fn has(&self, seq: Seq) -> bool {
        match self {
            Self::UpTo(last) => seq <= *last,
            Self::Seqs(seqs) => seqs.binary_search(&seq).is_ok(),
        }
    }
}

/// A publish that may be.
#[derive(Debug)]
pub(crate) struct Admission {
    rooms: Vec<RoomId>,
    id: Option<(EventId, Fingerprint)>,
}

/// What `admit` found.
pub(crate) enum Admitted {
    New(Admission),
    Retry(Receipt),
    /// An event of its id is under way, in this commit: only after it can be said what this one is.
    Wait(Group),
}

/// A publish with its places, before it is known to anybody.
#[derive(Debug)]
pub(crate) struct Prepared {
    entry: Arc<Entry>,
    receipt: Receipt,
    id: Option<(EventId, Fingerprint)>,
    record: Option<(TaskId, Record)>,
    /// The epoch in which a deleted task's room begins anew.
    reborn: Option<Epoch>,
    reading: Option<(UserId, Reading)>,
}

/// Publishers on one side, subscribers and rooms on the other (ADR 017, decision 2).
///
/// ```
/// use fanfare_core::{Delivery, Draft, EventBus, Limits, Now, Payload, UserId};
/// let mut bus = EventBus::new(&Limits::default(), [0; 32]);
/// let id = bus.subscribe(vec!["chat:*".parse()?])?;
/// let draft = Draft::new("chat:message".parse()?, Payload::parse(r#"{"text":"hi"}"#)?);
/// bus.publish_to_user(Now::default(), UserId::new(7), draft)?;
/// assert!(matches!(bus.pull(id), Some(Delivery::Entry(_))));
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug)]
pub struct EventBus {
    entropy: Entropy,
    log: Log,
    tasks: Tasks,
    inboxes: Inboxes,
    retries: Retries,
    subscriptions: Subscriptions,
    subscriptions_max: usize,
    data_bytes_max: usize,
    last_at: Wall,
    /// What is on its way to the store, where there is one.
    journal: Option<Journal>,
    /// Until then the store may have ids that memory does not know.
    ids_until: Wall,
    /// Tasks of which ephemeral events told something that the store does not have.
    unwritten: BTreeSet<TaskId>,
}

/// What a store has of a room.
#[derive(Debug, Default)]
pub(crate) struct StoredRoom {
    pub(crate) row: Option<RoomRow>,
    pub(crate) record: Option<Record>,
    pub(crate) unread: Vec<Unread>,
    pub(crate) devices: Vec<Device>,
}

impl EventBus {
    /// A bus without events or subscribers. All random bytes come from `seed`.
    #[must_use]
    pub fn new(limits: &Limits, seed: [u8; 32]) -> Self {
        let mut entropy = Entropy::new(seed);
        let epoch = entropy.epoch();
        Self::carried(limits, entropy, Carrier::Memory, epoch, 1)
    }

    fn carried(
        limits: &Limits,
        entropy: Entropy,
        carrier: Carrier,
        epoch: Epoch,
        next_index: u64,
    ) -> Self {
        let inboxes = inbox::Bounds {
            devices_max: limits.devices_per_user,
            device_ms_max: limits.device_ms,
            bytes_max: limits.inbox_bytes,
        };
        Self {
            entropy,
            log: Log::new(limits, carrier, epoch, next_index),
            tasks: Tasks::new(limits.snapshot_bytes),
            inboxes: Inboxes::new(inboxes, carrier == Carrier::Memory),
            retries: Retries::new(limits.ids, limits.ids_ms),
            subscriptions: Subscriptions::new(limits.outbox_bytes),
            subscriptions_max: limits.subscriptions,
            data_bytes_max: limits.data_bytes,
            last_at: Wall::default(),
            journal: None,
            ids_until: Wall::default(),
            unwritten: BTreeSet::new(),
        }
    }

    /// A bus whose log is in a store. `meta` are the rows of what is kept once.
    pub(crate) fn restored(
        limits: &Limits,
        seed: [u8; 32],
        meta: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Self, Error> {
        let mut entropy = Entropy::new(seed);
        let found = Meta::read(meta)?;
        let is_new = found.is_none();
        let meta = found.unwrap_or_else(|| Meta {
            epoch: entropy.epoch(),
            next_index: 1,
            last_at: Wall::default(),
            ids: 0,
        });
        let epoch = meta.epoch.clone();
        let bus = Self::carried(limits, entropy, Carrier::Store, epoch, meta.next_index);
        Ok(Self {
            last_at: meta.last_at,
            ids_until: meta.last_at.plus(limits.ids_ms),
            journal: Some(Journal::new(meta, is_new)),
            ..bus
        })
    }

    /// Publishes to `room`, or with none to the subscribers of the bus only.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`].
    pub fn publish(
        &mut self,
        now: Now,
        room: Option<RoomId>,
        draft: Draft,
    ) -> Result<Published, Error> {
        let target = room.into();
        self.take(now, None, Publish { target, draft }, |_| 0)
    }

    /// Publishes one event to a task's room and to the rooms of `users`: to all of them or to none.
    ///
    /// # Errors
    /// [`Error::ReservedType`]; [`Error::TooLarge`] for too much data or too many users; [`Error::IdReused`];
    /// [`Error::Lifecycle`] and [`Error::Gone`] where the task's life does not allow the event. Nothing is kept then.
    pub fn publish_to_task(
        &mut self,
        now: Now,
        task: TaskId,
        users: &[UserId],
        draft: Draft,
    ) -> Result<Published, Error> {
        let users = users.to_vec();
        let target = Target::Task { task, users };
        self.take(now, None, Publish { target, draft }, |_| 0)
    }

    /// Publishes to a user's room.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`].
    pub fn publish_to_user(
        &mut self,
        now: Now,
        user: UserId,
        draft: Draft,
    ) -> Result<Published, Error> {
        let target = Target::User(user);
        self.take(now, None, Publish { target, draft }, |_| 0)
    }

    /// Subscribes to every event that one of `patterns` matches: each comes once, in each room's order, from now on.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where there are as many subscribers as there may be.
    pub fn subscribe(&mut self, patterns: Vec<Pattern>) -> Result<SubscriptionId, Error> {
        if self.subscriptions.len() >= self.subscriptions_max {
            return Err(Error::TooLarge {
                what: "the bus",
                size: self.subscriptions.len(),
                unit: "subscribers",
                limit: self.subscriptions_max,
            });
        }
        Ok(self.subscriptions.add(patterns))
    }

    /// Ends a subscription with all that waits for it. Whether there was one.
    pub fn unsubscribe(&mut self, id: SubscriptionId) -> bool {
        self.subscriptions.remove(id)
    }

    /// What the subscriber gets next, or `None` until it is ready again.
    pub fn pull(&mut self, id: SubscriptionId) -> Option<Delivery> {
        self.subscriptions.pull(id)
    }

    /// The next subscriber that has something to pull; each once until its pull was empty.
    pub fn poll(&mut self) -> Option<SubscriptionId> {
        self.subscriptions.poll()
    }

    /// Takes a publish of a back end, or of the client of user `from`. `connected` counts who is in a room.
    pub(crate) fn take(
        &mut self,
        now: Now,
        from: Option<UserId>,
        publish: Publish,
        connected: impl Fn(RoomId) -> usize,
    ) -> Result<Published, Error> {
        match self.admit(now, from, &publish, None)? {
            Admitted::Retry(receipt) => Ok(Published {
                receipt,
                entry: None,
            }),
            Admitted::New(admission) => {
                let prepared = self.prepare(now, from, publish, admission, connected);
                Ok(self.apply(prepared))
            }
            Admitted::Wait(_) => Err(Error::Unavailable("an event of this id is under way")),
        }
    }

    /// Whether a publish has something that only the store can keep: an event in a room, or an id.
    pub(crate) fn needs_store(&self, publish: &Publish, admission: &Admission) -> bool {
        let is_kept = publish.draft.retention == Retention::Kept;
        let leaves_rows = !admission.rooms.is_empty() || admission.id.is_some();
        self.journal.is_some() && is_kept && leaves_rows
    }

    /// Whether a publish may be. `stored` is what the store has of its id, where memory may not know that.
    pub(crate) fn admit(
        &mut self,
        now: Now,
        from: Option<UserId>,
        publish: &Publish,
        stored: Option<&Stored>,
    ) -> Result<Admitted, Error> {
        let Publish { target, draft } = publish;
        if RESERVED.contains(&draft.kind.namespace()) {
            return Err(Error::ReservedType(draft.kind.clone()));
        }
        let size = draft.data.as_str().len();
        if size > self.data_bytes_max {
            return Err(Error::TooLarge {
                what: "data",
                size,
                unit: "bytes",
                limit: self.data_bytes_max,
            });
        }
        check_retention(target, draft)?;
        let rooms = target.rooms()?;
        // Known ids come before the lifecycle: the retry of a `task:completed` finds its task completed by itself.
        let id = match &draft.id {
            None => None,
            Some(id) => {
                let under_way = self.journal.as_ref().and_then(|journal| journal.id(id));
                if let Some(group) = under_way {
                    return Ok(Admitted::Wait(group));
                }
                let fingerprint = Fingerprint::of(from, target, draft);
                let at = now.wall.max(self.last_at);
                let known = match (self.retries.known(at, id, fingerprint), stored) {
                    (Known::New, Some(stored)) => self.retries.stored(at, stored, fingerprint),
                    (known, _) => known,
                };
                match known {
                    Known::New => Some((id.clone(), fingerprint)),
                    Known::Same(receipt) => return Ok(Admitted::Retry(receipt)),
                    Known::Other => return Err(Error::IdReused(id.clone())),
                }
            }
        };
        if let Target::Task { task, .. } = target {
            self.record(now.wall, *task).check(*task, draft)?;
        }
        Ok(Admitted::New(Admission { rooms, id }))
    }

    /// The task as it is when all that is under way is done.
    fn record(&self, now: Wall, task: TaskId) -> Record {
        let coming = self.journal.as_ref().and_then(|journal| journal.task(task));
        match coming {
            Some(record) if !record.is_over(now) => record.clone(),
            Some(_) => Record::default(),
            None => self.tasks.record(now, task),
        }
    }

    /// Gives an admitted publish its places, and tells the journal what is to be kept.
    pub(crate) fn prepare(
        &mut self,
        now: Now,
        from: Option<UserId>,
        publish: Publish,
        admission: Admission,
        connected: impl Fn(RoomId) -> usize,
    ) -> Prepared {
        let Admission { rooms, id } = admission;
        let Publish { target, draft } = publish;
        let notifies = notifies(&target, &draft);
        let lifecycle = match target {
            Target::Task { task, .. } => TaskEvent::of(&draft.kind).map(|event| (task, event)),
            Target::User(_) | Target::Bus => None,
        };
        let record = lifecycle.map(|(task, event)| {
            let before = self.record(now.wall, task);
            (task, before.after(now.wall, event, &draft.data))
        });
        let event_id = id.as_ref().map(|(id, _)| id.clone());
        let event = self.event(now, from, draft, event_id, notifies);
        let entry = self.place(event, &rooms);
        let places = entry.places().iter().map(|place| RoomReceipt {
            room: place.room,
            epoch: place.epoch.clone(),
            seq: place.seq,
            connected: connected(place.room),
        });
        let is_deletion = lifecycle.is_some_and(|(_, event)| event == TaskEvent::Deleted);
        let prepared = Prepared {
            receipt: Receipt::new(entry.event().id.clone(), places.collect()),
            entry,
            id,
            record,
            reborn: is_deletion.then(|| self.entropy.epoch()),
            reading: None,
        };
        self.write(&prepared);
        prepared
    }

    /// The event of a draft, taken now.
    fn event(
        &mut self,
        now: Now,
        from: Option<UserId>,
        draft: Draft,
        id: Option<EventId>,
        notifies: bool,
    ) -> Event {
        // A wall clock that is set back must not date an event before the one it follows.
        let at = now.wall.max(self.last_at);
        self.last_at = at;
        Event {
            kind: draft.kind,
            id: id.unwrap_or_else(|| self.entropy.event_id(at)),
            at,
            from,
            data: draft.data,
            retention: draft.retention,
            notifies,
        }
    }

    /// The entry of an event, with the places that it has when all that is under way is done.
    fn place(&mut self, event: Event, rooms: &[RoomId]) -> Arc<Entry> {
        let is_kept = event.retention == Retention::Kept;
        let journal = self.journal.as_mut();
        let places = rooms.iter().map(|&room| {
            let coming = journal.as_ref().filter(|_| is_kept);
            let coming = coming.and_then(|journal| journal.reserved(room));
            let Position { epoch, seq } = match coming {
                Some(reserved) => reserved.position.clone(),
                None => self.log.position(room),
            };
            let seq = if is_kept { seq.next() } else { seq };
            Place { room, epoch, seq }
        });
        let places = places.collect();
        let index = match journal {
            Some(journal) => {
                let index = journal.meta.next_index;
                journal.meta.next_index += u64::from(is_kept);
                index
            }
            None => self.log.next_index(),
        };
        Arc::new(Entry::new(index, event, places))
    }

    /// Tells the journal what is to be kept of a publish, and what will be when it is.
    fn write(&mut self, prepared: &Prepared) {
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let entry = &prepared.entry;
        let event = entry.event();
        journal.meta.last_at = event.at;
        let is_kept = entry.is_kept();
        let deleted = prepared.reborn.as_ref().zip(entry.places().first());
        for place in entry.places().iter().filter(|_| is_kept) {
            match deleted.filter(|(_, first)| *first == place) {
                Some((epoch, _)) => {
                    let (epoch, seq) = (epoch.clone(), Seq::ZERO);
                    journal.reserve(place.room, Position { epoch, seq }, event.at);
                    journal.push(rows::remove_entries(place.room, place.seq));
                }
                None => {
                    let Place { epoch, seq, .. } = place.clone();
                    journal.reserve(place.room, Position { epoch, seq }, event.at);
                    self.trim_rows(&mut journal, place);
                }
            }
            journal.put_room(place.room, &self.row(&journal, place.room));
            if let (RoomId::User(user), true) = (place.room, event.notifies) {
                journal.push(rows::put_unread(
                    user,
                    place.seq,
                    inbox::id_digest(&event.id),
                ));
            }
        }
        if is_kept {
            let without = deleted.map(|(_, place)| place.room);
            journal.extend(rows::put_entry(entry, without));
            if let Some((task, record)) = &prepared.record {
                journal.push(record.put((*task).into()));
                journal.put_task(*task, record.clone());
            }
        }
        if let Some((id, print)) = &prepared.id {
            journal.extend(rows::put_id(id, *print, event.at, &prepared.receipt));
            journal.meta.ids += 1;
            if is_kept {
                journal.put_id(id);
            }
        }
        if let Some((user, reading)) = &prepared.reading {
            match reading {
                Reading::UpTo(last) => {
                    journal.push(rows::remove_unread(*user, Seq::ZERO..=*last));
                }
                Reading::Seqs(seqs) => {
                    let rows = seqs
                        .iter()
                        .map(|seq| rows::remove_unread(*user, *seq..=*seq));
                    journal.extend(rows);
                }
            }
        }
        self.journal = Some(journal);
    }

    /// Removes rows of what a full room no longer keeps, once there is a lot of them.
    fn trim_rows(&self, journal: &mut Journal, place: &Place) {
        let Some(log) = self.log.room(place.room) else {
            return;
        };
        let (before, floor) = (log.floor_at(place.seq.before()), log.floor_at(place.seq));
        let lot = log.trim_lot();
        if before.number() / lot != floor.number() / lot {
            remove_up_to(journal, place.room, floor);
        }
    }

    /// A room's row, with all that is under way.
    fn row(&self, journal: &Journal, room: RoomId) -> RoomRow {
        let log = self.log.room(room);
        assert!(log.is_some(), "a room is written that was loaded");
        let mut row = log.map_or_else(|| RoomRow::new(self.log.epoch().clone()), RoomLog::row);
        let Some(reserved) = journal.reserved(room) else {
            return row;
        };
        if reserved.position.epoch != row.epoch {
            row = RoomRow::new(reserved.position.epoch.clone());
        }
        if row.floor == row.head {
            row.oldest = reserved.first;
        }
        row.head = reserved.position.seq;
        row.floor = log
            .map_or(row.floor, |log| log.floor_at(row.head))
            .min(row.head);
        row.at = reserved.last;
        row
    }

    /// Makes a prepared publish known: it is in its rooms from now on.
    pub(crate) fn apply(&mut self, prepared: Prepared) -> Published {
        let Prepared {
            entry,
            receipt,
            id,
            record,
            reborn,
            reading,
        } = prepared;
        if let Some((user, reading)) = reading {
            let kept = self.log.kept(user);
            self.inboxes
                .read(user, &kept, |unread| reading.has(unread.seq));
        }
        if let Some((task, record)) = record {
            let now = record.touched;
            self.tasks.put(task, record);
            if self.journal.is_none() {
                self.tasks.forget_idle(now, task);
            } else if entry.is_kept() {
                self.unwritten.remove(&task);
            } else {
                self.unwritten.insert(task);
            }
        }
        self.log.append(&entry, &mut self.entropy);
        let event = entry.event();
        if event.notifies {
            let digest = inbox::id_digest(&event.id);
            for place in entry.places() {
                if let RoomId::User(user) = place.room {
                    self.inboxes.notify(user, &self.log.kept(user), digest);
                }
            }
        }
        if let Some((id, fingerprint)) = id {
            self.retries
                .remember(event.at, &id, fingerprint, receipt.clone());
        }
        if let (Some(epoch), Some(place)) = (reborn, entry.places().first()) {
            self.log.forget(place.room, epoch, &mut self.entropy);
        }
        self.subscriptions.deliver(&entry);
        Published {
            receipt,
            entry: Some(entry),
        }
    }

    /// Notifications that are kept and that the user has not read.
    pub(crate) fn unread(&self, user: UserId) -> usize {
        self.inboxes.unread(user, &self.log.kept(user))
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
        if seq > sent && Some(seq) > cursor.max(coming) {
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

    /// What is on its way to the store, where there is one.
    pub(crate) const fn journal(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Bytes of keys and values that wait for the next commit.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.journal.as_ref().map_or(0, Journal::bytes)
    }

    /// The last commit, under way or to come, that brings something for a room of this publish.
    pub(crate) fn last_under_way(&self, admission: &Admission) -> Option<Group> {
        self.journal.as_ref()?.last_of(&admission.rooms)
    }

    /// Whether the store may have an id that memory does not know.
    pub(crate) fn may_be_stored(&self, now: Wall) -> bool {
        now.max(self.last_at) < self.ids_until
    }

    /// Whether a room is in memory, in a bus with a store.
    pub(crate) fn has(&self, room: RoomId) -> bool {
        self.log.has(room)
    }

    /// Whether some of what a room keeps may be too old, and only the store can tell.
    pub(crate) fn is_stale(&self, now: Wall, room: RoomId) -> bool {
        self.log.room(room).is_some_and(|log| log.is_stale(now))
    }

    /// Takes what the store has of a room into memory.
    pub(crate) fn install(&mut self, now: Wall, room: RoomId, stored: StoredRoom) {
        self.log.install(room, stored.row);
        self.log.trim(now, room);
        match room {
            RoomId::Task(task) => {
                if let Some(record) = stored.record {
                    self.tasks.put(task, record);
                }
            }
            RoomId::User(user) => {
                let kept = self.log.kept(user);
                self.inboxes
                    .install(user, &kept, stored.unread, stored.devices);
            }
        }
    }

    /// Whether an event of this time is too old to be kept in the room.
    pub(crate) const fn is_old(&self, now: Wall, room: RoomId, at: Wall) -> bool {
        self.log.is_old(now, room, at)
    }

    /// Nothing up to `floor` is kept in the room any more, and nothing older than `oldest`.
    pub(crate) fn raise_floor(&mut self, now: Wall, room: RoomId, floor: Seq, oldest: Wall) {
        let before = self.log.room(room).map(RoomLog::floor);
        self.log.raise_floor(room, floor, oldest);
        self.log.trim(now, room);
        let after = self.log.room(room).map(RoomLog::floor);
        if let (Some(mut journal), Some(floor)) = (self.journal.take_if(|_| before != after), after)
        {
            remove_up_to(&mut journal, room, floor);
            journal.put_room(room, &self.row(&journal, room));
            self.journal = Some(journal);
        }
    }

    /// A room of what there is too much of in memory: the one that was idle longest.
    pub(crate) fn excess(&self) -> Option<RoomId> {
        let task = || self.tasks.excess().map(RoomId::Task);
        let user = || self.inboxes.excess().map(RoomId::User);
        self.log.excess().or_else(task).or_else(user)
    }

    /// Puts a room out of memory, as far as the store has it; all of it, unless it is `pinned`.
    pub(crate) fn put_out(&mut self, room: RoomId, pinned: bool) {
        if let RoomId::Task(task) = room
            && !pinned
            && self.unwritten.contains(&task)
        {
            self.write_task(task);
            return self.put_out(room, true);
        }
        if !pinned {
            self.log.evict(room);
        }
        self.log.uncache(room);
        match (room, pinned) {
            (RoomId::Task(task), true) => self.tasks.touch(task),
            (RoomId::Task(task), false) => self.tasks.forget(task),
            (RoomId::User(user), true) => self.inboxes.touch(user),
            (RoomId::User(user), false) => self.inboxes.forget(user),
        }
    }

    /// Writes what ephemeral events told of tasks: it is in memory only until the task's next kept event, or this.
    pub(crate) fn write_tasks(&mut self) {
        for task in self.unwritten.clone() {
            self.write_task(task);
        }
    }

    fn write_task(&mut self, task: TaskId) {
        self.unwritten.remove(&task);
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let record = journal.task(task).cloned();
        let record = record.unwrap_or_else(|| self.tasks.record(Wall::default(), task));
        let mut row = self.row(&journal, task.into());
        row.at = row.at.max(record.touched);
        journal.put_room(task.into(), &row);
        journal.push(record.put(task.into()));
        journal.put_task(task, record);
        self.journal = Some(journal);
    }

    /// Rooms without a row begin in a new epoch: rows are about to be removed, whose numbers must not come again.
    pub(crate) fn renew_epoch(&mut self) {
        let epoch = self.entropy.epoch();
        self.log.set_epoch(epoch.clone());
        if let Some(journal) = &mut self.journal {
            journal.meta.epoch = epoch;
        }
    }

    /// How long an id is remembered, in milliseconds, and how many are.
    pub(crate) const fn ids_bounds(&self) -> (u64, usize) {
        (self.retries.age_ms_max(), self.retries.ids_max())
    }

    pub(crate) fn snapshot(&self, now: Wall, task: TaskId) -> Snapshot {
        self.tasks.record(now, task).snapshot
    }

    pub(crate) fn is_gone(&self, now: Wall, task: TaskId) -> bool {
        self.snapshot(now, task).status == Status::Deleted
    }

    pub(crate) fn recent_tasks(&self, now: Wall) -> impl Iterator<Item = (TaskId, &Snapshot)> {
        self.tasks.recent(now)
    }

    /// The place in the order of all that the next kept entry gets.
    pub(crate) const fn next_index(&self) -> u64 {
        self.log.next_index()
    }

    pub(crate) fn position(&self, room: RoomId) -> Position {
        self.log.position(room)
    }

    pub(crate) fn resume_device(&mut self, now: Wall, user: UserId, cursor: &Position) -> Resume {
        self.log.resume_device(now, user.into(), cursor)
    }

    pub(crate) fn resume(&mut self, now: Wall, room: RoomId, since: &Position) -> Resume {
        self.log.resume(now, room, since)
    }

    pub(crate) fn trim(&mut self, now: Wall, room: RoomId) {
        self.log.trim(now, room);
    }

    pub(crate) fn unknown_position(&self, room: RoomId) -> Gap {
        self.log.unknown_position(room)
    }

    pub(crate) fn room_log(&self, room: RoomId) -> Option<&RoomLog> {
        self.log.room(room)
    }

    pub(crate) fn take_evicted(&mut self) -> Vec<RoomId> {
        self.log.take_evicted()
    }

    /// A whole number from 0 to `below`, without it.
    pub(crate) fn jitter(&mut self, below: u64) -> u64 {
        self.entropy.below(below)
    }
}

/// Removes the rows of what a room no longer keeps: its events up to `floor`, and that they were not read.
fn remove_up_to(journal: &mut Journal, room: RoomId, floor: Seq) {
    journal.push(rows::remove_entries(room, floor));
    if let RoomId::User(user) = room {
        journal.push(rows::remove_unread(user, Seq::ZERO..=floor));
    }
}

/// Whether an event counts in the rooms of its users: what is for a user alone does, and how a task begins and ends.
fn notifies(target: &Target, draft: &Draft) -> bool {
    let by_itself = || match target {
        Target::User(_) => true,
        Target::Task { .. } => match TaskEvent::of(&draft.kind) {
            Some(
                TaskEvent::Created
                | TaskEvent::Completed
                | TaskEvent::Failed
                | TaskEvent::Cancelled,
            ) => true,
            Some(TaskEvent::Started | TaskEvent::Status | TaskEvent::Deleted) | None => false,
        },
        Target::Bus => false,
    };
    draft.retention == Retention::Kept && draft.notify.unwrap_or_else(by_itself)
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

/// Of the lifecycle only `task:status` may be ephemeral, and only what is ephemeral can be replaced.
fn check_retention(target: &Target, draft: &Draft) -> Result<(), Error> {
    let lifecycle = matches!(target, Target::Task { .. })
        .then(|| TaskEvent::of(&draft.kind))
        .flatten();
    match (&draft.retention, lifecycle) {
        (Retention::Kept, _) | (_, None | Some(TaskEvent::Status)) => Ok(()),
        (Retention::Ephemeral { .. }, Some(_)) => Err(Error::BadRequest(format!(
            "`{}` can't be ephemeral: of the lifecycle only task:status can",
            draft.kind
        ))),
    }
}
