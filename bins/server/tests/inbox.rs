//! Notifications for who is offline, as the client in Rust and a back end see them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use fanfare_core::{Endpoint, RoomId, UserId};
use fanfare_websocket::client::{
    Access, Api, Client, Connection, Event, Incoming, Message, Notice, Op, Secret, Welcome,
};
use server::{API_KEY, Server, token};
use smol::block_on;

fn message(connection: &mut Connection) -> Message {
    match block_on(connection.next()).unwrap() {
        Incoming::Message(message) => message,
        Incoming::Lost { error, .. } => panic!("lost: {error}"),
    }
}

fn event(connection: &mut Connection) -> Event {
    match message(connection) {
        Message::Event(event) => event,
        Message::System(system) => panic!("no event: {system:?}"),
    }
}

fn connect(server: &Server, device: &str) -> (Connection, Welcome) {
    let access = Access::Fixed(Secret::new(token()));
    let url = format!("http://{}", server.address).parse().unwrap();
    let client = Client::new(url, Endpoint::Notifications, access).device(device.parse().unwrap());
    let mut connection = block_on(client.connect()).unwrap();
    let first = message(&mut connection);
    let Message::System(system) = first else {
        panic!("no welcome: {first:?}");
    };
    let Notice::Welcome(welcome) = system.notice else {
        panic!("no welcome: {system:?}");
    };
    (connection, welcome)
}

/// Sends an op, and waits for its reply; events that come before are returned.
fn ask(connection: &mut Connection, op: &Op) -> Vec<Event> {
    block_on(connection.send(op)).unwrap();
    let mut events = Vec::new();
    loop {
        match message(connection) {
            Message::Event(event) => events.push(event),
            Message::System(system) => {
                assert!(
                    matches!(&system.notice, Notice::Reply(reply) if reply.ok),
                    "{system:?}"
                );
                return events;
            }
        }
    }
}

#[test]
fn each_device_gets_what_it_has_not_acknowledged_and_all_see_what_was_read() {
    let server = Server::start(&[]);
    let room = RoomId::User(UserId::new(7));
    for number in 1..=3 {
        let body = format!(r#"{{"type":"user:notification","data":{number}}}"#);
        server.publish("/v1/users/7/events", &body);
    }
    let (mut phone, welcome) = connect(&server, "phone");
    assert_eq!(welcome.inbox.unwrap().unread, 3);
    let last = (1..=3).map(|_| event(&mut phone)).last().unwrap();
    let epoch = welcome.rooms[&room].epoch.clone();
    let ack = Op::Ack {
        reference: Some(1),
        epoch,
        seq: last.rooms[&room],
    };
    assert!(ask(&mut phone, &ack).is_empty());
    block_on(phone.close());

    let (mut phone, welcome) = connect(&server, "phone");
    assert_eq!(welcome.rooms[&room].recovered, Some(true));
    let (mut tablet, _) = connect(&server, "tablet");
    let came: Vec<_> = (1..=3).map(|_| event(&mut tablet)).collect();
    assert_eq!(came.last().unwrap().id, last.id);
    let read = Op::Read {
        reference: Some(2),
        epoch: Some(welcome.rooms[&room].epoch.clone()),
        up_to: came[1].rooms[&room],
    };
    let told = ask(&mut tablet, &read);
    let on_phone = event(&mut phone);
    for told in [&told[0], &on_phone] {
        assert_eq!((told.kind.as_str(), told.unread), ("inbox:read", Some(1)));
        assert_eq!(told.data.as_str(), r#"{"up_to":2}"#);
    }

    let url = format!("http://{}", server.address).parse().unwrap();
    let mut api = Api::new(url, Secret::new(API_KEY));
    let inbox = block_on(api.inbox(UserId::new(7))).unwrap();
    assert_eq!(
        (&inbox["unread"], &inbox["connected"]),
        (&1.into(), &2.into())
    );
    let cursors: Vec<_> = inbox["devices"].as_array().unwrap().iter().collect();
    assert_eq!(
        (&cursors[0]["device"], &cursors[0]["cursor"]),
        (&"phone".into(), &3.into())
    );
    assert_eq!(
        (&cursors[1]["device"], &cursors[1]["cursor"]),
        (&"tablet".into(), &0.into())
    );
    let page = block_on(api.history("/v1/users/7/events?limit=3")).unwrap();
    assert_eq!((page.events.len(), page.seq.number()), (3, 4));
    let rest = block_on(api.history(&page.next.unwrap())).unwrap();
    assert!(rest.events[0].as_str().contains("inbox:read") && rest.next.is_none());
}
