//! With a store, memory is a cache of it: what is not there is read, and nobody sees where an event came from.

use crate::{answers, begin, chat, kept, seqs, stored_within, to_task};
use fanfare_core::{Draft, History, Limits, Start, Status};
use fanfare_loopback::{Handshake, Restart, World, draft, event, task, user, welcome};

/// A log in memory that holds a few events only: the others are in the store.
fn little_memory(fetch_ms: u64) -> World {
    let limits = Limits {
        log_bytes: 20_000,
        outbox_bytes: 4_000,
        ..Limits::default()
    };
    stored_within(1, 0..=3, 0..=fetch_ms, limits)
}

fn large(number: u64) -> Draft {
    draft("chat:message", format!("{number} {}", "x".repeat(1_000)))
}

#[test]
fn memory_is_only_a_cache_so_that_what_no_longer_fits_is_read_and_no_gap_is_said() {
    for fetch_ms in [0, 10] {
        let mut world = little_memory(fetch_ms);
        let away = world.connect(Handshake::chat(user(7), task(1)));
        world.disconnect(away);
        let slow = world.connect(Handshake::chat(user(8), task(1)).window_bytes(1));
        world.stop_reading(slow);
        for number in 0..100 {
            world.publish_to_task(task(1), &[], large(number));
            world.publish_to_task(task(2), &[], large(number));
        }
        world.resume_reading(slow);
        world.reopen(away);
        world.advance_ms(5_000);
        world.publish_to_task(task(1), &[], chat(100));
        world.advance_ms(1_000);
        for client in [slow, away] {
            let received = world.received(client);
            assert_eq!(seqs(&received, task(1)), (1..=101).collect::<Vec<_>>());
            let gaps = received.iter().filter_map(|it| it.system("system:gap"));
            assert_eq!(gaps.count(), 0);
        }
    }
}

#[test]
fn rooms_that_were_put_out_of_memory_go_on_where_they_were() {
    let mut world = little_memory(5);
    let phone = world.connect(Handshake::chat(user(7), task(1)).device("phone"));
    let first = world.publish_to_task(task(1), &[user(7)], draft("task:created", "mine"));
    world.expect_later(phone, event("task:created").at(task(1), 1).at(user(7), 1));
    world.ack(phone, 1);
    world.advance_ms(100);
    world.received(phone);
    world.disconnect(phone);
    for number in 0..50 {
        world.publish_to_task(task(2 + number), &[], large(1));
    }
    let (view, inbox) = (world.task(task(1)), world.inbox(user(7)));
    assert_eq!((view.state.status, view.seq.number()), (Status::Created, 1));
    assert_eq!((inbox.unread, inbox.devices[0].cursor.number()), (1, 1));
    assert_eq!(
        (&view.epoch, &inbox.epoch),
        (&first.rooms()[0].epoch, &first.rooms()[1].epoch)
    );
    let second = world.publish_to_task(task(1), &[user(7)], draft("task:started", ()));
    assert_eq!(second.rooms()[0].seq.number(), 2);
    world.reopen(phone);
    world.expect_later(
        phone,
        welcome().recovered(task(1), true).recovered(user(7), true),
    );
    world.expect_later(phone, event("task:started").at(task(1), 2).at(user(7), 2));
}

#[test]
fn history_is_paged_in_both_directions_from_what_is_in_memory_and_what_is_not() {
    let mut world = little_memory(5);
    for number in 1..=60 {
        world.publish_to_task(task(1), &[], large(number));
    }
    for (newest_first, expected) in [
        (false, (1..=60).collect::<Vec<u64>>()),
        (true, (1..=60).rev().collect()),
    ] {
        let mut from = if newest_first {
            Start::Newest
        } else {
            Start::Oldest
        };
        let mut came = Vec::new();
        loop {
            let page = world.history(
                task(1),
                History {
                    from,
                    limit: 7,
                    ..History::default()
                },
            );
            came.extend(page.events.iter().map(|(seq, _)| seq.number()));
            assert_eq!((page.first.number(), page.seq.number()), (1, 60));
            let Some(seq) = page.next else { break };
            let position = fanfare_core::Position {
                epoch: page.epoch,
                seq,
            };
            from = if newest_first {
                Start::Before(position)
            } else {
                Start::After(position)
            };
        }
        assert_eq!(came, expected, "newest first: {newest_first}");
    }
}

#[test]
fn history_that_is_read_while_its_oldest_events_go_has_all_that_is_left() {
    let mut shortened = 0;
    for seed in 0..100 {
        let limits = Limits {
            task_log_events: 8,
            ..Limits::default()
        };
        let mut world = stored_within(seed, 0..=20, 0..=20, limits);
        for number in 1..=20 {
            world.publish_to_task(task(1), &[], chat(number));
        }
        // What it reads is not in memory.
        world.restart(Restart::Crash);
        kept(&mut world, task(1));
        let tickets = begin(&mut world, (0..5).map(|it| to_task(1, &[], chat(it))));
        world.advance_ms(seed % 20);
        let page = world.history(task(1), History::default());
        let seqs: Vec<u64> = page.events.iter().map(|(seq, _)| seq.number()).collect();
        let expected: Vec<u64> = (page.first.number()..=page.seq.number()).collect();
        assert_eq!(seqs, expected, "seed {seed}");
        assert!(!seqs.is_empty(), "seed {seed}");
        shortened += usize::from(seqs.len() < 8);
        answers(&mut world, tickets);
    }
    assert!(
        shortened > 3,
        "{shortened} were read in the middle of a commit"
    );
}
