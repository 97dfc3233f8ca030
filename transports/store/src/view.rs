//! What readers see: the state after the last commit, read a page at a time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError, RwLock};

use redb::{ReadTransaction, ReadableTableMetadata, StorageError, TableError};

use crate::disk::locked;
use crate::error::Error;
use crate::range::{Order, Page, Read, Row};
use crate::row::unseal;
use crate::table::Table;

/// The last committed state. A reader holds it for the length of one call.
///
/// It is kept while the next commit is made: when that fails, readers go on with it.
pub(crate) struct View {
    file: PathBuf,
    snapshot: RwLock<Option<ReadTransaction>>,
    answered: Mutex<bool>,
    seen: Condvar,
}

impl View {
    pub(crate) fn new(file: PathBuf, snapshot: ReadTransaction) -> Self {
        Self {
            file,
            snapshot: RwLock::new(Some(snapshot)),
            answered: Mutex::new(false),
            seen: Condvar::new(),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Shows another state, or none, once no page is being read from the one before.
    pub(crate) fn show(&self, snapshot: Option<ReadTransaction>) {
        let mut shown = self
            .snapshot
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *shown = snapshot;
    }

    /// The commit under way was answered before its end: reads wait until it can be seen.
    pub(crate) fn answered(&self) {
        *locked(&self.answered) = true;
    }

    pub(crate) fn is_answered(&self) -> bool {
        *locked(&self.answered)
    }

    /// What was answered can be seen.
    pub(crate) fn settled(&self) {
        *locked(&self.answered) = false;
        self.seen.notify_all();
    }

    /// Rows of a table.
    pub(crate) fn rows(&self, table: Table) -> Result<u64, Error> {
        self.with(|snapshot| {
            let table = snapshot.open_table(table.definition());
            table.map_err(Problem::from)?.len().map_err(Problem::from)
        })
    }

    /// A page of each, of one moment.
    pub(crate) fn pages(&self, reads: &[Read]) -> Result<Vec<Page>, Error> {
        let answered = locked(&self.answered);
        drop(self.seen.wait_while(answered, |answered| *answered));
        self.with(|snapshot| reads.iter().map(|read| page(snapshot, read)).collect())
    }

    /// redb says itself that it may panic on a file that was damaged while it was open.
    fn with<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Problem>,
    ) -> Result<T, Error> {
        let shown = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        let snapshot = shown.as_ref().ok_or(Error::Closed)?;
        let done = catch_unwind(AssertUnwindSafe(|| read(snapshot)));
        let problem = match done {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(problem)) => problem,
            Err(panic) => Problem::Damaged(said(&*panic)),
        };
        Err(problem.of(&self.file, "read"))
    }
}

/// What redb or a row said, without the file.
pub(crate) enum Problem {
    Damaged(String),
    Redb(StorageError),
}

impl Problem {
    pub(crate) fn of(self, file: &Path, doing: &'static str) -> Error {
        let file = file.to_path_buf();
        match self {
            Self::Damaged(what) | Self::Redb(StorageError::Corrupted(what)) => {
                Error::Damaged { file, what }
            }
            Self::Redb(StorageError::Io(error)) => Error::io(file, doing, error),
            Self::Redb(StorageError::DatabaseClosed) => Error::Closed,
            Self::Redb(other) => Error::io(file, doing, std::io::Error::other(other.to_string())),
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        Self::Redb(error)
    }
}

impl From<TableError> for Problem {
    fn from(error: TableError) -> Self {
        if let TableError::Storage(error) = error {
            return Self::Redb(error);
        }
        Self::Damaged(error.to_string())
    }
}

/// A panic's words.
pub(crate) fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("redb panicked: {}", text.unwrap_or("without a word"))
}

fn page(snapshot: &ReadTransaction, read: &Read) -> Result<Page, Problem> {
    if read.range.is_empty() || read.limits.rows == 0 {
        return Ok(Page::default());
    }
    let table = snapshot.open_table(read.table.definition())?;
    let mut range = table.range::<&[u8]>(read.range.bounds())?;
    let mut page = Page::default();
    let mut bytes = 0;
    loop {
        let entry = match read.order {
            Order::Forward => range.next(),
            Order::Backward => range.next_back(),
        };
        let Some(entry) = entry else {
            return Ok(page);
        };
        let (key, stored) = entry?;
        let (key, stored) = (key.value(), stored.value());
        let last = page.rows.last().map(|row| row.key.as_slice());
        let rises = last.is_none_or(|last| match read.order {
            Order::Forward => last < key,
            Order::Backward => last > key,
        });
        let value = unseal(read.table, key, stored);
        let Some(value) = value.filter(|_| rises && read.range.contains(key)) else {
            let what = format!(
                "a row of the table `{}` is not what was written",
                read.table
            );
            return Err(Problem::Damaged(what));
        };
        bytes += key.len() + value.len();
        let full = page.rows.len() >= read.limits.rows || bytes > read.limits.bytes;
        if let Some(last) = last.filter(|_| full) {
            page.next = Some(read.range.after(last, read.order));
            return Ok(page);
        }
        page.rows.push(Row {
            key: key.to_vec(),
            value: value.to_vec(),
        });
    }
}
