//! That who asks is answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Known, Oracle};
use crate::history::{Conn, Seen};

/// Every message with a reference gets one reply while its connection lasts, in their order but for those with a token, and
/// every publish comes to an end.
#[derive(Default)]
pub(super) struct Answered {
    /// Their references in their order, and whether they bore a token.
    asked: BTreeMap<Conn, VecDeque<(String, bool)>>,
    publishes: BTreeSet<u64>,
}

impl Oracle for Answered {
    fn name(&self) -> &'static str {
        "answered"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Said { conn, .. } => {
                let op = &known.said;
                if op["ref"].is_u64() {
                    let asked = self.asked.entry(*conn).or_default();
                    asked.push_back((op["ref"].to_string(), op["op"] == "auth"));
                }
            }
            Seen::Received { conn, frame } if frame["type"] == "system:reply" => {
                let reference = &frame["data"]["ref"];
                if reference.is_null() {
                    return Ok(());
                }
                let asked = self.asked.entry(*conn).or_default();
                let reference = reference.to_string();
                let at = asked.iter().position(|(of, _)| *of == reference);
                let at = at.ok_or("nobody asked this, or it was answered before")?;
                let bore_a_token = asked
                    .remove(at)
                    .is_some_and(|(_, bore_a_token)| bore_a_token);
                let mut before = asked.range(..at);
                if !bore_a_token
                    && let Some((first, _)) = before.find(|(_, bore_a_token)| !bore_a_token)
                {
                    return Err(format!("came before the answer to {first}"));
                }
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
            if let Some((reference, _)) = asked.front() {
                return Err(format!("{conn} waits for the answer to {reference}"));
            }
        }
        match self.publishes.first() {
            Some(number) => Err(format!("publish {number} waits for its answer")),
            None => Ok(()),
        }
    }
}
