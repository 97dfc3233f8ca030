//! The judges: fed with what was seen from outside, each says when its promise is broken. None shares code with the core.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an oracle looks at what concerns its promise"
)]

mod answers;
mod bus;
mod devices;
mod ends;
mod form;
mod handed;
mod inbox;
mod known;
mod logs;
mod memory;
mod publishes;
mod restarts;
mod rights;
mod rooms;
mod state;

use std::fmt;

use serde_json::Value;

use crate::history::{Observation, Seen};
use crate::oracle::known::Known;
use crate::plan::{Bounds, Keeps};

pub(crate) use memory::{BoundedMemory, Sample};
pub(crate) use rights::WELCOME;

/// A promise, and what it has seen so far.
trait Oracle {
    /// The same in the code, in what is printed, and in `docs/simulation.md`.
    fn name(&self) -> &'static str;

    /// The next thing that was seen; an error says how it breaks the promise.
    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String>;

    /// Nothing more will be seen.
    fn end(&mut self, _: &Known) -> Result<(), String> {
        Ok(())
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) oracle: &'static str,
    pub(crate) what: String,
    /// When that was seen.
    pub(crate) at: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  {}", self.oracle, self.what, self.at)
    }
}

/// All of them.
pub(crate) struct Oracles {
    known: Known,
    oracles: Vec<Box<dyn Oracle>>,
}

impl Oracles {
    /// Of a server with these limits.
    pub(crate) fn new(limits: Bounds, keeps: Keeps) -> Self {
        let oracles: Vec<Box<dyn Oracle>> = vec![
            Box::<form::WellFormed>::default(),
            Box::<rooms::Order>::default(),
            Box::<rooms::NoSilentGap>::default(),
            Box::<rooms::NoDouble>::default(),
            Box::<rooms::NothingAfterLeaving>::default(),
            Box::<rooms::Delivered>::default(),
            Box::<publishes::NoLeak>::default(),
            Box::<publishes::NotDoubled>::default(),
            Box::<publishes::Kept>::default(),
            Box::<publishes::Terminal>::default(),
            Box::<rights::Rights>::default(),
            Box::<logs::Trim>::default(),
            Box::<state::SameMoment>::default(),
            Box::<devices::Offline>::default(),
            Box::<inbox::Acked>::default(),
            Box::<inbox::Unread>::default(),
            Box::<answers::Answered>::default(),
            Box::<ends::NotDelayed>::default(),
            Box::<ends::Drained>::default(),
            Box::<handed::HandedOn>::default(),
            Box::<bus::OnBus>::default(),
            Box::<restarts::Epochs>::default(),
            Box::<restarts::NotKept>::default(),
        ];
        Self {
            known: Known::new(limits, keeps),
            oracles,
        }
    }

    pub(crate) fn see(&mut self, it: &Observation) -> Result<(), Broken> {
        self.known.see(it);
        for oracle in &mut self.oracles {
            oracle.see(&it.seen, &self.known).map_err(|what| Broken {
                oracle: oracle.name(),
                what,
                at: it.to_string(),
            })?;
        }
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        for oracle in &mut self.oracles {
            oracle.end(&self.known).map_err(|what| Broken {
                oracle: oracle.name(),
                what,
                at: "at the end".to_owned(),
            })?;
        }
        Ok(())
    }
}

/// What they are called.
#[cfg(test)]
pub(crate) fn names() -> Vec<&'static str> {
    let all = Oracles::new(Bounds::default(), Keeps::Memory);
    all.oracles.iter().map(|oracle| oracle.name()).collect()
}

/// The rooms of an event with its number in each; none of what is no event.
fn rooms(frame: &Value) -> impl Iterator<Item = (&str, u64)> {
    let rooms = frame["rooms"].as_object().into_iter().flatten();
    rooms.map(|(room, seq)| (room.as_str(), seq.as_u64().unwrap_or_default()))
}

/// The same, of events that are kept.
fn kept(frame: &Value) -> impl Iterator<Item = (&str, u64)> {
    let is_kept = frame["ephemeral"] != true;
    rooms(frame).filter(move |_| is_kept)
}

/// The places that the answer to a publish names: room, epoch and number.
fn answered(body: &Value) -> impl Iterator<Item = (&str, &str, u64)> {
    let rooms = body["rooms"].as_object().into_iter().flatten();
    rooms.map(|(room, at)| {
        let seq = at["seq"].as_u64().unwrap_or_default();
        (room.as_str(), text(at, "/epoch"), seq)
    })
}

