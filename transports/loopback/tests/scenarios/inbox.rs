//! Notifications for who is offline: each device gets what it has not acknowledged, and all agree on what is unread.

use crate::seqs;
use fanfare_core::{Limits, Retention, Target, UserId};
use fanfare_loopback::{
    Client, Handshake, Received, Settings, World, draft, event, gap, refusal, reply, task, user,
    welcome,
};

const ALICE: UserId = user(7);

fn notify(world: &mut World, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let id = format!("n:{number}").parse().unwrap();
        world.publish_to_user(ALICE, draft("user:notification", number).with_id(id));
    }
}

fn device(world: &mut World, name: &str) -> Client {
    world.open(Handshake::notifications(ALICE).device(name))
}

fn small(user_log_events: usize) -> World {
    World::with(Settings {
        limits: Limits {
            user_log_events,
            devices_per_user: 2,
            device_ms: 1_000_000,
            ..Limits::default()
        },
        ..Settings::default()
    })
}

/// What came, up to here: the numbers in the user's room.
fn came(world: &mut World, client: Client) -> Vec<u64> {
    let received = world.received(client);
    seqs(&received, ALICE)
}

#[test]
fn a_device_gets_what_came_while_it_was_away_until_it_acknowledges() {
    let mut world = World::new(1);
    notify(&mut world, 1..=3);
    for _ in 0..2 {
        let phone = device(&mut world, "phone");
        world.expect(phone, welcome().with("/data/inbox/unread", 3));
        assert_eq!(came(&mut world, phone), [1, 2, 3]);
        world.disconnect(phone);
    }
    let phone = device(&mut world, "phone");
    world.received(phone);
    let ack = world.ack(phone, 2);
    world.expect(phone, reply(ack).with("/data/seq", 2));
    world.disconnect(phone);
    let phone = device(&mut world, "phone");
    world.expect(phone, welcome().recovered(ALICE, true));
    assert_eq!(came(&mut world, phone), [3]);
    // Another device has a cursor of its own.
    let tablet = device(&mut world, "tablet");
    world.expect(tablet, welcome());
    assert_eq!(came(&mut world, tablet), [1, 2, 3]);
}

#[test]
fn without_a_device_only_what_is_new_comes_and_a_position_overrides_a_cursor() {
    let mut world = World::new(1);
    let watcher = world.connect(Handshake::notifications(ALICE));
    let origin = world.position(watcher, ALICE).unwrap();
    notify(&mut world, 1..=3);
    let nameless = world.open(Handshake::notifications(ALICE));
    world.expect(nameless, welcome().recovered(ALICE, ()));
    world.expect_nothing(nameless);
    let phone = device(&mut world, "phone");
    world.received(phone);
    world.ack(phone, 3);
    world.received(phone);
    let handshake = Handshake::notifications(ALICE).device("phone");
    world.reopen_with(phone, handshake.since(ALICE, origin));
    world.expect(phone, welcome().recovered(ALICE, true));
    assert_eq!(came(&mut world, phone), [1, 2, 3]);
}

