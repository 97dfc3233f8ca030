//! An embedded store: a fixed set of ordered tables of bytes in one file, on redb.
//!
//! It knows nothing of rooms and events. It is made for one caller that says "commit these changes" and "read these rows",
//! and gets completions ([`Completion`]) when that is done, off its own thread. For a hub of `fanfare-core`, [`HubLog`] is that
//! caller.
//!
//! # Promises
//!
//! - **All or nothing.** After a crash at any moment, in recovery too, each [`Batch`] is there wholly or not at all.
//! - **In order.** Batches are committed in the order of the calls: what is there is everything up to one of them.
//! - **Answered is safe.** With [`Durability::Immediate`], what was answered survives the end of the process and the loss of
//!   power; with [`Durability::Relaxed`], the end of the process.
//! - **Read your writes.** A read has everything whose commit was answered before the call.
//! - **No silent damage.** A file with a changed byte, or cut anywhere, gives an error when it is opened. With
//!   [`Options::verify`] off, and for damage that comes later, each row's own checksum is what tells.
//! - **No write after a failed one.** After a failed write or fsync nothing more is written; reads go on
//!   ([`Error::WriteFailed`]). A disk that is merely full refuses until it has space again ([`Error::Full`]).
//! - **Bounded.** What waits is bounded in number and bytes, and fullness is an error ([`Error::QueueFull`]).
//!
//! # Group commit
//!
//! One thread writes. It commits at once when nobody else is expected, and otherwise collects up to
//! [`Options::group_bytes`], [`Options::group_batches`] or [`Options::group_wait`]; a commit is one write to the log in the
//! file, in place, whatever the number of batches in it. Another thread brings what half of the log holds to redb's tables
//! ([`Options::log_bytes`]). What is larger than that half goes to the tables at once.
//!
//! # Maintenance
//!
//! [`check`], [`export`], [`import`] and [`compact`] work on a file that no server has open, and tell their progress.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod batch;
mod checkpoint;
mod disk;
mod engine;
mod error;
mod file;
mod hub_log;
mod layout;
mod log;
mod maintenance;
mod options;
mod overlay;
mod queue;
mod range;
mod relaxed;
mod row;
mod steps;
mod store;
mod table;
mod view;
mod writer;

pub use batch::Batch;
pub use error::Error;
pub use hub_log::HubLog;
pub use maintenance::{Checked, Compacted, Progress, check, compact, export, import};
pub use options::{Durability, Options};
pub use range::{KeyRange, Limits, Order, Page, Read, Row};
pub use steps::Steps;
pub use store::{Completion, Store};
pub use table::{Table, UnknownTable};
