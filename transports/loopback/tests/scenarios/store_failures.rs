//! A store that fails: nothing of what was refused is ever seen, and what does not need the store goes on.

use crate::{answers, as_id, begin, chat, kept, seqs, stored, to_task, to_user, told};
use fanfare_core::{CloseCode, History, Query, Status, StoreFailure, Table};
use fanfare_loopback::{
    Client, Handshake, Restart, World, draft, event, refusal, reply, task, user, welcome,
};

fn world() -> (World, Client) {
    let mut world = stored(1, 10..=10, 0..=0);
    let alice = world.connect(Handshake::chat(user(7), task(1)).device("phone"));
    world.publish_to_task(task(1), &[user(7)], draft("task:started", ()));
    world.expect_later(alice, event("task:started").at(task(1), 1).at(user(7), 1));
    world.advance_ms(100);
    (world, alice)
}

#[test]
fn a_full_disk_refuses_all_of_a_commit_and_leaves_no_hole_and_no_trace() {
    let (mut world, alice) = world();
    let subscriber = world.subscribe(&["*".parse().unwrap()]);
    // The first one is committed by itself, and the others together after it.
    let first = begin(&mut world, [to_task(1, &[7], chat(1))]);
    let group = begin(
        &mut world,
        [
            to_task(1, &[7, 8], as_id("a", chat(2))),
            to_task(1, &[], draft("task:completed", ())),
            to_user(7, draft("note:added", 3)),
            to_task(2, &[9], chat(4)),
            to_user(9, draft("note:added", 5)),
        ],
    );
    world.fail_commits(1, StoreFailure::Full);
    assert_eq!(told(&answers(&mut world, first)), ["2"]);
    assert_eq!(told(&answers(&mut world, group)), ["store_full"; 5]);
    assert_eq!(world.store_failure(), Some(StoreFailure::Full));
    world.expect(alice, event("chat:message").at(task(1), 2).at(user(7), 2));
    world.expect(
        subscriber,
        event("chat:message").at(task(1), 2).at(user(7), 2),
    );
    world.expect_nothing(alice);
    let view = world.task(task(1));
    assert_eq!((view.state.status, view.seq.number()), (Status::Started, 2));
    assert_eq!(world.inbox(user(7)).seq.number(), 2);
    assert_eq!(
        (
            world.inbox(user(9)).unread,
            world.inbox(user(8)).seq.number()
        ),
        (0, 0)
    );
    // Its id is not used up, its task has not ended, and the numbers go on.
    let again = begin(
        &mut world,
        [
            to_task(1, &[7, 8], as_id("a", chat(2))),
            to_task(1, &[], draft("task:failed", ())),
            to_user(9, draft("note:added", 5)),
        ],
    );
    assert_eq!(told(&answers(&mut world, again)), ["3", "4", "1"]);
    assert_eq!(world.store_failure(), None);
    world.expect(alice, event("chat:message").at(task(1), 3).at(user(7), 3));
    world.expect_later(alice, event("task:failed").at(task(1), 4));
    for how in [Restart::Crash, Restart::Orderly] {
        world.restart(how);
        assert_eq!(kept(&mut world, task(1)), [1, 2, 3, 4]);
        assert_eq!(kept(&mut world, user(7)), [1, 2, 3]);
        assert_eq!(kept(&mut world, user(8)), [1]);
        assert_eq!(kept(&mut world, user(9)), [1]);
        assert_eq!(kept(&mut world, task(2)), [0; 0]);
    }
}

#[test]
fn while_the_disk_is_full_what_is_not_kept_is_delivered_and_rooms_are_read() {
    let (mut world, alice) = world();
    world.fail_commits(usize::MAX, StoreFailure::Full);
    let target = || to_task(1, &[], chat(1)).target;
    for number in 1..=3 {
        world.publish_refused(target(), chat(1), "store_full");
        let typing = draft("chat:typing", number).ephemeral(None);
        world.publish_to_task(task(1), &[], typing);
        world.expect_later(alice, event("chat:typing").with("/data", number));
    }
    let position = world.position(alice, task(1)).unwrap();
    let late = world.open(Handshake::chat(user(8), task(1)).since(task(1), position));
    world.expect_later(
        late,
        welcome().standing(task(1), 1).recovered(task(1), true),
    );
    assert_eq!(kept(&mut world, task(1)), [1]);
    world.expect_nothing(alice);
    world.fail_commits(0, StoreFailure::Full);
    world.publish_to_task(task(1), &[], chat(2));
    for client in [alice, late] {
        world.expect_later(client, event("chat:message").at(task(1), 2));
    }
}

