//! Publishes, acknowledgements and reads on their way to the store: what comes while one commit is under way makes the next.
//!
//! Keeps *Published is kept*: what is not safe is seen by nobody. Several share a commit (group commit): it goes at once
//! when nobody else is expected, and otherwise when there are as many as in the one before, or 1,000, or 256 KiB of them,
//! or when the first of them has waited for 2 ms.

use super::jobs::{BEHIND, Job, Origin, WAITING_BYTES_MAX};
use super::{Effect, Hub};
use crate::bus::{Admitted, Prepared, rows_bytes};
use crate::error::Error;
use crate::event::Publish;
use crate::ids::{ConnId, DeviceId, RoomId, Seq, UserId};
use crate::journal::Group;
use crate::port::StoreFailure;
use crate::protocol::Ref;
use crate::retries::Stored;
use crate::sim_reached;
use crate::time::{Now, Time};
use std::collections::BTreeMap;

const GROUP_OPS: usize = 1_000;
const GROUP_BYTES: usize = 256 << 10;
const GROUP_WAIT_MS: u64 = 2;
/// Milliseconds between attempts of a store that had no space or no time, while nobody asks for one.
const FULL_WAIT_MS: u64 = 1_000;
const BROKEN: Error =
    Error::Unavailable("a write failed, and no more are taken: check the disk, then restart");

/// Something that is done when its commit is.
#[derive(Debug)]
enum Staged {
    Publish {
        prepared: Box<Prepared>,
        origin: Origin,
    },
    Read {
        prepared: Box<Prepared>,
        user: UserId,
        conn: ConnId,
        reference: Option<Ref>,
    },
    Ack {
        user: UserId,
        device: DeviceId,
        seq: Seq,
        conn: ConnId,
        reference: Option<Ref>,
    },
}

/// The commits of a hub with a store.
#[derive(Debug)]
pub(super) struct Commits {
    staged: Vec<Staged>,
    /// When the first of what waits for the next commit came.
    since: Option<Time>,
    under_way: Option<(Group, Vec<Staged>)>,
    /// Bytes of the commit under way.
    bytes: usize,
    /// How many the last commit had, and when it was done.
    before: usize,
    ended: Time,
    /// What is to be looked at again when a commit is done.
    followers: BTreeMap<Group, Vec<Job>>,
    pub(super) failure: Option<StoreFailure>,
    /// Whether the store has nothing yet.
    is_new: bool,
}

impl Commits {
    pub(super) const fn new(is_new: bool) -> Self {
        Self {
            staged: Vec::new(),
            since: None,
            under_way: None,
            bytes: 0,
            before: 1,
            ended: Time::from_millis(0),
            followers: BTreeMap::new(),
            failure: None,
            is_new,
        }
    }

    /// Whether nothing is under way, nor to come.
    pub(super) fn is_idle(&self) -> bool {
        self.staged.is_empty() && self.under_way.is_none() && self.followers.is_empty()
    }

    /// When the next commit is due, at the latest.
    pub(super) fn deadline(&self) -> Option<Time> {
        if self.under_way.is_some() || self.failure == Some(StoreFailure::Failed) {
            return None;
        }
        let retry = self.failure.map(|_| self.ended.plus(FULL_WAIT_MS));
        let due = self.since?.plus(GROUP_WAIT_MS);
        Some(retry.map_or(due, |retry| retry.max(due)))
    }
}

impl Hub {
    /// Takes a publish: with a store, into the next commit.
    pub(super) fn stage(
        &mut self,
        now: Now,
        origin: Origin,
        publish: Publish,
        stored: Option<&Stored>,
        follows: bool,
    ) {
        let from = match &origin {
            Origin::Ticket(_) => None,
            Origin::Client { user, .. } => Some(*user),
        };
        let admission = match self.bus.admit(now, from, &publish, stored) {
            Err(error) => return self.answer(now, origin, Err(error)),
            Ok(Admitted::Retry(receipt)) => return self.answer(now, origin, Ok(receipt)),
            Ok(Admitted::Wait(group)) => return self.follow(now, group, origin, publish),
            Ok(Admitted::New(admission)) => admission,
        };
        let needs_store = self.bus.needs_store(&publish, &admission);
        if let Some(work) = self.work.as_ref().filter(|_| needs_store) {
            let waiting = self.bus.waiting_bytes() + work.commits.bytes;
            let with_this = waiting + rows_bytes(&publish, &admission);
            let refusal = match work.commits.failure {
                Some(StoreFailure::Failed) => Some(BROKEN),
                // By itself it may be larger: what is for very many has to go too.
                _ if waiting > 0 && with_this > WAITING_BYTES_MAX => Some(BEHIND),
                _ => None,
            };
            if let Some(refusal) = refusal {
                return self.answer(now, origin, Err(refusal));
            }
        }
        // What needs no store comes after what was published to its rooms before.
        let before = self.bus.last_under_way(&admission);
        if let Some(group) = before.filter(|_| !needs_store && !follows) {
            return self.follow(now, group, origin, publish);
        }
        let (tasks, users) = (&self.tasks, &self.users);
        let connected = |room| match room {
            RoomId::Task(task) => tasks.count(task),
            RoomId::User(user) => users.members(user).len(),
        };
        let prepared = self.bus.prepare(now, from, publish, admission, connected);
        if needs_store {
            self.mark_waiting(now, &origin);
            let prepared = Box::new(prepared);
            return self.put_staged(now, Staged::Publish { prepared, origin });
        }
        self.made_known(now, prepared, origin);
    }

