//! What devices acknowledge, and what is unread.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Oracle, entered, rooms, said, text};
use crate::history::{Conn, Seen};

/// A device's cursor, once told, never goes back within an epoch, and never beyond the room's end.
#[derive(Default)]
pub(super) struct Acked {
    devices: BTreeMap<Conn, (u64, Option<String>)>,
    /// References of acks that were not answered yet.
    asked: BTreeMap<(Conn, String), ()>,
    /// By user, device and epoch.
    cursors: BTreeMap<(u64, String, String), u64>,
}

impl Oracle for Acked {
    fn name(&self) -> &'static str {
        "acked"
    }

    fn see(&mut self, seen: &Seen) -> Result<(), String> {
        match seen {
            Seen::Opened {
                conn, user, name, ..
            } => {
                self.devices.insert(*conn, (*user, name.clone()));
            }
            Seen::Said { conn, text: words } => {
                let op = said(words);
                if op["op"] == "ack" {
                    self.asked.insert((*conn, op["ref"].to_string()), ());
                }
            }
            Seen::Received { conn, frame } if frame["type"] == "system:reply" => {
                let data = &frame["data"];
                let asked = self.asked.remove(&(*conn, data["ref"].to_string()));
                if asked.is_none() || data["ok"] != true {
                    return Ok(());
                }
                let Some((user, Some(device))) = self.devices.get(conn) else {
                    return Err("an ack of a connection without a device was taken".to_owned());
                };
                let seq = data["seq"].as_u64().ok_or("an ack that names no number")?;
                let key = (*user, device.clone(), text(data, "/epoch").to_owned());
                let known = self.cursors.entry(key).or_insert(seq);
                if seq < *known {
                    return Err(format!("the cursor was at {known} before"));
                }
                *known = seq;
            }
            // Without a store, what was acknowledged ends with the server.
            Seen::Started => self.cursors.clear(),
            _ => {}
        }
        Ok(())
    }
}

/// After one event all of a user's devices are told one count, and at the end it is the one of the inbox.
#[derive(Default)]
pub(super) struct Unread {
    epochs: BTreeMap<(Conn, String), String>,
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

    fn see(&mut self, seen: &Seen) -> Result<(), String> {
        match seen {
            Seen::Received { conn, frame } => {
                for (room, at) in entered(frame) {
                    let epoch = text(at, "/epoch").to_owned();
                    self.epochs.insert((*conn, room.to_owned()), epoch);
                }
                if frame["type"] == "system:gap" {
                    let key = (*conn, text(frame, "/data/room").to_owned());
                    self.epochs
                        .insert(key, text(frame, "/data/epoch").to_owned());
                }
                let unread = frame["unread"].as_u64();
                if let Some(unread) = unread.filter(|_| frame["ephemeral"] != true) {
                    let home = rooms(frame).find(|(room, _)| room.starts_with("user:"));
                    let (room, seq) = home.ok_or("a count without the user's room")?;
                    let epoch = self.epochs.get(&(*conn, room.to_owned())).cloned();
                    return self.count(room, &epoch.unwrap_or_default(), seq, unread);
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
