//! An event: what a publisher hands in, what the log keeps, and the JSON that receivers get.

use crate::error::Error;
use crate::frame::Frame;
use crate::ids::{Epoch, EventId, EventType, Key, RoomId, Seq, TaskId, UserId};
use crate::payload::Payload;
use crate::text::decimal;
use crate::time::Wall;

/// Most users that one publish may name.
pub const USERS_MAX: usize = 100;

/// Whether an event is kept for those who come later.
///
/// ```
/// use fanfare_core::Retention;
/// assert_ne!(Retention::Kept, Retention::Ephemeral { key: None });
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Retention {
    /// It gets a seq, is kept in the log and replayed.
    #[default]
    Kept,
    /// It goes to who is there now, and moves no position.
    Ephemeral {
        /// A later event of the same room and key replaces this one where it still waits to be sent.
        key: Option<Key>,
    },
}

/// An event as a publisher hands it in.
///
/// ```
/// use fanfare_core::{Draft, Payload};
/// let draft = Draft::new("chat:message".parse()?, Payload::parse("{}")?);
/// assert!(draft.id.is_none());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What kind of event it is.
    pub kind: EventType,
    /// Its content.
    pub data: Payload,
    /// The publisher's own id, by which a retry is known; the server makes one up otherwise.
    pub id: Option<EventId>,
    /// Whether it is kept.
    pub retention: Retention,
    /// Whether it counts as a notification; `None` leaves it to the type.
    pub notify: Option<bool>,
}

impl Draft {
    /// A kept event without an id of the publisher's.
    #[must_use]
    pub const fn new(kind: EventType, data: Payload) -> Self {
        Self {
            kind,
            data,
            id: None,
            retention: Retention::Kept,
            notify: None,
        }
    }

    /// The same event under the publisher's own `id`.
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// The same event, not kept.
    #[must_use]
    pub fn ephemeral(mut self, key: Option<Key>) -> Self {
        self.retention = Retention::Ephemeral { key };
        self
    }
}

/// Whom a publish is for.
///
/// ```
/// use fanfare_core::{Target, UserId};
/// assert_ne!(Target::User(UserId::new(7)), Target::Bus);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A task's room, and the rooms of some users: one event, kept in all of them or in none.
    Task {
        /// The task.
        task: TaskId,
        /// At most [`USERS_MAX`]; one that stands twice counts once.
        users: Vec<UserId>,
    },
    /// A user's room.
    User(UserId),
    /// No room: the bus's subscribers only.
    Bus,
}

impl From<Option<RoomId>> for Target {
    fn from(room: Option<RoomId>) -> Self {
        match room {
            Some(RoomId::Task(task)) => Self::Task {
                task,
                users: Vec::new(),
            },
            Some(RoomId::User(user)) => Self::User(user),
            None => Self::Bus,
        }
    }
}

impl Target {
    /// The rooms, each once: the task's first, then the users' in their order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than [`USERS_MAX`] users.
    pub(crate) fn rooms(&self) -> Result<Vec<RoomId>, Error> {
        let (task, users) = match self {
            Self::Task { task, users } => (Some(*task), users.as_slice()),
            Self::User(user) => (None, std::slice::from_ref(user)),
            Self::Bus => (None, [].as_slice()),
        };
        if users.len() > USERS_MAX {
            return Err(Error::TooLarge {
                what: "users",
                size: users.len(),
                unit: "entries",
                limit: USERS_MAX,
            });
        }
        let mut users = users.to_vec();
        users.sort_unstable();
        users.dedup();
        let task = task.into_iter().map(RoomId::Task);
        Ok(task.chain(users.into_iter().map(RoomId::User)).collect())
    }
}

/// One publish: an event, and whom it is for.
///
/// ```
/// use fanfare_core::{Draft, Payload, Publish, Target, UserId};
/// let draft = Draft::new("user:notification".parse()?, Payload::default());
/// let publish = Publish { target: Target::User(UserId::new(7)), draft };
/// assert!(publish.draft.id.is_none());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Whom it is for.
    pub target: Target,
    /// The event.
    pub draft: Draft,
}

/// An event that the server took.
///
/// ```
/// use fanfare_core::Event;
/// fn is_chat(event: &Event) -> bool {
///     event.kind.namespace() == "chat"
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What kind of event it is.
    pub kind: EventType,
    /// Its name: the same for everybody who gets it.
    pub id: EventId,
    /// When the server took it. Never runs backwards.
    pub at: Wall,
    /// The user whose client sent it; `None` for a back end's.
    pub from: Option<UserId>,
    /// Its content.
    pub data: Payload,
    /// Whether it is kept.
    pub retention: Retention,
    /// Whether it counts as a notification in the rooms of its users.
    pub notifies: bool,
}

/// A room of an entry, with the event's place in it.
///
/// ```
/// use fanfare_core::Place;
/// fn position(place: &Place) -> String {
///     format!("{}@{}:{}", place.room, place.epoch, place.seq)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The room.
    pub room: RoomId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The event's number in it; the room's head, unchanged, for an ephemeral event.
    pub seq: Seq,
}

