//! Many clients: all get everything, in order, once; and one of them harms no other.

use crate::seqs;
use fanfare_core::Limits;
use fanfare_loopback::{Client, Handshake, Settings, World, draft, event, task, user};

const CLIENTS: u64 = 1_000;
const EVENTS: u64 = 50;

fn crowd(world: &mut World) -> Vec<Client> {
    (0..CLIENTS)
        .map(|number| world.connect(Handshake::chat(user(number), task(1))))
        .collect()
}

#[test]
fn a_thousand_watchers_get_every_event_in_order_once_each() {
    let mut world = World::with(Settings {
        latency_ms: 1..=80,
        ..Settings::default()
    });
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|number| world.open(Handshake::chat(user(number), task(1))))
        .collect();
    world.advance_ms(200);
    for number in 1..=EVENTS {
        let receipt = world.publish_to_task(task(1), &[], draft("chat:message", number));
        assert_eq!(receipt.rooms()[0].connected, 1_000);
        if number % 7 == 0 {
            world.advance_ms(30);
        }
    }
    world.advance_ms(200);
    for client in clients {
        let received = world.received(client);
        assert_eq!(seqs(&received, task(1)), (1..=EVENTS).collect::<Vec<_>>());
    }
}

#[test]
fn a_thousand_users_named_by_their_own_events_get_those_only() {
    let mut world = World::new(1);
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|number| world.connect(Handshake::notifications(user(number))))
        .collect();
    for number in 0..CLIENTS {
        world.publish_to_user(user(number), draft("note:added", number));
    }
    for (client, number) in clients.into_iter().zip(0..) {
        world.expect(
            client,
            event("note:added")
                .at(user(number), 1)
                .with("/data", number),
        );
        world.expect_nothing(client);
    }
}

#[test]
fn clients_that_never_read_keep_nothing_from_those_that_do() {
    let mut world = World::with(Settings {
        limits: Limits {
            outbox_bytes: 4_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let clients: Vec<Client> = (0..90)
        .map(|number| world.connect(Handshake::chat(user(number), task(1))))
        .collect();
    let (stuck, reading) = clients.split_at(30);
    for client in stuck {
        world.stop_reading(*client);
    }
    for number in 1..=EVENTS {
        world.publish_to_task(task(1), &[], draft("chat:message", "x".repeat(2_000)));
        for client in reading {
            world.expect(*client, event("chat:message").at(task(1), number));
        }
    }
    for client in stuck {
        let waiting = world.waiting_bytes(*client);
        assert!((1..=4_000).contains(&waiting), "{client:?} {waiting}");
    }
}

#[test]
fn all_of_them_going_at_once_leaves_nothing_behind() {
    let mut world = World::new(1);
    for client in crowd(&mut world) {
        world.disconnect(client);
    }
    assert_eq!(world.connections(), 0);
    let receipt = world.publish_to_task(task(1), &[user(1)], draft("chat:message", 1));
    assert!(receipt.rooms().iter().all(|room| room.connected == 0));
}
