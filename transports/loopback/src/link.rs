//! One connection between a client and the hub, with a socket that holds so much; or a subscription of the bus.

use crate::client::Client;
use crate::world::Said;
use fanfare_core::{CloseCode, ConnId, Delivery, Frame, SubscriptionId, Time};
use std::collections::VecDeque;

/// A link of the world, by its place in the order of opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) usize);

/// What the hub knows the link by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The handshake is on its way.
    Opening,
    Connection(ConnId),
    Subscription(SubscriptionId),
    /// The hub has forgotten it.
    Gone,
}

/// What the hub's side wrote.
#[derive(Debug)]
pub(crate) enum Parcel {
    Frame(Frame),
    Ping,
    Close {
        code: CloseCode,
        reason: &'static str,
    },
    Cut,
    Delivery(Delivery),
}

impl Parcel {
    /// Bytes on the wire.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.wire().len(),
            Self::Ping => 2,
            Self::Close { reason, .. } => 4 + reason.len(),
            Self::Cut | Self::Delivery(Delivery::Gap { .. } | Delivery::Overrun) => 0,
            Self::Delivery(Delivery::Entry(entry)) => entry.encode_all().wire().len(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) peer: Peer,
    /// Whether the client's side is open.
    pub(crate) open: bool,
    pub(crate) window_bytes: usize,
    /// Bytes that were written and not read yet.
    pub(crate) unread_bytes: usize,
    /// What has come to the client's side and was not read yet, with the time at which it was written.
    pub(crate) socket: VecDeque<(Time, Parcel)>,
    /// Whether the hub has something for it, as far as it said.
    pub(crate) ready: bool,
    /// Whether a write is on the agenda.
    pub(crate) writing: bool,
    /// What the client sent that waits for the hub to be no longer busy with what came before.
    pub(crate) held: VecDeque<Said>,
    /// When the last thing arrives on either side: a stream keeps its order.
    pub(crate) last_to_hub: Time,
    pub(crate) last_to_client: Time,
}

impl Link {
    pub(crate) const fn new(client: Client, peer: Peer, window_bytes: usize) -> Self {
        Self {
            client,
            peer,
            open: true,
            window_bytes,
            unread_bytes: 0,
            socket: VecDeque::new(),
            ready: false,
            writing: false,
            held: VecDeque::new(),
            last_to_hub: Time::from_millis(0),
            last_to_client: Time::from_millis(0),
        }
    }

    /// Whether the socket takes one more frame: as a kernel's, it takes what it can as soon as there is any room.
    pub(crate) const fn takes_more(&self) -> bool {
        self.unread_bytes < self.window_bytes
    }
}
