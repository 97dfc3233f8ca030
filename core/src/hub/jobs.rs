//! What is asked of the hub and may have to wait for the store: each thing is done once all that it needs is in memory.
//!
//! What waits keeps its order: of two jobs that need one room, the earlier is done first. Without a store nothing waits.

use super::reads::Haste;
use super::{Answer, Effect, Hub, Query, Ticket};
use crate::auth::Principal;
use crate::close::CloseCode;
use crate::error::Error;
use crate::event::{Publish, Target};
use crate::history;
use crate::ids::{ConnId, EventId, RoomId, UserId};
use crate::port::StoreFailure;
use crate::protocol::{Op, Ref, Returned};
use crate::receipt::Receipt;
use crate::retries::Stored;
use crate::session::{Endpoint, State};
use crate::sim_reached;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Jobs that may wait for what they need to be read.
const WAITING_MAX: usize = 65_536;
/// Bytes of events that may wait to be read for, and as many that may wait to be committed.
pub(super) const WAITING_BYTES_MAX: usize = 64 << 20;
pub(super) const BEHIND: Error = Error::Unavailable("too much waits for it: try again in a moment");
const UNREADABLE: Error =
    Error::Unavailable("what is needed could not be read: try again in a moment");

/// Who gets the answer to a publish.
#[derive(Debug)]
pub(super) enum Origin {
    Ticket(Ticket),
    Client {
        conn: ConnId,
        reference: Option<Ref>,
        user: UserId,
    },
}

#[derive(Debug)]
pub(super) enum Job {
    Publish {
        origin: Origin,
        publish: Publish,
        /// Whether it waited for what came before it, and is not to wait for what came after.
        follows: bool,
    },
    Admit {
        conn: ConnId,
        principal: Box<Principal>,
        /// The `ref` of the message that brought the token, if one did.
        reference: Option<Option<Ref>>,
    },
    Op {
        conn: ConnId,
        reference: Option<Ref>,
        op: Op,
    },
    Query {
        ticket: Ticket,
        query: Query,
    },
}

/// What is known of what the store has of a job's id.
#[derive(Debug)]
enum StoredId {
    /// Memory knows all that the store knows.
    NotNeeded,
    Asked,
    Found(Option<Box<Stored>>),
}

#[derive(Debug)]
struct Waiting {
    job: Job,
    rooms: Vec<RoomId>,
    id: StoredId,
    bytes: usize,
}

/// The jobs that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    bytes: usize,
    by_room: BTreeMap<RoomId, BTreeSet<u64>>,
}

impl Jobs {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether anything waits for the room.
    pub(super) fn concern(&self, room: RoomId) -> bool {
        self.by_room.contains_key(&room)
    }

    fn insert(&mut self, waiting: Waiting) -> u64 {
        let number = self.next;
        self.next += 1;
        self.bytes += waiting.bytes;
        for room in &waiting.rooms {
            self.by_room.entry(*room).or_default().insert(number);
        }
        self.waiting.insert(number, waiting);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.bytes -= waiting.bytes;
        for room in &waiting.rooms {
            if let Some(numbers) = self.by_room.get_mut(room) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_room.remove(room);
                }
            }
        }
        Some(waiting)
    }

    /// Whether the job is the first of those that need its rooms.
    fn is_first(&self, number: u64, rooms: &[RoomId]) -> bool {
        let first = |room: &RoomId| self.by_room.get(room)?.first().copied();
        rooms.iter().all(|room| first(room) == Some(number))
    }
}

