//! A server that begins again over its store goes on where it was, and clients resume as if nothing had happened.

use crate::{as_id, begin, chat, kept, seqs, stored, stored_within, to_task};
use fanfare_core::{
    History, Limits, Position, Receipt, Seq, Start, Status, TASK_GONE_MS, Table, UserId, Wall,
};
use fanfare_loopback::{
    Client, Handshake, Restart, World, closed, cut, draft, event, gap, goodbye, joined, refusal,
    reply, task, user, welcome,
};
use std::collections::BTreeSet;

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const ALICE: UserId = user(7);
const BOTH: [Restart; 2] = [Restart::Orderly, Restart::Crash];

fn page(world: &mut World, room: impl Into<fanfare_core::RoomId>, from: Start) -> Vec<u64> {
    let history = History {
        from,
        ..History::default()
    };
    let page = world.history(room, history);
    page.events.iter().map(|(seq, _)| seq.number()).collect()
}

fn at(position: &Position, seq: u64) -> Position {
    Position {
        seq: Seq::new(seq).unwrap(),
        ..position.clone()
    }
}

/// A world in which something happened, and what a client knows of it.
struct Before {
    world: World,
    /// In the task's room, at its beginning.
    origin: Position,
    receipts: Vec<Receipt>,
}

/// The task's room has 1 to 5; the user's 1 to 3, of which the first is read and the phone acknowledged two.
fn before(fetch_ms: u64) -> Before {
    let mut world = stored(1, 0..=5, 0..=fetch_ms);
    let phone = world.connect(Handshake::chat(ALICE, task(1)).device("phone"));
    let origin = world.position(phone, task(1)).unwrap();
    let mut receipts = Vec::new();
    for (number, draft) in [
        draft("task:created", "created"),
        draft("task:started", ()),
        draft("task:status", 0.5),
        chat(4),
        draft("task:completed", "done"),
    ]
    .into_iter()
    .enumerate()
    {
        let users: &[UserId] = if number % 2 == 0 { &[ALICE] } else { &[] };
        let id = format!("id:{number}");
        receipts.push(world.publish_to_task(task(1), users, as_id(&id, draft)));
    }
    world.advance_ms(100);
    world.received(phone);
    world.ack(phone, 2);
    world.read_ids(phone, &["id:0"]);
    world.advance_ms(100);
    world.received(phone);
    world.disconnect(phone);
    world.advance_ms(100);
    Before {
        world,
        origin,
        receipts,
    }
}

type Check = fn(&mut Before);

