//! What a publish is answered with.

use crate::ids::{Epoch, EventId, RoomId, Seq};
use crate::text::decimal;

/// What became of a publish in one of its rooms.
///
/// ```
/// use fanfare_core::RoomReceipt;
/// fn was_seen(room: &RoomReceipt) -> bool {
///     room.connected > 0
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomReceipt {
    /// The room.
    pub room: RoomId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The event's number in it.
    pub seq: Seq,
    /// Connections in the room at the moment of the append.
    pub connected: usize,
}

/// Bytes of a room's part of the JSON, about.
const ROOM_JSON: usize = 128;

/// The answer to a publish.
///
/// ```
/// use fanfare_core::{Draft, Hub, Limits, Now, Payload, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let draft = Draft::new("user:notification".parse()?, Payload::default());
/// let receipt = hub.at(Now::default()).publish_to_user(UserId::new(7), draft)?;
/// assert_eq!(receipt.rooms()[0].seq.number(), 1);
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    id: EventId,
    duplicate: bool,
    rooms: Vec<RoomReceipt>,
}

impl Receipt {
    pub(crate) const fn new(id: EventId, rooms: Vec<RoomReceipt>) -> Self {
        Self {
            id,
            duplicate: false,
            rooms,
        }
    }

    /// This answer, given again to a retry.
    pub(crate) fn duplicate_of(&self) -> Self {
        Self {
            duplicate: true,
            ..self.clone()
        }
    }

    /// The event's id.
    #[must_use]
    pub const fn id(&self) -> &EventId {
        &self.id
    }

    /// Whether the event had been taken before: this is the first answer again.
    #[must_use]
    pub const fn duplicate(&self) -> bool {
        self.duplicate
    }

    /// The rooms: the task's first, then the users' in their order.
    #[must_use]
    pub fn rooms(&self) -> &[RoomReceipt] {
        &self.rooms
    }

    /// The body of the HTTP API's `200`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ROOM_JSON * (1 + self.rooms.len()));
        // Ids, rooms and epochs have no character that JSON would have to escape.
        out.extend_from_slice(br#"{"id":""#);
        out.extend_from_slice(self.id.as_str().as_bytes());
        out.extend_from_slice(if self.duplicate {
            br#"","duplicate":true,"rooms":{"#
        } else {
            br#"","duplicate":false,"rooms":{"#
        });
        for (at, room) in self.rooms.iter().enumerate() {
            out.extend_from_slice(if at == 0 { br#"""# } else { br#",""# });
            room.room.write(&mut out);
            out.extend_from_slice(br#"":{"epoch":""#);
            out.extend_from_slice(room.epoch.as_str().as_bytes());
            out.extend_from_slice(br#"","seq":"#);
            decimal(&mut out, room.seq.number());
            out.extend_from_slice(br#","connected":"#);
            decimal(&mut out, room.connected as u64);
            out.push(b'}');
        }
        out.extend_from_slice(b"}}");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_written_as_http_api_md_shows_it() {
        let room = |room: &str, seq, connected| RoomReceipt {
            room: room.parse().unwrap(),
            epoch: "k3J9".parse().unwrap(),
            seq: Seq::new(seq).unwrap(),
            connected,
        };
        let id: EventId = "order:17".parse().unwrap();
        let nowhere = Receipt::new(id.clone(), Vec::new());
        assert_eq!(
            String::from_utf8(nowhere.to_json()).unwrap(),
            r#"{"id":"order:17","duplicate":false,"rooms":{}}"#
        );
        let task = "task:550e8400-e29b-41d4-a716-446655440000";
        let two = Receipt::new(id, vec![room(task, 18, 3), room("user:7", 41, 0)]);
        assert_eq!(
            String::from_utf8(two.duplicate_of().to_json()).unwrap(),
            r#"{"id":"order:17","duplicate":true,"rooms":{"task:550e8400-e29b-41d4-a716-446655440000":{"epoch":"k3J9","seq":18,"connected":3},"user:7":{"epoch":"k3J9","seq":41,"connected":0}}}"#
        );
    }
}
