//! What clients ask for, op by op.

use super::jobs::{Job, Origin};
use super::{Effect, Hub};
use crate::auth::{AuthError, Principal};
use crate::bus::{Prepared, Read};
use crate::close::CloseCode;
use crate::error::Error;
use crate::event::{Draft, Publish};
use crate::ids::{ConnId, DeviceId, Epoch, Position, RoomId, Seq, UserId};
use crate::outlet::Order;
use crate::protocol::{self, LeftReason, Message, Op, Ref, Returned, Token};
use crate::rate::Verdict;
use crate::retries::Stored;
use crate::session::{Live, State};
use crate::sim_reached;
use crate::time::Now;

impl Hub {
    pub(super) fn ping(&mut self, now: Now, conn: ConnId) {
        if self.verdict(now, conn) == Verdict::Close {
            self.close(now, conn, CloseCode::TOO_MANY_MESSAGES);
        }
    }

    fn verdict(&mut self, now: Now, conn: ConnId) -> Verdict {
        let session = self.sessions.get_mut(conn);
        session.map_or(Verdict::Refuse, |session| {
            session.rate.message(now.time, &self.limits)
        })
    }

    pub(super) fn message(&mut self, now: Now, conn: ConnId, text: &str) {
        if self
            .sessions
            .get(conn)
            .is_none_or(|session| session.is_leaving())
        {
            return;
        }
        if let Some(session) = self.sessions.get_mut(conn).filter(|session| session.busy) {
            let bytes: usize = session.held.iter().map(String::len).sum();
            let is_full = bytes + text.len() > self.limits.outbox_bytes
                || session.held.len() >= self.limits.messages_burst as usize;
            // One of any length that may be is held: whoever reads no further then is never closed for it.
            if is_full && !session.held.is_empty() {
                sim_reached!("held_too_many");
                return self.close(now, conn, CloseCode::TOO_MANY_MESSAGES);
            }
            sim_reached!("message_held");
            return session.held.push_back(text.to_owned());
        }
        if conn.outlet() > 0 {
            self.order(now, Order::Handled { conn });
        }
        // One that comes too fast is read too: whoever waits for the answer to its `ref` must get one. Soon it is closed.
        let Message { reference, op } = Message::parse(text);
        match self.verdict(now, conn) {
            Verdict::Pass => {}
            Verdict::Refuse => {
                sim_reached!("rate_refused");
                let refused = Err(Error::RateLimited(self.limits.messages_per_second));
                return self.say(now, conn, protocol::reply(reference.as_ref(), &refused));
            }
            Verdict::Close => {
                sim_reached!("rate_closed");
                return self.close(now, conn, CloseCode::TOO_MANY_MESSAGES);
            }
        }
        let error = match op {
            Err(error) => error,
            // Answered when the driver has checked the token.
            Ok(Op::Auth { token }) => match self.auth(conn, token, reference.clone()) {
                Ok(()) => return,
                Err(error) => error,
            },
            Ok(op) => {
                return self.run(
                    now,
                    Job::Op {
                        conn,
                        reference,
                        op,
                    },
                );
            }
        };
        self.reply(now, conn, reference.as_ref(), &Err(error));
    }

    /// Answers a message that had a `ref`, or that was refused. Too many of the latter close the connection.
    pub(super) fn reply(
        &mut self,
        now: Now,
        conn: ConnId,
        reference: Option<&Ref>,
        result: &Result<Returned, Error>,
    ) {
        if reference.is_some() || result.is_err() {
            self.say(now, conn, protocol::reply(reference, result));
        }
        // What the server could not do is not the client's fault.
        let counts = matches!(result, Err(error) if !matches!(
            error,
            Error::Draining | Error::StoreFull | Error::Unavailable(_)
        ));
        if let Some(session) = self.sessions.get_mut(conn).filter(|_| counts)
            && session.rate.error(now.time, &self.limits)
        {
            sim_reached!("errors_closed");
            self.close(now, conn, CloseCode::TOO_MANY_ERRORS);
        }
    }

