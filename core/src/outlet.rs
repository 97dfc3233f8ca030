//! Where connections are served: what waits for each, who of them watches a task, and whether the other side is there.
//!
//! A hub decides what is sent to whom, and in which order; an outlet keeps it until it is pulled. It knows no log, no rights and
//! no users, so that there may be several of them, each with connections of its own. Keeps *Slow hurts itself only*.

mod deliver;
mod line;
mod order;
mod pull;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use order::{Direct, Order, ReadWhy, Report, Told};
pub(crate) use pull::Pulled;

use crate::close::CloseCode;
use crate::frame::Frame;
use crate::heartbeat::Heartbeat;
use crate::hub::Effect;
use crate::ids::{ConnId, Position, RoomId, TaskId};
use crate::limits::Limits;
use crate::lookup::Lookup;
use crate::sim_reached;
use crate::time::{Now, Time};
use line::{Behind, Due, Line, Mode, Reading};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use turn::Turns;

/// What a delivery to a connection looks at first, where nothing waits for it.
#[derive(Debug, Clone, Copy)]
struct Hot {
    /// As the connection's number has it.
    generation: u32,
    /// The turn that it rides on.
    turn: Option<Ride>,
    /// Whether an event may ride: nothing else waits.
    may_ride: bool,
}

/// A connection's place in a turn.
#[derive(Debug, Clone, Copy)]
struct Ride {
    turn: u32,
    /// The event that it gets next.
    at: u32,
}

