//! What is found in the store afterwards, as a back end reads it: after a restart, and at the end.

use super::{Cursor, Oracle, Used, content_of, fact_of, mark_of};
use crate::history::{Fact, Mark};
use crate::lifecycle::Life;
use crate::plan::{TASK_LOG, USER_LOG};
use fanfare_core::{InboxView, Publish, RoomId, Status, StoreFailure, TaskId, UserId};
use fanfare_loopback::{Client, Restart, SeenEvent};
use std::collections::{BTreeMap, BTreeSet};

/// A room's log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) room: RoomId,
    pub(crate) epoch: String,
    pub(crate) first: u64,
    pub(crate) head: u64,
    pub(crate) events: Vec<(u64, SeenEvent)>,
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) logs: Vec<Log>,
    pub(crate) tasks: BTreeMap<TaskId, Status>,
    pub(crate) inboxes: BTreeMap<UserId, InboxView>,
}

/// What may be there or not.
#[derive(Debug)]
struct Doubt {
    fact: Fact,
    publish: Option<Publish>,
    /// Where it was found.
    at: BTreeMap<RoomId, u64>,
    failed: bool,
}

impl Oracle {
    /// *Published is kept*: what was answered is there, what was refused is not, and what was under way is there in all its
    /// rooms or in none.
    pub(crate) fn finds(&mut self, found: &Found) -> Result<(), String> {
        let mut doubts = self.doubts()?;
        for log in &found.logs {
            self.finds_log(log, found, &mut doubts)
                .map_err(|error| format!("{error}\n  in {log:?}"))?;
        }
        let mut lives = Vec::new();
        for (mark, doubt) in doubts {
            self.resolve(mark, doubt, found, &mut lives)?;
        }
        self.history.settle()?;
        for (room, seq) in self.history.coming.iter_mut().flat_map(std::mem::take) {
            let head = found.logs.iter().find(|log| log.room == room);
            let head = head.map_or(0, |log| log.head);
            if head < seq && !is_deleted(room, found) {
                return Err(format!(
                    "{room} is at {head}, and {seq} took the place of what it kept"
                ));
            }
        }
        lives.sort_unstable_by_key(|(task, seq, _)| (*task, *seq));
        for (task, _, kind) in lives {
            let life = self.lives.entry(task).or_default();
            let after = life.after(&kind);
            *life =
                after.ok_or_else(|| format!("{kind} was taken for {task}, which was {life:?}"))?;
        }
        for (task, status) in &found.tasks {
            let life = self.lives.get(task).copied().unwrap_or_default();
            if life != life_of(*status) {
                return Err(format!("task:{task} is {status}, and was {life:?}"));
            }
        }
        for (user, inbox) in &found.inboxes {
            self.finds_inbox(*user, inbox)
                .map_err(|error| format!("{error}\n  in {inbox:?}"))?;
        }
        Ok(())
    }

    /// Another server takes the place of the one that ended, and another witness listens to it.
    pub(crate) fn begins_again(&mut self, how: Restart, witness: Client) {
        self.mark(match how {
            Restart::Crash => "a crash",
            Restart::Orderly => "an orderly end",
        });
        self.witness = witness;
        // What was answered in the last moment the former witness may not have read any more.
        self.witnessed.extend(&self.accepted);
        // The id of what is not kept is known in memory only.
        let ids = self.ids.values_mut();
        for used in ids.filter(|used| used.content[2] != "Kept") {
            used.unsure = true;
        }
        self.flying.clear();
        self.doubtful.clear();
        self.sent.clear();
        self.commit_failed = None;
        self.read_failed = false;
        self.ends = None;
    }

    fn doubts(&mut self) -> Result<BTreeMap<Mark, Doubt>, String> {
        if self.ends == Some(Restart::Orderly) && !self.flying.is_empty() {
            return Err(format!("was never answered: {:?}", self.flying));
        }
        let failed = self.commit_failed == Some(StoreFailure::Failed);
        let flying = self.flying.values().map(|flight| flight.publish.clone());
        let mut doubts = BTreeMap::new();
        for publish in flying.chain(self.doubtful.clone()) {
            let fact = fact_of(&publish)?;
            let mark = mark_of(&fact.data)?;
            if !self.history.facts.contains_key(&mark) {
                let doubt = Doubt {
                    fact,
                    publish: Some(publish),
                    at: BTreeMap::new(),
                    failed,
                };
                doubts.insert(mark, doubt);
            }
        }
        for (mark, fact) in &self.sent {
            let doubt = Doubt {
                fact: fact.clone(),
                publish: None,
                at: BTreeMap::new(),
                failed,
            };
            doubts.insert(*mark, doubt);
        }
        Ok(doubts)
    }

