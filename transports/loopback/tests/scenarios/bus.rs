//! The bus: who subscribes to a type gets every event of it, once and in order (ADR 017, decision 2).

use crate::seqs;
use fanfare_core::{CloseCode, Limits, Pattern, Target};
use fanfare_loopback::{
    Handshake, Received, Settings, World, closed, draft, event, refusal, reply, task, user, welcome,
};

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn kinds(received: &[Received]) -> Vec<&str> {
    let events = received.iter().map(|it| it.event().unwrap());
    events.map(|event| event.kind.as_str()).collect()
}

#[test]
fn a_subscriber_gets_every_event_of_its_type_once_with_all_rooms_and_no_other() {
    let mut world = World::new(1);
    let subscriber = world.subscribe(&patterns(&["task:*"]));
    world.publish_to_task(task(1), &[user(7)], draft("task:created", 1));
    world.publish_to_task(task(1), &[], draft("chat:message", 2));
    world.publish_to_task(task(1), &[], draft("task:started", 3));
    world.expect(
        subscriber,
        event("task:created")
            .at(task(1), 1)
            .at(user(7), 1)
            .with("/data", 1),
    );
    world.expect(subscriber, event("task:started").at(task(1), 3));
    world.expect_nothing(subscriber);
}

#[test]
fn patterns_choose_by_type_and_an_event_that_several_match_comes_once() {
    const PUBLISHED: [&str; 4] = ["task:created", "chat:message", "chat:typing", "note:added"];
    for (subscribed, expected) in [
        (&["chat:message"][..], &["chat:message"][..]),
        (&["chat:*"], &["chat:message", "chat:typing"]),
        (&["*"], &PUBLISHED),
        (&["chat:typing", "task:*"], &["task:created", "chat:typing"]),
        (&["*", "chat:*", "chat:message"], &PUBLISHED),
        (&["chat:other"], &[]),
        (&[], &[]),
    ] {
        let mut world = World::new(1);
        let subscriber = world.subscribe(&patterns(subscribed));
        let connection = world.connect(Handshake::bus(patterns(subscribed)));
        for kind in PUBLISHED {
            world.publish_to_task(task(1), &[user(7)], draft(kind, ()));
        }
        for client in [subscriber, connection] {
            let received = world.received(client);
            assert_eq!(kinds(&received), expected, "{subscribed:?}");
        }
    }
}

#[test]
fn what_has_no_room_reaches_subscribers_only() {
    let mut world = World::new(1);
    let subscriber = world.subscribe(&patterns(&["*"]));
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let receipt = world.publish(None, draft("deploy:done", "v2"));
    assert!(receipt.rooms().is_empty());
    world.expect(
        subscriber,
        event("deploy:done").with("/rooms", ()).with("/data", "v2"),
    );
    world.expect_nothing(alice);
}

#[test]
fn every_room_comes_in_its_own_order_whoever_publishes() {
    let mut world = World::new(1);
    let subscriber = world.subscribe(&patterns(&["*"]));
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    for number in 1..=3 {
        world.publish_to_task(task(2), &[user(7)], draft("chat:message", number));
        world.send(alice, task(1), &draft("chat:message", number));
    }
    for number in 1..=3 {
        let message = || event("chat:message").with("/data", number);
        world.expect(
            subscriber,
            message().at(task(2), number).at(user(7), number),
        );
        world.expect(subscriber, message().at(task(1), number).from(user(7)));
    }
    world.expect_nothing(subscriber);
}

#[test]
fn who_unsubscribed_gets_nothing_more_and_the_others_do() {
    let mut world = World::new(1);
    let (gone, there) = (
        world.subscribe(&patterns(&["*"])),
        world.subscribe(&patterns(&["*"])),
    );
    assert!(world.unsubscribe(gone));
    assert!(!world.unsubscribe(gone));
    world.publish_to_user(user(7), draft("note:added", 1));
    world.expect_nothing(gone);
    world.expect(there, event("note:added").at(user(7), 1));
}

#[test]
fn a_refused_publish_reaches_no_subscriber() {
    let mut world = World::new(1);
    let subscriber = world.subscribe(&patterns(&["*"]));
    let bus = || Target::Bus;
    world.publish_refused(bus(), draft("system:welcome", 1), "reserved_type");
    world.publish_refused(bus(), draft("inbox:read", 1), "reserved_type");
    world.expect_nothing(subscriber);
}

