//! Nothing is without bound: rooms a connection, connections a user, messages a second, bytes a publish.

use fanfare_core::{CloseCode, Limits, Target, USERS_MAX};
use fanfare_loopback::{
    Handshake, Received, Settings, World, draft, joined, refusal, reply, task, user,
};

fn world(limits: Limits) -> World {
    World::with(Settings {
        limits,
        ..Settings::default()
    })
}

#[test]
fn a_connection_is_in_as_many_rooms_as_it_may_and_one_that_it_leaves_makes_room() {
    let mut world = world(Limits {
        rooms_per_connection: 3,
        ..Limits::default()
    });
    // Its own user's room is one of them.
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let join = world.join(alice, task(2));
    world.expect_all(alice, [joined(task(2), 0), reply(join)]);
    let third = world.join(alice, task(3));
    world.expect(alice, refusal(third, "too_many_rooms"));
    let again = world.join(alice, task(2));
    world.expect_all(alice, [joined(task(2), 0), reply(again)]);
    world.leave(alice, task(1));
    world.received(alice);
    let third = world.join(alice, task(3));
    world.expect_all(alice, [joined(task(3), 0), reply(third)]);
}

#[test]
fn a_user_has_as_many_connections_as_a_user_may_and_one_that_goes_makes_room() {
    let mut world = world(Limits {
        connections_per_user: 2,
        ..Limits::default()
    });
    let alices = [1, 2].map(|number| world.connect(Handshake::chat(user(7), task(number))));
    let third = world.open(Handshake::notifications(user(7)));
    world.expect_closed(third, CloseCode::TOO_MANY_CONNECTIONS);
    world.connect(Handshake::notifications(user(8)));
    world.disconnect(alices[0]);
    world.connect(Handshake::notifications(user(7)));
}

#[test]
fn a_client_that_speaks_too_fast_is_refused_then_closed_and_every_message_has_its_answer() {
    let mut world = world(Limits {
        messages_per_second: 10,
        messages_burst: 20,
        errors_per_minute: 5,
        ..Limits::default()
    });
    let hasty = world.connect(Handshake::notifications(user(7)));
    let calm = world.connect(Handshake::notifications(user(8)));
    for _ in 0..20 {
        let ping = world.ping(hasty);
        world.expect(hasty, reply(ping));
    }
    for _ in 0..5 {
        let ping = world.ping(hasty);
        world.expect(hasty, refusal(ping, "rate_limited"));
    }
    world.ping(hasty);
    world.expect_closed(hasty, CloseCode::TOO_MANY_MESSAGES);
    for _ in 0..100 {
        world.advance_ms(100);
        let ping = world.ping(calm);
        world.expect(calm, reply(ping));
    }
}

#[test]
fn what_is_too_large_is_refused_and_reaches_nobody() {
    let mut world = world(Limits {
        data_bytes: 1_000,
        ..Limits::default()
    });
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let text = |bytes: usize| draft("chat:message", "x".repeat(bytes - 2));
    world.publish_refused(Target::Bus, text(1_001), "too_large");
    let users = (0..=USERS_MAX as u64).map(user).collect();
    let everybody = Target::Task {
        task: task(1),
        users,
    };
    world.publish_refused(everybody, draft("chat:message", 1), "too_large");
    let send = world.send(alice, task(1), &text(1_001));
    world.expect(alice, refusal(send, "too_large"));
    world.publish_to_task(task(1), &[], text(1_000));
    let received = world.received(alice);
    assert!(matches!(received[..], [Received::Event(_)]), "{received:?}");
}
