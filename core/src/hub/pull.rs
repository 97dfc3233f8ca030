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

/// What the log has for a connection.
enum Read {
    Frame(Frame),
    /// Nothing, until its outlet is told.
    Nothing,
    /// The connection is no longer where it was.
    Changed,
}

impl Hub {
    /// What `conn` is to be sent next. Pull what the socket can take soon: each pull counts as a sign that it takes.
    pub fn pull(&mut self, now: Now, conn: ConnId) -> Pull {
        loop {
            if let Pulled::Next(pull) = self.outlet.pull(now, conn) {
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
                Read::Changed => {}
            }
        }
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
                Next::Done => {
                    self.caught_up(now, conn);
                    return Read::Changed;
                }
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
