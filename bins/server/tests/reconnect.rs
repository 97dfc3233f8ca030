//! The client in Rust against servers that die and connections that break.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use fanfare_core::{Endpoint, RoomId};
use fanfare_websocket::client::{
    Access, Client, Connection, Error, Event, Incoming, Message, Notice, Secret,
};
use rustix::process::Signal;
use server::scene::EVENTS;
use server::{API_KEY, Server, TASK, token};
use smol::block_on;

/// Hosts of one test each: nobody else takes their ports while the server is away.
const KILLED: &str = "127.0.0.17:0";
const DRAINED: &str = "127.0.0.18:0";

fn endpoints() -> [(&'static str, Endpoint, String); 3] {
    [
        ("a task", Endpoint::Task(TASK.parse().unwrap()), token()),
        ("notifications", Endpoint::Notifications, token()),
        ("the bus", Endpoint::Bus(Vec::new()), API_KEY.to_owned()),
    ]
}

fn connect(address: SocketAddr, endpoint: Endpoint, secret: &str) -> Connection {
    let access = Access::Fixed(Secret::new(secret));
    let client = Client::new(
        format!("http://{address}").parse().unwrap(),
        endpoint,
        access,
    );
    block_on(client.connect()).unwrap()
}

fn message(connection: &mut Connection) -> Message {
    match block_on(connection.next()).unwrap() {
        Incoming::Message(message) => message,
        Incoming::Lost { error, .. } => panic!("lost: {error}"),
    }
}

fn lost(connection: &mut Connection) -> Error {
    match block_on(connection.next()).unwrap() {
        Incoming::Lost { error, .. } => error,
        Incoming::Message(message) => panic!("not lost: {message:?}"),
    }
}

fn notice(message: Message) -> Notice {
    match message {
        Message::System(system) => system.notice,
        Message::Event(event) => panic!("no notice: {event:?}"),
    }
}

fn event(message: Message) -> Event {
    match message {
        Message::Event(event) => event,
        Message::System(system) => panic!("no event: {system:?}"),
    }
}

fn publish(server: &Server, id: &str) {
    let body = format!(r#"{{"type":"chat:message","users":[7],"id":"{id}"}}"#);
    assert_eq!(server.publish(EVENTS, &body).status, 200, "{id}");
}

#[test]
fn it_comes_back_to_a_server_that_was_killed_and_is_told_that_the_log_is_another() {
    for (name, endpoint, secret) in endpoints() {
        let server = Server::start(&["--listen", KILLED]);
        let (address, is_bus) = (server.address, matches!(endpoint, Endpoint::Bus(_)));
        let mut connection = connect(address, endpoint, &secret);
        assert!(matches!(
            notice(message(&mut connection)),
            Notice::Welcome(_)
        ));
        publish(&server, "before");
        assert_eq!(
            event(message(&mut connection)).id.as_str(),
            "before",
            "{name}"
        );
        let before = connection.positions();
        server.signal(Signal::KILL);
        server.wait();
        // Once for the loss, and once for an attempt that nobody answered.
        for _ in 0..2 {
            let error = lost(&mut connection);
            assert!(error.is_temporary(), "{name}: {error}");
        }
        let server = Server::start(&["--listen", &address.to_string()]);
        let welcome = loop {
            match block_on(connection.next()).unwrap() {
                Incoming::Lost { error, .. } => assert!(error.is_temporary(), "{name}: {error}"),
                Incoming::Message(message) => break notice(message),
            }
        };
        let Notice::Welcome(welcome) = welcome else {
            panic!("{name}: {welcome:?}")
        };
        for (room, position) in &before {
            let head = &welcome.rooms[room];
            assert_eq!(head.recovered, Some(false), "{name} {room}");
            assert_ne!(head.epoch, position.epoch, "{name} {room}");
        }
        // What was before is not passed off as nothing.
        for _ in &before {
            let Notice::Gap(gap) = notice(message(&mut connection)) else {
                panic!("{name}: no gap")
            };
            assert_eq!(gap.reason, "epoch", "{name}: {gap:?}");
        }
        assert_eq!(before.is_empty(), is_bus, "{name}");
        publish(&server, "after");
        let after = event(message(&mut connection));
        assert_eq!(after.id.as_str(), "after", "{name}");
        assert!(
            after.rooms.values().all(|seq| seq.number() == 1),
            "{name}: {after:?}"
        );
        for (room, position) in connection.positions() {
            assert_eq!(position.epoch, welcome.rooms[&room].epoch, "{name} {room}");
            assert_eq!(position.seq.number(), 1, "{name} {room}");
        }
    }
}

#[test]
fn it_comes_back_to_a_server_that_said_goodbye() {
    for (name, endpoint, secret) in endpoints() {
        let server = Server::start(&["--listen", DRAINED, "--drain-spread", "1ms"]);
        let address = server.address;
        let mut connection = connect(address, endpoint, &secret);
        assert!(matches!(
            notice(message(&mut connection)),
            Notice::Welcome(_)
        ));
        server.signal(Signal::TERM);
        let Notice::Goodbye(goodbye) = notice(message(&mut connection)) else {
            panic!("{name}: no goodbye")
        };
        assert_eq!(goodbye.code, 4001, "{name}");
        let error = lost(&mut connection);
        assert!(
            matches!(
                error,
                Error::Closed {
                    code: 4001,
                    again: true,
                    ..
                }
            ),
            "{name}: {error}"
        );
        server.wait();
        let server = Server::start(&["--listen", &address.to_string()]);
        loop {
            match block_on(connection.next()).unwrap() {
                Incoming::Lost { error, .. } => assert!(error.is_temporary(), "{name}: {error}"),
                Incoming::Message(message) => {
                    assert!(matches!(notice(message), Notice::Welcome(_)), "{name}");
                    break;
                }
            }
        }
        publish(&server, "after");
        // A position at the beginning of an empty log is one of another epoch, too.
        let after = loop {
            match message(&mut connection) {
                Message::Event(event) => break event,
                Message::System(system) => assert!(matches!(system.notice, Notice::Gap(_))),
            }
        };
        assert_eq!(after.id.as_str(), "after", "{name}");
    }
}

/// A way to `server` on which one connection after the other breaks when so many bytes have come from there; those
/// after them last.
fn breaking(server: SocketAddr, bytes: &'static [u64]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut bytes = bytes.iter();
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let limit = bytes.next().copied().unwrap_or(u64::MAX);
            let _ = std::io::copy(&mut (&server).take(limit), &mut (&client));
            for stream in [client, server] {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    });
    address
}

#[test]
fn over_connections_that_break_in_the_middle_of_anything_it_gets_every_event_once_in_order() {
    const EVENTS_MAX: u64 = 200;
    /// Within an event, a replay, a welcome, an HTTP answer.
    const BYTES: [u64; 4] = [2_000, 2_501, 300, 50];
    let task: RoomId = format!("task:{TASK}").parse().unwrap();
    let server = Server::start(&[]);
    let endpoint = Endpoint::Task(TASK.parse().unwrap());
    let mut connection = connect(breaking(server.address, &BYTES), endpoint, &token());
    assert!(matches!(
        notice(message(&mut connection)),
        Notice::Welcome(_)
    ));
    thread::scope(|threads| {
        threads.spawn(|| {
            for number in 1..=EVENTS_MAX {
                publish(&server, &number.to_string());
            }
        });
        let (mut next, mut losses) = (1, 0);
        while next <= EVENTS_MAX {
            match block_on(connection.next()).unwrap() {
                Incoming::Message(Message::Event(event)) => {
                    assert_eq!(event.id.as_str(), next.to_string());
                    assert_eq!(event.rooms[&task].number(), next);
                    next += 1;
                }
                Incoming::Message(Message::System(system)) => {
                    let Notice::Welcome(welcome) = system.notice else {
                        panic!("{system:?}")
                    };
                    assert_eq!(welcome.rooms[&task].recovered, Some(true), "{next}");
                }
                Incoming::Lost { error, .. } => {
                    assert!(error.is_temporary(), "{error}");
                    losses += 1;
                }
            }
        }
        assert_eq!(losses, BYTES.len());
    });
}
