//! What a hub decides while an outlet's reports are on the way to it leaves no hole.

use super::{Outlet, OutletReport};
use crate::auth::{Claims, Principal, TaskGrant};
use crate::event::Draft;
use crate::hub::{Hub, Input, Pull};
use crate::ids::{ConnId, RoomId, TaskId, UserId};
use crate::limits::Limits;
use crate::payload::Payload;
use crate::session::{Endpoint, Open};
use crate::time::Now;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::iter;
use uuid::Uuid;

const NOW: Now = Now {
    time: crate::time::Time::from_millis(0),
    wall: crate::time::Wall::from_unix_millis(1_800_000_000_000),
};
const USER: UserId = UserId::new(7);
const TASK: TaskId = TaskId::new(Uuid::from_u128(1));

/// A hub with a connection that watches a task, has room for two of its events and is served by outlet 1. Of the log it gets two
/// events at once.
struct Apart {
    hub: Hub,
    outlet: Outlet,
    reports: VecDeque<OutletReport>,
    conn: ConnId,
    come: Come,
}

fn limits() -> Limits {
    Limits {
        outbox_bytes: 100_000,
        ..Limits::default()
    }
}

fn data() -> Payload {
    Payload::from_value(&"x".repeat(40_000)).unwrap()
}

fn open() -> Open {
    let claims = Claims::new(USER, 1_900_000_000, TaskGrant::All);
    Open {
        principal: Principal::new(claims, NOW.wall).ok(),
        ..Open::new(Endpoint::Task(TASK))
    }
}

fn publish(hub: &mut Hub, kind: &str, users: &[UserId], data: &Payload) {
    let draft = Draft::new(kind.parse().unwrap(), data.clone());
    hub.at(NOW).publish_to_task(TASK, users, draft).unwrap();
}

/// What a connection was sent of each room: of an event its number twice, of a gap its first and its last one.
#[derive(Debug, Default)]
struct Come(BTreeMap<String, Vec<[u64; 2]>>);

impl Come {
    fn take(&mut self, text: &str) {
        if text.starts_with(r#"{"type":"system:gap""#) {
            let gap: Value = serde_json::from_str(text).unwrap();
            let told = ["from", "to"].map(|end| gap["data"][end].as_u64().unwrap());
            let room = gap["data"]["room"].as_str().unwrap();
            self.0.entry(room.to_owned()).or_default().push(told);
        } else if !text.starts_with(r#"{"type":"system:"#) {
            let (_, rooms) = text.split_once(r#""rooms":{"#).unwrap();
            let (rooms, _) = rooms.split_once('}').unwrap();
            for room in rooms.split(',') {
                let (room, seq) = room.rsplit_once(':').unwrap();
                let told = [seq.parse().unwrap(); 2];
                let room = room.trim_matches('"').to_owned();
                self.0.entry(room).or_default().push(told);
            }
        }
    }

    /// Each number of a room up to `last`, which is an event, was told once and in its place.
    fn has_all(&self, room: RoomId, last: u64) -> bool {
        let Some(told) = self.0.get(&room.to_string()) else {
            return false;
        };
        let mut next = 1..;
        let in_place = |[from, to]: &[u64; 2]| (*from..=*to).all(|seq| next.next() == Some(seq));
        told.iter().all(in_place) && told.last() == Some(&[last; 2])
    }
}

impl Apart {
    fn new() -> Self {
        let mut hub = Hub::new(limits(), [0; 32]);
        let conn = hub.open_at(NOW, 1, open());
        let mut apart = Self {
            hub,
            outlet: Outlet::new(limits()),
            reports: VecDeque::new(),
            conn,
            come: Come::default(),
        };
        apart.settle();
        apart
    }

    fn obey(&mut self) {
        while let Some((_, order)) = self.hub.poll_order() {
            self.outlet.obey(NOW, order);
        }
    }

    /// The hub hears one report. Whether there was one.
    fn hear(&mut self) -> bool {
        self.reports.extend(iter::from_fn(|| self.outlet.report()));
        let report = self.reports.pop_front();
        let heard = report.map(|report| self.hub.handle(NOW, Input::Report(report)));
        heard.is_some()
    }

    /// Takes what is next for the connection. Whether there was any.
    fn pull(&mut self) -> bool {
        let Pull::Frame(frame) = self.outlet.pull(NOW, self.conn) else {
            return false;
        };
        self.come.take(frame.text());
        true
    }

    /// Everything goes on until nothing is left to do.
    fn settle(&mut self) {
        loop {
            self.obey();
            let is_quiet = !self.pull();
            if !self.hear() && is_quiet {
                return;
            }
        }
    }
}

/// Who gets each event beside the task's watchers: nobody, or the user whose connection it is.
fn named(event: u32, in_both: u32) -> &'static [UserId] {
    if in_both >> event & 1 == 1 {
        &[USER]
    } else {
        &[]
    }
}

#[test]
fn a_task_that_is_deleted_while_its_watcher_falls_behind_leaves_no_hole() {
    const STEPS: u32 = 7;
    let data = data();
    // All orders in which so many steps may come before the task is deleted; only its deletion, or more, goes to the user too.
    let kinds = [0, 0b10_0000, 0b11_1010, 0b10_0101];
    let all = (0..3_u32.pow(STEPS)).flat_map(|order| kinds.map(|in_both| (order, in_both)));
    for (order, in_both) in all {
        let mut apart = Apart::new();
        for event in 0..4 {
            publish(&mut apart.hub, "chat:message", named(event, in_both), &data);
        }
        apart.obey();
        publish(&mut apart.hub, "chat:message", named(4, in_both), &data);
        for step in 0..STEPS {
            match order / 3_u32.pow(step) % 3 {
                0 => apart.obey(),
                1 => drop(apart.hear()),
                _ => drop(apart.pull()),
            }
        }
        publish(&mut apart.hub, "task:deleted", named(5, in_both), &data);
        apart.settle();
        let come = &apart.come;
        assert!(come.has_all(TASK.into(), 6), "order {order}: {come:?}");
        let to_user = u64::from(in_both.count_ones());
        assert!(
            to_user == 0 || come.has_all(USER.into(), to_user),
            "order {order}, {in_both:b}: {come:?}"
        );
    }
}

#[test]
fn nor_does_one_whose_watcher_the_hub_serves_itself() {
    let data = data();
    for (taken, in_both) in
        (0..=6).flat_map(|taken| [0, 0b10_0000, 0b11_1010].map(|in_both| (taken, in_both)))
    {
        let mut hub = Hub::new(limits(), [0; 32]);
        let conn = hub.open(NOW, open());
        let mut come = Come::default();
        let mut pull = |hub: &mut Hub, most| {
            for _ in 0..most {
                let Pull::Frame(frame) = hub.pull(NOW, conn) else {
                    return;
                };
                come.take(frame.text());
            }
        };
        pull(&mut hub, usize::MAX);
        for event in 0..5 {
            publish(&mut hub, "chat:message", named(event, in_both), &data);
        }
        pull(&mut hub, taken);
        publish(&mut hub, "task:deleted", named(5, in_both), &data);
        pull(&mut hub, usize::MAX);
        assert!(
            come.has_all(TASK.into(), 6),
            "{taken} taken before: {come:?}"
        );
        let to_user = u64::from(in_both.count_ones());
        assert!(
            to_user == 0 || come.has_all(USER.into(), to_user),
            "{taken} taken before, {in_both:b}: {come:?}"
        );
    }
}
