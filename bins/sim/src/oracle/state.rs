//! What who joins is told of a task.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Known, Oracle, answered, entered, kept, text};
use crate::history::Seen;

/// A task's room in one numbering.
type Room = (String, String);

/// The state of a task that a connection is told with a position is the one that the last event up to there made.
#[derive(Default)]
pub(super) struct SameMoment {
    /// The types of what was published, by number of the publish.
    published: BTreeMap<u64, String>,
    /// The types of events, by their numbers.
    events: BTreeMap<Room, BTreeMap<u64, String>>,
    /// What was told: position and status. All is known at the end only.
    told: BTreeMap<Room, Vec<(u64, String)>>,
}

impl SameMoment {
    fn learn(&mut self, (room, epoch, seq): (&str, &str, u64), kind: &str) {
        if room.starts_with("task:") {
            let events = self.events.entry((room.to_owned(), epoch.to_owned()));
            events.or_default().insert(seq, kind.to_owned());
        }
    }
}

/// The status that an event of this type makes.
fn status(kind: &str) -> Option<&str> {
    let name = kind.strip_prefix("task:")?;
    (name != "status").then_some(name)
}

impl Oracle for SameMoment {
    fn name(&self) -> &'static str {
        "same_moment"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Publishing { number, body, .. } => {
                let kind = text(body, "/type").to_owned();
                self.published.entry(*number).or_insert(kind);
            }
            Seen::Published { number, body, .. } if !known.is_ephemeral(*number) => {
                let kind = self.published.get(number).cloned().unwrap_or_default();
                for fact in answered(body) {
                    self.learn(fact, &kind);
                }
            }
            Seen::Received { conn, frame } => {
                for (room, at) in entered(frame) {
                    if let Some(status) = at.pointer("/state/status").and_then(Value::as_str) {
                        let key = (room.to_owned(), text(at, "/epoch").to_owned());
                        let seq = at["seq"].as_u64().unwrap_or_default();
                        let told = self.told.entry(key).or_default();
                        told.push((seq, status.to_owned()));
                    }
                }
                for (room, seq) in kept(frame) {
                    let epoch = known.epoch(*conn, room).unwrap_or_default();
                    self.learn((room, epoch, seq), text(frame, "/type"));
                }
            }
            Seen::Found { body, .. } => {
                let (room, epoch) = (text(body, "/room"), text(body, "/epoch"));
                for event in body["events"].as_array().into_iter().flatten() {
                    let seq = event["rooms"][room].as_u64().unwrap_or_default();
                    self.learn((room, epoch, seq), text(event, "/type"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _: &Known) -> Result<(), String> {
        for (key, told) in &self.told {
            let Some(events) = self.events.get(key) else {
                continue;
            };
            for (seq, told) in told {
                // As far back as every number is known.
                let mut next = *seq;
                let before = events.range(..=seq).rev().take_while(|(at, _)| {
                    let follows = **at == next;
                    next = next.saturating_sub(1);
                    follows
                });
                let made = before.map(|(_, kind)| kind).find_map(|kind| status(kind));
                if let Some(made) = made.filter(|made| made != told) {
                    let (room, epoch) = key;
                    return Err(format!(
                        "{room} was told to be {told} at {epoch}:{seq}, and was {made}"
                    ));
                }
            }
        }
        Ok(())
    }
}