/// What somebody needs the rooms for, and as what they are then found.
const NEEDS: [(&str, Check); 12] = [
    ("publish", |before| {
        let receipt = before.world.publish_to_task(task(1), &[ALICE], chat(6));
        let [in_task, in_user] = receipt.rooms() else {
            panic!("{receipt:?}")
        };
        let former = before.receipts[4].rooms();
        assert_eq!((in_task.seq.number(), in_user.seq.number()), (6, 5));
        assert_eq!(
            (&in_task.epoch, &in_user.epoch),
            (&former[0].epoch, &former[1].epoch)
        );
    }),
    ("a retry", |before| {
        let done = as_id("id:4", draft("task:completed", "done"));
        let again = before.world.publish_to_task(task(1), &[ALICE], done);
        let first = &before.receipts[4];
        assert!(again.duplicate());
        assert_eq!((again.id(), again.rooms()), (first.id(), first.rooms()));
    }),
    ("another content", |before| {
        let target = to_task(1, &[7], chat(0)).target;
        before
            .world
            .publish_refused(target, as_id("id:4", chat(9)), "id_reused");
    }),
    ("lifecycle", |before| {
        let target = to_task(1, &[7], chat(0)).target;
        before
            .world
            .publish_refused(target, draft("task:failed", ()), "lifecycle");
    }),
    ("snapshot", |before| {
        let view = before.world.task(task(1));
        assert_eq!(
            (view.state.status, view.seq.number()),
            (Status::Completed, 5)
        );
        assert_eq!(view.state.last.unwrap().as_str(), "0.5");
    }),
    ("join", |before| {
        let bob = before.world.connect(Handshake::notifications(user(8)));
        let join = before.world.join(bob, task(1));
        let state = |it: fanfare_loopback::Expected| it.with("/data/state/status", "completed");
        before.world.expect_later(bob, state(joined(task(1), 5)));
        before.world.expect_later(bob, reply(join));
        before.world.expect_nothing(bob);
    }),
    ("join from a position", |before| {
        let bob = before.world.connect(Handshake::notifications(user(8)));
        before
            .world
            .join_since(bob, task(1), &at(&before.origin, 2));
        before
            .world
            .expect_later(bob, joined(task(1), 5).with("/data/recovered", true));
        before.world.advance_ms(100);
        assert_eq!(seqs(&before.world.received(bob), task(1)), [3, 4, 5]);
    }),
    ("resume", |before| {
        let since = Handshake::chat(ALICE, task(1))
            .since(task(1), before.origin.clone())
            .since(ALICE, at(&before.origin, 0));
        let tab = before.world.open(since);
        let expected = welcome()
            .recovered(task(1), true)
            .with("/data/inbox/unread", 1);
        before.world.expect_later(tab, expected);
        before.world.advance_ms(100);
        // Merged, each once, naming both rooms.
        let received = before.world.received(tab);
        assert_eq!(seqs(&received, task(1)), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(&received, ALICE), [1, 2, 3, 4]);
        assert_eq!(received.len(), 6);
    }),
    ("a position beyond", |before| {
        let since = Handshake::chat(ALICE, task(1)).since(task(1), at(&before.origin, 6));
        let tab = before.world.open(since);
        before
            .world
            .expect_later(tab, welcome().recovered(task(1), false));
        before.world.expect_later(tab, gap(task(1), 1, 5, "epoch"));
    }),
    ("history", |before| {
        let epoch = &before.origin;
        for (from, expected) in [
            (Start::Oldest, &[1, 2, 3, 4, 5][..]),
            (Start::Newest, &[5, 4, 3, 2, 1]),
            (Start::After(at(epoch, 3)), &[4, 5]),
            (Start::Before(at(epoch, 3)), &[2, 1]),
        ] {
            assert_eq!(
                page(&mut before.world, task(1), from.clone()),
                expected,
                "{from:?}"
            );
        }
        assert_eq!(kept(&mut before.world, ALICE), [1, 2, 3, 4]);
    }),
    ("inbox", |before| {
        let inbox = before.world.inbox(ALICE);
        let [phone] = &inbox.devices[..] else {
            panic!("{inbox:?}")
        };
        assert_eq!((inbox.unread, inbox.seq.number()), (1, 4));
        assert_eq!((phone.device.as_str(), phone.cursor.number()), ("phone", 2));
    }),
    ("a device", |before| {
        let phone = before
            .world
            .connect(Handshake::notifications(ALICE).device("phone"));
        before.world.advance_ms(100);
        assert_eq!(seqs(&before.world.received(phone), ALICE), [3, 4]);
        // One that was never seen begins at the oldest that is unread.
        let tablet = before
            .world
            .connect(Handshake::notifications(ALICE).device("tablet"));
        before.world.advance_ms(100);
        assert_eq!(seqs(&before.world.received(tablet), ALICE), [3, 4]);
    }),
];

#[test]
fn a_room_is_read_when_somebody_needs_it_and_is_as_it_was() {
    for how in BOTH {
        for fetch_ms in [0, 10] {
            for (name, check) in NEEDS {
                let mut before = before(fetch_ms);
                before.world.restart(how);
                println!("{name}, {how:?}, {fetch_ms} ms");
                check(&mut before);
                // What it was read for is all in memory now.
                let receipt = before.world.publish_to_task(task(1), &[], chat(9));
                assert!(
                    receipt.rooms()[0].seq.number() >= 6,
                    "{name}, {how:?}, {fetch_ms}"
                );
            }
        }
    }
}

