//! With its last positions a client gets exactly what it missed, or is told that it can't.

use fanfare_core::{Limits, Position, Seq, Wall};
use fanfare_loopback::{
    Client, Handshake, Settings, World, draft, event, gap, joined, task, user, welcome,
};

fn chat(world: &mut World, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        world.publish_to_task(task(1), &[], draft("chat:message", number));
    }
}

fn expect_chat(world: &mut World, client: Client, seqs: std::ops::RangeInclusive<u64>) {
    for seq in seqs {
        world.expect(client, event("chat:message").at(task(1), seq));
    }
    world.expect_nothing(client);
}

fn small_log() -> World {
    World::with(Settings {
        limits: Limits {
            task_log_events: 10,
            ..Limits::default()
        },
        ..Settings::default()
    })
}

fn at(position: &Position, seq: u64) -> Position {
    Position {
        seq: Seq::new(seq).unwrap(),
        ..position.clone()
    }
}

#[test]
fn who_comes_again_gets_exactly_what_it_missed_then_what_is_new() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    chat(&mut world, 1..=3);
    expect_chat(&mut world, alice, 1..=3);
    world.disconnect(alice);
    chat(&mut world, 4..=8);
    world.reopen(alice);
    chat(&mut world, 9..=9);
    world.expect(
        alice,
        welcome()
            .standing(task(1), 8)
            .recovered(task(1), true)
            .recovered(user(7), true),
    );
    expect_chat(&mut world, alice, 4..=9);
    world.reconnect(alice);
    world.expect_nothing(alice);
}

#[test]
fn every_position_is_recovered_or_said_to_be_lost_by_one_table() {
    // The log has 11 to 20.
    for (since, recovered, told, after) in [
        (20, true, None, 21),
        (19, true, None, 20),
        (10, true, None, 11),
        (9, false, Some((10, 10, "trimmed")), 11),
        (0, false, Some((1, 10, "trimmed")), 11),
        (21, false, Some((1, 20, "epoch")), 21),
        (9_007_199_254_740_991, false, Some((1, 20, "epoch")), 21),
    ] {
        for joins in [false, true] {
            let mut world = small_log();
            let first = world.connect(Handshake::chat(user(7), task(1)));
            let origin = world.position(first, task(1)).unwrap();
            world.disconnect(first);
            chat(&mut world, 1..=20);
            let since = at(&origin, since);
            let alice = if joins {
                let alice = world.connect(Handshake::notifications(user(7)));
                world.join_since(alice, task(1), &since);
                world.expect(
                    alice,
                    joined(task(1), 20).with("/data/recovered", recovered),
                );
                alice
            } else {
                let alice =
                    world.open(Handshake::chat(user(7), task(1)).since(task(1), since.clone()));
                world.expect(alice, welcome().recovered(task(1), recovered));
                alice
            };
            if let Some((from, to, reason)) = told {
                world.expect(alice, gap(task(1), from, to, reason));
            }
            chat(&mut world, 21..=21);
            let mut received = world.received(alice);
            received.retain(|it| matches!(it, fanfare_loopback::Received::Event(_)));
            assert_eq!(received.len() as u64, 22 - after, "{since} {joins}");
        }
    }
}

#[test]
fn without_a_position_there_is_only_what_comes_live() {
    let mut world = World::new(1);
    chat(&mut world, 1..=5);
    let alice = world.open(Handshake::chat(user(7), task(1)));
    world.expect(alice, welcome().standing(task(1), 5).recovered(task(1), ()));
    chat(&mut world, 6..=6);
    expect_chat(&mut world, alice, 6..=6);
}

#[test]
fn a_room_in_which_nothing_ever_happened_is_resumed_from_zero() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.disconnect(alice);
    world.reopen(alice);
    world.expect(
        alice,
        welcome().recovered(task(1), true).recovered(user(7), true),
    );
    world.expect_nothing(alice);
}

#[test]
fn an_epoch_that_is_not_known_is_a_gap_and_then_the_live_stream() {
    let mut world = World::new(1);
    chat(&mut world, 1..=3);
    let foreign: Position = "elsewhere:2".parse().unwrap();
    let alice = world.open(Handshake::chat(user(7), task(1)).since(task(1), foreign.clone()));
    world.expect(alice, welcome().recovered(task(1), false));
    world.expect(alice, gap(task(1), 1, 3, "epoch"));
    chat(&mut world, 4..=4);
    expect_chat(&mut world, alice, 4..=4);

    let bob = world.open(Handshake::chat(user(8), task(2)).since(task(2), foreign));
    world.expect(bob, welcome().recovered(task(2), false));
    // Nothing is missing that could be named: only the numbering is another.
    world.expect(bob, gap(task(2), 1, 0, "epoch"));
}

