//! The same id, content and rooms again is the first event again, not a second one.

use fanfare_core::{Draft, Publish, Target};
use fanfare_loopback::{Handshake, World, draft, event, refusal, reply, task, user};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

fn order(data: u32) -> Draft {
    draft("chat:message", data).with_id("order:1".parse().unwrap())
}

fn to_task(users: &[u64]) -> Target {
    Target::Task {
        task: task(1),
        users: users.iter().map(|number| user(*number)).collect(),
    }
}

#[test]
fn a_retry_gets_the_first_answer_and_nobody_gets_a_second_event() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let subscriber = world.subscribe(&["*".parse().unwrap()]);
    let first = world.publish_to_task(task(1), &[user(7)], order(1));
    world.publish_to_task(task(1), &[], draft("chat:message", "between"));
    let again = world.publish_to_task(task(1), &[user(7)], order(1));
    assert!(!first.duplicate() && again.duplicate());
    assert_eq!((first.id(), first.rooms()), (again.id(), again.rooms()));
    for client in [alice, subscriber] {
        world.expect(
            client,
            event("chat:message")
                .at(task(1), 1)
                .at(user(7), 1)
                .with("/id", "order:1"),
        );
        world.expect(client, event("chat:message").at(task(1), 2));
        world.expect_nothing(client);
    }
}

#[test]
fn an_id_used_for_anything_else_is_refused_and_changes_nothing() {
    let other = |draft: Draft, target: Target| Publish { target, draft };
    for (name, publish) in [
        ("content", other(order(2), to_task(&[7]))),
        (
            "type",
            other(
                draft("chat:other", 1).with_id("order:1".parse().unwrap()),
                to_task(&[7]),
            ),
        ),
        ("users", other(order(1), to_task(&[8]))),
        ("no users", other(order(1), to_task(&[]))),
        ("room", other(order(1), Target::User(user(7)))),
        ("no room", other(order(1), Target::Bus)),
        ("ephemeral", other(order(1).ephemeral(None), to_task(&[7]))),
        (
            "notify",
            other(
                Draft {
                    notify: Some(true),
                    ..order(1)
                },
                to_task(&[7]),
            ),
        ),
    ] {
        let mut world = World::new(1);
        let alice = world.connect(Handshake::chat(user(7), task(1)));
        world.publish_to_task(task(1), &[user(7)], order(1));
        world.received(alice);
        let error = world.try_publish(publish).unwrap_err();
        assert_eq!(error.code(), "id_reused", "{name}");
        world.expect_nothing(alice);
        assert!(
            world
                .publish_to_task(task(1), &[user(7)], order(1))
                .duplicate(),
            "{name}"
        );
    }
}

#[test]
fn the_order_in_which_users_are_named_and_naming_one_twice_make_no_other_publish() {
    let mut world = World::new(1);
    world.publish_to_task(task(1), &[user(7), user(8)], order(1));
    let again = world.publish_to_task(task(1), &[user(8), user(7), user(8)], order(1));
    assert!(again.duplicate());
}

#[test]
fn a_retried_end_of_a_task_is_answered_though_the_task_has_ended() {
    let mut world = World::new(1);
    let done = || draft("task:completed", 1).with_id("done".parse().unwrap());
    world.publish_to_task(task(1), &[], done());
    assert!(world.publish_to_task(task(1), &[], done()).duplicate());
    world.publish_refused(to_task(&[]), draft("task:completed", 1), "lifecycle");
    let gone = || draft("task:deleted", ()).with_id("gone".parse().unwrap());
    world.publish_to_task(task(1), &[], gone());
    assert!(world.publish_to_task(task(1), &[], gone()).duplicate());
}

#[test]
fn an_id_that_was_refused_is_not_used_up() {
    let mut world = World::new(1);
    world.publish_to_task(task(1), &[], draft("task:completed", ()));
    let started = draft("task:started", ()).with_id("order:1".parse().unwrap());
    world.publish_refused(to_task(&[]), started, "lifecycle");
    assert!(!world.publish_to_task(task(1), &[], order(1)).duplicate());
}

#[test]
fn an_id_is_known_for_a_day_and_new_after_it() {
    let mut world = World::new(1);
    world.publish_to_task(task(1), &[], order(1));
    world.advance_ms(DAY_MS - 1);
    assert!(world.publish_to_task(task(1), &[], order(1)).duplicate());
    world.advance_ms(1);
    let new = world.publish_to_task(task(1), &[], order(1));
    assert!(!new.duplicate());
    assert_eq!(new.rooms()[0].seq.number(), 2);
}

#[test]
fn a_client_that_sends_again_gets_the_first_answer_and_another_client_is_refused() {
    let mut world = World::new(1);
    let [alice, bob] = [7, 8].map(|number| world.connect(Handshake::chat(user(number), task(1))));
    let first = world.send(alice, task(1), &order(1));
    let again = world.send(alice, task(1), &order(1));
    let foreign = world.send(bob, task(1), &order(1));
    world.expect_all(
        alice,
        [
            event("chat:message").at(task(1), 1),
            reply(first)
                .with("/data/id", "order:1")
                .with("/data/seq", 1)
                .with("/data/duplicate", ()),
            reply(again)
                .with("/data/id", "order:1")
                .with("/data/seq", 1)
                .with("/data/duplicate", true),
        ],
    );
    world.expect_all(
        bob,
        [
            event("chat:message").at(task(1), 1),
            refusal(foreign, "id_reused"),
        ],
    );
    world.publish_refused(to_task(&[]), order(1), "id_reused");
    world.expect_nothing(alice);
}

#[test]
fn an_ephemeral_event_with_an_id_is_sent_once_too() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let typing = || order(1).ephemeral("k".parse().ok());
    assert!(!world.publish_to_task(task(1), &[], typing()).duplicate());
    world.expect(alice, event("chat:message").at(task(1), 0).ephemeral());
    assert!(world.publish_to_task(task(1), &[], typing()).duplicate());
    world.expect_nothing(alice);
}
