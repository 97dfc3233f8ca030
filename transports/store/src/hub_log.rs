//! The store as the log of a hub: what the hub wants committed and read, in the store's words, and what the store says of it, in the
//! hub's.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, ready};
use std::path::PathBuf;
use std::rc::Rc;

use fanfare_core::{Change, Fetch, Fetched, Hub, StoreFailure};
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::batch::Batch;
use crate::error::Error;
use crate::options::Durability;
use crate::range::{KeyRange, Order, Page, Read};
use crate::relaxed;
use crate::store::Store;
use crate::table::Table;

/// What is done when a relaxed store can't remember itself that what it answered may be lost.
type Doubt = Box<dyn Fn()>;

/// A store in which a hub keeps its log, until it is taken away. A clone is another handle to the same one.
///
/// ```
/// use fanfare_core::{Hub, Limits};
/// use fanfare_store::{Durability, HubLog, Options, Store};
/// let store = Store::open_on(redb::backends::InMemoryBackend::new(), "memory", Options::default())?;
/// let log = HubLog::new(store, Durability::Immediate, None, || ());
/// let hub = smol::block_on(async {
///     assert!(!log.recall(false, [7; 32]).await?);
///     let rows = log.meta().await?;
///     Ok::<_, fanfare_store::Error>(Hub::restore(Limits::default(), [7; 32], &rows))
/// })?;
/// assert!(hub.is_ok());
/// smol::block_on(log.end()).map_or(Ok(()), Store::close)?;
/// # Ok::<(), fanfare_store::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HubLog(Rc<State>);

struct State {
    file: PathBuf,
    durability: Durability,
    boot: Option<String>,
    doubt: Doubt,
    /// Whether the store is marked as one that is written in this boot.
    marked: Cell<bool>,
    store: RefCell<Option<Store>>,
    commits: Cell<Option<StoreFailure>>,
    /// Whether it was said in the log that reads fail.
    reads_failed: Cell<bool>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl HubLog {
    /// Of this store. `boot` is the operating system's, where it is known: numbers of which that may have lost the events are
    /// not told again. `doubt` is called when a relaxed store has failed: the next start is to [`recall`](Self::recall) that.
    #[must_use]
    pub fn new(
        store: Store,
        durability: Durability,
        boot: Option<String>,
        doubt: impl Fn() + 'static,
    ) -> Self {
        Self(Rc::new(State {
            file: store.file().to_path_buf(),
            durability,
            boot,
            doubt: Box::new(doubt),
            marked: Cell::new(false),
            store: RefCell::new(Some(store)),
            commits: Cell::new(None),
            reads_failed: Cell::new(false),
        }))
    }

    /// Looks at how the last server ended, and begins new epochs, of this seed, where the system may have lost what it had
    /// answered. Whether that is so. `in_doubt`: it was said to be.
    ///
    /// # Errors
    /// The store can't be read or written.
    pub async fn recall(&self, in_doubt: bool, seed: [u8; 32]) -> Result<bool, Error> {
        let state = &self.0;
        let rows = self.meta().await?;
        let mark = rows.iter().find(|(key, _)| key == relaxed::MARK);
        let mark = mark.map(|(_, boot)| boot.as_slice());
        let is_lost = relaxed::is_lost(mark, state.boot.as_deref()) || in_doubt;
        let goes_on = mark.is_some() && !is_lost && state.durability == Durability::Relaxed;
        state.marked.set(goes_on);
        let mut batch = Batch::new();
        if is_lost {
            tracing::warn!(
                file = %state.file.display(),
                "what --durability relaxed wrote last may be lost: all rooms begin a new epoch, and clients that resume are told a gap"
            );
            batch = Batch::new_epochs(seed);
        }
        if mark.is_some() && !goes_on {
            relaxed::unmark(&mut batch);
        }
        if !batch.is_empty() {
            state.commit(batch).await?;
        }
        Ok(is_lost)
    }

    /// The rows of which a hub is [restored](fanfare_core::Hub::restore).
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn meta(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        let mut rows = Vec::new();
        let mut range = Some(KeyRange::all());
        while let Some(next) = range {
            let read = Read::new(Table::Meta, next);
            let page = self.0.with(|store| store.read(read));
            let page = page.ok_or(Error::Closed)?.await?;
            rows.extend(page.rows.into_iter().map(|row| (row.key, row.value)));
            range = page.next;
        }
        Ok(rows)
    }

    /// Commits what a hub wants.
    ///
    /// # Errors
    /// As the hub is to hear it; the log of the program has it in full.
    pub fn commit(
        &self,
        changes: Vec<Change>,
    ) -> LocalBoxFuture<'static, Result<(), StoreFailure>> {
        let batch = Batch::from_iter(changes);
        let state = Rc::clone(&self.0);
        if state.durability == Durability::Relaxed && !state.marked.get() {
            let marked = async move {
                // By itself: nothing of the next commit is seen before this one is on the disk.
                let marked = state.commit(relaxed::mark(state.boot.as_deref())).await;
                let committed = match marked {
                    Ok(()) => {
                        state.marked.set(true);
                        state.commit(batch).await
                    }
                    Err(error) => Err(error),
                };
                state.committed(committed)
            };
            return marked.boxed_local();
        }
        let committed = state.with(|store| store.commit(batch));
        settle(committed, move |result| state.committed(result))
    }

