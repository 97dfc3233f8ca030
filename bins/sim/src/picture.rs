//! A run as one page: time across, nodes down, messages as arrows. The page needs no network.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "most of what is seen or passes has no place in a picture"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;

use fanfare_core::{Effect, Input, Pull, Time};
use fanfare_websocket::Passes;
use serde_json::{Value, json};

use crate::history::{Conn, Observation, Seen};
use crate::names::Names;
use crate::plan::{Fault, Plan, Step};
use crate::world::{self, Report};
use crate::{trace, verdict};

const PAGE: &str = include_str!("picture/page.html");
/// The lanes above those of the devices.
const BACK_ENDS: usize = 0;
const SERVER: usize = 1;
const DEVICES: usize = 2;

/// Something that the server got or gave, of one of its connections or publishes.
enum Passed {
    Said(String, String),
    Pulled(String, String),
    Published(u64, String),
    Answered(u64),
}

/// Runs a plan, and writes its picture. `told` are the lines of its steps.
pub(crate) fn write(plan: &Plan, told: &[String], file: &Path) -> std::io::Result<()> {
    let passed = Rc::new(RefCell::new(Vec::new()));
    let witness = {
        let passed = Rc::clone(&passed);
        Rc::new(move |at: Time, passes: Passes<'_>| {
            let it = match passes {
                Passes::Input(Input::Message { conn, text }) => {
                    Passed::Said(conn.to_string(), text.clone())
                }
                Passes::Input(Input::Publish { ticket, publish }) => {
                    Passed::Published(ticket.0, publish.draft.data.as_str().to_owned())
                }
                // It has no data, and no ticket.
                Passes::Input(Input::Disconnect { .. }) => {
                    Passed::Published(u64::MAX, Value::Null.to_string())
                }
                Passes::Effect(Effect::Published { ticket, .. }) => Passed::Answered(ticket.0),
                Passes::Pull(conn, Pull::Frame(frame)) => {
                    Passed::Pulled(conn.to_string(), frame.text().to_owned())
                }
                _ => return,
            };
            passed.borrow_mut().push((at.as_millis(), it));
        })
    };
    let mut seen = Vec::new();
    let report = world::watched(plan, &mut |it| seen.push(it.clone()), Some(witness));
    let passed = passed.take();
    let picture = Picture::new(plan, &seen, passed);
    let data = picture.data(plan, &report, told);
    // A tag or a comment would be one wherever it stands.
    let data = data.to_string().replace('<', "\\u003c");
    std::fs::write(file, PAGE.replacen("\"DATA\"", &data, 1))
}

/// A connection in one life of the server.
type Inside = (usize, String);

struct Picture<'p> {
    names: Names,
    seen: &'p [Observation],
    /// When each life of the server began.
    lives: Vec<u64>,
    /// What the server wrote to each connection, and heard of it, in order: when, and what.
    pulled: BTreeMap<Inside, VecDeque<(u64, String)>>,
    heard: BTreeMap<Inside, VecDeque<(u64, String)>>,
    /// Publishes as they came to the server: when, what, and when they were answered.
    published: VecDeque<(u64, String, Option<u64>)>,
    /// The connections of devices inside the server.
    inside: BTreeMap<Conn, Inside>,
    messages: Vec<Value>,
    spans: Vec<Value>,
    marks: Vec<Value>,
}

impl<'p> Picture<'p> {
    fn new(plan: &Plan, seen: &'p [Observation], passed: Vec<(u64, Passed)>) -> Self {
        let starts = seen.iter().filter(|it| matches!(it.seen, Seen::Started));
        let mut picture = Self {
            names: Names::new(plan),
            seen,
            lives: starts.map(|it| it.time.as_millis()).collect(),
            pulled: BTreeMap::new(),
            heard: BTreeMap::new(),
            published: VecDeque::new(),
            inside: BTreeMap::new(),
            messages: Vec::new(),
            spans: Vec::new(),
            marks: Vec::new(),
        };
        let mut tickets: BTreeMap<(usize, u64), usize> = BTreeMap::new();
        for (at, it) in passed {
            let life = picture.lives.partition_point(|start| *start <= at);
            match it {
                Passed::Pulled(conn, text) => {
                    let to = picture.pulled.entry((life, conn)).or_default();
                    to.push_back((at, text));
                }
                Passed::Said(conn, text) => {
                    let of = picture.heard.entry((life, conn)).or_default();
                    of.push_back((at, text));
                }
                Passed::Published(ticket, data) => {
                    tickets.insert((life, ticket), picture.published.len());
                    picture.published.push_back((at, data, None));
                }
                Passed::Answered(ticket) => {
                    let number = tickets.get(&(life, ticket));
                    if let Some(it) = number.and_then(|it| picture.published.get_mut(*it)) {
                        it.2 = Some(at);
                    }
                }
            }
        }
        picture
    }