impl Hub {
    /// Does a job, now or once all that it needs is in memory.
    pub(super) fn run(&mut self, now: Now, job: Job) {
        if self.work.is_none() {
            return self.execute(now, job, None);
        }
        let mut rooms = self.rooms_of(&job);
        rooms.sort_unstable();
        rooms.dedup();
        let stored = id_of(&job).filter(|_| self.bus.may_be_stored(now.wall));
        let ready = |room: &RoomId| self.is_ready(now, *room);
        let free = |room: &RoomId| {
            let jobs = self.work.as_ref().map(|work| &work.jobs);
            !jobs.is_some_and(|jobs| jobs.concern(*room))
        };
        if stored.is_none() && rooms.iter().all(|room| ready(room) && free(room)) {
            return self.execute(now, job, None);
        }
        let stored = stored.cloned();
        let bytes = cost(&job);
        let Some(work) = &mut self.work else { return };
        let full = work.jobs.waiting.len() >= WAITING_MAX
            || (bytes > 0 && work.jobs.bytes + bytes > WAITING_BYTES_MAX);
        if full {
            return self.refuse(now, job, BEHIND);
        }
        if let Some(conn) = conn_of(&job) {
            self.begin_waiting(now, conn);
        }
        let Some(work) = &mut self.work else { return };
        let haste = haste(&job);
        sim_reached!("job_waits");
        let number = work.jobs.insert(Waiting {
            job,
            rooms: rooms.clone(),
            id: stored
                .as_ref()
                .map_or(StoredId::NotNeeded, |_| StoredId::Asked),
            bytes,
        });
        if let Some(id) = stored {
            self.fetch_id(number, &id);
        }
        for room in rooms {
            self.load(now, room, haste);
        }
    }

    /// The store has this of the id of a job that waits, or it could not be read.
    pub(super) fn id_fetched(
        &mut self,
        now: Now,
        number: u64,
        stored: Result<Option<Box<Stored>>, StoreFailure>,
    ) {
        let Some(work) = &mut self.work else { return };
        let Ok(stored) = stored else {
            let Some(waiting) = work.jobs.remove(number) else {
                return;
            };
            sim_reached!("id_unreadable");
            self.refuse(now, waiting.job, UNREADABLE);
            return self.advance(now, waiting.rooms);
        };
        let Some(waiting) = work.jobs.waiting.get_mut(&number) else {
            return;
        };
        waiting.id = StoredId::Found(stored);
        let rooms = waiting.rooms.clone();
        if rooms.is_empty() {
            return self.try_waiting(now, number, &mut VecDeque::new());
        }
        self.advance(now, rooms);
    }

    /// Does what waits for these rooms, as far as it can be done now.
    pub(super) fn advance(&mut self, now: Now, rooms: impl IntoIterator<Item = RoomId>) {
        let mut rooms: VecDeque<RoomId> = rooms.into_iter().collect();
        while let Some(room) = rooms.pop_front() {
            let jobs = self.work.as_ref().map(|work| &work.jobs);
            let first = jobs.and_then(|jobs| jobs.by_room.get(&room)?.first().copied());
            if let Some(number) = first {
                self.try_waiting(now, number, &mut rooms);
            }
        }
    }

    /// Does a job that waits, if all is there; the next ones of its rooms may follow then.
    fn try_waiting(&mut self, now: Now, number: u64, next: &mut VecDeque<RoomId>) {
        let Some(work) = &self.work else { return };
        let Some(waiting) = work.jobs.waiting.get(&number) else {
            return;
        };
        let is_first = work.jobs.is_first(number, &waiting.rooms);
        if !is_first || matches!(waiting.id, StoredId::Asked) {
            return;
        }
        let missing: Vec<RoomId> = {
            let rooms = waiting.rooms.iter().copied();
            rooms.filter(|room| !self.is_ready(now, *room)).collect()
        };
        if !missing.is_empty() {
            let haste = haste(&waiting.job);
            let rooms = missing.into_iter();
            return rooms.for_each(|room| self.load(now, room, haste));
        }
        let Some(work) = &mut self.work else { return };
        let Some(waiting) = work.jobs.remove(number) else {
            return;
        };
        next.extend(waiting.rooms);
        let stored = match waiting.id {
            StoredId::NotNeeded | StoredId::Asked => None,
            StoredId::Found(stored) => stored,
        };
        self.execute(now, waiting.job, stored.as_deref());
    }

