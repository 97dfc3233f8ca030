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
use std::process::Command;

/// What a script shows of a hub whose log is in memory only, and which is not so where there is a store.
const IN_MEMORY_ONLY: [&str; 3] = [
    "inbox::a_device_whose_room_began_anew_while_it_was_away_gets_all_that_is_kept",
    "inbox::inboxes_are_bounded_in_bytes_and_the_one_idle_longest_is_forgotten",
    "resume::a_room_that_was_forgotten_for_want_of_memory_tells_its_members_of_a_new_epoch",
];

/// The same scripts, in a process of their own, in which each world has a store that answers at once.
#[test]
fn every_scenario_is_played_over_a_store_too() {
    const STORE: &str = "FANFARE_LOOPBACK_STORE";
    if std::env::var_os(STORE).is_some() {
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(STORE, "1").args(["--quiet", "--exact"]);
    again.args(IN_MEMORY_ONLY.iter().flat_map(|name| ["--skip", name]));
    let output = again.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "over a store:\n{told}");
}

/// The numbers in `room` of the events among `received`.
fn seqs(received: &[Received], room: impl Into<RoomId>) -> Vec<u64> {
    let room = room.into();
    let events = received.iter().filter_map(Received::event);
    events
        .filter_map(|event| event.rooms.get(&room).copied())
        .collect()
}