    /// Reads what a hub wants.
    ///
    /// # Errors
    /// As the hub is to hear it; the log of the program has the first in full.
    pub fn fetch(
        &self,
        fetches: Vec<Fetch>,
    ) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>> {
        let reads = fetches.into_iter().map(Read::from).collect();
        let state = Rc::clone(&self.0);
        let pages = state.with(|store| store.read_all(reads));
        settle(pages, move |result| state.fetched(result))
    }

    /// Takes the store away after an orderly end, to be closed.
    pub async fn end(&self) -> Option<Store> {
        let state = &self.0;
        let store = state.store.take()?;
        if state.durability == Durability::Relaxed {
            // After all that was taken: if this is on the disk, so is that.
            let mut batch = Batch::new();
            relaxed::unmark(&mut batch);
            if let Err(error) = store.commit(batch).await {
                state.note(&error);
                tracing::warn!(%error, "the store counts as one that did not end in order");
            }
        }
        Some(store)
    }

    /// Takes the store away as it is.
    #[must_use]
    pub fn abandon(&self) -> Option<Store> {
        self.0.store.take()
    }
}

impl State {
    /// Commits, while it is open.
    async fn commit(&self, batch: Batch) -> Result<(), Error> {
        let committed = self.with(|store| store.commit(batch));
        committed.ok_or(Error::Closed)?.await
    }

    fn with<T>(&self, use_store: impl FnOnce(&Store) -> T) -> Option<T> {
        self.store.borrow().as_ref().map(use_store)
    }

    /// Has remembered for the next start what the store itself can't any more.
    fn note(&self, error: &Error) {
        if self.durability == Durability::Relaxed && matches!(error, Error::WriteFailed { .. }) {
            (self.doubt)();
        }
    }

