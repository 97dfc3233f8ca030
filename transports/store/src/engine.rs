//! The store without threads: open, commit a group of batches, recover from a full disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend,
    StorageError, TableDefinition, TransactionError, WriteTransaction,
};

use crate::batch::{Batch, Change};
use crate::disk::{Backend, Device, Disk, Frozen, Header, Written};
use crate::error::Error;
use crate::file::{Place, place, publish};
use crate::options::{Durability, Options};
use crate::row::{SEAL, seal};
use crate::table::Table;
use crate::view::{Problem, View, said};

/// The format that this version writes. It rises when an older version could not read what a newer one wrote.
pub(crate) const FORMAT: u32 = 1;
/// Beside the tables of [`Table`], so that no batch can touch it.
const FORMATS: TableDefinition<'static, &'static str, u32> = TableDefinition::new("format");
const VERSION: &str = "version";
/// Least space that must be free before a full disk is tried again.
const SPACE_MIN: u64 = 1 << 20;

/// The writing side. There is one for each file.
pub(crate) struct Engine {
    file: PathBuf,
    options: Options,
    device: Arc<Device>,
    instance: Option<Instance>,
    view: Arc<View>,
}

/// redb, and the disk that it was given.
struct Instance {
    database: Database,
    disk: Arc<Disk>,
}

/// What a database without a single table is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    /// It was made just now, or a crash came between.
    IsNew,
    /// A file gets its name when its tables are there.
    IsDamage,
}

impl Engine {
    /// Opens the file, or makes it.
    pub(crate) fn open(file: &Path, options: Options) -> Result<Self, Error> {
        match place(file, options.create)? {
            Place::There(backend) => {
                Self::on(backend, file.to_path_buf(), options, Empty::IsDamage)
            }
            Place::New(backend, new) => {
                let engine = Self::fresh(backend, file.to_path_buf(), options)?;
                publish(&new, file)?;
                Ok(engine)
            }
        }
    }

    /// A store in an empty file, whatever is in that file.
    pub(crate) fn fresh(
        backend: impl StorageBackend,
        file: PathBuf,
        options: Options,
    ) -> Result<Self, Error> {
        let device = Device::new(backend);
        let cleared = device.clear();
        cleared.map_err(|error| Error::io(&file, "empty the file", error))?;
        Self::with(
            device.clone(),
            Disk::new(device),
            file,
            options,
            Empty::IsNew,
        )
    }

    /// A store on a file, or on something that is used like one.
    pub(crate) fn on(
        backend: impl StorageBackend,
        file: PathBuf,
        options: Options,
        empty: Empty,
    ) -> Result<Self, Error> {
        let device = Device::new(backend);
        Self::with(device.clone(), Disk::new(device), file, options, empty)
    }

    /// Opened without a write to the file.
    pub(crate) fn read_only(file: &Path, options: Options) -> Result<Self, Error> {
        let Place::There(backend) = place(file, false)? else {
            let file = file.to_path_buf();
            return Err(Error::NoFile { file });
        };
        let device = Device::new(backend);
        let disk = Disk::read_only(device.clone());
        let disk = disk.map_err(|error| Error::io(file, "read the file", error))?;
        Self::with(device, disk, file.to_path_buf(), options, Empty::IsDamage)
    }