    /// A room could not be read: what waits for it is refused.
    pub(super) fn refuse_waiting(&mut self, now: Now, room: RoomId) {
        let mut others = Vec::new();
        while let Some(work) = &mut self.work {
            let first = work.jobs.by_room.get(&room);
            let first = first.and_then(|numbers| numbers.first().copied());
            let Some(waiting) = first.and_then(|number| work.jobs.remove(number)) else {
                break;
            };
            others.extend(waiting.rooms);
            self.refuse(now, waiting.job, UNREADABLE);
        }
        self.advance(now, others);
    }

    fn rooms_of(&self, job: &Job) -> Vec<RoomId> {
        let user_of = |conn: ConnId| {
            let user = self.sessions.get(conn).and_then(|session| session.user());
            user.map(RoomId::User)
        };
        match job {
            Job::Publish { publish, .. } => rooms_of(&publish.target),
            Job::Admit {
                conn, principal, ..
            } => {
                let session = self.sessions.get(*conn);
                let task = session.and_then(|session| match session.endpoint {
                    Endpoint::Task(task) => Some(RoomId::Task(task)),
                    Endpoint::Notifications | Endpoint::Bus(_) => None,
                });
                let user = RoomId::User(principal.user());
                task.into_iter().chain([user]).collect()
            }
            Job::Op { conn, op, .. } => match op {
                // What may not be joined is not loaded either.
                Op::Join { room, .. } => {
                    let principal = self.sessions.get(*conn);
                    let principal = principal.and_then(|session| session.principal());
                    let may = |room: &RoomId| match room {
                        RoomId::Task(task) => principal.is_some_and(|it| it.may_join(*task)),
                        RoomId::User(_) => false,
                    };
                    Some(*room).filter(may).into_iter().collect()
                }
                Op::Send { room, .. } => {
                    let joined = |room: &RoomId| match room {
                        RoomId::Task(task) => self.tasks.contains(*task, *conn),
                        RoomId::User(_) => false,
                    };
                    Some(*room).filter(joined).into_iter().collect()
                }
                Op::Ack { .. } | Op::Read { .. } => user_of(*conn).into_iter().collect(),
                Op::Leave { .. } | Op::Ping | Op::Auth { .. } => Vec::new(),
            },
            Job::Query { query, .. } => vec![match query {
                Query::Task(task) => (*task).into(),
                Query::Inbox(user) => (*user).into(),
                Query::History { room, .. } => *room,
            }],
        }
    }

    fn execute(&mut self, now: Now, job: Job, stored: Option<&Stored>) {
        match job {
            Job::Publish {
                origin,
                publish,
                follows,
            } => self.stage(now, origin, publish, stored, follows),
            Job::Admit {
                conn,
                principal,
                reference,
            } => {
                let waits = self.sessions.get(conn).map(|session| &session.state);
                if matches!(
                    waits,
                    Some(
                        State::Unauthenticated { .. }
                            | State::Verifying { .. }
                            | State::Arriving { .. }
                    )
                ) {
                    self.admit(now, conn, *principal);
                    self.admitted(now, conn, reference);
                }
                self.end_waiting(conn);
            }
            Job::Op {
                conn,
                reference,
                op,
            } => {
                let result = self.op(now, conn, reference.as_ref(), op, stored);
                // Otherwise the answer comes when the store has done it.
                if let Some(result) = result.transpose() {
                    self.reply(now, conn, reference.as_ref(), &result);
                    self.end_waiting(conn);
                }
            }
            Job::Query { ticket, query } => {
                let answer = match query {
                    Query::Task(task) => Answer::Task(self.task_view(now, task)),
                    Query::Inbox(user) => Answer::Inbox(self.inbox_view(now, user)),
                    Query::History { room, history } => {
                        let plan = history::Plan::new(&mut self.bus, now.wall, room, &history);
                        if let Some(fetch) = plan.fetch(&self.bus, room) {
                            return self.fetch_history(ticket, plan, fetch);
                        }
                        let log = self.bus.room_log(room);
                        Answer::History(plan.page(|seq| log?.entry(seq).cloned()))
                    }
                };
                self.effects.push_back(Effect::Answered {
                    ticket,
                    result: Ok(answer),
                });
            }
        }
    }

