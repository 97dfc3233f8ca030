//! What the core refuses, in words for people and codes for programs.

use crate::ids::{EventId, EventType, RoomId, TaskId};
use crate::lifecycle::Status;

/// Longest piece of a refused text that an error repeats, in characters.
const EXCERPT_MAX: usize = 48;
/// Longest piece of what a parser says, in characters: it may repeat a whole text that it refuses.
const SAID_MAX: usize = 200;

/// Why something was refused. The text says what was wrong and what to do; [`Error::code`] is stable.
///
/// ```
/// use fanfare_core::{Error, RoomId};
/// let error = "room:7".parse::<RoomId>().unwrap_err();
/// assert_eq!(error.code(), "bad_request");
/// assert!(error.to_string().contains("task:{uuid}"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not of its form.
    #[error("{what} {got:?} is malformed: expected {expected}")]
    Malformed {
        /// What the text should have been.
        what: &'static str,
        /// The beginning of the text.
        got: String,
        /// The form that is accepted.
        expected: &'static str,
    },
    /// A message or publish that can't be understood, or asks for what can't be.
    #[error("{0}")]
    BadRequest(String),
    /// Something is larger than its limit.
    #[error("{what} has {size} {unit}, and at most {limit} are accepted")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// What is counted.
        unit: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The type belongs to the server.
    #[error("type `{0}` is the server's own: choose a namespace other than `system` and `inbox`")]
    ReservedType(EventType),
    /// A client may not do this. The words are the same whether the room exists or not.
    #[error("not allowed: {0}")]
    Forbidden(&'static str),
    /// The room is not one of this connection's.
    #[error("room {0} is not joined on this connection: join it first")]
    NotJoined(RoomId),
    /// The task's lifecycle does not allow the event.
    #[error("task {task} is {status}: `{event}` can't follow")]
    Lifecycle {
        /// The task.
        task: TaskId,
        /// The refused event.
        event: EventType,
        /// The state that the task is in.
        status: Status,
    },
    /// The task was deleted a short while ago.
    #[error("task {0} was deleted")]
    Gone(TaskId),
    /// The id was used for another event.
    #[error("id `{0}` was used for another event: a new event needs a new id")]
    IdReused(EventId),
    /// A connection has as many rooms as it may.
    #[error("this connection is in {0} rooms, which is the limit: leave one first")]
    TooManyRooms(usize),
    /// A client sends faster than it may.
    #[error("too many messages: at most {0} a second")]
    RateLimited(u32),
    /// The first message has to be `auth`.
    #[error("not authenticated: send {{\"op\":\"auth\",\"token\":…}} first")]
    Unauthenticated,
    /// The store has no space. Nothing was kept.
    #[error("the store's disk is full: nothing was kept; free some space, then try again")]
    StoreFull,
    /// The store can't do it now. Nothing was kept, as far as anybody can see until a restart.
    #[error("the store is unavailable: {0}")]
    Unavailable(&'static str),
    /// A newer version wrote the store.
    #[error(
        "the store's rows have layout {found}, and this version knows layouts up to {known}: run the version that wrote it, or a later one"
    )]
    NewerStore {
        /// Its layout.
        found: u32,
        /// The newest layout that is known here.
        known: u32,
    },
    /// What the store has was not written by a hub.
    #[error(
        "the store's rows are not what a Fanfare server wrote: restore a copy, or begin a new store"
    )]
    UnreadableStore,
    /// The server is shutting down.
    #[error("the server is draining: try again at another instance, or in a moment")]
    Draining,
}

impl Error {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } | Self::BadRequest(_) => "bad_request",
            Self::TooLarge { .. } => "too_large",
            Self::ReservedType(_) => "reserved_type",
            Self::Forbidden(_) => "forbidden",
            Self::NotJoined(_) => "not_joined",
            Self::Lifecycle { .. } => "lifecycle",
            Self::Gone(_) => "gone",
            Self::IdReused(_) => "id_reused",
            Self::TooManyRooms(_) => "too_many_rooms",
            Self::RateLimited(_) => "rate_limited",
            Self::Unauthenticated => "unauthenticated",
            Self::StoreFull => "store_full",
            Self::Unavailable(_) => "unavailable",
            Self::NewerStore { .. } => "newer_store",
            Self::UnreadableStore => "unreadable_store",
            Self::Draining => "draining",
        }
    }

    /// JSON that is not of its form: `what` can't be read, and what the parser says of that, cut where it is long.
    #[must_use]
    pub fn unreadable(what: &str, error: &serde_json::Error) -> Self {
        let said = error.to_string();
        let excerpt: String = said.chars().take(SAID_MAX).collect();
        let rest = if excerpt.len() < said.len() {
            "…"
        } else {
            ""
        };
        Self::BadRequest(format!("{what}: {excerpt}{rest}"))
    }

    pub(crate) fn malformed(what: &'static str, got: &str, expected: &'static str) -> Self {
        Self::Malformed {
            what,
            got: got.chars().take(EXCERPT_MAX).collect(),
            expected,
        }
    }
}
