//! What a later server finds in the rows that an earlier one left, at the edges: of pages, of what is kept, of commits.

use crate::{answers, as_id, begin, chat, kept, seqs, stored, stored_within, to_task, to_user};
use fanfare_core::{
    Draft, History, Limits, Position, RoomId, Seq, Status, StoreFailure, Table, UserId, Wall,
};
use fanfare_loopback::{Client, Handshake, Restart, World, draft, gap, reply, task, user, welcome};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const ALICE: UserId = user(7);

/// Lets so many milliseconds pass since then.
fn advance_to(world: &mut World, since_ms: u64, millis: u64) {
    let passed = world.now().time.as_millis() - since_ms;
    world.advance_ms(millis - passed);
}

fn answered(world: &mut World, client: Client, reference: u64) -> bool {
    let received = world.received(client);
    received.iter().any(|it| reply(reference).matches(it))
}

#[test]
fn an_inbox_of_any_length_is_read_whole_and_each_of_it_once() {
    // As many rows as are read at a time, with one for the device; a page less, and more.
    const PAGE: u64 = 2_048;
    let mut world = stored(1, 0..=0, 0..=3);
    let phone = world.connect(Handshake::notifications(ALICE).device("phone"));
    world.disconnect(phone);
    let mut count = 0;
    for expected in [PAGE - 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE - 1, 2 * PAGE] {
        while count < expected {
            count += 1;
            let id = format!("n:{count}");
            world.publish_to_user(ALICE, as_id(&id, draft("user:notification", count)));
        }
        world.restart(Restart::Crash);
        let inbox = world.inbox(ALICE);
        assert_eq!(inbox.unread as u64, expected);
        assert_eq!(inbox.devices.len(), 1, "{expected}");
    }
    let tab = world.connect(Handshake::notifications(ALICE));
    let ids = [PAGE - 1, PAGE, 2 * PAGE].map(|number| format!("n:{number}"));
    let read = world.read_ids(tab, &ids.each_ref().map(|id| &**id));
    world.advance_ms(100);
    assert!(answered(&mut world, tab, read));
    world.restart(Restart::Crash);
    assert_eq!(world.inbox(ALICE).unread as u64, 2 * PAGE - 3);
}

#[test]
fn what_age_took_is_missing_for_the_next_server_too_and_its_rows_are_gone() {
    for room in [RoomId::from(task(1)), ALICE.into()] {
        let kept_ms = 3_600_000;
        let limits = Limits {
            task_log_ms: kept_ms,
            user_log_ms: kept_ms,
            ..Limits::default()
        };
        let mut world = stored_within(1, 0..=0, 0..=0, limits);
        let alice = world.connect(Handshake::chat(ALICE, task(1)));
        let origin = world.position(alice, room).unwrap();
        world.disconnect(alice);
        let publish = |world: &mut World| {
            world.try_publish(match room {
                RoomId::Task(_) => to_task(1, &[], chat(1)),
                RoomId::User(_) => to_user(7, draft("user:notification", 1)),
            })
        };
        let begun = world.now().time.as_millis();
        publish(&mut world).unwrap();
        world.advance_ms(60_000);
        publish(&mut world).unwrap();
        advance_to(&mut world, begun, kept_ms);
        assert_eq!(kept(&mut world, room), [2], "{room}");
        // Also where all of it is in memory.
        world.advance_ms(2_000);
        assert_eq!(world.rows(Table::Entries), 1, "{room}");
        world.restart(Restart::Crash);
        let page = world.history(room, History::default());
        assert_eq!(page.first.number(), 2, "{room}");
        let late = world.open(Handshake::chat(ALICE, task(1)).since(room, origin));
        world.expect_later(late, welcome().recovered(room, false));
        world.expect_later(late, gap(room, 1, 1, "trimmed"));
        world.disconnect(late);
        // Of a room that nobody asks for, the sweep removes all.
        world.restart(Restart::Crash);
        advance_to(&mut world, begun, kept_ms + 120_000);
        assert_eq!(world.rows(Table::Entries), 0, "{room}");
        assert_eq!(world.rows(Table::Inboxes), 0, "{room}");
        assert_eq!(kept(&mut world, room), [0; 0], "{room}");
    }
}

#[test]
fn an_event_is_as_old_as_it_is_though_an_older_one_was_under_way_with_it() {
    // The first is being written for longer than the sweep takes to come by.
    let mut world = stored(1, 9_000..=9_000, 0..=0);
    let begun = world.now().time.as_millis();
    let first = begin(&mut world, [to_task(1, &[], chat(1))]);
    world.advance_ms(8_000);
    let second = begin(&mut world, [to_task(1, &[], chat(2))]);
    answers(&mut world, first);
    answers(&mut world, second);
    world.restart(Restart::Orderly);
    advance_to(&mut world, begun, DAY_MS + 6_000);
    world.restart(Restart::Crash);
    assert_eq!(kept(&mut world, task(1)), [2]);
}