    /// Does what a client asks for; `None` where the answer comes later.
    pub(super) fn op(
        &mut self,
        now: Now,
        conn: ConnId,
        reference: Option<&Ref>,
        op: Op,
        stored: Option<&Stored>,
    ) -> Result<Option<Returned>, Error> {
        let Some(session) = self.sessions.get(conn) else {
            return Ok(None);
        };
        match &session.state {
            State::Live(_) => {}
            State::Bus(_) if op == Op::Ping => return Ok(Some(Returned::default())),
            State::Bus(_) => {
                return Err(Error::Forbidden("the bus only listens: publish over HTTP"));
            }
            State::Leaving => return Ok(None),
            State::Unauthenticated { .. } | State::Verifying { .. } | State::Arriving { .. } => {
                return Err(Error::Unauthenticated);
            }
        }
        match op {
            Op::Ping if planted!(PingsUnanswered) => Ok(None),
            Op::Ping | Op::Auth { .. } => Ok(Some(Returned::default())),
            Op::Join { room, since } => {
                let standing = self.join(now, conn, room, since.as_ref())?;
                if planted!(JoinAnsweredTwice) {
                    self.reply(now, conn, reference, &Ok(Returned::default()));
                }
                Ok(Some(Returned {
                    room: Some(room),
                    epoch: Some(standing.epoch),
                    seq: Some(standing.seq),
                    ..Returned::default()
                }))
            }
            Op::Leave { room } => self.leave_room(now, conn, room).map(Some),
            Op::Send { room, draft } => {
                let user = self.may_send(conn, room, &draft)?;
                let target = Some(room).into();
                let reference = reference.cloned();
                let origin = Origin::Client {
                    conn,
                    reference,
                    user,
                };
                self.stage(now, origin, Publish { target, draft }, stored, false);
                Ok(None)
            }
            Op::Ack { epoch, seq } => {
                let (user, device) = self.ack(conn, epoch.as_ref(), seq)?;
                if self.work.is_some() {
                    self.stage_ack(now, conn, reference.cloned(), (user, device, seq));
                    return Ok(None);
                }
                let returned = self.ack_is_known(now, user, &device, seq);
                Ok(Some(returned).filter(|_| !planted!(AckUnanswered)))
            }
            Op::Read { epoch, read } => self.read(now, conn, reference, epoch.as_ref(), &read),
        }
    }

    fn leave_room(&mut self, now: Now, conn: ConnId, room: RoomId) -> Result<Returned, Error> {
        let RoomId::Task(task) = room else {
            return Err(Error::Forbidden(
                "a user's own room is left by closing the connection",
            ));
        };
        if !self.leave(now, conn, task) {
            return Err(Error::NotJoined(room));
        }
        self.say(now, conn, protocol::left(room, LeftReason::Asked));
        Ok(Returned {
            room: Some(room),
            ..Returned::default()
        })
    }

    /// The user who sends, where that may be.
    fn may_send(&self, conn: ConnId, room: RoomId, draft: &Draft) -> Result<UserId, Error> {
        let RoomId::Task(task) = room else {
            return Err(Error::Forbidden("clients send to rooms of tasks only"));
        };
        if !self.tasks.contains(task, conn) {
            sim_reached!("send_not_joined");
            return Err(Error::NotJoined(room));
        }
        let principal = self
            .sessions
            .get(conn)
            .and_then(|session| session.principal());
        principal
            .filter(|principal| principal.may_send(&draft.kind))
            .map(Principal::user)
            .ok_or(Error::Forbidden(
                "your token does not allow this event type",
            ))
    }

