//! What devices acknowledge, and what is unread.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Known, Oracle, entered, kept, rooms, text};
use crate::history::{Conn, Seen};
use crate::plan::Keeps;

/// A user's device, and an epoch of the user's room.
type Cursor = (u64, String, String);

/// An ack that is not answered yet.
struct Asked {
    seq: Option<u64>,
    /// The cursors that were told when it was said.
    told: BTreeMap<Cursor, u64>,
}

/// A device's cursor, once told, never goes back within an epoch: an ack said after that is answered with no less. It never
/// goes beyond what was sent. Only a device has one.
#[derive(Default)]
pub(super) struct Acked {
    devices: BTreeMap<Conn, (u64, Option<String>)>,
    asked: BTreeMap<(Conn, String), Asked>,
    told: BTreeMap<Cursor, u64>,
    /// By user and epoch of the user's room: the last number that anybody has seen.
    last: BTreeMap<(u64, String), u64>,
}

impl Acked {
    /// What a connection sees of its user's room. A reply comes after all that was sent before what it answers.
    fn sees(&mut self, conn: Conn, frame: &Value, known: &Known) {
        let Some((user, _)) = self.devices.get(&conn) else {
            return;
        };
        let (user, home) = (*user, format!("user:{user}"));
        let data = &frame["data"];
        let entered = entered(frame).into_iter().filter(|(room, _)| *room == home);
        let mut seqs: Vec<(&str, u64)> = entered
            .map(|(_, at)| (text(at, "/epoch"), at["seq"].as_u64().unwrap_or_default()))
            .collect();
        if frame["type"] == "system:gap" && text(data, "/room") == home {
            seqs.push((
                text(data, "/epoch"),
                data["to"].as_u64().unwrap_or_default(),
            ));
        }
        let epoch = known.epoch(conn, &home).unwrap_or_default();
        let events = kept(frame).filter(|(room, _)| *room == home);
        seqs.extend(events.map(|(_, seq)| (epoch, seq)));
        for (epoch, seq) in seqs {
            let last = self.last.entry((user, epoch.to_owned())).or_default();
            *last = seq.max(*last);
        }
    }
}

