//! Who rides gets what who does not ride gets.

use crate::auth::{Claims, Principal, TaskGrant};
use crate::close::CloseCode;
use crate::event::Draft;
use crate::hub::{Effect, Hub, Input, Pull};
use crate::ids::{ConnId, TaskId, UserId};
use crate::limits::Limits;
use crate::payload::Payload;
use crate::session::{Endpoint, Open};
use crate::time::{Now, Time, Wall};
use proptest::prelude::*;
use uuid::Uuid;

fn at(millis: u64) -> Now {
    Now {
        time: Time::from_millis(millis),
        wall: Wall::from_unix_millis(1_800_000_000_000 + millis),
    }
}

fn task(number: u128) -> TaskId {
    TaskId::new(Uuid::from_u128(number))
}

fn open(hub: &mut Hub, now: Now, user: u64, number: u128) -> ConnId {
    let claims = Claims::new(UserId::new(user), 1_900_000_000, TaskGrant::All);
    let open = Open {
        principal: Principal::new(claims, now.wall).ok(),
        ..Open::new(Endpoint::Task(task(number)))
    };
    hub.open(now, open)
}

fn draft(text: &str) -> Draft {
    let data = Payload::from_value(&text).unwrap();
    Draft::new("chat:message".parse().unwrap(), data)
}

fn say(hub: &mut Hub, number: u128, draft: Draft) {
    let to = task(number);
    hub.at(at(0)).publish_to_task(to, &[], draft).unwrap();
}

fn take_all(hub: &mut Hub, conn: ConnId) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Pull::Frame(frame) = hub.pull(at(0), conn) {
        bytes.extend_from_slice(frame.wire());
    }
    bytes
}

/// A task with members who have taken their welcome.
fn watched(members: u64) -> (Hub, Vec<ConnId>) {
    let mut hub = Hub::new(Limits::default(), [0; 32]);
    let members = (0..members).map(|user| open(&mut hub, at(0), user, 0));
    let members: Vec<ConnId> = members.collect();
    for conn in &members {
        take_all(&mut hub, *conn);
    }
    while hub.poll().is_some() {}
    (hub, members)
}

fn named(hub: &mut Hub) -> Vec<ConnId> {
    let mut named = Vec::new();
    while let Some(effect) = hub.poll() {
        if let Effect::Ready(conn) = effect {
            named.push(conn);
        }
    }
    named
}

#[test]
fn who_rides_is_named_once_and_gets_all_of_it_in_one_piece() {
    let (mut hub, members) = watched(3);
    for text in ["one", "two", "three"] {
        say(&mut hub, 0, draft(text));
    }
    assert_eq!(named(&mut hub), members);
    let mut apart = take_all(&mut hub, members[2]);
    for conn in &members[..2] {
        let (bytes, frames) = hub.ride(*conn).unwrap();
        assert_eq!((bytes, frames), (apart.as_slice(), 3));
        hub.rode(*conn);
        assert_eq!(hub.ride(*conn), None);
        assert_eq!(hub.pull(at(0), *conn), Pull::Empty);
    }
    // Nobody rides any more: the next turn has nothing of this one.
    say(&mut hub, 0, draft("four"));
    let (bytes, frames) = hub.ride(members[0]).unwrap();
    let bytes = bytes.to_vec();
    assert_eq!(frames, 1);
    apart = take_all(&mut hub, members[2]);
    assert_eq!(bytes, apart);
}

#[test]
fn a_turn_that_is_over_is_another_tasks_next() {
    let mut hub = Hub::new(Limits::default(), [0; 32]);
    let members = [0, 1].map(|number| open(&mut hub, at(0), 7, number));
    for conn in members {
        take_all(&mut hub, conn);
    }
    for (number, conn) in members.into_iter().enumerate() {
        say(&mut hub, number as u128, draft("one"));
        take_all(&mut hub, conn);
    }
    for number in [0, 1, 1, 0] {
        say(&mut hub, number, draft(&format!("two of {number}")));
    }
    for (number, conn) in members.into_iter().enumerate() {
        let (bytes, frames) = hub.ride(conn).unwrap();
        let text = String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(frames, 2, "{text}");
        assert_eq!(
            text.matches(&format!("two of {number}")).count(),
            2,
            "{text}"
        );
        hub.rode(conn);
    }
}

#[test]
fn a_turn_that_is_full_is_sent_whole_and_another_begins() {
    let (mut hub, members) = watched(3);
    let mut alone = Vec::new();
    for number in 0..200 {
        say(&mut hub, 0, draft(&number.to_string()));
        // One is always up to date, two are not.
        alone.extend(take_all(&mut hub, members[1]));
    }
    assert_eq!(alone.windows(6).filter(|at| at == b"\"data\"").count(), 200);
    for conn in [members[0], members[2]] {
        assert_eq!(hub.ride(conn), None);
        assert_eq!(take_all(&mut hub, conn), alone);
    }
}