    fn made_known(&mut self, now: Now, prepared: Prepared, origin: Origin) {
        let published = self.bus.apply(prepared);
        if let Some(entry) = published.entry {
            self.told(now, &entry);
        }
        self.answer(now, origin, Ok(published.receipt));
    }

    fn mark_waiting(&mut self, now: Now, origin: &Origin) {
        if let Origin::Client { conn, .. } = origin {
            self.begin_waiting(now, *conn);
        }
    }

    /// Looks at a publish again when a commit is done.
    fn follow(&mut self, now: Now, group: Group, origin: Origin, publish: Publish) {
        sim_reached!("publish_follows");
        self.mark_waiting(now, &origin);
        if let Some(work) = &mut self.work {
            let followers = work.commits.followers.entry(group).or_default();
            followers.push(Job::Publish {
                origin,
                publish,
                follows: true,
            });
        }
    }

    /// A read of notifications, which is done when its event is safe.
    pub(super) fn stage_read(
        &mut self,
        now: Now,
        (conn, user): (ConnId, UserId),
        reference: Option<Ref>,
        prepared: Prepared,
    ) {
        self.begin_waiting(now, conn);
        let staged = Staged::Read {
            prepared: Box::new(prepared),
            user,
            conn,
            reference,
        };
        self.put_staged(now, staged);
    }

    /// An acknowledgement, which counts when it is safe.
    pub(super) fn stage_ack(
        &mut self,
        now: Now,
        conn: ConnId,
        reference: Option<Ref>,
        (user, device, seq): (UserId, DeviceId, Seq),
    ) {
        self.begin_waiting(now, conn);
        let staged = Staged::Ack {
            user,
            device,
            seq,
            conn,
            reference,
        };
        self.put_staged(now, staged);
    }

    fn put_staged(&mut self, now: Now, staged: Staged) {
        if self.store_failure() == Some(StoreFailure::Failed) {
            sim_reached!("refused_after_a_failure");
            return self.fail(now, staged, &BROKEN);
        }
        if let Some(work) = &mut self.work {
            work.commits.since.get_or_insert(now.time);
            work.commits.staged.push(staged);
        }
    }

    /// Whether nothing is on its way to the store or from it, or what is can't get there.
    pub(super) fn is_at_rest(&mut self) -> bool {
        let Some(work) = &self.work else { return true };
        let idle = work.commits.is_idle() && work.jobs.is_empty();
        let stuck = work.commits.failure.is_some();
        idle && (stuck || self.bus.journal().is_none_or(|journal| journal.is_empty()))
    }

    /// Hands the next commit to the driver, if it is due.
    pub(super) fn commit(&mut self, now: Now) {
        let Some(work) = &mut self.work else { return };
        let commits = &mut work.commits;
        let Some(journal) = self.bus.journal() else {
            return;
        };
        if commits.failure == Some(StoreFailure::Failed) {
            // No commit takes it any more, and nothing is to wait for one.
            return journal.discard(commits.is_new);
        }
        if commits.under_way.is_some() || (commits.staged.is_empty() && journal.is_empty()) {
            return;
        }
        let since = *commits.since.get_or_insert(now.time);
        let idle = since.since(commits.ended) >= GROUP_WAIT_MS;
        let expected = if idle {
            1
        } else {
            commits.before.clamp(1, GROUP_OPS)
        };
        let due = commits.staged.len() >= expected
            || journal.bytes() >= GROUP_BYTES
            || commits
                .deadline()
                .is_some_and(|deadline| deadline <= now.time)
            // At once; one that was refused is tried again in its time.
            || (commits.failure.is_none() && (self.draining.is_some() || commits.is_new));
        if !due {
            sim_reached!("commit_waits_for_more");
            return;
        }
        commits.bytes = journal.bytes();
        let (group, changes) = journal.take();
        let staged = std::mem::take(&mut commits.staged);
        sim_reached!("group_commit", staged.len() > 1);
        commits.before = staged.len();
        commits.since = None;
        commits.under_way = Some((group, staged));
        self.effects.push_back(Effect::Commit(changes));
    }

