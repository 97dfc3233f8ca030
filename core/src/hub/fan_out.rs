//! From an entry to those who may have it: each connection once, with all its rooms that the entry names.
//!
//! Keeps *Once per connection*. O(members of the entry's rooms), without allocation for a member: all that are in the
//! same rooms of the entry share one frame.

use super::{Effect, Hub};
use crate::bus::EventBus;
use crate::catch_up::CatchUp;
use crate::close::CloseCode;
use crate::event::{Entry, Place, Retention};
use crate::frame::Frame;
use crate::ids::{ConnId, RoomId, Seq, TaskId, UserId};
use crate::lifecycle::TaskEvent;
use crate::outbox::Full;
use crate::protocol::{self, LeftReason};
use crate::room_log::{Gap, GapReason};
use crate::session::{Session, State};
use crate::sim_reached;
use crate::time::Now;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One entry on its way: its encodings, each made when the first receiver needs it, and who can't take it.
struct FanOut<'a> {
    entry: &'a Arc<Entry>,
    is_deletion: bool,
    task_only: Option<Frame>,
    with_user: BTreeMap<(bool, RoomId), Frame>,
    /// Connections that have to be closed when all others were served.
    overfull: Vec<ConnId>,
}

impl FanOut<'_> {
    /// The encoding for a receiver in these places; `None` where it is in none.
    fn frame(
        &mut self,
        bus: &EventBus,
        task: Option<&Place>,
        user: Option<&Place>,
    ) -> Option<Frame> {
        let encode = || {
            let places = task.into_iter().chain(user);
            let unread = user.and_then(|place| user_of(place.room));
            self.entry.encode(
                places.map(|place| (&place.room, place.seq)),
                unread.map(|user| bus.unread(user)),
            )
        };
        match (task, user) {
            (None, None) => None,
            (Some(_), None) => Some(self.task_only.get_or_insert_with(encode).clone()),
            (_, Some(place)) => {
                let key = (task.is_some(), place.room);
                Some(self.with_user.entry(key).or_insert_with(encode).clone())
            }
        }
    }
}

impl Hub {
    pub(super) fn fan_out(&mut self, now: Now, entry: &Arc<Entry>) {
        let (task, users) = match entry.places() {
            [place, users @ ..] if matches!(place.room, RoomId::Task(_)) => (Some(place), users),
            users => (None, users),
        };
        let mut fan_out = FanOut {
            entry,
            is_deletion: is_deletion(entry),
            task_only: None,
            with_user: BTreeMap::new(),
            overfull: Vec::new(),
        };
        let task_id = task.and_then(|place| task_of(place.room));
        // One copy of the numbers for all members: delivering needs the rest of the hub.
        let members = task_id.map_or(Vec::new(), |task| self.tasks.members(task).to_vec());
        let members = match members.as_slice() {
            [some @ .., _] if some.len() >= 3 && planted!(MemberSkipped) => some,
            all => all,
        };
        for &conn in members {
            let user = if users.is_empty() {
                None
            } else {
                self.place_of_user(conn, users)
            };
            self.deliver(now, conn, (task, user), &mut fan_out);
        }
        for place in users {
            let mut members =
                user_of(place.room).map_or(Vec::new(), |user| self.users.members(user).to_vec());
            if let Some(user) = user_of(place.room).filter(|_| planted!(NeighbourToo)) {
                let neighbour = UserId::new(user.number() + 1);
                members.extend(self.users.members(neighbour));
            }
            for conn in members {
                if !task_id.is_some_and(|task| self.tasks.contains(task, conn)) {
                    self.deliver(now, conn, (None, Some(place)), &mut fan_out);
                }
            }
        }
        for conn in fan_out.overfull {
            self.close(now, conn, CloseCode::TOO_SLOW);
        }
        if let Some(task) = task_id.filter(|_| fan_out.is_deletion) {
            for conn in self.tasks.members(task).to_vec() {
                sim_reached!("deleted_with_members");
                self.leave(conn, task);
                if !planted!(DeletedStaysJoined) {
                    self.say(now, conn, protocol::left(task.into(), LeftReason::Deleted));
                }
            }
        }
    }