    fn with(
        device: Arc<Device>,
        disk: Arc<Disk>,
        file: PathBuf,
        options: Options,
        empty: Empty,
    ) -> Result<Self, Error> {
        let header = device.header();
        let header = header.map_err(|error| Error::io(&file, "read the file", error))?;
        match header {
            Header::Damaged => {
                let what = "its header is not what was written".to_owned();
                return Err(Error::Damaged { file, what });
            }
            Header::Foreign if empty == Empty::IsDamage => return Err(Error::NotAStore { file }),
            Header::Whole | Header::Foreign => {}
        }
        let (instance, snapshot) = start(disk, &file, &options, empty)?;
        let view = Arc::new(View::new(file.clone(), snapshot));
        let engine = Self {
            file,
            options,
            device,
            instance: Some(instance),
            view,
        };
        match engine.frozen() {
            Some(cause @ Frozen::Failed(_)) => Err(engine.refusal(cause)),
            // A store that is on a full disk can be read; one that was not there before is not made.
            Some(cause @ Frozen::Full) if header == Header::Foreign => Err(engine.refusal(cause)),
            Some(Frozen::Full | Frozen::ReadOnly) | None => Ok(engine),
        }
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// The file's length in bytes.
    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        let len = self.device.len();
        len.map_err(|error| Error::io(&self.file, "read the file", error))
    }

    fn frozen(&self) -> Option<Frozen> {
        self.instance.as_ref()?.disk.frozen()
    }

    fn refusal(&self, cause: Frozen) -> Error {
        let file = self.file.clone();
        match cause {
            Frozen::Full => Error::Full { file },
            Frozen::Failed(cause) => Error::WriteFailed { file, cause },
            Frozen::ReadOnly => Error::Permission { file },
        }
    }

    /// Commits all batches, or none. `written` is called in between, if the store is [`Durability::Relaxed`]: once the
    /// operating system has everything.
    pub(crate) fn commit<'b>(
        &mut self,
        batches: impl Iterator<Item = &'b Batch>,
        written: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        match self.frozen() {
            Some(Frozen::Full) => self.recover()?,
            Some(cause) => return Err(self.refusal(cause)),
            None => {}
        }
        let Some(instance) = &self.instance else {
            return Err(Error::Closed);
        };
        let relaxed = self.options.durability == Durability::Relaxed;
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut transaction = instance.database.begin_write().map_err(begin)?;
            transaction.set_two_phase_commit(!relaxed);
            apply(&transaction, batches)?;
            if instance.disk.frozen().is_some() {
                return Ok(None);
            }
            let view = self.view.clone();
            instance.disk.begin(relaxed.then(|| -> Written {
                Box::new(move || {
                    view.answered();
                    written();
                })
            }));
            transaction.commit().map_err(commit)?;
            instance.database.begin_read().map_err(begin).map(Some)
        }));
        // The first phase's fsync, and that of the header that makes the commit valid.
        let safe = instance.disk.end() >= if relaxed { 1 } else { 2 };
        let frozen = instance.disk.frozen();
        let result = match done {
            Ok(Ok(snapshot)) => {
                // What was answered must be seen, also if its fsync failed then.
                if safe || self.view.is_answered() {
                    self.view.show(snapshot);
                }
                match frozen {
                    Some(cause) if !safe => Err(self.refusal(cause)),
                    _ => Ok(()),
                }
            }
            Ok(Err(problem)) => Err(self.broken(instance, problem)),
            Err(panic) => Err(self.broken(instance, Problem::Damaged(said(&*panic)))),
        };
        self.view.settled();
        result
    }

    /// redb takes no more writes after a commit that it failed itself. Whether that one is on disk is not known.
    fn broken(&self, instance: &Instance, problem: Problem) -> Error {
        let error = problem.of(&self.file, "commit");
        // If even that fails, so does every later commit in redb.
        let _ = instance.disk.freeze(Frozen::Failed(error.to_string()));
        let cause = instance.disk.frozen();
        cause.map_or(error, |cause| self.refusal(cause))
    }

    /// Opens the file anew after a lack of space. Readers stay with the state before until that is done.
    fn recover(&mut self) -> Result<(), Error> {
        let unwritten = self.instance.as_ref().map_or(0, |old| old.disk.unwritten());
        let full = || self.refusal(Frozen::Full);
        if !self.device.has_space(SPACE_MIN.max(2 * unwritten)) {
            return Err(full());
        }
        let disk = Disk::new(self.device.clone());
        let (instance, snapshot) = start(disk, &self.file, &self.options, Empty::IsDamage)?;
        match instance.disk.frozen() {
            Some(Frozen::Full | Frozen::ReadOnly) => {
                drop(snapshot);
                discard(instance);
                Err(full())
            }
            Some(cause @ Frozen::Failed(_)) => {
                drop(snapshot);
                discard(instance);
                if let Some(old) = &self.instance {
                    // The disk is frozen already: this changes the cause only.
                    let _ = old.disk.freeze(cause.clone());
                }
                Err(self.refusal(cause))
            }
            None => {
                self.view.show(Some(snapshot));
                if let Some(old) = self.instance.replace(instance) {
                    discard(old);
                }
                Ok(())
            }
        }
    }

    /// Gives the file's free space back.
    pub(crate) fn compact(&mut self) -> Result<(), Error> {
        self.view.show(None);
        let Some(instance) = &mut self.instance else {
            return Err(Error::Closed);
        };
        let done = catch_unwind(AssertUnwindSafe(|| instance.database.compact()));
        let problem = match done {
            Ok(Ok(_)) => {
                let frozen = instance.disk.frozen();
                return frozen.map_or(Ok(()), |cause| Err(self.refusal(cause)));
            }
            Ok(Err(redb::CompactionError::Storage(error))) => Problem::Redb(error),
            Ok(Err(other)) => Problem::Damaged(other.to_string()),
            Err(panic) => Problem::Damaged(said(&*panic)),
        };
        Err(problem.of(&self.file, "compact"))
    }

    /// Ends readers and writes what makes the next start quick.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        self.view.show(None);
        let Some(instance) = self.instance.take() else {
            return Ok(());
        };
        let before = instance.disk.frozen();
        let closed = catch_unwind(AssertUnwindSafe(|| instance.database.close()));
        match (closed, before, instance.disk.frozen()) {
            // Said when it happened; a full or failed file is recovered at the next start.
            (_, Some(_), _) => Ok(()),
            (_, None, Some(cause)) => Err(self.refusal(cause)),
            (Ok(Ok(())), None, None) => Ok(()),
            (Ok(Err(error)), None, None) => Err(opening(error, &self.file)),
            (Err(panic), None, None) => {
                Err(Problem::Damaged(said(&*panic)).of(&self.file, "close"))
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.view.show(None);
        if let Some(instance) = self.instance.take() {
            discard(instance);
        }
    }
}

