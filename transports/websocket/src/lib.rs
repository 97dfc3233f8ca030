//! Fanfare's clients over WebSockets on smol, with HTTP beside them.
//!
//! One thread, one [`Shard`]: it owns a [`Hub`](fanfare_core::Hub), the sockets of its connections and the timer for
//! all deadlines. A [`Listener`] accepts TCP connections and has a [`Respond`] answer their requests; a request for a
//! WebSocket goes to the shard with its connection.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod connection;
mod counters;
mod driver;
mod frames;
mod head;
mod http;
mod listener;
mod platform;
mod shard;
mod socket;
mod subscription;
pub mod upgrade;
mod writer;

use std::io;
use std::net::SocketAddr;

pub use self::counters::Counters;
pub use self::http::{Answer, Body, Respond};
pub use self::listener::{Listener, ListenerLimits, Tcp};
pub use self::platform::{Native, Platform};
pub use self::shard::{Shard, SocketLimits};
pub use self::subscription::Subscription;

/// What can go wrong in this crate.
///
/// ```
/// use fanfare_websocket::{Error, Listener, ListenerLimits};
/// let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
/// let error = Listener::bind(taken.local_addr().unwrap(), ListenerLimits::default()).unwrap_err();
/// assert!(matches!(error, Error::Bind { .. }));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}