    fn data(mut self, plan: &Plan, report: &Report, told: &[String]) -> Value {
        let seen = self.seen;
        for it in seen {
            self.see(it.time.as_millis(), &it.seen);
        }
        self.lost();
        let end = report.simulated_ms;
        self.times(end);
        self.steps(plan, report.taken, end);
        let mut nodes = vec!["back ends".to_owned(), "server".to_owned()];
        let devices = 0..plan.world.devices.len();
        nodes.extend(devices.map(|device| self.names.device(device).to_owned()));
        let steps = plan.steps.iter().zip(told).take(report.taken);
        let steps: Vec<Value> = steps
            .map(|(timed, line)| json!([timed.at_ms, line]))
            .collect();
        let failure = report.failure.as_ref().map(|failure| {
            let words = verdict::story(plan, report, failure, told);
            let device = report.last.as_ref().and_then(|it| it.seen.device());
            json!({"at": end, "name": failure.name(), "words": words, "node": device.map(|it| it + DEVICES)})
        });
        let (messages, spans, marks) = (self.messages, self.spans, self.marks);
        json!({
            "seed": plan.seed, "end": end, "healed": plan.world.faults_ms, "nodes": nodes, "steps": steps,
            "failure": failure, "messages": messages, "spans": spans, "marks": marks,
        })
    }

    fn see(&mut self, at: u64, seen: &Seen) {
        match seen {
            Seen::Received { conn, frame } => self.received(at, *conn, frame),
            Seen::Said { conn, text } => {
                let inside = self
                    .inside
                    .get(conn)
                    .and_then(|inside| self.heard.get_mut(inside));
                let heard = inside.and_then(|heard| {
                    let is_next = heard.front().is_some_and(|(_, known)| known == text);
                    is_next.then(|| heard.pop_front()).flatten()
                });
                let heard = heard.map(|(at, _)| at);
                let (label, from) = (trace::said(text), conn.device + DEVICES);
                self.message((Some(at), from), (heard, SERVER), &label, text, "said");
            }
            Seen::Publishing { number, body, .. } => {
                let data = body["data"].to_string();
                let mut published = self.published.iter();
                let came = published.position(|(when, known, _)| *when >= at && *known == data);
                let came = came.and_then(|number| self.published.remove(number));
                let what = body["type"].as_str().unwrap_or("disconnects");
                let label = format!("publish {number} {what}");
                let (when, answered) =
                    came.map_or((None, None), |(at, _, answered)| (Some(at), answered));
                let detail = body.to_string();
                self.message(
                    (Some(at), BACK_ENDS),
                    (when, SERVER),
                    &label,
                    &detail,
                    "publish",
                );
                if let Some(answered) = answered {
                    let label = format!("answer to publish {number}");
                    let back = self.answer(*number, answered);
                    self.message(
                        (Some(answered), SERVER),
                        (back, BACK_ENDS),
                        &label,
                        "",
                        "answer",
                    );
                }
            }
            Seen::Published { number, status, .. } if *status != 200 => {
                let label = format!("publish {number}: {status}");
                self.mark(BACK_ENDS, at, "refused", &label, "");
            }
            Seen::Unanswered { number } => {
                self.mark(
                    BACK_ENDS,
                    at,
                    "lost",
                    &format!("publish {number} has no answer"),
                    "",
                );
            }
            Seen::Fault { name, device } => {
                let node = device.map_or(SERVER, |device| device + DEVICES);
                self.mark(node, at, "fault", name, "");
            }
            Seen::Refused { device, status } => {
                self.mark(
                    device + DEVICES,
                    at,
                    "refused",
                    &format!("refused: {status}"),
                    "",
                );
            }
            Seen::Opened { conn, since, .. } => {
                let since: Vec<String> = since
                    .iter()
                    .map(|(room, at)| format!("{room}@{}:{}", at.epoch, at.seq))
                    .collect();
                let label = format!("opens connection {}", conn.number);
                self.mark(
                    conn.device + DEVICES,
                    at,
                    "opened",
                    &label,
                    &since.join(" "),
                );
            }
            Seen::Closed { conn, code } => {
                let code = code.map_or_else(|| "lost".to_owned(), |code| format!("closed: {code}"));
                self.mark(conn.device + DEVICES, at, "closed", &code, "");
            }
            Seen::Leaves { conn } => self.mark(conn.device + DEVICES, at, "closed", "leaves", ""),
            _ => {}
        }
    }

    /// When a publisher has the answer that the server gave at some time.
    fn answer(&self, number: u64, given: u64) -> Option<u64> {
        let answers = self.seen.iter().filter(|it| match it.seen {
            Seen::Published { number: of, .. } => of == number,
            _ => false,
        });
        let mut times = answers.map(|it| it.time.as_millis());
        times.find(|at| *at >= given)
    }

