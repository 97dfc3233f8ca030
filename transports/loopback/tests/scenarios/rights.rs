//! Who may: tokens that come late, end, are replaced; rooms that a token does not name.

use fanfare_core::{Claims, CloseCode, TaskGrant, UserId};
use fanfare_loopback::{
    Handshake, World, draft, event, expiring, joined, left, refusal, reply, task, user, welcome,
};

/// Claims that are good for so many seconds from now.
fn claims(world: &World, user: UserId, seconds: u64, tasks: &[u32]) -> Claims {
    let exp = world.now().wall.as_unix_millis() / 1_000 + seconds;
    let mut tasks: Vec<_> = tasks.iter().map(|number| task(*number)).collect();
    tasks.sort();
    Claims::new(user, exp, TaskGrant::Only(tasks))
}

#[test]
fn a_token_may_come_as_the_first_message_and_is_answered_by_welcome_and_reply() {
    let mut world = World::new(1);
    let alice = world.open(Handshake::chat(user(7), task(1)).token_later());
    world.expect_nothing(alice);
    let early = world.join(alice, task(1));
    world.expect(alice, refusal(early, "unauthenticated"));
    world.publish_to_task(task(1), &[user(7)], draft("chat:message", "before"));
    let claims = claims(&world, user(7), 60, &[1]);
    let auth = world.auth(alice, &claims);
    world.expect(alice, welcome().standing(task(1), 1).standing(user(7), 1));
    world.expect(alice, reply(auth));
    world.publish_to_task(task(1), &[], draft("chat:message", "after"));
    world.received(alice);
    world.expect_nothing(alice);
}

#[test]
fn a_token_that_is_not_good_closes_the_connection_with_its_code() {
    for (name, claims, code) in [
        ("no claims", None, CloseCode::BAD_TOKEN),
        ("ended", Some((0, &[1][..])), CloseCode::BAD_TOKEN),
        ("another task", Some((60, &[2])), CloseCode::NOT_ALLOWED),
    ] {
        let mut world = World::new(1);
        let alice = world.open(Handshake::chat(user(7), task(1)).token_later());
        match claims {
            None => world.say(alice, r#"{"op":"auth","token":"forged"}"#),
            Some((seconds, tasks)) => {
                let claims = self::claims(&world, user(7), seconds, tasks);
                world.auth(alice, &claims);
            }
        }
        let received = world.received(alice);
        let last = received.last().map(ToString::to_string).unwrap_or_default();
        assert!(last.contains(&code.to_string()), "{name}: {received:?}");
        assert_eq!(world.connections(), 0, "{name}");
    }
}

#[test]
fn a_token_for_another_task_is_not_let_into_this_ones_chat() {
    let mut world = World::new(1);
    let alice = world.open(Handshake::chat(user(7), task(1)).tasks(&[task(2)]));
    world.expect_closed(alice, CloseCode::NOT_ALLOWED);
    let receipt = world.publish_to_task(task(1), &[user(7)], draft("chat:message", 1));
    assert!(receipt.rooms().iter().all(|room| room.connected == 0));
}

#[test]
fn a_room_that_the_token_does_not_name_is_refused_in_the_same_words_whether_it_exists_or_not() {
    let mut world = World::new(1);
    world.publish_to_task(task(2), &[], draft("task:created", ()));
    world.publish_to_task(task(4), &[], draft("task:deleted", ()));
    let alice = world.connect(Handshake::notifications(user(7)).tasks(&[task(1)]));
    let answers = [2, 3, 4].map(|number| {
        let join = world.join(alice, task(number));
        let answer = world.expect(alice, refusal(join, "forbidden"));
        answer.to_string().replace(&format!(r#""ref":{join}"#), "")
    });
    assert!(
        answers[0] == answers[1] && answers[1] == answers[2],
        "{answers:?}"
    );
    let join = world.join(alice, task(1));
    world.expect_all(alice, [joined(task(1), 0), reply(join)]);
    world.publish_to_task(task(2), &[], draft("chat:message", "secret"));
    world.expect_nothing(alice);
}

#[test]
fn a_token_that_ends_is_announced_a_minute_before_and_closes_when_it_ends() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)).valid_for_ms(120_000));
    world.advance_ms(59_999);
    world.expect_nothing(alice);
    world.advance_ms(1);
    world.expect(alice, expiring(60_000));
    world.publish_to_task(task(1), &[], draft("chat:message", 1));
    world.expect(alice, event("chat:message").at(task(1), 1));
    world.advance_ms(59_999);
    world.expect_nothing(alice);
    world.advance_ms(1);
    world.publish_to_task(task(1), &[], draft("chat:message", "too late"));
    world.expect_closed(alice, CloseCode::TOKEN_EXPIRED);
}

