//! What is committed together.

use std::sync::Arc;

use crate::error::Error;
use crate::range::KeyRange;
use crate::table::Table;

/// Longest key, in bytes.
pub(crate) const KEY_MAX: usize = 1_024;
/// Longest value, in bytes.
pub(crate) const VALUE_MAX: usize = 16 << 20;
/// What a change holds beside its key and value, about.
const CHANGE_OVERHEAD: usize = 64;

/// Changes that are committed together: after a crash all of them are there, or none. They are made in their order.
///
/// ```
/// use std::sync::Arc;
/// use fanfare_store::{Batch, KeyRange, Table};
/// let event: Arc<[u8]> = (*b"hello").into();
/// let mut batch = Batch::new();
/// batch
///     .put(Table::Entries, b"task:7/0002", event.clone())
///     .put(Table::Entries, b"user:1/0009", event)
///     .delete(Table::Ids, b"old")
///     .delete_range(Table::Entries, KeyRange::prefix(b"task:6/"));
/// assert_eq!(batch.len(), 4);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Table, Vec<u8>, Arc<[u8]>),
    Delete(Table, Vec<u8>),
    DeleteRange(Table, KeyRange),
}

impl Batch {
    /// Without changes. To commit such a batch is to wait until all before it are safe.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a value under a key, in place of what was there. At most 1 KiB of key and 16 MiB of value.
    ///
    /// A value may be shared by several rows. It is stored, and counts, once for each.
    pub fn put(
        &mut self,
        table: Table,
        key: impl Into<Vec<u8>>,
        value: impl Into<Arc<[u8]>>,
    ) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        self.bytes += CHANGE_OVERHEAD + key.len() + value.len();
        self.changes.push(Change::Put(table, key, value));
        self
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) -> &mut Self {
        let key = key.into();
        self.bytes += CHANGE_OVERHEAD + key.len();
        self.changes.push(Change::Delete(table, key));
        self
    }

    /// Removes every key of a range. Its cost is the number of rows, and the writer does nothing else meanwhile: remove
    /// much in lots. A range in which no key can be is no change.
    pub fn delete_range(&mut self, table: Table, range: KeyRange) -> &mut Self {
        // What the log has must come to something in the tables, or it could not be known which commits they have.
        if range.is_empty() {
            return self;
        }
        self.bytes += CHANGE_OVERHEAD + range.size();
        self.changes.push(Change::DeleteRange(table, range));
        self
    }

    /// The number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// What it will store, about; what counts against the queue's bound.
    #[must_use]
    pub fn bytes(&self) -> usize {
        CHANGE_OVERHEAD + self.bytes
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    /// Refuses what could never be stored, before it is queued.
    pub(crate) fn check(&self, most: usize) -> Result<(), Error> {
        let limited = |what, bytes, limit| {
            let fits = bytes <= limit;
            fits.then_some(())
                .ok_or(Error::TooLarge { what, bytes, limit })
        };
        limited("batch", self.bytes(), most)?;
        for change in &self.changes {
            let (key, value) = match change {
                Change::Put(_, key, value) => (key.len(), value.len()),
                Change::Delete(_, key) => (key.len(), 0),
                Change::DeleteRange(_, range) => (range.longest(), 0),
            };
            limited("key", key, KEY_MAX)?;
            limited("value", value, VALUE_MAX)?;
        }
        Ok(())
    }
}
