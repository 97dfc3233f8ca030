//! The driver: what a real transport does, on virtual time and without bytes.

use super::{Happening, Said, Turn, World};
use crate::handshake::Handshake;
use crate::link::{LinkId, Parcel, Peer};
use crate::observation::Observed;
use crate::received::Received;
use fanfare_core::{
    AuthError, Claims, Delivery, Effect, Input, Open, Principal, Pull, Time, Token, Wall,
};

/// Things that may happen in one millisecond; more means that something goes round in circles.
const HAPPENINGS_MAX: usize = 10_000_000;

impl World {
    pub(super) fn run_until(&mut self, until: Time) {
        while self.go_on(until) {}
        self.agenda.advance_to(until);
    }

    /// Lets time pass until `look` finds what it looks for, at most so long.
    #[track_caller]
    pub(super) fn wait_for<T>(
        &mut self,
        what: &str,
        millis: u64,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        let until = self.agenda.now().plus(millis);
        self.arrive();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if !self.go_on(until) {
                self.fail(what, "none");
            }
        }
    }

    /// Lets the next thing happen. Whether there was one.
    fn go_on(&mut self, until: Time) -> bool {
        let Some((time, turn)) = self.next().filter(|(time, _)| *time <= until) else {
            return false;
        };
        if time > self.agenda.now() {
            self.happened = 0;
        }
        self.happened += 1;
        if self.happened > HAPPENINGS_MAX {
            self.fail("time to go on", "a moment that never ends");
        }
        self.agenda.advance_to(time);
        if turn == Turn::Tick {
            self.feed(Input::Tick);
        } else {
            self.happen();
        }
        true
    }

    /// When and in which turn the next thing happens, the hub's deadlines among them.
    fn next(&self) -> Option<(Time, Turn)> {
        let now = self.agenda.now();
        let tick = self.next_deadline();
        let tick = tick.map(|time| (time.max(now), Turn::Tick));
        self.agenda.next().into_iter().chain(tick).min()
    }

    /// Lets in what arrives at the hub now, and nothing else yet.
    pub(super) fn arrive(&mut self) {
        let now = (self.agenda.now(), Turn::Arrive);
        while self.agenda.next().is_some_and(|next| next <= now) {
            self.happen();
        }
    }

    fn happen(&mut self) {
        match self.agenda.pop() {
            None => {}
            Some(Happening::Open(link, handshake)) => self.open_at_hub(link, &handshake),
            Some(Happening::Said(link, said)) => self.say_to_hub(link, said),
            Some(Happening::Write(link)) => self.write(link),
            Some(Happening::Land(link, written, parcel)) => self.land(link, written, parcel),
            Some(Happening::Store(life, work)) if life == self.life => self.work(work),
            Some(Happening::Cross(life, crossing)) if life == self.life => self.cross(crossing),
            Some(Happening::Store(..) | Happening::Cross(..)) => {}
        }
        self.look_again();
    }

    /// A driver reads no more from a connection while the hub is busy with it.
    fn say_to_hub(&mut self, id: LinkId, said: Said) {
        self.link(id).held.push_back(said);
        self.busy.insert(id);
        self.look_again();
    }

    /// Hands over what was held of the connections that the hub is not busy with any longer.
    fn look_again(&mut self) {
        for id in self.busy.clone() {
            while let Some(said) = self.next_held(id) {
                self.hand_over(id, said);
            }
        }
    }

    fn next_held(&mut self, id: LinkId) -> Option<Said> {
        let ahead = self
            .store
            .as_ref()
            .is_some_and(|it| it.settings.reads_ahead);
        let is_busy = match self.link(id).peer {
            Peer::Connection(conn) => !ahead && self.is_busy(conn),
            Peer::Opening | Peer::Subscription(_) | Peer::Gone => false,
        };
        if is_busy {
            return None;
        }
        let said = self.link(id).held.pop_front();
        if said.is_none() {
            self.busy.remove(&id);
        }
        said
    }

    fn hand_over(&mut self, id: LinkId, said: Said) {
        let Peer::Connection(conn) = self.link(id).peer else {
            return;
        };
        match said {
            Said::Message(text) => self.feed(Input::Message { conn, text }),
            Said::Pong => self.feed(Input::Pong { conn }),
            Said::Fault(fault) => self.feed(Input::Fault { conn, fault }),
            Said::Hangup => {
                self.feed(Input::Closed { conn });
                self.forget(id);
            }
        }
    }

    /// Puts what a client does on its way to the hub, in order.
    pub(super) fn send_to_hub(&mut self, id: LinkId, happening: Happening) {
        let latency = self.random.within(&self.latency_ms);
        let now = self.agenda.now();
        let link = self.link(id);
        link.last_to_hub = link.last_to_hub.max(now.plus(latency));
        let at = link.last_to_hub;
        self.agenda.put(at, Turn::Arrive, happening);
        self.arrive();
    }

    pub(super) fn send_to_client(&mut self, id: LinkId, parcel: Parcel) {
        let latency = self.random.within(&self.latency_ms);
        let now = self.agenda.now();
        let link = self.link(id);
        link.last_to_client = link.last_to_client.max(now.plus(latency));
        let at = link.last_to_client;
        self.agenda
            .put(at, Turn::Write, Happening::Land(id, now, parcel));
    }

    fn open_at_hub(&mut self, id: LinkId, handshake: &Handshake) {
        let now = self.now();
        let claims = handshake.claims(now.wall.as_unix_millis());
        let principal = claims
            .filter(|_| !handshake.token_later)
            .map(|claims| Principal::new(claims, now.wall));
        let principal = match principal.transpose() {
            Ok(principal) => principal,
            Err(error) => self.fail("a token that is good", &error.to_string()),
        };
        let open = Open {
            endpoint: handshake.endpoint.clone(),
            principal,
            device: handshake.device.clone(),
            since: handshake.since.clone(),
        };
        self.digest.debug(&(now, &open));
        let conn = self.open_somewhere(open);
        self.link(id).peer = Peer::Connection(conn);
        self.by_conn.insert(conn, id);
        self.carry_out();
    }

    /// Gives the hub an input, and carries out what it asks for.
    pub(super) fn feed(&mut self, input: Input) {
        let now = self.now();
        if let Input::Fetched {
            result: Ok(fetched),
            ..
        } = &input
        {
            self.digest_rows(fetched);
        } else {
            self.digest.debug(&(now, &input));
        }
        if let Input::Publish { publish, .. } = &input {
            // Its debug form leaves the content out.
            self.digest.bytes(publish.draft.data.as_str().as_bytes());
        }
        self.hand_in(input);
        self.carry_out();
        self.look_again();
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.next_effect() {
            self.digest_effect(&effect);
            match effect {
                Effect::Ready(conn) => {
                    if let Some(id) = self.by_conn.get(&conn).copied() {
                        self.ready(id);
                    }
                }
                Effect::Subscription(id) => {
                    if let Some(id) = self.by_subscription.get(&id).copied() {
                        self.ready(id);
                    }
                }
                Effect::Verify { conn, token } => {
                    let result = verify(&token, self.now().wall);
                    self.feed(Input::Verified { conn, result });
                }
                Effect::Drop(conn) => {
                    if let Some(id) = self.by_conn.get(&conn).copied() {
                        self.forget(id);
                        self.send_to_client(id, Parcel::Cut);
                    }
                }
                Effect::Published { ticket, result } => self.published(ticket, result),
                Effect::Answered { ticket, result } => {
                    self.answered.insert(ticket, result);
                }
                Effect::Commit(changes) => self.commit(changes),
                Effect::Fetch { id, fetches } => self.fetch(id, fetches),
                Effect::Drained => {
                    self.drained = true;
                    self.observe(Observed::Drained);
                }
            }
        }
    }

    fn ready(&mut self, id: LinkId) {
        if std::mem::replace(&mut self.link(id).ready, true) {
            self.fail(
                "`Ready` once until a pull was empty",
                "`Ready` twice for one connection",
            );
        }
        self.schedule_write(id);
    }

    fn schedule_write(&mut self, id: LinkId) {
        let now = self.agenda.now();
        if !std::mem::replace(&mut self.link(id).writing, true) {
            self.agenda.put(now, Turn::Write, Happening::Write(id));
        }
    }

    /// Writes what the hub has for a link, as long as its socket takes it.
    fn write(&mut self, id: LinkId) {
        self.link(id).writing = false;
        while self.link(id).takes_more() {
            let Some(parcel) = self.pull(id) else { return };
            self.link(id).unread_bytes += parcel.bytes();
            let last = matches!(
                parcel,
                Parcel::Close { .. } | Parcel::Delivery(Delivery::Overrun)
            );
            self.send_to_client(id, parcel);
            if last {
                return self.forget(id);
            }
        }
    }

    fn pull(&mut self, id: LinkId) -> Option<Parcel> {
        let parcel = match self.link(id).peer {
            Peer::Connection(conn) => match self.pull_from(conn) {
                Pull::Frame(frame) => Some(Parcel::Frame(frame)),
                Pull::Ping => Some(Parcel::Ping),
                Pull::Close { code, reason } => Some(Parcel::Close { code, reason }),
                Pull::Empty => None,
            },
            Peer::Subscription(subscription) => self
                .hub
                .pull_subscription(subscription)
                .map(Parcel::Delivery),
            Peer::Opening | Peer::Gone => None,
        };
        match &parcel {
            Some(Parcel::Frame(frame)) => self.digest.bytes(frame.wire()),
            other => self.digest.debug(other),
        }
        if parcel.is_none() {
            self.link(id).ready = false;
        }
        // Pulling may have found somebody too slow.
        self.carry_out();
        parcel
    }

    fn forget(&mut self, id: LinkId) {
        match std::mem::replace(&mut self.link(id).peer, Peer::Gone) {
            Peer::Connection(conn) => {
                self.by_conn.remove(&conn);
            }
            Peer::Subscription(subscription) => {
                self.by_subscription.remove(&subscription);
            }
            Peer::Opening | Peer::Gone => {}
        }
    }

    fn land(&mut self, id: LinkId, written: Time, parcel: Parcel) {
        let link = self.link(id);
        if !link.open {
            return;
        }
        link.socket.push_back((written, parcel));
        let client = link.client;
        if self.state(client).reads {
            self.read(id, usize::MAX);
        }
    }

    /// The client reads up to so many of what is in its socket.
    pub(super) fn read(&mut self, id: LinkId, count: usize) {
        for _ in 0..count {
            let link = self.link(id);
            let Some((written, parcel)) = link.socket.pop_front() else {
                break;
            };
            link.unread_bytes -= parcel.bytes();
            self.receive(id, written, parcel);
        }
        let link = self.link(id);
        if link.ready && link.open {
            self.schedule_write(id);
        }
    }

    fn receive(&mut self, id: LinkId, written: Time, parcel: Parcel) {
        let client = self.link(id).client;
        let parsed = match parcel {
            Parcel::Frame(frame) => Received::parse(frame.text()).map_err(|error| (error, frame)),
            Parcel::Ping => Ok(Received::Ping),
            Parcel::Close { code, reason } => Ok(Received::Closed {
                code,
                reason: reason.to_owned(),
            }),
            Parcel::Cut => Ok(Received::Cut),
            Parcel::Delivery(Delivery::Overrun) => Ok(Received::Overrun),
            Parcel::Delivery(Delivery::Entry(entry)) => {
                let frame = entry.encode_all();
                Received::parse(frame.text()).map_err(|error| (error, frame))
            }
            Parcel::Delivery(Delivery::Gap { room, gap }) => Ok(Received::gap(room, &gap)),
        };
        let received = match parsed {
            Ok(received) => received,
            Err((error, frame)) => self.fail(
                "a frame as docs/protocol.md has it",
                &format!("{error}: {}", frame.text()),
            ),
        };
        match &received {
            Received::Ping => {
                let state = self.state_mut(client);
                state.pings += 1;
                if state.answers_pings {
                    self.send_to_hub(id, Happening::Said(id, Said::Pong));
                }
            }
            Received::Closed { .. } | Received::Cut | Received::Overrun => {
                self.link(id).open = false;
            }
            Received::Event(_) | Received::System { .. } => {}
        }
        let state = self.state_mut(client);
        state.follow(&received);
        if received != Received::Ping {
            state.inbox.push_back(received.clone());
        }
        self.observe(Observed::Received {
            client,
            written,
            received,
        });
    }
}

/// Pretends to check a signature: a token of this world is its claims.
fn verify(token: &Token, now: Wall) -> Result<Principal, AuthError> {
    let claims: Claims = serde_json::from_str(token.expose()).map_err(|_| AuthError::BadToken)?;
    Principal::new(claims, now)
}
