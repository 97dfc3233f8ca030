//! What the log says, and what it never holds, however much it is asked to say.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use serde_json::Value;
use server::raw::{Got, Raw, frame};
use server::scene::{CHAT, SECRET, Scene};
use server::{API_KEY, SOCKET_KEY, Server, TASK, TOKEN_SECRET, command, handshake};
use server::{token, token_of, token_until};

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
    // Where it does not belong.
    let misplaced = format!("GET /v1/tasks/{token}/chat");
    assert_eq!(scene.request(&misplaced, &[], "").status, 426);
    let published = scene.publish(
        "/v1/events",
        &format!(r#"{{"type":"a:b","data":"{SECRET}"}}"#),
    );
    assert_eq!(published.status, 200);
    scene.assert_unharmed("all that has secrets");
    let log = scene.log();
    assert!(log.contains("answered"), "it did log: {log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let target = line["target"].as_str().unwrap();
        assert!(target.starts_with("fanfare"), "a library's line: {line}");
    }
}

/// The lines with this message that there are once `last` is in the log.
fn lines(server: &Server, last: &str, message: &str) -> Vec<Value> {
    let log = server.log_until(last);
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["message"] == message)
        .collect()
}

#[test]
fn each_connection_has_one_line_at_its_begin_and_one_at_its_end() {
    let server = Server::start(&["--auth-timeout", "1h"]);
    let bearer = format!("Authorization: Bearer {}", token());
    let key = format!("Authorization: Bearer {API_KEY}");
    let (chat, bus) = (handshake(CHAT, &[&bearer]), handshake("/v1/bus", &[&key]));
    let close = |code: u16| frame(0x88, &code.to_be_bytes());
    #[rustfmt::skip]
    let rows = [
        ("it leaves", &chat, close(1000), "task", "client", Some(1000)),
        ("it leaves with a code of its own", &chat, close(4999), "task", "client", Some(4999)),
        ("it leaves without a code", &bus, frame(0x88, b""), "bus", "client", None),
        ("it sends bytes", &chat, frame(0x82, b"x"), "task", "server", Some(1003)),
        ("it breaks the protocol", &chat, frame(0xf1, b"x"), "task", "server", Some(1002)),
        ("it is gone", &bus, vec![], "bus", "network", None),
    ];
    for (name, handshake, bytes, endpoint, by, code) in rows {
        let mut client = Raw::upgrade(server.address, handshake);
        let welcome = client.json();
        let conn = &welcome["data"]["conn"];
        client.send(&bytes);
        if by == "network" {
            drop(client);
        } else {
            client.close();
        }
        let end = format!(r#""disconnected","conn":{conn}"#);
        let ends = lines(&server, &end, "disconnected");
        let begins = lines(&server, &end, "connected");
        let of = |lines: Vec<Value>| {
            let mut lines = lines.into_iter().filter(|line| line["conn"] == *conn);
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("{name}: {}", server.log()));
            assert_eq!(
                (lines.next(), &line["level"]),
                (None, &"DEBUG".into()),
                "{name}"
            );
            line
        };
        let (begin, end) = (of(begins), of(ends));
        assert_eq!(begin["endpoint"], endpoint, "{name}");
        let of_a_task = |text| (endpoint == "task").then_some(text);
        assert_eq!(begin["user"].as_str(), of_a_task("7"), "{name}");
        assert_eq!(begin["task"].as_str(), of_a_task(TASK), "{name}");
        assert_eq!(end["by"], by, "{name}");
        assert_eq!(end["code"].as_u64(), code, "{name}");
    }
}

#[test]
fn who_is_refused_is_told_of_by_code_without_what_was_presented() {
    let secrets = [
        ("FANFARE_TOKEN_SECRET", TOKEN_SECRET),
        ("FANFARE_API_KEY", API_KEY),
    ];
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--allowed-origins",
        "https://ok.example",
    ];
    let bad = format!("{}x", token());
    let (expired, other) = (token_until(7, "[]", 1_000), token_of(7, "[]"));
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    let wrong = "wrong-key-0123456789";
    let upgrade = |more: &str| handshake(CHAT, &[more]);
    let post = |more: &str| format!("POST /v1/events HTTP/1.1\r\nHost: a\r\n{more}\r\n\r\n");
    #[rustfmt::skip]
    let rows = [
        ("no key", post("X: y"), None, "events", "unauthenticated"),
        ("a wrong key", post(&bearer(wrong)), None, "events", "bad_api_key"),
        ("a client's token", post(&bearer(&other)), None, "events", "forbidden"),
        ("a bad token", upgrade(&bearer(&bad)), None, "chat", "bad_token"),
        ("an expired token", upgrade(&bearer(&expired)), None, "chat", "token_expired"),
        ("a token that does not name the task", upgrade(&bearer(&other)), None, "chat", "forbidden"),
        ("another origin", upgrade("Origin: https://evil.test"), None, "chat", "origin"),
        ("a bad token as a message", upgrade("X: y"), Some(&bad), "", "bad_token"),
        ("an expired token as a message", upgrade("X: y"), Some(&expired), "", "token_expired"),
        ("a token that does not name the task as a message", upgrade("X: y"), Some(&other), "", "forbidden"),
        ("no token in time", upgrade("X: y"), None, "", "no_token"),
    ];
    for (name, request, message, route, code) in rows {
        // Its own server: what happens again within a second is not said again.
        let patience = if code == "no_token" { "1ms" } else { "1h" };
        let all = [&arguments[..], &["--auth-timeout", patience]].concat();
        let server = Server::spawn(command(&all, &secrets));
        let mut client = Raw::connect(server.address);
        client.send(request.as_bytes());
        if let Some(token) = message {
            client.send(&frame(
                0x81,
                format!(r#"{{"op":"auth","token":"{token}"}}"#).as_bytes(),
            ));
        }
        let refused = lines(&server, "refused", "refused");
        assert_eq!(refused.len(), 1, "{name}");
        let line = &refused[0];
        assert_eq!(
            (&line["code"], &line["level"]),
            (&code.into(), &"INFO".into()),
            "{name}: {line}"
        );
        assert_eq!(line["times"], 1, "{name}");
        assert!(line["reason"].as_str().unwrap().len() > 5, "{name}: {line}");
        assert_eq!(line["route"].as_str().unwrap_or_default(), route, "{name}");
        assert_eq!(line["conn"].is_string(), route.is_empty(), "{name}");
        let log = server.log();
        for secret in [&bad, &expired, &other, wrong, SOCKET_KEY] {
            assert!(!log.contains(secret), "{name}: {log}");
        }
        assert!(!log.contains("DEBUG"), "{name}: {log}");
    }
}

#[test]
fn what_happens_again_and_again_is_not_said_again_and_again() {
    let server = Server::start(&[]);
    let asked = 300;
    for _ in 0..asked {
        assert_eq!(server.request("POST /v1/events", &[], "").status, 401);
    }
    let said = lines(&server, "refused", "refused").len();
    assert!(said < asked / 2, "{said} lines");
}
