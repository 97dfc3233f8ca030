//! Leaving is orderly: everybody is told when to come back, and gets first what waited for them.

use fanfare_core::{CloseCode, Target};
use fanfare_loopback::{Handshake, Received, World, closed, draft, event, goodbye, task, user};
use std::collections::BTreeSet;

#[test]
fn every_client_is_told_when_to_come_back_spread_over_some_seconds() {
    let mut world = World::new(1);
    let clients: Vec<_> = (0..50)
        .map(|number| world.connect(Handshake::notifications(user(number))))
        .collect();
    world.drain();
    let mut waits = BTreeSet::new();
    for client in clients {
        let told = world.expect(
            client,
            goodbye(CloseCode::DRAINING).with("/data/retry", "after"),
        );
        world.expect(client, closed(CloseCode::DRAINING));
        world.expect_nothing(client);
        let Received::System { data, .. } = told else {
            panic!("{told:?}")
        };
        waits.insert(data["retry_after_ms"].as_u64().unwrap());
    }
    assert!(waits.len() > 40, "{waits:?}");
    assert!(
        waits.iter().all(|wait| (1..=5_000).contains(wait)),
        "{waits:?}"
    );
    assert!(world.is_drained());
}

#[test]
fn what_waited_comes_before_the_goodbye() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    for number in 1..=3 {
        world.publish_to_task(task(1), &[], draft("chat:message", number));
    }
    world.drain();
    for seq in 1..=3 {
        world.expect(alice, event("chat:message").at(task(1), seq));
    }
    world.expect_closed(alice, CloseCode::DRAINING);
}

#[test]
fn nothing_is_taken_any_more_and_who_comes_is_told() {
    let mut world = World::new(1);
    let stuck = world.connect(Handshake::notifications(user(7)).window_bytes(1));
    world.publish_to_user(user(7), draft("note:added", 1));
    world.stop_reading(stuck);
    world.publish_to_user(user(7), draft("note:added", 2));
    world.settle();
    world.drain();
    world.publish_refused(Target::User(user(7)), draft("note:added", 3), "draining");
    let late = world.open(Handshake::notifications(user(8)));
    world.expect_closed(late, CloseCode::DRAINING);
    assert!(!world.is_drained());
    world.advance_ms(5_000);
    assert!(
        world.is_drained(),
        "a client that takes nothing holds nobody up"
    );
}

#[test]
fn a_server_without_clients_is_drained_at_once() {
    let mut world = World::new(1);
    world.drain();
    assert!(world.is_drained());
    world.drain();
}