    fn finds_log(
        &mut self,
        log: &Log,
        found: &Found,
        doubts: &mut BTreeMap<Mark, Doubt>,
    ) -> Result<(), String> {
        if is_deleted(log.room, found) {
            return log
                .events
                .is_empty()
                .then_some(())
                .ok_or_else(|| "a deleted task has a log".to_owned());
        }
        let kept = match log.room {
            RoomId::Task(_) => TASK_LOG,
            RoomId::User(_) => USER_LOG,
        };
        self.history.epoch(log.room, &log.epoch)?;
        let head = self.history.room(log.room).head();
        if log.head < head || log.first > (log.head + 1).saturating_sub(kept).max(1) {
            return Err(format!("the head was {head}, and {kept} are kept"));
        }
        if log.first > head + 1 {
            return Err("more was under way than is kept".to_owned());
        }
        let seqs: Vec<u64> = log.events.iter().map(|(seq, _)| *seq).collect();
        if seqs != (log.first..=log.head).collect::<Vec<_>>() {
            return Err("the log has holes".to_owned());
        }
        for (seq, event) in &log.events {
            let is_read = event.kind == "inbox:read";
            let mark = self.mark_of_event(event)?;
            if let Some(doubt) = doubts.get_mut(&mark) {
                doubt.fact.id = event.id.clone();
                doubt.at.insert(log.room, *seq);
                continue;
            }
            self.fact(mark, event)?;
            if is_read {
                self.witnessed.insert(mark);
            }
            self.history.number(log.room, *seq, mark)?;
        }
        Ok(())
    }

    /// *Atomic publish*.
    fn resolve(
        &mut self,
        mark: Mark,
        doubt: Doubt,
        found: &Found,
        lives: &mut Vec<(TaskId, u64, String)>,
    ) -> Result<(), String> {
        let Doubt { fact, at, .. } = &doubt;
        let deleted = |room: &RoomId| is_deleted(*room, found);
        let visible = fact.rooms.iter().filter(|room| !deleted(room));
        let visible: BTreeSet<RoomId> = visible.copied().collect();
        let is_end = fact.kind == "task:deleted" && fact.rooms.iter().any(deleted);
        let was_there = fact
            .rooms
            .iter()
            .any(|room| self.history.room(*room).deleted);
        let is_there = !at.is_empty() || (is_end && visible.is_empty() && !was_there);
        let content = doubt.publish.as_ref().map(content_of);
        let id = doubt.publish.as_ref().and_then(|it| it.draft.id.as_ref());
        let id = id.map(ToString::to_string);
        if !is_there {
            self.mark(match (&doubt.publish, doubt.failed) {
                (None, _) => "a message that a crash cut short",
                (Some(_), _) => "not there after a crash, and not answered",
            });
            // Of what is in no log that can be read nobody knows whether its id was kept.
            if let (Some(id), Some(content)) = (id, content)
                && (fact.ephemeral || visible.is_empty())
            {
                self.ids.entry(id).or_insert(Used {
                    content,
                    receipt: None,
                    unsure: true,
                });
            }
            return Ok(());
        }
        if at.keys().copied().collect::<BTreeSet<_>>() != visible {
            return Err(format!("is in some of its rooms only: {doubt:?}"));
        }
        self.mark(if doubt.failed {
            "there after a failed commit"
        } else {
            "there after a crash, and not answered"
        });
        for room in &fact.rooms {
            let seq = at.get(room).copied();
            if let Some(seq) = seq {
                self.history.number(*room, seq, mark)?;
            }
            if let RoomId::Task(task) = room {
                // What came before the end of a task that is deleted, nobody can tell any more.
                if seq.is_some() || is_end {
                    lives.push((*task, seq.unwrap_or(u64::MAX), fact.kind.clone()));
                }
            }
        }
        self.witnessed.insert(mark);
        if let (Some(id), Some(content)) = (id, content) {
            let used = Used {
                content,
                receipt: None,
                unsure: false,
            };
            self.ids.insert(id, used);
        }
        self.takes(mark, doubt.fact);
        Ok(())
    }

    /// *One count*, *Acknowledged is final*.
    fn finds_inbox(&mut self, user: UserId, inbox: &InboxView) -> Result<(), String> {
        let room = self.history.room(user.into());
        let unread = room.unread(room.head());
        if inbox.unread != unread.len() {
            return Err(format!("the user has not read {unread:?}"));
        }
        let mut found: BTreeMap<_, _> = inbox
            .devices
            .iter()
            .map(|it| (it.device.clone(), it.cursor.number()))
            .collect();
        let devices = self.cursors.keys().filter(|(of, _)| *of == user);
        for device in devices.cloned().collect::<Vec<_>>() {
            let Some(cursor) = self.cursors.remove(&device) else {
                continue;
            };
            match found.remove(&device.1) {
                Some(at) if cursor.may_be(at) => {
                    if cursor.low < cursor.high() {
                        self.mark("an ack that a crash cut short");
                    }
                    let acked = cursor.acked;
                    let found = Cursor::at(at);
                    self.cursors.insert(device, Cursor { acked, ..found });
                }
                // One that only came is written with the next commit, and a crash may be sooner.
                None if cursor.unsure || !cursor.acked => {}
                other => return Err(format!("{device:?} is at {other:?}, and was {cursor:?}")),
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        Err(format!("nobody had these devices: {found:?}"))
    }
}

fn is_deleted(room: RoomId, found: &Found) -> bool {
    match room {
        RoomId::Task(task) => found.tasks.get(&task) == Some(&Status::Deleted),
        RoomId::User(_) => false,
    }
}

const fn life_of(status: Status) -> Life {
    match status {
        Status::Unknown => Life::Unknown,
        Status::Created => Life::Created,
        Status::Started => Life::Started,
        Status::Completed | Status::Failed | Status::Cancelled => Life::Over,
        Status::Deleted => Life::Deleted,
    }
}