#[test]
fn a_server_that_may_keep_more_says_what_the_one_before_it_did_not_keep() {
    let within = |events| Limits {
        task_log_events: events,
        user_log_events: events,
        ..Limits::default()
    };
    for how in [Restart::Orderly, Restart::Crash] {
        let mut world = stored_within(1, 0..=3, 0..=3, within(6));
        let alice = world.connect(Handshake::chat(ALICE, task(1)));
        let origin = world.position(alice, task(1)).unwrap();
        for number in 0..20 {
            world.publish_to_task(task(1), &[ALICE], draft("task:status", number));
        }
        world.restart_within(how, within(100));
        for room in [RoomId::from(task(1)), ALICE.into()] {
            let page = world.history(room, History::default());
            assert_eq!(page.first.number(), 15, "{room}, {how:?}");
            let expected: Vec<u64> = (15..=20).collect();
            assert_eq!(kept(&mut world, room), expected, "{room}, {how:?}");
        }
        let since = Position {
            seq: Seq::new(3).unwrap(),
            ..origin
        };
        let bob = world.open(Handshake::chat(user(8), task(1)).since(task(1), since));
        world.expect_later(bob, welcome().recovered(task(1), false));
        world.expect_later(bob, gap(task(1), 4, 14, "trimmed"));
        world.advance_ms(100);
        let came = seqs(&world.received(bob), task(1));
        assert_eq!(came, (15..=20).collect::<Vec<_>>(), "{how:?}");
    }
}

#[test]
fn ids_that_a_full_disk_refused_do_not_count_and_push_out_no_others() {
    let limits = Limits {
        ids: 5,
        ..Limits::default()
    };
    let mut world = stored_within(1, 0..=0, 0..=0, limits);
    let publish =
        |world: &mut World, id: &str| world.try_publish(to_task(1, &[], as_id(id, chat(1))));
    for id in ["a", "b", "c"] {
        publish(&mut world, id).unwrap();
    }
    world.fail_commits(usize::MAX, StoreFailure::Full);
    for number in 0..10 {
        let refused = publish(&mut world, &format!("x:{number}")).unwrap_err();
        assert_eq!(refused.code(), "store_full");
    }
    world.fail_commits(0, StoreFailure::Full);
    publish(&mut world, "d").unwrap();
    world.advance_ms(10_000);
    assert_eq!(world.rows(Table::Ids), 4);
    world.restart(Restart::Crash);
    for id in ["a", "b", "c", "d"] {
        assert!(publish(&mut world, id).unwrap().duplicate(), "{id}");
    }
}

/// Two connections of one device, that have five events.
fn two_tabs_of_a_phone(seed: u64) -> (World, [Client; 2]) {
    let mut world = stored(seed, 10..=10, 0..=0);
    for number in 1..=5 {
        world.publish_to_user(ALICE, draft("user:notification", number));
    }
    let tabs = [1, 2].map(|_| world.connect(Handshake::notifications(ALICE).device("phone")));
    world.advance_ms(100);
    for tab in tabs {
        assert_eq!(seqs(&world.received(tab), ALICE), [1, 2, 3, 4, 5]);
    }
    (world, tabs)
}

fn cursor(world: &mut World) -> u64 {
    world.inbox(ALICE).devices[0].cursor.number()
}

#[test]
fn of_two_acks_of_one_device_under_way_the_furthest_counts_whichever_came_last() {
    for (first, second) in [(2, 4), (4, 2)] {
        for apart_ms in [0, 5, 12] {
            let (mut world, [one, other]) = two_tabs_of_a_phone(1);
            let first_ack = world.ack(one, first);
            world.advance_ms(apart_ms);
            let second_ack = world.ack(other, second);
            world.advance_ms(100);
            let name = format!("{first}, {second}, {apart_ms} ms");
            assert!(answered(&mut world, one, first_ack), "{name}");
            assert!(answered(&mut world, other, second_ack), "{name}");
            assert_eq!(cursor(&mut world), 4, "{name}");
            world.restart(Restart::Crash);
            assert_eq!(cursor(&mut world), 4, "{name}, after a restart");
        }
    }
}

#[test]
fn a_device_that_goes_while_its_ack_is_under_way_has_it_whatever_else_was_written_then() {
    for behind in [false, true] {
        for moment in 0..30 {
            let (mut world, [tab, other]) = two_tabs_of_a_phone(moment);
            if behind {
                // The ack is in the commit after this one.
                begin(&mut world, [to_task(1, &[], chat(1))]);
                world.advance_ms(1);
            }
            world.ack(tab, 3);
            world.advance_ms(moment);
            // What the device was is written anew.
            world.disconnect(other);
            world.advance_ms(100);
            assert_eq!(cursor(&mut world), 3, "{behind}, {moment} ms");
            world.restart(Restart::Crash);
            assert_eq!(
                cursor(&mut world),
                3,
                "{behind}, {moment} ms, after a restart"
            );
        }
    }
}

