//! The tables: redb in its part of the file, without threads. Open, bring what the log has, recover from a full disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fanfare_core::sim_reached;
use redb::{
    CommitError, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageBackend,
    StorageError, TableDefinition, TransactionError, WriteTransaction,
};

use crate::batch::Batch;
use crate::disk::{Backend, Device, Disk, Frozen, cause};
use crate::error::Error;
use crate::file::{Named, Place, place, publish};
use crate::layout::{FORMAT, Kind, Layout};
use crate::log::{self, Number};
use crate::options::Options;
use crate::overlay::Overlay;
use crate::row::{SEAL, seal};
use crate::table::Table;
use crate::view::{Problem, View, said};

/// Beside the tables of [`Table`], so that no batch can touch it.
const LOG: TableDefinition<'static, &'static str, Number> = TableDefinition::new("log");
/// The last commit that the tables have.
const APPLIED: &str = "applied";
/// Least space that must be free before a full disk is tried again.
const SPACE_MIN: u64 = 1 << 20;

/// The writing side of the tables. There is one for each file.
pub(crate) struct Engine {
    file: PathBuf,
    options: Options,
    device: Arc<Device>,
    instance: Option<Instance>,
    view: Arc<View>,
    last: Number,
}

/// redb, and the disk that it was given.
struct Instance {
    database: Database,
    disk: Arc<Disk>,
}

/// What a file without a byte in its first block is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blank {
    /// It was made just now, or a crash came between.
    IsNew,
    /// A file gets its name when it is whole.
    IsForeign,
}

impl Engine {
    /// Opens the file, or makes it.
    pub(crate) fn open(file: &Path, options: Options) -> Result<Self, Error> {
        match place(file, options.create)? {
            Place::There(backend) => Self::on(
                Box::new(backend),
                Some(Named::new(file, file)),
                file.to_path_buf(),
                options,
                Blank::IsForeign,
            ),
            Place::New(backend, new) => {
                let named = Some(Named::new(&new, file));
                let engine = Self::make(Box::new(backend), named, file.to_path_buf(), options)?;
                publish(&new, file)?;
                Ok(engine)
            }
        }
    }

    /// A store in a file, whatever is in that file.
    pub(crate) fn make(
        backend: Box<dyn StorageBackend>,
        named: Option<Named>,
        file: PathBuf,
        options: Options,
    ) -> Result<Self, Error> {
        let failed = |error| Error::io(&file, "make the file", error);
        let layout = Layout::new(options.log_bytes);
        let device = Device::make(backend, named, layout).map_err(failed)?;
        let disk = Disk::new(device.clone());
        let (instance, tables) = start(disk, &file, &options, Tables::AreMade)?;
        if let Some(cause) = instance.disk.frozen() {
            return Err(refusal(&file, cause));
        }
        device.name().map_err(failed)?;
        let view = Arc::new(View::new(file.clone(), tables));
        Ok(Self {
            file,
            options,
            device,
            instance: Some(instance),
            view,
            last: 0,
        })
    }

    /// A store on a file, or on something that is used like one.
    pub(crate) fn on(
        backend: Box<dyn StorageBackend>,
        named: Option<Named>,
        file: PathBuf,
        options: Options,
        blank: Blank,
    ) -> Result<Self, Error> {
        let found = find(&*backend, &file)?;
        let Some(layout) = found else {
            return match blank {
                Blank::IsNew => Self::make(backend, named, file, options),
                Blank::IsForeign => Err(Error::NotAStore { file }),
            };
        };
        let device = Device::found(backend, named, layout);
        Self::with(device.clone(), Disk::new(device), file, options)
    }

    /// Opened without a write to the file. What only the log has is brought to the tables in memory.
    pub(crate) fn read_only(file: &Path, options: Options) -> Result<Self, Error> {
        let path = file.to_path_buf();
        let Place::There(backend) = place(file, false)? else {
            return Err(Error::NoFile { file: path });
        };
        let Some(layout) = find(&backend, file)? else {
            return Err(Error::NotAStore { file: path });
        };
        let device = Device::found(Box::new(backend), None, layout);
        let disk = Disk::read_only(device.clone());
        let disk = disk.map_err(|error| Error::io(file, "read the file", error))?;
        Self::with(device, disk, path, options)
    }

