//! What a hostile or broken beginning of a WebSocket gets, over raw sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use server::raw::{Got, Raw, frame};
use server::scene::{NOTIFICATIONS, SECRET, Scene};
use server::{
    API_KEY, OURS, SOCKET_KEY, Server, TASK, TOKEN_SECRET, handshake, signed_as, token, token_of,
};

#[test]
fn every_fault_of_a_handshake_has_its_answer() {
    let mut scene = Scene::start(&[]);
    #[rustfmt::skip]
    let rows: &[(&[&str], u16, &str, &str)] = &[
        (&[], 101, "sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (&["-Upgrade"], 426, "upgrade", "websocket"),
        (&["Connection: close"], 426, "upgrade", "websocket"),
        (&["Sec-WebSocket-Version: 8"], 426, "sec-websocket-version", "13"),
        (&["-Sec-WebSocket-Key"], 400, "", ""),
        (&["+Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="], 400, "", ""),
        (&["Sec-WebSocket-Key: AAAA"], 400, "", ""),
        (&["Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="], 400, "", ""),
        (&["+Content-Length: 5"], 400, "connection", "close"),
        (&["+Transfer-Encoding: chunked"], 400, "connection", "close"),
        (&["+Sec-WebSocket-Protocol: soap, wamp"], 400, "", ""),
        (&["+Sec-WebSocket-Protocol: fanfare.v1"], 101, "sec-websocket-protocol", "fanfare.v1"),
        (&["+Sec-WebSocket-Extensions: permessage-deflate"], 101, "sec-websocket-extensions", ""),
        (&["+X-Long: "], 101, "", ""),
    ];
    for (changes, status, name, value) in rows {
        let answer = scene.send(handshake(NOTIFICATIONS, changes));
        assert_eq!(answer.status, *status, "{changes:?}: {answer:?}");
        assert_eq!(answer.header(name), *value, "{changes:?}: {answer:?}");
        if *status != 101 {
            answer.code();
        }
        scene.assert_unharmed(&format!("{changes:?}"));
    }
    for method in ["POST", "PUT", "HEAD", "OPTIONS"] {
        let text = handshake(NOTIFICATIONS, &[]).replacen("GET", method, 1);
        let answer = scene.send(text);
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, "GET"),
            "{method}"
        );
        scene.assert_unharmed(method);
    }
}

#[test]
fn a_head_that_http_does_not_allow_is_refused_and_the_connection_closed() {
    let mut scene = Scene::start(&[]);
    let good = handshake(NOTIFICATIONS, &[]);
    let many: String = (0..101)
        .map(|number| format!("X-{number}: y\r\n"))
        .collect();
    for (name, text, status) in [
        (
            "head over 16 KiB",
            good.replacen("\r\n", &format!("\r\nX: {}\r\n", "x".repeat(16 << 10)), 1),
            431,
        ),
        (
            "address over 16 KiB",
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(17 << 10)),
            431,
        ),
        (
            "over 100 headers",
            good.replacen("\r\n", &format!("\r\n{many}"), 1),
            431,
        ),
        ("bare LF", good.replace("\r\n", "\n"), 400),
        (
            "one bare LF",
            good.replacen("localhost\r\n", "localhost\n", 1),
            400,
        ),
        (
            "obsolete folding",
            good.replacen("localhost\r\n", "localhost\r\n folded\r\n", 1),
            400,
        ),
        ("NUL", good.replacen("localhost", "local\0host", 1), 400),
        (
            "space before the colon",
            good.replacen("Host:", "Host :", 1),
            400,
        ),
        (
            "no HTTP",
            "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(),
            400,
        ),
    ] {
        let mut stream = scene.connect();
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        // Where it sent more than was read, a reset may follow the answer.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {answer:?}"
        );
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer:?}");
        scene.assert_unharmed(name);
    }
}

