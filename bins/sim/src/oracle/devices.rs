//! What a device that comes back without a position is sent.

use std::collections::{BTreeMap, BTreeSet};

use super::{Known, Oracle, entered, kept, text};
use crate::history::{Conn, Seen};

/// Devices a user may have before the server forgets the one that was away longest.
const DEVICES_MAX: usize = 32;

/// A user's device, and an epoch of the user's room.
type Cursor = (u64, String, String);

/// A device that names no position of its user's room is sent all that it has not acknowledged, and nothing that it has.
#[derive(Default)]
pub(super) struct Offline {
    /// Of each connection: the user, the device's name, and whether it named a position of the user's room.
    conns: BTreeMap<Conn, (u64, Option<String>, bool)>,
    devices: BTreeMap<u64, BTreeSet<String>>,
    /// What was acknowledged as far as the device was told, and as far as it ever said.
    acked: BTreeMap<Cursor, u64>,
    said: BTreeMap<Cursor, u64>,
    /// What devices said before they knew the epoch, which the server knew.
    blind: BTreeMap<(u64, String), u64>,
    /// What was acknowledged when a connection was begun: the server may have let it in at any time since.
    before: BTreeMap<Conn, BTreeMap<Cursor, u64>>,
    /// What comes first: behind what was acknowledged, and not behind what may have been.
    first: BTreeMap<Conn, (u64, u64)>,
}

impl Offline {
    fn cursor(&self, conn: Conn, epoch: &str) -> Option<Cursor> {
        let (user, name, _) = self.conns.get(&conn)?;
        Some((*user, name.clone()?, epoch.to_owned()))
    }

    /// Of a device that comes without a position, and that the server knows: what it acknowledged, at least and at most.
    fn cursors(&self, conn: Conn, epoch: &str) -> Option<(u64, u64)> {
        let (user, _, named) = self.conns.get(&conn)?;
        let devices = self.devices.get(user).map_or(0, BTreeSet::len);
        let key = self.cursor(conn, epoch)?;
        let acked = *self.before.get(&conn)?.get(&key)?;
        let said = self.said.get(&key).copied().unwrap_or_default();
        let (user, name, _) = key;
        let said = said.max(self.blind.get(&(user, name)).copied().unwrap_or_default());
        (!named && devices <= DEVICES_MAX).then_some((acked, said.max(acked)))
    }
}

impl Oracle for Offline {
    fn name(&self) -> &'static str {
        "offline"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        match seen {
            Seen::Shows { conn, .. } if !self.conns.contains_key(conn) => {
                self.before.insert(*conn, self.acked.clone());
            }
            Seen::Opened {
                conn,
                user,
                name,
                since,
            } => {
                let room = format!("user:{user}");
                let named = since.iter().any(|(of, _)| *of == room);
                self.conns.insert(*conn, (*user, name.clone(), named));
                self.devices.entry(*user).or_default().extend(name.clone());
            }
            Seen::Said { conn, .. } => {
                let op = &known.said;
                let Some((user, Some(name), _)) = self.conns.get(conn) else {
                    return Ok(());
                };
                if op["op"] == "ack"
                    && let Some(seq) = op["seq"].as_u64()
                {
                    let furthest = match known.epoch(*conn, &format!("user:{user}")) {
                        Some(epoch) => {
                            let key = (*user, name.clone(), epoch.to_owned());
                            self.said.entry(key).or_default()
                        }
                        None => self.blind.entry((*user, name.clone())).or_default(),
                    };
                    *furthest = seq.max(*furthest);
                }
            }
            Seen::Received { conn, frame } => return self.received(*conn, frame, known),
            Seen::Closed { conn, .. } | Seen::Leaves { conn } => {
                self.first.remove(conn);
                self.before.remove(conn);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Offline {
    fn received(
        &mut self,
        conn: Conn,
        frame: &serde_json::Value,
        known: &Known,
    ) -> Result<(), String> {
        let Some((user, _, _)) = self.conns.get(&conn) else {
            return Ok(());
        };
        let home = format!("user:{user}");
        let data = &frame["data"];
        match text(frame, "/type") {
            "system:welcome" => {
                let at = entered(frame).into_iter().find(|(room, _)| *room == home);
                let Some((_, at)) = at else { return Ok(()) };
                let (epoch, head) = (text(at, "/epoch"), at["seq"].as_u64().unwrap_or_default());
                let cursors = self.cursors(conn, epoch);
                let Some((acked, at_most)) = cursors.filter(|_| known.keeps_inboxes()) else {
                    return Ok(());
                };
                if at_most < head && at.get("recovered").is_none_or(serde_json::Value::is_null) {
                    return Err(format!(
                        "{home} is at {head}, the device acknowledged {at_most}, and is sent nothing"
                    ));
                }
                if at["recovered"] == true {
                    self.first.insert(conn, (acked, at_most));
                }
            }
            "system:gap" if text(data, "/room") == home => {
                self.first.remove(&conn);
            }
            "system:reply" if data["ok"] == true && data["epoch"].is_string() => {
                if let (Some(key), Some(seq)) =
                    (self.cursor(conn, text(data, "/epoch")), data["seq"].as_u64())
                    // Of a join that is the room's position.
                    && data.get("room").is_none()
                {
                    let acked = self.acked.entry(key).or_default();
                    *acked = seq.max(*acked);
                }
            }
            _ => {}
        }
        for (_, seq) in kept(frame).filter(|(room, _)| *room == home) {
            let Some((acked, at_most)) = self.first.remove(&conn) else {
                continue;
            };
            if seq <= acked {
                return Err(format!(
                    "{home}: {seq} came again, acknowledged was {acked}"
                ));
            }
            if seq > at_most + 1 {
                return Err(format!(
                    "{home}: {seq} came first, acknowledged was {at_most}"
                ));
            }
        }
        Ok(())
    }
}
