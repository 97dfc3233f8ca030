//! What may follow in a task's life, and what a refusal leaves behind: nothing.

use fanfare_core::{CloseCode, Draft, Error, Status, TASK_GONE_MS, Target, TaskEvent};
use fanfare_loopback::{
    Client, Handshake, World, draft, event, joined, left, refusal, reply, task, user, welcome,
};

/// `task:` events, by the second half of their name.
fn life(name: &str) -> Draft {
    draft(&format!("task:{name}"), name)
}

fn target() -> Target {
    Target::Task {
        task: task(1),
        users: vec![user(7)],
    }
}

fn watched() -> (World, Client) {
    let mut world = World::new(1);
    let watcher = world.connect(Handshake::chat(user(7), task(1)));
    (world, watcher)
}

#[test]
fn every_event_in_every_state_is_taken_or_refused_and_a_refusal_is_seen_by_nobody() {
    let lives: [(&[&str], &str); 7] = [
        (
            &[],
            "created started completed failed cancelled status deleted",
        ),
        (&["created"], "started failed cancelled status deleted"),
        (
            &["created", "started"],
            "completed failed cancelled status deleted",
        ),
        (&["started", "completed"], "deleted"),
        (&["started", "failed"], "deleted"),
        (&["created", "cancelled"], "deleted"),
        (
            &["status"],
            "created started completed failed cancelled status deleted",
        ),
    ];
    for (lived, may_follow) in lives {
        for next in TaskEvent::ALL {
            let next = next.event_type().as_str().replace("task:", "");
            let (mut world, watcher) = watched();
            for name in lived {
                world.publish_to_task(task(1), &[user(7)], life(name));
            }
            let before = world.task(task(1));
            world.received(watcher);
            if may_follow.split(' ').any(|name| name == next) {
                world.publish_to_task(task(1), &[user(7)], life(&next));
                world.expect(watcher, event(&format!("task:{next}")));
                continue;
            }
            let error = world.publish_refused(target(), life(&next), "lifecycle");
            let told = error.to_string();
            assert!(
                matches!(error, Error::Lifecycle { status, .. } if status == before.state.status),
                "{lived:?} {next}: {told}"
            );
            assert_eq!(world.task(task(1)), before, "{lived:?} {next}");
            world.expect_nothing(watcher);
        }
    }
}

#[test]
fn a_task_ends_once_whoever_says_so_and_however_often() {
    const TERMINAL: [&str; 3] = ["completed", "failed", "cancelled"];
    for first in TERMINAL {
        let (mut world, watcher) = watched();
        world.publish_to_task(task(1), &[], life(first));
        for second in TERMINAL {
            world.publish_refused(target(), life(second), "lifecycle");
        }
        world.expect(watcher, event(&format!("task:{first}")).at(task(1), 1));
        world.expect_nothing(watcher);
    }
}

#[test]
fn after_its_end_a_task_is_still_talked_about() {
    let (mut world, watcher) = watched();
    world.publish_to_task(task(1), &[], life("completed"));
    world.publish_to_task(task(1), &[], draft("chat:message", "well done"));
    let send = world.send(watcher, task(1), &draft("chat:message", "thanks"));
    world.expect_all(
        watcher,
        [
            event("task:completed").at(task(1), 1),
            event("chat:message").at(task(1), 2),
            event("chat:message").at(task(1), 3),
            reply(send),
        ],
    );
}

#[test]
fn a_deleted_task_says_goodbye_to_its_watchers_who_stay_connected() {
    let (mut world, watcher) = watched();
    let named = world.connect(Handshake::notifications(user(8)));
    world.publish_to_task(task(1), &[user(8)], life("deleted"));
    world.expect_all(
        watcher,
        [
            event("task:deleted").at(task(1), 1),
            left(task(1), "deleted"),
        ],
    );
    world.expect(named, event("task:deleted").at(user(8), 1));
    let send = world.send(watcher, task(1), &draft("chat:message", 1));
    world.expect(watcher, refusal(send, "not_joined"));
    world.publish_to_user(user(7), draft("note:added", 1));
    world.expect(watcher, event("note:added").at(user(7), 1));
    assert_eq!(world.task(task(1)).state.status, Status::Deleted);
}

#[test]
fn a_deleted_task_is_gone_for_a_day_to_events_and_joins_and_new_after_it() {
    let (mut world, watcher) = watched();
    let receipt = world.publish_to_task(task(1), &[], life("created"));
    let epoch = receipt.rooms()[0].epoch.clone();
    world.publish_to_task(task(1), &[], life("deleted"));
    world.disconnect(watcher);
    world.advance_ms(TASK_GONE_MS - 1);
    world.publish_refused(target(), draft("chat:message", 1), "gone");
    world.publish_refused(target(), life("created"), "gone");
    let alice = world.connect(Handshake::notifications(user(7)));
    let join = world.join(alice, task(1));
    world.expect(alice, refusal(join, "gone"));
    let late = world.open(Handshake::chat(user(7), task(1)));
    world.expect_closed(late, CloseCode::BAD_REQUEST);

    world.advance_ms(1);
    let join = world.join(alice, task(1));
    world.expect_all(
        alice,
        [
            joined(task(1), 0).with("/data/state/status", "unknown"),
            reply(join),
        ],
    );
    let receipt = world.publish_to_task(task(1), &[], life("created"));
    let room = &receipt.rooms()[0];
    assert_eq!(room.seq.number(), 1);
    assert_ne!(room.epoch, epoch, "a seq of an epoch is never used twice");
    world.expect(alice, event("task:created").at(task(1), 1));
}

#[test]
fn of_the_lifecycle_only_a_status_may_be_ephemeral() {
    for kind in TaskEvent::ALL {
        let (mut world, watcher) = watched();
        let ephemeral = Draft::new(kind.event_type(), Default::default()).ephemeral(None);
        if kind == TaskEvent::Status {
            world.publish_to_task(task(1), &[], ephemeral);
            world.expect(watcher, event("task:status").at(task(1), 0).ephemeral());
        } else {
            world.publish_refused(target(), ephemeral, "bad_request");
        }
        world.expect_nothing(watcher);
    }
}

#[test]
fn a_client_may_not_speak_of_a_tasks_life() {
    let (mut world, watcher) = watched();
    for kind in TaskEvent::ALL {
        let send = world.send(
            watcher,
            task(1),
            &Draft::new(kind.event_type(), Default::default()),
        );
        world.expect(watcher, refusal(send, "forbidden"));
    }
    assert_eq!(world.task(task(1)).state.status, Status::Unknown);
}

#[test]
fn the_snapshot_of_a_new_watcher_has_the_state_and_the_last_status() {
    let (mut world, _) = watched();
    world.publish_to_task(task(1), &[], life("created"));
    world.publish_to_task(task(1), &[], life("started"));
    world.publish_to_task(task(1), &[], draft("task:status", 0.4));
    world.publish_to_task(task(1), &[], draft("task:status", 0.5).ephemeral(None));
    let room = format!("/data/rooms/task:{}", task(1));
    let late = world.open(Handshake::chat(user(8), task(1)));
    world.expect(
        late,
        welcome()
            .standing(task(1), 3)
            .with(&format!("{room}/state/status"), "started")
            .with(&format!("{room}/state/last"), 0.5),
    );
}
