//! The bus with a store: what it tells the journal, and which of the store's rooms are in memory.

use super::inboxes::Reading;
use super::{Admission, EventBus, Prepared};
use crate::entropy::Entropy;
use crate::era::Era;
use crate::error::Error;
use crate::event::{Entry, Place};
use crate::ids::{Epoch, Position, RoomId, Seq, TaskId};
use crate::inbox::{self, Device, Unread};
use crate::journal::{Group, Journal};
use crate::limits::Limits;
use crate::log::Carrier;
use crate::room_log::RoomLog;
use crate::rows::{self, Meta, RoomRow};
use crate::sim_reached;
use crate::tasks::Record;
use crate::time::Wall;
use std::sync::Arc;

/// What a store has of a room.
#[derive(Debug, Default)]
pub(crate) struct StoredRoom {
    pub(crate) row: Option<RoomRow>,
    pub(crate) record: Option<Record>,
    pub(crate) unread: Vec<Unread>,
    pub(crate) devices: Vec<Device>,
}

impl EventBus {
    /// A bus whose log is in a store. `meta` are the rows of what is kept once.
    pub(crate) fn restored(
        limits: &Limits,
        seed: [u8; 32],
        meta: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Self, Error> {
        let mut entropy = Entropy::new(seed);
        let era = Era::read(meta)?;
        let found = Meta::read(meta, &era)?;
        let is_new = found.is_none();
        sim_reached!("restored", !is_new);
        let meta = found.unwrap_or_else(|| Meta {
            epoch: era.draw(&mut entropy),
            next_index: 1,
            last_at: Wall::default(),
            ids: 0,
        });
        let epoch = meta.epoch.clone();
        let bus = Self::carried(limits, entropy, Carrier::Store, epoch, meta.next_index);
        Ok(Self {
            era,
            last_at: meta.last_at,
            ids_until: meta.last_at.plus(limits.ids_ms),
            journal: Some(Journal::new(meta, is_new)),
            ..bus
        })
    }

    /// In which rows are read.
    pub(crate) const fn era(&self) -> &Era {
        &self.era
    }

    /// Tells the journal what is to be kept of a publish, and what will be when it is.
    pub(super) fn write(&mut self, prepared: &Prepared) {
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

    /// Takes entries that were read from the store into memory, where they come before what is there.
    pub(crate) fn cache(&mut self, room: RoomId, epoch: &Epoch, entries: &[(Seq, Arc<Entry>)]) {
        self.log.cache(room, epoch, entries);
    }

    /// Whether an event of this time is too old to be kept in the room.
    pub(crate) const fn is_old(&self, now: Wall, room: RoomId, at: Wall) -> bool {
        self.log.is_old(now, room, at)
    }

    /// Nothing up to `floor` is kept in the room any more, and nothing older than `oldest`.
    pub(crate) fn raise_floor(&mut self, now: Wall, room: RoomId, floor: Seq, oldest: Wall) {
        let before = self.log.room(room).map(RoomLog::floor);
        self.log.raise_floor(room, floor, oldest);
        self.write_floor(now, room, before.unwrap_or_default());
    }

    /// Drops what became too old, and writes that where the store has a lower floor than the room has then.
    pub(crate) fn write_floor(&mut self, now: Wall, room: RoomId, stored: Seq) {
        self.log.trim(now, room);
        let floor = self.log.room(room).map(RoomLog::floor);
        let floor = floor.filter(|floor| *floor > stored);
        if let (Some(floor), Some(mut journal)) = (floor, self.journal.take_if(|_| floor.is_some()))
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
        let epoch = self.era.draw(&mut self.entropy);
        self.log.set_epoch(epoch.clone());
        if let Some(journal) = &mut self.journal {
            journal.meta.epoch = epoch;
        }
    }

    /// How long an id is remembered, in milliseconds, and how many are.
    pub(crate) const fn ids_bounds(&self) -> (u64, usize) {
        (self.retries.age_ms_max(), self.retries.ids_max())
    }
}

/// Removes the rows of what a room no longer keeps: its events up to `floor`, and that they were not read.
fn remove_up_to(journal: &mut Journal, room: RoomId, floor: Seq) {
    journal.push(rows::remove_entries(room, floor));
    if let RoomId::User(user) = room {
        journal.push(rows::remove_unread(user, Seq::ZERO..=floor));
    }
}
