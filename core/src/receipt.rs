//! What a publish is answered with.

use crate::ids::{Epoch, EventId, RoomId, Seq};
use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

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

/// The answer to a publish. Serialises as the body of the HTTP API's `200`.
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
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut receipt = serializer.serialize_struct("Receipt", 3)?;
        receipt.serialize_field("id", &self.id)?;
        receipt.serialize_field("duplicate", &self.duplicate)?;
        receipt.serialize_field("rooms", &Rooms(&self.rooms))?;
        receipt.end()
    }
}

struct Rooms<'a>(&'a [RoomReceipt]);

impl Serialize for Rooms<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Room<'a> {
            epoch: &'a Epoch,
            seq: Seq,
            connected: usize,
        }
        let mut rooms = serializer.serialize_map(Some(self.0.len()))?;
        for room in self.0 {
            let value = Room {
                epoch: &room.epoch,
                seq: room.seq,
                connected: room.connected,
            };
            rooms.serialize_entry(&room.room, &value)?;
        }
        rooms.end()
    }
}