    /// Says in the log how commits go, when that changes.
    fn committed(&self, result: Result<(), Error>) -> Result<(), StoreFailure> {
        if let Err(error) = &result {
            self.note(error);
        }
        let failure = match &result {
            Ok(()) => None,
            Err(Error::Full { .. }) => Some(StoreFailure::Full),
            Err(Error::QueueFull { .. } | Error::TooLarge { .. }) => Some(StoreFailure::Busy),
            Err(_) => Some(StoreFailure::Failed),
        };
        if self.commits.replace(failure) != failure {
            match (result, failure) {
                (Err(error), Some(StoreFailure::Full)) => {
                    tracing::warn!(%error, "nothing is kept: publishes are refused with 507");
                }
                (Err(error), Some(StoreFailure::Busy)) => {
                    tracing::warn!(%error, "this was not kept: what was published is refused with 503 once");
                }
                (Err(error), _) => {
                    tracing::error!(%error, "nothing more is kept: publishes are refused with 503 until a restart");
                }
                (Ok(()), _) => tracing::info!("the store takes what is published again"),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn fetched(&self, result: Result<Vec<Page>, Error>) -> Result<Vec<Fetched>, StoreFailure> {
        match result {
            Ok(pages) => Ok(pages.into_iter().map(Fetched::from).collect()),
            Err(error) => {
                if !self.reads_failed.replace(true) {
                    tracing::error!(%error, "the store could not be read; of later times only fanfare_store_failures tells");
                }
                Err(StoreFailure::Failed)
            }
        }
    }
}

/// What becomes of a call, made of what the store says; nothing was called where that is closed.
fn settle<T: 'static, R: 'static>(
    called: Option<impl Future<Output = Result<T, Error>> + 'static>,
    then: impl FnOnce(Result<T, Error>) -> Result<R, StoreFailure> + 'static,
) -> LocalBoxFuture<'static, Result<R, StoreFailure>> {
    match called {
        Some(called) => called.map(then).boxed_local(),
        None => ready(Err(StoreFailure::Failed)).boxed_local(),
    }
}

impl Batch {
    /// The commit by which all rooms of a store begin a new epoch, of this seed.
    ///
    /// ```
    /// assert_eq!(fanfare_store::Batch::new_epochs([7; 32]).len(), 1);
    /// ```
    #[must_use]
    pub fn new_epochs(seed: [u8; 32]) -> Self {
        Self::from_iter([Hub::new_epochs(seed)])
    }
}

impl FromIterator<Change> for Batch {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        let mut batch = Self::new();
        for change in changes {
            match change {
                Change::Put { table, key, value } => batch.put(table.into(), key, value),
                Change::Delete { table, key } => batch.delete(table.into(), key),
                Change::DeleteRange { table, from, to } => {
                    batch.delete_range(table.into(), KeyRange::new(&from[..]..=&to[..]))
                }
            };
        }
        batch
    }
}

impl From<Fetch> for Read {
    fn from(fetch: Fetch) -> Self {
        let order = if fetch.newest_first {
            Order::Backward
        } else {
            Order::Forward
        };
        let range = KeyRange::new(&fetch.from[..]..=&fetch.to[..]);
        let read = Self::new(fetch.table.into(), range);
        read.order(order).rows(fetch.rows).bytes(fetch.bytes)
    }
}

impl From<Page> for Fetched {
    fn from(page: Page) -> Self {
        let rows = page.rows.into_iter().map(|row| (row.key, row.value));
        Self {
            more: page.next.is_some(),
            rows: rows.collect(),
        }
    }
}

impl From<fanfare_core::Table> for Table {
    fn from(table: fanfare_core::Table) -> Self {
        match table {
            fanfare_core::Table::Rooms => Self::Rooms,
            fanfare_core::Table::Entries => Self::Entries,
            fanfare_core::Table::Tasks => Self::Tasks,
            fanfare_core::Table::Inboxes => Self::Inboxes,
            fanfare_core::Table::Ids => Self::Ids,
            fanfare_core::Table::IdTimes => Self::IdTimes,
            fanfare_core::Table::Meta => Self::Meta,
        }
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::options::Options;

    #[test]
    fn a_store_fails_the_hub_as_long_as_it_does_itself() {
        let failed = || Error::WriteFailed {
            file: PathBuf::new(),
            cause: "fsync: an input/output error".to_owned(),
        };
        let cases = [
            (Error::QueueFull { what: "batches" }, StoreFailure::Busy, 0),
            (
                Error::TooLarge {
                    what: "batch",
                    bytes: 2,
                    limit: 1,
                },
                StoreFailure::Busy,
                0,
            ),
            (
                Error::Full {
                    file: PathBuf::new(),
                },
                StoreFailure::Full,
                0,
            ),
            (Error::Closed, StoreFailure::Failed, 0),
            // Nothing was answered before its fsync, unless it is relaxed.
            (failed(), StoreFailure::Failed, 1),
        ];
        for durability in [Durability::Immediate, Durability::Relaxed] {
            for (error, failure, doubts) in cases.clone() {
                let backend = InMemoryBackend::new();
                let store = Store::open_on(backend, "memory", Options::default()).unwrap();
                let doubted = Rc::new(Cell::new(0));
                let doubt = Rc::clone(&doubted);
                let log = HubLog::new(store, durability, None, move || doubt.set(doubt.get() + 1));
                assert_eq!(log.0.committed(Err(error.clone())), Err(failure), "{error}");
                let relaxed = i32::from(durability == Durability::Relaxed);
                assert_eq!(doubted.get(), doubts * relaxed, "{error}");
                let put = Change::Put {
                    table: fanfare_core::Table::Meta,
                    key: b"key".to_vec(),
                    value: b"value".as_slice().into(),
                };
                assert_eq!(smol::block_on(log.commit(vec![put])), Ok(()));
            }
        }
    }
}
