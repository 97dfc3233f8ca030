//! An event that reaches a connection through several of its rooms reaches it once, with its number in each.

use fanfare_core::Limits;
use fanfare_loopback::{
    Handshake, Received, Settings, World, draft, event, joined, reply, task, user,
};

#[test]
fn who_watches_a_task_and_is_named_gets_one_event_with_both_numbers() {
    let mut world = World::new(1);
    world.publish_to_user(user(7), draft("note:added", 0));
    let watching = world.connect(Handshake::chat(user(7), task(1)));
    let elsewhere = world.connect(Handshake::notifications(user(7)));
    let other = world.connect(Handshake::chat(user(8), task(1)));
    world.publish_to_task(task(1), &[user(7)], draft("task:completed", ()));
    world.expect(
        watching,
        event("task:completed").at(task(1), 1).at(user(7), 2),
    );
    world.expect(elsewhere, event("task:completed").at(user(7), 2));
    world.expect(other, event("task:completed").at(task(1), 1));
    for client in [watching, elsewhere, other] {
        world.expect_nothing(client);
    }
}

#[test]
fn two_connections_of_one_user_in_one_task_get_it_once_each() {
    let mut world = World::new(1);
    let tabs = [1, 2].map(|_| world.connect(Handshake::chat(user(7), task(1))));
    let receipt = world.publish_to_task(task(1), &[user(7)], draft("task:started", ()));
    let connected: Vec<usize> = receipt.rooms().iter().map(|room| room.connected).collect();
    assert_eq!(connected, [2, 2]);
    for tab in tabs {
        world.expect(tab, event("task:started").at(task(1), 1).at(user(7), 1));
        world.expect_nothing(tab);
    }
}

#[test]
fn an_ephemeral_event_comes_once_too_with_the_heads_of_both_rooms() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.publish_to_task(task(1), &[user(7)], draft("task:status", 1));
    world.publish_to_task(task(1), &[user(7)], draft("task:status", 2).ephemeral(None));
    world.publish_to_task(task(1), &[], draft("task:status", 3));
    world.expect_all(
        alice,
        [
            event("task:status").at(task(1), 1).at(user(7), 1),
            event("task:status")
                .at(task(1), 1)
                .at(user(7), 1)
                .ephemeral(),
            event("task:status").at(task(1), 2),
        ],
    );
}

#[test]
fn both_rooms_replayed_come_merged_each_event_once() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let origin = [
        world.position(alice, task(1)).unwrap(),
        world.position(alice, user(7)).unwrap(),
    ];
    world.disconnect(alice);
    world.publish_to_task(task(1), &[], draft("chat:message", "task only"));
    world.publish_to_task(task(1), &[user(7)], draft("chat:message", "both"));
    world.publish_to_user(user(7), draft("chat:message", "user only"));
    world.publish_to_task(task(1), &[user(7)], draft("chat:message", "both again"));
    let again = world.connect(
        Handshake::chat(user(7), task(1))
            .since(task(1), origin[0].clone())
            .since(user(7), origin[1].clone()),
    );
    world.expect_all(
        again,
        [
            event("chat:message")
                .at(task(1), 1)
                .with("/data", "task only"),
            event("chat:message")
                .at(task(1), 2)
                .at(user(7), 1)
                .with("/data", "both"),
            event("chat:message")
                .at(user(7), 2)
                .with("/data", "user only"),
            event("chat:message")
                .at(task(1), 3)
                .at(user(7), 3)
                .with("/data", "both again"),
        ],
    );
    world.expect_nothing(again);
}

#[test]
fn a_room_that_lags_behind_names_itself_only_for_what_came_through_the_other() {
    let mut world = World::new(1);
    let first = world.connect(Handshake::chat(user(7), task(1)));
    let origin = world.position(first, task(1)).unwrap();
    world.disconnect(first);
    let alice = world.connect(Handshake::notifications(user(7)));
    world.publish_to_task(task(1), &[user(7)], draft("task:started", ()));
    let Received::Event(through_user) = world.expect(alice, event("task:started").at(user(7), 1))
    else {
        unreachable!("an event was expected");
    };
    let join = world.join_since(alice, task(1), &origin);
    world.expect_all(
        alice,
        [
            joined(task(1), 1).with("/data/recovered", true),
            reply(join),
            event("task:started")
                .at(task(1), 1)
                .with("/id", through_user.id),
        ],
    );
    world.publish_to_task(task(1), &[user(7)], draft("task:completed", ()));
    world.expect(alice, event("task:completed").at(task(1), 2).at(user(7), 2));
    world.expect_nothing(alice);
}

#[test]
fn a_room_that_is_joined_while_a_slow_client_catches_up_is_read_with_the_others() {
    let mut world = World::with(Settings {
        limits: Limits {
            outbox_bytes: 2_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let slow = world.connect(Handshake::notifications(user(7)).window_bytes(1));
    world.stop_reading(slow);
    for seq in 1..=10 {
        world.publish_to_user(user(7), draft("note:added", "x".repeat(500 + seq)));
    }
    world.join(slow, task(1));
    // Its outbox has room again, so that what is live would fit.
    world.read_some(slow, 2);
    world.publish_to_task(task(1), &[user(7)], draft("chat:message", "to both"));
    world.resume_reading(slow);
    let received = world.received(slow);
    let both = received.iter().filter_map(Received::event);
    let both: Vec<_> = both.filter(|event| event.kind == "chat:message").collect();
    assert_eq!(both.len(), 1);
    assert_eq!(both[0].rooms[&task(1).into()], 1);
    assert_eq!(both[0].rooms[&user(7).into()], 11);
}
