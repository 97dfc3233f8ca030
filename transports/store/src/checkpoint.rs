//! The thread that brings what the log has to the tables, while the log goes on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::engine::Engine;
use crate::error::Error;
use crate::log::Number;
use crate::overlay::Overlay;

/// The thread, which has one thing to do at a time.
pub(crate) struct Checkpoints {
    jobs: SyncSender<Job>,
    done: Receiver<Result<(), Error>>,
    under_way: bool,
    thread: JoinHandle<Result<(), Error>>,
}

enum Job {
    /// Changes, and the last commit that is among them.
    Apply(Arc<Overlay>, Number),
    /// A write to the log failed: nothing more is written.
    Freeze(String),
}

impl Checkpoints {
    pub(crate) fn start(mut engine: Engine) -> std::io::Result<Self> {
        let (jobs, todo) = sync_channel(1);
        let (said, done) = sync_channel(1);
        let thread = Builder::new().name("store-tables".to_owned());
        let thread = thread.spawn(move || {
            while let Ok(job) = todo.recv() {
                let result = match job {
                    Job::Apply(changes, number) => {
                        let tables = engine.commit(&changes, number);
                        tables.map(|tables| engine.view().applied(tables))
                    }
                    Job::Freeze(cause) => {
                        engine.freeze(&cause);
                        Ok(())
                    }
                };
                // The writer may be gone after a panic.
                let _ = said.send(result);
            }
            engine.close()
        })?;
        Ok(Self {
            jobs,
            done,
            under_way: false,
            thread,
        })
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

    fn send(&mut self, job: Job) {
        // If the thread is gone, that shows when its answer is waited for.
        let _ = self.jobs.send(job);
        self.under_way = true;
    }

    /// What came of it, once it has ended. `None`: nothing was under way.
    pub(crate) fn wait(&mut self) -> Option<Result<(), Error>> {
        let under_way = std::mem::take(&mut self.under_way);
        under_way.then(|| self.done.recv().unwrap_or(Err(Error::Closed)))
    }

    /// What came of it, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<Result<(), Error>> {
        if !self.under_way {
            return None;
        }
        let ended = match self.done.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(Error::Closed),
        };
        self.under_way = false;
        Some(ended)
    }

    /// Closes the tables, when what was under way has ended.
    pub(crate) fn close(self) -> Result<(), Error> {
        drop(self.jobs);
        drop(self.done);
        self.thread.join().unwrap_or(Err(Error::Closed))
    }
}
