//! What clients ask for, op by op.

use super::{Effect, Hub};
use crate::auth::{AuthError, Principal};
use crate::bus::Read;
use crate::close::CloseCode;
use crate::error::Error;
use crate::event::{Draft, Publish, Target};
use crate::heartbeat::Heartbeat;
use crate::ids::{ConnId, Epoch, Position, RoomId, Seq};
use crate::protocol::{self, LeftReason, Message, Op, Ref, Returned, Token};
use crate::rate::Verdict;
use crate::session::{Live, State};
use crate::time::Now;

impl Hub {
    pub(super) fn heard(&mut self, now: Now, conn: ConnId) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.heartbeat = Heartbeat::Heard(now.time);
        }
    }

    pub(super) fn ping(&mut self, now: Now, conn: ConnId) {
        self.heard(now, conn);
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
        self.heard(now, conn);
        // One that comes too fast is read too: whoever waits for the answer to its `ref` must get one. Soon it is closed.
        let Message { reference, op } = Message::parse(text);
        match self.verdict(now, conn) {
            Verdict::Pass => {}
            Verdict::Refuse => {
                let refused = Err(Error::RateLimited(self.limits.messages_per_second));
                return self.say(now, conn, protocol::reply(reference.as_ref(), &refused));
            }
            Verdict::Close => return self.close(now, conn, CloseCode::TOO_MANY_MESSAGES),
        }
        let result = match op {
            Err(error) => Err(error),
            // Answered when the driver has checked the token.
            Ok(Op::Auth { token }) => match self.auth(conn, token, reference.clone()) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Ok(op) => self.op(now, conn, op),
        };
        self.reply(now, conn, reference.as_ref(), &result);
    }

    /// Answers a message that had a `ref`, or that was refused. Too many of the latter close the connection.
    fn reply(
        &mut self,
        now: Now,
        conn: ConnId,
        reference: Option<&Ref>,
        result: &Result<Returned, Error>,
    ) {
        if reference.is_some() || result.is_err() {
            self.say(now, conn, protocol::reply(reference, result));
        }
        let counts = matches!(result, Err(error) if !matches!(error, Error::Draining));
        if let Some(session) = self.sessions.get_mut(conn).filter(|_| counts)
            && session.rate.error(now.time, &self.limits)
        {
            self.close(now, conn, CloseCode::TOO_MANY_ERRORS);
        }
    }

    fn op(&mut self, now: Now, conn: ConnId, op: Op) -> Result<Returned, Error> {
        let Some(session) = self.sessions.get(conn) else {
            return Ok(Returned::default());
        };
        match &session.state {
            State::Live(_) => {}
            State::Bus(_) if op == Op::Ping => return Ok(Returned::default()),
            State::Bus(_) => {
                return Err(Error::Forbidden("the bus only listens: publish over HTTP"));
            }
            State::Unauthenticated { .. } | State::Verifying { .. } | State::Leaving { .. } => {
                return Err(Error::Unauthenticated);
            }
        }
        match op {
            Op::Ping | Op::Auth { .. } => Ok(Returned::default()),
            Op::Join { room, since } => {
                let standing = self.join(now, conn, room, since.as_ref())?;
                Ok(Returned {
                    room: Some(room),
                    epoch: Some(standing.epoch),
                    seq: Some(standing.seq),
                    ..Returned::default()
                })
            }
            Op::Leave { room } => self.leave_room(now, conn, room),
            Op::Send { room, draft } => self.send(now, conn, room, draft),
            Op::Ack { epoch, seq } => self.ack(now, conn, epoch.as_ref(), seq),
            Op::Read(read) => self.read(now, conn, &read),
        }
    }

    fn leave_room(&mut self, now: Now, conn: ConnId, room: RoomId) -> Result<Returned, Error> {
        let RoomId::Task(task) = room else {
            return Err(Error::Forbidden(
                "a user's own room is left by closing the connection",
            ));
        };
        if !self.leave(conn, task) {
            return Err(Error::NotJoined(room));
        }
        self.say(now, conn, protocol::left(room, LeftReason::Asked));
        Ok(Returned {
            room: Some(room),
            ..Returned::default()
        })
    }

    fn send(
        &mut self,
        now: Now,
        conn: ConnId,
        room: RoomId,
        draft: Draft,
    ) -> Result<Returned, Error> {
        let RoomId::Task(task) = room else {
            return Err(Error::Forbidden("clients send to rooms of tasks only"));
        };
        if !self.tasks.contains(task, conn) {
            return Err(Error::NotJoined(room));
        }
        let principal = self
            .sessions
            .get(conn)
            .and_then(|session| session.principal());
        let Some(user) = principal
            .filter(|principal| principal.may_send(&draft.kind))
            .map(Principal::user)
        else {
            return Err(Error::Forbidden(
                "your token does not allow this event type",
            ));
        };
        let target = Target::Task {
            task,
            users: Vec::new(),
        };
        let receipt = self.publish(now, Some(user), Publish { target, draft })?;
        Ok(Returned {
            id: Some(receipt.id().clone()),
            duplicate: receipt.duplicate().then_some(true),
            seq: receipt.rooms().first().map(|room| room.seq),
            ..Returned::default()
        })
    }

    /// Moves the cursor of the connection's device.
    fn ack(
        &mut self,
        now: Now,
        conn: ConnId,
        named: Option<&Epoch>,
        seq: Seq,
    ) -> Result<Returned, Error> {
        const NO_DEVICE: Error =
            Error::Forbidden("`ack` is a device's: connect with `?device=` and a name for it");
        let Some(session) = self.sessions.get(conn) else {
            return Ok(Returned::default());
        };
        let (Some(user), Some(device)) = (session.user(), session.device.clone()) else {
            return Err(NO_DEVICE);
        };
        let head = self.bus.position(user.into());
        if named.is_some_and(|named| *named != head.epoch) {
            return Err(Error::BadRequest(format!(
                "`ack` names another epoch than the room's, which is {}",
                head.epoch
            )));
        }
        let reads = session.catch_up.as_ref();
        let sent = reads
            .and_then(|catch_up| catch_up.position(user.into()))
            .unwrap_or(head.seq);
        let devices = &self.devices;
        let Position { epoch, seq } = self.bus.ack(now.wall, user, &device, seq, sent, devices)?;
        Ok(Returned {
            epoch: Some(epoch),
            seq: Some(seq),
            ..Returned::default()
        })
    }

    fn read(&mut self, now: Now, conn: ConnId, read: &Read) -> Result<Returned, Error> {
        let Some(user) = self.sessions.get(conn).and_then(|session| session.user()) else {
            return Ok(Returned::default());
        };
        if self.draining.is_some() {
            return Err(Error::Draining);
        }
        let users = &self.users;
        let connected = |room: RoomId| match room {
            RoomId::User(user) => users.members(user).len(),
            RoomId::Task(_) => 0,
        };
        let told = self.bus.read(now, user, read, connected)?;
        let told = told.map(|prepared| self.bus.apply(prepared));
        let seq = told.as_ref().and_then(|told| told.receipt.rooms().first());
        let returned = Returned {
            seq: seq.map(|room| room.seq),
            unread: Some(self.bus.unread(user)),
            ..Returned::default()
        };
        if let Some(entry) = told.and_then(|told| told.entry) {
            self.told(now, &entry);
        }
        Ok(returned)
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
            State::Bus(_) | State::Leaving { .. } => {
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
            State::Unauthenticated { .. } | State::Bus(_) | State::Leaving { .. } => return,
        };
        let principal = match result {
            Ok(principal) => principal,
            Err(AuthError::TaskNotNamed) => return self.close(now, conn, CloseCode::NOT_ALLOWED),
            Err(AuthError::BadToken | AuthError::Expired | AuthError::NotYet) => {
                return self.close(now, conn, CloseCode::BAD_TOKEN);
            }
        };
        let expires_at = Some(principal.expires_at());
        if first {
            self.admit(now, conn, principal);
        } else if session.user() == Some(principal.user()) {
            self.refresh(now, conn, principal);
        } else {
            return self.close(now, conn, CloseCode::BAD_TOKEN);
        }
        if self
            .sessions
            .get(conn)
            .is_some_and(|session| session.user().is_some())
        {
            let returned = Returned {
                expires_at,
                ..Returned::default()
            };
            self.reply(now, conn, reference.as_ref(), &Ok(returned));
            self.reschedule(conn);
        }
    }

    /// Puts a new token in the place of the one that runs out. Rooms that it does not name are left.
    fn refresh(&mut self, now: Now, conn: ConnId, principal: Principal) {
        let joined: Vec<_> = self.tasks.rooms_of(conn).collect();
        for task in joined.into_iter().filter(|task| !principal.may_join(*task)) {
            self.leave(conn, task);
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
