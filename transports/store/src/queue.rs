//! What waits to be committed, in the order of the calls, and how much of it goes together.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use futures::channel::oneshot;

use crate::batch::Batch;
use crate::disk::locked;
use crate::error::Error;
use crate::options::Options;

pub(crate) type Answer = oneshot::Sender<Result<(), Error>>;

/// What waits to be committed.
pub(crate) struct Queue {
    options: Options,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    bytes: usize,
    closed: bool,
}

pub(crate) struct Job {
    pub(crate) batch: Batch,
    since: Instant,
    pub(crate) answer: Answer,
}

impl Queue {
    pub(crate) fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            options,
            waiting: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Takes a batch, or says at once why not.
    pub(crate) fn push(&self, batch: Batch, answer: Answer) {
        match self.admit(&batch) {
            Ok(mut waiting) => {
                waiting.bytes += batch.bytes();
                waiting.jobs.push_back(Job {
                    batch,
                    since: Instant::now(),
                    answer,
                });
                drop(waiting);
                self.changed.notify_one();
            }
            // Nobody may wait for the answer any more.
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn admit(&self, batch: &Batch) -> Result<std::sync::MutexGuard<'_, Waiting>, Error> {
        batch.check(self.options.queue_bytes)?;
        let waiting = locked(&self.waiting);
        let full = |what| Err(Error::QueueFull { what });
        if waiting.closed {
            Err(Error::Closed)
        } else if waiting.jobs.len() >= self.options.queue_batches {
            full("batches")
        } else if waiting.bytes + batch.bytes() > self.options.queue_bytes {
            full("bytes to commit")
        } else {
            Ok(waiting)
        }
    }

    /// Takes no more; what waits is still committed.
    pub(crate) fn close(&self) {
        locked(&self.waiting).closed = true;
        self.changed.notify_all();
    }

    /// The next batches to commit together. `None`: closed, and all is done.
    ///
    /// A group waits, while it is small and young, for as many batches as the one before had: those whose answers brought
    /// the next ones. After a pause that long nobody is expected, so the first batch goes alone.
    pub(crate) fn group(&self, before: usize, ended: Instant) -> Option<Vec<Job>> {
        let options = &self.options;
        let mut waiting = locked(&self.waiting);
        waiting = self
            .changed
            .wait_while(waiting, |waiting| {
                waiting.jobs.is_empty() && !waiting.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let since = waiting.jobs.front()?.since;
        let idle = since.saturating_duration_since(ended) >= options.group_wait;
        let expected = if idle { 1 } else { before };
        loop {
            let waited = since.elapsed();
            let enough = waiting.jobs.len() >= expected.min(options.group_batches)
                || waiting.bytes >= options.group_bytes;
            if enough || waiting.closed || waited >= options.group_wait {
                break;
            }
            let left = options.group_wait.saturating_sub(waited);
            let woken = self.changed.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let mut bytes = 0;
        let mut group = Vec::new();
        while group.len() < options.group_batches.max(1) && bytes < options.group_bytes.max(1) {
            let Some(job) = waiting.jobs.pop_front() else {
                break;
            };
            bytes += job.batch.bytes();
            group.push(job);
        }
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        Some(group)
    }
}