#[test]
fn a_server_that_may_keep_longer_says_what_age_took_before() {
    const HOUR_MS: u64 = 3_600_000;
    let within = |hours| Limits {
        task_log_ms: hours * HOUR_MS,
        user_log_ms: hours * HOUR_MS,
        ..Limits::default()
    };
    for room in [RoomId::from(task(1)), ALICE.into()] {
        // Aged by the sweep in memory, by it on the disk alone, and where all was too old.
        for (in_memory, kept_hours, expected) in
            [(true, 1, &[2][..]), (false, 1, &[2]), (false, 3, &[])]
        {
            let mut world = stored_within(1, 0..=0, 0..=0, within(1));
            let publish = |world: &mut World| match room {
                RoomId::Task(task) => world.publish_to_task(task, &[], chat(1)),
                RoomId::User(user) => world.publish_to_user(user, draft("user:notification", 1)),
            };
            publish(&mut world);
            let wall = world.now().wall.as_unix_millis();
            world.set_wall(Wall::from_unix_millis(wall + HOUR_MS / 2));
            publish(&mut world);
            if !in_memory {
                world.restart(Restart::Crash);
            }
            world.set_wall(Wall::from_unix_millis(wall + kept_hours * HOUR_MS));
            world.advance_ms(5_000);
            world.restart_within(Restart::Crash, within(100));
            let page = world.history(room, History::default());
            let name = format!("{room}, in memory {in_memory}, {kept_hours} h");
            assert_eq!(page.first.number(), 3 - expected.len() as u64, "{name}");
            assert_eq!(kept(&mut world, room), expected, "{name}");
        }
    }
}

#[test]
fn of_many_events_in_the_store_those_that_are_too_old_go_and_no_other() {
    const MINUTE_MS: u64 = 60_000;
    let limits = || Limits {
        task_log_ms: 60 * MINUTE_MS,
        ..Limits::default()
    };
    for count in [1, 2, 3, 10, 17] {
        for old in 0..=count {
            let mut world = stored_within(1, 0..=0, 0..=0, limits());
            let wall = world.now().wall.as_unix_millis();
            for number in 0..count {
                world.set_wall(Wall::from_unix_millis(wall + number * MINUTE_MS));
                world.publish_to_task(task(1), &[], chat(number));
            }
            world.restart(Restart::Crash);
            // The last that is too old was taken just so long ago.
            let passed = (60 + old) * MINUTE_MS - MINUTE_MS;
            world.set_wall(Wall::from_unix_millis(wall + passed));
            let expected: Vec<u64> = (old + 1..=count).collect();
            assert_eq!(kept(&mut world, task(1)), expected, "{old} of {count}");
        }
    }
}

