//! The shard's storage is a store in a file.

use std::cell::{Cell, RefCell};
use std::fs::{self, DirBuilder};
use std::future::{Future, ready};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use fanfare_core::{Change, Fetch, Fetched, Hub, Limits, StoreFailure};
use fanfare_store::{Batch, Durability, Error, KeyRange, Options, Order, Page, Read, Store, Table};
use fanfare_websocket::Storage;
use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::data::STORE_FILE;
use crate::relaxed;

/// Bytes of an event beside its `data`: its type, its ids, the names of its rooms.
const ENVELOPE_BYTES: usize = 64 << 10;
/// Rows that one publish may have: a task's room, 100 users' rooms, and one for what is known of them all.
const ROWS: usize = 102;

/// Keys and values.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// Why there is no storage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{}: can't make the folder for the data: {source}: name another one by --data, or keep nothing by --memory", .folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] Error),
    #[error("{}: {source}: run the version that wrote it, or a later one; or move the file away to begin anew", .file.display())]
    Foreign {
        file: PathBuf,
        source: fanfare_core::Error,
    },
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
    #[error("{}: nothing can be written: see the line of the log above", .file.display())]
    Unwritable { file: PathBuf },
}

/// An open store, until it is closed. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Rc<State>);

#[derive(Debug)]
struct State {
    file: PathBuf,
    durability: Durability,
    boot: Option<String>,
    /// Whether the store is marked as one that is written in this boot.
    marked: Cell<bool>,
    store: RefCell<Option<Store>>,
    commits: Cell<Option<StoreFailure>>,
    /// Whether it was said in the log that reads fail.
    reads_failed: Cell<bool>,
}

impl Disk {
    /// Opens the store in `folder`, and makes both where they are not there. `boot` is the operating system's, where it is
    /// known: numbers of which that may have lost the events are not told again. Blocks: after a crash, as long as the
    /// whole file takes to be read.
    ///
    /// # Errors
    /// What is in the way, with the file and what to do.
    pub(crate) fn open(
        folder: &Path,
        durability: Durability,
        limits: &Limits,
        boot: Option<String>,
    ) -> Result<Self, OpenError> {
        // What people were told is nobody else's to read.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| OpenError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
        let file = folder.join(STORE_FILE);
        tracing::info!(file = %file.display(), "opening the store");
        let defaults = Options::default();
        let largest = limits.data_bytes.saturating_add(ENVELOPE_BYTES);
        let options = Options {
            durability,
            queue_bytes: defaults.queue_bytes.max(largest.saturating_mul(ROWS)),
            ..defaults
        };
        let store = Store::open(&file, options)?;
        let disk = Self(Rc::new(State {
            file,
            durability,
            boot,
            marked: Cell::new(false),
            store: RefCell::new(Some(store)),
            commits: Cell::new(None),
            reads_failed: Cell::new(false),
        }));
        disk.recall()?;
        Ok(disk)
    }

    /// Looks at how the last server ended, and begins new epochs where the system may have lost what it had answered.
    fn recall(&self) -> Result<(), OpenError> {
        let state = &self.0;
        let rows = self.meta()?;
        let mark = rows.iter().find(|(key, _)| key == relaxed::MARK);
        let mark = mark.map(|(_, boot)| boot.as_slice());
        let failed = relaxed::failed(&state.file);
        let is_lost = relaxed::is_lost(mark, state.boot.as_deref()) || failed.exists();
        let goes_on = mark.is_some() && !is_lost && state.durability == Durability::Relaxed;
        state.marked.set(goes_on);
        let mut batch = Batch::new();
        if is_lost {
            tracing::warn!(
                file = %state.file.display(),
                "what --durability relaxed wrote last may be lost: all rooms begin a new epoch, and clients that resume are told a gap"
            );
            batch = new_epochs()?;
        }
        if mark.is_some() && !goes_on {
            relaxed::unmark(&mut batch);
        }
        if !batch.is_empty() {
            smol::block_on(state.commit(batch))?;
        }
        if is_lost {
            // If it stays, the next start begins new epochs once more.
            let _ = fs::remove_file(failed);
        }
        Ok(())
    }

