//! What goes through a store is seen when it is safe and not before, in one order, however much is under way.

use crate::{
    answers, as_id, begin, chat, kept, seqs, stored, stored_within, to_task, to_user, told,
};
use fanfare_core::{CloseCode, Limits, Publish, Status, Target};
use fanfare_loopback::{
    Client, Handshake, Received, Restart, Settings, StoreSettings, World, draft, event, goodbye,
    left, refusal, reply, task, user,
};

/// Everybody who could see something of the task and of its user.
fn watchers(world: &mut World) -> Vec<Client> {
    let all = || vec!["*".parse().unwrap()];
    let clients = vec![
        world.connect(Handshake::chat(user(7), task(1))),
        world.connect(Handshake::notifications(user(7)).device("phone")),
        world.connect(Handshake::chat(user(8), task(1))),
        world.connect(Handshake::bus(all())),
        world.subscribe(&all()),
    ];
    world.publish_to_task(task(1), &[user(7)], draft("task:created", ()));
    world.advance_ms(100);
    for client in &clients {
        assert_eq!(world.received(*client).len(), 1);
    }
    clients
}

#[test]
fn nothing_is_seen_by_anybody_before_its_commit_is_answered_and_then_by_all() {
    type Does = fn(&mut World, Client);
    let publish: Does = |world, _| {
        world.begin_publish(to_task(1, &[7], draft("task:failed", "why")));
    };
    let send: Does = |world, client| {
        world.send(client, task(1), &chat(1));
    };
    let to_the_user: Does = |world, _| {
        world.begin_publish(to_user(7, draft("note:added", 1)));
    };
    let read: Does = |world, client| {
        world.read_up_to(client, 1);
    };
    for (name, does, kind, seen_by, in_task, in_user, unread, status) in [
        (
            "a publish to both",
            publish,
            "task:failed",
            5,
            2,
            2,
            2,
            Status::Failed,
        ),
        (
            "from a client",
            send,
            "chat:message",
            4,
            2,
            1,
            1,
            Status::Created,
        ),
        (
            "to the user",
            to_the_user,
            "note:added",
            4,
            1,
            2,
            2,
            Status::Created,
        ),
        ("a read", read, "inbox:read", 4, 1, 2, 0, Status::Created),
    ] {
        let mut world = stored(1, 10..=10, 0..=0);
        let watchers = watchers(&mut world);
        does(&mut world, watchers[0]);
        for moment in 0..10 {
            for client in &watchers {
                let received = world.received(*client);
                assert!(received.is_empty(), "{name}, {moment} ms: {received:?}");
            }
            assert_eq!(kept(&mut world, task(1)), [1], "{name}, {moment} ms");
            assert_eq!(kept(&mut world, user(7)), [1], "{name}, {moment} ms");
            let (view, inbox) = (world.task(task(1)), world.inbox(user(7)));
            assert_eq!(
                (
                    view.state.status,
                    view.seq.number(),
                    inbox.seq.number(),
                    inbox.unread
                ),
                (Status::Created, 1, 1, 1),
                "{name}, {moment} ms"
            );
            world.advance_ms(1);
        }
        let see = |client: &&Client| {
            let received = world.received(**client);
            received.iter().any(|it| event(kind).matches(it))
        };
        assert_eq!(watchers.iter().filter(see).count(), seen_by, "{name}");
        let (view, inbox) = (world.task(task(1)), world.inbox(user(7)));
        assert_eq!(
            (
                view.seq.number(),
                inbox.seq.number(),
                inbox.unread,
                view.state.status
            ),
            (in_task, in_user, unread, status),
            "{name}"
        );
        assert_eq!(kept(&mut world, task(1)).len() as u64, in_task, "{name}");
    }
}

