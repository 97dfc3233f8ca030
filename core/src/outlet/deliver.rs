//! From what the hub tells to what waits for each connection.
//!
//! O(watchers here), without allocation for one that rides.

use super::line::{Line, Mode};
use super::turn::Item;
use super::{Behind, Direct, Outlet, Report, Ride, Told};
use crate::close::CloseCode;
use crate::event::{Entry, Place};
use crate::frame::Frame;
use crate::ids::{ConnId, Position, RoomId, Seq, TaskId};
use crate::outbox::Full;
use crate::protocol;
use crate::room_log::{Gap, GapReason};
use crate::sim_reached;
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a connection gets an event through.
#[derive(Debug, Clone, Copy, Default)]
struct Through<'a> {
    task: Option<&'a Place>,
    user: Option<&'a Place>,
}

impl<'a> Through<'a> {
    fn places(self) -> impl Iterator<Item = &'a Place> {
        self.task.into_iter().chain(self.user)
    }
}

impl Outlet {
    pub(super) fn told(&mut self, now: Now, told: Told) {
        let task = told.task_place();
        let common = told.task.as_ref().map(|(_, frame)| frame);
        for Direct {
            conn,
            place,
            watches_task,
            frame,
        } in &told.direct
        {
            let through = Through {
                task: task.filter(|_| *watches_task),
                user: told.entry.places().get(*place),
            };
            self.deliver(now, *conn, &told, through, frame, common);
        }
        let Some((task, frame)) = &told.task else {
            return;
        };
        if told.is_deletion {
            self.tell_each(now, *task, &told, frame);
        } else {
            self.tell_watchers(now, *task, &told, frame);
        }
    }

    /// The members of a task who don't get it directly.
    fn others(&self, task: TaskId, direct: &[Direct]) -> Vec<ConnId> {
        let members = self.tasks.get(&task).map(|watchers| &watchers.members);
        let is_other = |conn: &&ConnId| !is_direct(direct, **conn);
        members
            .into_iter()
            .flatten()
            .filter(is_other)
            .copied()
            .collect()
    }

    /// Tells a task's last event, which nobody may miss.
    fn tell_each(&mut self, now: Now, task: TaskId, told: &Told, frame: &Frame) {
        for conn in self.others(task, &told.direct) {
            let through = Through {
                task: told.task_place(),
                user: None,
            };
            self.deliver(now, conn, told, through, frame, Some(frame));
        }
    }

    fn tell_watchers(&mut self, now: Now, task: TaskId, told: &Told, frame: &Frame) {
        let item = Item {
            entry: Arc::clone(&told.entry),
            frame: frame.clone(),
            since: now.time,
        };
        let turn = self.tasks.get(&task).and_then(|watchers| watchers.turn);
        if let Some(turn) = turn
            && !self.has_room(turn, &item)
        {
            sim_reached!("turn_full");
            self.end_rides(task, turn);
        }
        let Some(watchers) = self.tasks.get_mut(&task) else {
            return;
        };
        // Taken while its members are told, which changes no membership.
        let members = std::mem::take(&mut watchers.members);
        let mut turn = watchers.turn;
        let under_way = turn.and_then(|turn| self.turns.get(turn));
        assert!(
            under_way.is_none_or(|turn| turn.task == task),
            "a turn is one task's"
        );
        let at = under_way.map_or(0, super::turn::Turn::len);
        let mut apart = Vec::new();
        let to = match members.as_slice() {
            [some @ .., _] if some.len() >= 3 && planted!(MemberSkipped) => some,
            all => all,
        };
        for &conn in to {
            if is_direct(&told.direct, conn) {
                continue;
            }
            let Some(hot) = self.hot.get_mut(conn.slot()) else {
                continue;
            };
            if hot.generation != conn.generation() {
                continue;
            }
            match hot.turn {
                // It gets this one when it gets there.
                Some(ride) if Some(ride.turn) == turn => {}
                None if hot.may_ride => {
                    let turn = *turn.get_or_insert_with(|| self.turns.begin(task));
                    hot.turn = Some(Ride { turn, at });
                    self.turns.ride(turn);
                    self.ready.push_back(conn);
                }
                _ => apart.push(conn),
            }
        }
        if let Some(turn) = turn.and_then(|turn| self.turns.get_mut(turn)) {
            turn.push(item);
        }
        if let Some(watchers) = self.tasks.get_mut(&task) {
            watchers.members = members;
            watchers.turn = turn;
        }
        for conn in apart {
            let through = Through {
                task: told.task_place(),
                user: None,
            };
            self.deliver(now, conn, told, through, frame, Some(frame));
        }
    }

