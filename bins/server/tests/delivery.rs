//! What is published gets to everybody in the room: all of it, in one order, once each.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::Write;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};
use server::raw::Raw;
use server::scene::{CHAT, EVENTS, Scene, tell};
use server::{API_KEY, handshake, token_of};

const ROOM: &str = "task:550e8400-e29b-41d4-a716-446655440000";
const SUBSCRIBERS: u64 = 50;
const PUBLISHERS: usize = 4;
const EACH: u64 = 500;
const ALL: u64 = PUBLISHERS as u64 * EACH;

/// Reads all events. Their ids, in the order in which they came; `user` is the room whose events they are, too.
fn read(mut client: Raw, user: Option<&str>) -> Vec<Value> {
    let mut next = [0; PUBLISHERS];
    let ids = (1..=ALL).map(|seq| {
        let mut event = client.json();
        let mut rooms = json!({ROOM: seq});
        if let Some(user) = user {
            rooms[user] = seq.into();
        }
        assert_eq!(event["rooms"], rooms, "{user:?}: {event}");
        let data = &event["data"];
        let publisher = data["publisher"].as_u64().unwrap();
        let of_publisher = &mut next[usize::try_from(publisher).unwrap()];
        assert_eq!(data["number"], *of_publisher, "{user:?}: {event}");
        *of_publisher += 1;
        event["id"].take()
    });
    let ids = ids.collect();
    // Nothing more comes before the answer to this.
    client.say(r#"{"op":"ping","ref":"last"}"#);
    assert_eq!(client.json()["data"]["ref"], "last", "{user:?}");
    ids
}

#[test]
fn fifty_subscribers_get_two_thousand_publishes_each_in_one_order_once_each() {
    let limit = SUBSCRIBERS.to_string();
    let mut scene = Scene::start(&["--connections-per-user", &limit]);
    // Half of them are the user's whom every publish names: one event by two rooms comes once.
    let clients: Vec<_> = (0..SUBSCRIBERS)
        .map(|number| match number % 2 {
            0 => (scene.client(), Some("user:7")),
            _ => (
                scene.open(CHAT, &token_of(100 + number, r#"["*"]"#)).0,
                None,
            ),
        })
        .collect();
    let bearer = format!("Authorization: Bearer {API_KEY}");
    let bus = Raw::upgrade(
        scene.address,
        &handshake("/v1/bus?types=chat:*", &[&bearer]),
    );
    let (orders, on_the_bus) = thread::scope(|threads| {
        let readers: Vec<_> = clients
            .into_iter()
            .map(|(client, user)| threads.spawn(move || read(client, user)))
            .collect();
        let bus = threads.spawn(move || {
            let mut bus = bus;
            assert_eq!(bus.json()["type"], "system:welcome");
            read(bus, Some("user:7"))
        });
        for publisher in 0..PUBLISHERS {
            let mut backend = scene.connect();
            threads.spawn(move || {
                for number in 0..EACH {
                    let data =
                        json!({"publisher": publisher, "number": number, "pad": "x".repeat(128)});
                    let body = json!({"type": "chat:message", "users": [7], "data": data});
                    let answer = tell(&mut backend, EVENTS, &body.to_string());
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            });
        }
        let orders: Vec<_> = readers.into_iter().map(|it| it.join().unwrap()).collect();
        (orders, bus.join().unwrap())
    });
    for (number, order) in orders.iter().enumerate() {
        assert!(
            *order == on_the_bus,
            "subscriber {number} saw another order"
        );
    }
    scene.assert_unharmed("all of them");
}

/// How many writes there were, and how many frames went by them.
fn written(scene: &mut Scene) -> (u64, u64) {
    let writes = scene.metric("fanfare_writes_total");
    (writes, scene.metric("fanfare_frames_written_total"))
}

#[test]
fn a_delivery_is_one_write_and_what_waits_goes_by_the_same_one() {
    let mut scene = Scene::start(&[]);
    let mut clients: Vec<_> = (0..10).map(|_| scene.client()).collect();
    let mut get = |events: u64| {
        for client in &mut clients {
            (0..events).for_each(|_| assert_eq!(client.json()["type"], "chat:message"));
        }
    };
    let body = r#"{"type":"chat:message"}"#;
    let before = written(&mut scene);
    for _ in 0..20 {
        assert_eq!(scene.tell(EVENTS, body).status, 200);
        get(1);
    }
    let after = written(&mut scene);
    assert_eq!((after.0 - before.0, after.1 - before.1), (200, 200));
    // Publishes that are all there when the server looks.
    let mut backend = scene.connect();
    let key = format!("Authorization: Bearer {API_KEY}\r\nContent-Type: application/json");
    let head = format!("POST {EVENTS} HTTP/1.1\r\nHost: a\r\n{key}\r\n");
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    scene.signal(Signal::STOP);
    backend.write_all(request.repeat(10).as_bytes()).unwrap();
    scene.signal(Signal::CONT);
    get(10);
    let last = written(&mut scene);
    let (writes, frames) = (last.0 - after.0, last.1 - after.1);
    assert_eq!(frames, 100);
    assert!(writes <= 50, "{writes} writes for {frames} frames");
    scene.assert_unharmed("all of them");
}
