//! What devices acknowledge, and what is unread.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Known, Oracle, rooms, said, text};
use crate::history::{Conn, Seen};
use crate::plan::Keeps;

/// A user's device, and an epoch of the user's room.
type Cursor = (u64, String, String);

/// A device's cursor, once told, never goes back within an epoch: an ack said after that is answered with no less. Only a
/// device has one.
#[derive(Default)]
pub(super) struct Acked {
    devices: BTreeMap<Conn, (u64, Option<String>)>,
    /// The cursors that were told when an ack was said which is not answered yet.
    asked: BTreeMap<(Conn, String), BTreeMap<Cursor, u64>>,
    told: BTreeMap<Cursor, u64>,
}

impl Oracle for Acked {
    fn name(&self) -> &'static str {
        "acked"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Opened {
                conn, user, name, ..
            } => {
                self.devices.insert(*conn, (*user, name.clone()));
            }
            Seen::Said { conn, text: words } => {
                let op = said(words);
                if op["op"] == "ack" {
                    let asked = (*conn, op["ref"].to_string());
                    self.asked.insert(asked, self.told.clone());
                }
            }
            Seen::Received { conn, frame } if frame["type"] == "system:reply" => {
                let data = &frame["data"];
                let asked = self.asked.remove(&(*conn, data["ref"].to_string()));
                let Some(told_before) = asked.filter(|_| data["ok"] == true) else {
                    return Ok(());
                };
                let Some((user, Some(device))) = self.devices.get(conn) else {
                    return Err("an ack of a connection without a device was taken".to_owned());
                };
                let seq = data["seq"].as_u64().ok_or("an ack that names no number")?;
                let key = (*user, device.clone(), text(data, "/epoch").to_owned());
                if let Some(before) = told_before.get(&key).filter(|before| seq < **before) {
                    return Err(format!("the cursor was at {before} before"));
                }
                let told = self.told.entry(key).or_default();
                *told = seq.max(*told);
            }
            // Without a store, what was acknowledged ends with the server.
            Seen::Started if known.keeps == Keeps::Memory => self.told.clear(),
            Seen::DiskRenewed => self.told.clear(),
            _ => {}
        }
        Ok(())
    }
}

/// After one event all of a user's devices are told one count, and at the end it is the one of the inbox.
#[derive(Default)]
pub(super) struct Unread {
    counts: BTreeMap<(String, String, u64), u64>,
}

impl Unread {
    fn count(&mut self, room: &str, epoch: &str, seq: u64, unread: u64) -> Result<(), String> {
        let key = (room.to_owned(), epoch.to_owned(), seq);
        let known = *self.counts.entry(key).or_insert(unread);
        if known != unread {
            return Err(format!(
                "{room} at {seq}: {unread} are unread, and {known} were told"
            ));
        }
        Ok(())
    }
}

impl Oracle for Unread {
    fn name(&self) -> &'static str {
        "unread"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Received { conn, frame } => {
                let unread = frame["unread"].as_u64();
                if let Some(unread) = unread.filter(|_| frame["ephemeral"] != true) {
                    let home = rooms(frame).find(|(room, _)| room.starts_with("user:"));
                    let (room, seq) = home.ok_or("a count without the user's room")?;
                    let epoch = known.epoch(*conn, room).unwrap_or_default();
                    return self.count(room, epoch, seq, unread);
                }
            }
            Seen::Found { body, .. } => {
                if let Some(unread) = body.get("unread").and_then(Value::as_u64) {
                    let seq = body["seq"].as_u64().unwrap_or_default();
                    return self.count(text(body, "/room"), text(body, "/epoch"), seq, unread);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