#[test]
fn who_does_not_finish_a_head_is_cut_off_however_it_dawdles() {
    let mut scene = Scene::start(&["--handshake-timeout", "300ms"]);
    let mut silent = scene.connect();
    let mut slow = scene.connect();
    // The pace of the sender, not a wait for anything: a byte whenever nothing came for so long.
    slow.set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let head = handshake(NOTIFICATIONS, &["+X: a header that goes on and on"]);
    let mut bytes = head.bytes().cycle();
    let closed = loop {
        match slow.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            other => break other,
        }
        if slow.write_all(&[bytes.next().unwrap().max(b'a')]).is_err() {
            break Ok(0);
        }
    };
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    scene.assert_unharmed("silent and slow");
}

#[test]
fn only_listed_origins_pass_once_there_is_a_list() {
    let list = "https://app.example.com,https://*.example.org";
    let mut listed = Scene::start(&["--allowed-origins", list]);
    let open = Server::start(&[]);
    for (origin, status) in [
        ("Origin: https://app.example.com", 101),
        ("Origin: https://a.example.org", 101),
        ("Origin: http://app.example.com", 403),
        ("Origin: https://app.example.com:444", 403),
        ("Origin: https://app.example.com.evil.test", 403),
        ("Origin: https://evilexample.org", 403),
        ("Origin: https://example.org", 403),
        ("Origin: null", 403),
        ("X-No-Origin: as no browser sends it", 101),
    ] {
        let text = handshake(NOTIFICATIONS, &[origin]);
        assert_eq!(listed.send(&text).status, status, "{origin}");
        assert_eq!(open.send(&text).status, 101, "{origin}");
        listed.assert_unharmed(origin);
    }
}

#[test]
fn paths_and_ids_are_taken_strictly() {
    let mut scene = Scene::start(&[]);
    let upper = TASK.to_uppercase();
    for (path, status) in [
        (format!("/v1/tasks/{TASK}/chat"), 101),
        ("/user/notifications".to_owned(), 101),
        (format!("/v1/tasks/{upper}/chat"), 400),
        ("/v1/tasks/7/chat".to_owned(), 400),
        ("/v1/tasks/%2f..%2fchat/chat".to_owned(), 400),
        (format!("/v1/tasks/{TASK}%00/chat"), 400),
        ("/v1/tasks//chat".to_owned(), 404),
        ("/v1/tasks/../chat".to_owned(), 400),
        (format!("/v1/tasks/{TASK}/chat/"), 404),
        ("/v2/user/notifications".to_owned(), 404),
        (format!("{NOTIFICATIONS}?device=a%20b"), 400),
        (format!("{NOTIFICATIONS}?device=phone-1"), 101),
        (format!("{NOTIFICATIONS}?since=user:7"), 400),
        (format!("{NOTIFICATIONS}?since=user:7@e:1,user:7@e:2"), 400),
        (format!("{NOTIFICATIONS}?since=user:7@e:1"), 101),
    ] {
        assert_eq!(scene.send(handshake(&path, &[])).status, status, "{path}");
        scene.assert_unharmed(&path);
    }
}

