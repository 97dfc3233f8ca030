//! How the server ends.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use server::{Answer, Server, handshake, token};

/// A server that waits for its clients as long as they like.
const PATIENT: [&str; 6] = [
    "--drain-timeout",
    "1h",
    "--linger-timeout",
    "1h",
    "--close-timeout",
    "1h",
];

/// A client's open connection: a raw one, which answers nothing.
fn open(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    let bearer = format!("Authorization: Bearer {}", token());
    stream
        .write_all(handshake("/v1/user/notifications", &[&bearer]).as_bytes())
        .unwrap();
    stream
}

/// What comes until the close frame, of a server that drains.
fn until_close(stream: &mut TcpStream) -> String {
    let (mut all, mut byte) = (Vec::new(), [0]);
    let is_close = |bytes: &[u8]| bytes[0] == 0x88 && bytes[2..] == 4001_u16.to_be_bytes();
    while !all.windows(4).any(is_close) {
        let read = stream.read(&mut byte).unwrap();
        assert_eq!(read, 1, "{}", String::from_utf8_lossy(&all));
        all.push(byte[0]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Closes the client's side, too.
fn leave(mut stream: TcpStream) {
    let close = [0x88, 0x82, 0, 0, 0, 0, 0x0f, 0xa1];
    stream.write_all(&close).unwrap();
}

#[test]
fn a_signal_says_goodbye_closes_with_4001_and_ends_with_0() {
    for signal in [Signal::INT, Signal::TERM] {
        let server = Server::start(&[]);
        let mut stream = open(&server);
        // The welcome is there: the connection is open.
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("system:welcome") {
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&bytes[..read]);
        }
        server.signal(signal);
        let text = until_close(&mut stream);
        assert!(
            text.contains("system:goodbye") && text.contains("retry_after_ms"),
            "{text}"
        );
        leave(stream);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("drained"), "{log}");
    }
}

#[test]
fn a_client_that_does_not_leave_is_waited_for_no_longer_than_the_deadline() {
    let server = Server::start(&[
        "--drain-timeout",
        "100ms",
        "--linger-timeout",
        "1h",
        "--close-timeout",
        "1h",
    ]);
    let mut stream = open(&server);
    assert_eq!(Answer::read(&mut stream).status, 101);
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("not all clients left in time"), "{log}");
}

#[test]
fn who_comes_while_it_drains_is_sent_away_and_not_waited_for() {
    let server = Server::start(&PATIENT);
    let mut first = open(&server);
    assert_eq!(Answer::read(&mut first).status, 101);
    server.signal(Signal::TERM);
    until_close(&mut first);
    let mut late = open(&server);
    let text = until_close(&mut late);
    assert!(text.contains("retry_after_ms"), "{text}");
    leave(first);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("not all clients"), "{log}");
}

#[test]
fn while_it_drains_it_is_not_ready_and_takes_nothing_and_a_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let server = Server::start(&PATIENT);
        let mut stream = open(&server);
        assert_eq!(Answer::read(&mut stream).status, 101);
        assert_eq!(server.request("GET /readyz", &[], "").status, 200);
        server.signal(Signal::TERM);
        // Not ready as soon as the signal was handled; each request is a look.
        let answer = loop {
            let answer = server.request("GET /readyz", &[], "");
            if answer.status != 200 {
                break answer;
            }
        };
        assert_eq!((answer.status, answer.code().as_str()), (503, "draining"));
        assert!(!answer.header("retry-after").is_empty());
        assert_eq!(server.request("GET /healthz", &[], "").status, 200);
        let publish = server.publish("/v1/events", r#"{"type":"chat:message"}"#);
        assert_eq!((publish.status, publish.code().as_str()), (503, "draining"));
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(code), "{log}");
    }
}
