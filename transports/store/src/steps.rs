//! A store without threads: what they do, a step at a time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use async_channel::Receiver;

use crate::engine::Engine;
use crate::error::Error;
use crate::queue::Queue;
use crate::store::Reading;
use crate::view::View;
use crate::writer::{Writer, Written};

/// What the threads of a [`Store`](crate::Store) do, for whoever does it in their place.
///
/// Nothing here waits or looks at a clock: who steps decides what is done when. Dropping this leaves the file as it is, like the
/// end of the process, and what waits is answered by [`Error::Closed`]; only redb may write to it what makes the next start quick.
///
/// ```
/// use fanfare_store::{Batch, KeyRange, Options, Read, Store, Table};
/// use futures::FutureExt;
/// let disk = redb::backends::InMemoryBackend::new();
/// let (store, mut steps) = Store::open_stepped(disk, "memory", Options::default())?;
/// let mut batch = Batch::new();
/// batch.put(Table::Rooms, b"task:7", *b"head 1");
/// let mut commit = store.commit(batch);
///
/// assert!(steps.write());
/// // It is on the disk, and nobody was told.
/// assert!((&mut commit).now_or_never().is_none());
/// assert!(steps.answer());
/// assert!(matches!(commit.now_or_never(), Some(Ok(()))));
///
/// let page = store.read(Read::new(Table::Rooms, KeyRange::all()));
/// assert!(steps.read());
/// assert_eq!(page.now_or_never().unwrap()?.rows[0].value, b"head 1");
/// assert!(!(steps.write() || steps.answer() || steps.read() || steps.checkpoint()));
/// steps.close()?;
/// # Ok::<(), fanfare_store::Error>(())
/// ```
pub struct Steps {
    queue: Arc<Queue>,
    view: Arc<View>,
    /// Until it is closed.
    writer: Option<Writer>,
    /// What is to be answered next.
    written: Option<Written>,
    readings: Receiver<Reading>,
    reads_waiting: Arc<AtomicUsize>,
}

impl Steps {
    pub(crate) fn new(
        engine: Engine,
        queue: Arc<Queue>,
        readings: Receiver<Reading>,
        reads_waiting: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            queue,
            view: engine.view(),
            writer: Some(Writer::stepped(engine)),
            written: None,
            readings,
            reads_waiting,
        }
    }

    /// Writes the next group of commits, of those that wait now, once the one before is [answered](Self::answer). Where
    /// [a checkpoint](Self::checkpoint) has to come first, it comes now. Whether anything was written.
    pub fn write(&mut self) -> bool {
        let Some(writer) = self.writer.as_mut().filter(|_| self.written.is_none()) else {
            return false;
        };
        let group = self.queue.take();
        if group.is_empty() {
            return false;
        }
        self.written = Some(writer.write(group));
        true
    }

    /// Answers what was written, and shows it to reads; with [`Durability::Relaxed`](crate::Durability) the fsync follows.
    /// Whether there was anything.
    pub fn answer(&mut self) -> bool {
        let written = self.writer.as_mut().zip(self.written.take());
        written
            .map(|(writer, written)| writer.answer(written))
            .is_some()
    }

    /// Brings a half of the log to the tables, where one is on its way. Whether there was one.
    pub fn checkpoint(&mut self) -> bool {
        self.writer.as_mut().is_some_and(Writer::checkpoint)
    }

    /// Answers the read that came first. Whether there was one.
    pub fn read(&mut self) -> bool {
        let reading = self.readings.try_recv();
        let reading = reading.map(|reading| reading.serve(&self.view, &self.reads_waiting));
        reading.is_ok()
    }

    /// Commits what was taken, answers reads that wait, and closes the file: the end of [`Store::close`](crate::Store::close).
    ///
    /// # Errors
    /// What closing found. What was answered as committed is safe nevertheless.
    pub fn close(mut self) -> Result<(), Error> {
        self.queue.close();
        while self.read() || self.answer() || self.write() {}
        self.writer.take().map_or(Ok(()), Writer::close)
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.queue.close();
        // Whoever waits hears of it when what would answer is gone.
        while !self.queue.take().is_empty() {}
        while self.readings.try_recv().is_ok() {}
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}