#[test]
fn what_a_rider_has_not_taken_counts_as_waiting_for_it() {
    let (mut hub, members) = watched(2);
    assert_eq!(hub.held().outbox_bytes, 0);
    say(&mut hub, 0, draft("one"));
    say(&mut hub, 0, draft("two"));
    let riding = hub.waiting_bytes(members[0]);
    assert!(riding > 0);
    assert_eq!(hub.held().outbox_bytes, 2 * riding);
    // The same bytes, in an outbox of its own.
    let text = r#"{"op":"ping","ref":1}"#.to_owned();
    let conn = members[0];
    hub.handle(at(0), Input::Message { conn, text });
    assert!(hub.ride(conn).is_none());
    let Pull::Frame(_) = hub.pull(at(0), conn) else {
        panic!("the first event");
    };
    let Pull::Frame(_) = hub.pull(at(0), conn) else {
        panic!("the second");
    };
    let reply = hub.waiting_bytes(conn);
    assert!(reply > 0 && reply < riding);
    assert_eq!(hub.waiting_bytes(members[1]), riding);
}

#[test]
fn a_later_ephemeral_event_takes_the_place_of_an_earlier_one_that_nobody_took() {
    let (mut hub, members) = watched(2);
    let key = |key: &str| Some(key.parse().unwrap());
    say(&mut hub, 0, draft("a1").ephemeral(key("a")));
    take_all(&mut hub, members[0]);
    say(&mut hub, 0, draft("b1").ephemeral(key("b")));
    say(&mut hub, 0, draft("kept"));
    say(&mut hub, 0, draft("a2").ephemeral(key("a")));
    say(&mut hub, 0, draft("b2").ephemeral(key("b")));
    for conn in members {
        let (bytes, frames) = hub.ride(conn).unwrap();
        let text = String::from_utf8_lossy(bytes).into_owned();
        let at = |data: &str| text.find(&format!("{data:?}"));
        assert_eq!((frames, at("a1"), at("b1")), (3, None, None), "{text}");
        assert!(at("kept") < at("a2") && at("a2") < at("b2"), "{text}");
    }
}

#[test]
fn who_leaves_gets_what_came_before_and_nothing_after() {
    let (mut hub, members) = watched(2);
    say(&mut hub, 0, draft("before"));
    let text = format!(r#"{{"op":"leave","room":"task:{}"}}"#, task(0));
    let conn = members[0];
    hub.handle(at(0), Input::Message { conn, text });
    say(&mut hub, 0, draft("after"));
    let text = take_all(&mut hub, conn);
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("before") && text.contains("system:left"),
        "{text}"
    );
    assert!(!text.contains("after"), "{text}");
    assert_eq!(hub.ride(members[1]).map(|(_, frames)| frames), Some(2));
}

#[test]
fn a_rider_who_takes_nothing_is_closed_in_the_time_of_every_slow_client() {
    let (mut hub, members) = watched(2);
    say(&mut hub, 0, draft("one"));
    hub.ride(members[1]).unwrap();
    hub.rode(members[1]);
    let stall_ms = Limits::default().stall_ms;
    let mut now = at(0);
    while now.time < Time::from_millis(stall_ms) {
        now = at(hub.next_deadline().unwrap().as_millis());
        hub.handle(now, Input::Tick);
        hub.handle(now, Input::Pong { conn: members[0] });
        hub.handle(now, Input::Pong { conn: members[1] });
        while hub.pull(now, members[1]) != Pull::Empty {}
    }
    assert_eq!(now, at(stall_ms));
    let pulled = std::iter::from_fn(|| Some(hub.pull(now, members[0])));
    let close = pulled
        .take(9)
        .find(|pull| matches!(pull, Pull::Close { .. }));
    let Some(Pull::Close { code, .. }) = close else {
        panic!("it is closed: {close:?}");
    };
    assert_eq!(code, CloseCode::TOO_SLOW);
    assert_eq!(hub.connections(), 1);
}

