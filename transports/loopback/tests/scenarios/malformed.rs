//! What can't be understood is answered in words, changes nothing, and ends the connection when there is too much of it.

use fanfare_core::{CloseCode, Fault};
use fanfare_loopback::{Handshake, World, draft, event, refusal, reply, task, user};
use serde_json::Value;

#[test]
fn each_malformed_message_gets_one_answer_with_its_ref_where_that_can_be_read() {
    let t = task(1);
    let deep = format!(
        r#"{{"op":"ping","ref":1,"data":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let long_ref = format!(r#"{{"op":"ping","ref":"{}"}}"#, "x".repeat(65));
    let cases: Vec<(&str, String, Value, &str)> = vec![
        ("nothing", String::new(), Value::Null, "bad_request"),
        ("no JSON", "hello".into(), Value::Null, "bad_request"),
        (
            "half",
            r#"{"op":"ping","ref":1"#.into(),
            Value::Null,
            "bad_request",
        ),
        ("an array", "[]".into(), Value::Null, "bad_request"),
        ("a number", "1e999999".into(), Value::Null, "bad_request"),
        ("NUL", "\0".into(), Value::Null, "bad_request"),
        ("no op", r#"{"ref":1}"#.into(), 1.into(), "bad_request"),
        (
            "unknown op",
            r#"{"op":"fly","ref":2}"#.into(),
            2.into(),
            "bad_request",
        ),
        (
            "op of another type",
            r#"{"op":7,"ref":3}"#.into(),
            3.into(),
            "bad_request",
        ),
        (
            "op twice",
            r#"{"op":"ping","op":"ping","ref":4}"#.into(),
            4.into(),
            "bad_request",
        ),
        (
            "join without room",
            r#"{"op":"join","ref":5}"#.into(),
            5.into(),
            "bad_request",
        ),
        (
            "join of no room",
            r#"{"op":"join","room":"task:7","ref":6}"#.into(),
            6.into(),
            "bad_request",
        ),
        (
            "room of 1 MiB",
            format!(
                r#"{{"op":"join","room":"{}","ref":7}}"#,
                "x".repeat(1 << 20)
            ),
            7.into(),
            "bad_request",
        ),
        (
            "negative since",
            format!(
                r#"{{"op":"join","room":"task:{t}","since":{{"epoch":"k","seq":-1}},"ref":8}}"#
            ),
            8.into(),
            "bad_request",
        ),
        (
            "since beyond 2^53",
            format!(
                r#"{{"op":"join","room":"task:{t}","since":{{"epoch":"k","seq":9007199254740992}},"ref":9}}"#
            ),
            9.into(),
            "bad_request",
        ),
        (
            "send without type",
            format!(r#"{{"op":"send","room":"task:{t}","ref":10}}"#),
            10.into(),
            "bad_request",
        ),
        (
            "type in upper case",
            format!(r#"{{"op":"send","room":"task:{t}","type":"Chat:m","ref":11}}"#),
            11.into(),
            "bad_request",
        ),
        (
            "id with a space",
            format!(r#"{{"op":"send","room":"task:{t}","type":"chat:m","id":"a b","ref":12}}"#),
            12.into(),
            "bad_request",
        ),
        (
            "key without ephemeral",
            format!(r#"{{"op":"send","room":"task:{t}","type":"chat:m","key":"k","ref":13}}"#),
            13.into(),
            "bad_request",
        ),
        (
            "auth without token",
            r#"{"op":"auth","ref":14}"#.into(),
            14.into(),
            "bad_request",
        ),
        ("deep", deep, Value::Null, "too_large"),
        ("long ref", long_ref, Value::Null, "too_large"),
        (
            "ref of another type",
            r#"{"op":"ping","ref":[]}"#.into(),
            Value::Null,
            "bad_request",
        ),
    ];
    for (name, text, reference, code) in cases {
        let mut world = World::new(1);
        let alice = world.connect(Handshake::chat(user(7), task(1)));
        let bob = world.connect(Handshake::chat(user(8), task(1)));
        world.say(alice, &text);
        let answer = world.expect(alice, refusal(reference, code));
        assert!(
            answer.to_string().len() < 500,
            "{name}: an answer repeats the beginning only"
        );
        world.expect_nothing(alice);
        let ping = world.ping(alice);
        world.expect(alice, reply(ping));
        world.publish_to_task(task(1), &[], draft("chat:message", 1));
        for client in [alice, bob] {
            world.expect(client, event("chat:message").at(task(1), 1));
            world.expect_nothing(client);
        }
    }
}

#[test]
fn twenty_refusals_in_a_minute_end_the_connection_and_slower_ones_do_not() {
    let mut world = World::new(1);
    let patient = world.connect(Handshake::notifications(user(7)));
    for _ in 0..100 {
        world.say(patient, "?");
        world.expect(patient, refusal((), "bad_request"));
        world.advance_ms(3_200);
    }
    let hasty = world.connect(Handshake::notifications(user(7)));
    for _ in 0..19 {
        world.say(hasty, "?");
        world.expect(hasty, refusal((), "bad_request"));
    }
    world.say(hasty, "?");
    world.expect_closed(hasty, CloseCode::TOO_MANY_ERRORS);
    assert!(world.is_open(patient));
}

#[test]
fn who_broke_the_websocket_protocol_is_told_so_by_its_own_code() {
    for (fault, number) in [
        (Fault::Protocol, 1002),
        (Fault::NotText, 1003),
        (Fault::NotUtf8, 1007),
        (Fault::Policy, 1008),
        (Fault::TooBig, 1009),
    ] {
        let mut world = World::new(1);
        let alice = world.connect(Handshake::chat(user(7), task(1)));
        let bob = world.connect(Handshake::chat(user(8), task(1)));
        world.break_protocol(alice, fault);
        assert_eq!(fault.close_code().number(), number);
        world.expect_closed(alice, fault.close_code());
        world.publish_to_task(task(1), &[], draft("chat:message", 1));
        world.expect(bob, event("chat:message").at(task(1), 1));
    }
}
