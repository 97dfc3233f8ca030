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
        Some(waiting.take(options))
    }

    /// What of those that wait now is committed together; nothing, where none wait.
    pub(crate) fn take(&self) -> Vec<Job> {
        locked(&self.waiting).take(&self.options)
    }
}

impl Waiting {
    /// The first of them, up to the bounds of a group.
    fn take(&mut self, options: &Options) -> Vec<Job> {
        let mut bytes = 0;
        let mut group = Vec::new();
        while group.len() < options.group_batches.max(1) && bytes < options.group_bytes.max(1) {
            let Some(job) = self.jobs.pop_front() else {
                break;
            };
            bytes += job.batch.bytes();
            group.push(job);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        group
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::table::Table;

    /// Each of 100 bytes, about.
    fn numbered(number: u8) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::Rooms, [number], vec![0; 100]);
        batch
    }

    #[test]
    fn a_group_is_what_came_first_up_to_its_bounds_and_its_room_is_free_again() {
        let each = numbered(0).bytes();
        // Most that wait, in number and bytes; most in a group; then how many are taken, and the groups.
        let cases = [
            ("number", 5, 100 * each, 2, usize::MAX, 5, vec![2, 2, 1]),
            ("bytes", 100, 4 * each, 3, usize::MAX, 4, vec![3, 1]),
            (
                "a byte too few",
                100,
                4 * each - 1,
                3,
                usize::MAX,
                3,
                vec![3],
            ),
            (
                "bytes of a group",
                6,
                100 * each,
                100,
                each + 1,
                6,
                vec![2, 2, 2],
            ),
            ("groups of nothing", 2, 100 * each, 0, 0, 2, vec![1, 1]),
        ];
        for (name, queue_batches, queue_bytes, group_batches, group_bytes, most, groups) in cases {
            let queue = Queue::new(Options {
                queue_batches,
                queue_bytes,
                group_batches,
                group_bytes,
                group_wait: Duration::ZERO,
                ..Options::default()
            });
            for round in 0..3 {
                let mut answers: Vec<_> = (0..=most)
                    .map(|number| {
                        let (answer, answered) = oneshot::channel();
                        queue.push(numbered(u8::try_from(number).unwrap()), answer);
                        answered
                    })
                    .collect();
                for (number, answered) in answers.iter_mut().enumerate() {
                    let refused = answered.try_recv().unwrap();
                    assert_eq!(
                        refused.is_some(),
                        number == most,
                        "{name}, {round}: {number}"
                    );
                }
                let mut taken = Vec::new();
                for size in &groups {
                    let group = queue.group(1, Instant::now()).unwrap();
                    assert_eq!(group.len(), *size, "{name}, {round}");
                    taken.extend(group.into_iter().map(|job| job.batch));
                }
                let pushed = (0..most).map(|number| numbered(u8::try_from(number).unwrap()));
                assert!(taken.into_iter().eq(pushed), "{name}, {round}");
            }
            queue.close();
            assert!(queue.group(1, Instant::now()).is_none(), "{name}");
        }
    }
}
