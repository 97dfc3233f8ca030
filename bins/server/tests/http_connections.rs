//! How the HTTP API uses a connection: what a request's head must say, when it can be used again, and how it ends.
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
use server::{API_KEY, Answer, Server, token};

const EVENT: &str = r#"{"type":"chat:message"}"#;

/// The head of a publish whose body is announced with `length` bytes.
fn publish(headers: &str, length: usize) -> String {
    format!("POST /v1/events HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n")
}

fn authorized() -> String {
    format!("Authorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n")
}

fn ask(stream: &mut TcpStream, text: &str) -> Answer {
    stream.write_all(text.as_bytes()).unwrap();
    Answer::read(stream)
}

#[test]
fn a_request_names_its_host_once() {
    let server = Server::start(&[]);
    for (version, hosts, status) in [
        ("1.1", "Host: localhost\r\n", 200),
        ("1.1", "Host: [::1]:8080\r\n", 200),
        ("1.1", "Host:\r\n", 200),
        ("1.1", "", 400),
        ("1.1", "Host: a\r\nHost: a\r\n", 400),
        ("1.1", "Host: a b\r\n", 400),
        ("1.1", "Host: user@a\r\n", 400),
        ("1.0", "", 200),
        ("1.0", "Host: a\r\nHost: b\r\n", 400),
    ] {
        let text = format!("GET /healthz HTTP/{version}\r\n{hosts}Connection: close\r\n\r\n");
        let answer = server.send(&text);
        assert_eq!(answer.status, status, "{text}: {answer:?}");
        if status == 400 {
            assert_eq!(answer.code(), "bad_request", "{text}");
        }
    }
}

#[test]
fn an_answer_that_does_not_wait_for_the_body_says_that_the_connection_closes() {
    let server = Server::start(&[]);
    let (good, client) = (
        authorized(),
        format!("Authorization: Bearer {}\r\n", token()),
    );
    let head = publish(&good, 10);
    let large = publish(&good, (1 << 20) + 1);
    let expecting = publish(&format!("{client}Expect: 100-continue\r\n"), 10);
    for (name, text, status) in [
        ("no key", publish("", 10), 401),
        ("a client's token", publish(&client, 10), 403),
        (
            "no content type",
            publish(&good.replace("json", "text"), 10),
            415,
        ),
        ("too large", large, 413),
        ("unknown path", head.replace("/v1/events", "/v1/event"), 404),
        ("other method", head.replace("POST", "PUT"), 405),
        (
            "malformed user",
            head.replace("/v1/events", "/v1/users/x/events"),
            400,
        ),
        ("no WebSocket", head.replace("/v1/events", "/v1/bus"), 405),
        ("who expects 100-continue", expecting, 403),
    ] {
        let mut stream = server.connect();
        let answer = ask(&mut stream, &text);
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        assert_eq!(answer.header("connection"), "close", "{name}: {answer:?}");
        // The body that is on its way must not cut the answer off.
        stream.write_all(b"0123456789").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{name}: it is closed");
    }
}

#[test]
fn a_connection_is_used_again_after_whatever_was_read_in_full() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let with = |body: &str| publish(&authorized(), body.len()) + body;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (text, status) in [
        (with(EVENT), 200),
        (with("{"), 400),
        (with(r#"{"type":"system:x"}"#), 400),
        (with(EVENT), 200),
        (get("/v1/tasks/x"), 401),
        (get("/nothing"), 404),
        (get("/v1/bus"), 426),
        (get("/v1/events"), 405),
        (with(EVENT), 200),
    ] {
        let answer = ask(&mut stream, &text);
        assert_eq!(answer.status, status, "{text}: {answer:?}");
        assert_ne!(answer.header("connection"), "close", "{text}: {answer:?}");
    }
    // Sent at once, they are answered in their order.
    let all = with(EVENT) + &get("/nothing") + &with("{") + &get("/healthz");
    stream.write_all(all.as_bytes()).unwrap();
    for status in [200, 404, 400, 200] {
        assert_eq!(Answer::read(&mut stream).status, status);
    }
}

/// A publish of which the server has the head, and wants the body.
fn begin(server: &Server) -> TcpStream {
    let mut stream = server.connect();
    let head = publish(&(authorized() + "Expect: 100-continue\r\n"), EVENT.len());
    assert_eq!(ask(&mut stream, &head).status, 100);
    stream
}

#[test]
fn a_request_under_way_is_answered_before_the_server_ends() {
    let server = Server::start(&["--drain-timeout", "1h"]);
    let mut stream = begin(&server);
    server.signal(Signal::TERM);
    while server.request("GET /readyz", &[], "").status != 503 {}
    let answer = ask(&mut stream, EVENT);
    assert_eq!((answer.status, answer.code().as_str()), (503, "draining"));
    assert_eq!(answer.header("connection"), "close", "{answer:?}");
    assert_eq!(answer.header("retry-after"), "5");
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"drained\""), "{log}");
}

#[test]
fn a_request_whose_body_never_comes_does_not_keep_the_server_from_ending() {
    let server = Server::start(&["--drain-timeout", "100ms", "--publish-timeout", "1h"]);
    let _stream = begin(&server);
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("not all clients left in time"), "{log}");
}
