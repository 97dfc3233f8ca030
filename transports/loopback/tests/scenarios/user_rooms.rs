//! The rooms of users: every connection of a person, and nobody else's (ADR 017, decisions 1 and 5).

use fanfare_core::RoomId;
use fanfare_loopback::{Handshake, World, draft, event, refusal, task, user, welcome};

#[test]
fn a_notification_reaches_its_user_only() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    let bob = world.connect(Handshake::notifications(user(8)));
    world.publish_to_user(user(7), draft("note:added", "milk"));
    world.expect(
        alice,
        event("note:added").at(user(7), 1).with("/data", "milk"),
    );
    world.expect_nothing(alice);
    world.expect_nothing(bob);
}

#[test]
fn whoever_connects_is_in_their_own_room_on_both_endpoints() {
    let mut world = World::new(1);
    let chat = world.open(Handshake::chat(user(7), task(1)));
    let notifications = world.open(Handshake::notifications(user(7)));
    world.expect(
        chat,
        welcome()
            .standing(user(7), 0)
            .standing(task(1), 0)
            .with("/data/user", "user:7"),
    );
    let only = world.expect(notifications, welcome().standing(user(7), 0));
    assert!(
        !only.to_string().contains("task:"),
        "notifications join no task's room: {only}"
    );
    let receipt = world.publish_to_user(user(7), draft("note:added", 1));
    assert_eq!(receipt.rooms()[0].connected, 2);
    for client in [chat, notifications] {
        world.expect(client, event("note:added").at(user(7), 1));
    }
}

#[test]
fn users_named_in_one_publish_get_one_event_and_see_their_own_number_only() {
    let mut world = World::new(1);
    let clients = [7, 8, 9].map(|number| world.connect(Handshake::notifications(user(number))));
    world.publish_to_user(user(8), draft("note:added", 0));
    world.expect(clients[1], event("note:added").at(user(8), 1));
    let receipt = world.publish_to_task(
        task(1),
        &[user(9), user(7), user(8), user(7)],
        draft("task:created", ()),
    );
    let rooms: Vec<RoomId> = receipt.rooms().iter().map(|room| room.room).collect();
    assert_eq!(
        rooms,
        [
            task(1).into(),
            user(7).into(),
            user(8).into(),
            user(9).into()
        ]
    );
    for (client, number, seq) in [(clients[0], 7, 1), (clients[1], 8, 2), (clients[2], 9, 1)] {
        world.expect(
            client,
            event("task:created")
                .at(user(number), seq)
                .with("/id", receipt.id().as_str()),
        );
        world.expect_nothing(client);
    }
}

#[test]
fn a_user_who_is_not_there_is_counted_as_nobody_and_costs_nobody_anything() {
    let mut world = World::new(1);
    let bob = world.connect(Handshake::notifications(user(8)));
    let receipt = world.publish_to_user(user(7), draft("note:added", 1));
    assert_eq!(receipt.rooms()[0].connected, 0);
    world.expect_nothing(bob);
}

#[test]
fn nobody_joins_or_leaves_a_users_room_by_a_message_not_even_their_own() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    for (op, room) in [
        ("join", user(8)),
        ("join", user(7)),
        ("leave", user(7)),
        ("leave", user(8)),
    ] {
        world.say(
            alice,
            &format!(r#"{{"op":"{op}","room":"user:{room}","ref":"{op}"}}"#),
        );
        world.expect(alice, refusal(op, "forbidden"));
    }
    world.publish_to_user(user(8), draft("note:added", "secret"));
    world.expect_nothing(alice);
    world.publish_to_user(user(7), draft("note:added", "mine"));
    world.expect(alice, event("note:added").at(user(7), 1));
}
