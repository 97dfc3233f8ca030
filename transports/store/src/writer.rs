//! What writes the log, and decides when its changes go to the tables: a thread, or whoever steps it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use fanfare_core::sim_reached;

use crate::batch::Batch;
use crate::checkpoint::Checkpoints;
use crate::disk::{Device, Frozen, cause};
use crate::engine::Engine;
use crate::error::Error;
use crate::log::{self, Number, Place};
use crate::options::Durability;
use crate::overlay::Overlay;
use crate::queue::{Answer, Job, Queue};
use crate::view::View;

/// The writing side of the log. There is one for each file.
pub(crate) struct Writer {
    file: PathBuf,
    durability: Durability,
    device: Arc<Device>,
    view: Arc<View>,
    checkpoints: Checkpoints,
    /// The last commit.
    last: Number,
    /// Where the next one goes. `None`: nowhere until the tables have what the log had when it was opened.
    place: Option<Place>,
    /// The last commit of what is on its way to the tables.
    moving: Option<Number>,
    /// Why nothing more is written.
    failed: Option<Error>,
}

/// A group of commits that was written, and is not answered yet.
pub(crate) struct Written {
    kept: Result<Kept, Error>,
    answers: Vec<Answer>,
}

/// Where a commit is.
enum Kept {
    InLog(Vec<Batch>),
    InTables,
}

impl Writer {
    /// Whose checkpoints have a thread.
    pub(crate) fn new(engine: Engine) -> std::io::Result<Self> {
        Self::with(engine, Checkpoints::start)
    }

    /// Whose checkpoints are stepped.
    pub(crate) fn stepped(engine: Engine) -> Self {
        let stepped = |engine| Ok::<_, Infallible>(Checkpoints::stepped(engine));
        let Ok(writer) = Self::with(engine, stepped);
        writer
    }

    fn with<E>(
        engine: Engine,
        checkpoints: impl FnOnce(Engine) -> Result<Checkpoints, E>,
    ) -> Result<Self, E> {
        let view = engine.view();
        let moving = view.frozen().map(|_| engine.last());
        Ok(Self {
            file: view.file().to_path_buf(),
            durability: engine.options().durability,
            device: engine.device().clone(),
            view,
            last: engine.last(),
            place: moving.is_none().then_some(Place::FIRST),
            moving,
            failed: None,
            checkpoints: checkpoints(engine)?,
        })
    }

    /// Commits until the queue is closed and empty, then closes the file.
    pub(crate) fn run(mut self, queue: &Queue) -> Result<(), Error> {
        let mut before = 1;
        let mut ended = Instant::now();
        while let Some(group) = queue.group(before, ended) {
            before = group.len();
            let written = self.write(group);
            self.answer(written);
            ended = Instant::now();
        }
        self.close()
    }

    /// Writes all batches of a group, or none.
    pub(crate) fn write(&mut self, group: Vec<Job>) -> Written {
        let (batches, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|job| (job.batch, job.answer)).unzip();
        let kept = match self.keep(batches) {
            // What was kept there is for nobody to find.
            Ok(_) if !self.device.is_there() => {
                let file = self.file.clone();
                Err(self.fail(Error::Replaced { file }))
            }
            kept => kept,
        };
        Written { kept, answers }
    }

    /// Shows what was written to readers, and answers.
    pub(crate) fn answer(&mut self, written: Written) {
        let Written { kept, answers } = written;
        let result = kept.map(|kept| {
            if let Kept::InLog(batches) = kept {
                batches.into_iter().for_each(|batch| self.view.add(batch));
            }
        });
        let result = match result {
            Err(Error::Full { .. }) if fanfare_core::planted!(FullCountsAsKept) => Ok(()),
            result => result,
        };
        for answer in answers {
            // Nobody may wait for it any more.
            let _ = answer.send(result.clone());
        }
        if self.durability == Durability::Relaxed
            && result.is_ok()
            && let Err(error) = self.device.sync_log()
        {
            // Also if it says that there is no space: what reached the disk is not known.
            self.fail(self.failure(format!("fsync: {error}")));
        }
    }

    /// Brings to the tables what is on its way there, where nobody else does. Whether there was anything.
    pub(crate) fn checkpoint(&mut self) -> bool {
        self.checkpoints.step()
    }

    fn keep(&mut self, batches: Vec<Batch>) -> Result<Kept, Error> {
        let ended = self.checkpoints.ended();
        self.note(ended)?;
        if batches.iter().all(Batch::is_empty) {
            return Ok(Kept::InLog(batches));
        }
        let record = log::record(self.last + 1, batches.iter());
        let layout = self.device.layout();
        if record.len() as u64 > layout.half() {
            sim_reached!("log_passed_by");
            self.pass_by(batches)?;
            return Ok(Kept::InTables);
        }
        let fits = |place: &Place| place.behind(record.len(), layout).is_some();
        let place = match self.place.filter(fits) {
            Some(place) => place,
            None => self.turn()?,
        };
        self.write_record(place, &record)?;
        self.last += 1;
        self.place = place.behind(record.len(), layout);
        Ok(Kept::InLog(batches))
    }