    fn with(
        device: Arc<Device>,
        disk: Arc<Disk>,
        file: PathBuf,
        options: Options,
    ) -> Result<Self, Error> {
        // Before redb writes anything: a file that is damaged stays as it is.
        if let Err(problem) = verify(&device) {
            // What another process is just writing looks damaged.
            return Err(if device.is_free() {
                problem.of(&file, "open")
            } else {
                Error::Locked { file }
            });
        }
        let (instance, tables) = start(disk, &file, &options, Tables::AreThere)?;
        let found = applied(&tables).and_then(|applied| log::recover(&device, applied));
        let found = found.map_err(|problem| problem.of(&file, "open"))?;
        let view = Arc::new(View::new(file.clone(), tables));
        let mut engine = Self {
            file,
            options,
            device,
            instance: Some(instance),
            view,
            last: found.last,
        };
        if let Some(cause @ Frozen::Failed(_)) = engine.frozen() {
            return Err(engine.refusal(cause));
        }
        if found.changes.is_empty() {
            return Ok(engine);
        }
        match engine.commit(&found.changes, found.last) {
            Ok(tables) => engine.view.applied(tables),
            // A store on a full disk can be read: nothing of it that a loss of power could take.
            Err(Error::Full { .. }) => {
                if !fanfare_core::planted!(ShownUnsafe) {
                    engine.make_safe()?;
                }
                engine.view.found(found.changes);
            }
            Err(error) => return Err(error),
        }
        Ok(engine)
    }

    /// Writes what the log has anew: a process before may have left it with the system only.
    fn make_safe(&self) -> Result<(), Error> {
        log::make_safe(&self.device).map_err(|error| match cause("write", &error) {
            Frozen::Full => Error::Full {
                file: self.file.clone(),
            },
            Frozen::ReadOnly | Frozen::Failed(_) => Error::io(&self.file, "write the log", error),
        })
    }

    pub(crate) const fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The last commit that was found, in the log or the tables.
    pub(crate) const fn last(&self) -> Number {
        self.last
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// The file's length in bytes.
    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        let len = self.device.bytes();
        len.map_err(|error| Error::io(&self.file, "read the file", error))
    }

    fn frozen(&self) -> Option<Frozen> {
        self.instance.as_ref()?.disk.frozen()
    }

    fn refusal(&self, cause: Frozen) -> Error {
        refusal(&self.file, cause)
    }

    /// Says why, where nothing can be written now.
    pub(crate) fn writable(&self) -> Result<(), Error> {
        let cause = self.frozen();
        cause.map_or(Ok(()), |cause| Err(self.refusal(cause)))
    }

    /// Writes nothing more: a write to the log failed.
    pub(crate) fn freeze(&self, cause: &str) {
        if let Some(instance) = &self.instance {
            // Where even the file's length can't be had, every write of redb's fails too.
            let _ = instance.disk.freeze(Frozen::Failed(cause.to_owned()));
        }
    }

    /// Puts rows into the tables, past the log.
    pub(crate) fn fill(&mut self, batch: Batch) -> Result<(), Error> {
        let mut changes = Overlay::default();
        changes.add(batch);
        let tables = self.commit(&changes, self.last)?;
        self.view.applied(tables);
        Ok(())
    }

