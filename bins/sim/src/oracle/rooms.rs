//! What a connection may see of its rooms, and in which order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{Known, Oracle, answered, entered, kept, rooms, text};
use crate::history::{Conn, Place, Seen};

type InRoom = (Conn, String);

/// In each room and epoch a connection sees rising numbers, and a number is the same event for all who see it or are told of it.
#[derive(Default)]
pub(super) struct Order {
    last: BTreeMap<InRoom, u64>,
}

impl Oracle for Order {
    fn name(&self) -> &'static str {
        "order"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        let (conn, frame) = match seen {
            Seen::Received { conn, frame } => (conn, frame),
            Seen::Published { number, body, .. } if !known.is_ephemeral(*number) => {
                return answered(body)
                    .try_for_each(|fact| is_known(known, fact, text(body, "/id")));
            }
            _ => return Ok(()),
        };
        for (room, _) in entered(frame) {
            self.last.insert((*conn, room.to_owned()), 0);
        }
        if frame["type"] == "system:gap" {
            let room = text(frame, "/data/room");
            let to = frame["data"]["to"].as_u64().unwrap_or_default();
            self.last.insert((*conn, room.to_owned()), to);
        }
        for (room, seq) in kept(frame) {
            let (Some(last), Some(epoch)) = (
                self.last.get_mut(&(*conn, room.to_owned())),
                known.epoch(*conn, room),
            ) else {
                return Err(format!(
                    "came through {room}, into which the connection was not let"
                ));
            };
            if seq <= *last {
                return Err(format!("came as {seq} of {room}, after {last}"));
            }
            *last = seq;
            is_known(known, (room, epoch, seq), text(frame, "/id"))?;
        }
        Ok(())
    }
}

/// Whether it is this event that is known under a number.
fn is_known(known: &Known, fact: (&str, &str, u64), id: &str) -> Result<(), String> {
    match known.fact(fact) {
        Some(first) if first != id => {
            let (room, _, seq) = fact;
            Err(format!("{room} has both {first} and {id} as {seq}"))
        }
        _ => Ok(()),
    }
}

/// What comes next in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Seq(u64),
    /// Only the server knows: a device's cursor.
    Any,
    /// A gap has to be told first.
    Gap,
}

/// The next event of a room is the one after the last, or a gap was told.
#[derive(Default)]
pub(super) struct NoSilentGap {
    named: BTreeMap<Conn, BTreeMap<String, Joins>>,
    next: BTreeMap<InRoom, Next>,
}

/// What was named with each join that no answer came to: its `ref`, and a position.
type Joins = VecDeque<(Value, Option<Place>)>;

impl NoSilentGap {
    fn enters(&mut self, conn: Conn, room: &str, at: &Value) -> Result<(), String> {
        let key = (conn, room.to_owned());
        let rooms = self.named.get_mut(&conn);
        let named = rooms.and_then(|rooms| rooms.get_mut(room)?.pop_front());
        let since = named.and_then(|(_, since)| since);
        let seq = at["seq"].as_u64().unwrap_or_default();
        let epoch = text(at, "/epoch");
        let next = match (at["recovered"].as_bool(), since) {
            (Some(true), Some(since)) if since.epoch != epoch || since.seq > seq => {
                let Place {
                    epoch: of,
                    seq: up_to,
                } = since;
                return Err(format!(
                    "{room} is at {epoch}:{seq}, and {of}:{up_to} is said to be recovered"
                ));
            }
            (None, _) => Next::Seq(seq + 1),
            (Some(true), Some(since)) => Next::Seq(since.seq + 1),
            (Some(true), None) => Next::Any,
            (Some(false), _) => Next::Gap,
        };
        self.next.insert(key, next);
        Ok(())
    }
}

impl Oracle for NoSilentGap {
    fn name(&self) -> &'static str {
        "no_silent_gap"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Opened { conn, since, .. } => {
                for (room, at) in since {
                    let named = VecDeque::from([(Value::Null, Some(at.clone()))]);
                    let rooms = self.named.entry(*conn).or_default();
                    rooms.insert(room.clone(), named);
                }
            }
            Seen::Said { conn, .. } => {
                let op = &known.said;
                if op["op"] == "join" {
                    let since = &op["since"];
                    let since = since["epoch"].as_str().map(|epoch| Place {
                        epoch: epoch.to_owned(),
                        seq: since["seq"].as_u64().unwrap_or_default(),
                    });
                    let rooms = self.named.entry(*conn).or_default();
                    let named = rooms.entry(text(op, "/room").to_owned()).or_default();
                    named.push_back((op["ref"].clone(), since));
                }
            }
            Seen::Received { conn, frame } => return self.received(*conn, frame),
            _ => {}
        }
        Ok(())
    }
}

impl NoSilentGap {
    fn received(&mut self, conn: Conn, frame: &Value) -> Result<(), String> {
        for (room, at) in entered(frame) {
            self.enters(conn, room, at)?;
        }
        match text(frame, "/type") {
            "system:left" => {
                self.next
                    .remove(&(conn, text(frame, "/data/room").to_owned()));
            }
            "system:gap" => {
                let key = (conn, text(frame, "/data/room").to_owned());
                let to = frame["data"]["to"].as_u64().unwrap_or_default();
                self.next.insert(key, Next::Seq(to + 1));
            }
            // A join that let nobody in.
            "system:reply" => {
                let reference = &frame["data"]["ref"];
                for named in self.named.entry(conn).or_default().values_mut() {
                    named.retain(|(known, _)| known.is_null() || known != reference);
                }
            }
            _ => {}
        }
        for (room, seq) in kept(frame) {
            let Some(next) = self.next.get_mut(&(conn, room.to_owned())) else {
                continue;
            };
            match *next {
                Next::Gap => return Err(format!("{room}: {seq} came before the gap was told")),
                Next::Seq(next) if next < seq => {
                    return Err(format!("{room}: {seq} came, and {next} was next"));
                }
                Next::Seq(_) | Next::Any => *next = Next::Seq(seq + 1),
            }
        }
        Ok(())
    }
}

