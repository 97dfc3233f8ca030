//! The store's handle: what is called from an executor, and the threads behind it.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread::{Builder, JoinHandle};

use async_channel::{Receiver, Sender};
use futures::channel::oneshot;
use redb::StorageBackend;

use crate::batch::Batch;
use crate::engine::{Blank, Engine};
use crate::error::Error;
use crate::options::Options;
use crate::queue::Queue;
use crate::range::{Page, Read};
use crate::steps::Steps;
use crate::view::View;
use crate::writer::Writer;

/// An open store: one file, one thread that writes the log, one that writes the tables, a few that read.
///
/// Calls return at once and belong to no executor; what they return is a future. Dropping the store, or
/// [`close`](Self::close), commits what was taken, and waits for it.
///
/// ```
/// use fanfare_store::{Batch, KeyRange, Options, Read, Store, Table};
/// # let dir = tempfile::tempdir()?;
/// # let file = dir.path().join("store.redb");
/// smol::block_on(async {
///     let store = Store::open(&file, Options::default())?;
///     let mut batch = Batch::new();
///     batch.put(Table::Rooms, b"task:7", *b"head 1").put(Table::Entries, b"task:7/0001", *b"hello");
///     store.commit(batch).await?;
///
///     let page = store.read(Read::new(Table::Rooms, KeyRange::prefix(b"task:"))).await?;
///     assert_eq!(page.rows[0].value, b"head 1");
///     store.close()
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store {
    file: PathBuf,
    queue: Arc<Queue>,
    reads: Sender<Reading>,
    /// Reads that wait in it.
    reads_waiting: Arc<AtomicUsize>,
    reads_most: usize,
    writer: Option<JoinHandle<Result<(), Error>>>,
    readers: Vec<JoinHandle<()>>,
}

/// What a reader is to do: pages of one moment.
pub(crate) struct Reading {
    reads: Vec<Read>,
    answer: Answer,
}

enum Answer {
    Page(oneshot::Sender<Result<Page, Error>>),
    Pages(oneshot::Sender<Result<Vec<Page>, Error>>),
}

impl Reading {
    pub(crate) fn serve(self, view: &View, waiting: &AtomicUsize) {
        waiting.fetch_sub(self.count(), Ordering::Relaxed);
        if !self.answer.is_canceled() {
            self.answer.send(view.pages(&self.reads));
        }
    }

    /// What it counts against the bound of reads that wait.
    fn count(&self) -> usize {
        self.reads.len().max(1)
    }
}

impl Answer {
    fn is_canceled(&self) -> bool {
        match self {
            Self::Page(answer) => answer.is_canceled(),
            Self::Pages(answer) => answer.is_canceled(),
        }
    }

    fn send(self, pages: Result<Vec<Page>, Error>) {
        // Nobody may wait for it any more.
        match self {
            Self::Page(answer) => {
                let page = pages.map(|mut pages| pages.pop().unwrap_or_default());
                drop(answer.send(page));
            }
            Self::Pages(answer) => drop(answer.send(pages)),
        }
    }
}

impl Store {
    /// Opens the store in this file, or makes it. Blocks: recovery after a crash and verification read the whole file.
    ///
    /// # Errors
    ///
    /// Each that the file can be the cause of, from [`Error::NoDirectory`] to [`Error::Io`].
    pub fn open(file: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        Self::run(Engine::open(file.as_ref(), options)?)
    }

    /// Opens the store on something else than a file: a simulated disk. `name` stands in errors in place of the file.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// ```
    /// use fanfare_store::{Options, Store};
    /// let disk = redb::backends::InMemoryBackend::new();
    /// Store::open_on(disk, "memory", Options::default())?.close()?;
    /// # Ok::<(), fanfare_store::Error>(())
    /// ```
    pub fn open_on(
        backend: impl StorageBackend,
        name: impl Into<PathBuf>,
        options: Options,
    ) -> Result<Self, Error> {
        let backend = Box::new(backend);
        Self::run(Engine::on(
            backend,
            None,
            name.into(),
            options,
            Blank::IsNew,
        )?)
    }

