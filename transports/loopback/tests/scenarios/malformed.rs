//! What can't be understood is answered in words, changes nothing, and ends the connection when there is too much of it.

use fanfare_core::{CloseCode, Fault};
use fanfare_loopback::{Handshake, World, draft, event, refusal, reply, task, user};

/// Name, text (`TASK` stands for a task's room), the `ref` of the answer.
#[rustfmt::skip]
const MALFORMED: [(&str, &str, Option<u64>); 22] = [
    ("nothing", "", None),
    ("no JSON", "hello", None),
    ("half", r#"{"op":"ping","ref":1"#, None),
    ("an array", "[]", None),
    ("an array, as if of a ref", "[1]", None),
    ("a number", "1e999999", None),
    ("NUL", "\0", None),
    ("no op", r#"{"ref":1}"#, Some(1)),
    ("unknown op", r#"{"op":"fly","ref":2}"#, Some(2)),
    ("op of another type", r#"{"op":7,"ref":3}"#, Some(3)),
    ("op twice", r#"{"op":"ping","op":"ping","ref":4}"#, Some(4)),
    ("join without room", r#"{"op":"join","ref":5}"#, Some(5)),
    ("join of no room", r#"{"op":"join","room":"task:7","ref":6}"#, Some(6)),
    ("since of another type", r#"{"op":"join","room":"TASK","since":"k:1","ref":7}"#, Some(7)),
    ("negative since", r#"{"op":"join","room":"TASK","since":{"epoch":"k","seq":-1},"ref":8}"#, Some(8)),
    ("since from 2^53 on", r#"{"op":"join","room":"TASK","since":{"epoch":"k","seq":9007199254740992},"ref":9}"#, Some(9)),
    ("send without type", r#"{"op":"send","room":"TASK","ref":10}"#, Some(10)),
    ("type in upper case", r#"{"op":"send","room":"TASK","type":"Chat:m","ref":11}"#, Some(11)),
    ("id with a space", r#"{"op":"send","room":"TASK","type":"chat:m","id":"a b","ref":12}"#, Some(12)),
    ("key without ephemeral", r#"{"op":"send","room":"TASK","type":"chat:m","key":"k","ref":13}"#, Some(13)),
    ("auth without token", r#"{"op":"auth","ref":14}"#, Some(14)),
    ("ref of another type", r#"{"op":"ping","ref":[]}"#, None),
];

/// Says `text`, expects a refusal, and that nothing else came of it for anybody.
fn say_and_be_refused(name: &str, text: &str, reference: Option<u64>, code: &str) {
    let mut world = World::new(1);
    let alice = world.connect(Handshake::chat(user(7), task(1)));
    let bob = world.connect(Handshake::chat(user(8), task(1)));
    world.say(alice, text);
    let answer = world.expect(alice, refusal(reference, code));
    assert!(
        answer.to_string().len() < 600,
        "{name}: an answer repeats the beginning only"
    );
    let ping = world.ping(alice);
    world.expect(alice, reply(ping));
    world.publish_to_task(task(1), &[], draft("chat:message", 1));
    for client in [alice, bob] {
        world.expect(client, event("chat:message").at(task(1), 1));
        world.expect_nothing(client);
    }
}

#[test]
fn each_malformed_message_gets_one_answer_with_its_ref_where_that_can_be_read() {
    for (name, text, reference) in MALFORMED {
        let text = text.replace("TASK", &format!("task:{}", task(1)));
        say_and_be_refused(name, &text, reference, "bad_request");
    }
}

#[test]
fn what_is_too_large_or_too_deep_is_answered_in_few_words() {
    let (brackets, million) = ("[".repeat(10_000), "x".repeat(1 << 20));
    let deep = format!(r#"{{"op":"ping","ref":1,"data":{brackets}}}"#);
    say_and_be_refused("deep", &deep, None, "bad_request");
    let long = format!(r#"{{"op":"ping","ref":"{}"}}"#, "x".repeat(65));
    say_and_be_refused("long ref", &long, None, "too_large");
    let room = format!(r#"{{"op":"join","room":"{million}","ref":7}}"#);
    say_and_be_refused("room of 1 MiB", &room, Some(7), "bad_request");
    let kind = format!(r#"{{"op":"{million}","ref":8}}"#);
    say_and_be_refused("op of 1 MiB", &kind, Some(8), "bad_request");
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