#[test]
fn a_token_that_does_not_hold_is_401_before_the_upgrade_and_4500_after_it() {
    let mut scene = Scene::start(&[
        "--token-issuer",
        "https://id.example",
        "--token-audience",
        "fanfare",
    ]);
    // Where keys are said to be; nobody must come for them.
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", elsewhere.local_addr().unwrap());
    let hs256 = r#"{"alg":"HS256"}"#;
    let names_keys = format!(r#"{{"alg":"HS256","jku":"{url}","x5u":"{url}","kid":"{url}"}}"#);
    let has_key = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"YW5vdGhlciBzZWNyZXQ"}}"#;
    let good = format!(r#"{{"sub":"7","exp":4000000000,{OURS}}}"#);
    let claims = |text: &str| signed_as(TOKEN_SECRET, hs256, text);
    #[rustfmt::skip]
    let rows = [
        ("good", claims(&good), true),
        ("names keys elsewhere", signed_as(TOKEN_SECRET, &names_keys, &good), true),
        ("is signed by keys elsewhere", signed_as("another secret", &names_keys, &good), false),
        ("is signed by its own key", signed_as("another secret", has_key, &good), false),
        ("another secret", signed_as("another secret", hs256, &good), false),
        ("alg none", signed_as(TOKEN_SECRET, r#"{"alg":"none"}"#, &good), false),
        ("alg none, unsigned", signed_as("", r#"{"alg":"none"}"#, &good).rsplit_once('.').unwrap().0.to_owned() + ".", false),
        ("alg RS256", signed_as(TOKEN_SECRET, r#"{"alg":"RS256"}"#, &good), false),
        ("critical header", signed_as(TOKEN_SECRET, r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &good), false),
        ("expired", claims(&format!(r#"{{"sub":"7","exp":1000000000,{OURS}}}"#)), false),
        ("nbf ahead", claims(&format!(r#"{{"sub":"7","exp":4000000001,"nbf":4000000000,{OURS}}}"#)), false),
        ("wrong iss", claims(&good.replace("id.example", "evil.test")), false),
        ("wrong aud", claims(&good.replace("fanfare", "other")), false),
        ("no iss, no aud", claims(r#"{"sub":"7","exp":4000000000}"#), false),
        ("no exp", claims(&format!(r#"{{"sub":"7",{OURS}}}"#)), false),
        ("exp text", claims(&format!(r#"{{"sub":"7","exp":"x",{OURS}}}"#)), false),
        ("exp 1e400", claims(&format!(r#"{{"sub":"7","exp":1e400,{OURS}}}"#)), false),
        ("sub is a number", claims(&good.replace("\"7\"", "7")), false),
        ("sub is no user", claims(&good.replace("\"7\"", "\"-7\"")), false),
        ("9 KiB", SECRET.repeat(1 << 10) + &SECRET.repeat(512), false),
        ("not ASCII", format!("{SECRET}-schlüssel"), false),
        ("empty", String::new(), false),
    ];
    for (name, token, holds) in rows {
        let bearer = format!("Authorization: Bearer {token}");
        let answer = scene.send(handshake(NOTIFICATIONS, &[&bearer]));
        assert_eq!(
            answer.status,
            if holds { 101 } else { 401 },
            "{name}: {answer:?}"
        );
        if !holds {
            let challenge = answer.header("www-authenticate");
            assert!(challenge.starts_with("Bearer"), "{name}: {answer:?}");
            answer.code();
        }
        let mut client = Raw::upgrade(scene.address, &handshake(NOTIFICATIONS, &[]));
        let auth = serde_json::json!({"op": "auth", "token": token}).to_string();
        client.send(&frame(0x81, auth.as_bytes()));
        if holds {
            assert_eq!(client.json()["type"], "system:welcome", "{name}");
        } else {
            let (last, goodbye) = client.close();
            assert!(
                matches!(last, Got::Close(Some(4500), _)),
                "{name}: {last:?}"
            );
            assert!(goodbye.unwrap().contains(r#""retry":"never""#), "{name}");
        }
        scene.assert_unharmed(name);
    }
    assert!(elsewhere.accept().is_err(), "somebody came for keys");
}

#[test]
fn a_token_of_a_mebibyte_is_too_large_wherever_it_stands() {
    let mut scene = Scene::start(&[]);
    let token = SECRET.repeat((1 << 20) / SECRET.len());
    let in_query = handshake(&format!("{NOTIFICATIONS}?token={token}"), &[]);
    let bearer = format!("Authorization: Bearer {token}");
    for text in [in_query, handshake(NOTIFICATIONS, &[&bearer])] {
        assert_eq!(scene.send(text).status, 431);
    }
    let mut client = Raw::upgrade(scene.address, &handshake(NOTIFICATIONS, &[]));
    let auth = format!(r#"{{"op":"auth","token":"{token}"}}"#);
    client.send(&frame(0x81, auth.as_bytes()));
    assert!(matches!(client.close().0, Got::Close(Some(1009), _)));
    scene.assert_unharmed("1 MiB");
}

#[test]
fn a_token_comes_in_three_ways_and_never_into_the_log() {
    let mut scene = Scene::start(&[]);
    let token = token();
    let bearer = format!("Authorization: Bearer {token}");
    let offered = format!("+Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.{token}");
    let in_query = format!("{NOTIFICATIONS}?token={token}");
    for (path, changes) in [
        (NOTIFICATIONS, vec![bearer.as_str()]),
        (NOTIFICATIONS, vec![&offered]),
        (&in_query, vec![]),
    ] {
        let answer = scene.send(handshake(path, &changes));
        assert_eq!(answer.status, 101, "{answer:?}");
        assert!(
            !answer.header("sec-websocket-protocol").contains("token"),
            "{answer:?}"
        );
    }
    for (path, changes) in [
        (
            format!("{NOTIFICATIONS}?token=other"),
            vec![bearer.as_str()],
        ),
        (
            NOTIFICATIONS.to_owned(),
            vec![bearer.as_str(), "+Authorization: Bearer other"],
        ),
    ] {
        assert_eq!(scene.send(handshake(&path, &changes)).status, 400, "{path}");
    }
    scene.assert_unharmed("three ways");
}

#[test]
fn a_task_that_the_token_does_not_name_is_403_and_a_deleted_one_410() {
    let mut scene = Scene::start(&[]);
    let one = token_of(7, &format!(r#"["{TASK}"]"#));
    let none = token_of(7, "[]");
    let other = "550e8400-e29b-41d4-a716-446655440001";
    for (row, here) in [("open", 101), ("deleted", 410)] {
        for (task, token, status) in [(TASK, &one, here), (other, &one, 403), (TASK, &none, 403)] {
            let bearer = format!("Authorization: Bearer {token}");
            let answer = scene.send(handshake(&format!("/v1/tasks/{task}/chat"), &[&bearer]));
            assert_eq!(answer.status, status, "{row} {task}: {answer:?}");
            scene.assert_unharmed(row);
        }
        scene.publish(
            &format!("/v1/tasks/{TASK}/events"),
            r#"{"type":"task:deleted"}"#,
        );
    }
}

#[test]
fn the_bus_is_for_back_ends() {
    let mut scene = Scene::start(&[]);
    let bearer = |text: &str| format!("Authorization: Bearer {text}");
    for (path, header, status) in [
        ("/v1/bus?types=task:*,chat:message", bearer(API_KEY), 101),
        ("/v1/bus", bearer(API_KEY), 101),
        ("/v1/bus?types=TASK", bearer(API_KEY), 400),
        ("/v1/bus?types=task:*", bearer("wrong"), 401),
        ("/v1/bus?types=task:*", "-Authorization".to_owned(), 401),
        (
            &format!("/v1/bus?types=*&token={API_KEY}"),
            "-Authorization".to_owned(),
            401,
        ),
        ("/v1/bus?types=task:*", bearer(&token()), 403),
    ] {
        let row = format!("{path} {header:.24}");
        let answer = scene.send(handshake(path, &[&header]));
        assert_eq!(answer.status, status, "{row}");
        scene.assert_unharmed(&row);
    }
}

#[test]
fn what_comes_right_behind_a_handshake_is_not_lost() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    // A masked close frame without a body, with a mask of zeros.
    let close = [0x88, 0x80, 0, 0, 0, 0];
    let bearer = format!("Authorization: Bearer {}", token());
    let text = handshake(
        NOTIFICATIONS,
        &[&bearer, &format!("Sec-WebSocket-Key: {SOCKET_KEY}")],
    );
    stream
        .write_all(&[text.as_bytes(), &close].concat())
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(
        answer[answer.len() - 2..],
        [0x88, 0],
        "the close is answered"
    );
}
