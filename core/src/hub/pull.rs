//! What a connection is sent next: the transport asks when its socket can take it.

use super::Hub;
use crate::catch_up::Next;
use crate::close::CloseCode;
use crate::frame::Frame;
use crate::ids::{ConnId, RoomId};
use crate::outlet::{Order, Pulled};
use crate::protocol;
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

/// Frames that are read for a connection of another thread at once, and bytes, give or take a frame.
const READ_FRAMES: usize = 64;
const READ_BYTES: usize = 64 << 10;

/// What the log has for a connection.
enum Read {
    Frame(Frame),
    /// Nothing, until its outlet is told.
    Nothing,
    /// All was read.
    Done,
    /// What is next is to be looked at anew.
    Changed,
}

impl Hub {
    /// What `conn` is to be sent next. Pull what the socket can take soon: each pull counts as a sign that it takes.
    pub fn pull(&mut self, now: Now, conn: ConnId) -> Pull {
        loop {
            if let Pulled::Next(pull) = self.outlet.next(now, conn) {
                self.hear_reports(now);
                return pull;
            }
            match self.read_next(now, conn) {
                Read::Frame(frame) => {
                    self.outlet.passed(now, conn);
                    return Pull::Frame(frame);
                }
                Read::Nothing => {
                    self.outlet.rest(conn);
                    return Pull::Empty;
                }
                Read::Done => self.caught_up(now, conn),
                Read::Changed => {}
            }
        }
    }

    /// Hands an outlet what the log has next for one of its connections.
    pub(super) fn read_for(&mut self, now: Now, conn: ConnId) {
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let next = loop {
            if frames.len() >= READ_FRAMES || bytes >= READ_BYTES {
                break None;
            }
            match self.read_next(now, conn) {
                Read::Frame(frame) => {
                    bytes += frame.wire().len();
                    frames.push(frame);
                }
                Read::Changed if self.is_served(conn) => {}
                next @ (Read::Nothing | Read::Done | Read::Changed) => break Some(next),
            }
        };
        let ends = next.is_some();
        if !frames.is_empty() {
            self.order(now, Order::More { conn, frames, ends });
        }
        if matches!(next, Some(Read::Done)) {
            self.caught_up(now, conn);
        }
    }

    fn is_served(&self, conn: ConnId) -> bool {
        let session = self.sessions.get(conn);
        session.is_some_and(|session| !session.is_leaving())
    }

    /// All that waits for `conn` as it goes over the wire, and how many frames that is, where that is all the same for
    /// several: one write takes it. Otherwise `None`, and [`Hub::pull`] has it. It stays until [`Hub::rode`] says that it
    /// was written, or is pulled frame by frame, at most 64 of them or 64 KiB. O(1), but for the first who asks.
    ///
    /// ```
    /// use fanfare_core::{Claims, Draft, Effect, Endpoint, Hub, Limits, Now, Open, Payload, Principal, Pull, TaskGrant, TaskId, UserId};
    /// let (now, task) = (Now::default(), TaskId::new(uuid::Uuid::nil()));
    /// let mut hub = Hub::new(Limits::default(), [0; 32]);
    /// let claims = Claims::new(UserId::new(7), 1, TaskGrant::All);
    /// let principal = Principal::new(claims, now.wall).ok();
    /// let conn = hub.open(now, Open { principal, ..Open::new(Endpoint::Task(task)) });
    /// while hub.pull(now, conn) != Pull::Empty {}
    /// let draft = Draft::new("chat:message".parse()?, Payload::default());
    /// hub.at(now).publish_to_task(task, &[], draft)?;
    /// let Some((bytes, 1)) = hub.ride(conn) else { panic!("it waits for nothing else") };
    /// assert!(bytes.ends_with(b"}"));
    /// hub.rode(conn);
    /// assert_eq!(hub.pull(now, conn), Pull::Empty);
    /// # Ok::<(), fanfare_core::Error>(())
    /// ```
    pub fn ride(&mut self, conn: ConnId) -> Option<(&[u8], u64)> {
        self.outlet.ride(conn)
    }

    /// All that [`Hub::ride`] gave was written.
    pub fn rode(&mut self, conn: ConnId) {
        self.outlet.rode(conn);
    }

    fn read_next(&mut self, now: Now, conn: ConnId) -> Read {
        let Some(session) = self.sessions.get_mut(conn) else {
            return Read::Nothing;
        };
        if let Some(catch_up) = &mut session.catch_up {
            match catch_up.next(&self.bus) {
                Next::Frame(frame) => return Read::Frame(frame),
                Next::Pages(pages) => self.fetch_pages(conn, pages),
                Next::Wait => {
                    sim_reached!("waits_for_a_page");
                }
                Next::Done => return Read::Done,
            }
            return Read::Nothing;
        }
        let delivery = Self::subscription(session).and_then(|id| self.bus.pull(id));
        match delivery {
            None => Read::Nothing,
            Some(Delivery::Entry(entry)) => Read::Frame(entry.encode_all()),
            Some(Delivery::Gap { .. }) if planted!(BusGapUntold) => Read::Changed,
            Some(Delivery::Gap { room, gap }) => {
                sim_reached!("bus_gap");
                Read::Frame(protocol::gap(room, &gap))
            }
            Some(Delivery::Overrun) => {
                sim_reached!("bus_overrun");
                self.close(now, conn, CloseCode::TOO_SLOW);
                Read::Changed
            }
        }
    }

    /// From here on events come live.
    fn caught_up(&mut self, now: Now, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.catch_up = None;
        }
        let user = self.users.rooms_of(conn).next();
        let tasks = self.tasks.rooms_of(conn).map(RoomId::Task);
        let rooms = tasks.chain(user.map(RoomId::User));
        let rooms = rooms.map(|room| (room, self.bus.position(room).seq));
        let order = Order::Live {
            conn,
            rooms: rooms.collect(),
            unread: user.map_or(0, |user| self.bus.unread(user)),
        };
        self.order(now, order);
    }
}