/// Who watches a task here, and the turn that some of them ride on.
#[derive(Debug, Default)]
struct Watchers {
    /// As the hub has them, in the same order.
    members: Vec<ConnId>,
    turn: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Outlet {
    limits: Limits,
    number: u8,
    hot: Vec<Hot>,
    lines: Vec<Option<Line>>,
    free: Vec<u32>,
    tasks: Lookup<TaskId, Watchers>,
    turns: Turns,
    deadlines: BTreeSet<(Time, ConnId)>,
    ready: VecDeque<ConnId>,
    dropped: VecDeque<ConnId>,
    reports: VecDeque<Report>,
}

impl Outlet {
    /// One without connections; `number` tells it from the others of a hub.
    pub(crate) fn new(limits: Limits, number: u8) -> Self {
        Self {
            limits,
            number,
            hot: Vec::new(),
            lines: Vec::new(),
            free: Vec::new(),
            tasks: Lookup::default(),
            turns: Turns::default(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            dropped: VecDeque::new(),
            reports: VecDeque::new(),
        }
    }

    /// Takes a connection, which the hub is to be told of.
    pub(crate) fn open(&mut self, now: Time) -> ConnId {
        let line = Line::new(now, &self.limits);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.hot.push(Hot {
                generation: ConnId::first_generation(self.number),
                turn: None,
                may_ride: false,
            });
            self.lines.push(None);
            #[expect(
                clippy::expect_used,
                reason = "four milliards of connections don't fit into memory"
            )]
            u32::try_from(self.lines.len() - 1).expect("fewer than 2^32 connections")
        });
        if let Some(place) = self.lines.get_mut(slot as usize) {
            *place = Some(line);
        }
        let hot = self.hot.get_mut(slot as usize);
        let generation = hot.map_or(0, |hot| {
            hot.may_ride = true;
            hot.generation
        });
        let conn = ConnId::new(slot, generation);
        self.reschedule(now, conn);
        conn
    }

    /// The other side is there.
    pub(crate) fn heard(&mut self, now: Now, conn: ConnId) {
        if let Some(line) = self.line(conn) {
            line.heartbeat = Heartbeat::Heard(now.time);
            // Sooner than an answer would have been missed, where those may take longer.
            self.reschedule(now.time, conn);
            self.settle(conn);
        }
    }

    /// The other side is gone.
    pub(crate) fn closed(&mut self, conn: ConnId) {
        if self.remove(conn) {
            self.reports.push_back(Report::Gone { conn });
        }
    }

    /// Does what the hub wants.
    pub(crate) fn take(&mut self, now: Now, order: Order) {
        match order {
            Order::Enter { task, conn } => {
                let watchers = self.tasks.entry_or_insert_with(task, Watchers::default);
                watchers.members.push(conn);
            }
            Order::Leave { task, conn, place } => self.leave(task, conn, place),
            Order::Told(told) => self.told(now, told),
            Order::Say { conn, frame } => self.say(now, conn, frame),
            Order::Anew { conn, room, frame } => {
                // Who reads the room finds the new epoch there.
                if self.get(conn).is_some_and(|line| !line.is_reading()) {
                    if let Some(missed) = self.missed(conn) {
                        missed.remove(&room);
                    }
                    self.say(now, conn, frame);
                }
            }
            Order::Missing { conn, room, frame } => {
                // Otherwise more is missing than the hub knows of, and is told with the event.
                if self
                    .missed(conn)
                    .is_none_or(|missed| !missed.contains_key(&room))
                {
                    self.say(now, conn, frame);
                }
            }
            Order::Read { conn, why } => self.read(now, conn, why),
            Order::Again { conn } => {
                if self.get(conn).is_some_and(Line::is_reading) {
                    self.ready(now.time, conn);
                }
            }
            Order::Live {
                conn,
                rooms,
                unread,
            } => self.goes_live(now, conn, &rooms, unread),
            Order::Close {
                conn,
                code,
                goodbye,
                keeps_waiting,
            } => self.close(now, conn, code, goodbye, keeps_waiting),
        }
    }

    /// What the hub has to know next.
    pub(crate) fn report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// What the driver has to do next.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        let dropped = self.dropped.pop_front().map(Effect::Drop);
        dropped.or_else(|| self.ready.pop_front().map(Effect::Ready))
    }

    /// When [`Outlet::tick`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    pub(crate) fn tick(&mut self, now: Now) {
        while let Some((time, conn)) = self
            .deadlines
            .first()
            .copied()
            .filter(|(time, _)| *time <= now.time)
        {
            self.deadlines.remove(&(time, conn));
            // What rides waits since it came.
            self.end_ride(conn);
            let Some((line, limits)) = self.line_and_limits(conn) else {
                continue;
            };
            line.scheduled = None;
            match line.tick(now.time, limits) {
                None => {}
                Some(Due::Ping) => self.ready(now.time, conn),
                Some(Due::Close(code)) => self.fail(conn, code),
                Some(Due::Drop) => {
                    sim_reached!("goodbye_not_taken");
                    self.closed(conn);
                    self.dropped.push_back(conn);
                }
            }
            self.reschedule(now.time, conn);
        }
    }

    /// Bytes that wait for a connection.
    pub(crate) fn waiting_bytes(&self, conn: ConnId) -> usize {
        let Some(line) = self.get(conn) else { return 0 };
        line.outbox.bytes() + self.riding_bytes(conn.slot())
    }

    /// Bytes that wait for each connection.
    pub(crate) fn all_waiting_bytes(&self) -> impl Iterator<Item = usize> {
        let lines = self.lines.iter().enumerate();
        lines.filter_map(|(slot, line)| {
            let waiting = line.as_ref()?.outbox.bytes();
            Some(waiting + self.riding_bytes(slot))
        })
    }

    fn riding_bytes(&self, slot: usize) -> usize {
        let ride = self.hot.get(slot).and_then(|hot| hot.turn);
        let turn = ride.and_then(|ride| Some((self.turns.get(ride.turn)?, ride.at)));
        turn.map_or(0, |(turn, at)| turn.bytes_from(at))
    }

    fn get(&self, conn: ConnId) -> Option<&Line> {
        let is_open = self.hot.get(conn.slot())?.generation == conn.generation();
        self.lines.get(conn.slot())?.as_ref().filter(|_| is_open)
    }

    fn line(&mut self, conn: ConnId) -> Option<&mut Line> {
        self.line_and_limits(conn).map(|(line, _)| line)
    }

    fn line_and_limits(&mut self, conn: ConnId) -> Option<(&mut Line, &Limits)> {
        let is_open = self.hot.get(conn.slot())?.generation == conn.generation();
        let line = self.lines.get_mut(conn.slot())?.as_mut();
        Some((line.filter(|_| is_open)?, &self.limits))
    }

    /// What a connection missed of which the hub does not know that it fell behind.
    fn missed(&mut self, conn: ConnId) -> Option<&mut BTreeMap<RoomId, Position>> {
        match &mut self.line(conn)?.mode {
            Mode::Behind(behind) => Some(&mut behind.missed),
            Mode::Live | Mode::Reading(_) | Mode::Failing | Mode::Leaving { .. } => None,
        }
    }

    /// Takes a connection away. Whether there was one. It stands among the watchers until the hub has it leave.
    fn remove(&mut self, conn: ConnId) -> bool {
        let Some(scheduled) = self.line(conn).map(|line| line.scheduled) else {
            return false;
        };
        self.alight(conn);
        if let Some(scheduled) = scheduled {
            self.deadlines.remove(&(scheduled, conn));
        }
        if let Some(place) = self.lines.get_mut(conn.slot()) {
            *place = None;
        }
        if let Some(hot) = self.hot.get_mut(conn.slot()) {
            hot.generation = conn.next_generation();
            hot.may_ride = false;
        }
        self.free.push(conn.number());
        true
    }

    fn leave(&mut self, task: TaskId, conn: ConnId, place: usize) {
        // What came before is still sent, though a turn that is full looks for those who ride among the members.
        self.end_ride(conn);
        let Some(watchers) = self.tasks.get_mut(&task) else {
            return;
        };
        assert_eq!(
            watchers.members.get(place),
            Some(&conn),
            "hub and outlet agree on who watches"
        );
        watchers.members.swap_remove(place);
        if watchers.members.is_empty() {
            self.tasks.remove(&task);
        }
    }

    fn read(&mut self, now: Now, conn: ConnId, why: ReadWhy) {
        let Some(line) = self.line(conn) else { return };
        match (&mut line.mode, why) {
            (Mode::Live, _) => line.mode = Mode::Reading(Box::default()),
            (Mode::Behind(behind), ReadWhy::IsBehind) => {
                let Behind { missed, deferred } = std::mem::take(&mut **behind);
                line.mode = Mode::Reading(Box::new(Reading { deferred }));
                self.reports.push_back(Report::Missed {
                    conn,
                    first: missed,
                });
            }
            // The hub learns of it yet.
            (Mode::Behind(_), ReadWhy::Resumes) => {}
            (Mode::Reading(_), _) => {}
            (Mode::Failing | Mode::Leaving { .. }, _) => return,
        }
        self.end_ride(conn);
        self.ready(now.time, conn);
    }

    /// Has the hub close a connection, which takes nothing meanwhile.
    fn fail(&mut self, conn: ConnId, code: CloseCode) {
        self.alight(conn);
        let Some(line) = self.line(conn) else { return };
        if matches!(line.mode, Mode::Leaving { .. } | Mode::Failing) {
            return;
        }
        line.mode = Mode::Failing;
        self.settle(conn);
        self.reports.push_back(Report::Failing { conn, code });
    }

    fn close(
        &mut self,
        now: Now,
        conn: ConnId,
        code: CloseCode,
        goodbye: Frame,
        keeps_waiting: bool,
    ) {
        if keeps_waiting {
            self.end_ride(conn);
        } else {
            self.alight(conn);
        }
        let until = now.time.plus(self.limits.close_ms);
        let Some(line) = self.line(conn) else { return };
        line.mode = Mode::Leaving {
            code,
            until,
            goodbye: Some(goodbye),
        };
        if !keeps_waiting {
            sim_reached!("goodbye_drops_what_waited");
            line.outbox.clear();
        }
        self.ready(now.time, conn);
        self.reschedule(now.time, conn);
    }

    /// Names the connection to the driver, once until it was pulled empty.
    fn ready(&mut self, now: Time, conn: ConnId) {
        if let Some(line) = self.line(conn)
            && line.waiting_since.is_none()
        {
            line.waiting_since = Some(now);
            self.ready.push_back(conn);
            self.reschedule(now, conn);
        }
        self.settle(conn);
    }

    /// Whether an event may ride is looked at anew.
    fn settle(&mut self, conn: ConnId) {
        let Some(may_ride) = self.get(conn).map(Line::may_ride) else {
            return;
        };
        if let Some(hot) = self.hot.get_mut(conn.slot()) {
            hot.may_ride = may_ride;
        }
    }

    /// Sees to it that the connection is looked at in time. A look that comes too early costs little, so that one is left.
    fn reschedule(&mut self, now: Time, conn: ConnId) {
        let Some((line, limits)) = self.line_and_limits(conn) else {
            return;
        };
        // What rides has no deadline of its own: a look in this time finds it before it has waited too long.
        let deadline = line.deadline(limits).min(now.plus(limits.stall_ms));
        if line
            .scheduled
            .is_some_and(|scheduled| scheduled <= deadline)
        {
            return;
        }
        if let Some(scheduled) = line.scheduled.replace(deadline) {
            self.deadlines.remove(&(scheduled, conn));
        }
        self.deadlines.insert((deadline, conn));
    }
}