    /// The commit under way was done, or failed.
    pub(super) fn committed(&mut self, now: Now, result: Result<(), StoreFailure>) {
        let Some(work) = &mut self.work else { return };
        let Some((group, staged)) = work.commits.under_way.take() else {
            return;
        };
        work.commits.ended = now.time;
        work.commits.bytes = 0;
        work.commits.failure = result.err();
        match result {
            Ok(()) => {
                work.commits.is_new = false;
                if let Some(journal) = self.bus.journal() {
                    journal.settle(group);
                }
                for staged in staged {
                    self.finish(now, staged);
                }
            }
            Err(failure) => {
                // What came meanwhile was built on it.
                let later = std::mem::take(&mut work.commits.staged);
                work.commits.since = None;
                let is_new = work.commits.is_new;
                if let Some(journal) = self.bus.journal() {
                    journal.discard(is_new);
                }
                let error = match failure {
                    StoreFailure::Full => {
                        sim_reached!("commit_full");
                        Error::StoreFull
                    }
                    StoreFailure::Busy => BEHIND,
                    StoreFailure::Failed => {
                        sim_reached!("commit_failed");
                        BROKEN
                    }
                };
                for staged in staged.into_iter().chain(later) {
                    self.fail(now, staged, &error);
                }
            }
        }
        let Some(work) = &mut self.work else { return };
        let followers = &mut work.commits.followers;
        let ready = match (result, followers.keys().find(|of| **of > group).copied()) {
            (Ok(()), Some(next)) => {
                let later = followers.split_off(&next);
                std::mem::replace(followers, later)
            }
            (Ok(()), None) | (Err(_), _) => std::mem::take(followers),
        };
        for job in ready.into_values().flatten() {
            self.run(now, job);
        }
    }

    fn finish(&mut self, now: Now, staged: Staged) {
        match staged {
            Staged::Publish { prepared, origin } => self.made_known(now, *prepared, origin),
            Staged::Read {
                prepared,
                user,
                conn,
                reference,
            } => {
                let returned = self.read_is_known(now, user, *prepared);
                self.reply(now, conn, reference.as_ref(), &Ok(returned));
                self.end_waiting(conn);
            }
            Staged::Ack {
                user,
                device,
                seq,
                conn,
                reference,
            } => {
                let returned = self.ack_is_known(now, user, &device, seq);
                self.reply(now, conn, reference.as_ref(), &Ok(returned));
                self.end_waiting(conn);
            }
        }
    }

