//! Whether the other side is still there: asked after 25 s of silence, given up 10 s later.

use fanfare_core::{CloseCode, Limits};
use fanfare_loopback::{Handshake, Settings, World, closed, cut, goodbye, reply, task, user};

#[test]
fn a_client_that_answers_pings_stays_for_ever() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    world.advance_ms(60 * 60 * 1_000);
    assert!(world.is_open(alice));
    assert_eq!(world.pings(alice), 60 * 60 / 25);
    world.expect_nothing(alice);
}

#[test]
fn pings_are_a_heartbeat_apart_though_an_answer_may_take_longer() {
    let mut world = World::with(Settings {
        limits: Limits {
            heartbeat_ms: 2_000,
            ..Limits::default()
        },
        ..Settings::default()
    });
    let alice = world.connect(Handshake::notifications(user(7)));
    world.advance_ms(60_000);
    assert_eq!(world.pings(alice), 30);
}

#[test]
fn a_client_that_answers_no_ping_is_closed_at_its_deadline_not_before() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    world.ignore_pings(alice);
    for (passes_ms, pings, connected) in [(24_999, 0, 1), (1, 1, 1), (9_999, 1, 1), (1, 1, 0)] {
        world.advance_ms(passes_ms);
        assert_eq!(
            world.pings(alice),
            pings,
            "{}",
            world.now().time.as_millis()
        );
        assert_eq!(
            world.task(task(1)).connected,
            connected,
            "{}",
            world.now().time.as_millis()
        );
    }
    world.expect_closed(alice, CloseCode::NO_HEARTBEAT);
}

#[test]
fn whoever_speaks_needs_no_ping() {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::notifications(user(7)));
    world.ignore_pings(alice);
    for _ in 0..20 {
        world.advance_ms(24_000);
        let ping = world.ping(alice);
        world.expect(alice, reply(ping));
    }
    assert_eq!(world.pings(alice), 0);
}

#[test]
fn a_connection_that_is_dead_in_silence_is_forgotten() {
    let mut world = World::new(1);
    let dead = world.connect(Handshake::chat(user(7), task(1)).device("phone"));
    let alive = world.connect(Handshake::chat(user(8), task(1)));
    world.stop_reading(dead);
    world.advance_ms(35_000);
    assert_eq!(
        (world.task(task(1)).connected, world.devices(user(7)).len()),
        (1, 0)
    );
    assert!(world.is_open(alive));
    world.resume_reading(dead);
    world.expect_all(
        dead,
        [
            goodbye(CloseCode::NO_HEARTBEAT),
            closed(CloseCode::NO_HEARTBEAT),
        ],
    );
}

#[test]
fn a_dead_connection_whose_socket_is_full_is_cut_after_its_last_chance() {
    let mut world = World::new(1);
    let dead = world.connect(Handshake::notifications(user(7)).window_bytes(1));
    world.stop_reading(dead);
    // The ping fills the socket.
    world.advance_ms(35_000 + 5_000);
    assert_eq!(world.connections(), 0);
    world.resume_reading(dead);
    world.expect(dead, cut());
}

#[test]
fn a_back_end_on_the_bus_is_asked_too() {
    let mut world = World::new(1);
    let back_end = world.connect(Handshake::bus(vec!["*".parse().unwrap()]));
    world.advance_ms(25_000);
    assert_eq!(world.pings(back_end), 1);
    world.ignore_pings(back_end);
    world.advance_ms(35_000);
    world.expect_closed(back_end, CloseCode::NO_HEARTBEAT);
}

#[test]
fn who_shows_no_token_is_closed_after_ten_seconds_whatever_else_it_says() {
    let mut world = World::new(1);
    let silent = world.open(Handshake::notifications(user(7)).token_later());
    let chatty = world.open(Handshake::notifications(user(7)).token_later());
    world.advance_ms(9_000);
    world.ping(chatty);
    world.received(chatty);
    world.advance_ms(999);
    world.expect_nothing(silent);
    world.expect_nothing(chatty);
    world.advance_ms(1);
    for client in [silent, chatty] {
        world.expect_closed(client, CloseCode::NO_TOKEN);
    }
}
