//! Histories in which it matters when something was seen, and what the judges say of them.

use serde_json::{Value, json};

use super::tests::{
    CONN, ROOM, event, found, frame, inbox, judged_at, opened, published, publishing, reply, said,
    welcome,
};
use super::{Known, WELCOME};
use crate::history::{Rights, Seen};
use crate::machine::BEGINNING;

const TASK: &str = "task:t";

/// A token that ends so many milliseconds after the world's begin.
fn shows(reference: &str, ends: u64, tasks: Option<&[&str]>) -> Seen {
    let tasks = tasks.map(|tasks| tasks.iter().map(|&task| task.to_owned()).collect());
    Seen::Shows {
        conn: CONN,
        reference: reference.to_owned(),
        token: Rights {
            ends_ms: BEGINNING.as_unix_millis() + ends,
            tasks,
        },
    }
}

/// Somebody is there from 10 ms on, with a token for a minute.
fn live(tasks: Option<&[&str]>) -> Vec<(u64, Seen)> {
    live_until(60_000, tasks)
}

fn live_until(ends: u64, tasks: Option<&[&str]>) -> Vec<(u64, Seen)> {
    vec![
        (0, Seen::Started),
        (10, shows(WELCOME, ends, tasks)),
        (20, opened(None)),
        (30, welcome("e", 0, None)),
    ]
}

fn joined() -> Seen {
    let at = json!({"room": TASK, "epoch": "e", "seq": 0});
    frame(json!({"type": "system:joined", "data": at}))
}

fn to_task(mark: u64, seq: u64) -> Vec<Seen> {
    let data = json!({"mark": mark, "to": [TASK]});
    let id = format!("p{mark}");
    vec![
        Seen::Publishing {
            number: mark,
            path: "/v1/tasks/t/events".to_owned(),
            body: json!({"type": "note:added", "id": id, "data": data}),
        },
        frame(
            json!({"type": "note:added", "at": "now", "id": id, "rooms": {TASK: seq}, "data": data}),
        ),
    ]
}

fn ok(reference: u64) -> Seen {
    reply(json!({"ref": reference, "ok": true}))
}

fn healed() -> Seen {
    Seen::Healed { given_up: vec![9] }
}

fn goodbye(data: Value) -> Seen {
    frame(json!({"type": "system:goodbye", "data": data}))
}

fn after(mut live: Vec<(u64, Seen)>, millis: u64, more: Vec<Seen>) -> Vec<(u64, Seen)> {
    live.extend(more.into_iter().map(|seen| (millis, seen)));
    live
}

/// The log of the user's room, as a page.
fn page(first: u64, seqs: &[u64], seq: u64) -> Seen {
    let events = seqs.iter().map(|seq| {
        json!({"type": "note:added", "at": "now", "id": format!("p{seq}"), "rooms": {ROOM: seq}, "data": {}})
    });
    let events: Vec<Value> = events.collect();
    Seen::Found {
        path: "/v1/users/7/events".to_owned(),
        body: json!({"room": ROOM, "epoch": "e", "first": first, "seq": seq, "events": events, "next": null}),
    }
}

