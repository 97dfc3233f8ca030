//! That who asks is answered.

use std::collections::{BTreeMap, BTreeSet};

use super::{Known, Oracle, said};
use crate::history::{Conn, Seen};

/// Every message with a reference gets one reply while its connection lasts, and every publish comes to an end.
#[derive(Default)]
pub(super) struct Answered {
    asked: BTreeMap<Conn, BTreeMap<String, usize>>,
    publishes: BTreeSet<u64>,
}

impl Oracle for Answered {
    fn name(&self) -> &'static str {
        "answered"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        match seen {
            Seen::Said { conn, text } => {
                let op = said(text);
                if op["ref"].is_u64() {
                    let asked = self.asked.entry(*conn).or_default();
                    *asked.entry(op["ref"].to_string()).or_default() += 1;
                }
            }
            Seen::Received { conn, frame } if frame["type"] == "system:reply" => {
                let reference = &frame["data"]["ref"];
                if reference.is_null() {
                    return Ok(());
                }
                let asked = self.asked.entry(*conn).or_default();
                let waiting = asked.get_mut(&reference.to_string());
                let waiting = waiting.filter(|waiting| **waiting > 0);
                *waiting.ok_or("nobody asked this, or it was answered before")? -= 1;
            }
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                self.asked.remove(conn);
            }
            Seen::Publishing { number, .. } => {
                self.publishes.insert(*number);
            }
            Seen::Published { number, .. } | Seen::Unanswered { number } => {
                self.publishes.remove(number);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, known: &Known) -> Result<(), String> {
        let asked = self.asked.iter();
        for (conn, asked) in asked.filter(|(conn, _)| !known.given_up.contains(&conn.device)) {
            if let Some((reference, _)) = asked.iter().find(|(_, waiting)| **waiting > 0) {
                return Err(format!("{conn} waits for the answer to {reference}"));
            }
        }
        match self.publishes.first() {
            Some(number) => Err(format!("publish {number} waits for its answer")),
            None => Ok(()),
        }
    }
}
