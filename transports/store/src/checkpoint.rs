//! What brings what the log has to the tables, while the log goes on: a thread, or whoever steps it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::engine::Engine;
use crate::error::Error;
use crate::log::Number;
use crate::overlay::Overlay;

/// Who does it has one thing to do at a time.
pub(crate) struct Checkpoints {
    worker: Worker,
    under_way: bool,
}

enum Worker {
    Thread {
        jobs: SyncSender<Job>,
        done: Receiver<Result<(), Error>>,
        thread: JoinHandle<Result<(), Error>>,
    },
    /// Nobody: a job is done in a step, or when somebody waits for it.
    Stepped {
        tables: Box<Tables>,
        job: Option<Job>,
        done: Option<Result<(), Error>>,
    },
}

enum Job {
    /// Changes, and the last commit that is among them.
    Apply(Arc<Overlay>, Number),
    /// A write to the log failed: nothing more is written.
    Freeze(String),
}

/// The tables, which only this brings further.
struct Tables(Engine);

impl Tables {
    fn carry_out(&mut self, job: Job) -> Result<(), Error> {
        let Self(engine) = self;
        match job {
            Job::Apply(changes, number) => {
                let tables = engine.commit(&changes, number);
                tables.map(|tables| engine.view().applied(tables))
            }
            Job::Freeze(cause) => {
                engine.freeze(&cause);
                Ok(())
            }
        }
    }
}

impl Checkpoints {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let (jobs, todo) = sync_channel(1);
        let (said, done) = sync_channel(1);
        let thread = Builder::new().name("store-tables".to_owned());
        let thread = thread.spawn(move || {
            let mut tables = Tables(engine);
            while let Ok(job) = todo.recv() {
                // The writer may be gone after a panic.
                let _ = said.send(tables.carry_out(job));
            }
            tables.0.close()
        })?;
        let worker = Worker::Thread { jobs, done, thread };
        Ok(Self {
            worker,
            under_way: false,
        })
    }

    /// Without a thread.
    pub(crate) fn stepped(engine: Engine) -> Self {
        Self {
            worker: Worker::Stepped {
                tables: Box::new(Tables(engine)),
                job: None,
                done: None,
            },
            under_way: false,
        }
    }

    /// Begins to bring these to the tables. What was under way must have ended.
    pub(crate) fn begin(&mut self, changes: Arc<Overlay>, number: Number) {
        self.send(Job::Apply(changes, number));
    }

    /// Stops all writes to the tables, now.
    pub(crate) fn freeze(&mut self, cause: String) {
        self.send(Job::Freeze(cause));
        // It has nothing to say.
        let _ = self.wait();
    }

    fn send(&mut self, todo: Job) {
        match &mut self.worker {
            // If the thread is gone, that shows when its answer is waited for.
            Worker::Thread { jobs, .. } => drop(jobs.send(todo)),
            Worker::Stepped { job, .. } => *job = Some(todo),
        }
        self.under_way = true;
    }

    /// Does what is to be done, where no thread does. Whether there was anything.
    pub(crate) fn step(&mut self) -> bool {
        let Worker::Stepped { tables, job, done } = &mut self.worker else {
            return false;
        };
        let Some(job) = job.take() else { return false };
        *done = Some(tables.carry_out(job));
        true
    }

    /// What came of it, once it has ended. `None`: nothing was under way.
    pub(crate) fn wait(&mut self) -> Option<Result<(), Error>> {
        self.step();
        let under_way = std::mem::take(&mut self.under_way);
        under_way.then(|| {
            let ended = match &mut self.worker {
                Worker::Thread { done, .. } => done.recv().ok(),
                Worker::Stepped { done, .. } => done.take(),
            };
            ended.unwrap_or(Err(Error::Closed))
        })
    }

    /// What came of it, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<Result<(), Error>> {
        if !self.under_way {
            return None;
        }
        let ended = match &mut self.worker {
            Worker::Thread { done, .. } => match done.try_recv() {
                Ok(result) => result,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Err(Error::Closed),
            },
            Worker::Stepped { done, .. } => done.take()?,
        };
        self.under_way = false;
        Some(ended)
    }

    /// Closes the tables, when what was under way has ended.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        self.step();
        match self.worker {
            Worker::Thread { jobs, done, thread } => {
                drop(jobs);
                drop(done);
                thread.join().unwrap_or(Err(Error::Closed))
            }
            Worker::Stepped { tables, .. } => tables.0.close(),
        }
    }
}
