//! Fanfare's clients over WebSockets on smol, with HTTP beside them.
//!
//! One thread, one [`Shard`]: it owns a [`Hub`](fanfare_core::Hub), the sockets of its connections and the timer for
//! all deadlines. A [`Listener`] accepts TCP connections and has a [`Respond`] answer their requests; a request for a
//! WebSocket goes to the shard with its connection.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod api;
mod asset;
mod batch;
mod cautious;
pub mod client;
mod connection;
mod counters;
mod credentials;
mod dev;
mod driver;
mod engine;
mod frames;
mod head;
mod history;
mod host;
mod http;
mod listener;
mod metrics;
mod origin;
mod outlet;
mod platform;
mod problem;
mod publish;
mod reactor;
mod request_body;
mod route;
mod shard;
mod socket;
mod storage;
mod subscription;
mod throttle;
pub mod upgrade;
mod writer;

use std::io;
use std::net::SocketAddr;

pub use self::api::{Api, ApiOptions};
pub use self::asset::Asset;
pub use self::counters::Counters;
pub use self::credentials::{ApiKey, Credentials, SECRET_BYTES_MIN, TOKEN_BYTES_MAX, TokenKey};
pub use self::dev::{DEV_TOKEN_S, dev_token};
pub use self::http::{Answer, Body, Respond, serve};
pub use self::listener::{Listener, ListenerLimits, Tcp, TcpParcel};
pub use self::origin::Origins;
pub use self::outlet::{OutletLink, OutletShard};
pub use self::platform::{Clock, Native, Passes, Platform};
pub use self::shard::{Shard, SocketLimits};
pub use self::storage::Storage;
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
    /// A hub has no more than 255 outlets beside its own.
    #[error("a hub serves at most 256 threads' connections")]
    TooManyOutlets,
    /// A secret that is easily guessed, since it is short.
    #[error(
        "a secret of {bytes} bytes is too short: at least {SECRET_BYTES_MIN} are needed, such as `openssl rand -hex 32` prints"
    )]
    ShortSecret {
        /// Bytes that it has.
        bytes: usize,
    },
    /// A key that nobody could present.
    #[error(
        "a key comes in a header, so it has to be printable ASCII, and not to begin or end with a space: \
         `openssl rand -hex 32` prints such a one"
    )]
    KeyCharacters,
    /// What stands in a list of origins and is none.
    #[error(
        "`{0}` is no origin: expected scheme://host or scheme://host:port, such as https://app.example.com, \
         https://*.example.com or http://localhost:*"
    )]
    Origin(String),
}

/// README's example compiles and runs as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
