//! Many connections at once, and more than there are file descriptors for.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::Write;
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use server::raw::{PATIENCE, Raw};
use server::scene::{CHAT, EVENTS, NOTIFICATIONS, Scene};
use server::{Answer, Server, handshake, token};

const CLIENTS: usize = 1_000;

/// This process holds the other ends.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
}

#[test]
fn a_thousand_clients_that_connect_at_once_are_all_served_though_the_soft_limit_was_64() {
    raise_own_limit();
    let server = Server::in_shell("ulimit -S -n 64", &["--connections-per-user", "2000"]);
    let mut scene = Scene::of(server);
    // While the server stands still they are the system's: who is too many for its queue would wait here.
    scene.signal(Signal::STOP);
    let mut clients: Vec<Raw> = (0..CLIENTS)
        .map(|number| {
            let stream = TcpStream::connect_timeout(&scene.address, PATIENCE);
            Raw::of(stream.unwrap_or_else(|error| panic!("{number}: {error}")))
        })
        .collect();
    let request = handshake(CHAT, &[&format!("Authorization: Bearer {}", token())]);
    for client in &mut clients {
        client.send(request.as_bytes());
    }
    scene.signal(Signal::CONT);
    let mut clients: Vec<Raw> = clients.into_iter().map(Raw::accepted).collect();
    for client in &mut clients {
        assert_eq!(client.json()["type"], "system:welcome");
    }
    let receipt = scene.tell(EVENTS, r#"{"type":"chat:message"}"#).json();
    let room = &receipt["rooms"]["task:550e8400-e29b-41d4-a716-446655440000"];
    assert_eq!(room["connected"], CLIENTS);
    for client in &mut clients {
        assert_eq!(client.json()["type"], "chat:message");
    }
    assert_eq!(scene.metric("fanfare_tcp_accept_errors_total"), 0);
    scene.assert_unharmed("a thousand");
}

#[test]
fn the_limit_that_holds_is_in_the_log() {
    for (limits, open_files) in [
        ("ulimit -n 64", 64),
        ("ulimit -S -n 32 && ulimit -H -n 96", 96),
    ] {
        let log = Server::in_shell(limits, &[]).log_until("listening");
        let line = log.lines().find(|line| line.contains("listening")).unwrap();
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["open_files"], open_files, "{limits}: {line}");
    }
}

#[test]
fn without_descriptors_those_who_are_connected_are_served_and_others_when_there_is_room_again() {
    let server = Server::in_shell("ulimit -n 40", &["--handshake-timeout", "1h"]);
    let mut scene = Scene::of(server);
    let mut client = scene.client();
    let idle: Vec<TcpStream> = (0..40).map(|_| scene.connect()).collect();
    while scene.metric("fanfare_tcp_accept_errors_total") < 3 {}
    // The queue takes it, the server does not.
    let mut late = scene.connect();
    let bearer = format!("Authorization: Bearer {}", token());
    late.write_all(handshake(NOTIFICATIONS, &[&bearer]).as_bytes())
        .unwrap();
    scene.tell(EVENTS, r#"{"type":"chat:message"}"#);
    assert_eq!(client.json()["type"], "chat:message");
    assert_eq!(client.ask(r#"{"op":"ping","ref":1}"#)["ok"], true);
    scene.assert_unharmed("none left");
    drop(idle);
    assert_eq!(Answer::read(&mut late).status, 101);
    drop(scene.client());
    let complaints = scene.log().matches("can't be accepted").count();
    assert!(complaints >= 1, "it is said");
    scene.assert_unharmed("room again");
}