#[test]
fn an_orderly_end_tells_everybody_when_to_come_back_and_a_crash_cuts() {
    for how in BOTH {
        let mut world = stored(1, 0..=5, 0..=5);
        let alice = world.connect(Handshake::chat(ALICE, task(1)));
        let subscriber = world.subscribe(&["*".parse().unwrap()]);
        world.restart(how);
        if how == Restart::Orderly {
            world.expect(alice, goodbye(fanfare_core::CloseCode::DRAINING));
            world.expect(alice, closed(fanfare_core::CloseCode::DRAINING));
        } else {
            world.expect(alice, cut());
        }
        world.expect(subscriber, cut());
        assert!(!world.is_open(alice));
        assert_eq!(world.connections(), 0);
    }
}

#[test]
fn epochs_go_on_also_of_rooms_in_which_nothing_ever_happened() {
    for how in BOTH {
        let mut world = stored(1, 0..=5, 0..=5);
        let alice = world.connect(Handshake::chat(ALICE, task(1)));
        let standing = [world.position(alice, task(1)), world.position(alice, ALICE)];
        for _ in 0..3 {
            world.restart(how);
            world.received(alice);
            world.reopen(alice);
            let all = welcome().recovered(task(1), true).recovered(ALICE, true);
            world.expect_later(alice, all);
            assert_eq!(
                [world.position(alice, task(1)), world.position(alice, ALICE)],
                standing
            );
        }
        world.publish_to_task(task(1), &[ALICE], chat(1));
        world.expect_later(alice, event("chat:message").at(task(1), 1).at(ALICE, 1));
    }
}

#[test]
fn clients_that_resume_across_restarts_see_no_hole_and_no_double() {
    for seed in 0..30 {
        let mut world = stored(seed, 0..=9, 0..=4);
        let clients: Vec<Client> = [user(7), user(8)]
            .map(|user| world.connect(Handshake::chat(user, task(1))))
            .into();
        let mut seen = vec![Vec::new(); clients.len()];
        for round in 0..8 {
            begin(
                &mut world,
                (0..5).map(|number| {
                    to_task(1, &[7], as_id(&format!("{round}:{number}"), chat(number)))
                }),
            );
            world.advance_ms((seed * 7 + round * 5) % 23);
            let crash = (seed + round) % 3 > 0;
            world.restart(if crash {
                Restart::Crash
            } else {
                Restart::Orderly
            });
            world.settle();
            for (client, seen) in clients.iter().zip(&mut seen) {
                seen.extend(seqs(&world.received(*client), task(1)));
                world.reopen(*client);
            }
            world.advance_ms(seed % 7);
        }
        world.advance_ms(100);
        let head = world.task(task(1)).seq.number();
        for (client, mut seen) in clients.into_iter().zip(seen) {
            let received = world.received(client);
            seen.extend(seqs(&received, task(1)));
            assert_eq!(seen, (1..=head).collect::<Vec<_>>(), "seed {seed}");
            let gaps = received.iter().filter_map(|it| it.system("system:gap"));
            assert_eq!(gaps.count(), 0, "seed {seed}");
        }
    }
}