#[test]
fn histories_in_time_as_they_should_be_have_no_complaint() {
    let code = || Seen::Closed {
        conn: CONN,
        code: Some(4_001),
    };
    let ping = said(r#"{"op":"read","ref":1,"up_to":1}"#);
    let cases = [
        (
            "said in time",
            after(live(None), 59_000, vec![ping.clone(), ok(1)]),
        ),
        (
            "refused after the end",
            after(
                live(None),
                70_000,
                vec![ping.clone(), reply(json!({"ref": 1, "ok": false}))],
            ),
        ),
        (
            "another token came first",
            after(
                after(
                    live(None),
                    50_000,
                    vec![
                        shows("5", 120_000, None),
                        said(r#"{"op":"auth","ref":5,"token":"t"}"#),
                        ok(5),
                    ],
                ),
                70_000,
                vec![ping.clone(), ok(1)],
            ),
        ),
        (
            "the server's clock is behind",
            after(
                [vec![(0, Seen::Clock { ahead_ms: -60_000 })], live(None)].concat(),
                70_000,
                vec![ping, ok(1)],
            ),
        ),
        (
            "told when to come back",
            after(
                live(None),
                100,
                vec![
                    healed(),
                    Seen::Drains,
                    goodbye(json!({"code": 4001, "retry": "after", "retry_after_ms": 5})),
                    code(),
                    Seen::Drained { in_time: true },
                ],
            ),
        ),
        (
            "a drain that began among faults",
            after(
                live(None),
                100,
                vec![Seen::Drains, healed(), Seen::Drained { in_time: false }],
            ),
        ),
        (
            "prompt",
            after(
                after(
                    after(live_until(900_000, None), 100, vec![healed()]),
                    200_000,
                    vec![publishing(1, 1), published(1, 1, false)],
                ),
                201_000,
                vec![event(1, "p1"), found(1, &["p1"]), page(1, &[1], 1)],
            ),
        ),
        ("over its limit", vec![(0, page(3, &[3, 4, 5, 6], 6))]),
    ];
    for (name, history) in cases {
        let seen = judged_at(history);
        // Who leaves no time for anything else is not told of here.
        assert!(
            matches!(seen, None | Some("answered" | "delivered")),
            "{name}: {seen:?}"
        );
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn each_oracle_complains_of_a_history_that_breaks_its_promise_in_time() {
    let cases = [
        (
            "rights",
            "a message after the token's end",
            after(
                live(None),
                70_000,
                vec![said(r#"{"op":"read","ref":1,"up_to":1}"#), ok(1)],
            ),
        ),
        (
            "rights",
            "an event after the token's end",
            after(live(None), 70_000, vec![publishing(1, 1), event(1, "p1")]),
        ),
        (
            "rights",
            "the end that a clock which is ahead has",
            after(
                [vec![(0, Seen::Clock { ahead_ms: 30_000 })], live(None)].concat(),
                40_000,
                vec![publishing(1, 1), event(1, "p1")],
            ),
        ),
        (
            "rights",
            "a room that the token does not name",
            after(live(Some(&[])), 100, vec![joined()]),
        ),
        (
            "rights",
            "a room that the new token does not name",
            after(
                after(
                    live(Some(&[TASK])),
                    100,
                    vec![
                        joined(),
                        shows("5", 60_000, Some(&[])),
                        said(r#"{"op":"auth","ref":5,"token":"t"}"#),
                        ok(5),
                    ],
                ),
                200,
                to_task(1, 1),
            ),
        ),
        (
            "rights",
            "a message to a room that the token does not name",
            after(
                live(Some(&[])),
                100,
                vec![
                    said(r#"{"op":"send","ref":1,"room":"task:t","data":{}}"#),
                    ok(1),
                ],
            ),
        ),
        (
            "rights",
            "another user's token",
            after(
                live(None),
                100,
                vec![said(r#"{"op":"auth","ref":5,"token":"t"}"#), ok(5)],
            ),
        ),
        (
            "rights",
            "an event after the user was disconnected",
            after(
                after(live(None), 100, disconnected()),
                200,
                vec![publishing(1, 1), event(1, "p1")],
            ),
        ),
        (
            "trim",
            "more is gone than had to",
            vec![(0, page(4, &[4, 5, 6], 6))],
        ),
        ("trim", "a hole", vec![(0, page(1, &[1, 3], 3))]),
        (
            "trim",
            "the last is not there",
            vec![(0, page(1, &[1, 2], 3))],
        ),
        (
            "trim",
            "another event than was seen",
            after(live(None), 100, {
                let seen = vec![publishing(7, 1), event(1, "p7")];
                [seen, vec![page(1, &[1], 1)]].concat()
            }),
        ),
        (
            "trim",
            "a gap of what was to be kept",
            after(
                live(None),
                100,
                vec![
                    frame(json!({"type": "system:gap", "data":
                        {"room": ROOM, "epoch": "e", "from": 1, "to": 2, "reason": "trimmed"}})),
                    page(1, &[1, 2, 3], 3),
                ],
            ),
        ),
        (
            "not_delayed",
            "what does not come at once",
            after(
                after(
                    after(live_until(900_000, None), 100, vec![healed()]),
                    200_000,
                    vec![publishing(1, 1), published(1, 1, false)],
                ),
                203_000,
                vec![event(1, "p1")],
            ),
        ),
        (
            "drained",
            "a goodbye without a time",
            after(
                live(None),
                100,
                vec![goodbye(json!({"code": 4001, "retry": "never"}))],
            ),
        ),
        (
            "drained",
            "a close without a goodbye",
            after(
                live(None),
                100,
                vec![Seen::Closed {
                    conn: CONN,
                    code: Some(4_001),
                }],
            ),
        ),
        (
            "drained",
            "somebody who was told nothing",
            after(
                live(None),
                100,
                vec![healed(), Seen::Drains, Seen::Drained { in_time: true }],
            ),
        ),
        (
            "drained",
            "somebody who is left",
            after(
                live(None),
                100,
                vec![healed(), Seen::Drains, Seen::Drained { in_time: false }],
            ),
        ),
    ];
    for (oracle, name, history) in cases {
        assert_eq!(judged_at(history), Some(oracle), "{name}");
    }
}

/// A back end has the user disconnected.
fn disconnected() -> Vec<Seen> {
    vec![
        Seen::Publishing {
            number: 8,
            path: "/v1/users/7/disconnect".to_owned(),
            body: Value::Null,
        },
        Seen::Published {
            number: 8,
            status: 204,
            body: Value::Null,
        },
    ]
}

#[test]
fn whose_token_is_under_way_may_stay_when_its_user_is_disconnected() {
    let auth = || said(r#"{"op":"auth","token":"t"}"#);
    for (before, complaint) in [
        (vec![auth()], None),
        (vec![auth(), welcome("e", 0, None)], Some("rights")),
        (vec![welcome("e", 0, None), auth()], Some("rights")),
        (vec![], Some("rights")),
    ] {
        let mut history = live(None);
        history.pop();
        let history = after(history, 100, [before, disconnected()].concat());
        let then = vec![
            welcome("e", 0, None),
            publishing(1, 1),
            event(1, "p1"),
            published(1, 1, false),
            found(1, &["p1"]),
            inbox(1, 1),
        ];
        assert_eq!(judged_at(after(history, 200, then)), complaint);
    }
}

#[test]
fn known_is_the_first_event_of_a_number() {
    let limits = crate::plan::Bounds {
        task_log_events: 1,
        user_log_events: 1,
        outbox_bytes: 1,
        log_bytes: 1,
        rooms_per_connection: 1,
        inbox_bytes: 1,
    };
    let mut known = Known::new(limits, crate::plan::Keeps::Memory);
    for (number, seen) in [
        opened(None),
        welcome("e", 0, None),
        event(1, "a"),
        event(1, "b"),
    ]
    .into_iter()
    .enumerate()
    {
        known.see(&crate::history::Observation {
            time: fanfare_core::Time::from_millis(number as u64),
            seen,
        });
    }
    assert_eq!(known.fact((ROOM, "e", 1)), Some("a"));
    assert_eq!(known.fact((ROOM, "f", 1)), None);
}
