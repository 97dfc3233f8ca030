//! What is kept once in a store.

use super::{put, read, value, wall};
use crate::era::{Bare, Era};
use crate::error::Error;
use crate::ids::Epoch;
use crate::port::{Change, Table};
use crate::time::Wall;
use serde::{Deserialize, Serialize};

/// The layout of rows that this version writes. It rises when an older version could not read what a newer one wrote.
const SCHEMA: u32 = 2;
pub(super) const STORE: &[u8] = b"store";

/// What is kept once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The epoch of rooms without a row.
    pub(crate) epoch: Epoch,
    /// The place in the order of all that the next entry gets.
    pub(crate) next_index: u64,
    /// When the last event was taken.
    pub(crate) last_at: Wall,
    /// Rows of `Ids`.
    pub(crate) ids: u64,
}

#[derive(Serialize, Deserialize)]
struct MetaValue {
    schema: u32,
    epoch: Bare,
    next: u64,
    at: u64,
    ids: u64,
}

/// Of which any version can read as much.
#[derive(Deserialize)]
struct AnyMeta {
    schema: u32,
}

impl Meta {
    /// What the rows of `Meta` say; `None` in a new store.
    ///
    /// # Errors
    /// [`Error::NewerStore`] and [`Error::UnreadableStore`].
    pub(crate) fn read(rows: &[(Vec<u8>, Vec<u8>)], era: &Era) -> Result<Option<Self>, Error> {
        let Some((_, row)) = rows.iter().find(|(key, _)| key == STORE) else {
            return Ok(None);
        };
        let any: AnyMeta = read(row).ok_or(Error::UnreadableStore)?;
        if any.schema > SCHEMA {
            let (found, known) = (any.schema, SCHEMA);
            return Err(Error::NewerStore { found, known });
        }
        let meta: MetaValue = read(row).ok_or(Error::UnreadableStore)?;
        Ok(Some(Self {
            epoch: meta.epoch.within(era).ok_or(Error::UnreadableStore)?,
            next_index: meta.next,
            last_at: wall(meta.at),
            ids: meta.ids,
        }))
    }

    pub(crate) fn put(&self) -> Change {
        let meta = MetaValue {
            schema: SCHEMA,
            epoch: Bare::of(&self.epoch),
            next: self.next_index,
            at: self.last_at.as_unix_millis(),
            ids: self.ids,
        };
        put(Table::Meta, STORE.to_vec(), value(&meta))
    }
}
