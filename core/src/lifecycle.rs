//! Which lifecycle event may follow in which state of a task: one table.
//!
//! Keeps *Terminal is terminal*. Who publishes the events is `task_events`' business, what is remembered of a task `tasks`'.

use crate::ids::EventType;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The seven events in a task's life.
///
/// ```
/// use fanfare_core::TaskEvent;
/// assert_eq!(TaskEvent::Created.event_type().as_str(), "task:created");
/// assert_eq!(TaskEvent::of(&"task:failed".parse()?), Some(TaskEvent::Failed));
/// assert_eq!(TaskEvent::of(&"chat:message".parse()?), None);
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskEvent {
    /// `task:created`
    Created,
    /// `task:started`
    Started,
    /// `task:completed`
    Completed,
    /// `task:failed`
    Failed,
    /// `task:cancelled`
    Cancelled,
    /// `task:status`
    Status,
    /// `task:deleted`
    Deleted,
}

impl TaskEvent {
    /// All of them, in the order of a task's life.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Started,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Status,
        Self::Deleted,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "task:created",
            Self::Started => "task:started",
            Self::Completed => "task:completed",
            Self::Failed => "task:failed",
            Self::Cancelled => "task:cancelled",
            Self::Status => "task:status",
            Self::Deleted => "task:deleted",
        }
    }

    /// The event's type on the wire.
    #[must_use]
    pub fn event_type(self) -> EventType {
        #[expect(clippy::expect_used, reason = "a test parses all seven")]
        self.as_str()
            .parse()
            .expect("the seven names are valid types")
    }

    /// The lifecycle event that `kind` names, if it is one.
    #[must_use]
    pub fn of(kind: &EventType) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|event| event.as_str() == kind.as_str())
    }
}

/// Where a task is in its life.
///
/// ```
/// use fanfare_core::{Status, TaskEvent};
/// assert_eq!(Status::Created.after(TaskEvent::Started), Some(Status::Started));
/// assert_eq!(Status::Completed.after(TaskEvent::Failed), None);
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The server has heard of no event that says it.
    #[default]
    Unknown,
    /// Not started yet.
    Created,
    /// At work.
    Started,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Ended before it was done.
    Cancelled,
    /// Gone.
    Deleted,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Created,
        Self::Started,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Deleted,
    ];

    /// The state after `event`, or `None` where `event` can't follow.
    #[must_use]
    pub const fn after(self, event: TaskEvent) -> Option<Self> {
        match (self, event) {
            (Self::Deleted, _) => None,
            (_, TaskEvent::Deleted) => Some(Self::Deleted),
            // A task may be older than the server: the first event that is heard of it may be any.
            (Self::Unknown, TaskEvent::Created) => Some(Self::Created),
            (Self::Unknown | Self::Created, TaskEvent::Started) => Some(Self::Started),
            (Self::Unknown | Self::Started, TaskEvent::Completed) => Some(Self::Completed),
            (Self::Unknown | Self::Created | Self::Started, TaskEvent::Failed) => {
                Some(Self::Failed)
            }
            (Self::Unknown | Self::Created | Self::Started, TaskEvent::Cancelled) => {
                Some(Self::Cancelled)
            }
            (Self::Unknown | Self::Created | Self::Started, TaskEvent::Status) => Some(self),
            (
                Self::Created | Self::Started | Self::Completed | Self::Failed | Self::Cancelled,
                _,
            ) => None,
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Created => "created",
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Deleted => "deleted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_and_every_event_is_decided_as_the_protocol_says() {
        // Columns as in `TaskEvent::ALL`; `-` stands for a refusal.
        let table = [
            (
                Status::Unknown,
                "created started completed failed cancelled unknown deleted",
            ),
            (
                Status::Created,
                "- started - failed cancelled created deleted",
            ),
            (
                Status::Started,
                "- - completed failed cancelled started deleted",
            ),
            (Status::Completed, "- - - - - - deleted"),
            (Status::Failed, "- - - - - - deleted"),
            (Status::Cancelled, "- - - - - - deleted"),
            (Status::Deleted, "- - - - - - -"),
        ];
        assert_eq!(table.map(|(status, _)| status), Status::ALL);
        for (status, row) in table {
            let decided = TaskEvent::ALL.map(|event| {
                status
                    .after(event)
                    .map_or_else(|| "-".to_owned(), |after| after.to_string())
            });
            assert_eq!(decided.join(" "), row, "{status}");
        }
    }

    #[test]
    fn the_seven_types_are_those_of_the_adr() {
        let types = TaskEvent::ALL.map(|event| event.event_type().to_string());
        assert_eq!(
            types.join(" "),
            "task:created task:started task:completed task:failed task:cancelled task:status task:deleted"
        );
        for event in TaskEvent::ALL {
            assert_eq!(TaskEvent::of(&event.event_type()), Some(event));
        }
    }
}