    /// Answers a job that is not done.
    fn refuse(&mut self, now: Now, job: Job, error: Error) {
        match job {
            Job::Publish { origin, .. } => self.answer(now, origin, Err(error)),
            Job::Admit { conn, .. } => {
                self.close(now, conn, CloseCode::UNAVAILABLE);
                self.end_waiting(conn);
            }
            Job::Op {
                conn, reference, ..
            } => {
                self.reply(now, conn, reference.as_ref(), &Err(error));
                self.end_waiting(conn);
            }
            Job::Query { ticket, .. } => self.effects.push_back(Effect::Answered {
                ticket,
                result: Err(error),
            }),
        }
    }

    /// Answers a publish.
    pub(super) fn answer(&mut self, now: Now, origin: Origin, result: Result<Receipt, Error>) {
        match origin {
            Origin::Ticket(ticket) => {
                self.effects.push_back(Effect::Published { ticket, result });
            }
            Origin::Client {
                conn, reference, ..
            } => {
                let result = result.map(|receipt| Returned {
                    id: Some(receipt.id().clone()),
                    duplicate: receipt.duplicate().then_some(true),
                    seq: receipt.rooms().first().map(|room| room.seq),
                    ..Returned::default()
                });
                self.reply(now, conn, reference.as_ref(), &result);
                self.end_waiting(conn);
            }
        }
    }

    /// The answer to the connection's message will come later: the next message waits for it.
    pub(super) fn begin_waiting(&mut self, now: Now, conn: ConnId) {
        let until = now.time.plus(self.limits.auth_ms);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.busy = true;
            if matches!(
                session.state,
                State::Unauthenticated { .. } | State::Verifying { .. }
            ) {
                session.state = State::Arriving { until };
            }
        }
    }

    /// It has come: the messages that were held are next.
    pub(super) fn end_waiting(&mut self, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn)
            && std::mem::take(&mut session.busy)
            && !session.held.is_empty()
        {
            self.resumed.push_back(conn);
        }
    }

    /// Takes the messages that were held, of connections that wait for nothing any more.
    pub(super) fn take_held(&mut self, now: Now) {
        while let Some(conn) = self.resumed.pop_front() {
            while let Some(session) = self.sessions.get_mut(conn).filter(|session| !session.busy)
                && let Some(text) = session.held.pop_front()
            {
                self.message(now, conn, &text);
            }
        }
    }
}

/// The rooms of a target, as far as they may be: one with too many is refused without.
fn rooms_of(target: &Target) -> Vec<RoomId> {
    target.rooms().unwrap_or_default()
}

const fn conn_of(job: &Job) -> Option<ConnId> {
    match job {
        Job::Publish {
            origin: Origin::Client { conn, .. },
            ..
        }
        | Job::Admit { conn, .. }
        | Job::Op { conn, .. } => Some(*conn),
        Job::Publish {
            origin: Origin::Ticket(_),
            ..
        }
        | Job::Query { .. } => None,
    }
}

/// Whoever comes can wait; of those there may be thousands at once.
const fn haste(job: &Job) -> Haste {
    match job {
        Job::Admit { .. } => Haste::Later,
        Job::Publish { .. } | Job::Op { .. } | Job::Query { .. } => Haste::Soon,
    }
}

const fn id_of(job: &Job) -> Option<&EventId> {
    match job {
        Job::Publish { publish, .. } => publish.draft.id.as_ref(),
        Job::Op {
            op: Op::Send { draft, .. },
            ..
        } => draft.id.as_ref(),
        Job::Op { .. } | Job::Admit { .. } | Job::Query { .. } => None,
    }
}

fn cost(job: &Job) -> usize {
    match job {
        Job::Publish { publish, .. } => publish.draft.data.as_str().len(),
        Job::Op {
            op: Op::Send { draft, .. },
            ..
        } => draft.data.as_str().len(),
        Job::Op { .. } | Job::Admit { .. } | Job::Query { .. } => 0,
    }
}