#[test]
fn what_comes_while_a_client_catches_up_comes_after_what_it_missed_and_once() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.disconnect(alice);
    chat(&mut world, 1..=20);
    let position = world.position(alice, task(1)).unwrap();
    let slow = Handshake::chat(user(7), task(1))
        .since(task(1), position)
        .window_bytes(1);
    let again = world.connect(slow);
    world.stop_reading(again);
    for number in 21..=30 {
        chat(&mut world, number..=number);
        world.read_some(again, 2);
    }
    world.resume_reading(again);
    expect_chat(&mut world, again, 1..=30);
}

#[test]
fn a_position_of_another_room_is_passed_over() {
    let mut world = World::new(1);
    chat(&mut world, 1..=2);
    let foreign: Position = "elsewhere:2".parse().unwrap();
    let alice = world.open(
        Handshake::notifications(user(7))
            .since(task(1), foreign.clone())
            .since(user(8), foreign),
    );
    world.expect(alice, welcome().recovered(user(7), ()));
    world.expect_nothing(alice);
}

#[test]
fn a_room_that_was_forgotten_for_want_of_memory_tells_its_members_of_a_new_epoch() {
    let mut world = World::with(Settings {
        limits: Limits {
            log_bytes: 20_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    chat(&mut world, 1..=2);
    expect_chat(&mut world, alice, 1..=2);
    let before = world.position(alice, task(1)).unwrap();
    for _ in 0..30 {
        world.publish_to_task(task(2), &[], draft("chat:message", "x".repeat(1_000)));
    }
    world.expect(alice, gap(task(1), 1, 0, "epoch"));
    let after = world.position(alice, task(1)).unwrap();
    assert_ne!(before.epoch, after.epoch);
    chat(&mut world, 1..=1);
    expect_chat(&mut world, alice, 1..=1);
    let late = world.open(Handshake::chat(user(8), task(1)).since(task(1), before));
    world.expect(late, welcome().recovered(task(1), false));
    world.expect(late, gap(task(1), 1, 1, "epoch"));
}

#[test]
fn an_event_is_kept_as_long_as_its_age_allows_and_then_said_to_be_missing() {
    let mut world = World::with(Settings {
        limits: Limits {
            task_log_ms: 60_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.disconnect(alice);
    chat(&mut world, 1..=1);
    world.advance_ms(59_999);
    chat(&mut world, 2..=2);
    let origin = world.position(alice, task(1)).unwrap();
    let since = || Handshake::chat(user(7), task(1)).since(task(1), origin.clone());
    let bob = world.connect(since());
    expect_chat(&mut world, bob, 1..=2);
    world.advance_ms(1);
    let carol = world.connect(since());
    world.expect(carol, gap(task(1), 1, 1, "trimmed"));
    expect_chat(&mut world, carol, 2..=2);
}

#[test]
fn at_never_runs_backwards_though_the_wall_clock_is_set_back() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let wall = world.now().wall.as_unix_millis();
    let mut dates = Vec::new();
    for offset_ms in [0, 5_000, 1_000, 6_000] {
        world.set_wall(Wall::from_unix_millis(wall + offset_ms));
        chat(&mut world, 1..=1);
        let received = world.received(alice);
        let [fanfare_loopback::Received::Event(event)] = &received[..] else {
            panic!("{received:?}")
        };
        dates.push(event.at.clone());
    }
    assert!(dates.is_sorted(), "{dates:?}");
    assert!(dates[3] > dates[0]);
}

#[test]
fn several_rooms_joined_later_with_positions_are_caught_up_beside_the_live_ones() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    let origins = [1, 2].map(|number| {
        world.join(alice, task(number));
        world.received(alice);
        let position = world.position(alice, task(number)).unwrap();
        world.leave(alice, task(number));
        world.received(alice);
        position
    });
    for number in 1..=2 {
        for _ in 0..3 {
            world.publish_to_task(task(number), &[], draft("chat:message", number));
        }
    }
    let joins = [
        world.join_since(alice, task(1), &origins[0]),
        world.join_since(alice, task(2), &origins[1]),
    ];
    world.publish_to_user(user(7), draft("note:added", 1));
    let received: Vec<String> = world
        .received(alice)
        .iter()
        .map(ToString::to_string)
        .collect();
    for number in 1..=2 {
        let room = format!("task:{}", task(number));
        let seqs: Vec<String> = received
            .iter()
            .filter(|text| text.contains("chat:message") && text.contains(&room))
            .map(|text| text.split(&format!(r#""{room}":"#)).nth(1).unwrap()[..1].to_owned())
            .collect();
        assert_eq!(seqs, ["1", "2", "3"], "{room}");
    }
    assert_eq!(
        received
            .iter()
            .filter(|text| text.contains("note:added"))
            .count(),
        1
    );
    assert_eq!(
        received
            .iter()
            .filter(|text| text.contains("system:reply"))
            .count(),
        joins.len()
    );
}