    fn has_room(&self, turn: u32, item: &Item) -> bool {
        let turn = self.turns.get(turn);
        turn.is_some_and(|turn| turn.has_room(item, self.limits.outbox_bytes))
    }

    /// Gives an event to one connection: into its outbox, or where it goes else. `common` is the frame of the task alone.
    fn deliver(
        &mut self,
        now: Now,
        conn: ConnId,
        told: &Told,
        through: Through<'_>,
        frame: &Frame,
        common: Option<&Frame>,
    ) {
        self.end_ride(conn);
        let entry = &told.entry;
        let Some(line) = self.line(conn) else { return };
        let reads = match &mut line.mode {
            Mode::Leaving { .. } if planted!(GoodbyeKeepsMember) => false,
            Mode::Failing | Mode::Leaving { .. } => return,
            Mode::Live => false,
            Mode::Behind(_) | Mode::Reading(_) => !planted!(LiveBeforeReplay),
        };
        if told.is_deletion {
            // The log of a deleted task is gone: its last event can't be read later. What comes through a room that is read does.
            let frame = if reads {
                through.task.and(common)
            } else {
                Some(frame)
            };
            if let Mode::Behind(behind) = &mut line.mode {
                // The hub does not know yet that it has to be read.
                let through = Through {
                    task: None,
                    ..through
                };
                note_missed(&mut behind.missed, through);
            }
            let Some(frame) = frame else { return };
            let taken = say_missed(line, through.task)
                .and_then(|()| line.outbox.push_system(frame.clone()));
            if taken.is_err() {
                return self.fail(conn, CloseCode::TOO_SLOW);
            }
            return self.ready(now.time, conn);
        }
        if reads {
            if !entry.is_kept() {
                line.defer(entry);
            } else if let Mode::Behind(behind) = &mut line.mode {
                note_missed(&mut behind.missed, through);
            }
            return;
        }
        let Some(room) = through.places().next().map(|place| place.room) else {
            return;
        };
        if line.take_event(entry, room, frame.clone()) {
            self.falls_behind(conn, entry, through);
        }
        self.ready(now.time, conn);
    }

    /// What no longer fits comes from the log, once the client has taken what waits.
    fn falls_behind(&mut self, conn: ConnId, entry: &Entry, through: Through<'_>) {
        let Some(line) = self.line(conn) else { return };
        sim_reached!("falls_behind");
        let mut behind = Behind::default();
        note_missed(&mut behind.missed, through);
        line.mode = Mode::Behind(Box::new(behind));
        let index = entry.index();
        self.reports.push_back(Report::Behind { conn, index });
    }

    /// Sends what the server has to say. A client that can't even take that is closed.
    pub(super) fn say(&mut self, now: Now, conn: ConnId, frame: Frame) {
        self.end_ride(conn);
        let Some(line) = self.line(conn) else { return };
        if line.take_word(frame).is_err() {
            sim_reached!("outbox_full_of_replies");
            return self.fail(conn, CloseCode::TOO_SLOW);
        }
        if line.may_be_told() {
            self.ready(now.time, conn);
        }
    }

    /// All is read. The last ephemeral events are sent now, with the numbers of now.
    pub(super) fn goes_live(
        &mut self,
        now: Now,
        conn: ConnId,
        rooms: &[(RoomId, Seq)],
        unread: usize,
    ) {
        let Some(line) = self.line(conn) else { return };
        let Mode::Reading(reading) = &mut line.mode else {
            return;
        };
        let deferred = reading.deferred.take();
        line.mode = Mode::Live;
        for entry in deferred {
            let of = |place: &Place| rooms.iter().find(|(room, _)| *room == place.room);
            let heads: Vec<&(RoomId, Seq)> = entry.places().iter().filter_map(of).collect();
            let Some((room, _)) = heads.first().copied() else {
                continue;
            };
            sim_reached!("deferred_sent");
            let is_user = |(room, _): &&(RoomId, Seq)| matches!(room, RoomId::User(_));
            let unread = heads
                .iter()
                .copied()
                .any(|head| is_user(&head))
                .then_some(unread);
            let frame = entry.encode(heads.iter().map(|(room, seq)| (room, *seq)), unread);
            // One that does not fit is dropped, as every ephemeral event of a full outbox.
            line.take_event(&entry, *room, frame);
        }
        self.ready(now.time, conn);
    }

