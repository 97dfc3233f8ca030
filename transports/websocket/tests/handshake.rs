//! What requests get before they are WebSockets, byte by byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "what fails here fails a test"
)]

mod support;

use std::time::Instant;

use support::{KEY, Options, Raw, Server, frame, open, request, to_user};

/// The whole answer to `bytes`, by a server that closes behind it; a bystander gets its events meanwhile.
fn answer(server: &Server, bytes: &[u8]) -> String {
    let mut bystander = open(server.address, "/user/8");
    let mut client = Raw::connect(server.address);
    client.send(bytes);
    client.half_close();
    let answer = client.rest().expect("an answer, not a reset");
    server.publish(to_user(8, "1"));
    assert!(bystander.text().contains("note:added"));
    String::from_utf8(answer).unwrap()
}

#[test]
fn every_bad_handshake_has_its_answer() {
    let server = Server::start();
    let path = "/user/7";
    let without = |line: &str| {
        let request = request(path, "");
        let changed: String = request
            .split_inclusive("\r\n")
            .filter(|other| !other.starts_with(line))
            .collect();
        assert_ne!(changed, request);
        changed
    };
    let with = |lines: &str| request(path, lines);
    for (name, bytes, status, line) in [
        ("POST", with("").replace("GET", "POST"), 405, "allow: GET"),
        ("no Upgrade", without("Upgrade"), 426, "upgrade: websocket"),
        (
            "no Connection",
            without("Connection"),
            426,
            "upgrade: websocket",
        ),
        (
            "no version",
            without("Sec-WebSocket-Version"),
            426,
            "sec-websocket-version: 13",
        ),
        (
            "version 8",
            with("").replace("Version: 13", "Version: 8"),
            426,
            "sec-websocket-version: 13",
        ),
        ("no key", without("Sec-WebSocket-Key"), 400, ""),
        (
            "two keys",
            with(&format!("Sec-WebSocket-Key: {KEY}\r\n")),
            400,
            "",
        ),
        ("short key", with("").replace(KEY, "c2hvcnQ="), 400, ""),
        ("no Host", without("Host"), 400, ""),
        (
            "body",
            with("Content-Length: 2\r\n") + "{}",
            400,
            "connection: close",
        ),
        (
            "chunked body",
            with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
            400,
            "connection: close",
        ),
        (
            "unknown subprotocols",
            with("Sec-WebSocket-Protocol: mqtt, wamp\r\n"),
            400,
            "",
        ),
        (
            "HTTP/1.0",
            with("").replace("HTTP/1.1", "HTTP/1.0"),
            400,
            "",
        ),
        (
            "bare LF",
            with("").replace("Host: a\r\n", "Host: a\n"),
            400,
            "",
        ),
        (
            "bare LF at the end",
            with("").replace("\r\n\r\n", "\r\n\n"),
            400,
            "",
        ),
        ("folding", with("A: b\r\n c\r\n"), 400, ""),
        ("NUL", with("A: b\0c\r\n"), 400, ""),
        ("bare CR", with("A: b\rc\r\n"), 400, ""),
        ("space before the colon", with("A : b\r\n"), 400, ""),
        ("nonsense", "\u{16}\u{3}\u{1}hello\r\n\r\n".into(), 400, ""),
        (
            "two lengths",
            with("Content-Length: 2\r\nContent-Length: 3\r\n"),
            400,
            "",
        ),
        ("101 headers", with(&"A: b\r\n".repeat(101)), 431, ""),
        (
            "head over 16 KiB",
            with(&format!("A: {}\r\n", "b".repeat(17_000))),
            431,
            "",
        ),
        (
            "head of 1 MiB",
            with(&format!("A: {}\r\n", "b".repeat(1 << 20))),
            431,
            "",
        ),
        ("bad since", request("/user/7?since=x", ""), 400, ""),
        ("bad device", request("/user/7?device=a%20b", ""), 400, ""),
    ] {
        let got = answer(&server, bytes.as_bytes()).to_lowercase();
        assert!(
            got.starts_with("http/1.") && got[8..].starts_with(&format!(" {status} ")),
            "{name}: {got}"
        );
        assert!(
            got.contains(&line.to_lowercase()),
            "{name}: {line} is not in {got}"
        );
    }
    assert_eq!(server.counters().panics, 0);
}

#[test]
fn a_good_handshake_is_answered_in_full() {
    let server = Server::start();
    for (lines, protocol) in [
        ("", None),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
            None,
        ),
        (
            "Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.a.b.c\r\n",
            Some("sec-websocket-protocol: fanfare.v1\r\n"),
        ),
    ] {
        let mut client = Raw::connect(server.address);
        client.send(request("/user/7", lines).as_bytes());
        let head = client.head().to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("connection: upgrade\r\n"), "{head}");
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{head}"
        );
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        assert_eq!(
            head.matches("sec-websocket-protocol").count(),
            usize::from(protocol.is_some())
        );
        assert!(head.contains(protocol.unwrap_or("")), "{head}");
        assert!(client.text().contains("system:welcome"));
    }
}

