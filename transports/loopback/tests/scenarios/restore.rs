//! A store that is put back to an earlier moment gives its numbers again, in other epochs: nobody takes one event for another.

use crate::{as_id, chat, kept, seqs, stored, to_task};
use fanfare_core::{Epoch, History, Position, RoomId, Status, UserId};
use fanfare_loopback::{
    Backup, Client, Handshake, Restart, World, draft, event, gap, reply, task, user, welcome,
};

const ALICE: UserId = user(7);

fn epoch(world: &mut World, room: impl Into<RoomId>) -> Epoch {
    world.history(room, History::default()).epoch
}

/// A store with 1 to 4 in the room, what it has then, and a client that also saw 5 to 7, which are lost.
fn lost(room: RoomId, seed: u64) -> (World, Backup, Client) {
    let mut world = stored(seed, 0..=4, 0..=4);
    let alice = world.connect(Handshake::chat(ALICE, task(1)));
    let publish = |world: &mut World, numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            publish(world, room, number);
        }
        world.advance_ms(10);
    };
    publish(&mut world, 1..=4);
    let backup = world.back_up();
    publish(&mut world, 5..=7);
    assert_eq!(seqs(&world.received(alice), room), [1, 2, 3, 4, 5, 6, 7]);
    (world, backup, alice)
}

fn publish(world: &mut World, room: RoomId, number: u64) {
    match room {
        RoomId::Task(task) => world.publish_to_task(task, &[], chat(number)),
        RoomId::User(user) => world.publish_to_user(user, draft("user:notification", number)),
    };
}

#[test]
fn who_saw_what_is_lost_is_told_a_gap_though_its_numbers_were_given_again() {
    for room in [RoomId::from(task(1)), ALICE.into()] {
        // As many as were lost, fewer, and more.
        for given in 0..=5 {
            let (mut world, backup, alice) = lost(room, given);
            world.restore(backup);
            for number in 0..given {
                publish(&mut world, room, 100 + number);
            }
            world.received(alice);
            let since = world.position(alice, room).unwrap();
            let resume = Handshake::chat(ALICE, task(1)).since(room, since);
            world.reopen_with(alice, resume);
            let head = 4 + given;
            let expected = welcome().standing(room, head).recovered(room, false);
            world.expect_later(alice, expected);
            world.expect_later(alice, gap(room, 1, head, "epoch"));
            world.expect_nothing(alice);
            publish(&mut world, room, 200);
            world.advance_ms(10);
            assert_eq!(seqs(&world.received(alice), room), [head + 1], "{given}");
        }
    }
}

#[test]
fn rooms_whose_beginning_or_end_is_lost_are_of_a_new_epoch_too() {
    type Life = fn(&mut World);
    let create: Life = |world| drop(world.publish_to_task(task(1), &[], draft("task:created", 1)));
    let delete: Life = |world| {
        world.publish_to_task(task(1), &[], draft("task:deleted", 1));
    };
    let create_later: Life = |world| {
        world.advance_ms(fanfare_core::TASK_GONE_MS);
        world.publish_to_task(task(1), &[], draft("task:created", 1));
    };
    let nothing: Life = |_| {};
    for (name, before, after) in [
        ("never used", nothing, nothing),
        ("begun", nothing, create),
        ("ended", create, delete),
        ("ended before", delete, nothing),
        ("begun after an end", delete, create_later),
    ] {
        let mut world = stored(1, 0..=4, 0..=4);
        before(&mut world);
        let backup = world.back_up();
        after(&mut world);
        let lost = epoch(&mut world, task(1));
        world.restore(backup);
        let new = epoch(&mut world, task(1));
        assert_ne!(new, lost, "{name}");
        for how in [Restart::Orderly, Restart::Crash] {
            world.restart(how);
            assert_eq!(epoch(&mut world, task(1)), new, "{name}, {how:?}");
        }
    }
}

