//! What back ends do.

use super::World;
use crate::observation::Observed;
use fanfare_core::{
    Draft, Error, Input, Publish, Publisher, Receipt, RoomId, Target, TaskEventBroadcaster, TaskId,
    Ticket, UserId,
};

/// A back end of a world, for [`TaskEventBroadcaster`].
///
/// ```
/// use fanfare_core::Payload;
/// use fanfare_loopback::{World, task, user};
/// let mut world = World::new(1);
/// let mut tasks = world.broadcaster();
/// tasks.created(task(1), &[user(7)], Payload::default())?;
/// assert!(tasks.created(task(1), &[], Payload::default()).is_err());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug)]
pub struct BackEnd<'a>(&'a mut World);

impl Publisher for BackEnd<'_> {
    type Answer = Result<Receipt, Error>;

    fn publish(&mut self, publish: Publish) -> Self::Answer {
        self.0.try_publish(publish)
    }
}

impl World {
    /// A back end publishes to a room, or with none to the bus only.
    ///
    /// # Panics
    /// Where it is refused.
    #[track_caller]
    pub fn publish(&mut self, room: Option<RoomId>, draft: Draft) -> Receipt {
        self.accepted(room.into(), draft)
    }

    /// A back end publishes one event to a task's room and to the rooms of `users`.
    ///
    /// # Panics
    /// Where it is refused.
    #[track_caller]
    pub fn publish_to_task(&mut self, task: TaskId, users: &[UserId], draft: Draft) -> Receipt {
        let users = users.to_vec();
        self.accepted(Target::Task { task, users }, draft)
    }

    /// A back end publishes to a user's room.
    ///
    /// # Panics
    /// Where it is refused.
    #[track_caller]
    pub fn publish_to_user(&mut self, user: UserId, draft: Draft) -> Receipt {
        self.accepted(Target::User(user), draft)
    }

    /// A back end publishes, and is refused with this code.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn publish_refused(&mut self, target: Target, draft: Draft, code: &str) -> Error {
        match self.try_publish(Publish { target, draft }) {
            Err(error) if error.code() == code => error,
            other => self.fail(&format!("a refusal: {code}"), &format!("{other:?}")),
        }
    }

    /// A back end publishes, whatever becomes of it; time passes until it is answered.
    #[track_caller]
    pub fn try_publish(&mut self, publish: Publish) -> Result<Receipt, Error> {
        let ticket = self.begin_publish(publish);
        self.wait_answer(ticket)
    }

    /// Takes the answer to a publish; time passes until it is there.
    #[track_caller]
    pub fn wait_answer(&mut self, ticket: Ticket) -> Result<Receipt, Error> {
        self.wait_for("an answer to a publish", super::WAIT_MAX_MS, |world| {
            world.answer(ticket)
        })
    }

    /// A back end publishes, and does not wait for the answer.
    pub fn begin_publish(&mut self, publish: Publish) -> Ticket {
        let ticket = self.next_ticket();
        self.note(format!("a back end publishes {}", shown(&publish)));
        self.observe(Observed::Publishing {
            ticket,
            publish: publish.clone(),
        });
        self.in_flight.insert(ticket, publish.clone());
        self.feed(Input::Publish { ticket, publish });
        self.arrive();
        ticket
    }

    /// Takes the answer to a publish, where it is there. After a restart it never comes.
    pub fn answer(&mut self, ticket: Ticket) -> Option<Result<Receipt, Error>> {
        self.answers.remove(&ticket)
    }

    pub(super) fn published(&mut self, ticket: Ticket, result: Result<Receipt, Error>) {
        let Some(publish) = self.in_flight.remove(&ticket) else {
            self.fail("one answer to a publish", "one more");
        };
        if let Err(error) = &result {
            self.note(format!("  it is refused: {error}"));
        }
        self.answers.insert(ticket, result.clone());
        self.observe(Observed::Published {
            ticket,
            publish,
            result,
        });
    }

    /// The seven events of a task's life, as a back end publishes them.
    #[must_use]
    pub const fn broadcaster(&mut self) -> TaskEventBroadcaster<BackEnd<'_>> {
        TaskEventBroadcaster::new(BackEnd(self))
    }

    #[track_caller]
    fn accepted(&mut self, target: Target, draft: Draft) -> Receipt {
        match self.try_publish(Publish { target, draft }) {
            Ok(receipt) => receipt,
            Err(error) => self.fail("a receipt", &error.to_string()),
        }
    }
}

fn shown(publish: &Publish) -> String {
    let Publish { target, draft } = publish;
    let data: String = draft.data.as_str().chars().take(40).collect();
    let target = match target {
        Target::Task { task, users } => users.iter().fold(format!("task:{task}"), |text, user| {
            format!("{text} user:{user}")
        }),
        Target::User(user) => format!("user:{user}"),
        Target::Bus => "the bus".to_owned(),
    };
    let id = draft.id.as_ref().map(|id| format!(" as {id}"));
    format!(
        "{}{} {data} to {target}",
        draft.kind,
        id.unwrap_or_default()
    )
}
