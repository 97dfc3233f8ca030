//! What a connection is sent next: the transport asks when its socket can take it.

use super::Hub;
use crate::catch_up::Next;
use crate::close::CloseCode;
use crate::event::Retention;
use crate::frame::Frame;
use crate::ids::{ConnId, RoomId, Seq};
use crate::protocol;
use crate::session::{Session, State};
use crate::sim_reached;
use crate::subscriptions::Delivery;
use crate::time::Now;

/// What is to be written next.
///
/// ```
/// use fanfare_core::{Endpoint, Hub, Limits, Now, Open, Pull};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let conn = hub.open(Now::default(), Open::new(Endpoint::Notifications));
/// assert_eq!(hub.pull(Now::default(), conn), Pull::Empty);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pull {
    /// A text frame.
    Frame(Frame),
    /// A ping without content.
    Ping,
    /// A close frame, and nothing after it. The hub has forgotten the connection.
    Close {
        /// Its code.
        code: CloseCode,
        /// Its reason.
        reason: &'static str,
    },
    /// Nothing, until [`Effect::Ready`](crate::Effect::Ready) names the connection again.
    Empty,
}

impl Hub {
    /// What `conn` is to be sent next. Pull what the socket can take soon: each pull counts as a sign that it takes.
    pub fn pull(&mut self, now: Now, conn: ConnId) -> Pull {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Pull::Empty;
        };
        let leaving = match session.state {
            State::Leaving { code, .. } => Some(code),
            State::Unauthenticated { .. }
            | State::Verifying { .. }
            | State::Arriving { .. }
            | State::Live(_)
            | State::Bus(_) => None,
        };
        if leaving.is_none() && session.heartbeat.take_ping(now.time, &self.limits) {
            session.waiting_since = Some(now.time);
            sim_reached!("ping_sent");
            return Pull::Ping;
        }
        if let Some(frame) = self.next_frame(now, conn) {
            if let Some(session) = self.sessions.get_mut(conn) {
                session.progressed(now.time, &self.limits);
            }
            return Pull::Frame(frame);
        }
        // Reading the bus may have found a subscriber too slow, so the state is looked at anew.
        let state = self.sessions.get(conn).map(|session| &session.state);
        match (leaving, state) {
            (Some(code), _) => {
                let goodbye = self.sessions.get_mut(conn).and_then(Session::goodbye);
                if let Some(frame) = goodbye {
                    return Pull::Frame(frame);
                }
                self.forget(now, conn);
                Pull::Close {
                    code,
                    reason: code.reason(),
                }
            }
            (None, Some(State::Leaving { .. })) => self.pull(now, conn),
            (None, _) => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.waiting_since = None;
                }
                Pull::Empty
            }
        }
    }

    /// The outbox and what is read from the log take turns, except where the order of a room needs the outbox first.
    fn next_frame(&mut self, now: Now, conn: ConnId) -> Option<Frame> {
        let session = self.sessions.get_mut(conn)?;
        let reads_first = session.catch_up.is_some()
            && session.before_catch_up == 0
            && std::mem::replace(&mut session.catch_up_next, false);
        if !reads_first && let Some(frame) = session.outbox.pop() {
            session.before_catch_up = session.before_catch_up.saturating_sub(1);
            session.catch_up_next = true;
            return Some(frame);
        }
        if let Some(catch_up) = &mut session.catch_up {
            match catch_up.next(&self.bus) {
                Next::Frame(frame) => return Some(frame),
                Next::Pages(pages) => self.fetch_pages(conn, pages),
                Next::Wait => {
                    sim_reached!("waits_for_a_page");
                }
                Next::Done => self.caught_up(conn),
            }
        }
        let session = self.sessions.get_mut(conn)?;
        if let Some(frame) = session.outbox.pop() {
            return Some(frame);
        }
        let id = Self::subscription(session)?;
        match self.bus.pull(id)? {
            Delivery::Entry(entry) => Some(entry.encode_all()),
            Delivery::Gap { .. } if planted!(BusGapUntold) => self.next_frame(now, conn),
            Delivery::Gap { room, gap } => {
                sim_reached!("bus_gap");
                Some(protocol::gap(room, &gap))
            }
            Delivery::Overrun => {
                sim_reached!("bus_overrun");
                self.close(now, conn, CloseCode::TOO_SLOW);
                None
            }
        }
    }

    /// From here on events come live. The last ephemeral ones are sent now, with the numbers of now.
    fn caught_up(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        session.before_catch_up = 0;
        let deferred = session
            .catch_up
            .take()
            .map(|catch_up| catch_up.into_deferred());
        for entry in deferred.unwrap_or_default() {
            let mut heads: Vec<(_, Seq)> = Vec::new();
            for place in entry.places() {
                let member = match place.room {
                    RoomId::Task(task) => self.tasks.contains(task, conn),
                    RoomId::User(user) => self.users.contains(user, conn),
                };
                if member {
                    heads.push((place.room, self.bus.position(place.room).seq));
                }
            }
            let Some((room, _)) = heads.first().copied() else {
                continue;
            };
            sim_reached!("deferred_sent");
            let user = self.users.rooms_of(conn).find(|user| {
                let room = RoomId::User(*user);
                heads.iter().any(|(other, _)| *other == room)
            });
            let frame = entry.encode(
                heads.iter().map(|(room, seq)| (room, *seq)),
                user.map(|user| self.bus.unread(user)),
            );
            let Some(session) = self.sessions.get_mut(conn) else {
                return;
            };
            // One that does not fit is dropped, as every ephemeral event of a full outbox.
            let _ = match &entry.event().retention {
                Retention::Ephemeral { key: Some(key) } => {
                    session.outbox.replace_event(room, key, frame)
                }
                Retention::Ephemeral { key: None } | Retention::Kept => {
                    session.outbox.push_event(frame)
                }
            };
        }
    }
}
