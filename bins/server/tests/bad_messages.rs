//! Messages that can't be understood: what is answered, how much of it is said back, and when it is enough.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use serde_json::Value;
use server::raw::{Got, frame};
use server::scene::{SECRET, Scene};

const ROOM: &str = "task:550e8400-e29b-41d4-a716-446655440000";
/// No refusal says back more than an excerpt of what was sent.
const REPLY_MAX: usize = 1_000;

/// A message, the `ref` that its refusal has to bear, and the code of it.
type Row = (String, Value, &'static str);

fn rows() -> Vec<Row> {
    let deep = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
    let long = SECRET.repeat(10_000);
    #[rustfmt::skip]
    let rows = [
        (String::new(), Value::Null, "bad_request"),
        ("{".into(), Value::Null, "bad_request"),
        (r#"{"op":"ping"}}"#.into(), Value::Null, "bad_request"),
        (r#"{'op':'ping'}"#.into(), Value::Null, "bad_request"),
        ("[]".into(), Value::Null, "bad_request"),
        (r#"["ping",1]"#.into(), Value::Null, "bad_request"),
        ("null".into(), Value::Null, "bad_request"),
        (format!(r#""{SECRET}""#), Value::Null, "bad_request"),
        ("\u{feff}{\"op\":\"ping\"}".into(), Value::Null, "bad_request"),
        (deep("[", "]"), Value::Null, "bad_request"),
        (deep(r#"{"a":"#, "}"), Value::Null, "bad_request"),
        ("[".repeat(60_000), Value::Null, "bad_request"),
        (format!(r#"{{"op":"ping","ref":1,"data":{}}}"#, deep("[", "]")), Value::Null, "bad_request"),
        (format!(r#"{{"op":"send","ref":1,"room":"{ROOM}","type":"chat:a","data":{}}}"#, deep("[", "]")), Value::Null, "bad_request"),
        (r#"{"ref":1}"#.into(), 1.into(), "bad_request"),
        (r#"{"op":"fly","ref":2}"#.into(), 2.into(), "bad_request"),
        (r#"{"op":"fly"}"#.into(), Value::Null, "bad_request"),
        (r#"{"op":"ack","seq":1,"ref":3}"#.into(), 3.into(), "forbidden"),
        (r#"{"op":"ack","seq":-1,"ref":3}"#.into(), 3.into(), "bad_request"),
        (r#"{"op":"ack","ref":3}"#.into(), 3.into(), "bad_request"),
        (r#"{"op":"read","ref":3}"#.into(), 3.into(), "bad_request"),
        (r#"{"op":"read","up_to":9007199254740991,"ref":3}"#.into(), 3.into(), "bad_request"),
        (format!(r#"{{"op":"{long}","ref":3}}"#), 3.into(), "bad_request"),
        (r#"{"op":null,"ref":"a"}"#.into(), "a".into(), "bad_request"),
        (r#"{"op":5,"ref":4}"#.into(), 4.into(), "bad_request"),
        (r#"{"op":["ping"],"ref":5}"#.into(), 5.into(), "bad_request"),
        (r#"{"op":"ping","ref":{}}"#.into(), Value::Null, "bad_request"),
        (r#"{"op":"ping","ref":[1]}"#.into(), Value::Null, "bad_request"),
        (r#"{"op":"ping","ref":true}"#.into(), Value::Null, "bad_request"),
        (r#"{"op":"ping","ref":1e400}"#.into(), Value::Null, "bad_request"),
        (format!(r#"{{"op":"ping","ref":"{long}"}}"#), Value::Null, "too_large"),
        (r#"{"op":"ping","op":"ping","ref":6}"#.into(), 6.into(), "bad_request"),
        (r#"{"op":"ping","ref":7,"ref":8}"#.into(), Value::Null, "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","room":"{ROOM}","ref":9}}"#), 9.into(), "bad_request"),
        (r#"{"op":"join","ref":10}"#.into(), 10.into(), "bad_request"),
        (r#"{"op":"join","room":7,"ref":11}"#.into(), 11.into(), "bad_request"),
        (r#"{"op":"join","room":"task:7","ref":12}"#.into(), 12.into(), "bad_request"),
        (r#"{"op":"join","room":"room:7","ref":13}"#.into(), 13.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{long}","ref":14}}"#), 14.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":["{long}"],"ref":14}}"#), 14.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","since":"k:1","ref":15}}"#), 15.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","since":{{"epoch":"k","seq":-1}},"ref":16}}"#), 16.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","since":{{"epoch":"k","seq":1.5}},"ref":17}}"#), 17.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","since":{{"epoch":"k","seq":1e30}},"ref":18}}"#), 18.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","since":{{"epoch":"k","seq":9007199254740993}},"ref":18}}"#), 18.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","since":{{"epoch":"k","seq":18446744073709551616}},"ref":19}}"#), 19.into(), "bad_request"),
        (format!(r#"{{"op":"join","room":"{ROOM}","since":{{"epoch":"{long}","seq":1}},"ref":20}}"#), 20.into(), "bad_request"),
        (r#"{"op":"auth","ref":21}"#.into(), 21.into(), "bad_request"),
        (r#"{"op":"auth","token":5,"ref":22}"#.into(), 22.into(), "bad_request"),
        (format!(r#"{{"op":"send","room":"{ROOM}","ref":23}}"#), 23.into(), "bad_request"),
        (format!(r#"{{"op":"send","room":"{ROOM}","type":"Chat","ref":24}}"#), 24.into(), "bad_request"),
        (format!(r#"{{"op":"send","room":"{ROOM}","type":"{long}","ref":25}}"#), 25.into(), "bad_request"),
        (format!(r#"{{"op":"send","room":"{ROOM}","type":"chat:a","ephemeral":"{long}","ref":26}}"#), 26.into(), "bad_request"),
        (format!(r#"{{"op":"send","room":"{ROOM}","type":"chat:a","key":"k","ref":27}}"#), 27.into(), "bad_request"),
        (format!(r#"{{"op":"send","room":"{ROOM}","type":"chat:a","id":"{long}","ref":28}}"#), 28.into(), "bad_request"),
        (format!(r#"{{"op":"send","room":"{ROOM}","type":"chat:a","data":{{"a":1,}},"ref":29}}"#), Value::Null, "bad_request"),
    ];
    rows.to_vec()
}

#[test]
fn each_is_refused_by_its_ref_and_only_an_excerpt_of_it_is_said_back() {
    let mut scene = Scene::start(&[]);
    for (text, reference, code) in rows() {
        let row = text.chars().take(70).collect::<String>();
        let mut client = scene.client();
        client.send(&frame(0x81, text.as_bytes()));
        let reply = client.text();
        assert!(
            reply.len() < REPLY_MAX,
            "{row}: {} bytes: {reply:.200}",
            reply.len()
        );
        let reply: Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["type"], "system:reply", "{row}: {reply}");
        let data = &reply["data"];
        assert_eq!(
            (&data["ok"], &data["ref"]),
            (&false.into(), &reference),
            "{row}: {reply}"
        );
        assert_eq!(data["error"]["code"], code, "{row}: {reply}");
        assert!(
            !data["error"]["message"].as_str().unwrap().is_empty(),
            "{row}: {reply}"
        );
        // Nothing else came of it.
        client.send(&frame(0x81, br#"{"op":"ping","ref":"next"}"#));
        assert_eq!(client.json()["data"]["ref"], "next", "{row}");
        scene.assert_unharmed(&row);
    }
}

#[test]
fn the_twentieth_in_a_minute_closes_with_4509() {
    let mut scene = Scene::start(&[]);
    let mut client = scene.client();
    for number in 1..20 {
        client.send(&frame(0x81, SECRET.as_bytes()));
        assert_eq!(client.json()["type"], "system:reply", "{number}");
        scene.assert_unharmed(&format!("{number}"));
    }
    client.send(&frame(0x81, SECRET.as_bytes()));
    let (last, goodbye) = client.close();
    assert!(matches!(last, Got::Close(Some(4509), _)), "{last:?}");
    assert!(goodbye.unwrap().contains(r#""retry":"never""#));
    assert_eq!(client.next(), Got::End);
    scene.assert_unharmed("20");
}

#[test]
fn twenty_at_once_close_with_4509_too() {
    let mut scene = Scene::start(&[]);
    let mut client = scene.client();
    client.send(&frame(0x81, b"no JSON").repeat(500));
    let (last, _) = client.close();
    assert!(matches!(last, Got::Close(Some(4509), _)), "{last:?}");
    scene.assert_unharmed("500 at once");
}
