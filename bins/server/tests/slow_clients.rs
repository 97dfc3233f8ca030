//! Clients that do not read: what is held for them is bounded, and nobody else notices.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::time::Instant;

use serde_json::Value;
use server::raw::{Got, PATIENCE, Raw};
use server::scene::{CHAT, EVENTS, SECRET, Scene};
use server::{API_KEY, TASK, handshake, token_of};

const ROOM: &str = "task:550e8400-e29b-41d4-a716-446655440000";
/// Bytes of an event's data.
const DATA: usize = 16 << 10;
/// Events: 32 MiB, more than the system holds for a connection.
const EVENTS_MAX: u64 = 2_000;
/// KiB that the server may grow by: the room's log, the outboxes, and some for what an allocator keeps.
const GROWTH_MAX: u64 = 12 << 10;

/// What is read of a room until its event `last`. No event is missing, or a gap says so.
fn read_to(client: &mut Raw, name: &str, last: u64) -> (u64, u64) {
    let (mut seq, mut events, mut missed) = (0, 0, 0);
    while seq < last {
        let json = client.json();
        let data = &json["data"];
        match json["type"].as_str().unwrap() {
            "chat:message" => {
                assert_eq!(json["rooms"][ROOM], seq + 1, "{name}: no silent gap");
                assert!(data.as_str().unwrap().len() == DATA, "{name}");
                (seq, events) = (seq + 1, events + 1);
            }
            "system:gap" => {
                assert_eq!(
                    (&data["room"], &data["reason"]),
                    (&ROOM.into(), &"slow".into())
                );
                assert_eq!(data["from"], seq + 1, "{name}: {json}");
                let to = data["to"].as_u64().unwrap();
                (seq, missed) = (to, missed + to - seq);
            }
            _ => panic!("{name}: {json}"),
        }
    }
    (events, missed)
}

#[test]
fn one_that_never_reads_a_hot_room_costs_a_bounded_memory_and_is_told_what_it_missed() {
    let outbox = ["--outbox-bytes", "256KiB", "--task-log-events", "64"];
    let patient = ["--pong-timeout", "1h", "--stall-timeout", "1h"];
    let mut scene = Scene::start(&[&outbox[..], &patient].concat());
    let bus = format!("Authorization: Bearer {API_KEY}");
    let mut idle = scene.narrow_client();
    let mut subscriber =
        Raw::narrow(scene.address).upgraded(&handshake("/v1/bus?types=chat:message", &[&bus]));
    assert_eq!(subscriber.json()["type"], "system:welcome");
    let (mut neighbour, _) = scene.open(CHAT, &token_of(9, r#"["*"]"#));
    let data = SECRET.repeat(DATA / SECRET.len() + 1)[..DATA].to_owned();
    let body = format!(r#"{{"type":"chat:message","data":"{data}"}}"#);
    let before = scene.resident_kib();
    for seq in 1..=EVENTS_MAX {
        let answer = scene.tell(EVENTS, &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        // Its neighbour in the room has each before the next is published.
        assert_eq!(neighbour.json()["rooms"][ROOM], seq);
        if seq % 500 == 0 {
            scene.assert_unharmed("a hot room");
            let grown = scene.resident_kib().saturating_sub(before);
            assert!(grown < GROWTH_MAX, "{grown} KiB more after {seq} events");
        }
    }
    for (name, client) in [("a client", &mut idle), ("the bus", &mut subscriber)] {
        let (events, missed) = read_to(client, name, EVENTS_MAX);
        assert!(
            events > 0 && missed > 0,
            "{name}: {events} came, {missed} did not"
        );
        // From here on it is live again.
        assert_eq!(scene.tell(EVENTS, &body).status, 200);
        let live = neighbour.json()["rooms"][ROOM].take();
        while client.json()["rooms"][ROOM] != live {}
    }
    scene.assert_unharmed("they read again");
}

#[test]
fn one_that_takes_nothing_for_too_long_is_given_up() {
    let timeouts = ["--stall-timeout", "200ms", "--close-timeout", "100ms"];
    let others = ["--pong-timeout", "1h", "--outbox-bytes", "64KiB"];
    let mut scene = Scene::start(&[&timeouts[..], &others].concat());
    let open = scene.metric("fanfare_connections");
    let mut idle = scene.narrow_client();
    let data = SECRET.repeat(DATA / SECRET.len());
    let body = format!(r#"{{"type":"chat:message","data":"{data}"}}"#);
    assert_eq!(scene.metric("fanfare_connections"), open + 1);
    // It ends with the socket that is never read, however full that is by then.
    let began = Instant::now();
    while scene.metric("fanfare_connections") > open {
        assert!(began.elapsed() < PATIENCE, "it is kept");
        assert_eq!(scene.tell(EVENTS, &body).status, 200);
    }
    let path = format!("/v1/tasks/{TASK}/events");
    let connected = scene.tell(&path, &body).json()["rooms"][ROOM]["connected"].take();
    assert_eq!(connected, Value::from(0));
    // Of what it had not taken nothing is left but what the system held.
    assert!(matches!(idle.close().0, Got::End | Got::Reset));
    scene.assert_unharmed("given up");
}
