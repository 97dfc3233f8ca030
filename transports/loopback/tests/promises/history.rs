//! What was published, as back ends and clients know it: one list a room, and one fact an event.

use crate::plan::USER_LOG;
use fanfare_core::RoomId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An event is known by the number in its data.
pub(crate) type Mark = u64;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fact {
    pub(crate) kind: String,
    pub(crate) data: Value,
    pub(crate) from: Option<String>,
    pub(crate) ephemeral: bool,
    pub(crate) rooms: BTreeSet<RoomId>,
    pub(crate) id: String,
    pub(crate) notifies: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) epoch: Option<String>,
    pub(crate) events: BTreeMap<u64, Mark>,
    /// Notifications that the user has not read.
    pub(crate) unread: BTreeSet<u64>,
    /// How many of them are unread and kept after each event.
    pub(crate) counts: BTreeMap<u64, u64>,
    pub(crate) deleted: bool,
}

impl Room {
    pub(crate) fn head(&self) -> u64 {
        self.events.keys().next_back().copied().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) facts: BTreeMap<Mark, Fact>,
    pub(crate) rooms: BTreeMap<RoomId, Room>,
}

impl History {
    pub(crate) fn room(&mut self, room: RoomId) -> &mut Room {
        self.rooms.entry(room).or_default()
    }

    /// *Order*: all who see it agree which event has this number.
    pub(crate) fn number(&mut self, room: RoomId, seq: u64, mark: Mark) -> Result<(), String> {
        let known = self.room(room);
        let new = !known.events.contains_key(&seq);
        if new && seq != known.head() + 1 {
            return Err(format!("{room} went from {} to {seq}", known.head()));
        }
        let at_seq = *known.events.entry(seq).or_insert(mark);
        if at_seq != mark {
            return Err(format!("{room} has both {at_seq} and {mark} as {seq}"));
        }
        let before = known.events.range(..seq).next_back();
        if before.is_some_and(|(_, other)| *other >= mark) {
            return Err(format!(
                "{room}: {mark} came before {before:?} and stands after it"
            ));
        }
        if new && matches!(room, RoomId::User(_)) {
            self.count(room, seq, mark);
        }
        Ok(())
    }

    fn count(&mut self, room: RoomId, seq: u64, mark: Mark) {
        let Some(fact) = self.facts.get(&mark).cloned() else {
            return;
        };
        let facts = &self.facts;
        let known = self.rooms.entry(room).or_default();
        if fact.notifies {
            known.unread.insert(seq);
        }
        if fact.kind == "inbox:read" {
            let events = &known.events;
            known
                .unread
                .retain(|seq| !is_read(&fact.data, *seq, facts, events));
        }
        let unread = known.unread.iter().filter(|other| **other + USER_LOG > seq);
        known.counts.insert(seq, unread.count() as u64);
    }

    /// What the user of this room has not read now.
    pub(crate) fn unread(&mut self, room: RoomId) -> u64 {
        let known = self.room(room);
        known.counts.get(&known.head()).copied().unwrap_or_default()
    }

    /// The store's epoch of a room does not change while nothing is lost.
    pub(crate) fn epoch(&mut self, room: RoomId, epoch: &str) -> Result<(), String> {
        let known = self
            .room(room)
            .epoch
            .get_or_insert_with(|| epoch.to_owned());
        if known == epoch {
            return Ok(());
        }
        Err(format!("{room} changed from epoch {known} to {epoch}"))
    }

    pub(crate) fn newest(&self) -> Mark {
        self.facts.keys().next_back().copied().unwrap_or_default()
    }

    pub(crate) fn seq_of(&self, room: RoomId, mark: Mark) -> Option<u64> {
        let events = &self.rooms.get(&room)?.events;
        let found = events.iter().rev().find(|(_, other)| **other == mark);
        found.map(|(seq, _)| *seq)
    }
}

fn is_read(
    data: &Value,
    seq: u64,
    facts: &BTreeMap<Mark, Fact>,
    events: &BTreeMap<u64, Mark>,
) -> bool {
    if let Some(up_to) = data["up_to"].as_u64() {
        return seq <= up_to;
    }
    let id = events.get(&seq).and_then(|mark| facts.get(mark));
    let ids = data["ids"].as_array();
    ids.is_some_and(|ids| ids.iter().any(|it| it.as_str() == id.map(|fact| &*fact.id)))
}