/// Who resumes from a position gets nothing up to it.
#[derive(Default)]
pub(super) struct NoDouble {
    since: BTreeMap<InRoom, Place>,
}

impl Oracle for NoDouble {
    fn name(&self) -> &'static str {
        "no_double"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        match seen {
            Seen::Opened { conn, since, .. } => {
                let since = since.iter().cloned();
                self.since
                    .extend(since.map(|(room, at)| ((*conn, room), at)));
            }
            Seen::Received { conn, frame } => {
                // A position of another epoch, or of the future, says nothing about what comes.
                for (room, at) in entered(frame) {
                    let key = (*conn, room.to_owned());
                    if at["recovered"] == false
                        || at["epoch"] != *self.since.get(&key).map_or("", |it| &it.epoch)
                    {
                        self.since.remove(&key);
                    }
                }
                // Nor does one of before a new epoch.
                if frame["type"] == "system:left" || frame["data"]["reason"] == "epoch" {
                    let room = text(frame, "/data/room").to_owned();
                    self.since.remove(&(*conn, room));
                }
                for (room, seq) in kept(frame) {
                    let since = self.since.get(&(*conn, room.to_owned()));
                    if let Some(since) = since.filter(|since| seq <= since.seq) {
                        return Err(format!("{room}: {seq} came to who has up to {}", since.seq));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// After a room was left, or a goodbye, nothing of it comes.
#[derive(Default)]
pub(super) struct NothingAfterLeaving {
    left: BTreeSet<InRoom>,
    ended: BTreeSet<Conn>,
}

impl Oracle for NothingAfterLeaving {
    fn name(&self) -> &'static str {
        "nothing_after_leaving"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        let Seen::Received { conn, frame } = seen else {
            return Ok(());
        };
        if self.ended.contains(conn) {
            return Err("came after the goodbye".to_owned());
        }
        for (room, _) in entered(frame) {
            self.left.remove(&(*conn, room.to_owned()));
        }
        match text(frame, "/type") {
            "system:left" => {
                self.left
                    .insert((*conn, text(frame, "/data/room").to_owned()));
            }
            "system:goodbye" => {
                self.ended.insert(*conn);
            }
            _ => {}
        }
        for (room, _) in rooms(frame) {
            if self.left.contains(&(*conn, room.to_owned())) {
                return Err(format!("came through {room}, which was left"));
            }
        }
        Ok(())
    }
}

/// When all faults are over and all had time, everybody who is there has everything.
#[derive(Default)]
pub(super) struct Delivered {
    at: BTreeMap<Conn, BTreeMap<String, (String, u64)>>,
    found: BTreeMap<String, (String, u64)>,
}

impl Oracle for Delivered {
    fn name(&self) -> &'static str {
        "delivered"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        match seen {
            Seen::Received { conn, frame } => {
                for (room, at) in entered(frame) {
                    // A replay ends at the head.
                    let seq = if at.get("recovered").is_some() {
                        0
                    } else {
                        at["seq"].as_u64().unwrap_or_default()
                    };
                    let place = (text(at, "/epoch").to_owned(), seq);
                    let at = self.at.entry(*conn).or_default();
                    at.insert(room.to_owned(), place);
                }
                match text(frame, "/type") {
                    "system:gap" => {
                        let data = &frame["data"];
                        let place = (
                            text(data, "/epoch").to_owned(),
                            data["to"].as_u64().unwrap_or_default(),
                        );
                        let at = self.at.entry(*conn).or_default();
                        at.insert(text(data, "/room").to_owned(), place);
                    }
                    "system:left" => {
                        let at = self.at.entry(*conn).or_default();
                        at.remove(text(frame, "/data/room"));
                    }
                    _ => {}
                }
                for (room, seq) in kept(frame) {
                    let at = self.at.get_mut(conn);
                    if let Some((_, at)) = at.and_then(|at| at.get_mut(room)) {
                        *at = seq;
                    }
                }
            }
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                self.at.remove(conn);
            }
            Seen::Found { body, .. } => {
                let place = (
                    text(body, "/epoch").to_owned(),
                    body["seq"].as_u64().unwrap_or_default(),
                );
                self.found.insert(text(body, "/room").to_owned(), place);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, known: &Known) -> Result<(), String> {
        let at = self.at.iter();
        let at = at.flat_map(|(conn, rooms)| rooms.iter().map(move |it| (conn, it)));
        for (conn, (room, (epoch, at))) in at {
            let Some((of, head)) = self.found.get(room) else {
                continue;
            };
            if known.given_up.contains(&conn.device) {
                continue;
            }
            // Who has acknowledged all of it, and came without a position, is told nothing of it.
            if (epoch, at) != (of, head) && *at != 0 {
                return Err(format!(
                    "{conn} is at {epoch}:{at} of {room}, which is at {of}:{head}"
                ));
            }
        }
        Ok(())
    }
}