    fn place_of_user<'a>(&self, conn: ConnId, users: &'a [Place]) -> Option<&'a Place> {
        let room = self.sessions.get(conn)?.user()?.into();
        let at = users.binary_search_by_key(&room, |place| place.room).ok()?;
        users.get(at)
    }

    fn deliver(
        &mut self,
        now: Now,
        conn: ConnId,
        (mut task, mut user): (Option<&Place>, Option<&Place>),
        fan_out: &mut FanOut<'_>,
    ) {
        let entry = fan_out.entry;
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        if fan_out.is_deletion && stop_reading(session, task).is_err() {
            return fan_out.overfull.push(conn);
        }
        if let Some(catch_up) = &mut session.catch_up {
            // What is read from the log comes from there.
            let live = |place: &&Place| planted!(LiveBeforeReplay) || !catch_up.reads(place.room);
            let rooms = (task.filter(live), user.filter(live));
            if rooms != (task, user) && !entry.is_kept() {
                sim_reached!("ephemeral_deferred");
                return catch_up.defer(entry);
            }
            (task, user) = rooms;
        }
        if let Some(frame) = fan_out.frame(&self.bus, task, user) {
            let room = task.or(user).map(|place| place.room);
            let outbox = &mut session.outbox;
            let taken = match (&entry.event().retention, room) {
                // The log of a deleted task is gone: its last event can't be read later.
                _ if fan_out.is_deletion => {
                    if outbox.push_system(frame).is_err() {
                        return fan_out.overfull.push(conn);
                    }
                    Ok(())
                }
                (Retention::Ephemeral { key: Some(key) }, Some(room)) => {
                    outbox.replace_event(room, key, frame)
                }
                (Retention::Ephemeral { .. } | Retention::Kept, _) => outbox.push_event(frame),
            };
            if taken.is_err() && entry.is_kept() && !planted!(OverflowForgotten) {
                sim_reached!("falls_behind");
                self.fall_behind(conn, entry.index());
            }
        }
        self.ready(now.time, conn);
    }

    /// What no longer fits comes from the log, once the client has taken what waits: from entry `index` on.
    fn fall_behind(&mut self, conn: ConnId, index: u64) {
        if let Some(session) = self.sessions.get_mut(conn) {
            let new = || Box::new(CatchUp::new(GapReason::Slow, index));
            session.catch_up.get_or_insert_with(new);
        }
        self.read_the_rest(conn, index);
    }

    /// As long as one room of a connection is read from the log, all are: an event that comes through two of them would
    /// come twice otherwise. Those that are not read yet are read from entry `index` on.
    pub(super) fn read_the_rest(&mut self, conn: ConnId, index: u64) {
        let user = self.users.rooms_of(conn).map(RoomId::User);
        let tasks = self.tasks.rooms_of(conn).map(RoomId::Task);
        let rooms: Vec<RoomId> = tasks.chain(user).collect();
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let Some(catch_up) = &mut session.catch_up else {
            return;
        };
        for room in rooms {
            if !catch_up.reads(room) {
                let epoch = self.bus.position(room).epoch;
                let after = self.bus.room_log(room).map(|log| log.seq_before(index));
                catch_up.read(room, epoch, after.unwrap_or_default());
            }
        }
        session.before_catch_up = session.outbox.len();
    }

    /// Tells the members of rooms that were forgotten for want of memory that a new epoch began.
    pub(super) fn tell_evicted(&mut self, now: Now) {
        for room in self.bus.take_evicted() {
            let members = match room {
                RoomId::Task(task) => self.tasks.members(task).to_vec(),
                RoomId::User(user) => self.users.members(user).to_vec(),
            };
            if members.is_empty() || planted!(EvictionUntold) {
                continue;
            }
            sim_reached!("evicted_with_members");
            let (_, frame) = protocol::begins_anew(&self.bus, room);
            for conn in members {
                let session = self.sessions.get(conn);
                let reads = session.and_then(|session| session.catch_up.as_ref());
                // Who reads the room finds the new epoch there.
                if !reads.is_some_and(|catch_up| catch_up.reads(room)) {
                    self.say(now, conn, frame.clone());
                }
            }
        }
    }

    pub(super) fn wake_subscribers(&mut self, now: Now) {
        while let Some(id) = self.bus.poll() {
            match self.bus_connections.get(&id) {
                Some(&conn) => self.ready(now.time, conn),
                None => self.effects.push_back(Effect::Subscription(id)),
            }
        }
    }

    /// The subscription of a connection to the bus.
    pub(super) const fn subscription(
        session: &Session,
    ) -> Option<crate::subscriptions::SubscriptionId> {
        match session.state {
            State::Bus(id) => Some(id),
            State::Unauthenticated { .. }
            | State::Verifying { .. }
            | State::Arriving { .. }
            | State::Live(_)
            | State::Leaving { .. } => None,
        }
    }
}

/// A client that still reads a task's log when the task is deleted is told what it will not get.
fn stop_reading(session: &mut Session, task: Option<&Place>) -> Result<(), Full> {
    let (Some(place), Some(catch_up)) = (task, &mut session.catch_up) else {
        return Ok(());
    };
    let Some(read) = catch_up.stop(place.room) else {
        return Ok(());
    };
    let (from, reason) = if read.epoch == place.epoch {
        (read.seq.next(), GapReason::Trimmed)
    } else {
        sim_reached!("deleted_in_another_epoch");
        (Seq::ZERO.next(), GapReason::Epoch)
    };
    let gap = Gap {
        epoch: place.epoch.clone(),
        from,
        to: place.seq.before(),
        reason,
    };
    // Of another epoch it is told also where nothing is missing.
    if gap.from > gap.to && reason == GapReason::Trimmed {
        return Ok(());
    }
    sim_reached!("deleted_while_read");
    session.outbox.push_system(protocol::gap(place.room, &gap))
}

fn is_deletion(entry: &Entry) -> bool {
    TaskEvent::of(&entry.event().kind) == Some(TaskEvent::Deleted)
        && matches!(
            entry.places().first(),
            Some(Place {
                room: RoomId::Task(_),
                ..
            })
        )
}

const fn task_of(room: RoomId) -> Option<TaskId> {
    match room {
        RoomId::Task(task) => Some(task),
        RoomId::User(_) => None,
    }
}

const fn user_of(room: RoomId) -> Option<UserId> {
    match room {
        RoomId::Task(_) => None,
        RoomId::User(user) => Some(user),
    }
}