    fn received(&mut self, at: u64, conn: Conn, frame: &Value) {
        let named = frame["data"]["conn"]
            .as_str()
            .filter(|_| frame["type"] == "system:welcome");
        if let Some(inside) = named {
            // Of the lives that had such a connection, the last one that can have said this.
            let mut life = self.pulled.iter().filter(|((_, of), pulled)| {
                of == inside && pulled.front().is_some_and(|(when, _)| *when <= at)
            });
            if let Some(((life, _), _)) = life.next_back() {
                self.inside.insert(conn, (*life, inside.to_owned()));
            }
        }
        let pulled = self
            .inside
            .get(&conn)
            .and_then(|inside| self.pulled.get_mut(inside));
        let pulled = pulled.and_then(VecDeque::pop_front).map(|(at, _)| at);
        let (label, to) = (trace::received(frame), conn.device + DEVICES);
        let kind = if label.starts_with("gap") {
            "gap"
        } else {
            "frame"
        };
        self.message(
            (pulled.or(Some(at)), SERVER),
            (Some(at), to),
            &label,
            &frame.to_string(),
            kind,
        );
    }

    /// What the server wrote and nobody received.
    fn lost(&mut self) {
        let inside: Vec<(Conn, Inside)> = self
            .inside
            .iter()
            .map(|(conn, inside)| (*conn, inside.clone()))
            .collect();
        for (conn, inside) in inside {
            for (at, text) in self.pulled.remove(&inside).unwrap_or_default() {
                let frame: Value = serde_json::from_str(&text).unwrap_or_default();
                let label = trace::received(&frame);
                self.message(
                    (Some(at), SERVER),
                    (None, conn.device + DEVICES),
                    &label,
                    &text,
                    "lost",
                );
            }
        }
    }

    fn message(
        &mut self,
        (from, sender): (Option<u64>, usize),
        (to, receiver): (Option<u64>, usize),
        label: &str,
        detail: &str,
        kind: &str,
    ) {
        let (label, detail) = (self.names.shorten(label), self.names.shorten(detail));
        self.messages
            .push(json!([from, sender, to, receiver, label, detail, kind]));
    }

    fn mark(&mut self, node: usize, at: u64, kind: &str, label: &str, detail: &str) {
        let (label, detail) = (self.names.shorten(label), self.names.shorten(detail));
        self.marks.push(json!([node, at, kind, label, detail]));
    }

    fn span(&mut self, node: usize, from: u64, to: u64, kind: &str, label: &str) {
        self.spans.push(json!([node, from, to, kind, label]));
    }

    /// When devices were connected, and when there was no server.
    fn times(&mut self, end: u64) {
        let mut open: BTreeMap<Conn, u64> = BTreeMap::new();
        let mut down: Option<(u64, &str)> = None;
        for it in self.seen {
            let at = it.time.as_millis();
            match &it.seen {
                Seen::Opened { conn, .. } => {
                    open.insert(*conn, at);
                }
                Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                    if let Some(from) = open.remove(conn) {
                        self.span(conn.device + DEVICES, from, at, "connected", "connected");
                    }
                }
                Seen::Crashed => down = Some((at, "crashed")),
                Seen::Drains => down = down.or(Some((at, "drains"))),
                Seen::Started => {
                    if let Some((from, label)) = down.take() {
                        self.span(SERVER, from, at, label, label);
                    }
                }
                _ => {}
            }
        }
        for (conn, from) in open {
            self.span(conn.device + DEVICES, from, end, "connected", "connected");
        }
        if let Some((from, label)) = down {
            self.span(SERVER, from, end, label, label);
        }
    }

    /// What steps say of how long something lasts.
    fn steps(&mut self, plan: &Plan, taken: usize, end: u64) {
        let mut silent: BTreeMap<usize, u64> = BTreeMap::new();
        for timed in plan.steps.iter().take(taken) {
            let at = timed.at_ms;
            match &timed.step {
                Step::Break { device, how } => {
                    let until = match how {
                        Fault::Stall { for_ms, .. } => at + for_ms,
                        // Until the device has given the line up.
                        _ => self.closed_after(*device, at).unwrap_or(end),
                    };
                    let name = crate::fault::name(&timed.step).unwrap_or("fault");
                    self.span(device + DEVICES, at, until.min(end), "fault", name);
                }
                Step::StopReading { device } => {
                    silent.entry(*device).or_insert(at);
                }
                Step::ResumeReading { device } => {
                    if let Some(from) = silent.remove(device) {
                        self.span(device + DEVICES, from, at, "silent", "does not read");
                    }
                }
                Step::Pause { for_ms } => {
                    self.span(SERVER, at, (at + for_ms).min(end), "fault", "pause");
                }
                _ => {}
            }
        }
        for (device, from) in silent {
            let until = plan.world.faults_ms.min(end).max(from);
            self.span(device + DEVICES, from, until, "silent", "does not read");
        }
    }

    fn closed_after(&self, device: usize, at: u64) -> Option<u64> {
        let closed = self.seen.iter().find(|it| match it.seen {
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                conn.device == device && it.time.as_millis() >= at
            }
            _ => false,
        });
        closed.map(|it| it.time.as_millis())
    }
}
