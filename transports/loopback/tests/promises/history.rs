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
    /// After each event: the notifications that are kept and that the user has not read.
    unread: BTreeMap<u64, BTreeSet<u64>>,
    pub(crate) deleted: bool,
    /// How far it was looked through, and the last place in the order of all up to there.
    settled: (u64, usize),
}

impl Room {
    pub(crate) fn head(&self) -> u64 {
        self.events.keys().next_back().copied().unwrap_or_default()
    }

    /// What the user of this room had not read after the event of this number.
    pub(crate) fn unread(&self, seq: u64) -> BTreeSet<u64> {
        self.unread.get(&seq).cloned().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) facts: BTreeMap<Mark, Fact>,
    pub(crate) rooms: BTreeMap<RoomId, Room>,
    /// The place of each event in the order of all, from 1, where somebody saw it.
    pub(crate) places: BTreeMap<Mark, usize>,
    /// What was not kept, and published anew under an id that a restart forgot.
    pub(crate) anew: BTreeSet<Mark>,
    /// With a store: how far rooms go of which something was said to be trimmed, before that was seen.
    pub(crate) coming: Option<Vec<(RoomId, u64)>>,
}

impl History {
    pub(crate) fn room(&mut self, room: RoomId) -> &mut Room {
        self.rooms.entry(room).or_default()
    }

    /// *Order*: all who see it agree which event has this number.
    pub(crate) fn number(&mut self, room: RoomId, seq: u64, mark: Mark) -> Result<(), String> {
        let at_seq = *self.room(room).events.entry(seq).or_insert(mark);
        if at_seq == mark {
            return Ok(());
        }
        Err(format!("{room} has both {at_seq} and {mark} as {seq}"))
    }

    /// All that can be known of a moment is: no number is missing, and each room has the order of all.
    pub(crate) fn settle(&mut self) -> Result<(), String> {
        let rooms: Vec<RoomId> = self.rooms.keys().copied().collect();
        for room in rooms {
            let known = self.room(room);
            let (head, (settled, _)) = (known.head(), known.settled);
            for seq in settled + 1..=head {
                let known = self.room(room);
                let mark = *known.events.get(&seq).ok_or_else(|| {
                    format!(
                        "{room} has no {seq}, and stands at {head}: {:?}",
                        known.events
                    )
                })?;
                let place = self.places.get(&mark).copied();
                let known = self.room(room);
                let before = known.settled.1;
                if place.is_some_and(|place| place <= before) {
                    return Err(format!(
                        "{room}: {mark} as {seq} is out of the order of all"
                    ));
                }
                known.settled = (seq, place.unwrap_or(before));
                self.count(room, seq, mark);
            }
        }
        Ok(())
    }

    fn count(&mut self, room: RoomId, seq: u64, mark: Mark) {
        let (RoomId::User(_), Some(fact)) = (room, self.facts.get(&mark)) else {
            return;
        };
        let Some(known) = self.rooms.get_mut(&room) else {
            return;
        };
        let mut unread = known.unread(seq - 1);
        if fact.notifies {
            unread.insert(seq);
        }
        if fact.kind == "inbox:read" {
            unread.retain(|seq| !is_read(&fact.data, *seq, &self.facts, &known.events));
        }
        unread.retain(|other| *other + USER_LOG > seq);
        known.unread.insert(seq, unread);
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
