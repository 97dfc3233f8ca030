//! What rooms keep.

use std::collections::BTreeMap;

use super::{Known, Oracle, text};
use crate::history::Seen;

/// Bytes of all logs below which rooms are forgotten for want of memory, so that a room may keep less than its number of events.
const PLENTY: usize = 1 << 20;

/// Of a room's log only what is over its limit is gone, the rest has no hole, and each number is the event that was seen.
#[derive(Default)]
pub(super) struct Trim {
    /// By room and epoch: the last number that somebody was told is trimmed.
    trimmed: BTreeMap<(String, String), u64>,
    /// By room and epoch: the number that comes next, of those that are read page by page.
    next: BTreeMap<(String, String), u64>,
}

impl Oracle for Trim {
    fn name(&self) -> &'static str {
        "trim"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Received { frame, .. } if frame["data"]["reason"] == "trimmed" => {
                let data = &frame["data"];
                let key = (
                    text(data, "/room").to_owned(),
                    text(data, "/epoch").to_owned(),
                );
                let to = data["to"].as_u64().unwrap_or_default();
                let trimmed = self.trimmed.entry(key).or_default();
                *trimmed = to.max(*trimmed);
                Ok(())
            }
            Seen::Found { path, body } if body["events"].is_array() => {
                self.found(path.contains("since="), body, known)
            }
            _ => Ok(()),
        }
    }
}

impl Trim {
    fn found(
        &mut self,
        goes_on: bool,
        body: &serde_json::Value,
        known: &Known,
    ) -> Result<(), String> {
        let (room, epoch) = (text(body, "/room"), text(body, "/epoch"));
        let key = (room.to_owned(), epoch.to_owned());
        let number = |of: &serde_json::Value| of.as_u64().unwrap_or_default();
        let (first, head) = (number(&body["first"]), number(&body["seq"]));
        let limit = if room.starts_with("task:") {
            known.limits.task_log_events
        } else {
            known.limits.user_log_events
        };
        let gone = head.saturating_sub(limit as u64);
        if known.limits.log_bytes >= PLENTY {
            if first > gone + 1 {
                return Err(format!(
                    "{room} keeps {first} to {head}, and has room for {limit}"
                ));
            }
            let trimmed = self.trimmed.get(&key).copied().unwrap_or_default();
            if trimmed > gone {
                return Err(format!(
                    "{room}: {trimmed} was told to be trimmed, and only {gone} are over the limit of {limit}"
                ));
            }
        }
        let next = self.next.get(&key).copied().filter(|_| goes_on);
        let mut next = next.unwrap_or(first);
        for event in body["events"].as_array().into_iter().flatten() {
            let seq = number(&event["rooms"][room]);
            if seq != next {
                return Err(format!("{room} has {seq} where {next} is next"));
            }
            next += 1;
            let id = text(event, "/id");
            if let Some(seen) = known.fact((room, epoch, seq)).filter(|seen| *seen != id) {
                return Err(format!("{room} has {id} as {seq}, and {seen} was seen"));
            }
        }
        if body["next"].is_null() && next != head + 1 {
            return Err(format!("{room} ends before {next}, and its head is {head}"));
        }
        self.next.insert(key, next);
        Ok(())
    }
}
