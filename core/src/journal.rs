//! What is on its way to the store: the changes of the next commit, and what will be once commits are done.
//!
//! Memory shows what is safe and nothing more, while publishes go on: the numbers, states and ids that those under way will
//! have are here, so that the next one is judged and numbered after them. A group is what one commit takes. Where a commit
//! fails, all that was built on it fails too, and [`Journal::discard`] makes it undone.

use crate::ids::{DeviceId, EventId, Position, RoomId, Seq, TaskId, UserId};
use crate::port::Change;
use crate::rows::{Meta, RoomRow};
use crate::tasks::Record;
use crate::time::Wall;
use std::collections::BTreeMap;

/// Which commit it is, counted from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group(u64);

/// Where a room's numbering is, with all that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Reserved {
    group: Group,
    pub(crate) position: Position,
    /// When the first of those events was taken, and the last.
    pub(crate) first: Wall,
    pub(crate) last: Wall,
}

#[derive(Debug)]
pub(crate) struct Journal {
    group: Group,
    changes: Vec<Change>,
    bytes: usize,
    /// Where among the changes a room's row is: a hot room has one in a commit.
    rows: BTreeMap<RoomId, usize>,
    pub(crate) meta: Meta,
    /// Rows of `Ids` with the commit under way, and without it.
    ids_taken: u64,
    ids_safe: u64,
    /// Whether the row of what is kept once is to be written, though nothing else is.
    meta_changed: bool,
    rooms: BTreeMap<RoomId, Reserved>,
    tasks: BTreeMap<TaskId, (Group, Record)>,
    ids: BTreeMap<EventId, Group>,
    cursors: BTreeMap<(UserId, DeviceId), (Group, Seq)>,
}

impl Journal {
    /// An empty one. `is_new` where the store has nothing yet.
    pub(crate) const fn new(meta: Meta, is_new: bool) -> Self {
        Self {
            group: Group(0),
            ids_taken: meta.ids,
            ids_safe: meta.ids,
            changes: Vec::new(),
            bytes: 0,
            rows: BTreeMap::new(),
            meta,
            meta_changed: is_new,
            rooms: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ids: BTreeMap::new(),
            cursors: BTreeMap::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.meta_changed
    }

    /// Bytes of keys and values that wait for the next commit.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push(change);
    }

    pub(crate) fn extend(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| self.push(change));
    }

    /// Puts a room's row, in place of the one that this commit would have put.
    pub(crate) fn put_room(&mut self, room: RoomId, row: &RoomRow) {
        let change = row.put(room);
        let at = self.rows.get(&room).copied();
        match at.and_then(|at| self.changes.get_mut(at)) {
            Some(place) => *place = change,
            None => {
                self.rows.insert(room, self.changes.len());
                self.push(change);
            }
        }
    }

    /// The changes of a commit, and which it is.
    pub(crate) fn take(&mut self) -> (Group, Vec<Change>) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.push(self.meta.put());
        self.rows.clear();
        (self.bytes, self.meta_changed) = (0, false);
        self.ids_taken = self.meta.ids;
        let group = self.group;
        self.group = Group(group.0 + 1);
        (group, changes)
    }

    /// The commit of `group` is done: memory has what it brought.
    pub(crate) fn settle(&mut self, group: Group) {
        self.ids_safe = self.ids_taken;
        self.rooms.retain(|_, reserved| reserved.group > group);
        self.tasks.retain(|_, (of, _)| *of > group);
        self.ids.retain(|_, of| *of > group);
        self.cursors.retain(|_, (of, _)| *of > group);
    }

    /// A commit failed: what was built on it will not be. `is_new` where the store has nothing yet.
    pub(crate) fn discard(&mut self, is_new: bool) {
        self.changes.clear();
        self.rows.clear();
        (self.bytes, self.meta_changed) = (0, is_new);
        self.meta.ids = self.ids_safe;
        self.rooms.clear();
        self.tasks.clear();
        self.ids.clear();
        self.cursors.clear();
        self.group = Group(self.group.0 + 1);
    }

    /// The room's numbering is at `position` when the next commit is done, whose last event for it is of `at`.
    pub(crate) fn reserve(&mut self, room: RoomId, position: Position, at: Wall) {
        let group = self.group;
        let new = || Reserved {
            group,
            position: position.clone(),
            first: at,
            last: at,
        };
        let reserved = self.rooms.entry(room).or_insert_with(new);
        reserved.group = group;
        reserved.last = at;
        reserved.position = position;
    }

    pub(crate) fn reserved(&self, room: RoomId) -> Option<&Reserved> {
        self.rooms.get(&room)
    }

    /// The last commit under way, or to come, that brings something for one of these rooms.
    pub(crate) fn last_of(&self, rooms: &[RoomId]) -> Option<Group> {
        let groups = rooms.iter().filter_map(|room| self.rooms.get(room));
        groups.map(|reserved| reserved.group).max()
    }

    pub(crate) fn put_task(&mut self, task: TaskId, record: Record) {
        self.tasks.insert(task, (self.group, record));
    }

    /// What the task will be.
    pub(crate) fn task(&self, task: TaskId) -> Option<&Record> {
        self.tasks.get(&task).map(|(_, record)| record)
    }

    pub(crate) fn put_id(&mut self, id: &EventId) {
        self.ids.insert(id.clone(), self.group);
    }

    /// The commit that brings the event of this id.
    pub(crate) fn id(&self, id: &EventId) -> Option<Group> {
        self.ids.get(id).copied()
    }

    pub(crate) fn put_cursor(&mut self, user: UserId, device: &DeviceId, seq: Seq) {
        let key = (user, device.clone());
        let (group, cursor) = self.cursors.entry(key).or_insert((self.group, seq));
        (*group, *cursor) = (self.group, seq.max(*cursor));
    }

    /// How far the device will have acknowledged.
    pub(crate) fn cursor(&self, user: UserId, device: &DeviceId) -> Option<Seq> {
        let (_, seq) = self.cursors.get(&(user, device.clone()))?;
        Some(*seq)
    }

    /// Whether something is under way for the room.
    pub(crate) fn concerns(&self, room: RoomId) -> bool {
        let more = match room {
            RoomId::Task(task) => self.tasks.contains_key(&task),
            RoomId::User(user) => {
                let mut cursors = self.cursors.keys().map(|(of, _)| *of);
                cursors.any(|of| of == user)
            }
        };
        more || self.rooms.contains_key(&room)
    }
}