/// Closes redb. It may panic on what it finds, and nobody can do anything about it.
fn discard(instance: Instance) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(instance.database)));
}

/// Opens redb on a disk: recovery, verification, the format, the tables.
fn start(
    disk: Arc<Disk>,
    file: &Path,
    options: &Options,
    empty: Empty,
) -> Result<(Instance, ReadTransaction), Error> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = Database::builder()
            .set_cache_size(options.cache_bytes)
            .set_check_integrity_on_open(options.verify)
            .create_with_backend(Backend(disk.clone()))
            .map_err(|error| opening(error, file))?;
        format(&database, file, empty)?;
        let snapshot = database.begin_read().map_err(begin);
        let snapshot = snapshot.map_err(|problem| problem.of(file, "open"))?;
        Ok((database, snapshot))
    }));
    match opened {
        Ok(Ok((database, snapshot))) => Ok((Instance { database, disk }, snapshot)),
        Ok(Err(error)) => Err(error),
        Err(panic) => Err(Problem::Damaged(said(&*panic)).of(file, "open")),
    }
}

/// Checks the format of a store, or makes the tables of a new one.
fn format(database: &Database, file: &Path, empty: Empty) -> Result<(), Error> {
    let found = found_format(database).map_err(|problem| problem.of(file, "open"))?;
    let file = file.to_path_buf();
    match found {
        Found::Format(FORMAT) => Ok(()),
        Found::Format(found) if found > FORMAT => Err(Error::NewerFormat {
            file,
            found,
            known: FORMAT,
        }),
        Found::Format(_) => Err(Error::Damaged {
            file,
            what: "its format is one that never was".to_owned(),
        }),
        Found::Other => Err(Error::NotAStore { file }),
        Found::Nothing if empty == Empty::IsDamage => Err(Error::NotAStore { file }),
        Found::Nothing => make(database).map_err(|problem| problem.of(&file, "make the tables")),
    }
}

