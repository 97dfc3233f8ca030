//! Where a client stands in each room, so that it can come back without loss and without doubles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fanfare_core::{Epoch, EventId, Position, RoomId, Seq};

use super::message::{Event, Head, Message, Notice};

/// Rooms that are remembered; a server allows a connection fewer.
const ROOMS_MAX: usize = 1_024;
/// Ids of the last events, by which one that comes again through another room is known.
const RECENT_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Resume {
    rooms: BTreeMap<RoomId, Place>,
    recent: VecDeque<EventId>,
    known: BTreeSet<EventId>,
}

#[derive(Debug)]
struct Place {
    epoch: Epoch,
    /// The last event that came. `None`: a replay from a position that only the server knows has not begun yet.
    seq: Option<Seq>,
}

impl Resume {
    pub(crate) fn new(since: Vec<(RoomId, Position)>) -> Self {
        let rooms = since
            .into_iter()
            .map(|(room, position)| {
                (
                    room,
                    Place {
                        epoch: position.epoch,
                        seq: Some(position.seq),
                    },
                )
            })
            .collect();
        Self {
            rooms,
            ..Self::default()
        }
    }

    /// The positions to come back with, in the order of their rooms.
    pub(crate) fn since(&self) -> Vec<(RoomId, Position)> {
        self.rooms
            .iter()
            .filter_map(|(room, place)| {
                Some((
                    *room,
                    Position {
                        epoch: place.epoch.clone(),
                        seq: resumed(place.seq?),
                    },
                ))
            })
            .collect()
    }

    /// Learns from a message; false where it is a double that need not be shown.
    pub(crate) fn take(&mut self, message: &Message) -> bool {
        match message {
            Message::Event(event) => self.event(event),
            Message::System(system) => {
                match &system.notice {
                    Notice::Welcome(welcome) => welcome
                        .rooms
                        .iter()
                        .for_each(|(room, head)| self.joined(*room, head)),
                    Notice::Joined(joined) => self.joined(joined.room, &joined.head),
                    Notice::Left(left) => {
                        self.rooms.remove(&left.room);
                    }
                    Notice::Gap(gap) => self.gap(gap.room, &gap.epoch, gap.to),
                    Notice::Reply(_)
                    | Notice::Expiring { .. }
                    | Notice::Goodbye(_)
                    | Notice::Other => {}
                }
                true
            }
        }
    }

    fn joined(&mut self, room: RoomId, head: &Head) {
        let full = self.rooms.len() >= ROOMS_MAX;
        match (self.rooms.get_mut(&room), head.recovered) {
            // What was missed is coming, and ends at the head: until it came, the old position stands.
            (Some(place), Some(true)) if place.epoch == head.epoch => {}
            // A gap follows and says from where the rest comes, be it in another epoch: until it came, it is still to be told.
            (Some(_), Some(false)) => {}
            (Some(place), None) => {
                *place = Place {
                    epoch: head.epoch.clone(),
                    seq: Some(head.seq),
                }
            }
            (Some(place), Some(true)) => {
                *place = Place {
                    epoch: head.epoch.clone(),
                    seq: None,
                }
            }
            (None, recovered) if !full => {
                let seq = recovered.is_none().then_some(head.seq);
                self.rooms.insert(
                    room,
                    Place {
                        epoch: head.epoch.clone(),
                        seq,
                    },
                );
            }
            (None, _) => {}
        }
    }

    fn gap(&mut self, room: RoomId, epoch: &Epoch, to: Option<Seq>) {
        if let Some(place) = self.rooms.get_mut(&room) {
            if place.epoch != *epoch {
                *place = Place {
                    epoch: epoch.clone(),
                    seq: None,
                };
            }
            // Also back: a position beyond the last event is none, and what comes is no double.
            place.seq = to.or(place.seq);
        }
    }

