//! What is asked of a hub, and what it answers.

use super::Hub;
use crate::history::{self, History, Page};
use crate::ids::{Epoch, RoomId, Seq, TaskId, UserId};
use crate::inbox::KnownDevice;
use crate::tasks::Snapshot;
use crate::time::Now;
use serde::Serialize;

/// A task as a back end may look at it. Serialises as the body of `GET /v1/tasks/{id}`.
///
/// ```
/// use fanfare_core::{Hub, Limits, Now, TaskId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let task: TaskId = "550e8400-e29b-41d4-a716-446655440000".parse()?;
/// assert_eq!(hub.task(Now::default(), task).connected, 0);
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskView {
    /// The task.
    pub task: TaskId,
    /// Its snapshot.
    pub state: Snapshot,
    /// Its room's epoch.
    pub epoch: Epoch,
    /// Its room's last seq.
    pub seq: Seq,
    /// Connections in its room.
    pub connected: usize,
}

/// A user's inbox as a back end may look at it. Serialises as the body of `GET /v1/users/{id}/inbox`.
///
/// ```
/// use fanfare_core::{Draft, Hub, Limits, Now, Payload, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let draft = Draft::new("user:notification".parse()?, Payload::default());
/// hub.at(Now::default()).publish_to_user(UserId::new(7), draft)?;
/// assert_eq!(hub.inbox(Now::default(), UserId::new(7)).unread, 1);
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboxView {
    /// The user's room.
    pub room: RoomId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its last seq.
    pub seq: Seq,
    /// Notifications that are kept and that the user has not read.
    pub unread: usize,
    /// Connections in it.
    pub connected: usize,
    /// The devices that the server knows, by name.
    pub devices: Vec<KnownDevice>,
}

/// What is asked of a hub, by a back end or for a client.
///
/// ```
/// use fanfare_core::{Answer, Effect, Hub, Input, Limits, Now, Query, Ticket, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let query = Query::Inbox(UserId::new(7));
/// hub.handle(Now::default(), Input::Query { ticket: Ticket(1), query });
/// let Some(Effect::Answered { result: Ok(Answer::Inbox(inbox)), .. }) = hub.poll() else { panic!() };
/// assert_eq!(inbox.unread, 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// A task as it is now; of one that nothing was heard of the state is unknown.
    Task(TaskId),
    /// A user's inbox.
    Inbox(UserId),
    /// A part of a room's log.
    History {
        /// The room.
        room: RoomId,
        /// Which part.
        history: History,
    },
}

/// What a [`Query`] is answered with.
///
/// ```
/// use fanfare_core::Answer;
/// fn is_history(answer: &Answer) -> bool {
///     matches!(answer, Answer::History(_))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A task.
    Task(TaskView),
    /// A user's inbox.
    Inbox(InboxView),
    /// A part of a room's log.
    History(Page),
}

pub(super) const NEEDS_A_QUERY: &str =
    "a hub with a store answers by `Effect::Published` and `Effect::Answered`";

impl Hub {
    /// A task as it is now; of one that nothing was heard of the state is unknown.
    ///
    /// # Panics
    /// With a store, since the task may have to be read first: see [`Query::Task`].
    pub fn task(&mut self, now: Now, task: TaskId) -> TaskView {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        self.task_view(now, task)
    }

    pub(super) fn task_view(&mut self, now: Now, task: TaskId) -> TaskView {
        let position = self.bus.position(task.into());
        TaskView {
            task,
            state: self.bus.snapshot(now.wall, task),
            epoch: position.epoch,
            seq: position.seq,
            connected: self.tasks.count(task),
        }
    }

    /// Whether the task was deleted in the last 24 hours: it can't be joined, and no event is taken for it.
    ///
    /// # Panics
    /// With a store, since the task may have to be read first: see [`Query::Task`].
    #[must_use]
    pub fn is_gone(&self, now: Now, task: TaskId) -> bool {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        self.bus.is_gone(now.wall, task)
    }

    /// The tasks of which an event came last, at most `count`, the latest first.
    #[must_use]
    pub fn recent_tasks(&self, now: Now, count: usize) -> Vec<(TaskId, Snapshot)> {
        let recent = self.bus.recent_tasks(now.wall);
        recent
            .take(count)
            .map(|(task, snapshot)| (task, snapshot.clone()))
            .collect()
    }

    /// A part of a room's log.
    ///
    /// # Panics
    /// With a store, since it may have to be read first: see [`Query::History`].
    #[must_use]
    pub fn history(&mut self, now: Now, room: RoomId, history: &History) -> Page {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        history::read(&mut self.bus, now.wall, room, history)
    }

    /// A user's inbox as a back end may look at it.
    ///
    /// # Panics
    /// With a store, since it may have to be read first: see [`Query::Inbox`].
    #[must_use]
    pub fn inbox(&mut self, now: Now, user: UserId) -> InboxView {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        self.inbox_view(now, user)
    }

    pub(super) fn inbox_view(&self, now: Now, user: UserId) -> InboxView {
        let devices = self.bus.known_devices(now.wall, user, &self.devices);
        let position = self.bus.position(user.into());
        InboxView {
            room: user.into(),
            epoch: position.epoch,
            seq: position.seq,
            unread: self.bus.unread(user),
            connected: self.users.members(user).len(),
            devices,
        }
    }
}