#[test]
fn who_comes_in_the_middle_of_a_commit_misses_nothing_and_gets_nothing_twice() {
    for (commit_ms, fetch_ms) in [(7, 0), (7, 3), (3, 7)] {
        for moment in 0..60 {
            for (joins, resumes) in [(false, false), (false, true), (true, false), (true, true)] {
                let mut world = stored(moment, 0..=commit_ms, 0..=fetch_ms);
                let first = world.connect(Handshake::chat(user(8), task(1)));
                let origin = world.position(first, task(1)).unwrap();
                let mut client = None;
                for number in 0..20 {
                    if number * 3 <= moment && moment < (number + 1) * 3 {
                        world.advance_ms(moment % 3);
                        client = Some(match (joins, resumes) {
                            (false, false) => world.open(Handshake::chat(user(7), task(1))),
                            (false, true) => world.open(
                                Handshake::chat(user(7), task(1)).since(task(1), origin.clone()),
                            ),
                            (true, _) => world.open(Handshake::notifications(user(7))),
                        });
                        if joins && resumes {
                            world.join_since(client.unwrap(), task(1), &origin);
                        } else if joins {
                            world.join(client.unwrap(), task(1));
                        }
                    }
                    world.begin_publish(to_task(1, &[], chat(number)));
                    world.advance_ms(2);
                }
                world.advance_ms(100);
                let received = world.received(client.unwrap());
                let stood = received.iter().find_map(|it| {
                    let standing = it.system("system:joined").or_else(|| {
                        let rooms = &it.system("system:welcome")?["rooms"];
                        rooms.get(format!("task:{}", task(1)))
                    });
                    standing?["seq"].as_u64()
                });
                let next = if resumes { 1 } else { stood.unwrap() + 1 };
                let expected: Vec<u64> = (next..=20).collect();
                let name = format!("{commit_ms} {fetch_ms} {moment} {joins} {resumes}");
                assert_eq!(seqs(&received, task(1)), expected, "{name}: {received:?}");
            }
        }
    }
}