    /// What waits for a connection in a turn goes into its outbox.
    pub(super) fn end_ride(&mut self, conn: ConnId) {
        let Some(Ride { turn, at }) = self.ride_of(conn) else {
            return;
        };
        let rest: Vec<Item> = match self.turns.get(turn) {
            Some(turn) => turn.rest(at).cloned().collect(),
            None => Vec::new(),
        };
        self.alight(conn);
        let Some(line) = self.line(conn) else { return };
        // It was named to the driver when it began to ride.
        line.waiting_since = rest.first().map(|item| item.since);
        let since = line.waiting_since;
        for Item { entry, frame, .. } in rest {
            self.take_over(conn, &entry, frame);
        }
        self.settle(conn);
        self.reschedule(since.unwrap_or_default(), conn);
    }

    /// Takes an event of a turn into the outbox.
    fn take_over(&mut self, conn: ConnId, entry: &Arc<Entry>, frame: Frame) {
        let through = Through {
            task: entry.places().first(),
            user: None,
        };
        let (Some(line), Some(place)) = (self.line(conn), through.task) else {
            return;
        };
        if matches!(line.mode, Mode::Live) {
            if line.take_event(entry, place.room, frame) {
                self.falls_behind(conn, entry, through);
            }
        } else if !entry.is_kept() {
            line.defer(entry);
        } else if let Mode::Behind(behind) = &mut line.mode {
            note_missed(&mut behind.missed, through);
        }
    }

    /// Nobody rides on a turn any more: what is left of it goes into their outboxes.
    fn end_rides(&mut self, task: TaskId, turn: u32) {
        let members = self
            .tasks
            .get(&task)
            .map(|watchers| watchers.members.clone());
        for conn in members.unwrap_or_default() {
            if self.ride_of(conn).is_some_and(|ride| ride.turn == turn) {
                self.end_ride(conn);
            }
        }
    }

    pub(super) fn ride_of(&self, conn: ConnId) -> Option<Ride> {
        let hot = self.hot.get(conn.slot())?;
        hot.turn.filter(|_| hot.generation == conn.generation())
    }

    /// A connection rides on no turn, whatever it did not get of it.
    pub(super) fn alight(&mut self, conn: ConnId) {
        let Some(Ride { turn, .. }) = self.ride_of(conn) else {
            return;
        };
        if let Some(hot) = self.hot.get_mut(conn.slot()) {
            hot.turn = None;
        }
        if let Some(task) = self.turns.alight(turn)
            && let Some(watchers) = self.tasks.get_mut(&task)
            && watchers.turn == Some(turn)
        {
            watchers.turn = None;
        }
    }
}

fn is_direct(direct: &[Direct], conn: ConnId) -> bool {
    !direct.is_empty()
        && direct
            .binary_search_by_key(&conn, |direct| direct.conn)
            .is_ok()
}

fn note_missed(missed: &mut BTreeMap<RoomId, Position>, through: Through<'_>) {
    for place in through.places() {
        missed.entry(place.room).or_insert_with(|| Position {
            epoch: place.epoch.clone(),
            seq: place.seq,
        });
    }
}

/// A client that fell behind is told what it will not get of a task that is deleted, as far as the hub did not know of it.
fn say_missed(line: &mut Line, task: Option<&Place>) -> Result<(), Full> {
    let (Some(place), Some(missed)) = (task, line.missed()) else {
        return Ok(());
    };
    let Some(first) = missed.remove(&place.room) else {
        return Ok(());
    };
    let gap = Gap {
        epoch: place.epoch.clone(),
        from: if first.epoch == place.epoch {
            first.seq
        } else {
            Seq::ZERO.next()
        },
        to: place.seq.before(),
        reason: if first.epoch == place.epoch {
            GapReason::Slow
        } else {
            GapReason::Epoch
        },
    };
    line.outbox.push_system(protocol::gap(place.room, &gap))
}
