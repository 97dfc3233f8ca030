//! Where connections are served: what waits for each, who of them watches a task, and whether the other side is there.
//!
//! A hub decides what is sent to whom, and in which order; an outlet keeps it until it is pulled. It knows no log, no rights and
//! no users, so that there may be several of them, each with connections of its own. Keeps *Slow hurts itself only*.

#[cfg(test)]
mod crossing;
mod deliver;
mod line;
mod order;
mod pull;
#[cfg(test)]
mod tests;
mod turn;

pub(crate) use order::{Direct, Order, ReadWhy, Report, Told};
pub use order::{OutletOrder, OutletReport};
pub(crate) use pull::Pulled;

use crate::close::CloseCode;
use crate::frame::Frame;
use crate::heartbeat::Heartbeat;
use crate::hub::{Effect, Held, Input};
use crate::ids::{ConnId, Position, RoomId, TaskId};
use crate::limits::Limits;
use crate::lookup::Lookup;
use crate::protocol;
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

/// Messages and pings of a connection that the hub may not have looked at yet.
const UNHANDLED_MAX: u8 = 2;

/// The connections of one thread, where a hub has several: what waits for them, and whether they are there. Orders of the hub go
/// in, reports to it come out, each in their order; between them any time may pass.
///
/// ```
/// use fanfare_core::{Claims, Effect, Endpoint, Hub, Input, Limits, Now, Open, Outlet, Principal, Pull, TaskGrant, UserId};
/// let now = Now::default();
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let mut outlet = Outlet::new(Limits::default());
/// let claims = Claims::new(UserId::new(7), 1, TaskGrant::All);
/// let principal = Principal::new(claims, now.wall).ok();
/// let conn = hub.open_at(now, 1, Open { principal, ..Open::new(Endpoint::Notifications) });
/// while let Some((1, order)) = hub.poll_order() {
///     outlet.obey(now, order);
/// }
/// while let Some(report) = outlet.report() {
///     hub.handle(now, Input::Report(report));
/// }
/// assert_eq!(outlet.poll(), Some(Effect::Ready(conn)));
/// let Pull::Frame(welcome) = outlet.pull(now, conn) else { panic!() };
/// assert!(welcome.text().starts_with(r#"{"type":"system:welcome""#));
/// ```
#[derive(Debug)]
pub struct Outlet {
    limits: Limits,
    hot: Vec<Hot>,
    lines: Vec<Option<Line>>,
    connections: usize,
    tasks: Lookup<TaskId, Watchers>,
    turns: Turns,
    deadlines: BTreeSet<(Time, ConnId)>,
    ready: VecDeque<ConnId>,
    dropped: VecDeque<ConnId>,
    reports: VecDeque<Report>,
}

