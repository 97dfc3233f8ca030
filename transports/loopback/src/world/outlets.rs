//! Outlets as of other threads: what passes between them and the hub keeps its order each way, and any time may pass.

use super::{Happening, Turn, World};
use fanfare_core::{
    ConnId, Effect, Input, Limits, Open, Outlet, OutletOrder, OutletReport, Pull, Time,
};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// What passes between the hub and an outlet.
#[derive(Debug)]
pub(crate) enum Crossing {
    Order(usize, OutletOrder),
    Report(OutletReport),
}

/// One way between the hub and an outlet.
#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<Crossing>,
    /// When the last thing on it arrives.
    last: Time,
}

/// The outlets of a world beside the hub's own, each with the way to it and the way back.
#[derive(Debug)]
pub(crate) struct Outlets {
    outlets: Vec<Outlet>,
    lanes: Vec<Lane>,
    number: u8,
    crossing_ms: RangeInclusive<u64>,
    /// Who gets the next connection.
    next: u8,
}

impl Outlets {
    pub(super) const fn new(number: u8, crossing_ms: RangeInclusive<u64>) -> Self {
        Self {
            outlets: Vec::new(),
            lanes: Vec::new(),
            number,
            crossing_ms,
            next: 0,
        }
    }

    /// Outlets without connections, for another hub.
    pub(super) fn begin(&mut self, limits: &Limits) {
        let outlets = (0..self.number).map(|_| Outlet::new(limits.clone()));
        self.outlets = outlets.collect();
        self.lanes = Vec::new();
        self.lanes
            .resize_with(2 * self.outlets.len(), Lane::default);
    }

    fn look(&self, conn: ConnId) -> Option<&Outlet> {
        self.outlets.get(conn.outlet().checked_sub(1)?)
    }

    fn of(&mut self, conn: ConnId) -> Option<&mut Outlet> {
        self.outlets.get_mut(conn.outlet().checked_sub(1)?)
    }
}

impl World {
    /// Opens a connection at the next of all outlets.
    pub(super) fn open_somewhere(&mut self, open: Open) -> ConnId {
        let now = self.now();
        let next = self.outlets.next;
        self.outlets.next = if next == self.outlets.number {
            0
        } else {
            next + 1
        };
        self.hub.open_at(now, next, open)
    }

    /// Hands an input to whom it is for.
    pub(super) fn hand_in(&mut self, input: Input) {
        let now = self.now();
        let conn = match &input {
            Input::Message { conn, .. }
            | Input::Ping { conn }
            | Input::Pong { conn }
            | Input::Fault { conn, .. }
            | Input::Closed { conn } => Some(*conn),
            Input::Tick => {
                for outlet in &mut self.outlets.outlets {
                    outlet.handle(now, Input::Tick);
                }
                None
            }
            Input::Verified { .. }
            | Input::Publish { .. }
            | Input::Disconnect { .. }
            | Input::Drain
            | Input::Query { .. }
            | Input::Committed(_)
            | Input::Fetched { .. }
            | Input::Report(_) => None,
        };
        match conn.and_then(|conn| self.outlets.of(conn)) {
            Some(outlet) => outlet.handle(now, input),
            None => self.hub.handle(now, input),
        }
    }

    pub(super) fn pull_from(&mut self, conn: ConnId) -> Pull {
        let now = self.now();
        match self.outlets.of(conn) {
            Some(outlet) => outlet.pull(now, conn),
            None => self.hub.pull(now, conn),
        }
    }

    pub(super) fn is_busy(&self, conn: ConnId) -> bool {
        match self.outlets.look(conn) {
            Some(outlet) => outlet.is_busy(conn),
            None => self.hub.is_busy(conn),
        }
    }

    pub(super) fn waiting_at(&self, conn: ConnId) -> usize {
        match self.outlets.look(conn) {
            Some(outlet) => outlet.waiting_bytes(conn),
            None => self.hub.waiting_bytes(conn),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        let outlets = self.outlets.outlets.iter().map(Outlet::next_deadline);
        outlets.chain([self.hub.next_deadline()]).flatten().min()
    }

    /// The next effect, also of what passes at once.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.hub.poll() {
                return Some(effect);
            }
            let effect = self.outlets.outlets.iter_mut().find_map(Outlet::poll);
            if effect.is_some() {
                return effect;
            }
            self.send_across();
            let crossing = self.next_crossing()?;
            self.pass(crossing);
        }
    }

    /// Puts what hub and outlets have for each other on its way.
    fn send_across(&mut self) {
        let mut crossings = Vec::new();
        while let Some((outlet, order)) = self.hub.poll_order() {
            crossings.push((2 * (outlet - 1), Crossing::Order(outlet, order)));
        }
        for (at, outlet) in self.outlets.outlets.iter_mut().enumerate() {
            while let Some(report) = outlet.report() {
                crossings.push((2 * at + 1, Crossing::Report(report)));
            }
        }
        let now = self.agenda.now();
        for (lane, crossing) in crossings {
            let takes = self.random.within(&self.outlets.crossing_ms);
            let Some(lane) = self.outlets.lanes.get_mut(lane) else {
                continue;
            };
            lane.last = lane.last.max(now.plus(takes));
            if self.outlets.crossing_ms == (0..=0) {
                lane.waiting.push_back(crossing);
            } else {
                let happening = Happening::Cross(self.life, crossing);
                self.agenda.put(lane.last, Turn::Arrive, happening);
            }
        }
    }

    /// Something that passes now, drawn among what is first on its way.
    fn next_crossing(&mut self) -> Option<Crossing> {
        let lanes = &mut self.outlets.lanes;
        let mut ready: Vec<&mut Lane> = lanes
            .iter_mut()
            .filter(|lane| !lane.waiting.is_empty())
            .collect();
        let last = ready.len().checked_sub(1)?;
        let drawn = self.random.within(&(0..=last as u64));
        let lane = ready.get_mut(usize::try_from(drawn).ok()?)?;
        lane.waiting.pop_front()
    }

    /// Something arrives.
    pub(super) fn cross(&mut self, crossing: Crossing) {
        self.pass(crossing);
        self.carry_out();
    }

    fn pass(&mut self, crossing: Crossing) {
        let now = self.now();
        self.digest.debug(&(now, &crossing));
        match crossing {
            Crossing::Order(outlet, order) => {
                if let Some(outlet) = self.outlets.outlets.get_mut(outlet - 1) {
                    outlet.obey(now, order);
                }
            }
            Crossing::Report(report) => self.hub.handle(now, Input::Report(report)),
        }
    }
}
