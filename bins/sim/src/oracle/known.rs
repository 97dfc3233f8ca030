//! What several judges have to know of a history: the time, in which numbering of a room a connection is, and who is given up.

use std::collections::{BTreeMap, BTreeSet};

use fanfare_core::Time;
use serde_json::Value;

use super::{answered, entered, kept, text};
use crate::history::{Conn, Observation, Seen};
use crate::plan::{Bounds, Keeps};

/// Known up to and with what is seen now.
pub(crate) struct Known {
    pub(super) now: Time,
    /// The server's.
    pub(super) limits: Bounds,
    /// What a client says now, where it is JSON.
    pub(super) said: Value,
    pub(super) keeps: Keeps,
    epochs: BTreeMap<Conn, BTreeMap<String, String>>,
    /// By room and epoch: the id that was seen first under each number.
    facts: Facts,
    ephemeral: BTreeSet<u64>,
    /// Publishes that were sent to the server that runs. An answer to another one is late: it is of a server before.
    asked: BTreeSet<u64>,
    /// Devices whose faults never end. Nothing is owed to them.
    pub(super) given_up: BTreeSet<usize>,
    pub(super) healed: Option<Time>,
}

impl Known {
    pub(super) fn new(limits: Bounds, keeps: Keeps) -> Self {
        Self {
            now: Time::default(),
            limits,
            said: Value::Null,
            keeps,
            epochs: BTreeMap::new(),
            facts: BTreeMap::new(),
            ephemeral: BTreeSet::new(),
            asked: BTreeSet::new(),
            given_up: BTreeSet::new(),
            healed: None,
        }
    }

    pub(super) fn see(&mut self, it: &Observation) {
        self.now = it.time;
        match &it.seen {
            Seen::Said { text, .. } => {
                self.said = serde_json::from_str(text).unwrap_or_default();
            }
            Seen::Received { conn, frame } => {
                for (room, at) in entered(frame) {
                    self.enters(*conn, room, text(at, "/epoch"));
                }
                if frame["type"] == "system:gap" {
                    let room = text(frame, "/data/room");
                    self.enters(*conn, room, text(frame, "/data/epoch"));
                }
                for (room, seq) in kept(frame) {
                    let rooms = self.epochs.get(conn);
                    if let Some(epoch) = rooms.and_then(|rooms| rooms.get(room)) {
                        learn(&mut self.facts, (room, epoch, seq), text(frame, "/id"));
                    }
                }
            }
            Seen::Publishing { number, body, .. } => {
                self.asked.insert(*number);
                if body["ephemeral"] == true {
                    self.ephemeral.insert(*number);
                }
            }
            Seen::Started | Seen::Crashed | Seen::Drained { .. } => self.asked.clear(),
            Seen::Published { number, body, .. } if !self.ephemeral.contains(number) => {
                for fact in answered(body) {
                    learn(&mut self.facts, fact, text(body, "/id"));
                }
            }
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                self.epochs.remove(conn);
            }
            Seen::Healed { given_up } => {
                self.healed = Some(it.time);
                self.given_up.extend(given_up);
            }
            _ => {}
        }
    }

    fn enters(&mut self, conn: Conn, room: &str, epoch: &str) {
        let rooms = self.epochs.entry(conn).or_default();
        match rooms.get_mut(room) {
            Some(known) if known == epoch => {}
            Some(known) => epoch.clone_into(known),
            None => {
                rooms.insert(room.to_owned(), epoch.to_owned());
            }
        }
    }

    /// The id of the event that was the first to be seen under this number.
    pub(super) fn fact(&self, (room, epoch, seq): (&str, &str, u64)) -> Option<&str> {
        let id = self.facts.get(room)?.get(epoch)?.get(&seq)?;
        Some(id)
    }

    /// Whether a user who was idle for long keeps what was unread, and its devices.
    pub(super) fn keeps_inboxes(&self) -> bool {
        self.keeps != Keeps::Memory || self.limits.inbox_bytes >= Bounds::default().inbox_bytes
    }

    /// Whether this publish is of an event that is not kept, and has no number of its own.
    pub(super) fn is_ephemeral(&self, number: u64) -> bool {
        self.ephemeral.contains(&number)
    }

    /// Whether an answer to this publish is of the server that runs.
    pub(super) fn is_asked(&self, number: u64) -> bool {
        self.asked.contains(&number)
    }

    /// The room's epoch of what comes over this connection now.
    pub(super) fn epoch(&self, conn: Conn, room: &str) -> Option<&str> {
        self.epochs.get(&conn)?.get(room).map(String::as_str)
    }
}

type Facts = BTreeMap<String, BTreeMap<String, BTreeMap<u64, String>>>;

fn learn(facts: &mut Facts, (room, epoch, seq): (&str, &str, u64), id: &str) {
    if !facts.contains_key(room) {
        facts.insert(room.to_owned(), BTreeMap::new());
    }
    let Some(epochs) = facts.get_mut(room) else {
        return;
    };
    if !epochs.contains_key(epoch) {
        epochs.insert(epoch.to_owned(), BTreeMap::new());
    }
    if let Some(seqs) = epochs.get_mut(epoch) {
        seqs.entry(seq).or_insert_with(|| id.to_owned());
    }
}
