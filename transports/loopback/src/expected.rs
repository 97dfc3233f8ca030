//! What a script expects a client to receive: as much of it as matters.

use crate::received::Received;
use fanfare_core::{CloseCode, RoomId, UserId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// A description of one received thing. What it does not name may be anything; of an event's rooms it names all or none.
///
/// ```
/// use fanfare_loopback::{Handshake, World, draft, event, user};
/// let mut world = World::new(1);
/// let alice = world.connect(Handshake::notifications(user(7)));
/// world.publish_to_user(user(7), draft("note:added", "milk"));
/// world.expect(alice, event("note:added").at(user(7), 1).with("/data", "milk"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    kind: String,
    rooms: BTreeMap<RoomId, u64>,
    fields: BTreeMap<String, Value>,
}

impl Expected {
    fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            rooms: BTreeMap::new(),
            fields: BTreeMap::new(),
        }
    }

    /// With this value at this place, a JSON pointer (RFC 6901). `null` also stands for a field that is not there.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(pointer.to_owned(), value.into());
        self
    }

    /// Through this room, with this number in it; and through no room that is not named so.
    #[must_use]
    pub fn at(mut self, room: impl Into<RoomId>, seq: u64) -> Self {
        self.rooms.insert(room.into(), seq);
        self
    }

    /// Not kept.
    #[must_use]
    pub fn ephemeral(self) -> Self {
        self.with("/ephemeral", true)
    }

    /// With so many notifications that the user has then not read.
    #[must_use]
    pub fn unread(self, count: u64) -> Self {
        self.with("/unread", count)
    }

    /// Sent by the client of a user.
    #[must_use]
    pub fn from(self, user: UserId) -> Self {
        self.with("/from", format!("user:{user}"))
    }

    /// In a welcome: standing at this number in this room.
    #[must_use]
    pub fn standing(self, room: impl Into<RoomId>, seq: u64) -> Self {
        let room = room.into();
        self.with(&format!("/data/rooms/{room}/seq"), seq)
    }

    /// In a welcome: whether everything since the position named is there. [`Value::Null`] where none was named.
    #[must_use]
    pub fn recovered(self, room: impl Into<RoomId>, recovered: impl Into<Value>) -> Self {
        let room = room.into();
        self.with(&format!("/data/rooms/{room}/recovered"), recovered)
    }

    /// Whether `received` is as described.
    #[must_use]
    pub fn matches(&self, received: &Received) -> bool {
        let json = received.to_json();
        let rooms: Map<String, Value> = self
            .rooms
            .iter()
            .map(|(room, seq)| (room.to_string(), json!(seq)))
            .collect();
        json.get("type").and_then(Value::as_str) == Some(&self.kind)
            && (rooms.is_empty() || json.get("rooms") == Some(&Value::Object(rooms)))
            && self
                .fields
                .iter()
                .all(|(pointer, value)| json.pointer(pointer).unwrap_or(&Value::Null) == value)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        let mut before = " through ";
        for (room, seq) in &self.rooms {
            write!(f, "{before}{room} as {seq}")?;
            before = " and ";
        }
        let mut before = " with ";
        for (pointer, value) in &self.fields {
            write!(f, "{before}{pointer} = {value}")?;
            before = ", ";
        }
        Ok(())
    }
}

/// An event of this type.
#[must_use]
pub fn event(kind: &str) -> Expected {
    Expected::new(kind)
}

/// `system:welcome`
#[must_use]
pub fn welcome() -> Expected {
    Expected::new("system:welcome")
}

/// `system:joined`: in this room, standing at this number.
#[must_use]
pub fn joined(room: impl Into<RoomId>, seq: u64) -> Expected {
    Expected::new("system:joined")
        .with("/data/room", room.into().to_string())
        .with("/data/seq", seq)
}

/// `system:left`: out of this room, for this reason.
#[must_use]
pub fn left(room: impl Into<RoomId>, reason: &str) -> Expected {
    Expected::new("system:left")
        .with("/data/room", room.into().to_string())
        .with("/data/reason", reason)
}

/// `system:gap`: these events of this room are missing, for this reason.
#[must_use]
pub fn gap(room: impl Into<RoomId>, from: u64, to: u64, reason: &str) -> Expected {
    Expected::new("system:gap")
        .with("/data/room", room.into().to_string())
        .with("/data/from", from)
        .with("/data/to", to)
        .with("/data/reason", reason)
}

/// `system:reply` to the message with this `ref`: it was done.
#[must_use]
pub fn reply(reference: impl Into<Value>) -> Expected {
    Expected::new("system:reply")
        .with("/data/ref", reference)
        .with("/data/ok", true)
}

/// `system:reply` to the message with this `ref`, or with none: it was refused with this code.
#[must_use]
pub fn refusal(reference: impl Into<Value>, code: &str) -> Expected {
    Expected::new("system:reply")
        .with("/data/ref", reference)
        .with("/data/ok", false)
        .with("/data/error/code", code)
}

/// `system:expiring`: the token ends in so many milliseconds.
#[must_use]
pub fn expiring(in_ms: u64) -> Expected {
    Expected::new("system:expiring").with("/data/in_ms", in_ms)
}

/// `system:goodbye` before a close with this code.
#[must_use]
pub fn goodbye(code: CloseCode) -> Expected {
    Expected::new("system:goodbye").with("/data/code", code.number())
}

/// A close frame with this code.
#[must_use]
pub fn closed(code: CloseCode) -> Expected {
    Expected::new("close").with("/data/code", code.number())
}

/// The end of the connection without a close frame.
#[must_use]
pub fn cut() -> Expected {
    Expected::new("cut")
}

/// The end of a subscription whose subscriber was too slow.
#[must_use]
pub fn overrun() -> Expected {
    Expected::new("overrun")
}
