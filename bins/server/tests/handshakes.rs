//! What a hostile or broken beginning of a WebSocket gets, over raw sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use server::{API_KEY, SOCKET_KEY, Server, TASK, TOKEN_SECRET, handshake, token};

const NOTIFICATIONS: &str = "/v1/user/notifications";

#[test]
fn every_fault_of_a_handshake_has_its_answer() {
    let mut server = Server::start(&[]);
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
        let answer = server.send(handshake(NOTIFICATIONS, changes));
        assert_eq!(answer.status, *status, "{changes:?}: {answer:?}");
        assert_eq!(answer.header(name), *value, "{changes:?}: {answer:?}");
        if *status != 101 {
            answer.code();
        }
    }
    for method in ["POST", "PUT", "HEAD", "OPTIONS"] {
        let text = handshake(NOTIFICATIONS, &[]).replacen("GET", method, 1);
        let answer = server.send(text);
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, "GET"),
            "{method}"
        );
    }
    server.assert_unharmed(&[]);
}

#[test]
fn a_head_that_http_does_not_allow_is_refused_and_the_connection_closed() {
    let mut server = Server::start(&[]);
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
        let mut stream = server.connect();
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
    }
    server.assert_unharmed(&[]);
}

#[test]
fn who_does_not_finish_a_head_is_cut_off_however_it_dawdles() {
    let mut server = Server::start(&["--handshake-timeout", "300ms"]);
    let mut silent = server.connect();
    let mut slow = server.connect();
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
    server.assert_unharmed(&[]);
}

#[test]
fn only_listed_origins_pass_once_there_is_a_list() {
    let list = "https://app.example.com,https://*.example.org";
    let mut listed = Server::start(&["--allowed-origins", list]);
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
    }
    listed.assert_unharmed(&[]);
}

#[test]
fn paths_and_ids_are_taken_strictly() {
    let server = Server::start(&[]);
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
        assert_eq!(server.send(handshake(&path, &[])).status, status, "{path}");
    }
}

/// A token of any header and claims, signed by HS256 with `secret`.
fn signed(secret: &str, header: &str, claims: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_token_that_does_not_hold_is_401_before_the_upgrade() {
    let mut server = Server::start(&[
        "--token-issuer",
        "https://id.example",
        "--token-audience",
        "fanfare",
    ]);
    let ours = r#""iss":"https://id.example","aud":"fanfare""#;
    let hs256 = |claims: &str| signed(TOKEN_SECRET, r#"{"alg":"HS256"}"#, claims);
    let claims = format!(r#"{{"sub":"7","exp":4000000000,{ours}}}"#);
    let mut tokens = Vec::new();
    #[rustfmt::skip]
    let rows = [
        ("good", hs256(&claims), 101),
        ("alg none", signed(TOKEN_SECRET, r#"{"alg":"none"}"#, &claims), 401),
        ("alg RS256", signed(TOKEN_SECRET, r#"{"alg":"RS256"}"#, &claims), 401),
        ("another secret", signed("another secret", r#"{"alg":"HS256"}"#, &claims), 401),
        ("expired", hs256(&format!(r#"{{"sub":"7","exp":1000000000,{ours}}}"#)), 401),
        ("nbf ahead", hs256(&format!(r#"{{"sub":"7","exp":4000000001,"nbf":4000000000,{ours}}}"#)), 401),
        ("wrong iss", hs256(&claims.replace("id.example", "evil.test")), 401),
        ("wrong aud", hs256(&claims.replace("fanfare", "other")), 401),
        ("no exp", hs256(&format!(r#"{{"sub":"7",{ours}}}"#)), 401),
        ("exp text", hs256(&format!(r#"{{"sub":"7","exp":"x",{ours}}}"#)), 401),
        ("exp 1e400", hs256(&format!(r#"{{"sub":"7","exp":1e400,{ours}}}"#)), 401),
        ("9 KiB", "x".repeat(9 << 10), 401),
        ("not ASCII", "schlüssel".to_owned(), 401),
        ("empty", String::new(), 401),
    ];
    for (name, token, status) in rows {
        let answer = server.send(handshake(
            NOTIFICATIONS,
            &[&format!("Authorization: Bearer {token}")],
        ));
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if status == 401 {
            assert!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{name}: {answer:?}"
            );
            answer.code();
        }
        tokens.push(token);
    }
    // Larger than any head may be.
    let answer = server.send(handshake(
        &format!("{NOTIFICATIONS}?token={}", "x".repeat(1 << 20)),
        &[],
    ));
    assert_eq!(answer.status, 431);
    let tokens: Vec<&str> = tokens
        .iter()
        .map(String::as_str)
        .filter(|token| !token.is_empty())
        .collect();
    server.assert_unharmed(&tokens);
}

#[test]
fn a_token_comes_in_three_ways_and_never_into_the_log() {
    let mut server = Server::start(&[]);
    let token = token();
    let bearer = format!("Authorization: Bearer {token}");
    let offered = format!("+Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.{token}");
    let in_query = format!("{NOTIFICATIONS}?token={token}");
    for (path, changes) in [
        (NOTIFICATIONS, vec![bearer.as_str()]),
        (NOTIFICATIONS, vec![&offered]),
        (&in_query, vec![]),
    ] {
        let answer = server.send(handshake(path, &changes));
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
        assert_eq!(
            server.send(handshake(&path, &changes)).status,
            400,
            "{path}"
        );
    }
    server.assert_unharmed(&[&token]);
}

#[test]
fn a_task_that_the_token_does_not_name_is_403_and_a_deleted_one_410() {
    let server = Server::start(&[]);
    let one = signed(
        TOKEN_SECRET,
        r#"{"alg":"HS256"}"#,
        &format!(r#"{{"sub":"7","exp":4000000000,"tasks":["{TASK}"]}}"#),
    );
    let none = signed(
        TOKEN_SECRET,
        r#"{"alg":"HS256"}"#,
        r#"{"sub":"7","exp":4000000000}"#,
    );
    let status = |task: &str, token: &str| {
        let text = handshake(
            &format!("/v1/tasks/{task}/chat"),
            &[&format!("Authorization: Bearer {token}")],
        );
        server.send(text).status
    };
    let other = "550e8400-e29b-41d4-a716-446655440001";
    assert_eq!(
        [status(TASK, &one), status(other, &one), status(TASK, &none)],
        [101, 403, 403]
    );
    server.publish(
        &format!("/v1/tasks/{TASK}/events"),
        r#"{"type":"task:deleted"}"#,
    );
    assert_eq!(
        [status(TASK, &one), status(other, &one), status(TASK, &none)],
        [410, 403, 403]
    );
}

#[test]
fn the_bus_is_for_back_ends() {
    let mut server = Server::start(&[]);
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
        assert_eq!(
            server.send(handshake(path, &[&header])).status,
            status,
            "{path} {header:.24}"
        );
    }
    server.assert_unharmed(&[]);
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
