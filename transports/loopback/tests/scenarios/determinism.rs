//! The same seed and script give the same run, byte for byte.

use fanfare_core::Limits;
use fanfare_loopback::{Digest, Handshake, Settings, World, draft, task, user};

/// A script that touches everything that could depend on an order: many members, rooms, deadlines, ids, epochs.
fn run(seed: u64, latency_ms: std::ops::RangeInclusive<u64>) -> (Vec<Digest>, Vec<String>) {
    let mut world = World::with(Settings {
        seed,
        latency_ms,
        limits: Limits {
            outbox_bytes: 4_000,
            log_bytes: 60_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let mut digests = vec![world.digest()];
    let subscriber = world.subscribe(&["*".parse().unwrap()]);
    let clients: Vec<_> = (0..20)
        .map(|number| world.open(Handshake::chat(user(number % 10), task(1)).device("tab")))
        .collect();
    world.advance_ms(500);
    for round in 0..20_u32 {
        for (number, client) in (0..).zip(&clients) {
            if world.is_open(*client) {
                match (number + round) % 5 {
                    0 => drop(world.join(*client, task(number % 7))),
                    1 => drop(world.leave(*client, task(number % 7))),
                    2 => drop(world.send(*client, task(1), &draft("chat:message", round))),
                    3 => world.disconnect(*client),
                    _ => world.say(*client, "?"),
                }
            } else {
                world.reopen(*client);
            }
        }
        for number in 0..7 {
            let users: Vec<_> = (0..10).map(user).collect();
            world.publish_to_task(task(number), &users, draft("task:status", "x".repeat(900)));
        }
        world.advance_ms(u64::from(round) * 700);
        digests.push(world.digest());
    }
    world.drain();
    world.advance_ms(60_000);
    digests.push(world.digest());
    world.received(subscriber);
    let observations = world.take_observations();
    (
        digests,
        observations.iter().map(|it| format!("{it:?}")).collect(),
    )
}

#[test]
fn two_runs_of_one_seed_are_the_same_byte_for_byte() {
    for latency_ms in [0..=0, 1..=300] {
        let (first, second) = (run(1, latency_ms.clone()), run(1, latency_ms));
        let differs = first
            .1
            .iter()
            .zip(&second.1)
            .find(|(one, other)| one != other);
        assert_eq!(differs, None, "the first thing that differs");
        assert_eq!(first.0, second.0);
        assert!(
            first.1.len() > 1_000,
            "a run in which little happens shows little"
        );
    }
}

#[test]
fn another_seed_is_another_run() {
    let (first, second) = (run(1, 0..=0), run(2, 0..=0));
    assert_ne!(first.0.last(), second.0.last());
}

#[test]
fn one_byte_more_is_another_digest() {
    let digest = |data: &str| {
        let mut world = World::new(1);
        world.publish_to_user(user(7), draft("note:added", data));
        world.digest()
    };
    assert_eq!(digest("a"), digest("a"));
    assert_ne!(digest("a"), digest("b"));
}
