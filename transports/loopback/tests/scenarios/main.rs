//! What a hub does, as scripts: one file a behaviour.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows tests by their attribute, and not what they share"
)]

mod bus;
mod cache;
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
mod restart;
mod restore;
mod resume;
mod retries;
mod rights;
mod rows;
mod slow;
mod store;
mod store_failures;
mod task_rooms;
mod user_rooms;
mod worlds;

use fanfare_core::{Draft, Error, History, Limits, Publish, Receipt, RoomId, Target, Ticket};
use fanfare_loopback::{Received, Settings, StoreSettings, World, draft, task, user};
use std::ops::RangeInclusive;
use std::process::Command;

/// What is not played again: scripts that choose whether there is a store, and what is so in memory only.
const ONCE: [&str; 13] = [
    "cache::",
    "restart::",
    "restore::",
    "rows::",
    "store::",
    "store_failures::",
    "inbox::a_device_whose_room_began_anew_while_it_was_away_gets_all_that_is_kept",
    "inbox::a_number_that_names_no_epoch_counts_for_nothing_once_the_room_began_anew",
    "inbox::who_is_there_when_the_users_room_begins_anew_is_told_what_is_unread_now",
    "inbox::inboxes_are_bounded_in_bytes_and_the_one_idle_longest_is_forgotten",
    "slow::a_task_deleted_after_its_room_left_the_memory_begins_anew_for_who_still_reads_it",
    "slow::a_room_that_is_forgotten_when_a_client_falls_behind_tells_it_of_the_new_epoch",
    "resume::a_room_that_was_forgotten_for_want_of_memory_tells_its_members_of_a_new_epoch",
];

/// The same scripts, in a process of their own, in which each world has a store that answers at once.
#[test]
fn every_scenario_is_played_over_a_store_too() {
    play_again("FANFARE_LOOPBACK_STORE", &ONCE);
}

/// And in which connections are served by three outlets, one after the other.
#[test]
fn every_scenario_is_played_over_several_outlets_too() {
    play_again("FANFARE_LOOPBACK_OUTLETS", &[]);
}

fn play_again(variable: &str, but: &[&str]) {
    const AGAIN: &str = "FANFARE_LOOPBACK_AGAIN";
    if std::env::var_os(AGAIN).is_some() {
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(AGAIN, "1").env(variable, "1").arg("--quiet");
    again.args(but.iter().flat_map(|name| ["--skip", name]));
    let output = again.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "with {variable}:\n{told}");
}

/// The numbers in `room` of the events among `received`.
fn seqs(received: &[Received], room: impl Into<RoomId>) -> Vec<u64> {
    let room = room.into();
    let events = received.iter().filter_map(Received::event);
    events
        .filter_map(|event| event.rooms.get(&room).copied())
        .collect()
}

/// A world with a store whose commits and reads take so long.
fn stored(seed: u64, commit_ms: RangeInclusive<u64>, fetch_ms: RangeInclusive<u64>) -> World {
    stored_within(seed, commit_ms, fetch_ms, Limits::default())
}

fn stored_within(
    seed: u64,
    commit_ms: RangeInclusive<u64>,
    fetch_ms: RangeInclusive<u64>,
    limits: Limits,
) -> World {
    World::with(Settings {
        seed,
        limits,
        store: Some(StoreSettings {
            commit_ms,
            fetch_ms,
            ..StoreSettings::default()
        }),
        ..Settings::default()
    })
}

fn chat(number: u64) -> Draft {
    draft("chat:message", number)
}

fn as_id(id: &str, draft: Draft) -> Draft {
    draft.with_id(id.parse().unwrap())
}

/// The numbers of the kept events in a room, as its history has them.
fn kept(world: &mut World, room: impl Into<RoomId>) -> Vec<u64> {
    let page = world.history(room, History::default());
    page.events.iter().map(|(seq, _)| seq.number()).collect()
}

fn to_task(number: u32, users: &[u64], draft: Draft) -> Publish {
    let users = users.iter().copied().map(user).collect();
    let target = Target::Task {
        task: task(number),
        users,
    };
    Publish { target, draft }
}

fn to_user(number: u64, draft: Draft) -> Publish {
    let target = Target::User(user(number));
    Publish { target, draft }
}

/// Begins all of them in this moment.
fn begin(world: &mut World, publishes: impl IntoIterator<Item = Publish>) -> Vec<Ticket> {
    let publishes = publishes.into_iter();
    publishes.map(|it| world.begin_publish(it)).collect()
}

/// Waits for all answers.
fn answers(world: &mut World, tickets: Vec<Ticket>) -> Vec<Result<Receipt, Error>> {
    let tickets = tickets.into_iter();
    tickets.map(|it| world.wait_answer(it)).collect()
}

/// Of answers: the number in the first room, or the code of the refusal.
fn told(answers: &[Result<Receipt, Error>]) -> Vec<String> {
    let seq = |receipt: &Receipt| receipt.rooms().first().unwrap().seq;
    let told = |answer: &Result<Receipt, Error>| match answer {
        Ok(receipt) if receipt.duplicate() => format!("{} again", seq(receipt)),
        Ok(receipt) => seq(receipt).to_string(),
        Err(error) => error.code().to_owned(),
    };
    answers.iter().map(told).collect()
}
