//! From an entry to those who may have it: each connection once, with all its rooms that the entry names.
//!
//! Keeps *Once per connection*. O(members of the entry's rooms), without allocation for a member: all that are in the
//! same rooms of the entry share one frame.

use super::{Effect, Hub};
use crate::catch_up::CatchUp;
use crate::event::{Entry, Place};
use crate::ids::{ConnId, RoomId, Seq, TaskId, UserId};
use crate::lifecycle::TaskEvent;
use crate::outlet::{Direct, Order, ReadWhy, Told};
use crate::protocol::{self, LeftReason};
use crate::room_log::{Gap, GapReason};
use crate::session::{Session, State};
use crate::sim_reached;
use crate::time::Now;
use std::sync::Arc;

impl Hub {
    pub(super) fn fan_out(&mut self, now: Now, entry: &Arc<Entry>) {
        let (task, users) = match entry.places() {
            [place, users @ ..] => match task_of(place.room) {
                Some(task) => (Some((task, place)), users),
                None => (None, entry.places()),
            },
            [] => (None, &[][..]),
        };
        let is_deletion = is_deletion(entry);
        if is_deletion && let Some((task, place)) = task {
            self.stop_readers(now, task, place);
        }
        let mut direct = self.direct(entry, task, users);
        let mut frame = None;
        for outlet in 0..self.outlets {
            let end = direct.partition_point(|direct| direct.conn.outlet() <= outlet);
            let direct: Vec<Direct> = direct.drain(..end).collect();
            let both = direct.iter().filter(|direct| direct.watches_task).count();
            let others = |task| self.tasks.count_in(outlet, task) - both;
            // Who reads one of two rooms gets a task's last event through the other.
            let is_told = |task| others(task) > 0 || (is_deletion && both > 0);
            let of_task = task
                .filter(|(task, _)| is_told(*task))
                .map(|(task, place)| {
                    let encode = || entry.encode([(&place.room, place.seq)], None);
                    (task, frame.get_or_insert_with(encode).clone())
                });
            if of_task.is_some() || !direct.is_empty() {
                let told = Told {
                    entry: Arc::clone(entry),
                    is_deletion,
                    task: of_task,
                    direct,
                };
                self.order_to(now, outlet, Order::Told(told));
            }
        }
        if let Some((task, _)) = task.filter(|_| is_deletion) {
            for conn in self.tasks.members(task) {
                sim_reached!("deleted_with_members");
                self.leave(now, conn, task);
                if !planted!(DeletedStaysJoined) {
                    self.say(now, conn, protocol::left(task.into(), LeftReason::Deleted));
                }
            }
        }
    }

    /// Who gets an entry through a user's room, outlet by outlet in the order of their numbers. All that are in the same of its rooms share
    /// one frame.
    fn direct(
        &self,
        entry: &Entry,
        task: Option<(TaskId, &Place)>,
        users: &[Place],
    ) -> Vec<Direct> {
        let mut direct = Vec::new();
        let skipped = entry.places().len() - users.len();
        for (at, place) in users.iter().enumerate() {
            let Some(user) = user_of(place.room) else {
                continue;
            };
            let mut frames = [None, None];
            let mut add = |conn, watches_task: bool| {
                let encode = || {
                    let task = task.filter(|_| watches_task).map(|(_, place)| place);
                    let places = task.into_iter().chain([place]);
                    let places = places.map(|place| (&place.room, place.seq));
                    entry.encode(places, Some(self.bus.unread(user)))
                };
                let [alone, both] = &mut frames;
                let frame = if watches_task { both } else { alone };
                direct.push(Direct {
                    conn,
                    place: skipped + at,
                    watches_task,
                    frame: frame.get_or_insert_with(encode).clone(),
                });
            };
            for &conn in self.users.members(user) {
                add(
                    conn,
                    task.is_some_and(|(task, _)| self.tasks.contains(task, conn)),
                );
            }
            if planted!(NeighbourToo) {
                let neighbour = UserId::new(user.number() + 1);
                let strangers = self.users.members(neighbour).iter();
                let watches = |conn| task.is_some_and(|(task, _)| self.tasks.contains(task, conn));
                strangers
                    .filter(|conn| !watches(**conn))
                    .for_each(|conn| add(*conn, false));
            }
        }
        direct.sort_unstable_by_key(|direct| (direct.conn.outlet(), direct.conn));
        direct
    }

    /// Clients that still read a task's log when the task is deleted are told what they will not get.
    fn stop_readers(&mut self, now: Now, task: TaskId, place: &Place) {
        for conn in self.tasks.members(task) {
            let session = self.sessions.get_mut(conn);
            let catch_up = session.and_then(|session| session.catch_up.as_mut());
            let Some(read) = catch_up.and_then(|catch_up| catch_up.stop(place.room)) else {
                continue;
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
                continue;
            }
            sim_reached!("deleted_while_read");
            let room = place.room;
            self.order(now, Order::Missing { conn, room, gap });
        }
    }

    /// What no longer fits comes from the log, once the client has taken what waits: from entry `index` on.
    pub(super) fn falls_behind(&mut self, now: Now, conn: ConnId, index: u64) {
        let session = self.sessions.get_mut(conn);
        let Some(session) = session.filter(|session| !session.is_leaving()) else {
            return;
        };
        let new = || Box::new(CatchUp::new(GapReason::Slow, index));
        session.catch_up.get_or_insert_with(new).is_new_from(index);
        self.read_the_rest(now, conn, ReadWhy::IsBehind);
    }

    /// Tells the members of rooms that were forgotten for want of memory that a new epoch began.
    pub(super) fn tell_evicted(&mut self, now: Now) {
        for room in self.bus.take_evicted() {
            let members = match room {
                RoomId::Task(task) => self.tasks.members(task),
                RoomId::User(user) => self.users.members(user).to_vec(),
            };
            if members.is_empty() || planted!(EvictionUntold) {
                continue;
            }
            sim_reached!("evicted_with_members");
            let (_, frame) = protocol::begins_anew(&self.bus, room);
            for conn in members {
                let session = self.sessions.get_mut(conn);
                let reads = session.is_some_and(|session| {
                    session.is_renumbered |= matches!(room, RoomId::User(_));
                    let catch_up = session.catch_up.as_ref();
                    catch_up.is_some_and(|catch_up| catch_up.reads(room))
                });
                // Who reads the room finds the new epoch there, once.
                if reads {
                    continue;
                }
                let frame = frame.clone();
                self.order(now, Order::Anew { conn, room, frame });
            }
        }
    }

    pub(super) fn wake_subscribers(&mut self, now: Now) {
        while let Some(id) = self.bus.poll() {
            match self.bus_connections.get(&id) {
                Some(&conn) => self.order(now, Order::Again { conn }),
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
            | State::Leaving => None,
        }
    }
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