    /// Makes all changes, or none, and remembers that the tables have the log up to this commit.
    pub(crate) fn commit(
        &mut self,
        changes: &Overlay,
        number: Number,
    ) -> Result<ReadTransaction, Error> {
        match self.frozen() {
            Some(Frozen::Full) => {
                sim_reached!("recovers_from_a_full_disk");
                self.recover()?;
            }
            Some(cause @ Frozen::Failed(_)) => return Err(self.refusal(cause)),
            Some(Frozen::ReadOnly) | None => {}
        }
        let Some(instance) = &self.instance else {
            return Err(Error::Closed);
        };
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut transaction = instance.database.begin_write().map_err(begin)?;
            transaction.set_two_phase_commit(true);
            apply(&transaction, changes)?;
            transaction.open_table(LOG)?.insert(APPLIED, number)?;
            if instance.disk.frozen() == Some(Frozen::Full) {
                return Ok(None);
            }
            instance.disk.begin();
            transaction.commit().map_err(commit)?;
            instance.database.begin_read().map_err(begin).map(Some)
        }));
        // The first phase's fsync, and that of the header that makes the commit valid.
        let safe = instance.disk.end() >= 2;
        match (done, instance.disk.frozen()) {
            (Ok(Err(problem)), _) => Err(self.broken(instance, problem)),
            (Err(panic), _) => Err(self.broken(instance, Problem::Damaged(said(&*panic)))),
            (Ok(Ok(Some(tables))), cause) if safe || cause == Some(Frozen::ReadOnly) => Ok(tables),
            (Ok(Ok(_)), Some(cause)) => {
                sim_reached!("checkpoint_failed");
                Err(self.refusal(cause))
            }
            (Ok(Ok(_)), None) => {
                let problem = Problem::Damaged("a commit left no trace".to_owned());
                Err(self.broken(instance, problem))
            }
        }
    }

    /// redb takes no more writes after a commit that it failed itself. Whether that one is on disk is not known.
    fn broken(&self, instance: &Instance, problem: Problem) -> Error {
        let error = problem.of(&self.file, "commit");
        // If even that fails, so does every later commit in redb.
        let _ = instance.disk.freeze(Frozen::Failed(error.to_string()));
        let cause = instance.disk.frozen();
        cause.map_or(error, |cause| self.refusal(cause))
    }

    /// Opens redb anew after a lack of space. Readers stay with the state before until that is done.
    fn recover(&mut self) -> Result<(), Error> {
        let unwritten = self.instance.as_ref().map_or(0, |old| old.disk.unwritten());
        let full = || self.refusal(Frozen::Full);
        if !self.device.has_space(SPACE_MIN.max(2 * unwritten)) {
            return Err(full());
        }
        let disk = Disk::new(self.device.clone());
        let (instance, tables) = start(disk, &self.file, &self.options, Tables::AreThere)?;
        match instance.disk.frozen() {
            Some(Frozen::Full | Frozen::ReadOnly) => {
                drop(tables);
                discard(instance);
                Err(full())
            }
            Some(cause @ Frozen::Failed(_)) => {
                drop(tables);
                discard(instance);
                if let Some(old) = &self.instance {
                    // The disk is frozen already: this changes the cause only.
                    let _ = old.disk.freeze(cause.clone());
                }
                Err(self.refusal(cause))
            }
            None => {
                self.view.replace(Some(tables));
                if let Some(old) = self.instance.replace(instance) {
                    discard(old);
                }
                Ok(())
            }
        }
    }

    /// Gives the file's free space back.
    pub(crate) fn compact(&mut self) -> Result<(), Error> {
        self.view.replace(None);
        let Some(instance) = &mut self.instance else {
            return Err(Error::Closed);
        };
        let done = catch_unwind(AssertUnwindSafe(|| instance.database.compact()));
        let problem = match done {
            Ok(Ok(_)) => return self.writable(),
            Ok(Err(redb::CompactionError::Storage(error))) => Problem::Redb(error),
            Ok(Err(other)) => Problem::Damaged(other.to_string()),
            Err(panic) => Problem::Damaged(said(&*panic)),
        };
        Err(problem.of(&self.file, "compact"))
    }

    /// Ends readers and writes what makes the next start quick.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        self.view.replace(None);
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
        self.view.replace(None);
        if let Some(instance) = self.instance.take() {
            discard(instance);
        }
    }
}

