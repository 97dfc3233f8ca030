//! The client's side: listening over a WebSocket, publishing and asking over HTTP.
//!
//! [`Client`] opens a [`Connection`] that yields typed messages, remembers its positions, and comes back by itself
//! as the server asked it to. [`Api`] is what a back end needs: publish, the state of a task, disconnect a user.

mod access;
mod address;
mod api;
mod backoff;
mod connection;
mod error;
mod message;
mod op;
mod opening;
mod platform;
mod publication;
mod resume;
mod stream;
mod verdict;

pub use access::{Access, Secret};
pub use address::Server;
pub use api::{Api, HistoryPage};
pub use backoff::Backoff;
pub use connection::{Connection, Incoming};
pub use error::{Error, Problem};
pub use message::{
    Event, Gap, Goodbye, Head, Inbox, Joined, Left, Message, Notice, Reply, ReplyError, Retry,
    System, Welcome,
};
pub use op::Op;
pub use opening::{Client, Timeouts};
pub use platform::{Native, Platform};
pub use publication::{Receipt, RoomReceipt, fresh_id};
pub use stream::Stream;
