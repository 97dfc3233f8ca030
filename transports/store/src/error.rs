//! Why the store refuses, in words that name the file and the next step.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why something was refused.
///
/// ```
/// use fanfare_store::{Error, Options, Store};
/// # let dir = tempfile::tempdir()?;
/// let error = Store::open(dir.path().join("missing/store"), Options::default()).unwrap_err();
/// assert!(matches!(error, Error::NoDirectory { .. }));
/// assert!(error.to_string().contains("create the directory"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file's directory does not exist.
    #[error("{file}: there is no such directory: create the directory, or choose another place")]
    NoDirectory {
        /// The store's file.
        file: PathBuf,
    },
    /// There is no file, and none was to be made.
    #[error("{file}: there is no such file: check the name")]
    NoFile {
        /// The store's file.
        file: PathBuf,
    },
    /// The file is there, and must not be.
    #[error("{file}: is there already: choose a name that is free, or move the file away")]
    Exists {
        /// The store's file.
        file: PathBuf,
    },
    /// The process may not read or write the file.
    #[error(
        "{file}: permission denied: let this process's user read and write the file and its directory"
    )]
    Permission {
        /// The store's file.
        file: PathBuf,
    },
    /// Another process has the file open.
    #[error(
        "{file}: another process has this store open: stop that process, or choose another file"
    )]
    Locked {
        /// The store's file.
        file: PathBuf,
    },
    /// The file is something else.
    #[error("{file}: is not a Fanfare store: choose another name, or move the file away")]
    NotAStore {
        /// The store's file.
        file: PathBuf,
    },
    /// A later version of Fanfare wrote the file.
    #[error(
        "{file}: has format {found}, and this version knows formats up to {known}: run the version that wrote it, or a later one"
    )]
    NewerFormat {
        /// The store's file.
        file: PathBuf,
        /// The file's format.
        found: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// A version of Fanfare before the first release wrote the file.
    #[error(
        "{file}: has format {found}, and this version knows formats from {oldest} on: export it with the version that wrote it, then import that"
    )]
    OlderFormat {
        /// The store's file.
        file: PathBuf,
        /// The file's format.
        found: u32,
        /// The oldest format that is known here.
        oldest: u32,
    },
    /// The file's content is not what was written.
    #[error(
        "{file}: is damaged ({what}): check the disk, then restore a copy of the file, or move it away to begin anew"
    )]
    Damaged {
        /// The store's file.
        file: PathBuf,
        /// What was found.
        what: String,
    },
    /// There is no space. Nothing of this batch was kept; a later one is taken when there is space again.
    #[error(
        "{file}: no space is left on the disk: free some; writes are taken again as soon as there is space"
    )]
    Full {
        /// The store's file.
        file: PathBuf,
    },
    /// A write or fsync failed, now or before. What the disk holds of it is not known, so nothing more is written.
    #[error(
        "{file}: a write failed ({cause}), and no more are taken: check the disk, then restart"
    )]
    WriteFailed {
        /// The store's file.
        file: PathBuf,
        /// The first failure.
        cause: String,
    },
    /// Under its name is no file any more, or another one, in which nobody would find what is written.
    #[error(
        "{file}: was removed or replaced while it was open, and no more writes are taken: put the file back, then restart"
    )]
    Replaced {
        /// The store's file.
        file: PathBuf,
    },
    /// The operating system refused something else.
    #[error("{file}: can't {doing}: {source}: check the disk and the file")]
    Io {
        /// The store's file.
        file: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// So much waits already that this was not taken.
    #[error("the store's queue of {what} is full: try again later, or raise its bound")]
    QueueFull {
        /// What is queued.
        what: &'static str,
    },
    /// Something is larger than can be stored.
    #[error("a {what} of {bytes} bytes: at most {limit} are taken")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The store was closed before this was done.
    #[error("the store is closed")]
    Closed,
    /// What is exported could not be written to where it goes.
    #[error("can't write the export: {0}: choose another place for it")]
    Output(Arc<io::Error>),
    /// What is imported could not be read.
    #[error("can't read the import: {0}: check that it can be read")]
    Input(Arc<io::Error>),
    /// What is imported is not an export.
    #[error("line {line} of the import: {why}: make the export anew")]
    BadImport {
        /// The line's number, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    pub(crate) fn io(file: impl Into<PathBuf>, doing: &'static str, source: io::Error) -> Self {
        let file = file.into();
        let kind = source.kind();
        if matches!(
            kind,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        ) {
            return Self::Permission { file };
        }
        if is_full(&source) {
            return Self::Full { file };
        }
        Self::Io {
            file,
            doing,
            source: Arc::new(source),
        }
    }
}

/// Whether the operating system says that there is no space, and no more than that.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}
