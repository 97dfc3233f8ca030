//! What outlives a server.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Known, Oracle, answered, text};
use crate::history::Seen;
use crate::plan::Keeps;

/// A durable room goes on in its epoch over every start of the server. After a loss of power, a relaxed one may have given
/// numbers that nobody remembers: then it begins a new one.
#[derive(Default)]
pub(super) struct Epochs {
    /// Of each room in which something happened.
    goes_on: BTreeMap<String, String>,
    /// In which the last numbers may be lost.
    over: BTreeSet<(String, String)>,
    /// Whether anything was answered since all was on the disk, or the power was lost.
    has_answered: bool,
    /// Tasks that are deleted begin anew.
    deleted: BTreeSet<String>,
}

impl Epochs {
    fn named(&mut self, room: &str, epoch: &str, seq: u64, known: &Known) -> Result<(), String> {
        if seq == 0 || self.deleted.contains(room) {
            return Ok(());
        }
        let goes_on = match self.goes_on.get_mut(room) {
            Some(goes_on) if goes_on == epoch => return Ok(()),
            Some(goes_on) => goes_on,
            None => self.goes_on.entry(room.to_owned()).or_default(),
        };
        let before = std::mem::replace(goes_on, epoch.to_owned());
        if known.keeps == Keeps::Immediate && !before.is_empty() {
            return Err(format!("{room} was in epoch {before}, and is in {epoch}"));
        }
        if self.over.contains(&(room.to_owned(), epoch.to_owned())) {
            return Err(format!(
                "{room} is in epoch {epoch}, of which a loss of power may have taken the last numbers"
            ));
        }
        Ok(())
    }
}