#[test]
fn a_subscriber_that_is_slow_is_told_what_of_which_room_it_lost() {
    let limits = Limits {
        outbox_bytes: 2_000,
        ..Limits::default()
    };
    for connection in [false, true] {
        let mut world = World::with(Settings {
            limits: limits.clone(),
            ..Settings::default()
        });
        let slow = if connection {
            world.connect(Handshake::bus(patterns(&["*"])).window_bytes(1))
        } else {
            world.subscribe(&patterns(&["*"]))
        };
        world.stop_reading(slow);
        for number in 1..=20_u64 {
            world.publish_to_user(user(number % 2), draft("note:added", "x".repeat(300)));
        }
        world.resume_reading(slow);
        world.publish_to_user(user(0), draft("note:added", "now"));
        let received = world.received(slow);
        let events = received
            .iter()
            .take_while(|it| it.event().is_some())
            .count();
        // In each of the two rooms an equal share was taken, then nothing.
        assert!((1..10).contains(&events), "{connection} {events}");
        let taken = |room: u64| seqs(&received[..events], user(room)).len() as u64;
        let told: Vec<(u64, u64)> = received[events..]
            .iter()
            .filter_map(|it| it.system("system:gap"))
            .map(|gap| (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap()))
            .collect();
        // The one that was published while it caught up may be told as lost too, or come.
        assert_eq!(told[1], (taken(1) + 1, 10), "{connection}");
        assert_eq!(told[0].0, taken(0) + 1, "{connection}");
        let last_came = event("note:added").with("/data", "now");
        let last_came = last_came.matches(received.last().unwrap());
        assert_eq!(told[0].1, if last_came { 10 } else { 11 }, "{connection}");
    }
}

#[test]
fn a_subscriber_that_lost_what_no_history_has_is_given_up() {
    let mut world = World::with(Settings {
        limits: Limits {
            outbox_bytes: 1_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let slow = world.subscribe(&patterns(&["*"]));
    let connection = world.connect(Handshake::bus(patterns(&["*"])).window_bytes(1));
    for client in [slow, connection] {
        world.stop_reading(client);
    }
    for _ in 0..10 {
        world.publish(None, draft("deploy:done", "x".repeat(300)));
    }
    for client in [slow, connection] {
        world.resume_reading(client);
        world.expect(client, event("deploy:done"));
    }
    let rest = world.received(slow);
    assert_eq!(rest.last(), Some(&Received::Overrun), "{rest:?}");
    assert!(!world.unsubscribe(slow), "it is unsubscribed");
    let rest = world.received(connection);
    let end = closed(CloseCode::TOO_SLOW);
    assert!(end.matches(rest.last().unwrap()), "{rest:?}");
}

#[test]
fn a_back_end_on_the_bus_is_welcomed_and_only_listens() {
    let mut world = World::new(1);
    let back_end = world.open(Handshake::bus(patterns(&["task:*", "chat:message"])));
    let types = serde_json::json!(["task:*", "chat:message"]);
    world.expect(
        back_end,
        welcome()
            .with("/data/types", types)
            .with("/data/heartbeat_ms", 25_000),
    );
    let ping = world.ping(back_end);
    world.expect(back_end, reply(ping));
    let join = world.join(back_end, task(1));
    world.expect(back_end, refusal(join, "forbidden"));
    let send = world.send(back_end, task(1), &draft("chat:message", 1));
    world.expect(back_end, refusal(send, "forbidden"));
    world.expect_nothing(back_end);
}

#[test]
fn the_bus_takes_as_many_subscribers_as_it_may_and_one_that_goes_makes_room() {
    let mut world = World::with(Settings {
        limits: Limits {
            subscriptions: 2,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let first = world.connect(Handshake::bus(patterns(&["*"])));
    world.subscribe(&patterns(&["*"]));
    let third = world.open(Handshake::bus(patterns(&["*"])));
    world.expect_closed(third, CloseCode::TOO_MANY_CONNECTIONS);
    world.disconnect(first);
    world.connect(Handshake::bus(patterns(&["*"])));
}
