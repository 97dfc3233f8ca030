//! What readers see: the tables, and over them what only the log has. Read a page at a time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::{ReadTransaction, ReadableTableMetadata, StorageError, TableError};

use crate::batch::Batch;
use crate::error::Error;
use crate::overlay::{Layer, Overlay, Window};
use crate::range::{Order, Page, Read, Row};
use crate::row::unseal;
use crate::table::Table;

/// The state after the last commit. No lock is held while a page is read.
pub(crate) struct View {
    file: PathBuf,
    layers: RwLock<Layers>,
    /// Held by each reader: who holds it alone knows that nobody reads.
    reading: RwLock<()>,
}

/// From the newest to the oldest.
struct Layers {
    /// What is added to.
    active: Overlay,
    /// What is on its way to the tables.
    frozen: Option<Arc<Overlay>>,
    tables: Option<Arc<ReadTransaction>>,
}

impl View {
    pub(crate) fn new(file: PathBuf, tables: ReadTransaction) -> Self {
        Self {
            file,
            layers: RwLock::new(Layers {
                active: Overlay::default(),
                frozen: None,
                tables: Some(Arc::new(tables)),
            }),
            reading: RwLock::new(()),
        }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Shows a batch that the log has.
    pub(crate) fn add(&self, batch: Batch) {
        self.write().active.add(batch);
    }

    /// From here on, what was added is to go to the tables: all of it, or nothing if something is on its way already.
    pub(crate) fn freeze(&self) {
        let mut layers = self.write();
        if layers.frozen.is_none() && !layers.active.is_empty() {
            layers.frozen = Some(Arc::new(std::mem::take(&mut layers.active)));
        }
    }

    /// What is on its way to the tables.
    pub(crate) fn frozen(&self) -> Option<Arc<Overlay>> {
        self.read().frozen.clone()
    }

    /// Shows what the log of a file had, where the tables can't take it.
    pub(crate) fn found(&self, changes: Overlay) {
        self.write().frozen = Some(Arc::new(changes));
    }

    /// The tables have what was on its way.
    pub(crate) fn applied(&self, tables: ReadTransaction) {
        let before = {
            let mut layers = self.write();
            let before = layers.tables.replace(Arc::new(tables));
            (before, layers.frozen.take())
        };
        // Outside the lock: it may be much.
        drop(before);
    }

    /// Shows the tables of another opening of the file, or none, and waits until nobody reads from those before.
    pub(crate) fn replace(&self, tables: Option<ReadTransaction>) {
        self.write().tables = tables.map(Arc::new);
        drop(self.reading.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Rows of a table, without those that only the log has.
    pub(crate) fn rows(&self, table: Table) -> Result<u64, Error> {
        let _reading = self.reading();
        let tables = self.read().tables.clone().ok_or(Error::Closed)?;
        self.caught(|| {
            let table = tables.open_table(table.definition());
            table.map_err(Problem::from)?.len().map_err(Problem::from)
        })
    }

    /// A page of each, of one moment.
    pub(crate) fn pages(&self, reads: &[Read]) -> Result<Vec<Page>, Error> {
        let _reading = self.reading();
        let (windows, frozen, tables) = {
            let layers = self.read();
            let window = |read: &Read| {
                let layer = layers.active.of(read.table);
                layer.map_or_else(Window::default, |layer| layer.window(read))
            };
            let windows: Vec<Window> = reads.iter().map(window).collect();
            (windows, layers.frozen.clone(), layers.tables.clone())
        };
        let tables = tables.ok_or(Error::Closed)?;
        self.caught(|| {
            let pages = reads.iter().zip(windows);
            let pages = pages.map(|(read, window)| page(read, window, frozen.as_deref(), &tables));
            pages.collect()
        })
    }

    fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.reading.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Layers> {
        self.layers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// redb says itself that it may panic on a file that was damaged while it was open.
    fn caught<T>(&self, read: impl FnOnce() -> Result<T, Problem>) -> Result<T, Error> {
        let problem = match catch_unwind(AssertUnwindSafe(read)) {
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

/// The rows of one read: of each key, what the newest layer says.
fn page(
    read: &Read,
    window: Window,
    frozen: Option<&Overlay>,
    tables: &ReadTransaction,
) -> Result<Page, Problem> {
    if read.range.is_empty() || read.limits.rows == 0 {
        return Ok(Page::default());
    }
    let nothing = Layer::default();
    let frozen = frozen
        .and_then(|frozen| frozen.of(read.table))
        .unwrap_or(&nothing);
    let is_cleared = |key: &[u8]| window.cleared.contains(key) || frozen.cleared().contains(key);
    let mut newest = window.rows.into_iter().peekable();
    let mut newer = frozen.walk(read).peekable();
    let mut stored = Stored::new(tables, read)?;
    let mut page = Page::default();
    let mut bytes = 0;
    loop {
        let keys = [
            newest.peek().map(|(key, _)| key.as_slice()),
            newer.peek().map(|(key, _)| *key),
            stored.peek(),
        ];
        let keys = keys.into_iter().flatten();
        let next = match read.order {
            Order::Forward => keys.min(),
            Order::Backward => keys.max(),
        };
        let Some(key) = next.map(<[u8]>::to_vec) else {
            return Ok(page);
        };
        let at_newest = newest.next_if(|(of, _)| *of == key);
        let at_newer = newer.next_if(|(of, _)| *of == key.as_slice());
        let at_stored = stored.next_if(&key)?;
        let value = match (at_newest, at_newer) {
            (Some((_, kept)), _) => kept.map(|value| value.to_vec()),
            (None, Some(_)) if window.cleared.contains(&key) => None,
            (None, Some((_, kept))) => kept.as_deref().map(<[u8]>::to_vec),
            (None, None) if is_cleared(&key) => None,
            (None, None) => at_stored,
        };
        let Some(value) = value else { continue };
        bytes += key.len() + value.len();
        let full = page.rows.len() >= read.limits.rows || bytes > read.limits.bytes;
        if let Some(last) = page.rows.last().filter(|_| full) {
            page.next = Some(read.range.after(&last.key, read.order));
            return Ok(page);
        }
        page.rows.push(Row { key, value });
    }
}

/// The rows of a table, each of which is looked at before it is believed.
struct Stored<'r> {
    read: &'r Read,
    range: redb::Range<'static, &'static [u8], &'static [u8]>,
    next: Option<Row>,
}

impl<'r> Stored<'r> {
    fn new(tables: &ReadTransaction, read: &'r Read) -> Result<Self, Problem> {
        let table = tables.open_table(read.table.definition())?;
        let range = table.range::<&[u8]>(read.range.bounds())?;
        let mut stored = Self {
            read,
            range,
            next: None,
        };
        stored.next = stored.fetch(None)?;
        Ok(stored)
    }

    fn peek(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|row| row.key.as_slice())
    }

    /// The next row, if this is its key.
    fn next_if(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
        let Some(row) = self.next.take_if(|row| row.key == key) else {
            return Ok(None);
        };
        self.next = self.fetch(Some(key))?;
        Ok(Some(row.value))
    }

    fn fetch(&mut self, last: Option<&[u8]>) -> Result<Option<Row>, Problem> {
        let entry = match self.read.order {
            Order::Forward => self.range.next(),
            Order::Backward => self.range.next_back(),
        };
        let Some((key, stored)) = entry.transpose()? else {
            return Ok(None);
        };
        let (key, stored) = (key.value(), stored.value());
        let rises = last.is_none_or(|last| match self.read.order {
            Order::Forward => last < key,
            Order::Backward => last > key,
        });
        let table = self.read.table;
        let value = unseal(table, key, stored);
        let value = value.filter(|_| rises && self.read.range.contains(key));
        let value = value.ok_or_else(|| {
            let what = format!("a row of the table `{table}` is not what was written");
            Problem::Damaged(what)
        })?;
        Ok(Some(Row {
            key: key.to_vec(),
            value: value.to_vec(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase;
    use redb::backends::InMemoryBackend;

    use super::*;

    /// Else a page is read from a database that is closed, or from a file that another one writes.
    #[test]
    fn tables_are_replaced_when_nobody_reads_from_those_before() {
        let backend = InMemoryBackend::new();
        let database = redb::Database::builder()
            .create_with_backend(backend)
            .unwrap();
        // A replacement that does not wait comes first in some of so many rounds.
        for round in 0..200 {
            let view = View::new("memory".into(), database.begin_read().unwrap());
            let (said, order) = std::sync::mpsc::channel();
            let reading = view.reading();
            std::thread::scope(|threads| {
                let (view, replaced) = (&view, said.clone());
                threads.spawn(move || {
                    view.replace(None);
                    replaced.send("replaced")
                });
                while view.read().tables.is_some() {
                    std::thread::yield_now();
                }
                std::thread::yield_now();
                said.send("read").unwrap();
                drop(reading);
            });
            drop(said);
            let order: Vec<_> = order.iter().collect();
            assert_eq!(order, ["read", "replaced"], "round {round}");
        }
    }
}
