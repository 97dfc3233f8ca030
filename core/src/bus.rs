//! The bus: takes a publish, decides whether it may be, gives it its place, and tells its subscribers.
//!
//! Keeps *Order*, *Retried is not doubled* and *Terminal is terminal*. Who of the connected gets an entry is `hub`'s business.
//! A publish goes two steps: `admit` decides and changes nothing; `commit` gives it its seqs and makes it known.

use crate::devices::Devices;
use crate::entropy::Entropy;
use crate::error::Error;
use crate::event::{Draft, Entry, Event, Publish, Retention, Target};
use crate::ids::{DeviceId, EventId, EventType, Pattern, Position, RoomId, Seq, TaskId, UserId};
use crate::inbox::{self, Inboxes, KnownDevice};
use crate::lifecycle::TaskEvent;
use crate::limits::Limits;
use crate::log::Log;
use crate::payload::Payload;
use crate::receipt::{Receipt, RoomReceipt};
use crate::retries::{Fingerprint, Known, Retries};
use crate::room_log::{Gap, Resume, RoomLog};
use crate::subscriptions::{Delivery, SubscriptionId, Subscriptions};
use crate::tasks::{Snapshot, Tasks};
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

/// What `admit` found.
enum Admitted {
    New {
        rooms: Vec<RoomId>,
        id: Option<(EventId, Fingerprint)>,
    },
    Retry(Receipt),
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
}

impl EventBus {
    /// A bus without events or subscribers. All random bytes come from `seed`.
    #[must_use]
    pub fn new(limits: &Limits, seed: [u8; 32]) -> Self {
        let mut entropy = Entropy::new(seed);
        Self {
            log: Log::new(limits, &mut entropy),
            entropy,
            tasks: Tasks::new(limits.snapshot_bytes),
            inboxes: Inboxes::new(inbox::Bounds {
                devices_max: limits.devices_per_user,
                device_ms_max: limits.device_ms,
                bytes_max: limits.inbox_bytes,
            }),
            retries: Retries::new(limits.ids, limits.ids_ms),
            subscriptions: Subscriptions::new(limits.outbox_bytes),
            subscriptions_max: limits.subscriptions,
            data_bytes_max: limits.data_bytes,
            last_at: Wall::default(),
        }
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
        match self.admit(now, from, &publish)? {
            Admitted::Retry(receipt) => Ok(Published {
                receipt,
                entry: None,
            }),
            Admitted::New { rooms, id } => {
                Ok(self.commit(now, from, publish, &rooms, id, connected))
            }
        }
    }

