//! The world itself: its order, its network, and what it says when a script fails.

use fanfare_core::CloseCode;
use fanfare_loopback::{Handshake, Settings, World, closed, draft, event, reply, task, user};
use std::panic::{AssertUnwindSafe, catch_unwind};

fn message(script: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(script)).unwrap_err();
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_script_that_fails_says_what_was_expected_what_was_seen_and_what_it_did() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)).device("tab"));
    world.advance_ms(1_500);
    world.publish_to_task(task(1), &[], draft("chat:message", "seen"));
    for (name, told) in [
        (
            "another event",
            message(|| drop(world.expect(alice, event("chat:message").at(task(1), 9)))),
        ),
        ("nothing", message(|| world.expect_nothing(alice))),
        (
            "a close",
            message(|| drop(world.expect(alice, closed(CloseCode::DRAINING)))),
        ),
    ] {
        for part in [
            "at 1.500 s",
            "expected: #0 user:7/tab: ",
            "seen: {\"at\":",
            "\"data\":\"seen\"",
            "script so far:",
            "0.000 s #0 user:7/tab opens the chat of task:",
            "1.500 s a back end publishes chat:message \"seen\" to task:",
        ] {
            assert!(told.contains(part), "{name}: {part:?} is not in\n{told}");
        }
    }
    world.expect(alice, event("chat:message").at(task(1), 1));
}

#[test]
fn an_expectation_matches_only_what_it_names_and_all_rooms_or_none() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.publish_to_task(task(1), &[user(7)], draft("chat:message", 1));
    for wrong in [
        event("chat:other"),
        event("chat:message").at(task(1), 1),
        event("chat:message").at(task(1), 1).at(user(7), 2),
        event("chat:message").at(task(2), 1).at(user(7), 1),
        event("chat:message").with("/data", 2),
        event("chat:message").with("/nothing", 1),
        event("chat:message").ephemeral(),
    ] {
        let told = message(|| drop(world.expect(alice, wrong.clone())));
        assert!(told.contains(&wrong.to_string()), "{wrong}");
    }
    world.expect(
        alice,
        event("chat:message")
            .at(task(1), 1)
            .at(user(7), 1)
            .with("/from", ()),
    );
}

#[test]
fn what_is_on_its_way_takes_its_time_and_keeps_its_order() {
    let mut world = World::with(Settings {
        latency_ms: 10..=500,
        ..Settings::default()
    });
    let alice = world.open(Handshake::chat(user(7), task(1)));
    world.expect_nothing(alice);
    world.advance_ms(9);
    assert_eq!(world.connections(), 0);
    world.advance_ms(1_000);
    world.received(alice);
    let pings: Vec<u64> = (0..20).map(|_| world.ping(alice)).collect();
    world.expect_nothing(alice);
    world.advance_ms(1_000);
    for ping in pings {
        world.expect(alice, reply(ping));
    }
}

#[test]
fn what_a_client_did_not_read_before_it_went_is_gone() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.stop_reading(alice);
    world.publish_to_task(task(1), &[], draft("chat:message", 1));
    world.settle();
    world.disconnect(alice);
    world.expect_nothing(alice);
    world.reconnect(alice);
    world.expect(alice, event("chat:message").at(task(1), 1));
}
