//! The port to a store: what the core asks of it, and what it gets back.
//!
//! The core says which rows are to be committed and which are to be read, as effects, and gets completions as inputs. What
//! is in a row is the core's own affair (`rows.rs`); a store keeps bytes under bytes, ordered by key. Memory is the other
//! carrier: a hub without a store completes everything at once.

use std::sync::Arc;

/// A table of the store.
///
/// ```
/// use fanfare_core::Table;
/// assert_eq!(Table::ALL.len(), 7);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What is known of a room: its epoch, its numbers, and how old its events are.
    Rooms,
    /// The events of rooms, by room and seq.
    Entries,
    /// Tasks and their state.
    Tasks,
    /// What users have not read, and their devices' cursors.
    Inboxes,
    /// Publishers' ids, so that a retry is not a second event.
    Ids,
    /// The same ids in the order of their age.
    IdTimes,
    /// What is kept once.
    Meta,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 7] = [
        Self::Rooms,
        Self::Entries,
        Self::Tasks,
        Self::Inboxes,
        Self::Ids,
        Self::IdTimes,
        Self::Meta,
    ];
}

/// One change of a commit.
///
/// ```
/// use fanfare_core::{Change, Table};
/// let change = Change::Put { table: Table::Meta, key: b"k".to_vec(), value: b"v".as_slice().into() };
/// assert_ne!(change, Change::Delete { table: Table::Meta, key: b"k".to_vec() });
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts a value under a key, in place of what was there.
    Put {
        /// In which table.
        table: Table,
        /// The key.
        key: Vec<u8>,
        /// The value; an entry of several rooms is shared by its rows.
        value: Arc<[u8]>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// From which table.
        table: Table,
        /// The key.
        key: Vec<u8>,
    },
    /// Removes the keys from `from` to `to`, both included.
    DeleteRange {
        /// From which table.
        table: Table,
        /// The first key.
        from: Vec<u8>,
        /// The last key.
        to: Vec<u8>,
    },
}

impl Change {
    /// Bytes of its keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key, .. } => key.len(),
            Self::DeleteRange { from, to, .. } => from.len() + to.len(),
        }
    }
}

/// A part of a table that is to be read: the keys from `from` to `to`, both included.
///
/// ```
/// use fanfare_core::{Fetch, Table};
/// let fetch = Fetch::key(Table::Meta, b"k".to_vec());
/// assert_eq!((fetch.rows, fetch.from == fetch.to), (1, true));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Of which table.
    pub table: Table,
    /// The first key, by the order of keys.
    pub from: Vec<u8>,
    /// The last key.
    pub to: Vec<u8>,
    /// Whether the last keys come first.
    pub newest_first: bool,
    /// Most rows.
    pub rows: usize,
    /// Most bytes of keys and values; one row comes even if it has more.
    pub bytes: usize,
}

impl Fetch {
    /// The row of one key.
    #[must_use]
    pub fn key(table: Table, key: Vec<u8>) -> Self {
        Self {
            table,
            from: key.clone(),
            to: key,
            newest_first: false,
            rows: 1,
            bytes: usize::MAX,
        }
    }
}

/// The rows that a [`Fetch`] found, in its order.
///
/// ```
/// use fanfare_core::Fetched;
/// assert!(!Fetched::default().more);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Keys and values.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there are more that the bounds of the fetch cut off.
    pub more: bool,
}

/// By which a completion names the fetch that it answers.
///
/// ```
/// fn later(a: fanfare_core::FetchId, b: fanfare_core::FetchId) -> bool {
///     a < b
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub(crate) u64);

/// Why a store did not do what it was asked for. Of a commit nothing was kept, as far as anybody can see until a restart.
///
/// ```
/// use fanfare_core::StoreFailure;
/// assert_ne!(StoreFailure::Full, StoreFailure::Failed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFailure {
    /// There is no space. A later commit is tried again.
    Full,
    /// It has too much to do for this one. A later commit is tried again.
    Busy,
    /// It failed.
    Failed,
}