    fn meta(&self) -> Result<Rows, OpenError> {
        let mut rows = Vec::new();
        let mut range = Some(KeyRange::all());
        while let Some(next) = range {
            let read = Read::new(Table::Meta, next);
            let page = self.0.with(|store| store.read(read));
            let page = smol::block_on(page.ok_or(Error::Closed)?)?;
            rows.extend(page.rows.into_iter().map(|row| (row.key, row.value)));
            range = page.next;
        }
        Ok(rows)
    }

    /// The hub whose log this is. Blocks.
    ///
    /// # Errors
    /// Where it can't be read, or another version wrote it.
    pub(crate) fn restore(&self, limits: Limits, seed: [u8; 32]) -> Result<Hub, OpenError> {
        Hub::restore(limits, seed, &self.meta()?).map_err(|source| OpenError::Foreign {
            file: self.0.file.clone(),
            source,
        })
    }

    /// What to say where the first commit did not go through.
    pub(crate) fn unwritable(&self, failure: StoreFailure) -> OpenError {
        let file = self.0.file.clone();
        match failure {
            StoreFailure::Full => OpenError::Store(Error::Full { file }),
            StoreFailure::Busy | StoreFailure::Failed => OpenError::Unwritable { file },
        }
    }

    /// Commits what was taken, and closes the file.
    pub(crate) async fn close(&self) {
        let state = &self.0;
        let Some(store) = state.store.take() else {
            return;
        };
        if state.durability == Durability::Relaxed {
            // After all that was taken: if this is on the disk, so is that.
            let mut batch = Batch::new();
            relaxed::unmark(&mut batch);
            if let Err(error) = store.commit(batch).await {
                state.note(&error);
                tracing::warn!(%error, "the store counts as one that did not end in order");
            }
        }
        if let Err(error) = smol::unblock(|| store.close()).await {
            tracing::error!(%error, "the store did not close as it should");
        }
    }

    /// Leaves the file as it is, without waiting for what is being written: for a process that ends now.
    pub(crate) fn abandon(&self) {
        std::mem::forget(self.0.store.take());
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

    /// Remembers for the next start what the store itself can't any more.
    fn note(&self, error: &Error) {
        if self.durability == Durability::Relaxed
            && let Error::WriteFailed { .. } = error
            && let Err(error) = relaxed::fail(&self.file)
        {
            tracing::error!(%error, "before the next start, run `fanfare-server store new-epochs`");
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
            Ok(pages) => Ok(pages.into_iter().map(fetched).collect()),
            Err(error) => {
                if !self.reads_failed.replace(true) {
                    tracing::error!(%error, "the store could not be read; of later times only fanfare_store_failures tells");
                }
                Err(StoreFailure::Failed)
            }
        }
    }
}

impl Storage for Disk {
    fn commit(&self, changes: Vec<Change>) -> LocalBoxFuture<'static, Result<(), StoreFailure>> {
        let batch = batch(changes);
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

    fn fetch(
        &self,
        fetches: Vec<Fetch>,
    ) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>> {
        let reads = fetches.into_iter().map(|fetch| {
            let order = if fetch.newest_first {
                Order::Backward
            } else {
                Order::Forward
            };
            Read::new(
                of(fetch.table),
                KeyRange::new(&fetch.from[..]..=&fetch.to[..]),
            )
            .order(order)
            .rows(fetch.rows)
            .bytes(fetch.bytes)
        });
        let state = Rc::clone(&self.0);
        let pages = state.with(|store| store.read_all(reads.collect()));
        settle(pages, move |result| state.fetched(result))
    }
}

/// The commit by which all rooms of a store begin a new epoch.
///
/// # Errors
/// The system has no randomness.
pub(crate) fn new_epochs() -> Result<Batch, getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(batch([Hub::new_epochs(seed)]))
}