impl Oracle for Epochs {
    fn name(&self) -> &'static str {
        "epochs"
    }

    fn see(&mut self, seen: &Seen, known: &Known) -> Result<(), String> {
        if known.keeps == Keeps::Memory {
            return Ok(());
        }
        let at = |of: &Value| of["seq"].as_u64().unwrap_or_default();
        match seen {
            // All that was in the log is synced before a server serves.
            Seen::Drained { .. } | Seen::Started => self.has_answered = false,
            Seen::PowerLost if self.has_answered && known.keeps == Keeps::Relaxed => {
                self.has_answered = false;
                self.over.extend(std::mem::take(&mut self.goes_on));
            }
            Seen::DiskRenewed => {
                self.goes_on.clear();
                self.has_answered = false;
            }
            Seen::Publishing { path, body, .. } if body["type"] == "task:deleted" => {
                let task = path.split('/').nth(3).unwrap_or_default();
                self.deleted.insert(format!("task:{task}"));
            }
            Seen::Published {
                number,
                status: 200,
                body,
            } if !known.is_ephemeral(*number) && known.is_asked(*number) => {
                // A retry that was known left nothing to lose.
                self.has_answered |= body["duplicate"] != true;
                for (room, epoch, seq) in answered(body) {
                    self.named(room, epoch, seq, known)?;
                }
            }
            Seen::Found { body, .. } => {
                self.named(text(body, "/room"), text(body, "/epoch"), at(body), known)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Of what was answered with 507, that there was no space, nothing is ever seen.
#[derive(Default)]
pub(super) struct NotKept {
    /// The mark of each publish that is under way, and how often it was sent.
    under_way: BTreeMap<u64, (u64, u64)>,
    /// Marks that may be seen.
    taken: BTreeSet<u64>,
    refused: BTreeSet<u64>,
}

impl NotKept {
    fn look(&self, event: &Value) -> Result<(), String> {
        match event["data"]["mark"].as_u64() {
            Some(mark) if self.refused.contains(&mark) => {
                Err("was refused for want of space".to_owned())
            }
            _ => Ok(()),
        }
    }
}

impl Oracle for NotKept {
    fn name(&self) -> &'static str {
        "not_kept"
    }

    fn see(&mut self, seen: &Seen, _: &Known) -> Result<(), String> {
        match seen {
            Seen::Publishing { number, body, .. } => {
                let Some(mark) = body["data"]["mark"].as_u64() else {
                    return Ok(());
                };
                let (_, sent) = self.under_way.entry(*number).or_insert((mark, 0));
                *sent += 1;
                // Another publish of it may be taken.
                self.refused.remove(&mark);
            }
            Seen::Published { number, status, .. } => {
                let Some((mark, sent)) = self.under_way.remove(number) else {
                    return Ok(());
                };
                let is_open = self.under_way.values().any(|(of, _)| *of == mark);
                if *status == 507 && sent == 1 && !is_open && !self.taken.contains(&mark) {
                    self.refused.insert(mark);
                } else {
                    self.taken.insert(mark);
                }
            }
            Seen::Unanswered { number } => {
                if let Some((mark, _)) = self.under_way.remove(number) {
                    self.taken.insert(mark);
                }
            }
            Seen::Received { frame, .. } => return self.look(frame),
            Seen::Found { body, .. } => {
                let mut events = body["events"].as_array().into_iter().flatten();
                return events.try_for_each(|event| self.look(event));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{
        event, found, judged_of, opened, published, publishing, reply, said, welcome,
    };
    use super::*;

    fn later(epoch: &str) -> Seen {
        let Seen::Found { path, mut body } = found(1, &["p1"]) else {
            unreachable!()
        };
        body["epoch"] = json!(epoch);
        Seen::Found { path, body }
    }

    fn answered_by(status: u16) -> Seen {
        Seen::Published {
            number: 1,
            status,
            body: Value::Null,
        }
    }

    fn acked(reference: u64, seq: u64) -> Vec<Seen> {
        vec![
            said(&json!({"op": "ack", "ref": reference, "seq": seq}).to_string()),
            reply(json!({"ref": reference, "ok": true, "epoch": "e", "seq": seq})),
        ]
    }

    fn fleeting(number: u64) -> Seen {
        let Seen::Publishing { path, mut body, .. } = publishing(1, 1) else {
            unreachable!()
        };
        body["ephemeral"] = json!(true);
        Seen::Publishing { number, path, body }
    }

    /// That it was the first of the event of the first.
    fn answer_of(number: u64) -> Seen {
        let Seen::Published { status, body, .. } = published(1, 1, false) else {
            unreachable!()
        };
        Seen::Published {
            number,
            status,
            body,
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn what_has_to_outlive_a_server_is_missed() {
        let begun = || vec![Seen::Started, publishing(1, 1), published(1, 1, false)];
        let restarted =
            |ends: Vec<Seen>, more: Vec<Seen>| [begun(), ends, vec![Seen::Started], more].concat();
        let crash = || vec![Seen::Crashed];
        let cut = || vec![Seen::Crashed, Seen::PowerLost];
        let (memory, immediate, relaxed) = (Keeps::Memory, Keeps::Immediate, Keeps::Relaxed);
        let again = || vec![publishing(1, 1), published(1, 1, false)];
        let cases = [
            (
                "a new epoch",
                immediate,
                restarted(cut(), vec![later("f")]),
                Some("epochs"),
            ),
            (
                "the same",
                immediate,
                restarted(cut(), vec![later("e")]),
                None,
            ),
            (
                "a new one in memory",
                memory,
                restarted(crash(), vec![later("f")]),
                None,
            ),
            (
                "a new one on a new disk",
                immediate,
                restarted(
                    [crash(), vec![Seen::DiskRenewed]].concat(),
                    vec![later("f")],
                ),
                None,
            ),
            (
                "what may be lost",
                relaxed,
                restarted(cut(), vec![later("e")]),
                Some("epochs"),
            ),
            (
                "a new one then",
                relaxed,
                restarted(cut(), vec![later("f")]),
                None,
            ),
            (
                "an answer that comes after an orderly end",
                relaxed,
                vec![
                    Seen::Started,
                    publishing(1, 1),
                    Seen::Drained { in_time: true },
                    published(1, 1, false),
                    Seen::PowerLost,
                    Seen::Started,
                    later("e"),
                ],
                None,
            ),
            (
                "a retry that was known",
                relaxed,
                restarted(
                    crash(),
                    vec![
                        publishing(1, 1),
                        published(1, 1, true),
                        Seen::Crashed,
                        Seen::PowerLost,
                        Seen::Started,
                        later("e"),
                    ],
                ),
                None,
            ),
            (
                "what a start has synced",
                relaxed,
                vec![
                    Seen::Started,
                    publishing(1, 1),
                    published(1, 1, false),
                    Seen::Crashed,
                    Seen::Started,
                    Seen::Crashed,
                    Seen::PowerLost,
                    Seen::Started,
                    later("e"),
                ],
                None,
            ),
            (
                "the process alone",
                relaxed,
                restarted(crash(), vec![later("e")]),
                None,
            ),
            (
                "what was lost",
                immediate,
                restarted(crash(), vec![found(0, &[])]),
                Some("kept"),
            ),
            (
                "a retry that is new",
                immediate,
                restarted(crash(), again()),
                Some("not_doubled"),
            ),
            (
                "an ephemeral event that is new to each server",
                immediate,
                vec![
                    Seen::Started,
                    fleeting(1),
                    Seen::Crashed,
                    Seen::Started,
                    published(1, 1, false),
                    fleeting(2),
                    answer_of(2),
                ],
                None,
            ),
            (
                "an ephemeral event that is new twice",
                immediate,
                vec![
                    Seen::Started,
                    fleeting(1),
                    published(1, 1, false),
                    fleeting(2),
                    answer_of(2),
                ],
                Some("not_doubled"),
            ),
            (
                "a cursor that went back",
                immediate,
                [
                    vec![Seen::Started, opened(None), welcome("e", 5, None)],
                    acked(1, 5),
                    vec![Seen::Crashed, Seen::Started],
                    acked(2, 4),
                ]
                .concat(),
                Some("acked"),
            ),
            (
                "what was refused",
                immediate,
                vec![
                    Seen::Started,
                    opened(None),
                    welcome("e", 0, None),
                    publishing(1, 1),
                    answered_by(507),
                    event(1, "p1"),
                ],
                Some("not_kept"),
            ),
            (
                "what was taken at another time",
                immediate,
                vec![
                    Seen::Started,
                    opened(None),
                    welcome("e", 0, None),
                    publishing(1, 1),
                    answered_by(507),
                    publishing(2, 1),
                    event(1, "p2"),
                ],
                Some("answered"),
            ),
        ];
        for (name, keeps, history, expected) in cases {
            let history = history.into_iter().map(|seen| (0, seen)).collect();
            assert_eq!(judged_of(keeps, history), expected, "{name}");
        }
    }
}
