//! A client that does not read: bounded, told what it lost, and closed in the end; nobody else notices.

use crate::seqs;
use fanfare_core::{CloseCode, Limits};
use fanfare_loopback::{
    Client, Expected, Handshake, Received, Settings, World, cut, draft, event, gap, left, reply,
    task, user,
};

/// What may wait above the bound, for what the server says about itself.
const RESERVE_BYTES: usize = 64 << 10;

fn world() -> World {
    World::with(Settings {
        limits: Limits {
            outbox_bytes: 4_000,
            task_log_events: 50,
            ..Limits::default()
        },
        ..Settings::default()
    })
}

/// Over a socket that takes one frame and no more.
fn narrow(world: &mut World) -> Client {
    let client = world.connect(Handshake::chat(user(7), task(1)).window_bytes(1));
    world.stop_reading(client);
    client
}

fn fill(world: &mut World, events: std::ops::RangeInclusive<u64>) {
    for number in events {
        let text = format!("{number}{}", "x".repeat(500));
        world.publish_to_task(task(1), &[], draft("chat:message", text));
    }
}

#[test]
fn what_waits_is_bounded_and_what_did_not_fit_is_read_from_the_log() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=40);
    let waiting = world.waiting_bytes(slow);
    assert!((2_000..=4_000).contains(&waiting), "{waiting}");
    world.resume_reading(slow);
    for seq in 1..=40 {
        world.expect(slow, event("chat:message").at(task(1), seq));
    }
    fill(&mut world, 41..=41);
    world.expect(slow, event("chat:message").at(task(1), 41));
    world.expect_nothing(slow);
}

#[test]
fn what_the_log_lost_before_it_was_read_is_said_to_be_missing() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=100);
    world.resume_reading(slow);
    let received = world.received(slow);
    let before = received.iter().take_while(|it| it.event().is_some());
    let before = before.count();
    let told = gap(task(1), before as u64 + 1, 50, "slow");
    assert!(told.matches(&received[before]), "{received:?}");
    let after = seqs(&received[before + 1..], task(1));
    assert_eq!(after, (51..=100).collect::<Vec<_>>());
}

/// Whichever event is the first that has no room, and whichever makes another room be forgotten.
#[test]
fn a_room_that_is_forgotten_when_a_client_falls_behind_tells_it_of_the_new_epoch() {
    let mut forgotten = 0;
    for log_bytes in (2_000..14_000).step_by(100) {
        let mut world = World::with(Settings {
            limits: Limits {
                outbox_bytes: 4_000,
                log_bytes,
                ..Limits::default()
            },
            ..Settings::default()
        });
        let slow = world.connect(Handshake::chat(user(7), task(1)).window_bytes(1));
        world.join(slow, task(2));
        world.publish_to_task(task(2), &[], draft("chat:message", "before"));
        world.received(slow);
        world.stop_reading(slow);
        fill(&mut world, 1..=12);
        let receipt = world.publish_to_task(task(2), &[], draft("chat:message", "after"));
        world.resume_reading(slow);
        let received = world.received(slow);
        // Up to 1, where it is told after the second event.
        let gaps = [0, 1].map(|to| gap(task(2), 1, to, "epoch"));
        let is_told = received
            .iter()
            .any(|it| gaps.iter().any(|gap| gap.matches(it)));
        let begins_anew = receipt.rooms()[0].seq.number() == 1;
        assert_eq!(is_told, begins_anew, "{log_bytes}: {received:?}");
        forgotten += usize::from(begins_anew);
    }
    assert!((1..120).contains(&forgotten), "{forgotten}");
}

#[test]
fn a_client_that_never_reads_is_closed_at_its_deadline_not_before() {
    let mut world = world();
    let slow = narrow(&mut world);
    // The first event fills the socket: from then on it takes nothing.
    fill(&mut world, 1..=3);
    world.advance_ms(29_999);
    assert_eq!(world.task(task(1)).connected, 1);
    world.advance_ms(1);
    assert_eq!(world.task(task(1)).connected, 0);
    world.resume_reading(slow);
    world.expect(slow, event("chat:message").at(task(1), 1));
    world.expect_closed(slow, CloseCode::TOO_SLOW);
}

#[test]
fn a_client_that_does_not_even_take_its_goodbye_is_cut() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=3);
    world.advance_ms(30_000 + 4_999);
    assert_eq!(world.connections(), 1);
    world.advance_ms(1);
    assert_eq!((world.connections(), world.waiting_bytes(slow)), (0, 0));
    world.resume_reading(slow);
    world.expect_all(slow, [event("chat:message").at(task(1), 1), cut()]);
}

