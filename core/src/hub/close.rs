//! How connections end: told why and whether to come back, within a deadline, and out of all rooms at once.

use super::{Drained, Effect, Hub};
use crate::close::{CloseCode, Retry};
use crate::frame::Frame;
use crate::ids::ConnId;
use crate::outlet::Order;
use crate::protocol;
use crate::session::State;
use crate::sim_reached;
use crate::time::Now;

impl Hub {
    /// Begins to close a connection: nothing of any room comes after this, and what waited is dropped.
    pub(super) fn close(&mut self, now: Now, conn: ConnId, code: CloseCode) {
        self.end(now, conn, code, false);
    }

    fn end(&mut self, now: Now, conn: ConnId, code: CloseCode, keeps_waiting: bool) {
        if self
            .sessions
            .get(conn)
            .is_none_or(|session| session.is_leaving())
        {
            return;
        }
        if !planted!(GoodbyeKeepsMember) {
            self.leave_all(now, conn);
        }
        let spread_ms = match code.retry() {
            Retry::After => 1 + self.bus.jitter(self.limits.drain_spread_ms),
            Retry::Now | Retry::Never => 0,
        };
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.state = State::Leaving;
        session.catch_up = None;
        let goodbye = protocol::goodbye(code, spread_ms);
        self.order(
            now,
            Order::Close {
                conn,
                code,
                goodbye,
                keeps_waiting,
            },
        );
    }

    pub(super) fn drain(&mut self, now: Now) {
        self.draining.get_or_insert(Drained(false));
        for conn in self.sessions.ids() {
            self.end(now, conn, CloseCode::DRAINING, true);
        }
        self.bus.write_tasks();
        self.tell_drained();
    }

    /// Says that draining is done, once it is: nobody is connected, and nothing is on its way to the store.
    pub(super) fn tell_drained(&mut self) {
        let gone = self.sessions.len() == 0 && self.is_at_rest();
        if self.draining == Some(Drained(false)) && gone {
            self.draining = Some(Drained(true));
            sim_reached!("drained");
            self.effects.push_back(Effect::Drained);
        }
    }

    /// Takes a connection out of everything.
    pub(super) fn forget(&mut self, now: Now, conn: ConnId) {
        self.leave_all(now, conn);
        if let Some(session) = self.sessions.remove(conn)
            && let Some(scheduled) = session.scheduled
        {
            self.deadlines.remove(&(scheduled, conn));
        }
        self.tell_drained();
    }

    fn leave_all(&mut self, now: Now, conn: ConnId) {
        let watched: Vec<_> = self.tasks.rooms_of(conn).collect();
        for task in watched {
            self.unwatch(now, task, conn);
        }
        let device = self
            .sessions
            .get(conn)
            .and_then(|session| session.device.clone());
        for user in self.users.leave_all(conn) {
            if let Some(device) = &device {
                self.bus.depart(now.wall, user, device);
            }
            self.devices.disconnect(user, device.clone());
        }
        if let Some(State::Bus(id)) = self.sessions.get(conn).map(|session| &session.state) {
            let id = *id;
            self.bus.unsubscribe(id);
            self.bus_connections.remove(&id);
        }
    }

    /// Sends what the server has to say. A client that can't even take that is closed.
    pub(super) fn say(&mut self, now: Now, conn: ConnId, frame: Frame) {
        self.order(now, Order::Say { conn, frame });
    }
}