#[test]
fn a_token_that_is_short_is_announced_at_once() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)).valid_for_ms(10_000));
    world.expect(alice, expiring(10_000));
    world.advance_ms(10_000);
    world.expect_closed(alice, CloseCode::TOKEN_EXPIRED);
}

#[test]
fn a_new_token_in_place_of_one_that_ends_keeps_the_connection_and_its_rooms() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)).valid_for_ms(120_000));
    for number in 1..=5 {
        world.advance_ms(60_000);
        world.expect(alice, expiring(60_000));
        let claims = claims(&world, user(7), 120, &[1]);
        let auth = world.auth(alice, &claims);
        world.expect(alice, reply(auth));
        world.publish_to_task(task(1), &[user(7)], draft("chat:message", number));
        world.expect(
            alice,
            event("chat:message")
                .at(task(1), number)
                .at(user(7), number),
        );
    }
    world.expect_nothing(alice);
}

#[test]
fn a_new_token_that_names_fewer_tasks_takes_the_connection_out_of_the_others() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let join = world.join(alice, task(2));
    world.expect_all(alice, [joined(task(2), 0), reply(join)]);
    let claims = claims(&world, user(7), 300, &[2]);
    let auth = world.auth(alice, &claims);
    world.expect_all(alice, [left(task(1), "forbidden"), reply(auth)]);
    world.publish_to_task(task(1), &[], draft("chat:message", "secret"));
    world.publish_to_task(task(2), &[], draft("chat:message", 1));
    world.expect(alice, event("chat:message").at(task(2), 1));
    world.expect_nothing(alice);
    let again = world.join(alice, task(1));
    world.expect(alice, refusal(again, "forbidden"));
}

#[test]
fn a_new_token_of_another_user_ends_the_connection() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    let claims = claims(&world, user(8), 300, &[]);
    world.auth(alice, &claims);
    world.expect_closed(alice, CloseCode::BAD_TOKEN);
}

#[test]
fn what_a_client_may_send_is_what_its_token_says() {
    let mut world = World::new(1);
    let alice = world.open(Handshake::chat(user(7), task(1)).token_later());
    let mut claims = claims(&world, user(7), 300, &[1]);
    claims.send = vec!["note:*".parse().unwrap(), "chat:typing".parse().unwrap()];
    world.auth(alice, &claims);
    world.received(alice);
    for (kind, may) in [
        ("note:added", true),
        ("chat:typing", true),
        ("chat:message", false),
        ("task:status", false),
        ("system:welcome", false),
    ] {
        let send = world.send(alice, task(1), &draft(kind, 1));
        if may {
            world.expect_all(alice, [event(kind), reply(send)]);
        } else {
            world.expect(alice, refusal(send, "forbidden"));
        }
    }
}

#[test]
fn a_back_end_disconnects_all_of_a_user_and_nobody_else() {
    let mut world = World::new(1);
    let alices = [
        world.connect(Handshake::chat(user(7), task(1))),
        world.connect(Handshake::notifications(user(7)).device("phone")),
    ];
    let bob = world.connect(Handshake::chat(user(8), task(1)));
    world.disconnect_user(user(7));
    world.publish_to_task(task(1), &[user(7)], draft("chat:message", 1));
    for alice in alices {
        world.expect_closed(alice, CloseCode::DISCONNECTED);
    }
    world.expect(bob, event("chat:message").at(task(1), 1));
    assert_eq!(world.devices(user(7)), []);
}
