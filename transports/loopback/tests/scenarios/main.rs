//! What a hub does, as scripts: one file a behaviour.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute, and not what they share"
)]

mod bus;
mod determinism;
mod devices;
mod drain;
mod heartbeat;
mod inbox;
mod join_snapshot;
mod lifecycle;
mod limits;
mod malformed;
mod many_clients;
mod once_per_connection;
mod resume;
mod retries;
mod rights;
mod slow;
mod task_rooms;
mod user_rooms;
mod worlds;

use fanfare_core::RoomId;
use fanfare_loopback::Received;

/// The numbers in `room` of the events among `received`.
fn seqs(received: &[Received], room: impl Into<RoomId>) -> Vec<u64> {
    let room = room.into();
    let events = received.iter().filter_map(Received::event);
    events
        .filter_map(|event| event.rooms.get(&room).copied())
        .collect()
}
