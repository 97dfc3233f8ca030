//! Clients that send more than they may, and take less than they ask for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::Write;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use server::raw::{Got, Raw, frame};
use server::scene::{EVENTS, SECRET, Scene};

const ROOM: &str = "task:550e8400-e29b-41d4-a716-446655440000";

/// Writes on a thread of its own, as far as the server lets it.
fn pour(client: &Raw, bytes: Vec<u8>) -> JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ = stream.write_all(&bytes);
    })
}

#[test]
fn floods_are_closed_by_their_code_while_they_last() {
    let mut scene = Scene::start(&[]);
    let ping = frame(0x89, SECRET.as_bytes());
    let pong = frame(0x8a, SECRET.as_bytes());
    let op = frame(
        0x81,
        format!(r#"{{"op":"ping","ref":"{SECRET}"}}"#).as_bytes(),
    );
    let send =
        format!(r#"{{"op":"send","room":"{ROOM}","type":"chat:message","data":"{SECRET}"}}"#);
    for (name, bytes, code) in [
        ("pings", ping.repeat(100_000), 4013),
        ("ops", op.repeat(100_000), 4013),
        ("sends", frame(0x81, send.as_bytes()).repeat(10_000), 4013),
        (
            "nonsense",
            frame(0x81, SECRET.as_bytes()).repeat(100_000),
            4509,
        ),
        (
            "pings between fragments",
            [frame(0x01, b"\""), ping.repeat(100_000)].concat(),
            4013,
        ),
        (
            "a million empty fragments",
            [frame(0x01, b""), frame(0x00, b"").repeat(1_000_000)].concat(),
            1008,
        ),
        (
            "a message without an end",
            frame(0x01, &[b' '; 60_000]).repeat(100),
            1002,
        ),
        (
            "fragments without an end",
            [frame(0x01, b"\""), frame(0x00, &[b' '; 60_000]).repeat(100)].concat(),
            1009,
        ),
        (
            "messages over the limit",
            frame(0x81, &[b' '; 100_000]).repeat(100),
            1009,
        ),
        // Nothing is asked for by these; they are read and forgotten.
        (
            "pongs",
            [pong.repeat(100_000), frame(0x88, b"")].concat(),
            0,
        ),
    ] {
        let mut client = scene.client();
        let pouring = pour(&client, bytes);
        let (last, goodbye) = client.close();
        if code == 0 {
            assert_eq!(last, Got::Close(None, String::new()), "{name}");
        } else {
            assert!(
                matches!(last, Got::Close(Some(got), _) if got == code),
                "{name}: {last:?}"
            );
            assert!(goodbye.is_some(), "{name}");
        }
        pouring.join().unwrap();
        scene.assert_unharmed(name);
    }
    assert_eq!(scene.metric("fanfare_panics_total"), 0);
}

#[test]
fn a_client_above_its_rate_is_told_so_then_closed_with_4013_and_what_was_refused_was_not_done() {
    let mut scene = Scene::start(&["--messages-burst", "10", "--messages-per-second", "1"]);
    let mut client = scene.client();
    let send = json!({"op": "send", "room": ROOM, "type": "chat:message", "data": SECRET});
    let (mut sent, mut refused) = (0, 0);
    let goodbye = loop {
        client.say(&send.to_string());
        let json = client.json();
        match json["type"].as_str().unwrap() {
            "chat:message" => sent += 1,
            "system:reply" => {
                assert_eq!(json["data"]["error"]["code"], "rate_limited", "{json}");
                refused += 1;
            }
            _ => break json,
        }
        assert!(sent + refused < 1_000, "it goes on and on");
    };
    assert!(sent >= 10 && refused > 0, "{sent} sent, {refused} refused");
    assert_eq!(goodbye["data"]["code"], 4013, "{goodbye}");
    assert_eq!(goodbye["data"]["retry"], "after", "{goodbye}");
    assert!(goodbye["data"]["retry_after_ms"].is_u64(), "{goodbye}");
    assert!(matches!(client.next(), Got::Close(Some(4013), _)));
    let receipt = scene.tell(EVENTS, r#"{"type":"chat:message"}"#).json();
    assert_eq!(receipt["rooms"][ROOM]["seq"], sent + 1);
    scene.assert_unharmed("above its rate");
}

#[test]
fn a_client_that_asks_and_does_not_read_the_answers_holds_a_bounded_number_of_them() {
    let mut scene = Scene::start(&[
        "--messages-burst",
        "1000000000",
        "--outbox-bytes",
        "64KiB",
        "--close-timeout",
        "1h",
        "--pong-timeout",
        "1h",
    ]);
    let op = br#"{"op":"ping","ref":1}"#;
    let mut client = scene.narrow_client();
    let answer = r#"{"type":"system:reply","data":{"ref":1,"ok":true}}"#;
    client.send(&frame(0x81, op));
    assert_eq!(client.text(), answer);
    assert_eq!(scene.metric("fanfare_messages_read_total"), 1);
    let before = scene.resident_kib();
    let ops = frame(0x81, op).repeat(10_000);
    // What was answered and not written is more than the outbox and its reserve.
    let mut asked = 1;
    let held = loop {
        client.send(&ops);
        asked += 10_000;
        while scene.metric("fanfare_messages_read_total") < asked {}
        let written = scene.metric("fanfare_bytes_written_total");
        let held = (asked * answer.len() as u64).saturating_sub(written);
        if held > 1 << 20 {
            break held;
        }
        assert!(
            asked < 10_000_000,
            "{written} bytes went to who reads nothing"
        );
    };
    let grown = scene.resident_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB more for {held} bytes");
    let (last, goodbye) = client.close();
    assert!(matches!(last, Got::Close(Some(4008), _)), "{last:?}");
    let goodbye: Value = serde_json::from_str(&goodbye.unwrap()).unwrap();
    assert_eq!(goodbye["data"]["retry"], "after", "{goodbye}");
    scene.assert_unharmed("answers that nobody reads");
}
