//! What a hub is told.

use super::Query;
use crate::auth::{AuthError, Principal};
use crate::close::CloseCode;
use crate::event::Publish;
use crate::ids::{ConnId, UserId};
use crate::outlet::OutletReport;
use crate::port::{FetchId, Fetched, StoreFailure};

/// A number by which a driver knows the answer to its publish.
///
/// ```
/// use fanfare_core::Ticket;
/// assert_eq!(Ticket(1), Ticket(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How a client broke the rules of the WebSocket protocol or of its use here; what it is closed with.
///
/// ```
/// use fanfare_core::{CloseCode, Fault};
/// assert_eq!(Fault::NotText.close_code(), CloseCode::NOT_TEXT);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are no frames of RFC 6455.
    Protocol,
    /// A binary message.
    NotText,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A message in too many fragments, or that was never finished.
    Policy,
    /// A message over the limit.
    TooBig,
}

impl Fault {
    /// The code that it is closed with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::PROTOCOL_ERROR,
            Self::NotText => CloseCode::NOT_TEXT,
            Self::NotUtf8 => CloseCode::NOT_UTF8,
            Self::Policy => CloseCode::POLICY,
            Self::TooBig => CloseCode::TOO_BIG,
        }
    }
}

/// What happened outside. Inputs for a connection that is gone do nothing.
///
/// ```
/// use fanfare_core::{Hub, Input, Limits, Now};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// hub.handle(Now::default(), Input::Tick);
/// assert!(hub.poll().is_none());
/// ```
#[derive(Debug)]
pub enum Input {
    /// A text message came.
    Message {
        /// From whom.
        conn: ConnId,
        /// The text.
        text: String,
    },
    /// A ping came (the transport answers it).
    Ping {
        /// From whom.
        conn: ConnId,
    },
    /// A pong came.
    Pong {
        /// From whom.
        conn: ConnId,
    },
    /// A client broke the protocol.
    Fault {
        /// Which.
        conn: ConnId,
        /// How.
        fault: Fault,
    },
    /// The other side closed, or the socket is gone.
    Closed {
        /// Whose.
        conn: ConnId,
    },
    /// The answer to [`Effect::Verify`](crate::Effect::Verify); it must come before the connection's next message.
    Verified {
        /// Whose token.
        conn: ConnId,
        /// What the token says.
        result: Result<Principal, AuthError>,
    },
    /// A back end publishes; answered by [`Effect::Published`](crate::Effect::Published).
    Publish {
        /// By which the answer is known.
        ticket: Ticket,
        /// What.
        publish: Publish,
    },
    /// A back end closes all connections of a user, with 4503.
    Disconnect {
        /// The user.
        user: UserId,
    },
    /// The server shuts down: everybody is told, nobody else comes in. [`Effect::Drained`](crate::Effect::Drained) follows.
    Drain,
    /// A back end, or a client by HTTP, wants to know something; answered by [`Effect::Answered`](crate::Effect::Answered).
    Query {
        /// By which the answer is known.
        ticket: Ticket,
        /// What.
        query: Query,
    },
    /// The answer to [`Effect::Commit`](crate::Effect::Commit).
    Committed(Result<(), StoreFailure>),
    /// The answer to [`Effect::Fetch`](crate::Effect::Fetch).
    Fetched {
        /// Which.
        id: FetchId,
        /// What each of its fetches found, in their order.
        result: Result<Vec<Fetched>, StoreFailure>,
    },
    /// What an [`Outlet`](crate::Outlet) of another thread reports.
    Report(OutletReport),
    /// Time passed.
    Tick,
}
