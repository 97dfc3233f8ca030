//! What was published, as back ends and clients know it: one list a room, and one fact an event.

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
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) epoch: Option<String>,
    pub(crate) events: BTreeMap<u64, Mark>,
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
        Ok(())
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