impl Outlet {
    /// One without connections.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            hot: Vec::new(),
            lines: Vec::new(),
            connections: 0,
            tasks: Lookup::default(),
            turns: Turns::default(),
            deadlines: BTreeSet::new(),
            ready: VecDeque::new(),
            dropped: VecDeque::new(),
            reports: VecDeque::new(),
        }
    }

    /// Begins to serve a connection.
    fn open(&mut self, now: Time, conn: ConnId) {
        let slot = conn.slot();
        if self.lines.len() <= slot {
            self.lines.resize_with(slot + 1, || None);
            let nobody = Hot {
                generation: 0,
                turn: None,
                may_ride: false,
            };
            self.hot.resize(slot + 1, nobody);
        }
        let line = Line::new(now, &self.limits);
        if let (Some(place), Some(hot)) = (self.lines.get_mut(slot), self.hot.get_mut(slot)) {
            assert!(place.is_none(), "a slot is free before it is used again");
            *place = Some(line);
            hot.generation = conn.generation();
            hot.may_ride = true;
            self.connections += 1;
        }
        self.reschedule(now, conn);
    }

    /// Whether it serves this connection.
    #[must_use]
    pub fn serves(&self, conn: ConnId) -> bool {
        self.get(conn).is_some()
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

    /// The bounds that it keeps.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes what happened to one of its connections, or that time passed. Any other input is the hub's, and does nothing here.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Message { conn, text } => {
                self.heard(now, conn);
                // What comes after the goodbye is of no interest to the hub either.
                if let Some(line) = self.line(conn).filter(|line| line.is_served()) {
                    line.unhandled = line.unhandled.saturating_add(1);
                    self.reports.push_back(Report::Message { conn, text });
                }
            }
            Input::Ping { conn } => {
                self.heard(now, conn);
                if let Some(line) = self.line(conn).filter(|line| line.is_served()) {
                    line.unhandled = line.unhandled.saturating_add(1);
                    self.reports.push_back(Report::Ping { conn });
                }
            }
            Input::Pong { conn } => self.heard(now, conn),
            Input::Fault { conn, fault } => self.fail(conn, fault.close_code()),
            Input::Closed { conn } => self.closed(conn),
            Input::Tick => self.tick(now),
            Input::Verified { .. }
            | Input::Publish { .. }
            | Input::Disconnect { .. }
            | Input::Drain
            | Input::Query { .. }
            | Input::Committed(_)
            | Input::Fetched { .. }
            | Input::Report(_) => {}
        }
    }

    /// As [`Hub::is_busy`](crate::Hub::is_busy); also while the hub is to close the connection and has not said how.
    #[must_use]
    pub fn is_busy(&self, conn: ConnId) -> bool {
        let line = self.get(conn);
        line.is_some_and(|line| match line.mode {
            Mode::Failing => true,
            Mode::Leaving { .. } => false,
            Mode::Live | Mode::Behind(_) | Mode::Reading(_) => line.unhandled >= UNHANDLED_MAX,
        })
    }

    /// What it holds. O(connections).
    #[must_use]
    pub fn held(&self) -> Held {
        let none = Held {
            connections: self.connections,
            ..Held::default()
        };
        self.all_waiting_bytes().fold(none, |held, bytes| Held {
            outbox_bytes: held.outbox_bytes + bytes,
            outbox_bytes_max: held.outbox_bytes_max.max(bytes),
            ..held
        })
    }

    /// Does what the hub wants.
    pub fn obey(&mut self, now: Now, order: OutletOrder) {
        self.take(now, order.0);
    }

    /// Does what the hub wants.
    pub(crate) fn take(&mut self, now: Now, order: Order) {
        match order {
            Order::Open { conn } => self.open(now.time, conn),
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
            Order::Missing {
                conn,
                room,
                mut gap,
            } => {
                let missed = self.missed(conn);
                let first = missed.and_then(|missed| missed.remove(&room));
                if let Some(first) = first.filter(|first| first.epoch == gap.epoch) {
                    gap.from = gap.from.min(first.seq);
                }
                self.say(now, conn, protocol::gap(room, &gap));
            }
            Order::Read { conn, why } => self.read(now, conn, why),
            Order::Again { conn } => {
                if let Some(Mode::Reading(reading)) = self.line(conn).map(|line| &mut line.mode) {
                    reading.asked = false;
                    self.ready(now.time, conn);
                }
            }
            Order::More { conn, frames, ends } => self.more(now, conn, frames, ends),
            Order::Handled { conn } => {
                if let Some(line) = self.line(conn) {
                    line.unhandled = line.unhandled.saturating_sub(1);
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
    pub fn report(&mut self) -> Option<OutletReport> {
        self.reports.pop_front().map(OutletReport)
    }

    /// What the driver has to do next.
    pub fn poll(&mut self) -> Option<Effect> {
        let dropped = self.dropped.pop_front().map(Effect::Drop);
        dropped.or_else(|| self.ready.pop_front().map(Effect::Ready))
    }

    /// When [`Input::Tick`] is due. An earlier one does nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
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
    #[must_use]
    pub fn waiting_bytes(&self, conn: ConnId) -> usize {
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

    /// What a connection missed, the first of each room, as far as the hub may not know of it.
    fn missed(&mut self, conn: ConnId) -> Option<&mut BTreeMap<RoomId, Position>> {
        self.line(conn)?.missed()
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
        self.connections -= 1;
        true
    }

    fn leave(&mut self, task: TaskId, conn: ConnId, place: usize) {
        // What came before is still sent, though a turn that is full looks for those who ride among the members.
        self.end_ride(conn);
        // What is missing is nobody's any more, also where it comes back.
        if let Some(missed) = self.missed(conn) {
            missed.remove(&task.into());
        }
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
                let first = missed.clone();
                line.mode = Mode::Reading(Box::new(Reading {
                    asked: false,
                    missed,
                    deferred,
                }));
                self.reports.push_back(Report::Missed { conn, first });
            }
            // The hub learns of it yet.
            (Mode::Behind(_), ReadWhy::Resumes) => {}
            (Mode::Reading(_), _) => {}
            (Mode::Failing | Mode::Leaving { .. }, _) => return,
        }
        self.end_ride(conn);
        self.ready(now.time, conn);
    }

    /// What the log has next. One that reads no longer has left what it read.
    fn more(&mut self, now: Now, conn: ConnId, frames: Vec<Frame>, ends: bool) {
        let Some(line) = self.line(conn) else { return };
        let Mode::Reading(reading) = &mut line.mode else {
            return;
        };
        reading.asked = ends;
        reading.missed.clear();

        frames
            .into_iter()
            .for_each(|frame| line.outbox.push_read(frame));
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
