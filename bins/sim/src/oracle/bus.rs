//! What back ends get that listen to the bus.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Known, Oracle, kept, rooms, text};
use crate::history::{Hears, Seen};

/// A connection to the bus.
#[derive(Default)]
struct Listening {
    is_welcomed: bool,
    /// By room: the number that came last, or that a gap was told up to.
    last: BTreeMap<String, u64>,
    ids: BTreeSet<String>,
}

/// Who listens to the bus gets every event of every room, once, in order, with all its rooms; what it was too slow for is told.
#[derive(Default)]
pub(super) struct OnBus {
    listening: BTreeMap<usize, Listening>,
    all: BTreeSet<usize>,
    found: BTreeMap<String, u64>,
}

impl Listening {
    fn hears(&mut self, frame: &Value) -> Result<(), String> {
        let data = &frame["data"];
        match text(frame, "/type") {
            "system:welcome" if !self.is_welcomed => self.is_welcomed = true,
            // It came while the server drained.
            "system:goodbye" => {}
            _ if !self.is_welcomed => return Err("came before the welcome".to_owned()),
            "system:gap" => {
                let number = |field: &str| data[field].as_u64().unwrap_or_default();
                let (from, to, room) = (number("from"), number("to"), text(data, "/room"));
                self.follows(room, from)?;
                if from > to {
                    return Err(format!("{room}: a gap from {from} to {to}"));
                }
                self.last.insert(room.to_owned(), to);
            }
            kind if kind.starts_with("system:") => {}
            _ => self.event(frame)?,
        }
        Ok(())
    }

    /// Rooms that were forgotten, or whose task was deleted, begin anew with 1.
    fn follows(&self, room: &str, seq: u64) -> Result<(), String> {
        match self.last.get(room) {
            Some(last) if seq != last + 1 && seq != 1 => {
                Err(format!("{room}: {seq} came, and {} was next", last + 1))
            }
            _ => Ok(()),
        }
    }

    fn event(&mut self, frame: &Value) -> Result<(), String> {
        if let Some(to) = frame["data"]["to"].as_array() {
            let to: BTreeSet<&str> = to.iter().filter_map(Value::as_str).collect();
            let of: BTreeSet<&str> = rooms(frame).map(|(room, _)| room).collect();
            if of != to {
                return Err(format!("names {of:?}, and was published to {to:?}"));
            }
        }
        if frame["ephemeral"] != true && !self.ids.insert(text(frame, "/id").to_owned()) {
            return Err(format!("{} came twice", text(frame, "/id")));
        }
        for (room, seq) in kept(frame) {
            self.follows(room, seq)?;
            self.last.insert(room.to_owned(), seq);
        }
        Ok(())
    }
}

impl Oracle for OnBus {
    fn name(&self) -> &'static str {
        "on_bus"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        match seen {
            Seen::Bus { listener, hears } => match hears {
                Hears::Begins => {
                    self.all.insert(*listener);
                    self.listening.insert(*listener, Listening::default());
                }
                Hears::Frame(frame) => {
                    if let Some(listening) = self.listening.get_mut(listener) {
                        listening.hears(frame)?;
                    }
                }
                Hears::Ends => {
                    self.listening.remove(listener);
                }
            },
            Seen::Found { body, .. } => {
                let seq = body["seq"].as_u64().unwrap_or_default();
                self.found.insert(text(body, "/room").to_owned(), seq);
            }
            _ => {}
        }
        Ok(())
    }

    /// Everybody who listened once is there, and has all that came of the rooms that it knows.
    fn end(&mut self, _: &Known) -> Result<(), String> {
        for listener in &self.all {
            let Some(listening) = self.listening.get(listener) else {
                return Err(format!("back end {listener} on the bus is not there"));
            };
            for (room, last) in &listening.last {
                match self.found.get(room) {
                    // At 0 it was forgotten, or its task was deleted, and nothing came since.
                    Some(head) if *head > 0 && head != last => {
                        return Err(format!(
                            "back end {listener} on the bus is at {last} of {room}, which is at {head}"
                        ));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::tests::judged_at;
    use serde_json::json;

    fn hears(hears: Hears) -> Seen {
        Seen::Bus { listener: 1, hears }
    }

    fn event(seq: u64, id: &str) -> Seen {
        hears(Hears::Frame(
            json!({"type": "note:added", "at": "now", "id": id, "rooms": {"user:7": seq}, "data": {"to": ["user:7"]}}),
        ))
    }

    fn gap(from: u64, to: u64) -> Seen {
        hears(Hears::Frame(
            json!({"type": "system:gap", "data": {"room": "user:7", "epoch": "e", "from": from, "to": to, "reason": "slow"}}),
        ))
    }

    fn of_rooms(rooms: &Value) -> Seen {
        hears(Hears::Frame(
            json!({"type": "note:added", "at": "now", "id": "x", "rooms": rooms, "data": {"to": ["user:7"]}}),
        ))
    }

    fn found(seq: u64) -> Seen {
        Seen::Found {
            path: "/v1/users/7/events".to_owned(),
            body: json!({"room": "user:7", "epoch": "e", "seq": seq}),
        }
    }

    #[test]
    fn it_complains_of_what_was_lost_doubled_or_told_of_other_rooms() {
        let both = json!({"user:7": 6, "user:8": 1});
        let cases = [
            (None, vec![event(5, "a"), event(6, "b"), found(6)]),
            (
                None,
                vec![event(5, "a"), gap(6, 8), event(9, "b"), found(9)],
            ),
            (None, vec![gap(6, 8), event(9, "b")]),
            (None, vec![event(5, "a"), found(0)]),
            (None, vec![event(5, "a"), event(1, "b"), found(1)]),
            (Some("lost"), vec![event(5, "a"), event(7, "b")]),
            (Some("lost before a gap"), vec![event(5, "a"), gap(7, 8)]),
            (Some("backwards"), vec![event(5, "a"), event(4, "b")]),
            (Some("twice"), vec![event(1, "a"), event(1, "a")]),
            (Some("no gap"), vec![gap(7, 6)]),
            (Some("another room"), vec![event(5, "a"), of_rooms(&both)]),
            (Some("no room"), vec![of_rooms(&json!({}))]),
            (Some("late"), vec![event(5, "a"), found(6)]),
            (Some("gone"), vec![event(5, "a"), hears(Hears::Ends)]),
        ];
        let welcome = json!({"type": "system:welcome", "data": {"conn": "c"}});
        for (what, history) in cases {
            let before = [Hears::Begins, Hears::Frame(welcome.clone())].map(hears);
            let all = before.into_iter().chain(history).map(|seen| (0, seen));
            assert_eq!(judged_at(all.collect()), what.map(|_| "on_bus"), "{what:?}");
        }
        let unwelcome = [hears(Hears::Begins), event(1, "a")].map(|seen| (0, seen));
        assert_eq!(judged_at(unwelcome.to_vec()), Some("on_bus"));
    }
}
