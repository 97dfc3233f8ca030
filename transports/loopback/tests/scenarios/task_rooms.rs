//! The rooms of tasks: who watches one gets what happens in it (ADR 017, decisions 1 and 3).

use fanfare_loopback::{Handshake, World, draft, event, joined, left, reply, task, user};

#[test]
fn who_joins_gets_what_comes_after_and_who_left_gets_nothing() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    world.publish_to_task(task(1), &[], draft("chat:message", "early"));
    let join = world.join(alice, task(1));
    world.publish_to_task(task(1), &[], draft("chat:message", "in time"));
    let leave = world.leave(alice, task(1));
    world.publish_to_task(task(1), &[], draft("chat:message", "late"));
    world.expect_all(
        alice,
        [
            joined(task(1), 1),
            reply(join),
            event("chat:message")
                .at(task(1), 2)
                .with("/data", "in time"),
            left(task(1), "asked"),
            reply(leave),
        ],
    );
    world.expect_nothing(alice);
}
