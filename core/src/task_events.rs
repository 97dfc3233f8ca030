//! The task's lifecycle events, one method each (ADR 017, decision 3).
//!
//! Each goes to the task's room and to the rooms of the users named, as one event. Whether it may follow is decided
//! where it is published, by the table of `lifecycle`.

use crate::event::{Draft, Publish, Target};
use crate::ids::{TaskId, UserId};
use crate::lifecycle::TaskEvent;
use crate::payload::Payload;

/// What takes a publish: a hub, or a handle of one in another thread.
///
/// ```
/// use fanfare_core::{Publish, Publisher};
/// struct Collected(Vec<Publish>);
/// impl Publisher for Collected {
///     type Answer = ();
///     fn publish(&mut self, publish: Publish) {
///         self.0.push(publish);
///     }
/// }
/// ```
pub trait Publisher {
    /// What a publish is answered with.
    type Answer;

    /// Takes one publish.
    fn publish(&mut self, publish: Publish) -> Self::Answer;
}

/// Tells a task's watchers, and the users concerned, what becomes of it.
///
/// ```
/// use fanfare_core::{Hub, Limits, Now, Payload, TaskEventBroadcaster, TaskId, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let task: TaskId = "550e8400-e29b-41d4-a716-446655440000".parse()?;
/// let mut tasks = TaskEventBroadcaster::new(hub.at(Now::default()));
/// let receipt = tasks.created(task, &[UserId::new(7)], Payload::default())?;
/// assert_eq!(receipt.rooms().len(), 2);
/// assert!(tasks.created(task, &[], Payload::default()).is_err());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug)]
pub struct TaskEventBroadcaster<P>(P);

impl<P: Publisher> TaskEventBroadcaster<P> {
    /// A broadcaster that publishes by `publisher`.
    pub const fn new(publisher: P) -> Self {
        Self(publisher)
    }

    /// `task:created`: the task is there, and not at work yet.
    pub fn created(&mut self, task: TaskId, users: &[UserId], data: Payload) -> P::Answer {
        self.broadcast(TaskEvent::Created, task, users, data)
    }

    /// `task:started`: it is at work.
    pub fn started(&mut self, task: TaskId, users: &[UserId], data: Payload) -> P::Answer {
        self.broadcast(TaskEvent::Started, task, users, data)
    }

    /// `task:completed`: it ended well.
    pub fn completed(&mut self, task: TaskId, users: &[UserId], data: Payload) -> P::Answer {
        self.broadcast(TaskEvent::Completed, task, users, data)
    }

    /// `task:failed`: it ended badly.
    pub fn failed(&mut self, task: TaskId, users: &[UserId], data: Payload) -> P::Answer {
        self.broadcast(TaskEvent::Failed, task, users, data)
    }

    /// `task:cancelled`: it was ended before it was done.
    pub fn cancelled(&mut self, task: TaskId, users: &[UserId], data: Payload) -> P::Answer {
        self.broadcast(TaskEvent::Cancelled, task, users, data)
    }

    /// `task:status`: how far it is. The data becomes the snapshot's `last`.
    pub fn status_changed(&mut self, task: TaskId, users: &[UserId], data: Payload) -> P::Answer {
        self.broadcast(TaskEvent::Status, task, users, data)
    }

    /// `task:deleted`: it is gone, and its log with it.
    pub fn deleted(&mut self, task: TaskId, users: &[UserId], data: Payload) -> P::Answer {
        self.broadcast(TaskEvent::Deleted, task, users, data)
    }

    fn broadcast(
        &mut self,
        event: TaskEvent,
        task: TaskId,
        users: &[UserId],
        data: Payload,
    ) -> P::Answer {
        self.0.publish(Publish {
            target: Target::Task {
                task,
                users: users.to_vec(),
            },
            draft: Draft::new(event.event_type(), data),
        })
    }
}
