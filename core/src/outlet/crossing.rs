//! What a hub decides while an outlet's reports are on the way to it leaves no hole.

use super::{Outlet, OutletReport};
use crate::auth::{Claims, Principal, TaskGrant};
use crate::event::Draft;
use crate::hub::{Hub, Input, Pull};
use crate::ids::{ConnId, TaskId, UserId};
use crate::limits::Limits;
use crate::payload::Payload;
use crate::session::{Endpoint, Open};
use crate::time::Now;
use serde_json::Value;
use std::collections::VecDeque;
use std::iter;
use uuid::Uuid;

const NOW: Now = Now {
    time: crate::time::Time::from_millis(0),
    wall: crate::time::Wall::from_unix_millis(1_800_000_000_000),
};
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
    let claims = Claims::new(UserId::new(7), 1_900_000_000, TaskGrant::All);
    Open {
        principal: Principal::new(claims, NOW.wall).ok(),
        ..Open::new(Endpoint::Task(TASK))
    }
}

fn publish(hub: &mut Hub, kind: &str, data: &Payload) {
    let draft = Draft::new(kind.parse().unwrap(), data.clone());
    hub.at(NOW).publish_to_task(TASK, &[], draft).unwrap();
}

/// What a connection was sent: of an event its number twice, of a gap its first and its last one.
#[derive(Default)]
struct Come(Vec<[u64; 2]>);

impl Come {
    fn take(&mut self, text: &str) {
        if text.starts_with(r#"{"type":"system:gap""#) {
            let gap: Value = serde_json::from_str(text).unwrap();
            self.0
                .push(["from", "to"].map(|end| gap["data"][end].as_u64().unwrap()));
        } else if !text.starts_with(r#"{"type":"system:"#) {
            let (_, rooms) = text.split_once(r#""rooms":{"#).unwrap();
            let (room, _) = rooms.split_once('}').unwrap();
            let (_, seq) = room.rsplit_once(':').unwrap();
            self.0.push([seq.parse().unwrap(); 2]);
        }
    }

    /// Each number up to `last`, which is an event, was told once and in its place.
    fn has_all(&self, last: u64) -> bool {
        let mut next = 1..;
        let mut told = self.0.iter();
        let in_place = |[from, to]: &[u64; 2]| (*from..=*to).all(|seq| next.next() == Some(seq));
        told.all(in_place) && self.0.last() == Some(&[last; 2])
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

#[test]
fn a_task_that_is_deleted_while_its_watcher_falls_behind_leaves_no_hole() {
    const STEPS: u32 = 7;
    let data = data();
    // All orders in which so many steps may come before the task is deleted.
    for order in 0..3_u32.pow(STEPS) {
        let mut apart = Apart::new();
        for _ in 0..4 {
            publish(&mut apart.hub, "chat:message", &data);
        }
        apart.obey();
        publish(&mut apart.hub, "chat:message", &data);
        for step in 0..STEPS {
            match order / 3_u32.pow(step) % 3 {
                0 => apart.obey(),
                1 => drop(apart.hear()),
                _ => drop(apart.pull()),
            }
        }
        publish(&mut apart.hub, "task:deleted", &data);
        apart.settle();
        let come = &apart.come;
        assert!(come.has_all(6), "order {order}: {:?}", come.0);
    }
}

#[test]
fn nor_does_one_whose_watcher_the_hub_serves_itself() {
    let data = data();
    for taken in 0..=6 {
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
        for _ in 0..5 {
            publish(&mut hub, "chat:message", &data);
        }
        pull(&mut hub, taken);
        publish(&mut hub, "task:deleted", &data);
        pull(&mut hub, usize::MAX);
        assert!(come.has_all(6), "{taken} taken before: {:?}", come.0);
    }
}
