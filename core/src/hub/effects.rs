//! What a hub tells its driver to do.

use super::{Answer, Ticket};
use crate::error::Error;
use crate::ids::ConnId;
use crate::port::{Change, Fetch, FetchId};
use crate::protocol::Token;
use crate::receipt::Receipt;
use crate::subscriptions::SubscriptionId;

/// What the driver has to do.
///
/// ```
/// use fanfare_core::{Effect, Endpoint, Hub, Input, Limits, Now, Open, Pull};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let conn = hub.open(Now::default(), Open::new(Endpoint::Notifications));
/// hub.handle(Now::default(), Input::Drain);
/// assert_eq!(hub.poll(), Some(Effect::Ready(conn)));
/// assert!(matches!(hub.pull(Now::default(), conn), Pull::Frame(_)));
/// assert!(matches!(hub.pull(Now::default(), conn), Pull::Close { .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The connection has something to send: [`Hub::pull`](crate::Hub::pull) it. Comes once until a pull was empty.
    Ready(ConnId),
    /// Check this token, and answer with [`Input::Verified`](crate::Input::Verified).
    Verify {
        /// Whose.
        conn: ConnId,
        /// The token.
        token: Token,
    },
    /// Close the socket now, there is nothing more to write; the hub has forgotten the connection.
    Drop(ConnId),
    /// The answer to a publish.
    Published {
        /// Whose.
        ticket: Ticket,
        /// Where the event is, or why it was refused.
        result: Result<Receipt, Error>,
    },
    /// The answer to a query.
    Answered {
        /// Whose.
        ticket: Ticket,
        /// What it wanted to know, or why it can't.
        result: Result<Answer, Error>,
    },
    /// Commit these changes in their order, all or none, and answer with [`Input::Committed`](crate::Input::Committed).
    /// One is under way at a time.
    Commit(Vec<Change>),
    /// Read these parts of the store, with everything whose commit was answered, and answer with
    /// [`Input::Fetched`](crate::Input::Fetched).
    Fetch {
        /// By which the answer is known.
        id: FetchId,
        /// What to read.
        fetches: Vec<Fetch>,
    },
    /// The subscriber has something to pull. Comes once until a pull was empty.
    Subscription(SubscriptionId),
    /// Draining is done: no connection is left.
    Drained,
}