/// What happens to two hubs alike.
#[derive(Debug, Clone)]
enum Step {
    Open(u64, u128),
    Close(usize),
    Say {
        conn: usize,
        join: bool,
        task: u128,
    },
    Publish {
        task: Option<u128>,
        users: Vec<u64>,
        kind: &'static str,
        bytes: usize,
        key: Option<Option<u8>>,
    },
    /// All that waits, or so many frames.
    Take(usize, Option<usize>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        9 => Just("chat:message"),
        1 => Just("task:created"),
        1 => Just("task:deleted"),
    ];
    let key = prop::option::weighted(0.4, prop::option::of(0_u8..2));
    let users = prop::collection::vec(0_u64..3, 0..3);
    let bytes = prop_oneof![8 => Just(10_usize), 1 => 100_usize..900];
    let publish = (
        prop::option::weighted(0.9, 0_u128..3),
        users,
        kind,
        bytes,
        key,
    );
    let step = prop_oneof![
        2 => (0_u64..3, 0_u128..3).prop_map(|(user, task)| Step::Open(user, task)),
        1 => (0_usize..8).prop_map(Step::Close),
        2 => (0_usize..8, any::<bool>(), 0_u128..3)
            .prop_map(|(conn, join, task)| Step::Say { conn, join, task }),
        20 => publish.prop_map(|(task, users, kind, bytes, key)| Step::Publish { task, users, kind, bytes, key }),
        12 => (0_usize..8, prop::option::weighted(0.3, 0_usize..5))
            .prop_map(|(conn, frames)| Step::Take(conn, frames)),
        1 => (0_u64..20_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

/// A hub, its connections, and what each of them got.
struct Driven {
    hub: Hub,
    rides: bool,
    now: u64,
    conns: Vec<ConnId>,
    got: Vec<Vec<u8>>,
}

impl Driven {
    fn new(rides: bool, limits: Limits) -> Self {
        Self {
            hub: Hub::new(limits, [0; 32]),
            rides,
            now: 0,
            conns: Vec::new(),
            got: Vec::new(),
        }
    }

    fn take(&mut self, number: usize, frames: Option<usize>) {
        let (Some(conn), now) = (self.conns.get(number).copied(), at(self.now)) else {
            return;
        };
        let got = &mut self.got[number];
        if self.rides
            && frames.is_none()
            && let Some((bytes, _)) = self.hub.ride(conn)
        {
            got.extend_from_slice(bytes);
            self.hub.rode(conn);
        }
        for _ in 0..frames.unwrap_or(usize::MAX) {
            match self.hub.pull(now, conn) {
                Pull::Frame(frame) => got.extend_from_slice(frame.wire()),
                Pull::Ping => got.extend_from_slice(b"ping"),
                Pull::Close { code, .. } => got.extend_from_slice(code.to_string().as_bytes()),
                Pull::Empty => break,
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let now = at(self.now);
        match step.clone() {
            Step::Open(user, number) => {
                self.conns.push(open(&mut self.hub, now, user, number));
                self.got.push(Vec::new());
            }
            Step::Close(number) => {
                if let Some(conn) = self.conns.get(number).copied() {
                    self.hub.handle(now, Input::Closed { conn });
                }
            }
            Step::Say {
                conn,
                join,
                task: number,
            } => {
                if let Some(conn) = self.conns.get(conn).copied() {
                    let op = if join { "join" } else { "leave" };
                    let text = format!(r#"{{"op":"{op}","room":"task:{}"}}"#, task(number));
                    self.hub.handle(now, Input::Message { conn, text });
                }
            }
            Step::Publish {
                task: to,
                users,
                kind,
                bytes,
                key,
            } => {
                let data = Payload::from_value(&"x".repeat(bytes)).unwrap();
                let mut draft = Draft::new(kind.parse().unwrap(), data);
                if let Some(key) = key {
                    draft = draft.ephemeral(key.map(|key| key.to_string().parse().unwrap()));
                }
                let users: Vec<UserId> = users.into_iter().map(UserId::new).collect();
                let mut hub = self.hub.at(now);
                // What is refused is refused by both.
                let _ = match (to, users.first()) {
                    (Some(to), _) => hub.publish_to_task(task(to), &users, draft),
                    (None, Some(user)) => hub.publish_to_user(*user, draft),
                    (None, None) => return,
                };
            }
            Step::Take(number, frames) => self.take(number, frames),
            Step::Wait(millis) => {
                self.now += millis;
                self.hub.handle(at(self.now), Input::Tick);
            }
        }
        while self.hub.poll().is_some() {}
    }
}

proptest! {
    #[test]
    fn a_connection_is_sent_the_same_bytes_whether_it_rides_or_not(
        steps in steps(),
        outbox_bytes in prop_oneof![Just(1_500_usize), Just(1 << 20)],
        log_bytes in prop_oneof![Just(6_000_usize), Just(1 << 20)],
    ) {
        let limits = || Limits {
            outbox_bytes,
            log_bytes,
            task_log_events: 8,
            ..Limits::default()
        };
        let mut both = [true, false].map(|rides| Driven::new(rides, limits()));
        for step in &steps {
            both.iter_mut().for_each(|driven| driven.step(step));
            let waiting = |driven: &Driven| {
                let of = |conn: &ConnId| driven.hub.waiting_bytes(*conn);
                driven.conns.iter().map(of).collect::<Vec<_>>()
            };
            prop_assert_eq!(waiting(&both[0]), waiting(&both[1]));
        }
        for number in 0..both[0].conns.len() {
            both.iter_mut().for_each(|driven| driven.take(number, None));
            let [rode, pulled] = [0, 1].map(|at| String::from_utf8_lossy(&both[at].got[number]).into_owned());
            prop_assert_eq!(rode, pulled, "{}", number);
        }
    }
}
