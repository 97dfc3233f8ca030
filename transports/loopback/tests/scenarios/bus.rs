//! The bus: who subscribes to a type gets every event of it, once and in order (ADR 017, decision 2).

use fanfare_loopback::{World, draft, event, task, user};

#[test]
fn a_subscriber_gets_every_event_of_its_type_once_with_all_rooms_and_no_other() {
    let mut world = World::new(1);
    let subscriber = world.subscribe(&["task:*".parse().unwrap()]);
    world.publish_to_task(task(1), &[user(7)], draft("task:created", 1));
    world.publish_to_task(task(1), &[], draft("chat:message", 2));
    world.publish_to_task(task(1), &[], draft("task:started", 3));
    world.expect(
        subscriber,
        event("task:created")
            .at(task(1), 1)
            .at(user(7), 1)
            .with("/data", 1),
    );
    world.expect(subscriber, event("task:started").at(task(1), 3));
    world.expect_nothing(subscriber);
}
