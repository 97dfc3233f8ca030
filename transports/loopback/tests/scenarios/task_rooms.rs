//! The rooms of tasks: who watches one gets what happens in it (ADR 017, decisions 1 and 3).

use fanfare_core::{Payload, TaskEvent};
use fanfare_loopback::{Handshake, World, draft, event, joined, left, refusal, reply, task, user};

#[test]
fn who_joins_gets_what_comes_after_and_who_left_gets_nothing() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    world.publish_to_task(task(1), &[], draft("chat:message", "early"));
    let join = world.join(alice, task(1));
    world.publish_to_task(task(1), &[], draft("chat:message", "in time"));
    let leave = world.leave(alice, task(1));
    world.publish_to_task(task(1), &[], draft("chat:message", "late"));
    world.expect_all(
        alice,
        [
            joined(task(1), 1),
            reply(join),
            event("chat:message")
                .at(task(1), 2)
                .with("/data", "in time"),
            left(task(1), "asked"),
            reply(leave),
        ],
    );
    world.expect_nothing(alice);
}

#[test]
fn watchers_of_one_task_all_get_what_happens_in_it_and_watchers_of_another_nothing() {
    let mut world = World::new(1);
    let watchers = [7, 8].map(|number| world.connect(Handshake::chat(user(number), task(1))));
    let other = world.connect(Handshake::chat(user(9), task(2)));
    let receipt = world.publish_to_task(task(1), &[], draft("task:started", ()));
    assert_eq!(receipt.rooms()[0].connected, 2);
    for client in watchers {
        world.expect(client, event("task:started").at(task(1), 1));
        world.expect_nothing(client);
    }
    world.expect_nothing(other);
}

#[test]
fn a_user_in_several_tasks_gets_each_of_them_in_its_own_order() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    for number in [2, 3] {
        let join = world.join(alice, task(number));
        world.expect_all(alice, [joined(task(number), 0), reply(join)]);
    }
    for (number, seq) in [(1, 1), (2, 1), (1, 2), (3, 1), (2, 2), (1, 3)] {
        world.publish_to_task(task(number), &[], draft("chat:message", seq));
        world.expect(alice, event("chat:message").at(task(number), seq));
    }
    world.leave(alice, task(2));
    for (number, there) in [(1, 1), (2, 0), (3, 1)] {
        let receipt = world.publish_to_task(task(number), &[], draft("chat:message", ()));
        assert_eq!(receipt.rooms()[0].connected, there, "task {number}");
    }
}

#[test]
fn each_of_the_seven_events_of_a_task_reaches_its_watchers_and_the_users_named() {
    for kind in TaskEvent::ALL {
        let mut world = World::new(1);
        let watcher = world.connect(Handshake::chat(user(8), task(1)));
        let named = world.connect(Handshake::notifications(user(7)));
        let mut tasks = world.broadcaster();
        let (id, users, data) = (task(1), [user(7)], Payload::default());
        let receipt = match kind {
            TaskEvent::Created => tasks.created(id, &users, data),
            TaskEvent::Started => tasks.started(id, &users, data),
            TaskEvent::Completed => tasks.completed(id, &users, data),
            TaskEvent::Failed => tasks.failed(id, &users, data),
            TaskEvent::Cancelled => tasks.cancelled(id, &users, data),
            TaskEvent::Status => tasks.status_changed(id, &users, data),
            TaskEvent::Deleted => tasks.deleted(id, &users, data),
        };
        assert_eq!(receipt.unwrap().rooms().len(), 2, "{kind:?}");
        let name = kind.event_type();
        world.expect(watcher, event(name.as_str()).at(task(1), 1));
        world.expect(named, event(name.as_str()).at(user(7), 1));
        world.expect_nothing(named);
    }
}

#[test]
fn what_a_client_sends_reaches_everybody_in_the_room_with_its_name_on_it_also_itself() {
    let mut world = World::new(1);
    let [alice, bob] = [7, 8].map(|number| world.connect(Handshake::chat(user(number), task(1))));
    let send = world.send(alice, task(1), &draft("chat:message", "hello"));
    let hello = || {
        event("chat:message")
            .at(task(1), 1)
            .from(user(7))
            .with("/data", "hello")
    };
    let received = world.expect(bob, hello());
    world.expect(alice, hello());
    let answer = world.expect(alice, reply(send).with("/data/seq", 1));
    let (sent, seen) = (answer.to_string(), received.to_string());
    let id = |text: &str| {
        let after = text.split(r#""id":""#).nth(1).unwrap().to_owned();
        after.split('"').next().unwrap().to_owned()
    };
    assert_eq!(id(&sent), id(&seen), "the reply names the event");
}

#[test]
fn sending_to_or_leaving_a_room_that_was_not_joined_is_refused() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    let bob = world.connect(Handshake::chat(user(8), task(1)));
    let send = world.send(alice, task(1), &draft("chat:message", 1));
    world.expect(alice, refusal(send, "not_joined"));
    let leave = world.leave(alice, task(1));
    world.expect(alice, refusal(leave, "not_joined"));
    world.expect_nothing(bob);
}

#[test]
fn joining_twice_is_answered_and_doubles_nothing() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.publish_to_task(task(1), &[], draft("chat:message", 1));
    let join = world.join(alice, task(1));
    let receipt = world.publish_to_task(task(1), &[], draft("chat:message", 2));
    assert_eq!(receipt.rooms()[0].connected, 1);
    world.expect_all(
        alice,
        [
            event("chat:message").at(task(1), 1),
            joined(task(1), 1),
            reply(join),
            event("chat:message").at(task(1), 2),
        ],
    );
    world.expect_nothing(alice);
}

#[test]
fn disconnecting_leaves_all_rooms_and_who_stays_notices_nothing() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.join(alice, task(2));
    let bob = world.connect(Handshake::chat(user(8), task(1)));
    world.disconnect(alice);
    for (rooms, there) in [
        (
            world.publish_to_task(task(1), &[user(7)], draft("chat:message", 1)),
            [1, 0],
        ),
        (
            world.publish_to_task(task(2), &[user(7)], draft("chat:message", 1)),
            [0, 0],
        ),
    ] {
        let connected: Vec<usize> = rooms.rooms().iter().map(|room| room.connected).collect();
        assert_eq!(connected, there);
    }
    world.expect(bob, event("chat:message").at(task(1), 1));
    world.expect_nothing(bob);
    assert_eq!((world.connections(), world.devices(user(7))), (1, vec![]));
}
