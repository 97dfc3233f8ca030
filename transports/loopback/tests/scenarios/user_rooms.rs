//! The rooms of users: every connection of a person, and nobody else's (ADR 017, decisions 1 and 5).

use fanfare_loopback::{Handshake, World, draft, event, user};

#[test]
fn a_notification_reaches_its_user_only() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    let bob = world.connect(Handshake::notifications(user(8)));
    world.publish_to_user(user(7), draft("note:added", "milk"));
    world.expect(
        alice,
        event("note:added").at(user(7), 1).with("/data", "milk"),
    );
    world.expect_nothing(alice);
    world.expect_nothing(bob);
}
