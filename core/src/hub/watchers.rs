//! Who watches which task, outlet by outlet, in the order in which each outlet has them too.

use super::Hub;
use crate::ids::{ConnId, TaskId};
use crate::outlet::Order;
use crate::rooms::TaskRooms;
use crate::time::Now;

/// For each outlet the rooms of tasks.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<TaskRooms>);

impl Watchers {
    /// Adds `conn` to the watchers; false where it was one already.
    fn join(&mut self, task: TaskId, conn: ConnId) -> bool {
        if self.0.len() <= conn.outlet() {
            self.0.resize_with(conn.outlet() + 1, TaskRooms::new);
        }
        let rooms = self.0.get_mut(conn.outlet());
        rooms.is_some_and(|rooms| rooms.join(task, conn))
    }

    /// Takes `conn` out; the place that it had among those of its outlet.
    fn leave(&mut self, task: TaskId, conn: ConnId) -> Option<usize> {
        let rooms = self.0.get_mut(conn.outlet())?;
        let place = rooms.place(task, conn)?;
        rooms.leave(task, conn);
        Some(place)
    }

    /// How many watch a task. O(outlets).
    pub(super) fn count(&self, task: TaskId) -> usize {
        self.0.iter().map(|rooms| rooms.members(task).len()).sum()
    }

    /// How many of them an outlet has.
    pub(super) fn count_in(&self, outlet: usize, task: TaskId) -> usize {
        let rooms = self.0.get(outlet);
        rooms.map_or(0, |rooms| rooms.members(task).len())
    }

    /// All who watch a task. O(as many).
    pub(super) fn members(&self, task: TaskId) -> Vec<ConnId> {
        let members = self.0.iter().flat_map(|rooms| rooms.members(task));
        members.copied().collect()
    }

    pub(super) fn contains(&self, task: TaskId, conn: ConnId) -> bool {
        let rooms = self.0.get(conn.outlet());
        rooms.is_some_and(|rooms| rooms.contains(task, conn))
    }

    /// What `conn` watches.
    pub(super) fn rooms_of(&self, conn: ConnId) -> impl Iterator<Item = TaskId> {
        let rooms = self.0.get(conn.outlet());
        rooms
            .into_iter()
            .flat_map(move |rooms| rooms.rooms_of(conn))
    }
}

impl Hub {
    /// Lets a connection watch a task.
    pub(super) fn watch(&mut self, now: Now, task: TaskId, conn: ConnId) {
        if self.tasks.join(task, conn) {
            self.order(now, Order::Enter { task, conn });
        }
    }

    /// Has a connection watch a task no longer. Whether it did.
    pub(super) fn unwatch(&mut self, now: Now, task: TaskId, conn: ConnId) -> bool {
        let Some(place) = self.tasks.leave(task, conn) else {
            return false;
        };
        self.order(now, Order::Leave { task, conn, place });
        true
    }
}
