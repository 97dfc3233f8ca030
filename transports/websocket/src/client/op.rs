//! What a client may say.

use fanfare_core::{Epoch, EventId, EventType, Payload, Position, RoomId, Seq};
use serde::Serialize;

/// A message of a client, where the messages of [`Connection`](super::Connection) are not enough.
///
/// ```
/// use fanfare_websocket::client::Op;
/// let op = Op::Join { reference: Some(1), room: "task:550e8400-e29b-41d4-a716-446655440000".parse()?, since: None };
/// assert_eq!(serde_json::to_string(&op)?, r#"{"op":"join","ref":1,"room":"task:550e8400-e29b-41d4-a716-446655440000"}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Op {
    /// Joins one more task's room.
    Join {
        /// Comes back in the reply.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// The room.
        room: RoomId,
        /// From where to replay.
        #[serde(skip_serializing_if = "Option::is_none")]
        since: Option<Position>,
    },
    /// Leaves a room.
    Leave {
        /// Comes back in the reply.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// The room.
        room: RoomId,
    },
    /// Sends an event to a task's room.
    Send {
        /// Comes back in the reply.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// The room.
        room: RoomId,
        /// The event's type.
        #[serde(rename = "type")]
        kind: EventType,
        /// Its content.
        data: Payload,
        /// Its id, the same for every retry.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<EventId>,
    },
    /// This device has everything in its user's room up to a position: it is not sent again.
    Ack {
        /// Comes back in the reply.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// The room's epoch: a position of another is refused.
        epoch: Epoch,
        /// The number of the last event that it has.
        seq: Seq,
    },
    /// The user has read everything up to a number in the user's room, on whatever device.
    Read {
        /// Comes back in the reply.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<u64>,
        /// The room's epoch, where it is said: a number of another is refused.
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
        /// The number.
        up_to: Seq,
    },
}
