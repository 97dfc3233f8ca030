//! What can be seen of a run from outside: by clients, back ends and subscribers. An oracle needs nothing else.

use crate::client::Client;
use crate::handshake::Handshake;
use crate::received::Received;
use crate::world::Restart;
use fanfare_core::{Error, Publish, Receipt, StoreFailure, Ticket, Time};

/// Something that happened at a time.
///
/// ```
/// use fanfare_loopback::{Handshake, Observed, World, user};
/// let mut world = World::new(1);
/// world.connect(Handshake::notifications(user(7)));
/// let seen = world.take_observations();
/// assert!(matches!(seen[0].what, Observed::Opened { .. }));
/// assert!(matches!(seen[1].what, Observed::Received { .. }));
/// ```
#[derive(Debug, Clone)]
pub struct Observation {
    /// When.
    pub time: Time,
    /// What.
    pub what: Observed,
}

/// What happened.
///
/// ```
/// use fanfare_loopback::Observed;
/// fn is_an_answer(observed: &Observed) -> bool {
///     matches!(observed, Observed::Published { .. })
/// }
/// ```
#[derive(Debug, Clone)]
pub enum Observed {
    /// A client opened a connection; a former one of the same client is over.
    Opened {
        /// Who.
        client: Client,
        /// How.
        handshake: Handshake,
    },
    /// Somebody subscribed to the bus in the hub's own thread.
    Subscribed {
        /// Who.
        client: Client,
        /// To what.
        patterns: Vec<fanfare_core::Pattern>,
    },
    /// A client sent a message.
    Said {
        /// Who.
        client: Client,
        /// The text.
        text: String,
    },
    /// A client read something.
    Received {
        /// Who.
        client: Client,
        /// When the hub's side wrote it.
        written: Time,
        /// What.
        received: Received,
    },
    /// A client closed its connection.
    Disconnected {
        /// Who.
        client: Client,
    },
    /// A back end publishes; the answer is still to come.
    Publishing {
        /// By which the answer is known.
        ticket: Ticket,
        /// What.
        publish: Publish,
    },
    /// A back end published, and was answered.
    Published {
        /// By which it was known.
        ticket: Ticket,
        /// What.
        publish: Publish,
        /// The answer.
        result: Result<Receipt, Error>,
    },
    /// The hub has no connection left, and takes none.
    Drained,
    /// The store did not commit.
    CommitFailed(StoreFailure),
    /// The store did not read.
    ReadFailed,
    /// The hub is gone, with what it had not answered, and another one is there.
    Restarted {
        /// How the former one ended.
        how: Restart,
    },
}