#[test]
fn what_was_under_way_in_a_crash_is_there_in_all_its_rooms_or_in_none_and_what_was_answered_is() {
    let mut cut_short = BTreeSet::new();
    for seed in 0..100 {
        let mut world = stored(seed, 3..=9, 0..=4);
        let watcher = world.connect(Handshake::chat(user(9), task(1)));
        let publishes: Vec<_> = (0..12)
            .map(|number| {
                let draft = as_id(&format!("id:{number}"), chat(number));
                to_task(1, &[7, 8][..(number % 3) as usize], draft)
            })
            .collect();
        let mut tickets = Vec::new();
        for publish in &publishes {
            tickets.push(world.begin_publish(publish.clone()));
            world.advance_ms(seed % 3);
        }
        world.advance_ms(seed % 11);
        world.restart(Restart::Crash);
        let answered: Vec<_> = tickets.into_iter().map(|it| world.answer(it)).collect();
        world.settle();
        let seen = seqs(&world.received(watcher), task(1));
        let there = kept(&mut world, task(1));
        assert_eq!(
            there,
            (1..=there.len() as u64).collect::<Vec<_>>(),
            "seed {seed}"
        );
        assert!(
            there.starts_with(&seen),
            "seed {seed}: {seen:?} was seen, {there:?} is there"
        );
        // They were published in one order, so those that are there are the first ones.
        for number in [7, 8] {
            let names = |it: &u64| it % 3 > number - 7;
            let named = (0..there.len() as u64).filter(names).count() as u64;
            let in_user = kept(&mut world, user(number));
            assert_eq!(in_user, (1..=named).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(world.inbox(user(number)).seq.number(), named, "seed {seed}");
        }
        for (number, (publish, answer)) in publishes.into_iter().zip(answered).enumerate() {
            let again = world.try_publish(publish).unwrap();
            let is_there = number < there.len();
            assert_eq!(again.duplicate(), is_there, "seed {seed}, {number}");
            assert_eq!(
                again.rooms()[0].seq.number(),
                number as u64 + 1,
                "seed {seed}"
            );
            if let Some(answer) = answer {
                let answer = answer.unwrap();
                assert!(is_there, "seed {seed}, {number} was answered");
                assert_eq!((answer.id(), answer.rooms()), (again.id(), again.rooms()));
            } else {
                cut_short.insert(is_there);
            }
        }
    }
    assert_eq!(cut_short.len(), 2, "both were seen");
}

#[test]
fn what_was_acknowledged_does_not_come_again_after_a_crash() {
    for how in BOTH {
        for moment in 0..15 {
            let mut world = stored(moment, 5..=10, 0..=3);
            for number in 1..=5 {
                world.publish_to_user(ALICE, draft("user:notification", number));
            }
            let phone = world.connect(Handshake::notifications(ALICE).device("phone"));
            world.advance_ms(100);
            assert_eq!(seqs(&world.received(phone), ALICE), [1, 2, 3, 4, 5]);
            let acks = [world.ack(phone, 2), world.ack(phone, 3)];
            world.advance_ms(moment);
            world.restart(how);
            world.settle();
            let received = world.received(phone);
            let confirmed = acks.iter().filter(|ack| {
                let reply = reply(**ack);
                received.iter().any(|it| reply.matches(it))
            });
            let confirmed = [0, 2, 3][confirmed.count()];
            let again = Handshake::notifications(ALICE).device("phone");
            world.reopen_with(phone, again);
            world.advance_ms(100);
            let came = seqs(&world.received(phone), ALICE);
            let cursor = world.inbox(ALICE).devices[0].cursor.number();
            assert!(
                cursor >= confirmed,
                "{how:?} {moment}: {cursor} {confirmed}"
            );
            assert_eq!(
                came,
                (cursor + 1..=5).collect::<Vec<_>>(),
                "{how:?} {moment}"
            );
        }
    }
}

#[test]
fn what_is_unread_is_the_same_number_after_a_restart_and_can_be_read_by_id() {
    for how in BOTH {
        let mut world = stored(1, 0..=5, 0..=5);
        for number in 1..=4 {
            let draft = as_id(&format!("n:{number}"), draft("user:notification", number));
            world.publish_to_user(ALICE, draft);
        }
        world.restart(how);
        let phone = world.open(Handshake::notifications(ALICE).device("phone"));
        world.expect_later(phone, welcome().with("/data/inbox/unread", 4));
        world.advance_ms(100);
        world.received(phone);
        let read = world.read_ids(phone, &["n:2", "n:4", "nobody"]);
        world.expect_later(phone, event("inbox:read").at(ALICE, 5).unread(2));
        world.expect_later(phone, reply(read).with("/data/unread", 2));
        world.restart(how);
        assert_eq!(world.inbox(ALICE).unread, 2);
        world.received(phone);
        world.reopen(phone);
        world.expect_later(phone, welcome().with("/data/inbox/unread", 2));
        world.advance_ms(100);
        world.received(phone);
        world.publish_to_user(ALICE, draft("user:notification", 6));
        world.expect_later(phone, event("user:notification").at(ALICE, 6).unread(3));
        let read = world.read_up_to(phone, 1);
        world.expect_later(phone, event("inbox:read").at(ALICE, 7).unread(2));
        world.expect_later(phone, reply(read));
        // By id, of what is known from the store only.
        world.restart(how);
        world.received(phone);
        world.reconnect(phone);
        world.advance_ms(100);
        world.received(phone);
        let read = world.read_ids(phone, &["n:3"]);
        world.expect_later(phone, event("inbox:read").at(ALICE, 8).unread(1));
        world.expect_later(phone, reply(read).with("/data/unread", 1));
        assert_eq!(world.inbox(ALICE).unread, 1);
    }
}

#[test]
fn an_id_is_known_for_a_day_across_restarts_and_new_after_it() {
    for how in BOTH {
        let mut world = stored(1, 0..=0, 0..=0);
        let begun = world.now().time.as_millis();
        let first = world.publish_to_task(task(1), &[], as_id("a", chat(1)));
        world.restart(how);
        let spent = world.now().time.as_millis() - begun;
        world.advance_ms(DAY_MS - 1 - spent);
        world.restart(Restart::Crash);
        let again = world.publish_to_task(task(1), &[], as_id("a", chat(1)));
        assert!(again.duplicate());
        assert_eq!((again.id(), again.rooms()), (first.id(), first.rooms()));
        let target = to_task(1, &[], chat(1)).target;
        world.publish_refused(target, as_id("a", chat(2)), "id_reused");
        world.advance_ms(1);
        let new = world.publish_to_task(task(1), &[], as_id("a", chat(2)));
        assert!(!new.duplicate());
        world.restart(how);
        assert!(
            world
                .publish_to_task(task(1), &[], as_id("a", chat(2)))
                .duplicate()
        );
    }
}

#[test]
fn ids_are_bounded_in_number_across_restarts_and_the_oldest_is_forgotten() {
    let limits = Limits {
        ids: 5,
        ..Limits::default()
    };
    let mut world = stored_within(1, 0..=0, 0..=0, limits);
    for number in 0..4 {
        world.publish_to_task(task(1), &[], as_id(&format!("a:{number}"), chat(1)));
    }
    world.restart(Restart::Crash);
    for number in 4..7 {
        world.advance_ms(1);
        world.publish_to_task(task(1), &[], as_id(&format!("a:{number}"), chat(1)));
    }
    world.advance_ms(10_000);
    assert_eq!(world.rows(Table::Ids), 5);
    assert_eq!(world.rows(Table::Ids), world.rows(Table::IdTimes));
    assert!(
        world
            .publish_to_task(task(1), &[], as_id("a:6", chat(1)))
            .duplicate()
    );
    assert!(
        world
            .publish_to_task(task(1), &[], as_id("a:3", chat(1)))
            .duplicate()
    );
    assert!(
        !world
            .publish_to_task(task(1), &[], as_id("a:0", chat(1)))
            .duplicate()
    );
}

#[test]
fn what_became_too_old_while_the_server_was_away_is_said_to_be_missing() {
    const HOUR_MS: u64 = 60 * 60 * 1_000;
    let limits = || Limits {
        task_log_ms: HOUR_MS,
        user_log_ms: 3 * HOUR_MS,
        ..Limits::default()
    };
    for (name, is_user, kept_ms) in [("a task", false, HOUR_MS), ("a user", true, 3 * HOUR_MS)] {
        for how in BOTH {
            let mut world = stored_within(1, 0..=0, 0..=0, limits());
            // Its token is good for a day only.
            let alice = world.connect(Handshake::chat(ALICE, task(1)));
            let origin = world.position(alice, task(1)).unwrap();
            world.disconnect(alice);
            let publish = |world: &mut World| {
                if is_user {
                    world.publish_to_user(ALICE, draft("note:added", 1))
                } else {
                    world.publish_to_task(task(1), &[], chat(1))
                }
            };
            let room = if is_user {
                ALICE.into()
            } else {
                fanfare_core::RoomId::from(task(1))
            };
            publish(&mut world);
            let begun = world.now().time.as_millis();
            world.advance_ms(10_000);
            publish(&mut world);
            world.restart(how);
            let spent = world.now().time.as_millis() - begun;
            world.advance_ms(kept_ms - 1 - spent);
            assert_eq!(kept(&mut world, room), [1, 2], "{name}, {how:?}");
            world.restart(Restart::Crash);
            world.advance_ms(1);
            assert_eq!(kept(&mut world, room), [2], "{name}, {how:?}");
            world.restart(Restart::Crash);
            let since = Handshake::chat(ALICE, task(1)).since(room, origin.clone());
            let late = world.open(since);
            world.expect_later(late, welcome().recovered(room, false));
            world.expect_later(late, gap(room, 1, 1, "trimmed"));
            world.advance_ms(10);
            assert_eq!(seqs(&world.received(late), room), [2], "{name}, {how:?}");
            world.advance_ms(10_000);
            world.disconnect(late);
            world.restart(Restart::Crash);
            let since = Handshake::chat(ALICE, task(1)).since(room, origin);
            let later = world.open(since);
            world.expect_later(later, welcome().standing(room, 2));
            world.expect_later(later, gap(room, 1, 2, "trimmed"));
            if is_user {
                assert_eq!(world.inbox(ALICE).unread, 0);
            }
            let receipt = publish(&mut world);
            assert_eq!(receipt.rooms()[0].seq.number(), 3, "{name}, {how:?}");
        }
    }
}

#[test]
fn a_log_that_is_full_keeps_the_last_ones_across_restarts_and_its_rows_go() {
    let limits = || Limits {
        task_log_events: 10,
        user_log_events: 6,
        ..Limits::default()
    };
    for how in BOTH {
        let mut world = stored_within(1, 0..=3, 0..=3, limits());
        let alice = world.connect(Handshake::chat(ALICE, task(1)));
        let origin = world.position(alice, task(1)).unwrap();
        for round in 0..3 {
            for number in 0..8 {
                world.publish_to_task(task(1), &[ALICE], chat(number + 8 * round));
            }
            world.restart(how);
        }
        assert_eq!(kept(&mut world, task(1)), (15..=24).collect::<Vec<_>>());
        assert_eq!(kept(&mut world, ALICE), (19..=24).collect::<Vec<_>>());
        world.received(alice);
        let since = Handshake::chat(user(8), task(1)).since(task(1), at(&origin, 3));
        let bob = world.open(since);
        world.expect_later(bob, welcome().recovered(task(1), false));
        world.expect_later(bob, gap(task(1), 4, 14, "trimmed"));
        world.advance_ms(60_000);
        for _ in 0..20 {
            world.publish_to_task(task(1), &[ALICE], chat(1));
        }
        world.advance_ms(60_000);
        let rows = world.rows(Table::Entries);
        assert!((16..=16 + 2 * 128).contains(&rows), "{how:?}: {rows} rows");
    }
}

#[test]
fn a_deleted_task_stays_gone_for_a_day_across_restarts_and_its_log_goes() {
    for how in BOTH {
        let mut world = stored(1, 0..=3, 0..=3);
        let first = world.publish_to_task(task(1), &[], draft("task:created", ()));
        for number in 0..20 {
            world.publish_to_task(task(1), &[], chat(number));
        }
        world.publish_to_task(task(1), &[], draft("task:deleted", ()));
        let deleted = world.now().time.as_millis();
        world.restart(how);
        assert_eq!(world.task(task(1)).state.status, Status::Deleted);
        assert_eq!(kept(&mut world, task(1)), [0; 0]);
        let target = || to_task(1, &[], chat(1)).target;
        world.publish_refused(target(), chat(1), "gone");
        let alice = world.connect(Handshake::notifications(ALICE));
        let join = world.join(alice, task(1));
        world.expect_later(alice, refusal(join, "gone"));
        world.advance_ms(60_000);
        assert_eq!(world.rows(Table::Entries), 0, "{how:?}");
        world.restart(how);
        let spent = world.now().time.as_millis() - deleted;
        world.advance_ms(TASK_GONE_MS - spent + 10);
        world.restart(how);
        let new = world.publish_to_task(task(1), &[], draft("task:created", ()));
        assert_eq!(new.rooms()[0].seq.number(), 1);
        assert_ne!(new.rooms()[0].epoch, first.rooms()[0].epoch, "{how:?}");
        assert_eq!(kept(&mut world, task(1)), [1]);
        world.restart(how);
        assert_eq!(kept(&mut world, task(1)), [1]);
    }
}

#[test]
fn at_never_runs_backwards_though_the_clock_is_set_back_across_a_restart() {
    for how in BOTH {
        let mut world = stored(1, 0..=3, 0..=3);
        world.publish_to_task(task(1), &[], chat(1));
        world.restart(how);
        let wall = world.now().wall.as_unix_millis();
        world.set_wall(Wall::from_unix_millis(wall - 60_000));
        world.publish_to_task(task(1), &[], chat(2));
        let page = world.history(task(1), History::default());
        let dates: Vec<Wall> = page
            .events
            .iter()
            .map(|(_, entry)| entry.event().at)
            .collect();
        assert!(dates.is_sorted() && dates.len() == 2, "{how:?}: {dates:?}");
    }
}

#[test]
fn devices_are_bounded_and_expire_across_restarts() {
    let limits = Limits {
        devices_per_user: 2,
        device_ms: 1_000_000,
        ..Limits::default()
    };
    let names = |world: &mut World| -> Vec<String> {
        let devices = world.inbox(ALICE).devices;
        devices.iter().map(|it| it.device.to_string()).collect()
    };
    let mut world = stored_within(1, 0..=0, 0..=0, limits);
    world.publish_to_user(ALICE, draft("user:notification", 1));
    for name in ["phone", "tablet", "watch"] {
        world.advance_ms(1_000);
        let client = world.connect(Handshake::notifications(ALICE).device(name));
        let ack = world.ack(client, 1);
        world.advance_ms(10);
        assert!(
            world
                .received(client)
                .iter()
                .any(|it| reply(ack).matches(it))
        );
        world.disconnect(client);
        world.restart(Restart::Crash);
    }
    assert_eq!(names(&mut world), ["tablet", "watch"]);
    world.advance_ms(999_999);
    world.restart(Restart::Crash);
    let left = names(&mut world);
    assert!(
        left.len() < 2 && !left.contains(&"tablet".to_owned()),
        "{left:?}"
    );
    world.advance_ms(10_000);
    assert!(names(&mut world).is_empty());
}

#[test]
fn a_server_that_restarts_again_and_again_without_work_loses_nothing_and_writes_little() {
    let mut world = stored(1, 0..=3, 0..=3);
    world.publish_to_task(task(1), &[ALICE], as_id("a", chat(1)));
    let rows = |world: &mut World| Table::ALL.map(|table| world.rows(table));
    let before = rows(&mut world);
    for round in 0..10 {
        world.restart(BOTH[round % 2]);
    }
    assert_eq!(rows(&mut world), before);
    let receipt = world.publish_to_task(task(1), &[ALICE], chat(2));
    assert_eq!(receipt.rooms()[0].seq.number(), 2);
    let ids: BTreeSet<String> = (0..20)
        .map(|number| {
            world.restart(Restart::Crash);
            world
                .publish_to_user(user(number), draft("note:added", 1))
                .id()
                .to_string()
        })
        .collect();
    assert_eq!(ids.len(), 20, "the server's own ids are never used twice");
}

#[test]
fn a_log_in_memory_is_gone_with_its_hub_and_who_resumes_is_told() {
    let mut world = World::with(fanfare_loopback::Settings {
        store: None,
        ..fanfare_loopback::Settings::default()
    });
    let alice = world.connect(Handshake::chat(ALICE, task(1)));
    world.publish_to_task(task(1), &[], chat(1));
    world.expect(alice, event("chat:message").at(task(1), 1));
    world.restart(Restart::Crash);
    world.expect(alice, cut());
    world.reopen(alice);
    world.expect(alice, welcome().recovered(task(1), false));
    world.expect(alice, gap(task(1), 1, 0, "epoch"));
}