    /// Whether the connection's device may acknowledge `seq`; whose device it is.
    fn ack(
        &mut self,
        conn: ConnId,
        named: Option<&Epoch>,
        seq: Seq,
    ) -> Result<(UserId, DeviceId), Error> {
        const NO_DEVICE: Error =
            Error::Forbidden("`ack` is a device's: connect with `?device=` and a name for it");
        let session = self.sessions.get(conn);
        let device = session.and_then(|session| Some((session.user()?, session.device.clone()?)));
        let (user, device) = device.ok_or(NO_DEVICE)?;
        let head = self.bus.position(user.into());
        self.check_epoch("ack", conn, named, &head.epoch)?;
        let reads = session.and_then(|session| session.catch_up.as_ref());
        let sent = reads
            .and_then(|catch_up| catch_up.position(user.into()))
            .unwrap_or(head.seq);
        self.bus.ack(user, &device, seq, sent)?;
        Ok((user, device))
    }

    /// Numbers of another epoch than the room's name other events. Those without an epoch are of the room's, unless that has begun
    /// anew since the connection came.
    fn check_epoch(
        &self,
        op: &str,
        conn: ConnId,
        named: Option<&Epoch>,
        epoch: &Epoch,
    ) -> Result<(), Error> {
        let session = self.sessions.get(conn);
        let is_clear = !session.is_some_and(|session| session.is_renumbered);
        let problem = match named {
            Some(named) if named == epoch => return Ok(()),
            None if is_clear => return Ok(()),
            Some(_) => "another epoch than the room's, which is",
            None => {
                "no epoch, and the room began anew since this connection came: say which numbers are meant; the epoch is now"
            }
        };
        Err(Error::BadRequest(format!("`{op}` names {problem} {epoch}")))
    }

    /// Moves the device's cursor; what its client is answered.
    pub(super) fn ack_is_known(
        &mut self,
        now: Now,
        user: UserId,
        device: &DeviceId,
        seq: Seq,
    ) -> Returned {
        let Position { epoch, seq } = self.bus.acked(now.wall, user, device, seq, &self.devices);
        Returned {
            epoch: Some(epoch),
            seq: Some(seq),
            ..Returned::default()
        }
    }

    fn read(
        &mut self,
        now: Now,
        conn: ConnId,
        reference: Option<&Ref>,
        named: Option<&Epoch>,
        read: &Read,
    ) -> Result<Option<Returned>, Error> {
        let Some(user) = self.sessions.get(conn).and_then(|session| session.user()) else {
            return Ok(None);
        };
        let epoch = self.bus.position(user.into()).epoch;
        // Ids are the same in every epoch.
        if named.is_some() || matches!(read, Read::UpTo(_)) {
            self.check_epoch("read", conn, named, &epoch)?;
        }
        let users = &self.users;
        let connected = |room: RoomId| match room {
            RoomId::User(user) => users.members(user).len(),
            RoomId::Task(_) => 0,
        };
        let Some(prepared) = self.bus.read(now, user, read, connected)? else {
            sim_reached!("read_again");
            return Ok(Some(Returned {
                unread: Some(self.bus.unread(user)),
                ..Returned::default()
            }));
        };
        if self.work.is_some() {
            self.stage_read(now, (conn, user), reference.cloned(), prepared);
            return Ok(None);
        }
        Ok(Some(self.read_is_known(now, user, prepared)))
    }

    /// Without a store: gives up the inboxes of those who were idle longest, where all of them are too large. Who is there is
    /// told that nothing is unread any more.
    pub(super) fn forget_inboxes(&mut self, now: Now) {
        while let Some(user) = self.bus.idle_inbox() {
            let members = self.users.members(user).len();
            let all = Read::UpTo(self.bus.position(user.into()).seq);
            if members > 0
                && let Ok(Some(prepared)) = self.bus.read(now, user, &all, |_| members)
            {
                self.read_is_known(now, user, prepared);
            }
            sim_reached!("inbox_forgotten");
            self.bus.forget_inbox(user);
        }
    }

    /// The user's devices are told what was read; what its reader is answered.
    pub(super) fn read_is_known(&mut self, now: Now, user: UserId, prepared: Prepared) -> Returned {
        let told = self.bus.apply(prepared);
        let returned = Returned {
            seq: told.receipt.rooms().first().map(|room| room.seq),
            unread: Some(self.bus.unread(user)),
            ..Returned::default()
        };
        if let Some(entry) = told.entry.filter(|_| !planted!(ReadUntold)) {
            self.told(now, &entry);
        }
        returned
    }

