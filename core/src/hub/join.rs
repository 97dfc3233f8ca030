//! How a connection comes into rooms: its position and the task's snapshot are of the same moment as its first live event.

use super::Hub;
use crate::auth::Principal;
use crate::catch_up::CatchUp;
use crate::close::CloseCode;
use crate::error::Error;
use crate::ids::{ConnId, Position, RoomId, Seq, TaskId};
use crate::outlet::{Order, ReadWhy};
use crate::protocol::{self, Standing, Welcome};
use crate::room_log::{Gap, GapReason, Resume};
use crate::session::{Endpoint, Live, State};
use crate::sim_reached;
use crate::time::Now;
use std::collections::BTreeMap;

/// What a room has for who enters it.
pub(super) struct Entrance {
    pub(super) standing: Standing,
    gap: Option<Gap>,
    /// Where to read on, if there is something to read.
    read_after: Option<Seq>,
}

impl Hub {
    /// Lets a connection in whose token is good: into its rooms, with `system:welcome`.
    pub(super) fn admit(&mut self, now: Now, conn: ConnId, principal: Principal) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let user = principal.user();
        let task = match session.endpoint {
            Endpoint::Task(task) => Some(task),
            Endpoint::Notifications | Endpoint::Bus(_) => None,
        };
        if task.is_some_and(|task| !principal.may_join(task)) {
            sim_reached!("open_not_allowed");
            return self.close(now, conn, CloseCode::NOT_ALLOWED);
        }
        if task.is_some_and(|task| self.bus.is_gone(now.wall, task)) {
            sim_reached!("open_deleted_task");
            return self.close(now, conn, CloseCode::BAD_REQUEST);
        }
        // It was good when it came. Its rooms were read since, or it was on its way from another thread.
        if principal.expires_at() <= now.wall && !planted!(TokenNeverEnds) {
            sim_reached!("token_ended_on_the_way");
            return self.close(now, conn, CloseCode::TOKEN_EXPIRED);
        }
        if self.users.members(user).len() >= self.limits.connections_per_user {
            sim_reached!("open_too_many");
            return self.close(now, conn, CloseCode::TOO_MANY_CONNECTIONS);
        }
        let expires_at = principal.expires_at();
        let since = std::mem::take(&mut session.since);
        let device = session.device.clone();
        session.state = State::Live(Box::new(Live::new(now, principal)));
        let rooms = task
            .map(RoomId::Task)
            .into_iter()
            .chain([RoomId::User(user)]);
        let entrances: Vec<(RoomId, Entrance)> = rooms
            .map(|room| {
                let named = since.iter().find(|(named, _)| *named == room);
                let named = named.map(|(_, since)| self.bus.resume(now.wall, room, since));
                let resume = match (room, &device) {
                    (RoomId::User(user), Some(device)) => {
                        // The device is known from now on, also where the client names a position of its own.
                        let cursor = self.bus.arrive(now.wall, user, device, &self.devices);
                        named.or_else(|| {
                            let cursor =
                                cursor.as_ref().filter(|_| !planted!(DeviceBeginsAtHead))?;
                            sim_reached!("device_resumes_by_its_cursor");
                            Some(self.bus.resume_device(now.wall, user, cursor))
                        })
                    }
                    (RoomId::User(_) | RoomId::Task(_), _) => named,
                };
                (room, self.enter(now, conn, room, resume))
            })
            .collect();
        self.devices.connect(user, device.clone());
        let standing = |(room, entrance): &(RoomId, Entrance)| (*room, entrance.standing.clone());
        let welcome = Welcome {
            conn: conn.to_string(),
            user: user.into(),
            device: device.as_ref(),
            heartbeat_ms: self.limits.heartbeat_ms,
            max_message_bytes: self.limits.message_bytes,
            expires_at,
            inbox: protocol::Inbox {
                unread: self.bus.unread(user),
            },
            rooms: entrances.iter().map(standing).collect::<BTreeMap<_, _>>(),
        };
        self.say(now, conn, protocol::welcome(&welcome));
        for (room, entrance) in entrances {
            self.catch_up(now, conn, room, &entrance);
        }
        self.read_the_rest(now, conn, ReadWhy::Resumes);
    }

    /// Lets a connection into one more task's room, with `system:joined`.
    ///
    /// # Errors
    /// [`Error::Forbidden`] in the same words whether the room exists or not; [`Error::Gone`]; [`Error::TooManyRooms`].
    pub(super) fn join(
        &mut self,
        now: Now,
        conn: ConnId,
        room: RoomId,
        since: Option<&Position>,
    ) -> Result<Standing, Error> {
        const FORBIDDEN: Error = Error::Forbidden("your token does not name this room");
        let principal = self
            .sessions
            .get(conn)
            .and_then(|session| session.principal());
        let RoomId::Task(task) = room else {
            return Err(FORBIDDEN);
        };
        if !principal.is_some_and(|principal| principal.may_join(task)) {
            return Err(FORBIDDEN);
        }
        if self.bus.is_gone(now.wall, task) {
            sim_reached!("join_deleted_task");
            return Err(Error::Gone(task));
        }
        let joined = self.tasks.contains(task, conn);
        // The user's own room is one of them.
        let rooms = self.tasks.rooms_of(conn).count() + 1;
        if !joined && rooms >= self.limits.rooms_per_connection {
            sim_reached!("join_too_many");
            return Err(Error::TooManyRooms(self.limits.rooms_per_connection));
        }
        let since = since.filter(|_| !joined);
        let resume = since.map(|since| self.bus.resume(now.wall, room, since));
        let entrance = self.enter(now, conn, room, resume);
        self.say(now, conn, protocol::joined(room, &entrance.standing));
        self.catch_up(now, conn, room, &entrance);
        self.read_the_rest(now, conn, ReadWhy::Resumes);
        Ok(entrance.standing)
    }

    fn enter(&mut self, now: Now, conn: ConnId, room: RoomId, resume: Option<Resume>) -> Entrance {
        match room {
            RoomId::Task(task) => self.watch(now, task, conn),
            RoomId::User(user) => {
                self.users.join(user, conn);
            }
        }
        let position = self.bus.position(room);
        let (recovered, gap, after) = match resume {
            None => (None, None, None),
            Some(Resume::Complete { after }) => (Some(true), None, Some(after)),
            Some(Resume::Gap { gap, after }) => (Some(false), Some(gap), Some(after)),
        };
        Entrance {
            gap,
            read_after: after.filter(|after| *after < position.seq),
            standing: Standing {
                epoch: position.epoch,
                seq: position.seq,
                recovered,
                state: self.state(now, room),
            },
        }
    }

    fn state(&self, now: Now, room: RoomId) -> Option<crate::tasks::Snapshot> {
        match room {
            RoomId::Task(task) if planted!(SnapshotBehind) => {
                let snapshot = self.bus.snapshot(now.wall, task);
                let is_started = snapshot.status == crate::lifecycle::Status::Started;
                let before = is_started.then_some(crate::lifecycle::Status::Created);
                Some(crate::tasks::Snapshot {
                    status: before.unwrap_or(snapshot.status),
                    ..snapshot
                })
            }
            RoomId::Task(task) => Some(self.bus.snapshot(now.wall, task)),
            RoomId::User(_) => None,
        }
    }

    /// Says what is missing, and reads what is there.
    fn catch_up(&mut self, now: Now, conn: ConnId, room: RoomId, entrance: &Entrance) {
        if let Some(gap) = entrance.gap.as_ref().filter(|_| !planted!(GapUntold)) {
            sim_reached!("gap_on_entering");
            self.say(now, conn, protocol::gap(room, gap));
        }
        let (Some(after), Some(session)) = (entrance.read_after, self.sessions.get_mut(conn))
        else {
            return;
        };
        if session.is_leaving() {
            return;
        }
        let new_from = self.bus.next_index();
        let new = || Box::new(CatchUp::new(GapReason::Trimmed, new_from));
        let catch_up = session.catch_up.get_or_insert_with(new);
        catch_up.read(room, entrance.standing.epoch.clone(), after);
    }

    /// As long as one room of a connection is read from the log, all are: an event that comes through two of them would
    /// come twice otherwise. Those that are not read yet are read from here on.
    pub(super) fn read_the_rest(&mut self, now: Now, conn: ConnId, why: ReadWhy) {
        let user = self.users.rooms_of(conn).map(RoomId::User);
        let tasks = self.tasks.rooms_of(conn).map(RoomId::Task);
        let rooms: Vec<RoomId> = tasks.chain(user).collect();
        let session = self.sessions.get_mut(conn);
        let Some(catch_up) = session.and_then(|session| session.catch_up.as_mut()) else {
            return;
        };
        for room in rooms {
            if !catch_up.reads(room) {
                let Position { epoch, seq } = self.bus.position(room);
                catch_up.read_on(room, epoch, seq);
            }
        }
        self.order(now, Order::Read { conn, why });
    }

    /// Takes a connection out of a task's room; its reading of that room ends too.
    pub(super) fn leave(&mut self, now: Now, conn: ConnId, task: TaskId) -> bool {
        if let Some(catch_up) = self
            .sessions
            .get_mut(conn)
            .and_then(|session| session.catch_up.as_mut())
        {
            sim_reached!("left_while_reading");
            catch_up.stop(task.into());
        }
        if planted!(LeaveKeepsMember) {
            return self.tasks.contains(task, conn);
        }
        self.unwatch(now, task, conn)
    }
}