fn batch(changes: impl IntoIterator<Item = Change>) -> Batch {
    let mut batch = Batch::new();
    for change in changes {
        match change {
            Change::Put { table, key, value } => batch.put(of(table), key, value),
            Change::Delete { table, key } => batch.delete(of(table), key),
            Change::DeleteRange { table, from, to } => {
                batch.delete_range(of(table), KeyRange::new(&from[..]..=&to[..]))
            }
        };
    }
    batch
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

fn fetched(page: Page) -> Fetched {
    Fetched {
        more: page.next.is_some(),
        rows: page
            .rows
            .into_iter()
            .map(|row| (row.key, row.value))
            .collect(),
    }
}

const fn of(table: fanfare_core::Table) -> Table {
    match table {
        fanfare_core::Table::Rooms => Table::Rooms,
        fanfare_core::Table::Entries => Table::Entries,
        fanfare_core::Table::Tasks => Table::Tasks,
        fanfare_core::Table::Inboxes => Table::Inboxes,
        fanfare_core::Table::Ids => Table::Ids,
        fanfare_core::Table::IdTimes => Table::IdTimes,
        fanfare_core::Table::Meta => Table::Meta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, durability: Durability) -> Disk {
        let boot = Some("a boot".to_owned());
        Disk::open(folder, durability, &Limits::default(), boot).unwrap()
    }

    fn put(disk: &Disk) -> Result<(), StoreFailure> {
        smol::block_on(disk.commit(vec![Change::Put {
            table: fanfare_core::Table::Meta,
            key: b"key".to_vec(),
            value: b"value".as_slice().into(),
        }]))
    }

    /// The row that makes epochs new ones.
    fn epochs(disk: &Disk) -> Option<Vec<u8>> {
        let Change::Put { key, .. } = Hub::new_epochs([0; 32]) else {
            panic!("a row that is put")
        };
        let rows = disk.meta().unwrap().into_iter();
        let mut rows = rows.filter(|(other, _)| *other == key);
        rows.next().map(|(_, value)| value)
    }

    #[test]
    fn a_failed_fsync_of_what_was_answered_begins_new_epochs_also_within_one_boot() {
        for (durability, is_new) in [
            (Durability::Relaxed, true),
            // Nothing was answered before its fsync.
            (Durability::Immediate, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let disk = open(dir.path(), durability);
            put(&disk).unwrap();
            let error = Error::WriteFailed {
                file: disk.0.file.clone(),
                cause: "fsync: an input/output error".to_owned(),
            };
            assert_eq!(disk.0.committed(Err(error)), Err(StoreFailure::Failed));
            // As a process that is killed leaves it: without its last words.
            drop(disk.0.store.take());
            let disk = open(dir.path(), durability);
            let found = epochs(&disk);
            assert_eq!(found.is_some(), is_new, "{durability:?}");
            drop(disk.0.store.take());
            // Once.
            assert_eq!(
                epochs(&open(dir.path(), durability)),
                found,
                "{durability:?}"
            );
        }
    }

    #[test]
    fn a_queue_that_is_full_for_a_moment_is_no_store_that_failed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = open(dir.path(), Durability::Immediate);
        for error in [
            Error::QueueFull { what: "batches" },
            Error::TooLarge {
                what: "batch",
                bytes: 2,
                limit: 1,
            },
        ] {
            assert_eq!(disk.0.committed(Err(error)), Err(StoreFailure::Busy));
            assert_eq!(put(&disk), Ok(()));
        }
    }

    #[test]
    fn a_relaxed_store_without_a_known_boot_begins_new_epochs_unless_it_ended_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let limits = Limits::default();
            Disk::open(dir.path(), Durability::Relaxed, &limits, None).unwrap()
        };
        let mut seen = vec![None];
        for is_orderly in [true, false, false, true, true] {
            let disk = open();
            assert_eq!(epochs(&disk), seen[seen.len() - 1], "{is_orderly}");
            put(&disk).unwrap();
            if is_orderly {
                smol::block_on(disk.close());
                continue;
            }
            drop(disk.0.store.take());
            let disk = open();
            seen.push(epochs(&disk));
            smol::block_on(disk.close());
        }
        seen.dedup();
        assert_eq!(seen.len(), 3, "{seen:?}");
    }
}