    /// Hands a token to the driver to be checked.
    fn auth(&mut self, conn: ConnId, token: Token, reference: Option<Ref>) -> Result<(), Error> {
        const ONE_AT_A_TIME: Error = Error::Forbidden("another token is being checked");
        let Some(session) = self.sessions.get_mut(conn) else {
            return Ok(());
        };
        match &mut session.state {
            State::Unauthenticated { until } => {
                session.state = State::Verifying {
                    until: *until,
                    reference,
                };
            }
            State::Live(live) if live.refreshing.is_none() => live.refreshing = Some(reference),
            State::Live(_) | State::Verifying { .. } => return Err(ONE_AT_A_TIME),
            State::Arriving { .. } | State::Bus(_) | State::Leaving => {
                return Err(Error::Forbidden(
                    "the bus takes no token: it was opened with a key",
                ));
            }
        }
        self.effects.push_back(Effect::Verify { conn, token });
        Ok(())
    }

    pub(super) fn verified(
        &mut self,
        now: Now,
        conn: ConnId,
        result: Result<Principal, AuthError>,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let (first, reference) = match &mut session.state {
            State::Verifying { reference, .. } => (true, reference.take()),
            State::Live(live) => match live.refreshing.take() {
                Some(reference) => (false, reference),
                None => return,
            },
            State::Unauthenticated { .. }
            | State::Arriving { .. }
            | State::Bus(_)
            | State::Leaving => return,
        };
        let principal = match result {
            Ok(principal) => principal,
            Err(AuthError::TaskNotNamed) => return self.close(now, conn, CloseCode::NOT_ALLOWED),
            Err(AuthError::BadToken | AuthError::Expired | AuthError::NotYet) => {
                sim_reached!("auth_bad_token");
                return self.close(now, conn, CloseCode::BAD_TOKEN);
            }
        };
        if first {
            sim_reached!("auth_by_message");
            let principal = Box::new(principal);
            let reference = Some(reference);
            self.run(
                now,
                Job::Admit {
                    conn,
                    principal,
                    reference,
                },
            );
        } else if session.user() == Some(principal.user()) || planted!(StrangerTaken) {
            sim_reached!("auth_refresh");
            self.refresh(now, conn, principal);
            self.admitted(now, conn, Some(reference));
        } else {
            sim_reached!("auth_other_user");
            self.close(now, conn, CloseCode::BAD_TOKEN);
        }
    }

    /// Answers the message that brought the token, if one did.
    pub(super) fn admitted(&mut self, now: Now, conn: ConnId, reference: Option<Option<Ref>>) {
        let principal = self
            .sessions
            .get(conn)
            .and_then(|session| session.principal());
        if let (Some(principal), Some(reference)) = (principal, reference) {
            let returned = Returned {
                expires_at: Some(principal.expires_at()),
                ..Returned::default()
            };
            self.reply(now, conn, reference.as_ref(), &Ok(returned));
        }
        self.reschedule(conn);
    }

    /// Puts a new token in the place of the one that runs out. Rooms that it does not name are left.
    fn refresh(&mut self, now: Now, conn: ConnId, principal: Principal) {
        let joined: Vec<_> = self.tasks.rooms_of(conn).collect();
        let lost =
            |task: &crate::ids::TaskId| !planted!(RenewalKeepsRooms) && !principal.may_join(*task);
        for task in joined.into_iter().filter(lost) {
            sim_reached!("refresh_loses_a_room");
            self.leave(now, conn, task);
            self.say(
                now,
                conn,
                protocol::left(task.into(), LeftReason::Forbidden),
            );
        }
        if let Some(session) = self
            .sessions
            .get_mut(conn)
            .filter(|session| !session.is_leaving())
        {
            session.state = State::Live(Box::new(Live::new(now, principal)));
        }
    }
}
