//! What a client that breaks the WebSocket protocol gets, and that nobody else notices.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "what fails here fails a test"
)]

mod support;

use support::broken_frames::broken_frames;
use support::{Got, Options, Server, frame, open, to_user};

/// Sends `bytes` over a WebSocket and expects the close code, and the end behind it; meanwhile a bystander gets its events.
fn expect_close(server: &Server, name: &str, bytes: &[u8], code: u16) {
    let mut bystander = open(server.address, "/user/8");
    let mut client = open(server.address, "/user/7");
    client.send(bytes);
    let (last, goodbye) = client.close();
    assert!(
        matches!(&last, Got::Close(Some(got), _) if *got == code),
        "{name}: {last:?}, not {code}"
    );
    let goodbye = goodbye.unwrap_or_else(|| panic!("{name}: no goodbye"));
    assert!(
        goodbye.contains(&format!("\"code\":{code}")),
        "{name}: {goodbye}"
    );
    assert_eq!(client.next(), Got::End, "{name}");
    let mark = format!("\"{name}\"");
    server.publish(to_user(8, &mark));
    assert!(bystander.text().contains(&mark), "{name}");
}

#[test]
fn every_broken_frame_is_answered_by_its_close_code() {
    let server = Server::start();
    for (name, bytes, code) in broken_frames() {
        expect_close(&server, name, &bytes, code);
    }
    server.until("all are gone", |server| server.connections() == 0);
}

#[test]
fn a_message_at_each_limit_is_taken() {
    let server = Server::start();
    let ping = br#"{"op":"ping","ref":1}"#;
    let padded = |length: usize| [ping.to_vec(), vec![b' '; length - ping.len()]].concat();
    let pieces: Vec<Vec<u8>> = ping.iter().map(|byte| vec![*byte]).collect();
    let mut many = frame(0x01, b"");
    many.extend(frame(0x00, b"").repeat(64 - pieces.len() - 1));
    for (number, piece) in pieces.iter().enumerate() {
        many.extend(frame(
            if number + 1 == pieces.len() {
                0x80
            } else {
                0x00
            },
            piece,
        ));
        // Control frames may come between, and are no fragments.
        many.extend(frame(0x8a, b"between"));
    }
    for (name, bytes) in [
        ("small", frame(0x81, ping)),
        ("64 KiB", frame(0x81, &padded(64 << 10))),
        ("64 fragments", many),
    ] {
        let mut client = open(server.address, "/user/7");
        client.send(&bytes);
        let reply = client.text();
        assert!(
            reply.contains("system:reply") && reply.contains("true"),
            "{name}: {reply}"
        );
    }
}

#[test]
fn a_close_frame_is_answered_in_kind_and_a_code_that_may_not_be_sent_by_1002() {
    let server = Server::start();
    let coded = |code: u16| frame(0x88, &code.to_be_bytes());
    for (bytes, code) in [
        (frame(0x88, b""), None),
        (coded(1000), Some(1000)),
        (coded(1001), Some(1001)),
        (coded(4999), Some(4999)),
        (coded(999), Some(1002)),
        (coded(1005), Some(1002)),
        (coded(1006), Some(1002)),
        (coded(5000), Some(1002)),
    ] {
        let mut client = open(server.address, "/user/7");
        client.send(&bytes);
        let (last, _) = client.close();
        assert!(
            matches!(last, Got::Close(got, _) if got == code),
            "{code:?}: {last:?}"
        );
        assert_eq!(client.next(), Got::End);
    }
    server.until("all are gone", |server| server.connections() == 0);
}

#[test]
fn a_client_that_ended_its_side_still_gets_its_close_code() {
    let server = Server::start();
    let mut client = open(server.address, "/user/7");
    client.send(&frame(0x82, b"x"));
    client.half_close();
    assert!(matches!(client.close().0, Got::Close(Some(1003), _)));
    assert_eq!(client.next(), Got::End);
    server.until("it is gone", |server| server.connections() == 0);
}

#[test]
fn a_client_that_goes_on_sending_after_its_fault_still_gets_its_close_code() {
    let server = Server::start();
    let mut client = open(server.address, "/user/7");
    client.send(&[frame(0x82, b"x"), frame(0x81, &[b' '; 30_000]).repeat(10)].concat());
    assert!(matches!(client.close().0, Got::Close(Some(1003), _)));
    assert_eq!(client.next(), Got::End);
}

#[test]
fn a_message_that_is_never_finished_is_1008_and_slow_whole_ones_are_not() {
    let mut options = Options::default();
    options.sockets.message_ms = 300;
    let server = Server::with(options);
    for (name, bytes) in [
        ("half a header", vec![0x81]),
        ("half a frame", frame(0x81, b"{}")[..7].to_vec()),
        ("a fragment", frame(0x01, b"{")),
    ] {
        expect_close(&server, name, &bytes, 1008);
    }
    let mut client = open(server.address, "/user/7");
    for _ in 0..10 {
        // Each in two pieces: within one message for a moment only.
        let bytes = frame(0x81, br#"{"op":"ping","ref":1}"#);
        client.send(&bytes[..9]);
        std::thread::sleep(std::time::Duration::from_millis(50));
        client.send(&bytes[9..]);
        assert!(client.text().contains("system:reply"));
    }
}

#[test]
fn pings_are_answered_with_their_payload_and_a_flood_at_the_client_s_pace() {
    let server = Server::start();
    let mut client = open(server.address, "/user/7");
    client.send(&frame(0x89, b"abc"));
    assert_eq!(client.next(), Got::Pong(b"abc".to_vec()));
    // More than may come at once: answers may be left out (RFC 6455, section 5.5.3), then it is closed.
    client.send(&frame(0x89, b"flood").repeat(10_000));
    let (last, _) = client.close();
    assert!(matches!(last, Got::Close(Some(4013), _)), "{last:?}");
}

#[test]
fn an_open_connection_survives_its_neighbours_reset() {
    let server = Server::start();
    let mut bystander = open(server.address, "/user/8");
    for _ in 0..20 {
        let client = open(server.address, "/user/8");
        let socket = socket2::SockRef::from(&client.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        server.publish(to_user(8, "1"));
        assert!(bystander.text().contains("note:added"));
    }
    server.until("only one is left", |server| server.connections() == 1);
}