    fn write_record(&mut self, place: Place, record: &[u8]) -> Result<(), Error> {
        let offset = place.offset(self.device.layout());
        let written = match self.durability {
            Durability::Immediate => self.device.write_log_through(offset, record),
            Durability::Relaxed => self.device.write_log(offset, record),
        };
        let Err(error) = written else { return Ok(()) };
        let cause = match cause("write", &error) {
            // A file system that needs space also for what is written in place.
            Frozen::Full => match self.unwrite(offset) {
                Ok(()) => {
                    sim_reached!("log_write_full");
                    return Err(self.full());
                }
                Err(cause) => cause,
            },
            Frozen::Failed(cause) => cause,
            Frozen::ReadOnly => "the file is open to be read only".to_owned(),
        };
        Err(self.fail(self.failure(cause)))
    }

    /// What was written of a refused record must not be found as a commit. Where there is no space for that either, the next
    /// commit comes to the same place.
    fn unwrite(&self, offset: u64) -> Result<(), String> {
        match self.device.write_log_through(offset, &log::blank()) {
            Err(error) => match cause("write", &error) {
                Frozen::Failed(cause) => Err(cause),
                Frozen::Full | Frozen::ReadOnly => Ok(()),
            },
            Ok(()) => Ok(()),
        }
    }

    /// Makes the other half free, and sends what this one has to the tables.
    fn turn(&mut self) -> Result<Place, Error> {
        sim_reached!("log_turns");
        self.settle()?;
        self.send();
        let place = self.place.map_or(Place::FIRST, Place::other);
        self.place = Some(place);
        Ok(place)
    }

    /// Commits what is too large for the log to the tables, after all that is in the log.
    fn pass_by(&mut self, batches: Vec<Batch>) -> Result<(), Error> {
        self.settle()?;
        self.send();
        self.settle()?;
        let mut changes = Overlay::default();
        batches.into_iter().for_each(|batch| changes.add(batch));
        self.checkpoints.begin(Arc::new(changes), self.last + 1);
        let ended = self.checkpoints.wait();
        // It is refused, and not tried again.
        if let Some(Err(error @ Error::Full { .. })) = ended {
            return Err(error);
        }
        self.note(ended)?;
        self.last += 1;
        // Records are numbered without a gap within a half.
        self.place = Some(self.place.map_or(Place::FIRST, Place::other));
        Ok(())
    }

    /// Sends what the log has to the tables. What was on its way must have come there.
    fn send(&mut self) {
        self.view.freeze();
        self.moving = Some(self.last);
        self.send_again();
    }

    /// The view alone holds the changes, so that they go when the tables have them.
    fn send_again(&mut self) {
        match self.moving.zip(self.view.frozen()) {
            Some((last, changes)) => self.checkpoints.begin(changes, last),
            None => self.moving = None,
        }
    }

    /// Waits until the tables have what was on its way, and tries it once more if there was no space.
    fn settle(&mut self) -> Result<(), Error> {
        for attempt in [1, 2] {
            let ended = self.checkpoints.wait();
            self.note(ended)?;
            if self.moving.is_none() {
                return Ok(());
            }
            if attempt == 1 {
                sim_reached!("checkpoint_again");
                self.send_again();
            }
        }
        Err(self.full())
    }

    /// What came of a checkpoint, if one has ended.
    fn note(&mut self, ended: Option<Result<(), Error>>) -> Result<(), Error> {
        match ended {
            // It stays on its way.
            None | Some(Err(Error::Full { .. })) => {}
            Some(Ok(())) => self.moving = None,
            Some(Err(error)) => self.failed = Some(error),
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn full(&self) -> Error {
        let file = self.file.clone();
        Error::Full { file }
    }

    fn failure(&self, cause: String) -> Error {
        let file = self.file.clone();
        Error::WriteFailed { file, cause }
    }

    /// Nothing more is written, here or to the tables.
    fn fail(&mut self, error: Error) -> Error {
        // What was under way there ends first: nothing is written behind the caller's back.
        sim_reached!("log_write_failed");
        if fanfare_core::planted!(FailureGoesOn) {
            return error;
        }
        let _ = self.checkpoints.wait();
        self.checkpoints.freeze(error.to_string());
        self.failed.get_or_insert(error).clone()
    }

    /// Brings everything to the tables, as far as they can take it: what they can't is in the log.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        let was_failed = self.failed.is_some();
        let settled = match self.settle() {
            Ok(()) => {
                self.send();
                self.settle()
            }
            Err(error) => Err(error),
        };
        let closed = self.checkpoints.close();
        match settled {
            Err(Error::Full { .. }) | Ok(()) => closed,
            // Said when it happened.
            Err(_) if was_failed => closed,
            Err(error) => Err(error),
        }
    }
}