enum Found {
    Format(u32),
    Other,
    Nothing,
}

fn found_format(database: &Database) -> Result<Found, Problem> {
    let transaction = database.begin_read().map_err(begin)?;
    match transaction.open_table(FORMATS) {
        Ok(table) => match table.get(VERSION)? {
            Some(version) => Ok(Found::Format(version.value())),
            None => Ok(Found::Other),
        },
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let empty = transaction.list_tables()?.next().is_none();
            Ok(if empty { Found::Nothing } else { Found::Other })
        }
        Err(redb::TableError::Storage(error)) => Err(error.into()),
        Err(_) => Ok(Found::Other),
    }
}

fn make(database: &Database) -> Result<(), Problem> {
    let mut transaction = database.begin_write().map_err(begin)?;
    transaction.set_two_phase_commit(true);
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    transaction.open_table(FORMATS)?.insert(VERSION, FORMAT)?;
    transaction.commit().map_err(commit)
}

/// Makes the changes of all batches, in their order.
fn apply<'b>(
    transaction: &WriteTransaction,
    batches: impl Iterator<Item = &'b Batch>,
) -> Result<(), Problem> {
    let mut tables: [Option<redb::Table<'_, &[u8], &[u8]>>; Table::ALL.len()] = Default::default();
    for change in batches.flat_map(Batch::changes) {
        let (Change::Put(name, ..) | Change::Delete(name, _) | Change::DeleteRange(name, _)) =
            change;
        let Some(slot) = tables.get_mut(*name as usize) else {
            continue;
        };
        let table = match slot {
            Some(table) => table,
            None => slot.insert(transaction.open_table(name.definition())?),
        };
        match change {
            Change::Put(_, key, value) => {
                let mut stored = table.insert_reserve(key.as_slice(), value.len() + SEAL)?;
                let (head, tail) = stored.as_mut().split_at_mut(value.len());
                head.copy_from_slice(value);
                tail.copy_from_slice(&seal(*name, key, value));
            }
            Change::Delete(_, key) => drop(table.remove(key.as_slice())?),
            Change::DeleteRange(_, range) if range.is_empty() => {}
            Change::DeleteRange(_, range) => {
                table.retain_in::<&[u8], _>(range.bounds(), |_, _| false)?;
            }
        }
    }
    Ok(())
}

fn begin(error: TransactionError) -> Problem {
    if let TransactionError::Storage(error) = error {
        return Problem::Redb(error);
    }
    Problem::Redb(StorageError::Io(io::Error::other(error.to_string())))
}

fn commit(error: CommitError) -> Problem {
    if let CommitError::Storage(error) = error {
        return Problem::Redb(error);
    }
    Problem::Redb(StorageError::Io(io::Error::other(error.to_string())))
}

pub(crate) fn opening(error: DatabaseError, file: &Path) -> Error {
    let path = file.to_path_buf();
    if matches!(
        error,
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch
    ) {
        return Error::Locked { file: path };
    }
    let DatabaseError::Storage(error) = error else {
        return Problem::Damaged(error.to_string()).of(file, "open");
    };
    let said = if let StorageError::Io(error) = &error {
        Some(error.kind())
    } else {
        None
    };
    if said == Some(io::ErrorKind::InvalidData) {
        return Error::NotAStore { file: path };
    }
    if said == Some(io::ErrorKind::UnexpectedEof) {
        let what = "it ends too early".to_owned();
        return Error::Damaged { file: path, what };
    }
    Problem::Redb(error).of(file, "open")
}
