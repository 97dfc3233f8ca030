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

#[derive(Debug)]
struct Record {
    snapshot: Snapshot,
    touched: Wall,
    turn: Turn,
}

impl Record {
    fn cost(&self) -> usize {
        RECORD_COST
            + self
                .snapshot
                .last
                .as_ref()
                .map_or(0, |last| last.as_str().len())
    }

    const fn is_over(&self, now: Wall) -> bool {
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
}

/// All tasks that the server has heard of.
#[derive(Debug)]
pub(crate) struct Tasks {
    records: Lookup<TaskId, Record>,
    idle: Recency<TaskId>,
    bytes: usize,
    bytes_max: usize,
}

impl Tasks {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            records: Lookup::default(),
            idle: Recency::default(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The task as it is now; unknown, where nothing was heard of it.
    pub(crate) fn snapshot(&self, now: Wall, task: TaskId) -> Snapshot {
        self.records
            .get(&task)
            .filter(|record| !record.is_over(now))
            .map_or_else(Snapshot::default, |record| record.snapshot.clone())
    }

    pub(crate) fn is_gone(&self, now: Wall, task: TaskId) -> bool {
        self.snapshot(now, task).status == Status::Deleted
    }

    /// Whether `draft` may come for `task`. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Gone`] for a deleted task, [`Error::Lifecycle`] where the table refuses.
    pub(crate) fn check(&self, now: Wall, task: TaskId, draft: &Draft) -> Result<(), Error> {
        let status = self.snapshot(now, task).status;
        if status == Status::Deleted {
            return Err(Error::Gone(task));
        }
        match TaskEvent::of(&draft.kind) {
            Some(event) if status.after(event).is_none() => Err(Error::Lifecycle {
                task,
                event: draft.kind.clone(),
                status,
            }),
            _ => Ok(()),
        }
    }

    /// Takes `event`, which was checked, into the task's snapshot.
    pub(crate) fn apply(&mut self, now: Wall, task: TaskId, event: TaskEvent, data: &Payload) {
        if self
            .records
            .get(&task)
            .is_some_and(|record| record.is_over(now))
        {
            self.forget(task);
        }
        let idle = &mut self.idle;
        let bytes = &mut self.bytes;
        let record = self.records.entry_or_insert_with(task, || {
            *bytes += RECORD_COST;
            Record {
                snapshot: Snapshot::default(),
                touched: now,
                turn: idle.insert(task),
            }
        });
        *bytes -= record.cost();
        let before = record.snapshot.status;
        let after = before.after(event);
        assert!(after.is_some(), "{event:?} was checked against {before}");
        record.snapshot.status = after.unwrap_or(before);
        record.snapshot.at = Some(now);
        match event {
            TaskEvent::Status => record.snapshot.last = Some(data.clone()),
            TaskEvent::Deleted => record.snapshot.last = None,
            TaskEvent::Created
            | TaskEvent::Started
            | TaskEvent::Completed
            | TaskEvent::Failed
            | TaskEvent::Cancelled => {}
        }
        record.touched = now;
        idle.touch(&mut record.turn);
        *bytes += record.cost();
        self.forget_idle(now, task);
    }

    /// The tasks heard of last, the latest first.
    pub(crate) fn recent(&self, now: Wall) -> impl Iterator<Item = (TaskId, &Snapshot)> {
        self.idle
            .newest_first()
            .filter_map(|task| Some((task, self.records.get(&task)?)))
            .filter(move |(_, record)| !record.is_over(now))
            .map(|(task, record)| (task, &record.snapshot))
    }

    fn forget_idle(&mut self, now: Wall, but: TaskId) {
        while let Some(oldest) = self.idle.oldest().filter(|oldest| *oldest != but) {
            let over = self
                .records
                .get(&oldest)
                .is_none_or(|record| record.is_over(now));
            if !over && self.bytes <= self.bytes_max {
                return;
            }
            self.forget(oldest);
        }
    }

    fn forget(&mut self, task: TaskId) {
        if let Some(record) = self.records.remove(&task) {
            self.bytes -= record.cost();
            self.idle.remove(record.turn);
        }
        debug_assert!(self.records.len() > 0 || self.bytes == 0);
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

    fn status_draft() -> Draft {
        Draft::new(TaskEvent::Status.event_type(), Payload::default())
    }

    #[test]
    fn a_deleted_task_refuses_everything_for_a_day_and_is_unknown_after() {
        let mut tasks = Tasks::new(1 << 20);
        tasks.apply(at(0), task(1), TaskEvent::Deleted, &Payload::default());
        let chat = Draft::new("chat:message".parse().unwrap(), Payload::default());
        for draft in [status_draft(), chat] {
            let last = at(TASK_GONE_MS - 1);
            assert_eq!(
                tasks.check(last, task(1), &draft),
                Err(Error::Gone(task(1)))
            );
            assert_eq!(tasks.check(at(TASK_GONE_MS), task(1), &draft), Ok(()));
        }
        tasks.apply(
            at(TASK_GONE_MS),
            task(1),
            TaskEvent::Created,
            &Payload::default(),
        );
        assert_eq!(
            tasks.snapshot(at(TASK_GONE_MS), task(1)).status,
            Status::Created
        );
    }

    #[test]
    fn the_longest_idle_task_is_forgotten_first_and_the_newest_never() {
        let big = Payload::parse(&format!("\"{}\"", "x".repeat(1_000))).unwrap();
        let mut tasks = Tasks::new(2_500);
        for number in [1, 2, 1, 3] {
            tasks.apply(at(5), task(number), TaskEvent::Status, &big);
        }
        assert_eq!(tasks.snapshot(at(5), task(2)), Snapshot::default());
        assert_eq!(
            tasks
                .recent(at(5))
                .map(|(task, _)| task)
                .collect::<Vec<_>>(),
            [task(3), task(1)]
        );
        let huge = Payload::parse(&format!("\"{}\"", "x".repeat(9_000))).unwrap();
        tasks.apply(at(6), task(4), TaskEvent::Status, &huge);
        assert_eq!(tasks.snapshot(at(6), task(4)).last, Some(huge));
        assert_eq!(tasks.recent(at(6)).count(), 1);
    }

    #[test]
    fn an_idle_task_is_forgotten_after_thirty_days() {
        let mut tasks = Tasks::new(1 << 20);
        tasks.apply(at(0), task(1), TaskEvent::Completed, &Payload::default());
        assert!(
            tasks
                .check(at(TASK_IDLE_MS_MAX - 1), task(1), &status_draft())
                .is_err()
        );
        assert!(
            tasks
                .check(at(TASK_IDLE_MS_MAX), task(1), &status_draft())
                .is_ok()
        );
    }
}
