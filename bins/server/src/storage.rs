//! The shard's storage is a store in a file.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fanfare_core::{Change, Fetch, Fetched, Hub, Limits, StoreFailure};
use fanfare_store::{Batch, Durability, Error, HubLog, Options, Store};
use fanfare_websocket::Storage;
use futures::future::LocalBoxFuture;

use crate::data::STORE_FILE;
use crate::relaxed;

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
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
    #[error("{}: nothing can be written: see the line of the log above", .file.display())]
    Unwritable { file: PathBuf },
}

/// An open store, until it is closed. A clone is another handle to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    file: PathBuf,
    log: HubLog,
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
        let doubted = file.clone();
        let doubt = move || {
            if let Err(error) = relaxed::fail(&doubted) {
                tracing::error!(%error, "before the next start, run `fanfare-server store new-epochs`");
            }
        };
        let log = HubLog::new(store, durability, boot, doubt);
        let failed = relaxed::failed(&file);
        if smol::block_on(log.recall(failed.exists(), seed()?))? {
            // If it stays, the next start begins new epochs once more.
            let _ = fs::remove_file(failed);
        }
        Ok(Self { file, log })
    }

    /// The hub whose log this is. Blocks.
    ///
    /// # Errors
    /// Where it can't be read, or another version wrote it.
    pub(crate) fn restore(&self, limits: Limits, seed: [u8; 32]) -> Result<Hub, OpenError> {
        let rows = smol::block_on(self.log.meta())?;
        Hub::restore(limits, seed, &rows).map_err(|source| OpenError::Foreign {
            file: self.file.clone(),
            source,
        })
    }

    /// What to say where the first commit did not go through.
    pub(crate) fn unwritable(&self, failure: StoreFailure) -> OpenError {
        let file = self.file.clone();
        match failure {
            StoreFailure::Full => OpenError::Store(Error::Full { file }),
            StoreFailure::Busy | StoreFailure::Failed => OpenError::Unwritable { file },
        }
    }

    /// Commits what was taken, and closes the file.
    pub(crate) async fn close(&self) {
        let Some(store) = self.log.end().await else {
            return;
        };
        if let Err(error) = smol::unblock(|| store.close()).await {
            tracing::error!(%error, "the store did not close as it should");
        }
    }

    /// Leaves the file as it is, without waiting for what is being written: for a process that ends now.
    pub(crate) fn abandon(&self) {
        std::mem::forget(self.log.abandon());
    }
}

impl Storage for Disk {
    fn commit(&self, changes: Vec<Change>) -> LocalBoxFuture<'static, Result<(), StoreFailure>> {
        self.log.commit(changes)
    }

    fn fetch(
        &self,
        fetches: Vec<Fetch>,
    ) -> LocalBoxFuture<'static, Result<Vec<Fetched>, StoreFailure>> {
        self.log.fetch(fetches)
    }
}

/// The commit by which all rooms of a store begin a new epoch.
///
/// # Errors
/// The system has no randomness.
pub(crate) fn new_epochs() -> Result<Batch, getrandom::Error> {
    Ok(Batch::new_epochs(seed()?))
}

fn seed() -> Result<[u8; 32], getrandom::Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
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
        let rows = smol::block_on(disk.log.meta()).unwrap().into_iter();
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
            if durability == Durability::Relaxed {
                // What the store does then is a test of its own.
                relaxed::fail(&disk.file).unwrap();
            }
            // As a process that is killed leaves it: without its last words.
            drop(disk.log.abandon());
            let disk = open(dir.path(), durability);
            let found = epochs(&disk);
            assert_eq!(found.is_some(), is_new, "{durability:?}");
            drop(disk.log.abandon());
            // Once.
            assert_eq!(
                epochs(&open(dir.path(), durability)),
                found,
                "{durability:?}"
            );
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
            drop(disk.log.abandon());
            let disk = open();
            seen.push(epochs(&disk));
            smol::block_on(disk.close());
        }
        seen.dedup();
        assert_eq!(seen.len(), 3, "{seen:?}");
    }
}
