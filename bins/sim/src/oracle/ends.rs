//! What has to come when all is well again: to those who are there, at once; and to those who have to go, a word.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fanfare_core::Time;

use super::{Known, Oracle, answered, entered, kept, text};
use crate::history::{Conn, Seen};

/// Milliseconds after the end of all faults in which everybody has come back and caught up.
const SETTLING_MS: u64 = 190_000;
/// Milliseconds that an event may take then.
const PROMPT_MS: u64 = 2_000;

/// Who cannot take what it is sent delays nobody: when all others are well, they get what is published at once.
#[derive(Default)]
pub(super) struct NotDelayed {
    within: BTreeMap<Conn, BTreeSet<String>>,
    /// Who was in which room when a publish began.
    publishes: BTreeMap<u64, Vec<(Conn, String)>>,
    /// What has to come to each connection: which number of which room, and until when.
    owed: BTreeMap<Conn, BTreeMap<(String, u64), Time>>,
    /// The same by time. Some of it has come.
    until: VecDeque<(Time, Conn, (String, u64))>,
    /// What came before its publish was answered.
    came: BTreeMap<Conn, BTreeSet<(String, u64)>>,
}

impl NotDelayed {
    fn forget(&mut self, conn: Conn) {
        self.within.remove(&conn);
        self.owed.remove(&conn);
        self.came.remove(&conn);
        for there in self.publishes.values_mut() {
            there.retain(|(of, _)| *of != conn);
        }
    }

    fn late(&mut self, now: Time) -> Result<(), String> {
        while let Some((until, conn, event)) = self.until.pop_front_if(|(at, ..)| *at < now) {
            let owed = self.owed.get(&conn);
            if owed.and_then(|owed| owed.get(&event)) == Some(&until) {
                let (room, seq) = event;
                return Err(format!("{conn} waits for {seq} of {room}"));
            }
        }
        Ok(())
    }
}

impl Oracle for NotDelayed {
    fn name(&self) -> &'static str {
        "not_delayed"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        self.late(known.now)?;
        let settled = known
            .healed
            .is_some_and(|it| known.now >= it.plus(SETTLING_MS));
        match seen {
            Seen::Received { conn, frame } => {
                for (room, _) in entered(frame) {
                    self.within
                        .entry(*conn)
                        .or_default()
                        .insert(room.to_owned());
                }
                if frame["type"] == "system:left"
                    && let Some(within) = self.within.get_mut(conn)
                {
                    within.remove(text(frame, "/data/room"));
                    self.forget(*conn);
                }
                if settled {
                    for (room, seq) in kept(frame) {
                        let event = (room.to_owned(), seq);
                        let owed = self.owed.get_mut(conn);
                        if owed.is_none_or(|owed| owed.remove(&event).is_none()) {
                            self.came.entry(*conn).or_default().insert(event);
                        }
                    }
                }
            }
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => self.forget(*conn),
            Seen::Publishing { number, .. } if settled => {
                let within = self.within.iter();
                let well = within.filter(|(conn, _)| !known.given_up.contains(&conn.device));
                let there = well.flat_map(|(conn, rooms)| {
                    let rooms = rooms.iter();
                    rooms.map(|room| (*conn, room.clone()))
                });
                self.publishes.insert(*number, there.collect());
            }
            Seen::Published { number, body, .. } if !known.is_ephemeral(*number) => {
                let there = self.publishes.remove(number).unwrap_or_default();
                for (room, _, seq) in answered(body) {
                    for (conn, _) in there.iter().filter(|(_, of)| of == room) {
                        let event = (room.to_owned(), seq);
                        let came = self.came.get(conn);
                        if !came.is_some_and(|came| came.contains(&event)) {
                            let until = known.now.plus(PROMPT_MS);
                            self.until.push_back((until, *conn, event.clone()));
                            self.owed.entry(*conn).or_default().insert(event, until);
                        }
                    }
                }
            }
            // All that was promised by the one that is gone is gone with it.
            Seen::Crashed | Seen::Drains => {
                self.owed.clear();
                self.until.clear();
                self.publishes.clear();
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, known: &Known) -> Result<(), String> {
        self.late(known.now)
    }
}

/// A server that drains tells each client when to come back, and has none left at its deadline.
#[derive(Default)]
pub(super) struct Drained {
    open: BTreeSet<Conn>,
    /// Those that were open when it began to drain, and were told nothing yet.
    untold: BTreeSet<Conn>,
    /// Whether it began when all was well.
    is_judged: bool,
    told: BTreeSet<Conn>,
}

impl Oracle for Drained {
    fn name(&self) -> &'static str {
        "drained"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Opened { conn, .. } => {
                self.open.insert(*conn);
            }
            Seen::Received { conn, frame }
                if frame["type"] == "system:goodbye" && frame["data"]["code"] == 4_001 =>
            {
                let data = &frame["data"];
                let when = match text(data, "/retry") {
                    "now" => true,
                    "after" => data["retry_after_ms"].is_u64(),
                    _ => false,
                };
                if !when {
                    return Err("does not say when to come back".to_owned());
                }
                self.untold.remove(conn);
                self.told.insert(*conn);
            }
            Seen::Closed { conn, code } => {
                self.open.remove(conn);
                let untold = self.untold.remove(conn);
                if !self.told.remove(conn) && (untold || *code == Some(4_001)) {
                    return Err("was not told when to come back".to_owned());
                }
            }
            Seen::Leaves { conn } => {
                self.open.remove(conn);
                self.untold.remove(conn);
            }
            // While there are faults, who can say what was lost on its way?
            Seen::Drains if known.healed.is_some() => {
                self.is_judged = true;
                let well = self.open.iter();
                let well = well.filter(|conn| !known.given_up.contains(&conn.device));
                self.untold = well.copied().collect();
            }
            // One that began to drain among faults may have met them.
            Seen::Drained { in_time: false } if self.is_judged => {
                return Err("has connections left at its deadline".to_owned());
            }
            Seen::Drained { .. } if known.healed.is_some() => {
                if let Some(conn) = self.untold.first() {
                    return Err(format!("{conn} was told nothing"));
                }
            }
            // Whoever was to be told is not any more.
            Seen::Crashed => self.untold.clear(),
            _ => {}
        }
        Ok(())
    }
}
