//! What a client was sent, as it reads it off the wire: by the names in the JSON, not by the core's types.

use fanfare_core::{CloseCode, Gap, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// An event as it stood in a frame.
///
/// ```
/// use fanfare_loopback::{Handshake, Received, World, draft, user};
/// let mut world = World::new(1);
/// let alice = world.connect(Handshake::notifications(user(7)));
/// world.publish_to_user(user(7), draft("note:added", 1));
/// let [Received::Event(event)] = &world.received(alice)[..] else { panic!() };
/// assert_eq!(event.rooms[&user(7).into()], 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenEvent {
    /// `type`
    #[serde(rename = "type")]
    pub kind: String,
    /// `id`
    pub id: String,
    /// `at`
    pub at: String,
    /// `from`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `ephemeral`
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
    /// `rooms`, with the number in each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rooms: BTreeMap<RoomId, u64>,
    /// `unread`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<u64>,
    /// `data`
    pub data: Value,
}

/// One thing that reached a client.
///
/// ```
/// use fanfare_loopback::Received;
/// assert_eq!(Received::Cut.to_string(), r#"{"type":"cut"}"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// An event.
    Event(SeenEvent),
    /// What the server says about itself.
    System {
        /// `type`
        kind: String,
        /// `data`
        data: Value,
    },
    /// A ping of the transport.
    Ping,
    /// A close frame; nothing comes after it.
    Closed {
        /// Its code.
        code: CloseCode,
        /// Its reason.
        reason: String,
    },
    /// The end of the connection without a close frame.
    Cut,
    /// A subscription of the bus was given up, since its subscriber was too slow.
    Overrun,
}

impl Received {
    /// The event, where it is one.
    #[must_use]
    pub const fn event(&self) -> Option<&SeenEvent> {
        match self {
            Self::Event(event) => Some(event),
            Self::System { .. } | Self::Ping | Self::Closed { .. } | Self::Cut | Self::Overrun => {
                None
            }
        }
    }

    /// The `data` of what the server says about itself as `kind`, where it is that.
    #[must_use]
    pub fn system(&self, kind: &str) -> Option<&Value> {
        match self {
            Self::System { kind: its, data } if its == kind => Some(data),
            Self::System { .. }
            | Self::Event(_)
            | Self::Ping
            | Self::Closed { .. }
            | Self::Cut
            | Self::Overrun => None,
        }
    }

    /// Reads a text frame.
    ///
    /// # Errors
    /// What is not of the form that `docs/protocol.md` gives.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
        if !kind.starts_with("system:") {
            return serde_json::from_value(json)
                .map(Self::Event)
                .map_err(|error| error.to_string());
        }
        let fields = json.as_object().map_or(0, serde_json::Map::len);
        match json.get("data") {
            Some(data) if fields == 2 => Ok(Self::System {
                kind: kind.to_owned(),
                data: data.clone(),
            }),
            _ => Err("expected `type` and `data` only".to_owned()),
        }
    }

    /// A gap as a subscriber in the hub's thread is told of it.
    pub(crate) fn gap(room: RoomId, gap: &Gap) -> Self {
        let mut data = serde_json::to_value(gap).unwrap_or_default();
        if let Some(fields) = data.as_object_mut() {
            fields.insert("room".to_owned(), json!(room));
        }
        Self::System {
            kind: "system:gap".to_owned(),
            data,
        }
    }

    /// As one JSON object; what is no frame has a `type` of its own.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Event(event) => serde_json::to_value(event).unwrap_or_default(),
            Self::System { kind, data } => json!({"type": kind, "data": data}),
            Self::Ping => json!({"type": "ping"}),
            Self::Closed { code, reason } => {
                json!({"type": "close", "data": {"code": code.number(), "reason": reason}})
            }
            Self::Cut => json!({"type": "cut"}),
            Self::Overrun => json!({"type": "overrun"}),
        }
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}