impl Oracle for Acked {
    fn name(&self) -> &'static str {
        "acked"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        if let Seen::Received { conn, frame } = seen {
            self.sees(*conn, frame, known);
        }
        match seen {
            Seen::Opened {
                conn, user, name, ..
            } => {
                self.devices.insert(*conn, (*user, name.clone()));
            }
            Seen::Said { conn, .. } => {
                let op = &known.said;
                if op["op"] == "ack" {
                    let asked = Asked {
                        seq: op["seq"].as_u64(),
                        told: self.told.clone(),
                    };
                    self.asked.insert((*conn, op["ref"].to_string()), asked);
                }
            }
            Seen::Received { conn, frame } if frame["type"] == "system:reply" => {
                let data = &frame["data"];
                let asked = self.asked.remove(&(*conn, data["ref"].to_string()));
                let Some(asked) = asked.filter(|_| data["ok"] == true) else {
                    return Ok(());
                };
                let Some((user, Some(device))) = self.devices.get(conn) else {
                    return Err("an ack of a connection without a device was taken".to_owned());
                };
                let seq = data["seq"].as_u64().ok_or("an ack that names no number")?;
                let key = (*user, device.clone(), text(data, "/epoch").to_owned());
                let before = asked.told.get(&key).filter(|before| seq < **before);
                if let Some(before) = before.filter(|_| known.keeps_inboxes()) {
                    return Err(format!("the cursor was at {before} before"));
                }
                let last = self.last.get(&(*user, key.2.clone())).copied();
                let last = last.unwrap_or_default();
                if asked.seq == Some(seq) && seq > last {
                    return Err(format!(
                        "{seq} was taken, and {last} is the last that was sent"
                    ));
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

/// After one event all of a user's devices are told one count, and at the end it is the one of the inbox: of what is kept,
/// what is a notification and was not read since.
#[derive(Default)]
pub(super) struct Unread {
    counts: BTreeMap<(String, String, u64), u64>,
    /// By mark: whether what a back end published counts as a notification.
    notifies: BTreeMap<u64, bool>,
    /// What is kept of users' rooms, by room and epoch.
    logs: BTreeMap<(String, String), Vec<Line>>,
}

/// An event of a log: its number, its mark, and up to where it says that was read.
struct Line {
    seq: u64,
    mark: Option<u64>,
    read_up_to: Option<u64>,
}

/// Whether it is a notification, as docs/protocol.md says.
fn is_notification(path: &str, body: &Value) -> bool {
    let of_a_task = ["created", "completed", "failed", "cancelled"];
    let kind = text(body, "/type").strip_prefix("task:");
    let direct = path.starts_with("/v1/users/");
    let counts = direct || kind.is_some_and(|kind| of_a_task.contains(&kind));
    body["notify"].as_bool().unwrap_or(counts)
}

impl Unread {
    /// How many are unread at the end of a log, where it was read to its end.
    fn of_log(&self, room: &str, epoch: &str, head: u64) -> Option<u64> {
        let log = self.logs.get(&(room.to_owned(), epoch.to_owned()));
        let Some(log) = log else {
            return (head == 0).then_some(0);
        };
        if log.last().is_none_or(|last| last.seq != head) {
            return None;
        }
        let read = log.iter().filter_map(|line| line.read_up_to).max();
        let unread = log.iter().filter(|line| {
            let notifies = line.mark.and_then(|mark| self.notifies.get(&mark));
            Some(line.seq) > read && notifies == Some(&true)
        });
        Some(unread.count() as u64)
    }
}

impl Unread {
    fn count(
        &mut self,
        (room, epoch, seq): (&str, &str, u64),
        unread: u64,
        known: &Known,
    ) -> Result<(), String> {
        let key = (room.to_owned(), epoch.to_owned(), seq);
        let told = self.counts.entry(key).or_insert(unread);
        if *told != unread && (known.keeps_inboxes() || *told < unread) {
            return Err(format!(
                "{room} at {seq}: {unread} are unread, and {told} were told"
            ));
        }
        *told = unread;
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
                    return self.count((room, epoch, seq), unread, known);
                }
            }
            Seen::Publishing { path, body, .. } => {
                if let Some(mark) = body["data"]["mark"].as_u64() {
                    let notifies = is_notification(path, body);
                    self.notifies.entry(mark).or_insert(notifies);
                }
            }
            Seen::Found { path, body } => {
                let (room, epoch) = (text(body, "/room"), text(body, "/epoch"));
                if let Some(events) = body["events"].as_array() {
                    let log = self.logs.entry((room.to_owned(), epoch.to_owned()));
                    let log = log.or_default();
                    if !path.contains("since=") {
                        log.clear();
                    }
                    log.extend(events.iter().map(|event| {
                        let data = &event["data"];
                        let read = data["up_to"].as_u64();
                        Line {
                            seq: event["rooms"][room].as_u64().unwrap_or_default(),
                            mark: data["mark"].as_u64(),
                            read_up_to: read.filter(|_| event["type"] == "inbox:read"),
                        }
                    }));
                }
                if let Some(unread) = body.get("unread").and_then(Value::as_u64) {
                    let seq = body["seq"].as_u64().unwrap_or_default();
                    self.count((room, epoch, seq), unread, known)?;
                    let kept = self.of_log(room, epoch, seq);
                    let differs = |kept: &u64| known.keeps_inboxes() || *kept < unread;
                    let kept = kept.filter(|kept| *kept != unread && differs(kept));
                    if let Some(kept) = kept {
                        return Err(format!(
                            "{room} at {seq}: {unread} are unread, and {kept} in its log"
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
