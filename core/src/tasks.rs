//! What is remembered of each task: its state, and the snapshot that a new watcher gets.
//!
//! Bounded in number and in bytes: the task that was idle longest is forgotten first. It outlives the task's log.

use crate::error::Error;
use crate::event::Draft;
use crate::ids::TaskId;
use crate::lifecycle::{Status, TaskEvent};
use crate::lookup::Lookup;
use crate::payload::Payload;
use crate::recency::{Recency, Turn};
use crate::time::Wall;
use serde::Serialize;

/// Milliseconds after which a task without events is forgotten: 30 days.
pub const TASK_IDLE_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1_000;
/// Milliseconds for which a deleted task refuses events and joins: 24 hours.
pub const TASK_GONE_MS: u64 = 24 * 60 * 60 * 1_000;
/// Bytes that a record costs beside its `last` data, about.
const RECORD_COST: usize = 192;

/// What a task looks like at one moment: `state` on the wire.
///
/// ```
/// use fanfare_core::{Snapshot, Status};
/// let snapshot = Snapshot::default();
/// assert_eq!(snapshot.status, Status::Unknown);
/// assert_eq!(serde_json::to_string(&snapshot)?, r#"{"status":"unknown","at":null,"last":null}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Snapshot {
    /// Where it is in its life.
    pub status: Status,
    /// When its last lifecycle event came.
    pub at: Option<Wall>,
    /// The data of the last `task:status`, kept or ephemeral.
    pub last: Option<Payload>,
}

/// What is remembered of one task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Record {
    pub(crate) snapshot: Snapshot,
    /// When its last lifecycle event came.
    pub(crate) touched: Wall,
}

impl Record {
    fn cost(&self) -> usize {
        let last = self.snapshot.last.as_ref();
        RECORD_COST + last.map_or(0, |last| last.as_str().len())
    }

    /// Whether it is as good as forgotten.
    pub(crate) const fn is_over(&self, now: Wall) -> bool {
        let idle_ms_max = match self.snapshot.status {
            Status::Deleted => TASK_GONE_MS,
            Status::Unknown
            | Status::Created
            | Status::Started
            | Status::Completed
            | Status::Failed
            | Status::Cancelled => TASK_IDLE_MS_MAX,
        };
        now.since(self.touched) >= idle_ms_max
    }

    /// Whether `draft` may come for this task.
    ///
    /// # Errors
    /// [`Error::Gone`] for a deleted task, [`Error::Lifecycle`] where the table refuses.
    pub(crate) fn check(&self, task: TaskId, draft: &Draft) -> Result<(), Error> {
        let status = self.snapshot.status;
        if status == Status::Deleted {
            return Err(Error::Gone(task));
        }
        match TaskEvent::of(&draft.kind) {
            Some(_) if status.is_terminal() && planted!(SecondEndTaken) => Ok(()),
            Some(event) if status.after(event).is_none() => Err(Error::Lifecycle {
                task,
                event: draft.kind.clone(),
                status,
            }),
            _ => Ok(()),
        }
    }

    /// The record after `event`, which was checked.
    pub(crate) fn after(self, now: Wall, event: TaskEvent, data: &Payload) -> Self {
        let before = self.snapshot.status;
        let again = (before.is_terminal() && planted!(SecondEndTaken)).then_some(before);
        let status = before.after(event).or(again);
        assert!(status.is_some(), "{event:?} was checked against {before}");
        let last = match event {
            TaskEvent::Status => Some(data.clone()),
            TaskEvent::Deleted => None,
            TaskEvent::Created
            | TaskEvent::Started
            | TaskEvent::Completed
            | TaskEvent::Failed
            | TaskEvent::Cancelled => self.snapshot.last,
        };
        Self {
            snapshot: Snapshot {
                status: status.unwrap_or(before),
                at: Some(now),
                last,
            },
            touched: now,
        }
    }
}

#[derive(Debug)]
struct Known {
    record: Record,
    turn: Turn,
}

/// All tasks that the server has heard of; with a store, those of them that are in memory.
#[derive(Debug)]
pub(crate) struct Tasks {
    known: Lookup<TaskId, Known>,
    idle: Recency<TaskId>,
    bytes: usize,
    bytes_max: usize,
}