#[test]
fn what_a_client_asks_for_and_a_full_disk_can_not_keep_is_refused_and_changes_nothing() {
    let (mut world, alice) = world();
    world.publish_to_user(user(7), draft("note:added", 1));
    world.expect_later(alice, event("note:added").at(user(7), 2));
    world.advance_ms(100);
    world.fail_commits(usize::MAX, StoreFailure::Full);
    for reference in [
        world.send(alice, task(1), &chat(1)),
        world.read_up_to(alice, 2),
        world.ack(alice, 2),
    ] {
        world.expect_later(alice, refusal(reference, "store_full"));
    }
    let ping = world.ping(alice);
    world.expect_later(alice, reply(ping));
    world.advance_ms(100);
    world.expect_nothing(alice);
    let inbox = world.inbox(user(7));
    assert_eq!((inbox.unread, inbox.devices[0].cursor.number()), (1, 0));
    world.fail_commits(0, StoreFailure::Full);
    for reference in [world.ack(alice, 2), world.ack(alice, 1)] {
        world.expect_later(alice, reply(reference).with("/data/seq", 2));
    }
    let read = world.read_up_to(alice, 2);
    world.expect_later(alice, event("inbox:read").at(user(7), 3).unread(0));
    world.expect_later(alice, reply(read).with("/data/seq", 3));
}

#[test]
fn a_store_that_failed_takes_nothing_until_a_restart_and_is_then_whole() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let mut world = stored(seed, 10..=10, 0..=0);
        let alice = world.connect(Handshake::chat(user(7), task(1)));
        world.publish_to_task(task(1), &[user(7)], chat(0));
        world.advance_ms(100);
        world.received(alice);
        world.fail_commits(1, StoreFailure::Failed);
        let tickets = begin(
            &mut world,
            [
                to_task(1, &[7, 8], as_id("a", chat(1))),
                to_task(1, &[7], as_id("b", chat(2))),
            ],
        );
        assert_eq!(told(&answers(&mut world, tickets)), ["unavailable"; 2]);
        for _ in 0..3 {
            let target = to_user(9, chat(1)).target;
            world.publish_refused(target, chat(1), "unavailable");
            world.advance_ms(1_000);
        }
        let send = world.send(alice, task(1), &chat(3));
        world.expect_later(alice, refusal(send, "unavailable"));
        assert_eq!(world.store_failure(), Some(StoreFailure::Failed));
        world.expect_nothing(alice);
        assert_eq!(kept(&mut world, task(1)), [1]);

        world.restart(if seed % 2 == 0 {
            Restart::Crash
        } else {
            Restart::Orderly
        });
        assert_eq!(world.store_failure(), None);
        let after = kept(&mut world, task(1));
        assert_eq!(kept(&mut world, user(7)), after, "seed {seed}");
        assert_eq!(
            kept(&mut world, user(8)).len() + 1,
            after.len(),
            "seed {seed}"
        );
        assert_eq!(kept(&mut world, user(9)), [0; 0], "seed {seed}");
        // Whether it was kept or not, a retry makes one event of it.
        let a = world
            .try_publish(to_task(1, &[7, 8], as_id("a", chat(1))))
            .unwrap();
        let b = world
            .try_publish(to_task(1, &[7], as_id("b", chat(2))))
            .unwrap();
        assert_eq!(a.duplicate(), after.len() == 2, "seed {seed}");
        assert!(!b.duplicate(), "seed {seed}");
        assert_eq!(kept(&mut world, task(1)), [1, 2, 3], "seed {seed}");
        outcomes.insert(a.duplicate());
    }
    assert_eq!(outcomes.len(), 2, "both were seen");
}

#[test]
fn what_a_store_that_failed_refused_holds_up_nothing_that_needs_no_store() {
    for how in [Restart::Orderly, Restart::Crash] {
        let (mut world, alice) = world();
        world.publish_to_user(user(7), draft("note:added", 1));
        world.expect_later(alice, event("note:added").at(user(7), 2));
        world.fail_commits(1, StoreFailure::Failed);
        let target = || to_task(1, &[7], chat(1)).target;
        world.publish_refused(target(), chat(1), "unavailable");
        for reference in [
            world.read_up_to(alice, 2),
            world.ack(alice, 2),
            world.send(alice, task(1), &chat(2)),
        ] {
            world.expect_later(alice, refusal(reference, "unavailable"));
        }
        let typing = draft("chat:typing", ()).ephemeral(None);
        world.publish_to_task(task(1), &[user(7)], typing);
        world.expect_later(
            alice,
            event("chat:typing")
                .at(task(1), 1)
                .at(user(7), 2)
                .ephemeral(),
        );
        // It drains, where it does.
        world.restart(how);
    }
}