/// A text in a frame, or nothing.
fn text<'f>(frame: &'f Value, pointer: &str) -> &'f str {
    // Not serde's own: that one copies each name.
    let mut names = pointer.split('/').skip(1);
    let found = names.try_fold(frame, |within, name| within.get(name));
    found.and_then(Value::as_str).unwrap_or_default()
}

/// The rooms into which a frame lets a connection: of a welcome all that it names, or the one that was joined.
fn entered(frame: &Value) -> Vec<(&str, &Value)> {
    match text(frame, "/type") {
        "system:welcome" => {
            let rooms = frame["data"]["rooms"].as_object().into_iter().flatten();
            rooms.map(|(room, at)| (room.as_str(), at)).collect()
        }
        "system:joined" => vec![(text(frame, "/data/room"), &frame["data"])],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod timed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Conn, Place, Rights, Tells};
    use serde_json::json;

    pub(super) const ROOM: &str = "user:7";
    pub(super) const CONN: Conn = Conn {
        device: 0,
        number: 1,
    };

    pub(super) fn opened(since: Option<(&str, u64)>) -> Seen {
        let since = since.map(|(epoch, seq)| {
            let epoch = epoch.to_owned();
            (ROOM.to_owned(), Place { epoch, seq })
        });
        Seen::Opened {
            conn: CONN,
            user: 7,
            name: Some("phone".to_owned()),
            since: since.into_iter().collect(),
        }
    }

    pub(super) fn frame(frame: Value) -> Seen {
        Seen::Received { conn: CONN, frame }
    }

    pub(super) fn welcome(epoch: &str, seq: u64, recovered: Option<bool>) -> Seen {
        let mut at = json!({"epoch": epoch, "seq": seq});
        if let Some(recovered) = recovered {
            at["recovered"] = json!(recovered);
        }
        frame(
            json!({"type": "system:welcome", "data": {"rooms": {ROOM: at}, "inbox": {"unread": 0}}}),
        )
    }

    pub(super) fn event(seq: u64, id: &str) -> Seen {
        frame(
            json!({"type": "note:added", "at": "now", "id": id, "rooms": {ROOM: seq}, "unread": seq,
            "data": {"mark": seq, "to": [ROOM]}}),
        )
    }

    pub(super) fn publishing(number: u64, mark: u64) -> Seen {
        Seen::Publishing {
            number,
            path: "/v1/users/7/events".to_owned(),
            body: json!({"type": "note:added", "at": "now", "id": format!("p{number}"), "data": {"mark": mark, "to": [ROOM]}}),
        }
    }

    pub(super) fn published(number: u64, seq: u64, duplicate: bool) -> Seen {
        Seen::Published {
            number,
            status: 200,
            body: json!({"id": format!("p{number}"), "duplicate": duplicate,
                "rooms": {ROOM: {"epoch": "e", "seq": seq, "connected": 1}}}),
        }
    }

    pub(super) fn found(seq: u64, ids: &[&str]) -> Seen {
        let events = ids.iter().zip(1_u64..).map(|(id, seq)| {
            json!({"type": "note:added", "at": "now", "id": id, "rooms": {ROOM: seq}, "data": {"mark": seq, "to": [ROOM]}})
        });
        let events: Vec<Value> = events.collect();
        Seen::Found {
            path: "/v1/users/7/events".to_owned(),
            body: json!({"room": ROOM, "epoch": "e", "first": 1, "seq": seq, "events": events, "next": null}),
        }
    }

    pub(super) fn inbox(seq: u64, unread: u64) -> Seen {
        Seen::Found {
            path: "/v1/users/7/inbox".to_owned(),
            body: json!({"room": ROOM, "epoch": "e", "seq": seq, "unread": unread}),
        }
    }

    pub(super) fn said(text: &str) -> Seen {
        Seen::Said {
            conn: CONN,
            text: text.to_owned(),
        }
    }

    pub(super) fn reply(data: Value) -> Seen {
        frame(json!({"type": "system:reply", "data": data}))
    }

    /// Which oracle complains of a history, and of what.
    fn judged(history: Vec<Seen>) -> Option<&'static str> {
        judged_at(history.into_iter().map(|seen| (0, seen)).collect())
    }

    /// The same, of what was seen at these milliseconds.
    pub(super) fn judged_at(history: Vec<(u64, Seen)>) -> Option<&'static str> {
        judged_of(Keeps::Memory, history)
    }

    /// The same, of a server that keeps what it is told so.
    pub(super) fn judged_of(keeps: Keeps, history: Vec<(u64, Seen)>) -> Option<&'static str> {
        let mut oracles = Oracles::new(
            Bounds {
                task_log_events: 4,
                user_log_events: 4,
                outbox_bytes: 4_000,
                log_bytes: 1 << 20,
                ..Bounds::default()
            },
            keeps,
        );
        for (millis, seen) in history {
            let it = Observation {
                time: fanfare_core::Time::from_millis(millis),
                seen,
            };
            if let Err(broken) = oracles.see(&it) {
                return Some(broken.oracle);
            }
        }
        oracles.end().err().map(|broken| broken.oracle)
    }

    #[test]
    fn a_history_as_it_should_be_has_no_complaint() {
        let history = vec![
            Seen::Started,
            opened(None),
            welcome("e", 0, None),
            publishing(1, 1),
            event(1, "p1"),
            published(1, 1, false),
            publishing(1, 1),
            published(1, 1, true),
            said(r#"{"op":"auth","ref":0}"#),
            said(r#"{"op":"ack","ref":1,"seq":1}"#),
            reply(json!({"ref": 1, "ok": true, "epoch": "e", "seq": 1})),
            reply(json!({"ref": 0, "ok": true})),
            Seen::Closed {
                conn: CONN,
                code: None,
            },
            Seen::Healed {
                given_up: Vec::new(),
            },
            found(1, &["p1"]),
            inbox(1, 1),
        ];
        assert_eq!(judged(history), None);
    }

    /// A task that has started is told to be created only.
    fn told_another_state() -> Vec<Seen> {
        let room = "task:t";
        let started = |number: u64| Seen::Publishing {
            number,
            path: "/v1/tasks/t/events".to_owned(),
            body: json!({"type": "task:started", "data": {"mark": number, "to": [room]}}),
        };
        let answer = Seen::Published {
            number: 1,
            status: 200,
            body: json!({"id": "s", "duplicate": false,
                "rooms": {room: {"epoch": "e", "seq": 1, "connected": 0}}}),
        };
        let at = json!({"room": room, "epoch": "e", "seq": 1, "state": {"status": "created"}});
        let joined = frame(json!({"type": "system:joined", "data": at}));
        let live = vec![Seen::Started, opened(None), welcome("e", 0, None)];
        [live, vec![started(1), answer, joined]].concat()
    }

    /// A device that has acknowledged the first event goes and comes, and names no position.
    fn comes_back(then: Vec<Seen>) -> Vec<Seen> {
        let before = vec![
            Seen::Started,
            opened(None),
            welcome("e", 0, None),
            publishing(1, 1),
            publishing(3, 3),
            event(1, "p1"),
            said(r#"{"op":"ack","ref":1,"seq":1}"#),
            reply(json!({"ref": 1, "ok": true, "epoch": "e", "seq": 1})),
            Seen::Closed {
                conn: CONN,
                code: None,
            },
        ];
        let again = Conn { number: 2, ..CONN };
        let comes = Seen::Shows {
            conn: again,
            reference: WELCOME.to_owned(),
            token: Rights {
                ends_ms: u64::MAX,
                tasks: None,
            },
        };
        let of_again = |mut seen: Seen| {
            if let Seen::Opened { conn, .. } | Seen::Received { conn, .. } = &mut seen {
                *conn = again;
            }
            seen
        };
        let after = std::iter::once(opened(None)).chain(then).map(of_again);
        [before, vec![comes], after.collect()].concat()
    }

    /// To the one whose client is the one that ships.
    fn tells(tells: Tells) -> Seen {
        Seen::Client { device: 0, tells }
    }

    fn hands(seen: Seen) -> Seen {
        match seen {
            Seen::Received { frame, .. } => tells(Tells::Message(frame)),
            other => other,
        }
    }

    fn lost() -> Seen {
        tells(Tells::Lost(0))
    }

    /// A client that ships is welcomed, and an event comes.
    fn ships(then: Vec<Seen>) -> Vec<Seen> {
        let before = vec![
            Seen::Started,
            tells(Tells::Begins(Vec::new())),
            opened(None),
            welcome("e", 0, None),
            hands(welcome("e", 0, None)),
            publishing(1, 1),
            published(1, 1, false),
            event(1, "p1"),
        ];
        [before, then].concat()
    }

    #[test]
    fn a_client_that_ships_may_keep_doubles_back() {
        let all = vec![hands(event(1, "p1")), found(1, &["p1"]), inbox(1, 1)];
        assert_eq!(judged(ships(all)), None);
    }

    #[test]
    fn a_client_that_ships_may_be_kept_out_by_its_users_others() {
        let goodbye = |code: u64| frame(json!({"type": "system:goodbye", "data": {"code": code}}));
        for (code, complaint) in [(4_504, None), (4_012, Some("handed_on"))] {
            let ends = vec![
                hands(event(1, "p1")),
                goodbye(code),
                hands(goodbye(code)),
                tells(Tells::Ends),
            ];
            assert_eq!(judged(ships(ends)), complaint, "{code}");
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn each_oracle_complains_of_a_history_that_breaks_its_promise() {
        let live = || {
            vec![
                Seen::Started,
                opened(None),
                welcome("e", 0, None),
                publishing(1, 1),
                publishing(2, 2),
            ]
        };
        let with = |more: Vec<Seen>| [live(), more].concat();
        let other = || {
            let mut other = event(1, "p2");
            if let Seen::Received { conn, .. } = &mut other {
                conn.number = 2;
            }
            let mut first = opened(None);
            if let Seen::Opened { conn, .. } = &mut first {
                conn.number = 2;
            }
            let mut hello = welcome("e", 0, None);
            if let Seen::Received { conn, .. } = &mut hello {
                conn.number = 2;
            }
            vec![event(1, "p1"), first, hello, other]
        };
        let life = |id: &str, seq: u64, kind: &str| json!({"type": kind, "at": "now", "id": id, "rooms": {"task:t": seq}, "data": {"mark": seq, "to": ["task:t"]}});
        let ended_twice = Seen::Found {
            path: "/v1/tasks/t/events".to_owned(),
            body: json!({"room": "task:t", "epoch": "e", "first": 1, "seq": 2, "next": null,
                "events": [life("a", 1, "task:completed"), life("b", 2, "task:failed")]}),
        };
        let cases = [
            ("order", with(vec![event(1, "p1"), event(1, "p2")])),
            ("order", with(other())),
            ("no_silent_gap", with(vec![event(2, "p2")])),
            (
                "no_silent_gap",
                vec![
                    opened(Some(("e", 1))),
                    welcome("e", 4, Some(false)),
                    publishing(1, 5),
                    event(5, "p1"),
                ],
            ),
            (
                "no_silent_gap",
                vec![opened(Some(("d", 1))), welcome("e", 4, Some(true))],
            ),
            (
                "no_silent_gap",
                vec![opened(Some(("e", 5))), welcome("e", 4, Some(true))],
            ),
            (
                "no_double",
                vec![
                    opened(Some(("e", 3))),
                    welcome("e", 3, None),
                    publishing(1, 2),
                    event(2, "p1"),
                ],
            ),
            (
                "nothing_after_leaving",
                with(vec![
                    frame(
                        json!({"type": "system:left", "data": {"room": ROOM, "reason": "asked"}}),
                    ),
                    event(1, "p1"),
                ]),
            ),
            (
                "nothing_after_leaving",
                with(vec![
                    frame(json!({"type": "system:goodbye", "data": {"code": 4503}})),
                    event(1, "p1"),
                ]),
            ),
            (
                "no_leak",
                with(vec![
                    event(1, "p9"),
                    frame(json!({"type": "note:added", "at": "now", "id": "p2",
                "rooms": {ROOM: 2}, "data": {"mark": 2, "to": ["user:8"]}})),
                ]),
            ),
            (
                "no_leak",
                with(vec![frame(
                    json!({"type": "note:other", "at": "now", "id": "p1", "rooms": {ROOM: 1},
                "data": {"mark": 1, "to": [ROOM]}}),
                )]),
            ),
            (
                "not_doubled",
                with(vec![
                    published(1, 1, false),
                    publishing(1, 1),
                    published(1, 1, false),
                ]),
            ),
            (
                "not_doubled",
                with(vec![
                    published(1, 1, false),
                    publishing(1, 1),
                    published(1, 2, true),
                ]),
            ),
            ("not_doubled", with(vec![event(1, "p1"), event(2, "p1")])),
            (
                "not_doubled",
                with(vec![
                    published(1, 1, false),
                    publishing(3, 3),
                    Seen::Published {
                        number: 3,
                        status: 200,
                        body: json!({"id": "p1", "duplicate": true,
                            "rooms": {ROOM: {"epoch": "e", "seq": 1, "connected": 1}}}),
                    },
                ]),
            ),
            ("handed_on", ships(vec![hands(event(2, "p2"))])),
            ("handed_on", ships(vec![lost(), hands(event(1, "p1"))])),
            (
                "handed_on",
                ships(vec![hands(event(1, "p1")), hands(event(1, "p1"))]),
            ),
            (
                "handed_on",
                ships(vec![hands(event(1, "p1")), hands(event(3, "p3"))]),
            ),
            ("handed_on", ships(vec![lost()])),
            ("handed_on", ships(vec![])),
            ("same_moment", told_another_state()),
            ("offline", comes_back(vec![welcome("e", 3, None)])),
            (
                "offline",
                comes_back(vec![welcome("e", 3, Some(true)), event(3, "p3")]),
            ),
            (
                "offline",
                comes_back(vec![welcome("e", 3, Some(true)), event(1, "p1")]),
            ),
            (
                "acked",
                with(vec![
                    event(1, "p1"),
                    said(r#"{"op":"ack","ref":1,"seq":2}"#),
                    reply(json!({"ref": 1, "ok": true, "epoch": "e", "seq": 2})),
                ]),
            ),
            (
                "unread",
                with(vec![event(1, "p1"), found(1, &["p1"]), inbox(1, 0)]),
            ),
            (
                "kept",
                with(vec![
                    event(1, "p1"),
                    published(1, 1, false),
                    Seen::Unanswered { number: 2 },
                    found(1, &["p7"]),
                ]),
            ),
            (
                "kept",
                with(vec![
                    event(1, "p1"),
                    published(1, 1, false),
                    Seen::Unanswered { number: 2 },
                    found(0, &[]),
                ]),
            ),
            ("terminal", vec![ended_twice]),
            (
                "acked",
                with(vec![
                    said(r#"{"op":"ack","ref":1,"seq":5}"#),
                    reply(json!({"ref": 1, "ok": true, "epoch": "e", "seq": 5})),
                    said(r#"{"op":"ack","ref":2,"seq":1}"#),
                    reply(json!({"ref": 2, "ok": true, "epoch": "e", "seq": 1})),
                ]),
            ),
            ("unread", with(vec![event(1, "p1"), inbox(1, 3)])),
            (
                "answered",
                with(vec![
                    said(r#"{"op":"ping","ref":1}"#),
                    reply(json!({"ref": 1, "ok": true})),
                    reply(json!({"ref": 1, "ok": true})),
                ]),
            ),
            (
                "answered",
                with(vec![
                    said(r#"{"op":"auth","ref":1}"#),
                    said(r#"{"op":"ping","ref":2}"#),
                    said(r#"{"op":"ping","ref":3}"#),
                    reply(json!({"ref": 3, "ok": true})),
                ]),
            ),
            (
                "well_formed",
                with(vec![Seen::Garbled {
                    conn: None,
                    what: "no head".to_owned(),
                }]),
            ),
            ("well_formed", with(vec![frame(json!([]))])),
            (
                "well_formed",
                with(vec![frame(json!({"type": "system:reply"}))]),
            ),
            (
                "well_formed",
                with(vec![frame(
                    json!({"type": "note:added", "at": "now", "id": "p1", "rooms": {}}),
                )]),
            ),
            (
                "well_formed",
                with(vec![frame(
                    json!({"type": "note:added", "at": "now", "rooms": {ROOM: 1}}),
                )]),
            ),
            (
                "answered",
                with(vec![
                    event(1, "p1"),
                    published(1, 1, false),
                    found(1, &["p1"]),
                    inbox(1, 1),
                ]),
            ),
            (
                "delivered",
                with(vec![
                    event(1, "p1"),
                    published(1, 1, false),
                    published(2, 2, false),
                    found(2, &["p1", "p2"]),
                ]),
            ),
        ];
        for (number, (oracle, history)) in cases.into_iter().enumerate() {
            assert_eq!(judged(history), Some(oracle), "case {number}");
        }
    }
}