#[test]
fn frames_that_come_with_the_request_are_not_lost() {
    let server = Server::start();
    // Line ends in frames are not those of a head.
    let op = b"{\"op\":\"ping\",\n\n\"ref\":1}";
    let mut bytes = request("/user/7", "").into_bytes();
    bytes.extend(frame(0x81, op));
    for step in [1, 7, bytes.len()] {
        let mut client = Raw::connect(server.address);
        for piece in bytes.chunks(step) {
            client.send(piece);
        }
        assert!(client.head().starts_with("HTTP/1.1 101"));
        assert!(client.text().contains("system:welcome"));
        assert!(
            client.text().contains("system:reply"),
            "in pieces of {step}"
        );
    }
}

#[test]
fn a_connection_serves_several_requests_and_then_a_websocket() {
    let server = Server::start();
    let mut client = Raw::connect(server.address);
    for length in [0, 1, 100_000] {
        let body = "\n".repeat(length);
        client.send(
            format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
                .as_bytes(),
        );
        let head = client.head();
        assert!(
            head.starts_with("HTTP/1.1 200") && !head.contains("connection: close"),
            "{head}"
        );
        let expected = format!("{length} bytes");
        assert_eq!(client.bytes(expected.len()), expected.as_bytes());
    }
    client.send(request("/user/7", "").as_bytes());
    assert!(client.head().starts_with("HTTP/1.1 101"));
    assert!(client.text().contains("system:welcome"));
}

#[test]
fn a_bare_lf_in_a_later_request_is_refused_too() {
    let server = Server::start();
    let good = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\n";
    let got = answer(
        &server,
        format!("{good}GET /x HTTP/1.1\r\nHost: a\nA: b\r\n\r\n").as_bytes(),
    );
    assert_eq!(got.matches("HTTP/1.1 200").count(), 1, "{got}");
    assert_eq!(got.matches("HTTP/1.1 400").count(), 1, "{got}");
}

#[test]
fn where_the_next_request_would_begin_is_not_guessed() {
    let server = Server::start();
    for lines in ["Transfer-Encoding: chunked\r\n", "Upgrade: h2c\r\n"] {
        let chunk = if lines.starts_with('T') {
            "2\r\n\n\n\r\n0\r\n\r\n"
        } else {
            ""
        };
        let mut client = Raw::connect(server.address);
        client.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n{chunk}").as_bytes());
        let got = String::from_utf8(client.rest().unwrap()).unwrap();
        assert!(
            got.starts_with("HTTP/1.1 200") && got.contains("connection: close"),
            "{got}"
        );
    }
}

#[test]
fn expect_100_continue_is_handled() {
    let server = Server::start();
    let mut client = Raw::connect(server.address);
    client
        .send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 100"));
    client.send(b"hello");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    assert_eq!(client.bytes(7), b"5 bytes");
}

#[test]
fn a_head_has_a_total_time_not_one_from_byte_to_byte() {
    let mut options = Options::default();
    options.listener.head_ms = 500;
    options.listener.idle_ms = 20_000;
    options.listener.request_ms = 500;
    let server = Server::with(options);
    let mut bystander = open(server.address, "/user/8");
    let began = Instant::now();
    let mut silent = Raw::connect(server.address);
    let mut slow = Raw::connect(server.address);
    let mut later = Raw::connect(server.address);
    let mut never = Raw::connect(server.address);
    later.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(later.head().starts_with("HTTP/1.1 200"));
    assert_eq!(later.bytes(7), b"0 bytes");
    later.send(b"G");
    never.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut trickle = slow.stream.try_clone().unwrap();
    let trickling = std::thread::spawn(move || {
        for byte in b"GET /x HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            .iter()
            .cycle()
        {
            if std::io::Write::write_all(&mut trickle, &[*byte]).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    for client in [&mut silent, &mut slow, &mut later, &mut never] {
        assert_eq!(
            client.rest().unwrap_or_default(),
            b"",
            "it is closed without a word"
        );
    }
    assert!(began.elapsed().as_millis() >= 500, "not before its time");
    trickling.join().unwrap();
    // Of a connection that is a WebSocket, no such time is kept.
    server.publish(to_user(8, "1"));
    assert!(bystander.text().contains("note:added"));
}

#[test]
fn a_panic_in_an_answer_ends_its_connection_only() {
    let server = Server::start();
    let mut bystander = open(server.address, "/user/8");
    let mut client = Raw::connect(server.address);
    client.send(b"GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.rest().unwrap_or_default(), b"");
    assert_eq!(server.counters().panics, 1);
    server.publish(to_user(8, "1"));
    assert!(bystander.text().contains("note:added"));
}
