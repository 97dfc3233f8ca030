//! The shard's storage is a store in a file.

use std::cell::{Cell, RefCell};
use std::fs::DirBuilder;
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

/// Bytes of an event beside its `data`: its type, its ids, the names of its rooms.
const ENVELOPE_BYTES: usize = 64 << 10;
/// Rows that one publish may have: a task's room, 100 users' rooms, and one for what is known of them all.
const ROWS: usize = 102;

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
    #[error("{}: nothing can be written: see the line of the log above", .file.display())]
    Unwritable { file: PathBuf },
}

/// An open store, until it is closed. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Rc<State>);

#[derive(Debug)]
struct State {
    file: PathBuf,
    store: RefCell<Option<Store>>,
    commits: Cell<Option<StoreFailure>>,
    /// Whether it was said in the log that reads fail.
    reads_failed: Cell<bool>,
}

impl Disk {
    /// Opens the store in `folder`, and makes both where they are not there. Blocks: after a crash, as long as the whole
    /// file takes to be read.
    ///
    /// # Errors
    /// What is in the way, with the file and what to do.
    pub(crate) fn open(
        folder: &Path,
        durability: Durability,
        limits: &Limits,
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
        Ok(Self(Rc::new(State {
            file,
            store: RefCell::new(Some(store)),
            commits: Cell::new(None),
            reads_failed: Cell::new(false),
        })))
    }

    /// The hub whose log this is. Blocks.
    ///
    /// # Errors
    /// Where it can't be read, or another version wrote it.
    pub(crate) fn restore(&self, limits: Limits, seed: [u8; 32]) -> Result<Hub, OpenError> {
        let mut rows = Vec::new();
        let mut range = Some(KeyRange::all());
        while let Some(next) = range {
            let read = Read::new(Table::Meta, next);
            let page = self.with(|store| store.read(read));
            let page = smol::block_on(page.ok_or(Error::Closed)?)?;
            rows.extend(page.rows.into_iter().map(|row| (row.key, row.value)));
            range = page.next;
        }
        Hub::restore(limits, seed, &rows).map_err(|source| OpenError::Foreign {
            file: self.0.file.clone(),
            source,
        })
    }

    /// What to say where the first commit did not go through.
    pub(crate) fn unwritable(&self, failure: StoreFailure) -> OpenError {
        let file = self.0.file.clone();
        match failure {
            StoreFailure::Full => OpenError::Store(Error::Full { file }),
            StoreFailure::Failed => OpenError::Unwritable { file },
        }
    }

    /// Commits what was taken, and closes the file.
    pub(crate) async fn close(&self) {
        let Some(store) = self.0.store.take() else {
            return;
        };
        if let Err(error) = smol::unblock(|| store.close()).await {
            tracing::error!(%error, "the store did not close as it should");
        }
    }

    /// Leaves the file as it is, without waiting for what is being written: for a process that ends now.
    pub(crate) fn abandon(&self) {
        std::mem::forget(self.0.store.take());
    }

    fn with<T>(&self, use_store: impl FnOnce(&Store) -> T) -> Option<T> {
        self.0.store.borrow().as_ref().map(use_store)
    }
}

impl State {
    /// Says in the log how commits go, when that changes.
    fn committed(&self, result: Result<(), Error>) -> Result<(), StoreFailure> {
        let failure = match &result {
            Ok(()) => None,
            Err(Error::Full { .. }) => Some(StoreFailure::Full),
            Err(_) => Some(StoreFailure::Failed),
        };
        if self.commits.replace(failure) != failure {
            match (result, failure) {
                (Err(error), Some(StoreFailure::Full)) => {
                    tracing::warn!(%error, "nothing is kept: publishes are refused with 507");
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
        let state = Rc::clone(&self.0);
        let committed = self.with(|store| store.commit(batch));
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
        let pages = self.with(|store| store.read_all(reads.collect()));
        settle(pages, move |result| state.fetched(result))
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
