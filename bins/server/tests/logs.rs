//! What the log never holds, however much it is asked to say.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use server::raw::{Got, Raw, frame};
use server::scene::{CHAT, SECRET, Scene};
use server::{API_KEY, Server, TASK, handshake, token};

/// Opens a WebSocket, sends `frames`, waits until the server has said `answer`, and leaves with a reason.
fn say(server: &Server, handshake: &str, frames: &[Vec<u8>], answer: &str) {
    let mut client = Raw::upgrade(server.address, handshake);
    client.send(&frames.concat());
    loop {
        let got = client.next();
        assert!(!matches!(got, Got::End | Got::Reset), "no {answer}");
        if format!("{got:?}").contains(answer) {
            break;
        }
    }
    let close = [&1000_u16.to_be_bytes(), SECRET.as_bytes()].concat();
    client.send(&frame(0x88, &close));
    client.close();
}

#[test]
fn a_log_that_says_all_there_is_holds_no_token_no_key_and_no_payload() {
    let mut scene = Scene::start(&[]);
    let token = token();
    let text = |text: &str| frame(0x81, text.as_bytes());
    let send = format!(
        r#"{{"op":"send","ref":1,"room":"task:{TASK}","type":"chat:message","data":"{SECRET}"}}"#
    );
    let auth = format!(r#"{{"op":"auth","token":"{token}"}}"#);
    let offer = format!("+Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.{token}");
    let key = format!("Authorization: Bearer {API_KEY}");
    let by_query = handshake(&format!("{CHAT}?token={token}"), &[]);
    let by_message = handshake(CHAT, &[]);
    for (handshake, frames, answer) in [
        (&by_query, vec![text(&send)], SECRET),
        (&by_query, vec![text(SECRET)], "bad_request"),
        (&by_query, vec![frame(0x89, SECRET.as_bytes())], "Pong"),
        (&by_query, vec![frame(0x82, SECRET.as_bytes())], "goodbye"),
        (&by_message, vec![text(&auth)], "welcome"),
        (&handshake(CHAT, &[&offer]), vec![], "welcome"),
        (&handshake("/v1/bus", &[&key]), vec![], "welcome"),
    ] {
        say(&scene, handshake, &frames, answer);
    }
    let published = scene.publish(
        "/v1/events",
        &format!(r#"{{"type":"a:b","data":"{SECRET}"}}"#),
    );
    assert_eq!(published.status, 200);
    scene.assert_unharmed("all that has secrets");
    let log = scene.log();
    assert!(log.contains("answered"), "it did log: {log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let target = line["target"].as_str().unwrap();
        assert!(target.starts_with("fanfare"), "a library's line: {line}");
    }
}
