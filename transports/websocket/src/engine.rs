//! What serves a shard's connections: the hub itself, or an outlet whose hub is in another thread.

use fanfare_core::{ConnId, Effect, Hub, Input, Now, Outlet, Pull, Time};

pub(crate) enum Engine {
    Hub(Box<Hub>),
    Outlet(Box<Outlet>),
}

impl Engine {
    /// The hub, for what is asked of a [`Shard`](crate::Shard), which always has it.
    pub(crate) fn hub(&mut self) -> &mut Hub {
        match self {
            Self::Hub(hub) => hub,
            #[expect(
                clippy::unreachable,
                reason = "an outlet's shard is of another type, which asks for no hub"
            )]
            Self::Outlet(_) => unreachable!("an outlet's shard has no hub"),
        }
    }

    /// Whether this connection is open here.
    pub(crate) fn serves(&self, conn: ConnId) -> bool {
        match self {
            Self::Hub(_) => true,
            Self::Outlet(outlet) => outlet.serves(conn),
        }
    }

    /// Bytes of a client's message.
    pub(crate) fn message_bytes(&self) -> usize {
        match self {
            Self::Hub(hub) => hub.limits().message_bytes,
            Self::Outlet(outlet) => outlet.limits().message_bytes,
        }
    }

    pub(crate) fn handle(&mut self, now: Now, input: Input) {
        match self {
            Self::Hub(hub) => hub.handle(now, input),
            Self::Outlet(outlet) => outlet.handle(now, input),
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Effect> {
        match self {
            Self::Hub(hub) => hub.poll(),
            Self::Outlet(outlet) => outlet.poll(),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        match self {
            Self::Hub(hub) => hub.next_deadline(),
            Self::Outlet(outlet) => outlet.next_deadline(),
        }
    }

    pub(crate) fn is_busy(&self, conn: ConnId) -> bool {
        match self {
            Self::Hub(hub) => hub.is_busy(conn),
            Self::Outlet(outlet) => outlet.is_busy(conn),
        }
    }

    /// Whether the goodbye of a connection that ends is still to come from the hub's thread.
    pub(crate) fn waits_for_goodbye(&self, conn: ConnId) -> bool {
        match self {
            Self::Hub(_) => false,
            Self::Outlet(outlet) => outlet.is_busy(conn),
        }
    }

    pub(crate) fn pull(&mut self, now: Now, conn: ConnId) -> Pull {
        match self {
            Self::Hub(hub) => hub.pull(now, conn),
            Self::Outlet(outlet) => outlet.pull(now, conn),
        }
    }

    pub(crate) fn ride(&mut self, conn: ConnId) -> Option<(&[u8], u64)> {
        match self {
            Self::Hub(hub) => hub.ride(conn),
            Self::Outlet(outlet) => outlet.ride(conn),
        }
    }

    pub(crate) fn rode(&mut self, conn: ConnId) {
        match self {
            Self::Hub(hub) => hub.rode(conn),
            Self::Outlet(outlet) => outlet.rode(conn),
        }
    }
}