#[test]
fn a_cursor_never_goes_back_nor_beyond_what_was_sent() {
    let mut world = World::new(1);
    let phone = device(&mut world, "phone");
    notify(&mut world, 1..=5);
    world.received(phone);
    for (seq, cursor) in [(3, 3), (3, 3), (1, 3), (0, 3), (5, 5)] {
        let ack = world.ack(phone, seq);
        world.expect(phone, reply(ack).with("/data/seq", cursor));
    }
    let ack = world.ack(phone, 6);
    world.expect(phone, refusal(ack, "bad_request"));
    let epoch = world.position(phone, ALICE).unwrap().epoch;
    for (named, expected) in [
        ("elsewhere", refusal(1, "bad_request")),
        (epoch.as_str(), reply(1)),
    ] {
        world.say(
            phone,
            &format!(r#"{{"op":"ack","ref":1,"epoch":"{named}","seq":5}}"#),
        );
        world.expect(phone, expected);
    }
    assert_eq!(world.inbox(ALICE).devices[0].cursor.number(), 5);
}

#[test]
fn a_number_that_names_no_epoch_counts_for_nothing_once_the_room_began_anew() {
    let mut world = World::with(Settings {
        limits: Limits {
            log_bytes: 20_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let phone = device(&mut world, "phone");
    notify(&mut world, 1..=3);
    world.received(phone);
    for _ in 0..30 {
        world.publish_to_task(task(2), &[], draft("chat:message", "x".repeat(1_000)));
    }
    world.expect(phone, gap(ALICE, 1, 0, "epoch"));
    notify(&mut world, 4..=6);
    world.received(phone);
    let epoch = world.position(phone, ALICE).unwrap().epoch;
    for (op, sets, expected) in [
        ("ack", r#""seq":3"#.to_owned(), refusal(1, "bad_request")),
        ("read", r#""up_to":3"#.to_owned(), refusal(1, "bad_request")),
        ("read", r#""ids":["n:1"]"#.to_owned(), reply(1)),
        ("ack", format!(r#""seq":3,"epoch":"{epoch}""#), reply(1)),
    ] {
        let message = format!(r#"{{"op":"{op}","ref":1,{sets}}}"#);
        world.say(phone, &message);
        world.expect(phone, expected);
    }
    // One that comes now was told of no other epoch.
    let tablet = device(&mut world, "tablet");
    world.received(tablet);
    let ack = world.ack(tablet, 3);
    world.expect(tablet, reply(ack).with("/data/seq", 3));
}

#[test]
fn what_is_still_read_from_the_log_was_not_sent_and_can_not_be_acknowledged() {
    let mut world = World::with(Settings {
        limits: Limits {
            outbox_bytes: 2_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let handshake = Handshake::notifications(ALICE).device("phone");
    let phone = world.connect(handshake.window_bytes(1));
    world.stop_reading(phone);
    for _ in 0..20 {
        world.publish_to_user(ALICE, draft("user:notification", "x".repeat(500)));
    }
    let ack = world.ack(phone, 20);
    world.resume_reading(phone);
    let received = world.received(phone);
    assert!(
        received
            .iter()
            .any(|it| refusal(ack, "bad_request").matches(it))
    );
    let last = received.iter().filter_map(|it| it.event()).next_back();
    assert_eq!(
        last.unwrap().unread,
        Some(20),
        "the last one bears the count"
    );
}

#[test]
fn an_ack_needs_a_device() {
    let mut world = World::new(1);
    let nameless = world.connect(Handshake::notifications(ALICE));
    let ack = world.ack(nameless, 0);
    world.expect(nameless, refusal(ack, "forbidden"));
}

#[test]
fn an_ack_does_not_read_and_a_read_does_not_acknowledge() {
    let mut world = World::new(1);
    let phone = device(&mut world, "phone");
    notify(&mut world, 1..=2);
    world.received(phone);
    world.ack(phone, 2);
    assert_eq!(world.inbox(ALICE).unread, 2);
    world.received(phone);
    notify(&mut world, 3..=3);
    world.read_up_to(phone, 3);
    world.received(phone);
    world.disconnect(phone);
    let phone = device(&mut world, "phone");
    // What was read and not acknowledged, and the news that it was read.
    assert_eq!(came(&mut world, phone), [3, 4]);
}

#[test]
fn a_read_is_told_to_all_devices_in_one_order_with_the_new_count() {
    let mut world = World::new(1);
    let [phone, tablet] = ["phone", "tablet"].map(|name| device(&mut world, name));
    world.received(phone);
    world.received(tablet);
    notify(&mut world, 1..=4);
    for client in [phone, tablet] {
        for seq in 1..=4 {
            let told = event("user:notification").at(ALICE, seq).unread(seq);
            world.expect(client, told);
        }
    }
    let up_to = world.read_up_to(phone, 2);
    world.expect(
        phone,
        event("inbox:read")
            .at(ALICE, 5)
            .unread(2)
            .with("/data/up_to", 2),
    );
    world.expect(
        phone,
        reply(up_to).with("/data/unread", 2).with("/data/seq", 5),
    );
    let ids = world.read_ids(tablet, &["n:4", "nobody:1", "n:1"]);
    let told = |seq, unread| event("inbox:read").at(ALICE, seq).unread(unread);
    world.expect_all(
        tablet,
        [told(5, 2), told(6, 1), reply(ids).with("/data/unread", 1)],
    );
    world.expect(phone, told(6, 1));
    // What changes nothing is told to nobody.
    for (again, unread) in [
        (world.read_up_to(phone, 2), 1),
        (world.read_ids(phone, &[]), 1),
    ] {
        world.expect(
            phone,
            reply(again)
                .with("/data/unread", unread)
                .with("/data/seq", ()),
        );
    }
    world.expect_nothing(tablet);
    assert_eq!(world.inbox(ALICE).unread, 1);
}

#[test]
fn a_read_that_can_not_be_is_refused() {
    let mut world = World::new(1);
    let phone = device(&mut world, "phone");
    world.received(phone);
    notify(&mut world, 1..=1);
    world.received(phone);
    for text in [
        r#"{"op":"read","ref":1,"up_to":2}"#,
        r#"{"op":"read","ref":1}"#,
        r#"{"op":"read","ref":1,"up_to":1,"ids":[]}"#,
        r#"{"op":"read","ref":1,"up_to":-1}"#,
        r#"{"op":"read","ref":1,"up_to":1,"epoch":"elsewhere"}"#,
        r#"{"op":"read","ref":1,"ids":[],"epoch":"elsewhere"}"#,
        r#"{"op":"ack","ref":1,"seq":1,"epoch":"elsewhere"}"#,
        r#"{"op":"ack","ref":1}"#,
        r#"{"op":"ack","ref":1,"seq":"1"}"#,
    ] {
        world.say(phone, text);
        world.expect(phone, refusal(1, "bad_request"));
    }
    let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let read = world.read_ids(phone, &many);
    world.expect(phone, refusal(read, "too_large"));
    let inbox = world.inbox(ALICE);
    assert_eq!(inbox.unread, 1);
    let epoch = inbox.epoch;
    world.say(
        phone,
        &format!(r#"{{"op":"read","ref":1,"up_to":1,"epoch":"{epoch}"}}"#),
    );
    world.expect(phone, event("inbox:read").unread(0));
    world.expect(phone, reply(1));
}

#[test]
fn what_counts_as_a_notification_is_as_documented() {
    let life = |name: &str| draft(&format!("task:{name}"), ());
    let to_task = |number| Target::Task {
        task: task(number),
        users: vec![ALICE],
    };
    let mut ephemeral = draft("user:notification", 1);
    ephemeral.retention = Retention::Ephemeral { key: None };
    ephemeral.notify = Some(true);
    let with = |notify| {
        let mut draft = draft("chat:message", 1);
        draft.notify = Some(notify);
        draft
    };
    for (name, target, draft, counts) in [
        ("to the user", Target::User(ALICE), draft("a:b", 1), 1),
        ("to the user, silently", Target::User(ALICE), with(false), 0),
        ("not kept", Target::User(ALICE), ephemeral, 0),
        ("created", to_task(1), life("created"), 1),
        ("started", to_task(2), life("started"), 0),
        ("status", to_task(3), life("status"), 0),
        ("completed", to_task(4), life("completed"), 1),
        ("failed", to_task(5), life("failed"), 1),
        ("cancelled", to_task(6), life("cancelled"), 1),
        ("deleted", to_task(7), life("deleted"), 0),
        ("chat", to_task(8), draft("chat:message", 1), 0),
        ("chat, loudly", to_task(9), with(true), 1),
    ] {
        let mut world = World::new(1);
        let phone = world.connect(Handshake::notifications(ALICE));
        world.publish_refused(target.clone(), draft_reserved(), "reserved_type");
        world
            .try_publish(fanfare_core::Publish { target, draft })
            .unwrap();
        let received = world.received(phone);
        assert_eq!(received[0].event().unwrap().unread, Some(counts), "{name}");
        assert_eq!(world.inbox(ALICE).unread as u64, counts, "{name}");
    }
}

fn draft_reserved() -> fanfare_core::Draft {
    draft("inbox:read", 1)
}

#[test]
fn a_device_that_was_never_seen_begins_at_the_oldest_unread_one() {
    let mut world = World::new(1);
    let phone = device(&mut world, "phone");
    world.received(phone);
    notify(&mut world, 1..=5);
    world.received(phone);
    world.read_ids(phone, &["n:1", "n:2", "n:4"]);
    let tablet = device(&mut world, "tablet");
    world.expect(tablet, welcome().with("/data/inbox/unread", 2));
    assert_eq!(came(&mut world, tablet), [3, 4, 5, 6]);
    world.read_up_to(phone, 5);
    let watch = device(&mut world, "watch");
    world.expect(
        watch,
        welcome().with("/data/inbox/unread", 0).recovered(ALICE, ()),
    );
    world.expect_nothing(watch);
    // And from there on it has a cursor.
    world.disconnect(watch);
    notify(&mut world, 8..=8);
    let watch = device(&mut world, "watch");
    assert_eq!(came(&mut world, watch), [8]);
}

#[test]
fn what_the_log_lost_is_a_gap_for_a_device_and_no_longer_counted() {
    let mut world = small(4);
    let phone = device(&mut world, "phone");
    world.received(phone);
    world.disconnect(phone);
    notify(&mut world, 1..=10);
    assert_eq!(world.inbox(ALICE).unread, 4);
    let phone = device(&mut world, "phone");
    world.expect(
        phone,
        welcome()
            .with("/data/inbox/unread", 4)
            .recovered(ALICE, false),
    );
    world.expect(phone, gap(ALICE, 1, 6, "trimmed"));
    assert_eq!(came(&mut world, phone), [7, 8, 9, 10]);
}

fn names(world: &mut World) -> Vec<String> {
    let devices = world.inbox(ALICE).devices;
    devices.iter().map(|it| it.device.to_string()).collect()
}

#[test]
fn devices_are_bounded_and_the_one_idle_longest_is_forgotten() {
    let mut world = small(100);
    for name in ["phone", "tablet", "watch"] {
        world.advance_ms(1);
        let client = device(&mut world, name);
        world.disconnect(client);
        world.settle();
    }
    assert_eq!(names(&mut world), ["tablet", "watch"]);
    world.advance_ms(999_998);
    assert_eq!(names(&mut world), ["tablet", "watch"]);
    world.advance_ms(1);
    assert_eq!(names(&mut world), ["watch"]);
}

#[test]
fn a_device_that_is_connected_is_in_use_and_keeps_its_cursor() {
    let mut world = small(100);
    let phone = device(&mut world, "phone");
    for name in ["tablet", "watch", "laptop"] {
        world.advance_ms(1);
        let client = device(&mut world, name);
        world.disconnect(client);
        world.settle();
    }
    assert_eq!(names(&mut world), ["laptop", "phone"]);
    world.advance_ms(1_000_000);
    assert_eq!(names(&mut world), ["phone"]);
    let laptop = device(&mut world, "laptop");
    world.disconnect(laptop);
    assert_eq!(names(&mut world), ["laptop", "phone"]);
    // What it did not acknowledge comes again, though it was read elsewhere since.
    notify(&mut world, 1..=1);
    world.disconnect(phone);
    let tablet = world.connect(Handshake::notifications(ALICE));
    world.read_up_to(tablet, 1);
    world.settle();
    let phone = device(&mut world, "phone");
    world.expect(phone, welcome().recovered(ALICE, true));
    assert_eq!(came(&mut world, phone), [1, 2]);
}

#[test]
fn a_device_whose_room_began_anew_while_it_was_away_gets_all_that_is_kept() {
    let mut world = World::with(Settings {
        limits: Limits {
            log_bytes: 20_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    notify(&mut world, 1..=3);
    let phone = device(&mut world, "phone");
    assert_eq!(came(&mut world, phone), [1, 2, 3]);
    world.ack(phone, 3);
    world.disconnect(phone);
    for _ in 0..30 {
        world.publish_to_task(task(2), &[], draft("chat:message", "x".repeat(1_000)));
    }
    notify(&mut world, 11..=12);
    let phone = device(&mut world, "phone");
    world.expect(
        phone,
        welcome()
            .recovered(ALICE, false)
            .with("/data/inbox/unread", 2),
    );
    world.expect(phone, gap(ALICE, 1, 0, "epoch"));
    assert_eq!(came(&mut world, phone), [1, 2]);
}

#[test]
fn who_is_there_when_the_users_room_begins_anew_is_told_what_is_unread_now() {
    let mut world = World::with(Settings {
        limits: Limits {
            log_bytes: 20_000,
            outbox_bytes: 4_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let phone = device(&mut world, "phone");
    let slow = world.open(Handshake::notifications(ALICE).window_bytes(1));
    world.settle();
    world.stop_reading(slow);
    for number in 1..=10 {
        world.publish_to_user(
            ALICE,
            draft("user:notification", "x".repeat(1_000 + number)),
        );
    }
    assert_eq!(came(&mut world, phone).len(), 10);
    for _ in 0..30 {
        world.publish_to_task(task(2), &[], draft("chat:message", "x".repeat(1_000)));
    }
    let anew = || gap(ALICE, 1, 0, "epoch").with("/data/unread", 0);
    assert_eq!(world.inbox(ALICE).unread, 0);
    world.expect(phone, anew());
    world.resume_reading(slow);
    // It has the beginning of what it was too slow for.
    let mut told = Vec::new();
    for it in world.received(slow) {
        if let Received::System { kind, data } = it
            && kind == "system:gap"
        {
            told.push((data["to"].clone(), data["unread"].clone()));
        }
    }
    assert_eq!(told, [(0.into(), 0.into())]);
    notify(&mut world, 1..=1);
    world.expect(
        phone,
        event("user:notification").at(ALICE, 1).with("/unread", 1),
    );
}

#[test]
fn inboxes_are_bounded_in_bytes_and_the_one_idle_longest_is_forgotten() {
    let mut world = World::with(Settings {
        limits: Limits {
            inbox_bytes: 1_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let there = world.connect(Handshake::notifications(user(1)));
    let unread = |world: &mut World, number| world.inbox(user(number)).unread;
    for number in 1..=50 {
        world.publish_to_user(user(number), draft("user:notification", 1));
        assert_eq!(unread(&mut world, number), 1, "the last one is kept");
    }
    assert_eq!(unread(&mut world, 2), 0);
    // Who is there is told so.
    world.expect_all(
        there,
        [
            event("user:notification").at(user(1), 1).with("/unread", 1),
            event("inbox:read").at(user(1), 2).with("/unread", 0),
        ],
    );
    world.expect_nothing(there);
    assert_eq!(unread(&mut world, 1), 0);
}

#[test]
fn both_endpoints_share_the_cursor_of_a_device() {
    let mut world = World::new(1);
    notify(&mut world, 1..=2);
    let chat = world.connect(Handshake::chat(ALICE, task(1)).device("laptop"));
    assert_eq!(came(&mut world, chat), [1, 2]);
    world.ack(chat, 1);
    let page = device(&mut world, "laptop");
    assert_eq!(came(&mut world, page), [2]);
    let devices = world.inbox(ALICE).devices;
    assert_eq!((devices.len(), devices[0].connected), (1, 2));
}
