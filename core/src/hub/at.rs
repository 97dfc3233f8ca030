//! Publishing in the hub's own thread.

use super::Hub;
use super::queries::NEEDS_A_QUERY;
use crate::error::Error;
use crate::event::{Draft, Publish, Target};
use crate::ids::{RoomId, TaskId, UserId};
use crate::receipt::Receipt;
use crate::task_events::Publisher;
use crate::time::Now;

/// A hub at one moment, as a publisher in the hub's own thread.
///
/// ```
/// use fanfare_core::{Draft, Hub, Limits, Now, Payload, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let draft = Draft::new("user:notification".parse()?, Payload::default());
/// hub.at(Now::default()).publish_to_user(UserId::new(7), draft)?;
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug)]
pub struct At<'a> {
    hub: &'a mut Hub,
    now: Now,
}

impl Hub {
    /// A publisher in this thread, at this time.
    ///
    /// # Panics
    /// With a store, where an answer can't come at once: see [`Input::Publish`](crate::Input::Publish).
    pub fn at(&mut self, now: Now) -> At<'_> {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        At { hub: self, now }
    }
}

impl At<'_> {
    /// Publishes to `room`, or with none to the bus's subscribers only.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`](crate::EventBus::publish_to_task), and [`Error::Draining`].
    pub fn publish(&mut self, room: Option<RoomId>, draft: Draft) -> Result<Receipt, Error> {
        let target = room.into();
        self.hub.publish(self.now, Publish { target, draft })
    }

    /// Publishes one event to a task's room and to the rooms of `users`.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`](crate::EventBus::publish_to_task), and [`Error::Draining`].
    pub fn publish_to_task(
        &mut self,
        task: TaskId,
        users: &[UserId],
        draft: Draft,
    ) -> Result<Receipt, Error> {
        let users = users.to_vec();
        let target = Target::Task { task, users };
        self.hub.publish(self.now, Publish { target, draft })
    }

    /// Publishes to a user's room.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`](crate::EventBus::publish_to_task), and [`Error::Draining`].
    pub fn publish_to_user(&mut self, user: UserId, draft: Draft) -> Result<Receipt, Error> {
        self.publish(Some(user.into()), draft)
    }
}

impl Publisher for At<'_> {
    type Answer = Result<Receipt, Error>;

    fn publish(&mut self, publish: Publish) -> Self::Answer {
        self.hub.publish(self.now, publish)
    }
}
