//! Whatever breaks the WebSocket protocol is answered by its close code, and by nothing else anywhere.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use server::broken_frames::broken_frames;
use server::raw::{Got, frame};
use server::scene::{SECRET, Scene};

#[test]
fn every_broken_frame_is_answered_by_its_close_code() {
    let mut scene = Scene::start(&[]);
    for (name, bytes, code) in broken_frames() {
        let mut client = scene.client();
        client.send(&bytes);
        let (last, goodbye) = client.close();
        assert!(
            matches!(last, Got::Close(Some(got), _) if got == code),
            "{name}: {last:?}"
        );
        assert!(
            goodbye.unwrap().contains(&format!("\"code\":{code}")),
            "{name}"
        );
        assert_eq!(client.next(), Got::End, "{name}");
        scene.assert_unharmed(name);
    }
    assert_eq!(scene.metric("fanfare_panics_total"), 0);
}

#[test]
fn what_is_said_before_and_in_a_broken_frame_is_in_no_log() {
    let mut scene = Scene::start(&[]);
    let text = format!(r#"{{"op":"ping","ref":"{SECRET}"}}"#);
    for (name, first, code) in [("binary", 0x82, 1003), ("reserved", 0x83, 1002)] {
        let mut client = scene.client();
        client.send(&frame(0x81, text.as_bytes()));
        assert_eq!(client.json()["data"]["ref"], SECRET, "{name}");
        client.send(&frame(first, text.as_bytes()));
        let last = client.close().0;
        assert!(
            matches!(last, Got::Close(Some(got), _) if got == code),
            "{name}: {last:?}"
        );
        scene.assert_unharmed(name);
    }
}

#[test]
fn a_message_that_is_never_finished_is_1008() {
    let mut scene = Scene::start(&["--message-timeout", "200ms"]);
    for (name, bytes) in [
        ("half a header", vec![0x81]),
        ("half a frame", frame(0x81, SECRET.as_bytes())[..9].to_vec()),
        ("a fragment", frame(0x01, SECRET.as_bytes())),
    ] {
        let mut client = scene.client();
        client.send(&bytes);
        let last = client.close().0;
        assert!(
            matches!(last, Got::Close(Some(1008), _)),
            "{name}: {last:?}"
        );
        scene.assert_unharmed(name);
    }
}

#[test]
fn a_close_frame_is_answered_in_kind_and_one_that_may_not_be_by_1002() {
    let mut scene = Scene::start(&[]);
    let close = |code: u16| [&code.to_be_bytes(), SECRET.as_bytes()].concat();
    for (name, payload, code) in [
        ("without a code", vec![], None),
        ("1000", close(1000), Some(1000)),
        ("4999", close(4999), Some(4999)),
        ("999", close(999), Some(1002)),
        ("1005", close(1005), Some(1002)),
        ("1006", close(1006), Some(1002)),
        ("5000", close(5000), Some(1002)),
    ] {
        let mut client = scene.client();
        client.send(&frame(0x88, &payload));
        let (last, _) = client.close();
        assert!(
            matches!(last, Got::Close(got, _) if got == code),
            "{name}: {last:?}"
        );
        assert_eq!(client.next(), Got::End, "{name}");
        scene.assert_unharmed(name);
    }
}