    fn fail(&mut self, now: Now, staged: Staged, error: &Error) {
        match staged {
            Staged::Publish { origin, .. } => self.answer(now, origin, Err(error.clone())),
            Staged::Read {
                conn, reference, ..
            }
            | Staged::Ack {
                conn, reference, ..
            } => {
                self.reply(now, conn, reference.as_ref(), &Err(error.clone()));
                self.end_waiting(conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Claims, Principal, TaskGrant};
    use crate::event::{Draft, Target};
    use crate::hub::{Input, Ticket};
    use crate::ids::TaskId;
    use crate::limits::Limits;
    use crate::payload::Payload;
    use crate::port::{Change, Fetched};
    use crate::session::{Endpoint, Open};
    use uuid::Uuid;

    /// Publishes `bytes` to a task's room and the rooms of so many users; the answers and commits that follow, where the
    /// store has nothing of what is read, and has not answered a commit yet.
    fn publish(hub: &mut Hub, ticket: u64, users: u64, bytes: usize) -> (Vec<&'static str>, usize) {
        let now = Now::default();
        let data = Payload::from_value(&"x".repeat(bytes)).unwrap();
        let target = Target::Task {
            task: TaskId::new(Uuid::from_u128(ticket.into())),
            users: (0..users).map(UserId::new).collect(),
        };
        let draft = Draft::new("note:added".parse().unwrap(), data);
        let publish = Publish { target, draft };
        let ticket = Ticket(ticket);
        hub.handle(now, Input::Publish { ticket, publish });
        drain(hub)
    }

    fn drain(hub: &mut Hub) -> (Vec<&'static str>, usize) {
        let (mut told, mut committed) = (Vec::new(), 0);
        while let Some(effect) = hub.poll() {
            if let Effect::Fetch { id, fetches } = effect {
                let result = Ok(fetches.iter().map(|_| Fetched::default()).collect());
                hub.handle(Now::default(), Input::Fetched { id, result });
            } else if let Effect::Commit(changes) = effect {
                committed = changes.iter().map(Change::bytes).sum();
            } else if let Effect::Published { result, .. } = effect {
                told.push(result.map_or_else(|error| error.code(), |_| "taken"));
            }
        }
        (told, committed)
    }

    #[test]
    fn nothing_waits_for_a_store_that_failed_however_many_devices_come_and_go() {
        let mut hub = Hub::restore(Limits::default(), [0; 32], &[]).unwrap();
        drain(&mut hub);
        let now = Now::default();
        hub.handle(now, Input::Committed(Err(StoreFailure::Failed)));
        for _ in 0..3 {
            let claims = Claims::new(UserId::new(7), 1, TaskGrant::All);
            let conn = hub.open(
                now,
                Open {
                    principal: Principal::new(claims, now.wall).ok(),
                    device: "phone".parse().ok(),
                    ..Open::new(Endpoint::Notifications)
                },
            );
            drain(&mut hub);
            assert_eq!(hub.devices(UserId::new(7)).len(), 1);
            hub.handle(now, Input::Closed { conn });
            drain(&mut hub);
            assert_eq!(hub.bus.waiting_bytes(), 0);
        }
    }

    #[test]
    fn a_store_that_is_busy_refuses_what_can_be_tried_again_and_takes_the_next() {
        for (failure, code, next) in [
            (StoreFailure::Busy, "unavailable", "taken"),
            (StoreFailure::Full, "store_full", "taken"),
            (StoreFailure::Failed, "unavailable", "unavailable"),
        ] {
            let mut hub = Hub::restore(Limits::default(), [0; 32], &[]).unwrap();
            drain(&mut hub);
            let commit = |hub: &mut Hub, result| {
                hub.handle(Now::default(), Input::Committed(result));
                drain(hub).0
            };
            commit(&mut hub, Ok(()));
            let mut told = publish(&mut hub, 1, 0, 1).0;
            told.extend(commit(&mut hub, Err(failure)));
            assert_eq!(told, [code], "{failure:?}");
            let now = Now {
                time: Time::from_millis(2 * FULL_WAIT_MS),
                ..Now::default()
            };
            told = publish(&mut hub, 2, 0, 1).0;
            hub.handle(now, Input::Tick);
            told.extend(drain(&mut hub).0);
            told.extend(commit(&mut hub, Ok(())));
            assert_eq!(told, [next], "{failure:?}");
        }
    }

    #[test]
    fn a_first_commit_that_is_refused_is_tried_again_in_its_time() {
        let mut hub = Hub::restore(Limits::default(), [0; 32], &[]).unwrap();
        for millis in [0, FULL_WAIT_MS] {
            let now = Now {
                time: Time::from_millis(millis),
                ..Now::default()
            };
            hub.handle(now, Input::Tick);
            assert!(drain(&mut hub).1 > 0, "{millis}");
            hub.handle(now, Input::Committed(Err(StoreFailure::Full)));
            assert_eq!(drain(&mut hub), (Vec::new(), 0), "{millis}");
        }
        hub.handle(Now::default(), Input::Drain);
        assert_eq!(drain(&mut hub), (Vec::new(), 0));
    }

    #[test]
    fn a_commit_is_bounded_in_bytes_and_one_publish_of_any_size_that_may_be_is_taken() {
        const MIB: usize = 1 << 20;
        let mut hub = Hub::restore(Limits::default(), [0; 32], &[]).unwrap();
        drain(&mut hub);
        let commit = |hub: &mut Hub| {
            hub.handle(Now::default(), Input::Committed(Ok(())));
            drain(hub)
        };
        commit(&mut hub);
        // The largest that there may be, when nothing else waits.
        let (told, bytes) = publish(&mut hub, 1, 100, MIB - 2);
        assert!(told.is_empty() && bytes > 100 * MIB, "{told:?} {bytes}");
        let (told, _) = publish(&mut hub, 2, 0, 1);
        assert_eq!(told, ["unavailable"], "so much is under way");
        assert_eq!(commit(&mut hub).0, ["taken"]);
        // Of what waits together there is no more than the bound.
        assert_eq!(publish(&mut hub, 3, 0, 1).0, [""; 0]);
        assert_eq!(publish(&mut hub, 4, 50, MIB - 2).0, [""; 0]);
        assert_eq!(publish(&mut hub, 5, 100, MIB - 2).0, ["unavailable"]);
        assert_eq!(publish(&mut hub, 6, 0, 1).0, [""; 0]);
        let (told, bytes) = commit(&mut hub);
        assert_eq!(told, ["taken"]);
        assert!(bytes <= WAITING_BYTES_MAX, "{bytes}");
        assert_eq!(commit(&mut hub).0, ["taken", "taken"]);
    }
}