#[test]
fn many_publishes_under_way_are_numbered_in_their_order_and_answered_with_their_numbers() {
    for seed in 0..20 {
        let mut world = stored(seed, 1..=20, 0..=10);
        let watcher = world.connect(Handshake::chat(user(7), task(1)));
        let subscriber = world.subscribe(&["*".parse().unwrap()]);
        let mut tickets = Vec::new();
        for number in 0..100 {
            let users: &[u64] = if number % 3 == 0 { &[7, 8] } else { &[] };
            let id = format!("id:{number}");
            tickets.extend(begin(
                &mut world,
                [to_task(1, users, as_id(&id, chat(number)))],
            ));
            world.advance_ms(number % 2);
        }
        let answers = answers(&mut world, tickets);
        let expected: Vec<String> = (1..=100).map(|seq: u64| seq.to_string()).collect();
        assert_eq!(told(&answers), expected, "seed {seed}");
        world.advance_ms(100);
        for client in [watcher, subscriber] {
            let received = world.received(client);
            assert_eq!(seqs(&received, task(1)), (1..=100).collect::<Vec<_>>());
            for (received, answer) in received.iter().zip(&answers) {
                let (event, receipt) = (received.event().unwrap(), answer.as_ref().unwrap());
                assert_eq!(event.id, receipt.id().as_str(), "seed {seed}");
                for room in receipt
                    .rooms()
                    .iter()
                    .filter(|it| it.room != user(8).into())
                {
                    assert_eq!(event.rooms[&room.room], room.seq.number(), "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_publish_to_a_room_that_has_to_be_read_first_keeps_the_order_of_the_others() {
    for seed in 0..50 {
        let mut world = stored(seed, 0..=5, 1..=20);
        world.publish_to_user(user(7), draft("note:added", 0));
        world.publish_to_task(task(1), &[], chat(0));
        world.restart(Restart::Crash);
        world.publish_to_task(task(1), &[], chat(1));
        let watcher = world.connect(Handshake::chat(user(9), task(1)));
        let subscriber = world.subscribe(&["*".parse().unwrap()]);
        let tickets = begin(
            &mut world,
            [
                to_task(1, &[], chat(2)),
                // The user's room is not in memory.
                to_task(1, &[7], chat(3)),
                to_task(1, &[], chat(4)),
                to_user(7, draft("note:added", 5)),
                to_task(1, &[7, 8], chat(6)),
            ],
        );
        let answers = answers(&mut world, tickets);
        let user_rooms: Vec<u64> = answers
            .iter()
            .flat_map(|it| it.as_ref().unwrap().rooms())
            .filter(|it| it.room == user(7).into())
            .map(|it| it.seq.number())
            .collect();
        let mut sorted = user_rooms.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [2, 3, 4], "seed {seed}");
        world.advance_ms(100);
        for client in [watcher, subscriber] {
            let received = world.received(client);
            assert_eq!(seqs(&received, task(1)), [3, 4, 5, 6], "seed {seed}");
            let in_order = seqs(&received, user(7));
            assert!(in_order.is_sorted(), "seed {seed}: {in_order:?}");
            for event in received.iter().filter_map(Received::event) {
                let answer = answers.iter().map(|it| it.as_ref().unwrap());
                let answer = answer
                    .clone()
                    .find(|it| it.id().as_str() == event.id)
                    .unwrap();
                for (room, seq) in &event.rooms {
                    let said = answer.rooms().iter().find(|it| it.room == *room).unwrap();
                    assert_eq!(said.seq.number(), *seq, "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn two_publishes_of_one_id_under_way_are_one_event_and_another_content_is_refused() {
    for (name, publishes, expected) in [
        (
            "the same",
            vec![
                as_id("a", chat(1)),
                as_id("a", chat(1)),
                as_id("a", chat(1)),
            ],
            ["1", "1 again", "1 again"],
        ),
        (
            "another content",
            vec![
                as_id("a", chat(1)),
                as_id("a", chat(2)),
                as_id("a", chat(1)),
            ],
            ["1", "id_reused", "1 again"],
        ),
        (
            "between others",
            vec![as_id("a", chat(1)), chat(1), as_id("a", chat(1))],
            ["1", "2", "1 again"],
        ),
        (
            "not kept",
            vec![
                as_id("a", chat(1)).ephemeral(None),
                as_id("a", chat(1)).ephemeral(None),
                as_id("a", chat(1)),
            ],
            ["0", "0 again", "id_reused"],
        ),
    ] {
        for (seed, wait_ms, behind) in [(1, 0, 0), (2, 3, 0), (3, 50, 0), (4, 7, 3), (5, 9, 9)] {
            let mut world = stored(seed, 10..=10, 0..=4);
            let watcher = world.connect(Handshake::chat(user(7), task(1)));
            let mut tickets = Vec::new();
            // They are in the commit after another's, so that one is done between them.
            if behind > 0 {
                begin(&mut world, [to_task(2, &[], chat(0))]);
                world.advance_ms(behind);
            }
            for draft in &publishes {
                tickets.extend(begin(&mut world, [to_task(1, &[], draft.clone())]));
                world.advance_ms(wait_ms);
            }
            let answers = answers(&mut world, tickets);
            assert_eq!(told(&answers), expected, "{name}, {wait_ms}");
            world.advance_ms(50);
            let new = expected.iter().filter(|it| it.parse::<u64>().is_ok());
            assert_eq!(
                world.received(watcher).len(),
                new.count(),
                "{name}, {wait_ms}"
            );
        }
    }
}

#[test]
fn a_client_that_sends_the_same_id_twice_at_once_gets_one_event_and_two_answers() {
    for reads_ahead in [false, true] {
        let mut world = busy_world(reads_ahead);
        let alice = world.connect(Handshake::chat(user(7), task(1)));
        let sends = [1, 2].map(|_| world.send(alice, task(1), &as_id("a", chat(1))));
        world.expect_later(alice, event("chat:message").at(task(1), 1));
        world.expect_later(alice, reply(sends[0]).with("/data/duplicate", ()));
        world.expect_later(alice, reply(sends[1]).with("/data/duplicate", true));
        world.advance_ms(100);
        world.expect_nothing(alice);
    }
}

#[test]
fn of_two_ends_of_a_task_under_way_one_is_refused() {
    for (publishes, expected) in [
        (vec!["completed", "failed"], vec!["1", "lifecycle"]),
        (
            vec!["cancelled", "completed", "cancelled"],
            vec!["1", "lifecycle", "lifecycle"],
        ),
        (
            vec!["created", "started", "completed", "started"],
            vec!["1", "2", "3", "lifecycle"],
        ),
        (
            vec!["started", "created", "status"],
            vec!["1", "lifecycle", "2"],
        ),
        (vec!["deleted", "created"], vec!["1", "gone"]),
    ] {
        for wait_ms in [0, 4, 30] {
            let mut world = stored(1, 10..=10, 0..=6);
            let watcher = world.connect(Handshake::chat(user(7), task(1)));
            let mut tickets = Vec::new();
            for name in &publishes {
                let life = draft(&format!("task:{name}"), ());
                tickets.extend(begin(&mut world, [to_task(1, &[], life)]));
                world.advance_ms(wait_ms);
            }
            let answers = answers(&mut world, tickets);
            assert_eq!(told(&answers), expected, "{publishes:?}, {wait_ms}");
            world.advance_ms(50);
            let events = seqs(&world.received(watcher), task(1)).len();
            let taken = answers.iter().filter(|it| it.is_ok()).count();
            assert_eq!(events, taken, "{publishes:?}, {wait_ms}");
        }
    }
}

#[test]
fn a_task_deleted_with_events_under_way_has_them_all_before_its_end_and_none_after() {
    for (seed, wait_ms) in [(1, 0), (2, 1), (3, 5)] {
        let mut world = stored(seed, 5..=10, 0..=3);
        let watcher = world.connect(Handshake::chat(user(7), task(1)));
        let mut tickets = Vec::new();
        for draft in [chat(1), chat(2), draft("task:deleted", ()), chat(3)] {
            tickets.extend(begin(&mut world, [to_task(1, &[8], draft)]));
            world.advance_ms(wait_ms);
        }
        let answers = answers(&mut world, tickets);
        assert_eq!(told(&answers), ["1", "2", "3", "gone"], "{wait_ms}");
        world.expect_later(watcher, event("chat:message").at(task(1), 1));
        world.expect_later(watcher, event("chat:message").at(task(1), 2));
        world.expect_later(watcher, event("task:deleted").at(task(1), 3));
        world.expect_later(watcher, left(task(1), "deleted"));
        world.advance_ms(50);
        world.expect_nothing(watcher);
        assert_eq!(kept(&mut world, user(8)), [1, 2, 3]);
        assert_eq!(world.task(task(1)).state.status, Status::Deleted);
        world.publish_refused(to_task(1, &[], chat(4)).target, chat(4), "gone");
        let join = world.join(watcher, task(1));
        world.expect_later(watcher, refusal(join, "gone"));
    }
}

fn busy_world(reads_ahead: bool) -> World {
    World::with(Settings {
        store: Some(StoreSettings {
            commit_ms: 10..=10,
            fetch_ms: 5..=5,
            reads_ahead,
        }),
        ..Settings::default()
    })
}

#[test]
fn a_clients_messages_are_answered_in_order_though_the_first_takes_its_time() {
    for reads_ahead in [false, true] {
        let mut world = busy_world(reads_ahead);
        let alice = world.connect(Handshake::notifications(user(7)).device("phone"));
        world.publish_to_user(user(7), draft("note:added", 1));
        world.expect_later(alice, event("note:added").at(user(7), 1));
        let references = [
            world.join(alice, task(1)),
            world.ping(alice),
            world.send(alice, task(1), &chat(1)),
            world.ping(alice),
            world.ack(alice, 1),
            world.read_up_to(alice, 1),
            world.leave(alice, task(1)),
            world.send(alice, task(1), &chat(2)),
            world.ping(alice),
        ];
        world.advance_ms(500);
        let replies: Vec<(u64, bool)> = world
            .received(alice)
            .iter()
            .filter_map(|it| it.system("system:reply"))
            .map(|it| (it["ref"].as_u64().unwrap(), it["ok"] == true))
            .collect();
        let expected: Vec<(u64, bool)> = references
            .iter()
            .map(|reference| (*reference, *reference != references[7]))
            .collect();
        assert_eq!(replies, expected, "reads ahead: {reads_ahead}");
        assert_eq!(kept(&mut world, task(1)), [1]);
        let inbox = world.inbox(user(7));
        assert_eq!((inbox.unread, inbox.devices[0].cursor.number()), (0, 1));
    }
}

#[test]
fn a_message_longer_than_an_outbox_may_be_held_for_the_one_before_it() {
    let limits = Limits {
        outbox_bytes: 600,
        ..Limits::default()
    };
    let mut world = stored_within(1, 10..=10, 0..=0, limits);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let first = world.send(alice, task(1), &chat(1));
    let long = draft("chat:message", "x".repeat(500)).with_id("x".repeat(64).parse().unwrap());
    let second = world.send(alice, task(1), &long);
    world.advance_ms(100);
    let received = world.received(alice);
    for reference in [first, second] {
        let answered = received.iter().any(|it| reply(reference).matches(it));
        assert!(answered, "{received:?}");
    }
    assert_eq!(kept(&mut world, task(1)), [1, 2]);
}

#[test]
fn a_client_that_goes_with_messages_under_way_leaves_nothing_half_done() {
    for moment in 0..40 {
        let mut world = stored(moment, 5..=10, 0..=5);
        let alice = world.connect(Handshake::chat(user(7), task(1)));
        let watcher = world.connect(Handshake::chat(user(8), task(1)));
        for number in 0..3 {
            world.send(alice, task(1), &chat(number));
        }
        world.join(alice, task(2));
        world.advance_ms(moment);
        world.disconnect(alice);
        world.advance_ms(200);
        assert_eq!(world.connections(), 1, "{moment} ms");
        let seen = seqs(&world.received(watcher), task(1));
        assert_eq!(
            seen,
            (1..=seen.len() as u64).collect::<Vec<_>>(),
            "{moment} ms"
        );
        assert_eq!(kept(&mut world, task(1)), seen, "{moment} ms");
        let receipt = world.publish_to_task(task(2), &[], chat(9));
        assert_eq!(receipt.rooms()[0].connected, 0, "{moment} ms");
    }
}

#[test]
fn a_drain_answers_what_is_under_way_and_whoever_watched_sees_it_now_or_by_resuming() {
    for moment in 0..30 {
        let mut world = stored(moment, 5..=10, 0..=5);
        let watcher = world.connect(Handshake::chat(user(7), task(1)));
        let tickets = begin(
            &mut world,
            (0..5).map(|number| to_task(1, &[8], chat(number))),
        );
        world.advance_ms(moment);
        world.drain();
        let late = begin(&mut world, [to_task(1, &[], chat(9))]);
        let taken = answers(&mut world, tickets);
        let late = answers(&mut world, late);
        assert_eq!(told(&late), ["draining"], "{moment} ms");
        let taken: Vec<u64> = taken
            .iter()
            .filter_map(|it| Some(it.as_ref().ok()?.rooms()[0].seq.number()))
            .collect();
        world.advance_ms(10_000);
        assert!(world.is_drained(), "{moment} ms");
        let mut seen = seqs(&world.received(watcher), task(1));
        world.restart(Restart::Orderly);
        world.reopen(watcher);
        world.advance_ms(100);
        seen.extend(seqs(&world.received(watcher), task(1)));
        assert_eq!(seen, taken, "{moment} ms");
        assert_eq!(kept(&mut world, task(1)), taken, "{moment} ms");
        assert_eq!(kept(&mut world, user(8)), taken, "{moment} ms");
    }
}

#[test]
fn a_reply_comes_before_the_goodbye_of_a_drain_or_not_at_all() {
    let mut replied = 0;
    for moment in 0..30 {
        let mut world = stored(moment, 5..=10, 0..=5);
        let client = world.connect(Handshake::chat(user(7), task(1)));
        world.advance_ms(100);
        let reference = world.send(client, task(1), &draft("chat:message", ()));
        world.advance_ms(moment % 15);
        world.drain();
        world.advance_ms(10_000);
        assert!(world.is_drained(), "{moment}");
        let received = world.received(client);
        let is_reply = |it: &Received| reply(reference).matches(it);
        replied += received.iter().filter(|it| is_reply(it)).count();
        let at = received
            .iter()
            .position(|it| goodbye(CloseCode::DRAINING).matches(it));
        let behind = &received[at.unwrap() + 1..];
        assert!(
            matches!(behind, [Received::Closed { .. }]),
            "{moment}: {behind:?}"
        );
    }
    assert!((1..30).contains(&replied), "{replied}");
}

#[test]
fn an_event_that_is_not_kept_waits_for_no_commit_but_for_those_before_it_in_its_rooms() {
    let mut world = stored(1, 10..=10, 0..=0);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let bob = world.connect(Handshake::chat(user(8), task(2)));
    world.advance_ms(100);
    world.begin_publish(to_task(1, &[], chat(1)));
    let typing = || draft("chat:typing", ()).ephemeral(None);
    let other = world.begin_publish(to_task(2, &[], typing()));
    assert!(world.answer(other).is_some());
    world.expect(bob, event("chat:typing").at(task(2), 0).ephemeral());
    let same = world.begin_publish(to_task(1, &[], typing()));
    let receipt = world.wait_answer(same).unwrap();
    world.advance_ms(20);
    assert_eq!(receipt.rooms()[0].seq.number(), 1);
    // Its number is that of the room's head, which a receiver has seen.
    let received = world.received(alice);
    let at = received
        .iter()
        .position(|it| event("chat:typing").matches(it));
    let head = receipt.rooms()[0].seq.number();
    assert_eq!(
        seqs(&received[..at.unwrap()], task(1)),
        (1..=head).collect::<Vec<_>>()
    );
}

#[test]
fn an_event_that_is_not_kept_waits_for_the_commit_that_it_follows_and_not_for_the_one_before() {
    let mut world = stored(1, 10..=10, 0..=0);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.advance_ms(100);
    for number in 1..=2 {
        world.begin_publish(to_task(1, &[], chat(number)));
        world.advance_ms(3);
    }
    world.begin_publish(to_task(1, &[], draft("chat:typing", ()).ephemeral(None)));
    for seq in 1..=2 {
        world.expect_later(alice, event("chat:message").at(task(1), seq));
    }
    world.expect_later(alice, event("chat:typing").at(task(1), 2).ephemeral());
}

#[test]
fn what_has_no_room_is_answered_and_told_to_subscribers() {
    let mut world = stored(1, 10..=10, 0..=0);
    let subscriber = world.subscribe(&["*".parse().unwrap()]);
    let bus = |draft| Publish {
        target: Target::Bus,
        draft,
    };
    let ticket = world.begin_publish(bus(draft("deploy:done", 1)));
    assert!(world.wait_answer(ticket).unwrap().rooms().is_empty());
    world.expect(subscriber, event("deploy:done"));
}