#[test]
fn a_client_that_reads_slowly_but_reads_is_never_closed() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=20);
    // Three minutes, a thing every 9 s: pings wait in line with the rest.
    for _ in 0..30 {
        world.advance_ms(9_000);
        world.read_some(slow, 1);
    }
    for seq in 1..=20 {
        world.expect(slow, event("chat:message").at(task(1), seq));
    }
    assert!(world.is_open(slow));
}

#[test]
fn others_in_the_room_get_everything_at_once() {
    let mut world = world();
    let slow = narrow(&mut world);
    let quick = world.connect(Handshake::chat(user(8), task(1)));
    for number in 1..=200 {
        fill(&mut world, number..=number);
        world.expect(quick, event("chat:message").at(task(1), number));
    }
    assert!(world.waiting_bytes(slow) <= 4_000);
}

#[test]
fn of_ephemeral_events_with_a_key_only_the_last_waits_and_those_without_room_are_dropped() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=2);
    for number in 1..=30 {
        let progress = draft("task:status", number).ephemeral("progress".parse().ok());
        world.publish_to_task(task(1), &[], progress);
    }
    world.resume_reading(slow);
    world.expect_all(
        slow,
        [
            event("chat:message").at(task(1), 1),
            event("chat:message").at(task(1), 2),
            event("task:status").at(task(1), 2).with("/data", 30),
        ],
    );
    world.expect_nothing(slow);

    world.stop_reading(slow);
    for _ in 0..30 {
        let typing = draft("chat:typing", "x".repeat(500)).ephemeral(None);
        world.publish_to_task(task(1), &[], typing);
    }
    world.resume_reading(slow);
    let came = world.received(slow).len();
    assert!((1..10).contains(&came), "{came}");
    fill(&mut world, 3..=3);
    world.expect(slow, event("chat:message").at(task(1), 3));
}

#[test]
fn the_last_progress_comes_after_what_was_read_from_the_log() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=20);
    for number in 1..=3 {
        let progress = draft("task:status", number).ephemeral("progress".parse().ok());
        world.publish_to_task(task(1), &[], progress);
    }
    fill(&mut world, 21..=21);
    world.resume_reading(slow);
    for seq in 1..=21 {
        world.expect(slow, event("chat:message").at(task(1), seq));
    }
    world.expect(
        slow,
        event("task:status")
            .at(task(1), 21)
            .ephemeral()
            .with("/data", 3),
    );
    world.expect_nothing(slow);
}

#[test]
fn replies_reach_a_client_whose_outbox_is_full_of_events() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=40);
    let pings = [1, 2, 3].map(|_| world.ping(slow));
    assert!(world.waiting_bytes(slow) <= 4_000 + RESERVE_BYTES);
    world.resume_reading(slow);
    let received = world.received(slow);
    for ping in pings {
        let answers = received.iter().filter(|it| reply(ping).matches(it));
        assert_eq!(answers.count(), 1, "{ping}");
    }
}

#[test]
fn an_event_larger_than_the_whole_outbox_still_comes() {
    let mut world = world();
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    for seq in 1..=2 {
        world.publish_to_task(task(1), &[], draft("chat:message", "x".repeat(20_000)));
        world.expect(alice, event("chat:message").at(task(1), seq));
    }
}

/// After events nothing came but these, which `last` says by how many events came before.
fn ends_with(received: &[Received], last: &dyn Fn(u64) -> [Expected; 3]) {
    let read = received.iter().take_while(|it| it.event().is_some());
    let read = read.count();
    for (it, expected) in received[read..].iter().zip(last(read as u64)) {
        assert!(expected.matches(it), "{expected}: {received:?}");
    }
    assert_eq!(received.len(), read + 3);
}

#[test]
fn a_task_deleted_while_a_slow_client_reads_its_log_is_a_gap_then_the_deletion() {
    let mut world = world();
    let slow = narrow(&mut world);
    fill(&mut world, 1..=20);
    world.publish_to_task(task(1), &[], draft("task:deleted", ()));
    world.resume_reading(slow);
    ends_with(&world.received(slow), &|read| {
        [
            gap(task(1), read + 1, 20, "trimmed"),
            event("task:deleted").at(task(1), 21),
            left(task(1), "deleted"),
        ]
    });
}

#[test]
fn a_task_deleted_after_its_room_left_the_memory_begins_anew_for_who_still_reads_it() {
    let mut world = World::with(Settings {
        limits: Limits {
            outbox_bytes: 4_000,
            log_bytes: 20_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let slow = narrow(&mut world);
    fill(&mut world, 1..=20);
    for _ in 0..40 {
        world.publish_to_user(user(9), draft("note:added", "x".repeat(500)));
    }
    world.publish_to_task(task(1), &[], draft("task:deleted", ()));
    world.resume_reading(slow);
    ends_with(&world.received(slow), &|_| {
        [
            gap(task(1), 1, 0, "epoch"),
            event("task:deleted").at(task(1), 1),
            left(task(1), "deleted"),
        ]
    });
}
