//! What becomes of what was published.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Known, Oracle, answered, kept, rooms, text};
use crate::history::Seen;
use crate::plan::Keeps;

/// Who gets an event is in one of its rooms, and it is as it was published.
#[derive(Default)]
pub(super) struct NoLeak {
    /// By their marks: type and data.
    published: BTreeMap<u64, (String, Value)>,
    users: BTreeMap<crate::history::Conn, u64>,
}

impl NoLeak {
    fn learn(&mut self, event: &Value) {
        if let Some(mark) = event["data"]["mark"].as_u64() {
            let fact = (text(event, "/type").to_owned(), event["data"].clone());
            self.published.entry(mark).or_insert(fact);
        }
    }
}

impl Oracle for NoLeak {
    fn name(&self) -> &'static str {
        "no_leak"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Opened { conn, user, .. } => {
                self.users.insert(*conn, *user);
            }
            Seen::Publishing { body, .. } => self.learn(body),
            Seen::Said { .. } => self.learn(&known.said),
            Seen::Received { conn, frame } => {
                let own = self.users.get(conn).map(|user| format!("user:{user}"));
                for (room, _) in rooms(frame) {
                    if room.starts_with("user:") && own.as_deref() != Some(room) {
                        return Err(format!("came through {room} to another user"));
                    }
                    let to = &frame["data"]["to"];
                    if to
                        .as_array()
                        .is_some_and(|to| !to.iter().any(|it| it == room))
                    {
                        return Err(format!("came through {room}, and was published to {to}"));
                    }
                }
                if let Some(mark) = frame["data"]["mark"].as_u64() {
                    let fact = self.published.get(&mark);
                    let (kind, data) = fact.ok_or("nobody published this")?;
                    if frame["type"] != **kind || frame["data"] != *data {
                        return Err(format!("is not what was published: {kind} {data}"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Room, epoch and number.
type Places = BTreeMap<String, (String, u64)>;

/// What was answered to a publish: where its event is, whether it was new, and of which content.
struct Answer {
    places: Places,
    is_first: bool,
    content: String,
}

/// One id is one event: every retry is told the first, and nobody gets it as another. The ids of events that are not kept end with
/// the server.
#[derive(Default)]
pub(super) struct NotDoubled {
    /// Of events that are not kept.
    fleeting: BTreeSet<String>,
    /// By its id: what answers said, and whether one of them was the first. A server without a store knows no id of before
    /// its start, and a room that begins anew has other numbers.
    answers: BTreeMap<String, Vec<Answer>>,
    /// By number of the publish: its content.
    contents: BTreeMap<u64, String>,
    /// By room, epoch and id.
    seqs: BTreeMap<(String, String, String), u64>,
}

impl NotDoubled {
    fn answered(&mut self, number: u64, body: &Value, keeps: Keeps) -> Result<(), String> {
        let rooms = body["rooms"].as_object().into_iter().flatten();
        let places: Places = rooms
            .map(|(room, at)| {
                let seq = at["seq"].as_u64().unwrap_or_default();
                (room.clone(), (text(at, "/epoch").to_owned(), seq))
            })
            .collect();
        let is_first = body["duplicate"] != true;
        // An answer that was on its way when the disk was renewed is of what is gone.
        let Some(content) = self.contents.get(&number).cloned() else {
            return Ok(());
        };
        let known = self
            .answers
            .entry(text(body, "/id").to_owned())
            .or_default();
        let same_epoch = |other: &Answer| {
            // What is on the disk knows all ids, whatever began anew.
            if keeps == Keeps::Immediate {
                return true;
            }
            let mut rooms = places.iter();
            rooms.any(|(room, (epoch, _))| {
                let other = other.places.get(room);
                other.is_some_and(|(of, _)| of == epoch)
            })
        };
        match known.iter_mut().find(|other| same_epoch(other)) {
            Some(other) if other.places != places => Err(format!("was {:?} before", other.places)),
            Some(other) if other.content != content => {
                Err(format!("was taken before, with {}", other.content))
            }
            Some(other) if is_first && other.is_first => Err("was new before".to_owned()),
            Some(other) => {
                other.is_first |= is_first;
                Ok(())
            }
            None => {
                known.push(Answer {
                    places,
                    is_first,
                    content,
                });
                Ok(())
            }
        }
    }
}

impl Oracle for NotDoubled {
    fn name(&self) -> &'static str {
        "not_doubled"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::DiskRenewed => {
                self.answers.clear();
                self.contents.clear();
            }
            Seen::Publishing { number, body, .. } => {
                self.contents
                    .entry(*number)
                    .or_insert_with(|| body.to_string());
            }
            Seen::Started => {
                for id in std::mem::take(&mut self.fleeting) {
                    self.answers.remove(&id);
                }
            }
            Seen::Published {
                number,
                status: 200,
                body,
            } if body["id"].is_string() => {
                if known.is_ephemeral(*number) {
                    if !known.is_asked(*number) {
                        return Ok(());
                    }
                    self.fleeting.insert(text(body, "/id").to_owned());
                }
                return self.answered(*number, body, known.keeps);
            }
            Seen::Received { conn, frame } => {
                for (room, seq) in kept(frame) {
                    let epoch = known.epoch(*conn, room).unwrap_or_default();
                    let id = text(frame, "/id").to_owned();
                    let key = (room.to_owned(), epoch.to_owned(), id);
                    let known = *self.seqs.entry(key).or_insert(seq);
                    if known != seq {
                        return Err(format!("{room} has it as {known} and as {seq}"));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What was answered with 200 is in the history of its rooms, as long as these keep it and their epoch.
#[derive(Default)]
pub(super) struct Kept {
    /// By room and epoch: number and id.
    answered: BTreeMap<(String, String), BTreeMap<u64, String>>,
}

impl Oracle for Kept {
    fn name(&self) -> &'static str {
        "kept"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Published {
                number,
                status: 200,
                body,
            } if !known.is_ephemeral(*number) => {
                for (room, epoch, seq) in answered(body) {
                    let key = (room.to_owned(), epoch.to_owned());
                    let id = text(body, "/id").to_owned();
                    self.answered.entry(key).or_default().insert(seq, id);
                }
            }
            Seen::Found { body, .. } => {
                let key = (
                    text(body, "/room").to_owned(),
                    text(body, "/epoch").to_owned(),
                );
                let Some(answered) = self.answered.get_mut(&key) else {
                    return Ok(());
                };
                let head = body["seq"].as_u64().unwrap_or_default();
                if let Some((beyond, id)) = answered.range(head + 1..).next() {
                    return Err(format!(
                        "{} ends at {head}, and {id} was answered as {beyond}",
                        key.0
                    ));
                }
                for event in body["events"].as_array().into_iter().flatten() {
                    let seq = event["rooms"][&key.0].as_u64().unwrap_or_default();
                    let id = text(event, "/id");
                    if let Some(known) = answered.get(&seq).filter(|known| *known != id) {
                        return Err(format!(
                            "{} has {id} as {seq}, and {known} was answered",
                            key.0
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A task ends once.
#[derive(Default)]
pub(super) struct Terminal {
    /// By room and epoch: the events that ended it, by their numbers.
    ended: BTreeMap<(String, String), BTreeMap<u64, String>>,
}

impl Oracle for Terminal {
    fn name(&self) -> &'static str {
        "terminal"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        let Seen::Found { body, .. } = seen else {
            return Ok(());
        };
        let key = (
            text(body, "/room").to_owned(),
            text(body, "/epoch").to_owned(),
        );
        for event in body["events"].as_array().into_iter().flatten() {
            let kind = text(event, "/type");
            if matches!(kind, "task:completed" | "task:failed" | "task:cancelled")
                && let Some(seq) = event["rooms"][&key.0].as_u64()
                && key.0.starts_with("task:")
            {
                let ended = self.ended.entry(key.clone()).or_default();
                ended.insert(seq, kind.to_owned());
                if ended.len() > 1 {
                    return Err(format!("{} ended more than once: {ended:?}", key.0));
                }
            }
        }
        Ok(())
    }
}
