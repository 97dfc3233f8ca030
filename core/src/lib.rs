//! Fanfare's core: rooms, bus, sessions, logs and outboxes as pure state machines.
//!
//! No I/O, no clock, no thread, no randomness of its own, no `async`: a driver owns a [`Hub`], gives it [`Input`]s with
//! the time at which they happened, and carries out the [`Effect`]s that it returns. The same inputs in the same order
//! give the same effects, byte for byte. Where a thing is published without connections, [`EventBus`] stands alone.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

/// Whether a deliberate fault is planted: `false`, unless `--cfg fanfare_mutants` is set.
#[cfg(not(fanfare_mutants))]
#[doc(hidden)]
#[macro_export]
macro_rules! planted {
    ($mutant:ident) => {
        false
    };
}

/// Whether a deliberate fault is planted.
#[cfg(fanfare_mutants)]
#[macro_export]
macro_rules! planted {
    ($mutant:ident) => {
        $crate::mutants::is_planted($crate::mutants::Mutant::$mutant)
    };
}

mod auth;
mod bus;
mod catch_up;
mod close;
mod devices;
mod entropy;
mod era;
mod error;
mod event;
mod frame;
mod heartbeat;
mod history;
mod hub;
mod ids;
mod inbox;
mod journal;
mod lifecycle;
mod limits;
mod log;
mod lookup;
#[cfg(feature = "marks")]
pub mod marks;
#[cfg(not(feature = "marks"))]
mod marks;
#[cfg(fanfare_mutants)]
pub mod mutants;
mod outbox;
mod outlet;
mod payload;
mod port;
mod protocol;
mod rate;
mod receipt;
mod recency;
mod retries;
mod room_log;
mod rooms;
mod rows;
mod session;
mod slots;
mod subscriptions;
mod task_events;
mod tasks;
mod text;
mod time;

pub use auth::{AuthError, Claims, Principal, TaskGrant};
pub use bus::{EventBus, Published};
pub use close::{CloseCode, Retry};
pub use devices::ConnectedDevice;
pub use error::Error;
pub use event::{Draft, Entry, Event, Place, Publish, Retention, Target, USERS_MAX};
pub use frame::Frame;
pub use history::{History, Page, Start};
pub use hub::{
    Answer, At, Effect, Fault, Held, Hub, InboxView, Input, Pull, Query, TaskView, Ticket,
};
pub use ids::{
    ConnId, DeviceId, Epoch, EventId, EventType, Key, Pattern, Position, RoomId, Seq, TaskId,
    UserId, parse_since,
};
pub use inbox::KnownDevice;
pub use lifecycle::{Status, TaskEvent};
pub use limits::Limits;
pub use outlet::{Outlet, OutletOrder, OutletReport};
pub use payload::{JSON_DEPTH_MAX, Payload};
pub use port::{Change, Fetch, FetchId, Fetched, StoreFailure, Table};
pub use protocol::Token;
pub use receipt::{Receipt, RoomReceipt};
pub use room_log::{Gap, GapReason, Resume};
pub use rooms::{Rooms, TaskRooms, UserRooms};
pub use session::{Endpoint, Open};
pub use subscriptions::{Delivery, SubscriptionId};
pub use task_events::{Publisher, TaskEventBroadcaster};
pub use tasks::{Snapshot, TASK_GONE_MS, TASK_IDLE_MS_MAX};
pub use time::{Now, Time, Wall};