    fn admit(
        &mut self,
        now: Now,
        from: Option<UserId>,
        publish: &Publish,
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
                let fingerprint = Fingerprint::of(from, target, draft);
                match self.retries.known(now.time, id, fingerprint) {
                    Known::New => Some((id.clone(), fingerprint)),
                    Known::Same(receipt) => return Ok(Admitted::Retry(receipt)),
                    Known::Other => return Err(Error::IdReused(id.clone())),
                }
            }
        };
        if let Target::Task { task, .. } = target {
            self.tasks.check(now.wall, *task, draft)?;
        }
        Ok(Admitted::New { rooms, id })
    }

    fn commit(
        &mut self,
        now: Now,
        from: Option<UserId>,
        publish: Publish,
        rooms: &[RoomId],
        id: Option<(EventId, Fingerprint)>,
        connected: impl Fn(RoomId) -> usize,
    ) -> Published {
        // A wall clock that is set back must not date an event before the one it follows.
        let at = now.wall.max(self.last_at);
        self.last_at = at;
        let Publish { target, draft } = publish;
        let event_id = match &id {
            Some((id, _)) => id.clone(),
            None => self.entropy.event_id(at),
        };
        let notifies = notifies(&target, &draft);
        let lifecycle = TaskEvent::of(&draft.kind);
        if let (Target::Task { task, .. }, Some(event)) = (&target, lifecycle) {
            self.tasks.apply(now.wall, *task, event, &draft.data);
        }
        let event = Event {
            kind: draft.kind,
            id: event_id.clone(),
            at,
            from,
            data: draft.data,
            retention: draft.retention,
            notifies,
        };
        let entry = self.log.append(event, rooms, &mut self.entropy);
        if notifies {
            for place in entry.places() {
                if let RoomId::User(user) = place.room {
                    self.inboxes.notify(user, &self.log.kept(user));
                }
            }
        }
        let rooms = entry.places().iter().map(|place| RoomReceipt {
            room: place.room,
            epoch: place.epoch.clone(),
            seq: place.seq,
            connected: connected(place.room),
        });
        let receipt = Receipt::new(event_id, rooms.collect());
        if let Some((id, fingerprint)) = id {
            self.retries
                .remember(now.time, &id, fingerprint, receipt.clone());
        }
        if let (Target::Task { task, .. }, Some(TaskEvent::Deleted)) = (target, lifecycle) {
            self.log.forget(task.into(), &mut self.entropy);
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

    /// The user has read what `read` names. Where that changed something, all devices are to be told by an event.
    pub(crate) fn read(
        &mut self,
        now: Now,
        user: UserId,
        read: &Read,
        connected: impl Fn(RoomId) -> usize,
    ) -> Result<Option<Published>, Error> {
        self.log.trim(now.wall, user.into());
        let kept = self.log.kept(user);
        let (count, data) = match read {
            Read::UpTo(seq) if *seq > kept.head => return Err(beyond("read", *seq, kept.head)),
            Read::UpTo(seq) => (
                self.inboxes.read(user, &kept, |other| other <= *seq),
                serde_json::json!({ "up_to": seq }),
            ),
            Read::Ids(ids) => {
                let log = self.log.room(user.into());
                let wanted: BTreeSet<&EventId> = ids.iter().collect();
                let named = |seq: &Seq| {
                    let entry = log.and_then(|log| log.entry(*seq));
                    entry.is_some_and(|entry| wanted.contains(&entry.event().id))
                };
                let unread = self.inboxes.unread_seqs(user, &kept);
                let named: Vec<Seq> = unread.filter(named).collect();
                let count = self
                    .inboxes
                    .read(user, &kept, |seq| named.binary_search(&seq).is_ok());
                (count, serde_json::json!({ "ids": ids }))
            }
        };
        if count == 0 {
            return Ok(None);
        }
        let draft = Draft {
            notify: Some(false),
            ..Draft::new(inbox_read(), Payload::from_value(&data)?)
        };
        let target = Target::User(user);
        let publish = Publish { target, draft };
        let published = self.commit(now, None, publish, &[user.into()], None, connected);
        Ok(Some(published))
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
        self.inboxes.arrive(now, user, &kept, device, is_connected)
    }

    /// A device of the user's went.
    pub(crate) fn depart(&mut self, now: Wall, user: UserId, device: &DeviceId) {
        self.inboxes.leave(now, user, device);
    }

    /// The device has everything up to `seq`; it was sent everything up to `sent`. Where its cursor is now.
    pub(crate) fn ack(
        &mut self,
        now: Wall,
        user: UserId,
        device: &DeviceId,
        seq: Seq,
        sent: Seq,
        devices: &Devices,
    ) -> Result<Position, Error> {
        let kept = self.log.kept(user);
        let cursor = self.inboxes.cursor(user, &kept, device);
        if seq > sent && Some(seq) > cursor {
            return Err(beyond("ack", seq, sent));
        }
        let is_connected = |device: &DeviceId| devices.connected(user, device) > 0;
        let seq = self
            .inboxes
            .ack(now, user, &kept, device, seq, is_connected);
        let epoch = kept.epoch;
        Ok(Position { epoch, seq })
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

    pub(crate) fn snapshot(&self, now: Wall, task: TaskId) -> Snapshot {
        self.tasks.snapshot(now, task)
    }

    pub(crate) fn is_gone(&self, now: Wall, task: TaskId) -> bool {
        self.tasks.is_gone(now, task)
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
