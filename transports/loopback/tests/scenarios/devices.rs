//! Several devices of a person, each its own connection in the one room.

use fanfare_core::ConnectedDevice;
use fanfare_loopback::{Handshake, World, draft, event, task, user, welcome};

fn named(devices: &[ConnectedDevice]) -> Vec<(&str, usize)> {
    let named = |device: &ConnectedDevice| device.connected;
    devices
        .iter()
        .map(|device| {
            (
                device.device.as_ref().map_or("-", |name| name.as_str()),
                named(device),
            )
        })
        .collect()
}

#[test]
fn every_device_of_a_user_gets_every_notification_with_the_same_number() {
    let mut world = World::new(1);
    let clients = ["phone", "laptop", "watch"]
        .map(|name| world.connect(Handshake::notifications(user(7)).device(name)));
    for seq in 1..=3 {
        let receipt = world.publish_to_user(user(7), draft("note:added", seq));
        assert_eq!(receipt.rooms()[0].connected, 3);
        for client in clients {
            world.expect(
                client,
                event("note:added")
                    .at(user(7), seq)
                    .with("/id", receipt.id().as_str()),
            );
        }
    }
}

#[test]
fn devices_are_counted_by_name_and_vanish_with_their_last_connection() {
    let mut world = World::new(1);
    let phone = world.open(Handshake::notifications(user(7)).device("phone"));
    world.expect(phone, welcome().with("/data/device", "phone"));
    let tabs =
        [1, 2].map(|number| world.connect(Handshake::chat(user(7), task(number)).device("laptop")));
    let unnamed = world.open(Handshake::notifications(user(7)));
    world.expect(unnamed, welcome().with("/data/device", ()));
    world.connect(Handshake::notifications(user(8)).device("phone"));
    assert_eq!(
        named(&world.devices(user(7))),
        [("-", 1), ("laptop", 2), ("phone", 1)]
    );
    world.disconnect(tabs[0]);
    world.disconnect(unnamed);
    assert_eq!(
        named(&world.devices(user(7))),
        [("laptop", 1), ("phone", 1)]
    );
    world.disconnect(phone);
    world.disconnect(tabs[1]);
    assert_eq!(named(&world.devices(user(7))), []);
    assert_eq!(named(&world.devices(user(8))), [("phone", 1)]);
}

#[test]
fn one_device_that_goes_or_is_slow_keeps_nothing_from_another() {
    let mut world = World::new(1);
    let [phone, laptop, watch] = ["phone", "laptop", "watch"]
        .map(|name| world.connect(Handshake::notifications(user(7)).device(name)));
    world.stop_reading(phone);
    world.disconnect(watch);
    for seq in 1..=100 {
        let receipt = world.publish_to_user(user(7), draft("note:added", "x".repeat(1_000)));
        assert_eq!(receipt.rooms()[0].connected, 2);
        world.expect(laptop, event("note:added").at(user(7), seq));
    }
    world.resume_reading(phone);
    for seq in 1..=100 {
        world.expect(phone, event("note:added").at(user(7), seq));
    }
}