impl Tasks {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            known: Lookup::default(),
            idle: Recency::default(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The task as it is now; unknown, where nothing was heard of it.
    pub(crate) fn record(&self, now: Wall, task: TaskId) -> Record {
        let known = self.known.get(&task).map(|known| &known.record);
        known
            .filter(|record| !record.is_over(now))
            .cloned()
            .unwrap_or_default()
    }

    /// Remembers the task as it is from now on.
    pub(crate) fn put(&mut self, task: TaskId, record: Record) {
        let cost = record.cost();
        if let Some(known) = self.known.get_mut(&task) {
            self.bytes -= known.record.cost();
            known.record = record;
            self.idle.touch(&mut known.turn);
        } else {
            let turn = self.idle.insert(task);
            self.known.insert(task, Known { record, turn });
        }
        self.bytes += cost;
    }

    /// The tasks heard of last, the latest first.
    pub(crate) fn recent(&self, now: Wall) -> impl Iterator<Item = (TaskId, &Snapshot)> {
        self.idle
            .newest_first()
            .filter_map(|task| Some((task, &self.known.get(&task)?.record)))
            .filter(move |(_, record)| !record.is_over(now))
            .map(|(task, record)| (task, &record.snapshot))
    }

    /// Keeps the bound in bytes: forgets for good those that were idle longest, but not `but`.
    pub(crate) fn forget_idle(&mut self, now: Wall, but: TaskId) {
        while let Some(oldest) = self.idle.oldest().filter(|oldest| *oldest != but) {
            let known = self.known.get(&oldest);
            let over = known.is_none_or(|known| known.record.is_over(now));
            if !over && self.bytes <= self.bytes_max {
                return;
            }
            self.forget(oldest);
        }
    }

    /// The task that was idle longest, where there is too much in memory.
    pub(crate) fn excess(&self) -> Option<TaskId> {
        (self.bytes > self.bytes_max).then(|| self.idle.oldest())?
    }

    /// Counts the task as used just now.
    pub(crate) fn touch(&mut self, task: TaskId) {
        if let Some(known) = self.known.get_mut(&task) {
            self.idle.touch(&mut known.turn);
        }
    }

    pub(crate) fn forget(&mut self, task: TaskId) {
        if let Some(known) = self.known.remove(&task) {
            self.bytes -= known.record.cost();
            self.idle.remove(known.turn);
        }
        debug_assert!(self.known.len() > 0 || self.bytes == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn task(number: u128) -> TaskId {
        TaskId::new(Uuid::from_u128(number))
    }

    const fn at(millis: u64) -> Wall {
        Wall::from_unix_millis(millis)
    }

    fn apply(tasks: &mut Tasks, now: Wall, task: TaskId, event: TaskEvent, data: &Payload) {
        let after = tasks.record(now, task).after(now, event, data);
        tasks.put(task, after);
        tasks.forget_idle(now, task);
    }

    fn check(tasks: &Tasks, now: Wall, task: TaskId, draft: &Draft) -> Result<(), Error> {
        tasks.record(now, task).check(task, draft)
    }

    fn status_draft() -> Draft {
        Draft::new(TaskEvent::Status.event_type(), Payload::default())
    }

    #[test]
    fn a_deleted_task_refuses_everything_for_a_day_and_is_unknown_after() {
        let mut tasks = Tasks::new(1 << 20);
        apply(
            &mut tasks,
            at(0),
            task(1),
            TaskEvent::Deleted,
            &Payload::default(),
        );
        let chat = Draft::new("chat:message".parse().unwrap(), Payload::default());
        for draft in [status_draft(), chat] {
            let last = at(TASK_GONE_MS - 1);
            assert_eq!(
                check(&tasks, last, task(1), &draft),
                Err(Error::Gone(task(1)))
            );
            assert_eq!(check(&tasks, at(TASK_GONE_MS), task(1), &draft), Ok(()));
        }
        apply(
            &mut tasks,
            at(TASK_GONE_MS),
            task(1),
            TaskEvent::Created,
            &Payload::default(),
        );
        assert_eq!(
            tasks.record(at(TASK_GONE_MS), task(1)).snapshot.status,
            Status::Created
        );
    }

    #[test]
    fn the_longest_idle_task_is_forgotten_first_and_the_newest_never() {
        let big = Payload::parse(&format!("\"{}\"", "x".repeat(1_000))).unwrap();
        let mut tasks = Tasks::new(2_500);
        for number in [1, 2, 1, 3] {
            apply(&mut tasks, at(5), task(number), TaskEvent::Status, &big);
        }
        assert_eq!(tasks.record(at(5), task(2)), Record::default());
        assert_eq!(
            tasks
                .recent(at(5))
                .map(|(task, _)| task)
                .collect::<Vec<_>>(),
            [task(3), task(1)]
        );
        let huge = Payload::parse(&format!("\"{}\"", "x".repeat(9_000))).unwrap();
        apply(&mut tasks, at(6), task(4), TaskEvent::Status, &huge);
        assert_eq!(tasks.record(at(6), task(4)).snapshot.last, Some(huge));
        assert_eq!(tasks.recent(at(6)).count(), 1);
    }

    #[test]
    fn an_idle_task_is_forgotten_after_thirty_days() {
        let mut tasks = Tasks::new(1 << 20);
        apply(
            &mut tasks,
            at(0),
            task(1),
            TaskEvent::Completed,
            &Payload::default(),
        );
        assert!(check(&tasks, at(TASK_IDLE_MS_MAX - 1), task(1), &status_draft()).is_err());
        assert!(check(&tasks, at(TASK_IDLE_MS_MAX), task(1), &status_draft()).is_ok());
    }
}
