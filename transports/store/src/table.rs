//! The tables: a fixed set, each with a name on disk that never changes.

use std::fmt;
use std::str::FromStr;

use redb::TableDefinition;

/// A table: keys and values are bytes, keys are ordered bytewise. What is in which is the caller's affair.
///
/// ```
/// use fanfare_store::Table;
/// assert_eq!(Table::IdTimes.name(), "id_times");
/// assert_eq!("id_times".parse(), Ok(Table::IdTimes));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// What is known of a room.
    Rooms,
    /// The events of rooms, by room and number.
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
    /// Every table, in the order in which an export has them.
    pub const ALL: [Self; 7] = [
        Self::Rooms,
        Self::Entries,
        Self::Tasks,
        Self::Inboxes,
        Self::Ids,
        Self::IdTimes,
        Self::Meta,
    ];

    /// The name on disk and in an export.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Entries => "entries",
            Self::Tasks => "tasks",
            Self::Inboxes => "inboxes",
            Self::Ids => "ids",
            Self::IdTimes => "id_times",
            Self::Meta => "meta",
        }
    }

    pub(crate) const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Table {
    type Err = UnknownTable;

    fn from_str(name: &str) -> Result<Self, UnknownTable> {
        let table = Self::ALL.into_iter().find(|table| table.name() == name);
        table.ok_or(UnknownTable)
    }
}

/// A name that is no table's.
///
/// ```
/// use fanfare_store::{Table, UnknownTable};
/// assert_eq!("letters".parse::<Table>(), Err(UnknownTable));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no table of this name")]
pub struct UnknownTable;