#[test]
fn the_sweep_comes_to_every_room_and_forgets_tasks_that_were_idle_for_thirty_days() {
    let mut world = stored(1, 0..=0, 0..=0);
    let wall = world.now().wall.as_unix_millis();
    let first = world.publish_to_task(task(1), &[ALICE], draft("task:created", ()));
    for number in 2..=200 {
        world.publish_to_task(task(number), &[], draft("task:created", ()));
    }
    world.restart(Restart::Crash);
    let at_day = |world: &mut World, day: u64| {
        world.set_wall(Wall::from_unix_millis(wall + day * DAY_MS + 60_000));
        world.advance_ms(30_000);
    };
    at_day(&mut world, 1);
    // The user's.
    assert_eq!(world.rows(Table::Entries), 1);
    at_day(&mut world, 29);
    assert_eq!(world.rows(Table::Tasks), 200);
    assert_eq!(world.task(task(1)).state.status, Status::Created);
    world.restart(Restart::Crash);
    at_day(&mut world, 30);
    assert_eq!((world.rows(Table::Tasks), world.rows(Table::Rooms)), (0, 1));
    for how in [Restart::Orderly, Restart::Crash] {
        world.restart(how);
        assert_eq!(world.task(task(1)).state.status, Status::Unknown);
        // A number is never given twice in an epoch.
        assert_ne!(world.task(task(1)).epoch, first.rooms()[0].epoch, "{how:?}");
    }
    let next = world.publish_to_task(task(1), &[ALICE], chat(1));
    let numbers = next.rooms().iter().map(|room| room.seq.number());
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_a_full_log_no_longer_keeps_leaves_its_rows_soon() {
    let limits = Limits {
        task_log_events: 10,
        user_log_events: 6,
        ..Limits::default()
    };
    let mut world = stored_within(1, 0..=3, 0..=3, limits);
    for number in 0..50 {
        let notification = Draft {
            notify: Some(true),
            ..draft("user:notification", number)
        };
        world.publish_to_task(task(1), &[ALICE], notification);
    }
    assert_eq!(world.rows(Table::Entries), 10 + 6);
    assert_eq!(world.rows(Table::Inboxes), 6);
}

#[test]
fn what_an_ephemeral_status_told_survives_an_orderly_end_and_want_of_memory() {
    for put_out in [false, true] {
        let limits = Limits {
            log_bytes: 20_000,
            ..Limits::default()
        };
        let mut world = stored_within(1, 0..=3, 0..=3, limits);
        world.publish_to_task(task(1), &[], draft("task:started", ()));
        world.publish_to_task(task(1), &[], draft("task:status", 0.7).ephemeral(None));
        if put_out {
            for number in 2..50 {
                world.publish_to_task(task(number), &[], draft("chat:message", "x".repeat(1_000)));
            }
            world.advance_ms(100);
        }
        // A crash loses what is in memory only.
        world.restart([Restart::Orderly, Restart::Crash][usize::from(put_out)]);
        let last = world.task(task(1)).state.last;
        assert_eq!(
            last.as_ref().map(|last| last.as_str()),
            Some("0.7"),
            "{put_out}"
        );
    }
}

#[test]
fn a_device_is_known_from_when_it_went_and_where_only_its_ack_told_of_it() {
    let limits = Limits {
        devices_per_user: 1,
        device_ms: 1_000_000,
        ..Limits::default()
    };
    let mut world = stored_within(1, 0..=3, 0..=3, limits);
    world.publish_to_user(ALICE, draft("user:notification", 1));
    let phone = world.connect(Handshake::notifications(ALICE).device("phone"));
    // Another one takes its place, though both are connected.
    world.connect(Handshake::notifications(ALICE).device("tablet"));
    world.advance_ms(600_000);
    let ack = world.ack(phone, 1);
    world.advance_ms(100);
    assert!(answered(&mut world, phone, ack));
    world.restart(Restart::Crash);
    let devices = world.inbox(ALICE).devices;
    assert_eq!((devices.len(), devices[0].device.as_str()), (1, "phone"));
    assert_eq!(devices[0].cursor.number(), 1);
    world.reopen_with(phone, Handshake::notifications(ALICE).device("phone"));
    world.advance_ms(600_000);
    world.disconnect(phone);
    world.advance_ms(100);
    world.restart(Restart::Crash);
    world.advance_ms(600_000);
    assert_eq!(
        world.inbox(ALICE).devices.len(),
        1,
        "it went less than that ago"
    );
}

#[test]
fn an_ack_in_a_new_epoch_holds_though_the_device_had_a_cursor_in_the_one_before() {
    let mut world = stored(1, 0..=3, 0..=3);
    let wall = world.now().wall.as_unix_millis();
    let at_day = |world: &mut World, day: u64| {
        world.set_wall(Wall::from_unix_millis(wall + day * DAY_MS + 60_000));
    };
    world.publish_to_task(task(1), &[], draft("task:created", ()));
    at_day(&mut world, 29);
    let phone = Handshake::notifications(ALICE).device("phone");
    let client = world.connect(phone.clone());
    let former = world.position(client, ALICE).unwrap().epoch;
    world.advance_ms(5_000);
    world.restart(Restart::Crash);
    // The task goes, and with it the epoch of rooms in which nothing ever happened.
    at_day(&mut world, 30);
    world.advance_ms(5_000);
    assert_eq!(world.rows(Table::Tasks), 0);
    world.received(client);
    world.reopen_with(client, phone);
    let receipt = world.publish_to_user(ALICE, draft("user:notification", 1));
    assert_ne!(receipt.rooms()[0].epoch, former);
    world.advance_ms(100);
    let ack = world.ack(client, 1);
    world.advance_ms(100);
    assert!(answered(&mut world, client, ack));
    world.restart(Restart::Crash);
    assert_eq!(cursor(&mut world), 1);
}

#[test]
fn what_was_missed_before_a_restart_bears_no_count_of_what_is_unread() {
    let mut world = stored(1, 0..=3, 0..=3);
    world.publish_to_user(ALICE, draft("user:notification", 1));
    world.restart(Restart::Crash);
    let phone = world.connect(Handshake::notifications(ALICE).device("phone"));
    world.advance_ms(100);
    let received = world.received(phone);
    let events: Vec<_> = received.iter().filter_map(|it| it.event()).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].unread, None, "the welcome has the count of now");
}
