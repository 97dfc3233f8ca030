//! What a client that ships hands on to its user, over all its connections.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{Known, Oracle, entered, kept, text};
use crate::history::{Place, Seen, Tells};

/// Ids by which a client surely knows an event that comes again.
const RECENT: usize = 1_000;

/// Where a user was told to be in a room.
enum At {
    Seq(u64),
    /// Only the server knows: a device's cursor.
    Any,
    /// A gap has to be told first; also over another connection, where the user was somewhere before.
    Gap {
        owed: bool,
    },
}

/// A client that ships, since it began.
#[derive(Default)]
struct Client {
    places: BTreeMap<String, (String, At)>,
    /// What came over its connection, and was not handed on yet.
    came: VecDeque<Value>,
    recent: VecDeque<String>,
    is_there: bool,
}

impl Client {
    fn begins(since: &[(String, Place)]) -> Self {
        let places = since.iter().map(|(room, at)| {
            let place = (at.epoch.clone(), At::Seq(at.seq));
            (room.clone(), place)
        });
        Self {
            places: places.collect(),
            ..Self::default()
        }
    }

    fn has(&self, frame: &Value) -> bool {
        let id = text(frame, "/id");
        !id.is_empty() && self.recent.iter().any(|recent| recent == id)
    }

    /// Whether its user has this already, by id or by all its numbers.
    fn is_double(&self, frame: &Value) -> bool {
        let mut numbers = kept(frame).peekable();
        let is_kept = numbers.peek().is_some();
        self.has(frame)
            || is_kept
                && numbers.all(|(room, seq)| match self.places.get(room) {
                    Some((_, At::Seq(last))) => seq <= *last,
                    _ => false,
                })
    }

    /// Of what came, it is handed this: all before it was handed on earlier.
    fn handed(&mut self, frame: &Value) -> Result<(), String> {
        loop {
            let came = self.came.pop_front().ok_or("is nothing that came")?;
            if came == *frame {
                break;
            }
            self.left_out(&came)?;
        }
        if self.is_double(frame) {
            return Err("was handed on before".to_owned());
        }
        self.learn(frame)
    }

    /// This was not handed on.
    fn left_out(&mut self, frame: &Value) -> Result<(), String> {
        if !self.is_double(frame) {
            return Err(format!("{frame} came and was not handed on"));
        }
        self.events(frame)
    }

    /// Its connection is lost: what was not handed on comes again, but for doubles that it may know of by now.
    fn lost(&mut self) -> Result<(), String> {
        self.is_there = false;
        for frame in std::mem::take(&mut self.came) {
            if !self.is_double(&frame) {
                break;
            }
            self.events(&frame)?;
        }
        Ok(())
    }

    fn learn(&mut self, frame: &Value) -> Result<(), String> {
        let data = &frame["data"];
        match text(frame, "/type") {
            "system:welcome" if self.is_there => {
                return Err("another connection, and no loss was told".to_owned());
            }
            "system:welcome" => self.is_there = true,
            "system:left" => {
                self.places.remove(text(data, "/room"));
            }
            "system:gap" => self.gap(data)?,
            _ => {}
        }
        for (room, at) in entered(frame) {
            self.enters(room, at)?;
        }
        self.events(frame)
    }

    fn gap(&mut self, data: &Value) -> Result<(), String> {
        let (room, epoch) = (text(data, "/room"), text(data, "/epoch"));
        let (from, to) = (data["from"].as_u64(), data["to"].as_u64());
        if let Some((known, At::Seq(last))) = self.places.get(room)
            && known == epoch
            && from > Some(last + 1)
        {
            return Err(format!("{room}: {last} was the last"));
        }
        let at = At::Seq(to.unwrap_or_default());
        self.places.insert(room.to_owned(), (epoch.to_owned(), at));
        Ok(())
    }

    fn enters(&mut self, room: &str, at: &Value) -> Result<(), String> {
        let (epoch, seq) = (text(at, "/epoch"), at["seq"].as_u64().unwrap_or_default());
        let before = self.places.remove(room);
        let place = match (at["recovered"].as_bool(), before) {
            (None, Some((known, At::Seq(last)))) if known != epoch || last != seq => {
                return Err(format!(
                    "{room}: {known}:{last} was the last, and the client did not say so"
                ));
            }
            (None, Some((_, At::Gap { owed: true }))) => {
                return Err(format!(
                    "{room}: no gap was told, and the client did not say where it was"
                ));
            }
            (None, _) => At::Seq(seq),
            (Some(true), Some((known, place))) if known == epoch => place,
            (Some(true), _) => At::Any,
            (Some(false), before) => At::Gap {
                owed: before
                    .is_some_and(|(_, at)| !matches!(at, At::Any | At::Gap { owed: false })),
            },
        };
        self.places
            .insert(room.to_owned(), (epoch.to_owned(), place));
        Ok(())
    }

    fn events(&mut self, frame: &Value) -> Result<(), String> {
        let id = text(frame, "/id");
        if !id.is_empty() && !self.has(frame) {
            self.recent.push_back(id.to_owned());
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        for (room, seq) in kept(frame) {
            let Some((_, at)) = self.places.get_mut(room) else {
                continue;
            };
            match at {
                At::Gap { .. } => {
                    return Err(format!("{room}: {seq} came before the gap was told"));
                }
                At::Seq(last) if seq > *last + 1 => {
                    return Err(format!("{room}: {seq} came, and {last} was the last"));
                }
                At::Seq(last) => *last = seq.max(*last),
                At::Any => *at = At::Seq(seq),
            }
        }
        Ok(())
    }
}

/// With which code a server says goodbye to who comes when all of a user's places are taken.
const TOO_MANY_CONNECTIONS: u64 = 4_504;

/// A client that ships hands on all that comes, in its order and once, over all its connections; tells each loss; and is
/// there at the end.
#[derive(Default)]
pub(super) struct HandedOn {
    clients: BTreeMap<usize, Client>,
    /// Devices whose task is deleted, or whose user has as many others as there may be.
    kept_out: BTreeSet<usize>,
}

impl Oracle for HandedOn {
    fn name(&self) -> &'static str {
        "handed_on"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        match seen {
            Seen::Received { conn, frame } => {
                if let Some(client) = self.clients.get_mut(&conn.device) {
                    client.came.push_back(frame.clone());
                    if frame["data"]["code"] == TOO_MANY_CONNECTIONS {
                        self.kept_out.insert(conn.device);
                    } else {
                        self.kept_out.remove(&conn.device);
                    }
                }
            }
            Seen::Client { device, tells } => {
                let client = self.clients.entry(*device).or_default();
                match tells {
                    Tells::Begins(since) => {
                        *client = Client::begins(since);
                    }
                    Tells::Message(frame) => return client.handed(frame),
                    Tells::Lost(_) => return client.lost(),
                    Tells::Ends => *client = Client::default(),
                }
            }
            // Its task is deleted: there is nothing to come back to.
            Seen::Refused {
                device,
                status: 410,
            } => {
                self.kept_out.insert(*device);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, known: &Known) -> Result<(), String> {
        for (device, client) in &mut self.clients {
            if known.given_up.contains(device) || self.kept_out.contains(device) {
                continue;
            }
            if !client.is_there {
                return Err(format!("the client of device {device} is not back"));
            }
            for frame in std::mem::take(&mut client.came) {
                client.left_out(&frame)?;
            }
        }
        Ok(())
    }
}
