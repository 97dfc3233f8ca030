//! The bus: takes a publish, decides whether it may be, gives it its place, and tells its subscribers.
//!
//! Keeps *Order*, *Retried is not doubled* and *Terminal is terminal*. Who of the connected gets an entry is `hub`'s business.
//! A publish goes three steps: `admit` decides and changes nothing; `prepare` gives it its seqs, and says what a store has
//! to keep of it; `apply` makes it known. Without a store they follow at once; with one, `apply` comes when it is safe.

mod inboxes;
mod stored;

pub(crate) use inboxes::Read;
pub(crate) use stored::StoredRoom;

use crate::entropy::Entropy;
use crate::era::Era;
use crate::error::Error;
use crate::event::{Draft, Entry, Event, Place, Publish, Retention, Target};
use crate::ids::{Epoch, EventId, Pattern, Position, RoomId, TaskId, UserId};
use crate::inbox::{self, Inboxes};
use crate::journal::{Group, Journal};
use crate::lifecycle::{Status, TaskEvent};
use crate::limits::Limits;
use crate::log::{Carrier, Log};
use crate::receipt::{Receipt, RoomReceipt};
use crate::retries::{Fingerprint, Known, Retries, Stored};
use crate::room_log::{Gap, Resume, RoomLog};
use crate::sim_reached;
use crate::subscriptions::{Delivery, SubscriptionId, Subscriptions};
use crate::tasks::{Record, Snapshot, Tasks};
use crate::time::{Now, Wall};
use inboxes::Reading;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes that a room of a publish has in rows beside the data, about.
const ROW_COST: usize = 512;

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
    /// That of the store, where there is one.
    era: Era,
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

impl EventBus {
    /// A bus without events or subscribers. All random bytes come from `seed`.
    #[must_use]
    pub fn new(limits: &Limits, seed: [u8; 32]) -> Self {
        let mut entropy = Entropy::new(if planted!(EpochIsFixed) {
            [0; 32]
        } else {
            seed
        });
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
            era: Era::default(),
            log: Log::new(limits, carrier, epoch, next_index),
            tasks: Tasks::new(limits.snapshot_bytes),
            inboxes: Inboxes::new(inboxes),
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
                    sim_reached!("retry_under_way");
                    return Ok(Admitted::Wait(group));
                }
                let fingerprint = Fingerprint::of(from, target, draft);
                let at = now.wall.max(self.last_at);
                let known = match (self.retries.known(at, id, fingerprint), stored) {
                    (Known::New, Some(stored)) => {
                        sim_reached!("id_found_in_the_store");
                        self.retries.stored(at, stored, fingerprint)
                    }
                    (known, _) => known,
                };
                match known {
                    Known::New => Some((id.clone(), fingerprint)),
                    Known::Same(receipt) => {
                        sim_reached!("retry_is_told_the_first");
                        return Ok(Admitted::Retry(receipt));
                    }
                    Known::Other => {
                        sim_reached!("id_reused");
                        return Err(Error::IdReused(id.clone()));
                    }
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
        let notifies = notifies(&target, &draft)
            || (planted!(SilentCounts)
                && draft.retention == Retention::Kept
                && draft.notify == Some(false));
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
            seq: if planted!(AnotherNumber) {
                place.seq.next()
            } else {
                place.seq
            },
            connected: connected(place.room),
        });
        let is_deletion = lifecycle.is_some_and(|(_, event)| event == TaskEvent::Deleted);
        let prepared = Prepared {
            receipt: Receipt::new(entry.event().id.clone(), places.collect()),
            entry,
            id,
            record,
            reborn: is_deletion.then(|| self.era.draw(&mut self.entropy)),
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

    pub(crate) const fn log_bytes(&self) -> usize {
        self.log.bytes()
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

/// Bytes of the rows that a publish will have, about.
pub(crate) fn rows_bytes(publish: &Publish, admission: &Admission) -> usize {
    let rows = admission.rooms.len().max(1);
    rows.saturating_mul(publish.draft.data.as_str().len() + ROW_COST)
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