/// Closes redb. It may panic on what it finds, and nobody can do anything about it.
fn discard(instance: Instance) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(instance.database)));
}

/// Whose tables are opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tables {
    AreThere,
    AreMade,
}

/// Opens redb on a disk: recovery, verification, the tables.
fn start(
    disk: Arc<Disk>,
    file: &Path,
    options: &Options,
    tables: Tables,
) -> Result<(Instance, ReadTransaction), Error> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = Database::builder()
            .set_cache_size(options.cache_bytes)
            .set_check_integrity_on_open(options.verify)
            .create_with_backend(Backend(disk.clone()))
            .map_err(|error| opening(error, file))?;
        if tables == Tables::AreMade {
            make(&database).map_err(|problem| problem.of(file, "make the tables"))?;
        }
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

/// Where things are in a file of this format. `None`: nothing was written to it.
fn find(backend: &dyn StorageBackend, file: &Path) -> Result<Option<Layout>, Error> {
    let found = Layout::find(backend);
    let path = file.to_path_buf();
    match found.map_err(|error| Error::io(file, "read the file", error))? {
        Kind::Store(layout) => Ok(Some(layout)),
        Kind::Blank => Ok(None),
        Kind::Foreign => Err(Error::NotAStore { file: path }),
        Kind::Older(found) => Err(Error::OlderFormat {
            file: path,
            found,
            oldest: FORMAT,
        }),
        Kind::Newer(found) => Err(Error::NewerFormat {
            file: path,
            found,
            known: FORMAT,
        }),
        Kind::Damaged => Err(Error::Damaged {
            file: path,
            what: "its first block is not what was written, or the file is cut".to_owned(),
        }),
    }
}

/// Whether the header and the log are as they were written.
fn verify(device: &Device) -> Result<(), Problem> {
    let whole = device.has_whole_header();
    if !whole.map_err(|error| Problem::Redb(StorageError::Io(error)))? {
        let what = "the header of its tables is not what was written";
        return Err(Problem::Damaged(what.to_owned()));
    }
    log::verify(device)
}

/// The last commit that the tables have.
fn applied(tables: &ReadTransaction) -> Result<Number, Problem> {
    let table = tables.open_table(LOG)?;
    let applied = table.get(APPLIED)?.map(|number| number.value());
    applied
        .ok_or_else(|| Problem::Damaged("its tables don't say which commits they have".to_owned()))
}

fn make(database: &Database) -> Result<(), Problem> {
    let mut transaction = database.begin_write().map_err(begin)?;
    transaction.set_two_phase_commit(true);
    for table in Table::ALL {
        transaction.open_table(table.definition())?;
    }
    transaction.open_table(LOG)?.insert(APPLIED, 0)?;
    transaction.commit().map_err(commit)
}

/// Makes the changes, table by table in the order of the keys, so that a page is written once.
fn apply(transaction: &WriteTransaction, changes: &Overlay) -> Result<(), Problem> {
    for (name, layer) in changes.layers() {
        let mut table = transaction.open_table(name.definition())?;
        for range in layer.cleared().ranges() {
            table.retain_in::<&[u8], _>(range, |_, _| false)?;
        }
        let skipped = usize::from(fanfare_core::planted!(RowSkipped));
        for (key, value) in layer.rows().skip(skipped) {
            let Some(value) = value else {
                table.remove(key.as_slice())?;
                continue;
            };
            let mut stored = table.insert_reserve(key.as_slice(), value.len() + SEAL)?;
            let (head, tail) = stored.as_mut().split_at_mut(value.len());
            head.copy_from_slice(value);
            tail.copy_from_slice(&seal(name, key, value));
        }
    }
    Ok(())
}

fn refusal(file: &Path, cause: Frozen) -> Error {
    let file = file.to_path_buf();
    match cause {
        Frozen::Full => Error::Full { file },
        Frozen::Failed(cause) => Error::WriteFailed { file, cause },
        Frozen::ReadOnly => Error::Permission { file },
    }
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