/// One publish in the log: the event with its place in all its rooms and in the order of all entries.
///
/// ```
/// use fanfare_core::Entry;
/// fn names_a_room(entry: &Entry) -> bool {
///     !entry.places().is_empty()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    index: u64,
    event: Event,
    places: Box<[Place]>,
}

impl Entry {
    pub(crate) const fn new(index: u64, event: Event, places: Box<[Place]>) -> Self {
        Self {
            index,
            event,
            places,
        }
    }

    /// The place among all entries: rises by 1 for each kept one. An ephemeral entry has that of the next kept one.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// The rooms: the task's first, then the users' in their order. Empty where only the bus's subscribers get it.
    #[must_use]
    pub const fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether the log keeps it.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        matches!(self.event.retention, Retention::Kept)
    }

    /// Bytes that keeping it costs, about.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>()
            + self.event.data.as_str().len()
            + self.event.id.as_str().len()
            + self.places.len() * size_of::<Place>()
    }

    /// The event for a receiver that is in `places`; live through the user's room, with what that user then has `unread`.
    /// O(its bytes).
    #[must_use]
    pub fn encode<'a>(
        &self,
        places: impl IntoIterator<Item = (&'a RoomId, Seq)>,
        unread: Option<usize>,
    ) -> Frame {
        let event = &self.event;
        Frame::build(256 + event.data.as_str().len(), |out| {
            // Types, ids and rooms have no character that JSON would have to escape.
            out.extend_from_slice(br#"{"type":""#);
            out.extend_from_slice(event.kind.as_str().as_bytes());
            out.extend_from_slice(br#"","id":""#);
            out.extend_from_slice(event.id.as_str().as_bytes());
            out.extend_from_slice(br#"","at":""#);
            event.at.write(out);
            out.push(b'"');
            if let Some(user) = event.from {
                out.extend_from_slice(br#","from":""#);
                RoomId::User(user).write(out);
                out.push(b'"');
            }
            if !self.is_kept() {
                out.extend_from_slice(br#","ephemeral":true"#);
            }
            let mut before = &br#","rooms":{""#[..];
            for (room, seq) in places {
                out.extend_from_slice(before);
                room.write(out);
                out.extend_from_slice(br#"":"#);
                decimal(out, seq.number());
                before = br#",""#;
            }
            if before == br#",""# {
                out.push(b'}');
            }
            if let Some(unread) = unread {
                out.extend_from_slice(br#","unread":"#);
                decimal(out, unread as u64);
            }
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(event.data.as_str().as_bytes());
            out.push(b'}');
            Ok(())
        })
    }

    /// The event with all its rooms, as the bus's subscribers get it.
    #[must_use]
    pub fn encode_all(&self) -> Frame {
        let places = self.places.iter();
        let places = places.skip(usize::from(planted!(BusLeavesRoomOut)));
        self.encode(places.map(|place| (&place.room, place.seq)), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_encoded_as_protocol_md_shows_it() {
        let task: RoomId = "task:550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let user: RoomId = "user:7".parse().unwrap();
        let event = Event {
            kind: "task:status".parse().unwrap(),
            id: "0192f3c4".parse().unwrap(),
            at: Wall::from_unix_millis(1_763_885_820_123),
            from: None,
            data: Payload::parse(r#"{"status":"running","progress":0.4}"#).unwrap(),
            retention: Retention::Kept,
            notifies: false,
        };
        let entry = Entry::new(1, event.clone(), Box::new([]));
        let seq = |number| Seq::new(number).unwrap();
        assert_eq!(
            entry
                .encode([(&task, seq(18)), (&user, seq(41))], None)
                .text(),
            r#"{"type":"task:status","id":"0192f3c4","at":"2025-11-23T08:17:00.123Z","rooms":{"task:550e8400-e29b-41d4-a716-446655440000":18,"user:7":41},"data":{"status":"running","progress":0.4}}"#
        );
        let event = Event {
            from: Some(UserId::new(7)),
            retention: Retention::Ephemeral { key: None },
            ..event
        };
        let live = Entry::new(1, event.clone(), Box::new([]));
        assert!(
            live.encode([(&user, seq(41))], Some(3))
                .text()
                .contains(r#""rooms":{"user:7":41},"unread":3,"data""#)
        );
        assert_eq!(
            Entry::new(1, event, Box::new([])).encode_all().text(),
            r#"{"type":"task:status","id":"0192f3c4","at":"2025-11-23T08:17:00.123Z","from":"user:7","ephemeral":true,"data":{"status":"running","progress":0.4}}"#
        );
    }

    #[test]
    fn a_user_named_twice_is_one_room_and_the_hundred_and_first_is_refused() {
        let task: TaskId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let users = |count| (0..count).map(UserId::new).collect::<Vec<_>>();
        let twice = vec![UserId::new(9), UserId::new(7), UserId::new(9)];
        let rooms = Target::Task { task, users: twice }.rooms().unwrap();
        assert_eq!(
            rooms,
            [task.into(), UserId::new(7).into(), UserId::new(9).into()]
        );
        assert!(
            Target::Task {
                task,
                users: users(100)
            }
            .rooms()
            .is_ok()
        );
        assert_eq!(
            Target::Task {
                task,
                users: users(101)
            }
            .rooms()
            .unwrap_err()
            .code(),
            "too_large"
        );
    }
}