    /// Opens the store without a thread: it does something only when [`Steps`] are taken. For a simulation, in which a run is
    /// to be repeatable. Else as [`open_on`](Self::open_on).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_stepped(
        backend: impl StorageBackend,
        name: impl Into<PathBuf>,
        options: Options,
    ) -> Result<(Self, Steps), Error> {
        let backend = Box::new(backend);
        let engine = Engine::on(backend, None, name.into(), options, Blank::IsNew)?;
        let (store, readings) = Self::handle(&engine);
        let steps = Steps::new(
            engine,
            store.queue.clone(),
            readings,
            store.reads_waiting.clone(),
        );
        Ok((store, steps))
    }

    /// A handle without anything behind it, and the reads that come by it.
    fn handle(engine: &Engine) -> (Self, Receiver<Reading>) {
        let options = engine.options().clone();
        // Bounded by the number of reads, of which a call may have many.
        let (reads, readings) = async_channel::unbounded();
        let store = Self {
            file: engine.view().file().to_path_buf(),
            queue: Queue::new(options.clone()),
            reads,
            reads_waiting: Arc::default(),
            reads_most: options.queue_reads.max(1),
            writer: None,
            readers: Vec::new(),
        };
        (store, readings)
    }

    fn run(engine: Engine) -> Result<Self, Error> {
        let (mut store, readings) = Self::handle(&engine);
        let (view, threads) = (engine.view(), engine.options().read_threads);
        let queue = store.queue.clone();
        let started = (|| {
            for number in 0..threads.max(1) {
                let (view, readings) = (view.clone(), readings.clone());
                let waiting = store.reads_waiting.clone();
                let name = format!("store-read-{number}");
                let reader = Builder::new()
                    .name(name)
                    .spawn(move || serve(&view, &readings, &waiting));
                store.readers.push(reader?);
            }
            let writer = Writer::new(engine)?;
            let thread = Builder::new().name("store-write".to_owned());
            store.writer = Some(thread.spawn(move || writer.run(&queue))?);
            Ok(())
        })();
        match started {
            Ok(()) => Ok(store),
            Err(error) => Err(Error::io(&store.file, "start a thread for the file", error)),
        }
    }

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Commits a batch after all that were committed before it. The future resolves when that is safe
    /// ([`Durability`](crate::Durability)); the batch is committed also if the future is dropped.
    ///
    /// Resolves to [`Error::QueueFull`] at once when too much waits, to [`Error::Full`] when there is no space and nothing
    /// was kept, and to [`Error::WriteFailed`] or [`Error::Replaced`] when the disk failed or the file is no longer there: then
    /// whether the batch is kept shows after the restart, and nothing is taken until then.
    pub fn commit(&self, batch: Batch) -> Completion<()> {
        let (answer, completion) = oneshot::channel();
        self.queue.push(batch, answer);
        Completion(completion)
    }

    /// Reads a page. It has everything whose commit was answered before this call.
    ///
    /// Resolves to [`Error::QueueFull`] at once when too many wait.
    pub fn read(&self, read: Read) -> Completion<Page> {
        let (answer, completion) = oneshot::channel();
        self.push(Reading {
            reads: vec![read],
            answer: Answer::Page(answer),
        });
        Completion(completion)
    }

    /// Reads a page of each of `reads`, in their order, all of one moment: no commit is seen by one of them and not by
    /// another. It has everything whose commit was answered before this call.
    ///
    /// Resolves to [`Error::QueueFull`] at once when too many wait; each of `reads` counts.
    ///
    /// ```
    /// use fanfare_store::{Batch, KeyRange, Options, Read, Store, Table};
    /// # let store = Store::open_on(redb::backends::InMemoryBackend::new(), "memory", Options::default())?;
    /// let mut batch = Batch::new();
    /// batch.put(Table::Rooms, b"task:7", *b"head 1").put(Table::Entries, b"task:7/0001", *b"hello");
    /// let head = Read::new(Table::Rooms, KeyRange::key(b"task:7"));
    /// let events = Read::new(Table::Entries, KeyRange::prefix(b"task:7/"));
    /// let pages = smol::block_on(async {
    ///     store.commit(batch).await?;
    ///     store.read_all(vec![head, events]).await
    /// })?;
    /// assert_eq!((pages[0].rows.len(), pages[1].rows.len()), (1, 1));
    /// # Ok::<(), fanfare_store::Error>(())
    /// ```
    pub fn read_all(&self, reads: Vec<Read>) -> Completion<Vec<Page>> {
        let (answer, completion) = oneshot::channel();
        self.push(Reading {
            reads,
            answer: Answer::Pages(answer),
        });
        Completion(completion)
    }

    fn push(&self, reading: Reading) {
        let count = reading.count();
        let before = self.reads_waiting.fetch_add(count, Ordering::Relaxed);
        let refused = if before.saturating_add(count) > self.reads_most {
            (reading, Error::QueueFull { what: "reads" })
        } else if let Err(closed) = self.reads.try_send(reading) {
            (closed.into_inner(), Error::Closed)
        } else {
            return;
        };
        self.reads_waiting.fetch_sub(count, Ordering::Relaxed);
        refused.0.answer.send(Err(refused.1));
    }

    /// Commits what was taken, answers reads that wait, and closes the file. Blocks until that is done.
    ///
    /// # Errors
    ///
    /// What closing found. What was answered as committed is safe nevertheless.
    pub fn close(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        self.reads.close();
        for reader in self.readers.drain(..) {
            // A reader catches what panics within it.
            let _ = reader.join();
        }
        self.queue.close();
        match self.writer.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::io(
                &self.file,
                "close the file",
                io::Error::other("the writing thread panicked"),
            )),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Whoever wants to know calls `close`.
        let _ = self.end();
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

fn serve(view: &View, readings: &Receiver<Reading>, waiting: &AtomicUsize) {
    while let Ok(reading) = readings.recv_blocking() {
        reading.serve(view, waiting);
    }
}

/// What a call to the store will have come to.
///
/// ```
/// use fanfare_store::{Batch, Completion, Options, Store};
/// # let store = Store::open_on(redb::backends::InMemoryBackend::new(), "memory", Options::default())?;
/// let completion: Completion<()> = store.commit(Batch::new());
/// smol::block_on(completion)?;
/// # Ok::<(), fanfare_store::Error>(())
/// ```
#[must_use = "whether it worked is known when this is awaited"]
#[derive(Debug)]
pub struct Completion<T>(oneshot::Receiver<Result<T, Error>>);

impl<T> Future for Completion<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.0).poll(cx);
        answered.map(|answer| answer.unwrap_or(Err(Error::Closed)))
    }
}