#[test]
fn what_the_server_knows_itself_goes_on_in_the_new_epoch() {
    let mut world = stored(1, 0..=4, 0..=4);
    for number in 1..=4 {
        let id = format!("id:{number}");
        let draft = as_id(&id, draft("user:notification", number));
        world.publish_to_user(ALICE, draft);
    }
    let started = as_id("started", draft("task:started", ()));
    let first = world.publish_to_task(task(1), &[ALICE], started.clone());
    let phone = world.connect(Handshake::notifications(ALICE).device("phone"));
    world.advance_ms(20);
    let acked = world.ack(phone, 3);
    world.expect_later(phone, event("user:notification"));
    world.advance_ms(20);
    assert!(
        world
            .received(phone)
            .iter()
            .any(|it| reply(acked).matches(it))
    );
    let read = world.read_ids(phone, &["id:1"]);
    world.expect_later(phone, event("inbox:read").at(ALICE, 6).unread(3));
    world.expect_later(phone, reply(read));
    let backup = world.back_up();
    let late = as_id("late", chat(9));
    world.publish_to_task(task(1), &[ALICE], late.clone());
    world.ack(phone, 5);
    world.advance_ms(20);
    world.restore(backup);

    let inbox = world.inbox(ALICE);
    assert_ne!(inbox.epoch, first.rooms()[1].epoch);
    assert_eq!((inbox.unread, inbox.seq.number()), (3, 6));
    assert_eq!(inbox.devices[0].cursor.number(), 3);
    assert_eq!(world.task(task(1)).state.status, Status::Started);
    assert_eq!(kept(&mut world, ALICE), [1, 2, 3, 4, 5, 6]);
    // A retry is told where its event is now.
    let again = world.publish_to_task(task(1), &[ALICE], started);
    assert!(again.duplicate());
    for (again, first) in again.rooms().iter().zip(first.rooms()) {
        assert_eq!((again.room, again.seq), (first.room, first.seq));
        assert_eq!(again.epoch, epoch(&mut world, again.room));
    }
    // What is lost was never published.
    let late = world.try_publish(to_task(1, &[7], late)).unwrap();
    assert!(!late.duplicate());
    assert_eq!(late.rooms()[1].seq.number(), 7);
    // A device goes on from its cursor, and is known by it in the new epoch from now on.
    world.received(phone);
    world.reopen_with(phone, Handshake::notifications(ALICE).device("phone"));
    world.expect_later(
        phone,
        welcome()
            .recovered(ALICE, true)
            .with("/data/inbox/unread", 3),
    );
    world.advance_ms(20);
    assert_eq!(seqs(&world.received(phone), ALICE), [4, 5, 6, 7]);
    let acked = world.ack(phone, 6);
    world.expect_later(phone, reply(acked).with("/data/seq", 6));
    let read = world.read_up_to(phone, 2);
    world.expect_later(phone, event("inbox:read").at(ALICE, 8).unread(2));
    world.expect_later(phone, reply(read));
    world.restart(Restart::Crash);
    let inbox = world.inbox(ALICE);
    assert_eq!((inbox.unread, inbox.devices[0].cursor.number()), (2, 6));
}

#[test]
fn positions_of_a_new_epoch_are_resumed_from_over_restarts_also_before_what_was_put_back() {
    for room in [RoomId::from(task(1)), ALICE.into()] {
        let (mut world, backup, alice) = lost(room, 1);
        world.restore(backup);
        publish(&mut world, room, 105);
        let new = epoch(&mut world, room);
        for how in [Restart::Crash, Restart::Orderly] {
            world.restart(how);
            world.received(alice);
            let since = Position {
                epoch: new.clone(),
                seq: fanfare_core::Seq::new(2).unwrap(),
            };
            world.reopen_with(alice, Handshake::chat(ALICE, task(1)).since(room, since));
            world.expect_later(alice, welcome().recovered(room, true));
            world.advance_ms(20);
            let received = world.received(alice);
            assert_eq!(seqs(&received, room), [3, 4, 5], "{room}, {how:?}");
        }
    }
}

#[test]
fn each_time_that_a_store_is_put_back_its_epochs_are_other_ones() {
    let (mut world, backup, _) = lost(ALICE.into(), 1);
    let mut epochs = vec![epoch(&mut world, ALICE)];
    for _ in 0..3 {
        world.restore(backup.clone());
        epochs.push(epoch(&mut world, ALICE));
        let later = world.back_up();
        world.restore(later);
        epochs.push(epoch(&mut world, ALICE));
        assert_eq!(kept(&mut world, ALICE), [1, 2, 3, 4]);
    }
    let lengths: Vec<usize> = epochs.iter().map(|it| it.as_str().len()).collect();
    assert!(lengths.iter().all(|it| *it <= 17), "{epochs:?}");
    let all = epochs.len();
    epochs.sort();
    epochs.dedup();
    assert_eq!(epochs.len(), all, "{epochs:?}");
}

#[test]
fn an_epoch_that_begins_in_a_store_that_was_put_back_is_the_same_at_every_start() {
    let (mut world, backup, _) = lost(task(1).into(), 1);
    world.restore(backup);
    let before = epoch(&mut world, task(1));
    world.publish_to_task(task(1), &[], draft("task:deleted", ()));
    let ended = epoch(&mut world, task(1));
    assert_ne!(ended, before);
    for how in [Restart::Orderly, Restart::Crash] {
        world.restart(how);
        assert_eq!(epoch(&mut world, task(1)), ended, "{how:?}");
    }
}