#[test]
fn what_can_not_be_read_is_refused_or_closed_for_now_and_is_there_again_later() {
    let (mut world, alice) = world();
    world.restart(Restart::Orderly);
    world.fail_reads(usize::MAX);
    let history = Query::History {
        room: task(1).into(),
        history: History::default(),
    };
    for query in [Query::Task(task(1)), Query::Inbox(user(7)), history] {
        let error = world.query(query.clone()).unwrap_err();
        assert_eq!(error.code(), "unavailable", "{query:?}");
    }
    world.publish_refused(to_task(1, &[7], chat(1)).target, chat(1), "unavailable");
    let closed = world.open(Handshake::chat(user(7), task(1)));
    world.advance_ms(100);
    world.expect_closed(closed, CloseCode::UNAVAILABLE);
    world.fail_reads(0);
    world.received(alice);
    world.reopen(alice);
    world.expect_later(alice, welcome().recovered(task(1), true));
    world.fail_reads(usize::MAX);
    let join = world.join(alice, task(2));
    world.expect_later(alice, refusal(join, "unavailable"));
    world.fail_reads(0);
    let join = world.join(alice, task(2));
    world.advance_ms(10);
    assert!(
        world
            .received(alice)
            .iter()
            .any(|it| reply(join).matches(it))
    );
    let receipt = world.publish_to_task(task(1), &[user(7)], chat(1));
    assert_eq!(receipt.rooms()[0].seq.number(), 2);
    world.expect_later(alice, event("chat:message").at(task(1), 2).at(user(7), 2));
}

#[test]
fn a_client_whose_replay_can_not_be_read_is_closed_and_gets_all_of_it_later() {
    let (mut world, alice) = world();
    world.disconnect(alice);
    for number in 0..50 {
        world.publish_to_task(
            task(1),
            &[],
            draft("chat:message", format!("{number:01000}")),
        );
    }
    world.restart(Restart::Orderly);
    world.fail_reads(usize::MAX);
    world.reopen(alice);
    world.advance_ms(1_000);
    let received = world.received(alice);
    assert!(!world.is_open(alice), "{received:?}");
    world.fail_reads(0);
    let before = seqs(&received, task(1));
    world.reopen(alice);
    world.advance_ms(1_000);
    let after = seqs(&world.received(alice), task(1));
    assert_eq!([before, after].concat(), (2..=51).collect::<Vec<_>>());
}

#[test]
fn a_client_whose_further_pages_can_not_be_read_is_closed_though_its_rooms_were() {
    let mut world = stored(1, 0..=0, 5..=5);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.disconnect(alice);
    for number in 0..300 {
        world.publish_to_task(task(1), &[], chat(number));
    }
    world.restart(Restart::Crash);
    world.reopen(alice);
    world.expect_later(alice, welcome().recovered(task(1), true));
    world.fail_reads(usize::MAX);
    world.advance_ms(1_000);
    let before = seqs(&world.received(alice), task(1));
    assert!(before.len() < 300 && !world.is_open(alice), "{before:?}");
    world.fail_reads(0);
    world.reopen(alice);
    world.advance_ms(1_000);
    let after = seqs(&world.received(alice), task(1));
    assert_eq!([before, after].concat(), (1..=300).collect::<Vec<_>>());
}

#[test]
fn a_deleted_task_that_the_full_disk_did_not_let_go_is_still_there() {
    let (mut world, alice) = world();
    world.fail_commits(1, StoreFailure::Full);
    let target = to_task(1, &[], chat(1)).target;
    world.publish_refused(target, draft("task:deleted", ()), "store_full");
    world.expect_nothing(alice);
    assert_eq!(world.task(task(1)).state.status, Status::Started);
    let send = world.send(alice, task(1), &chat(1));
    world.expect_later(alice, event("chat:message").at(task(1), 2));
    world.expect_later(alice, reply(send));
    assert_eq!(world.rows(Table::Tasks), 1);
}

#[test]
fn a_retry_that_waits_for_the_first_attempt_is_not_answered_by_what_was_refused() {
    let (mut world, alice) = world();
    let first = begin(&mut world, [to_task(1, &[], chat(0))]);
    world.fail_commits(1, StoreFailure::Full);
    let twice = [1, 2].map(|_| to_task(1, &[], as_id("a", chat(1))));
    let twice = begin(&mut world, twice);
    answers(&mut world, first);
    let told = told(&answers(&mut world, twice));
    assert!(
        [["store_full", "store_full"], ["store_full", "3"]].contains(&[&told[0], &told[1]]),
        "{told:?}"
    );
    world.advance_ms(100);
    let seen = seqs(&world.received(alice), task(1));
    let expected: &[u64] = if told[1] == "3" { &[2, 3] } else { &[2] };
    assert_eq!(seen, expected);
}