    fn event(&mut self, event: &Event) -> bool {
        let mut news = event.ephemeral || event.rooms.is_empty();
        for (room, seq) in &event.rooms {
            match self.rooms.get_mut(room) {
                // An ephemeral event bears the head's number, which says nothing about what came.
                Some(_) if event.ephemeral => {}
                Some(place) if place.seq.is_none_or(|last| last < *seq) => {
                    place.seq = Some(*seq);
                    news = true;
                }
                Some(_) => {}
                None => news = true,
            }
        }
        // Asked last and always, so that the id is remembered whatever the numbers said.
        self.is_new(&event.id) && news
    }

    fn is_new(&mut self, id: &EventId) -> bool {
        if !self.known.insert(id.clone()) {
            return false;
        }
        self.recent.push_back(id.clone());
        if self.recent.len() > RECENT_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

/// What is named for a position.
fn resumed(seq: Seq) -> Seq {
    Seq::new(seq.number() + u64::from(fanfare_core::planted!(ResumesTooLate))).unwrap_or(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "task:550e8400-e29b-41d4-a716-446655440000";

    fn event(id: &str, rooms: &str) -> Message {
        let text = format!(
            r#"{{"type":"chat:message","id":"{id}","at":"2026-11-23T08:17:00.123Z","rooms":{rooms}}}"#
        );
        Message::parse(&text).unwrap()
    }

    fn system(kind: &str, data: &str) -> Message {
        Message::parse(&format!(r#"{{"type":"system:{kind}","data":{data}}}"#)).unwrap()
    }

    fn positions(resume: &Resume) -> String {
        let all: Vec<_> = resume
            .since()
            .iter()
            .map(|(room, at)| format!("{room}@{at}"))
            .collect();
        all.join(",")
    }

    #[test]
    fn positions_follow_the_welcome_and_every_event() {
        let mut resume = Resume::default();
        resume.take(&system(
            "welcome",
            r#"{"rooms":{"user:7":{"epoch":"e","seq":4}}}"#,
        ));
        assert_eq!(positions(&resume), "user:7@e:4");
        assert!(resume.take(&event("a", r#"{"user:7":5}"#)));
        assert_eq!(positions(&resume), "user:7@e:5");
        resume.take(&system(
            "joined",
            &format!(r#"{{"room":"{TASK}","epoch":"f","seq":9}}"#),
        ));
        assert!(resume.take(&event("b", &format!(r#"{{"{TASK}":10,"user:7":6}}"#))));
        assert_eq!(positions(&resume), format!("{TASK}@f:10,user:7@e:6"));
        resume.take(&system(
            "left",
            &format!(r#"{{"room":"{TASK}","reason":"deleted"}}"#),
        ));
        assert_eq!(positions(&resume), "user:7@e:6");
    }

    #[test]
    fn a_connection_lost_in_the_middle_of_a_replay_asks_for_the_rest_of_it() {
        let mut resume = Resume::new(vec![("user:7".parse().unwrap(), "e:3".parse().unwrap())]);
        resume.take(&system(
            "welcome",
            r#"{"rooms":{"user:7":{"epoch":"e","seq":9,"recovered":true}}}"#,
        ));
        assert_eq!(
            positions(&resume),
            "user:7@e:3",
            "the head is not where this client is"
        );
        resume.take(&event("a", r#"{"user:7":4}"#));
        assert_eq!(positions(&resume), "user:7@e:4");
    }

    #[test]
    fn a_replay_from_a_devices_cursor_names_no_position_before_its_first_event() {
        let mut resume = Resume::default();
        resume.take(&system(
            "welcome",
            r#"{"rooms":{"user:7":{"epoch":"e","seq":9,"recovered":true}}}"#,
        ));
        assert_eq!(positions(&resume), "");
        resume.take(&event("a", r#"{"user:7":4}"#));
        assert_eq!(positions(&resume), "user:7@e:4");
    }

    #[test]
    fn a_gap_moves_the_position_behind_what_is_lost() {
        let mut resume = Resume::new(vec![("user:7".parse().unwrap(), "e:3".parse().unwrap())]);
        resume.take(&system(
            "welcome",
            r#"{"rooms":{"user:7":{"epoch":"e","seq":9,"recovered":false}}}"#,
        ));
        resume.take(&system(
            "gap",
            r#"{"room":"user:7","epoch":"e","from":4,"to":6,"reason":"trimmed"}"#,
        ));
        assert_eq!(positions(&resume), "user:7@e:6");
        resume.take(&system(
            "gap",
            r#"{"room":"user:7","epoch":"f","from":1,"to":2,"reason":"epoch"}"#,
        ));
        assert_eq!(
            positions(&resume),
            "user:7@f:2",
            "numbers of another epoch don't compare"
        );
        let mut resume = Resume::new(vec![("user:7".parse().unwrap(), "e:30".parse().unwrap())]);
        resume.take(&system(
            "welcome",
            r#"{"rooms":{"user:7":{"epoch":"f","seq":2,"recovered":false}}}"#,
        ));
        assert_eq!(
            positions(&resume),
            "user:7@e:30",
            "a connection that is lost before the gap came has it told again"
        );
        resume.take(&system(
            "gap",
            r#"{"room":"user:7","epoch":"f","from":1,"to":2,"reason":"epoch"}"#,
        ));
        assert_eq!(positions(&resume), "user:7@f:2");
        assert!(resume.take(&event("a", r#"{"user:7":3}"#)));
    }

    #[test]
    fn a_position_of_the_future_hides_nothing_once_the_gap_is_told() {
        let mut resume = Resume::new(vec![("user:7".parse().unwrap(), "e:30".parse().unwrap())]);
        resume.take(&system(
            "welcome",
            r#"{"rooms":{"user:7":{"epoch":"e","seq":2,"recovered":false}}}"#,
        ));
        resume.take(&system(
            "gap",
            r#"{"room":"user:7","epoch":"e","from":1,"to":2,"reason":"epoch"}"#,
        ));
        assert_eq!(positions(&resume), "user:7@e:2");
        assert!(resume.take(&event("a", r#"{"user:7":3}"#)));
    }

    #[test]
    fn an_event_is_shown_once_however_it_comes() {
        let mut resume = Resume::new(vec![("user:7".parse().unwrap(), "e:3".parse().unwrap())]);
        assert!(resume.take(&event("a", r#"{"user:7":4}"#)));
        assert!(
            !resume.take(&event("a", r#"{"user:7":4}"#)),
            "the same again"
        );
        assert!(
            !resume.take(&event("z", r#"{"user:7":2}"#)),
            "from before the position"
        );
        resume.take(&system(
            "joined",
            &format!(r#"{{"room":"{TASK}","epoch":"f","seq":9,"recovered":true}}"#),
        ));
        assert!(
            !resume.take(&event("a", &format!(r#"{{"{TASK}":8}}"#))),
            "the same through another room"
        );
        assert_eq!(
            positions(&resume),
            format!("{TASK}@f:8,user:7@e:4"),
            "but its position counts"
        );
    }

    #[test]
    fn an_ephemeral_event_is_shown_and_moves_nothing() {
        let mut resume = Resume::new(vec![("user:7".parse().unwrap(), "e:3".parse().unwrap())]);
        let text = r#"{"type":"chat:typing","id":"t","at":"2026-11-23T08:17:00.123Z","rooms":{"user:7":8},"ephemeral":true}"#;
        assert!(resume.take(&Message::parse(text).unwrap()));
        assert_eq!(positions(&resume), "user:7@e:3");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut resume = Resume::default();
        for n in 0..3 * RECENT_MAX {
            resume.take(&event(&format!("id{n}"), r#"{"user:7":1}"#));
            resume.take(&system(
                "joined",
                &format!(r#"{{"room":"user:{n}","epoch":"e","seq":1}}"#),
            ));
        }
        assert_eq!(
            (resume.recent.len(), resume.known.len(), resume.rooms.len()),
            (RECENT_MAX, RECENT_MAX, ROOMS_MAX)
        );
    }
}
