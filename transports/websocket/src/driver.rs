//! What a shard does with its hub: carries out its effects, writes its sockets, keeps its time.

mod storage;
mod writing;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use fanfare_core::{
    Answer, AuthError, ConnId, Effect, Error, Input, Now, Principal, Receipt, StoreFailure,
    SubscriptionId, Ticket, Time, Token, sim_reached,
};
use futures::FutureExt;
use futures::channel::oneshot;
use smol::LocalExecutor;
use smol::future::or;

use crate::engine::Engine;
use crate::outlet::{Link, Shared, Up, Uplink};
use crate::socket::{Phase, Socket};
use crate::throttle::Throttle;
use crate::writer::{Chunk, Outgoing, Writable};
use crate::{Counters, Passes, Platform, SocketLimits, Storage};

/// Says who a token's bearer is.
pub(crate) type Verify = Box<dyn Fn(&Token, Now) -> Result<Principal, AuthError>>;

/// Why a socket is looked after at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A message was begun.
    Message,
    /// It is closing.
    Linger,
}

/// Everything that the handles to one shard share.
pub(crate) struct Driver<P: Platform> {
    /// For tasks that it spawns.
    pub(crate) this: Weak<Self>,
    pub(crate) platform: P,
    pub(crate) limits: SocketLimits,
    /// Weak, since the executor owns tasks that own this.
    pub(crate) executor: Weak<LocalExecutor<'static>>,
    pub(crate) verify: Verify,
    /// Where the hub's log is kept; none where it is in memory.
    pub(crate) storage: Option<Rc<dyn Storage>>,
    pub(crate) writable: Arc<Writable>,
    pub(crate) state: RefCell<State<P::Stream>>,
    pub(crate) tickets: Cell<u64>,
    /// To the shards of outlets, by their numbers but one.
    pub(crate) links: RefCell<Vec<Link<P>>>,
}

/// What is borrowed while something is done, and never while something is waited for.
pub(crate) struct State<S> {
    pub(crate) engine: Engine,
    /// Of an outlet's shard.
    pub(crate) uplink: Option<Uplink>,
    /// What the shards of outlets say of themselves.
    pub(crate) outlets: Vec<Arc<Shared>>,
    /// Who waits until no outlet is far behind, and is told that it may go on; first come, first served.
    pub(crate) behind: VecDeque<(Rc<Cell<bool>>, Waker)>,
    /// By slot: the sockets of which the hub knows.
    open: Vec<Option<Rc<Socket<S>>>>,
    /// Those that it has forgotten, until their last bytes are written and taken.
    closing: BTreeMap<ConnId, Rc<Socket<S>>>,
    pub(crate) sockets: usize,
    /// Those of them that came while it drained.
    late: usize,
    /// HTTP requests that were not answered yet.
    pub(crate) requests: usize,
    /// To be written.
    ready: Vec<Rc<Socket<S>>>,
    /// Room for what leaves the hub and is written at once.
    outgoing: Outgoing,
    pub(crate) publishes: BTreeMap<Ticket, oneshot::Sender<Result<Receipt, Error>>>,
    pub(crate) queries: BTreeMap<Ticket, oneshot::Sender<Result<Answer, Error>>>,
    /// Commits that the storage has not answered.
    pub(crate) commits: usize,
    /// Readers that wait until the hub takes their connection's next message.
    busy: BTreeMap<ConnId, Waker>,
    /// Whether the storage has answered since they were looked at.
    look_again: bool,
    pub(crate) subscribers: BTreeMap<SubscriptionId, Option<Waker>>,
    due: BTreeSet<(Time, ConnId, Due)>,
    /// When the timer fires.
    armed: Option<Time>,
    timer: Option<Waker>,
    pub(crate) drained: bool,
    /// Who waits until everybody is gone, or until the storage has answered.
    pub(crate) settling: Vec<Waker>,
    pub(crate) counters: Counters,
    pub(crate) throttle: Throttle,
}

impl<S> State<S> {
    pub(crate) fn new(engine: Engine, uplink: Option<Uplink>) -> Self {
        Self {
            engine,
            uplink,
            outlets: Vec::new(),
            behind: VecDeque::new(),
            open: Vec::new(),
            closing: BTreeMap::new(),
            sockets: 0,
            late: 0,
            requests: 0,
            ready: Vec::new(),
            outgoing: Outgoing::default(),
            publishes: BTreeMap::new(),
            queries: BTreeMap::new(),
            commits: 0,
            busy: BTreeMap::new(),
            look_again: false,
            subscribers: BTreeMap::new(),
            due: BTreeSet::new(),
            armed: None,
            timer: None,
            drained: false,
            settling: Vec::new(),
            counters: Counters::default(),
            throttle: Throttle::default(),
        }
    }

    pub(crate) fn insert(&mut self, socket: Rc<Socket<S>>) {
        let slot = socket.conn.slot();
        if self.open.len() <= slot {
            self.open.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.open.get_mut(slot) {
            self.late += usize::from(socket.is_late);
            *place = Some(socket);
            self.sockets += 1;
            self.counters.opened += 1;
        }
    }

    /// A connection's client was not believed, or may not what it asked for.
    fn refused(&mut self, now: Now, conn: ConnId, code: &'static str, reason: &dyn Display) {
        if let Some(times) = self.throttle.admit(code, now.time) {
            tracing::info!(%conn, code, %reason, times, "refused");
        }
    }

    pub(crate) fn find(&self, conn: ConnId) -> Option<&Rc<Socket<S>>> {
        match self.open.get(conn.slot()) {
            Some(Some(socket)) if socket.conn == conn => Some(socket),
            // Its slot may be another's by now.
            Some(_) | None => self.closing.get(&conn),
        }
    }

    pub(crate) fn enqueue(&mut self, socket: &Rc<Socket<S>>) {
        if !socket.queued.replace(true) {
            self.ready.push(Rc::clone(socket));
        }
    }

    /// The hub has forgotten this connection, which `by` has closed.
    fn forget(
        &mut self,
        socket: &Rc<Socket<S>>,
        linger_until: Time,
        by: &'static str,
        code: Option<u16>,
    ) {
        tracing::debug!(conn = %socket.conn, by, code, "disconnected");
        socket.phase.set(Phase::Closing);
        if let Some(place) = self.open.get_mut(socket.conn.slot())
            && place
                .as_ref()
                .is_some_and(|other| other.conn == socket.conn)
        {
            *place = None;
        }
        if let Some(reader) = self.busy.remove(&socket.conn) {
            reader.wake();
        }
        self.closing.insert(socket.conn, Rc::clone(socket));
        self.due.insert((linger_until, socket.conn, Due::Linger));
    }

    /// Nothing more is to be done for this connection.
    fn remove(&mut self, socket: &Rc<Socket<S>>) {
        match socket.phase.replace(Phase::Gone) {
            Phase::Gone => return,
            Phase::Open | Phase::Faulted => {
                tracing::debug!(conn = %socket.conn, by = "network", "disconnected");
            }
            // That it is closed was said.
            Phase::Closing | Phase::Shut => {}
        }
        if let Some(place) = self.open.get_mut(socket.conn.slot())
            && place
                .as_ref()
                .is_some_and(|other| other.conn == socket.conn)
        {
            *place = None;
        }
        self.closing.remove(&socket.conn);
        self.busy.remove(&socket.conn);
        // The reader ends, and with it the last holder of the stream.
        drop(socket.reader.take());
        self.sockets -= 1;
        self.late -= usize::from(socket.is_late);
        self.counters.closed += 1;
        if let Some(uplink) = &self.uplink {
            self.share_counters();
            uplink.removed();
        }
        self.wake_drain();
    }

    /// Whether it was drained, nobody is served any more but who came meanwhile, and nothing is being committed.
    pub(crate) fn is_empty(&self) -> bool {
        let is_done = self.drained && self.requests == 0 && self.commits == 0;
        is_done && self.all_sockets() == self.late
    }

    /// Those of outlets included.
    pub(crate) fn all_sockets(&self) -> usize {
        let outlets = self.outlets.iter().map(|outlet| outlet.sockets());
        outlets.sum::<usize>() + self.sockets
    }

    pub(crate) fn share_counters(&self) {
        if let Some(uplink) = &self.uplink {
            uplink.shared.count(self.counters);
        }
    }

    pub(crate) fn wake_drain(&mut self) {
        if self.is_empty() {
            self.settling.drain(..).for_each(Waker::wake);
        }
    }

    /// Whether an outlet has too much to do for anything that brings more of it.
    pub(crate) fn is_behind(&self) -> bool {
        self.outlets.iter().any(|outlet| outlet.is_behind())
    }

    /// Has somebody wait for that, in its place where it does already.
    pub(crate) fn wait(&mut self, may: Rc<Cell<bool>>, waker: &Waker) {
        let mut waiting = self.behind.iter_mut();
        match waiting.find(|(other, _)| Rc::ptr_eq(other, &may)) {
            Some((_, old)) => old.clone_from(waker),
            None => self.behind.push_back((may, waker.clone())),
        }
    }

    /// Whether the hub takes the connection's next message; if not, `cx` is woken when it does.
    pub(crate) fn poll_takes(&mut self, conn: ConnId, cx: &Context<'_>) -> Poll<()> {
        if !self.engine.is_busy(conn) && !self.is_behind() {
            return Poll::Ready(());
        }
        sim_reached!("reader_waits_for_the_hub");
        self.busy.insert(conn, cx.waker().clone());
        Poll::Pending
    }

    /// Whether the goodbye of a connection that ends may be written; if not, `cx` is woken when it may.
    pub(crate) fn poll_goodbye(&mut self, conn: ConnId, cx: &Context<'_>) -> Poll<()> {
        if !self.engine.waits_for_goodbye(conn) {
            return Poll::Ready(());
        }
        sim_reached!("reader_waits_for_the_goodbye");
        self.busy.insert(conn, cx.waker().clone());
        Poll::Pending
    }

    /// The hub may take messages again of which it did not.
    pub(crate) fn takes_again(&mut self) {
        self.look_again = true;
        self.wake_readers();
    }

    /// Wakes the readers of connections of which the hub takes a message again.
    fn wake_readers(&mut self) {
        if std::mem::take(&mut self.look_again) {
            let engine = &self.engine;
            for (_, reader) in self.busy.extract_if(.., |conn, _| !engine.is_busy(*conn)) {
                reader.wake();
            }
        }
    }

    /// When time matters next.
    fn next_deadline(&self) -> Option<Time> {
        let due = self.due.first().map(|(at, _, _)| *at);
        self.engine.next_deadline().into_iter().chain(due).min()
    }

    /// Has the timer fire earlier, where that is needed. That it fires too early does no harm, so it is never put off.
    fn rearm(&mut self) {
        let next = self.next_deadline();
        if next.is_some() && self.armed.is_none_or(|armed| next < Some(armed)) {
            self.armed = next;
            if let Some(waker) = self.timer.take() {
                waker.wake();
            }
        }
    }
}

impl<P: Platform> Driver<P> {
    pub(crate) fn new(
        engine: Engine,
        uplink: Option<Uplink>,
        storage: Option<Rc<dyn Storage>>,
        platform: P,
        limits: SocketLimits,
        verify: Verify,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            this: this.clone(),
            platform,
            limits,
            executor: Rc::downgrade(executor),
            verify,
            storage,
            writable: Arc::default(),
            state: RefCell::new(State::new(engine, uplink)),
            tickets: Cell::new(0),
            links: RefCell::default(),
        })
    }

    /// Sends what the hub has for outlets, or an outlet for its hub.
    fn send_across(&self, state: &mut State<P::Stream>) {
        match &mut state.engine {
            Engine::Hub(hub) => {
                while let Some((outlet, order)) = hub.poll_order() {
                    let links = self.links.borrow();
                    if let Some(link) = links.get(outlet - 1) {
                        link.order(order);
                    }
                }
            }
            Engine::Outlet(outlet) => {
                while let Some(report) = outlet.report() {
                    if let Some(uplink) = &state.uplink {
                        uplink.send(Up::Report(report));
                    }
                }
            }
        }
        state.share_counters();
    }

    /// Hands an input to the hub and carries out what follows.
    pub(crate) fn handle(&self, input: Input) {
        let now = self.platform.now();
        let mut state = self.state.borrow_mut();
        self.feed(&mut state, now, input);
        self.carry_out(&mut state, now);
    }

    /// Every input goes to the hub here.
    fn feed(&self, state: &mut State<P::Stream>, now: Now, input: Input) {
        self.platform.watch(now, Passes::Input(&input));
        state.engine.handle(now, input);
    }

    /// Hands the hub the storage's answer.
    fn complete(&self, state: &mut State<P::Stream>, now: Now, completion: Input) {
        let counters = &mut state.counters;
        if let Input::Committed(result) = &completion {
            state.commits = state.commits.saturating_sub(1);
            match result {
                Ok(()) => counters.commits += 1,
                Err(StoreFailure::Full) => counters.commits_full += 1,
                Err(StoreFailure::Busy | StoreFailure::Failed) => counters.commits_failed += 1,
            }
        } else if let Input::Fetched { result, .. } = &completion {
            match result {
                Ok(_) => counters.fetches += 1,
                Err(_) => counters.fetches_failed += 1,
            }
        }
        state.look_again = true;
        self.feed(state, now, completion);
    }

    /// Carries out all effects that the hub has.
    pub(crate) fn carry_out(&self, state: &mut State<P::Stream>, now: Now) {
        let idle = state.ready.is_empty();
        while let Some(effect) = state.engine.poll() {
            self.platform.watch(now, Passes::Effect(&effect));
            match effect {
                Effect::Ready(conn) => {
                    if let Some(socket) = state.find(conn).cloned() {
                        state.enqueue(&socket);
                    }
                }
                Effect::Verify { conn, token } => {
                    let result = (self.verify)(&token, now);
                    match &result {
                        Ok(principal) => {
                            tracing::debug!(%conn, user = %principal.user(), "authenticated");
                        }
                        Err(error) => state.refused(now, conn, error.code(), error),
                    }
                    self.feed(state, now, Input::Verified { conn, result });
                }
                Effect::Drop(conn) => {
                    if let Some(socket) = state.find(conn).cloned() {
                        state.remove(&socket);
                    }
                }
                Effect::Published { ticket, result } => {
                    if let Err(Error::StoreFull | Error::Unavailable(_)) = result {
                        state.counters.publishes_not_stored += 1;
                    }
                    if let Some(publisher) = state.publishes.remove(&ticket) {
                        // A publisher that did not wait for the answer is no error.
                        let _ = publisher.send(result);
                    }
                }
                Effect::Subscription(id) => {
                    let waiting = state.subscribers.get_mut(&id).and_then(Option::take);
                    if let Some(waker) = waiting {
                        waker.wake();
                    }
                }
                Effect::Answered { ticket, result } => {
                    if let Some(asker) = state.queries.remove(&ticket) {
                        // Nor is one that did not wait for what it asked.
                        let _ = asker.send(result);
                    }
                }
                Effect::Commit(changes) => {
                    state.commits += 1;
                    let failed = Input::Committed(Err(StoreFailure::Failed));
                    self.ask_storage(state, now, failed, |storage| {
                        storage.commit(changes).map(Input::Committed).boxed_local()
                    });
                }
                Effect::Fetch { id, fetches } => {
                    let result = Err(StoreFailure::Failed);
                    let failed = Input::Fetched { id, result };
                    self.ask_storage(state, now, failed, move |storage| {
                        let fetched = move |result| Input::Fetched { id, result };
                        storage.fetch(fetches).map(fetched).boxed_local()
                    });
                }
                Effect::Drained => {
                    state.drained = true;
                    state.wake_drain();
                }
            }
        }
        self.send_across(state);
        if idle && !state.ready.is_empty() {
            self.writable.writer.wake();
        }
        state.rearm();
    }

    /// A connection is closed that has no socket.
    pub(crate) fn close(&self, state: &mut State<P::Stream>, now: Now, conn: ConnId) {
        self.feed(state, now, Input::Closed { conn });
        self.carry_out(state, now);
    }

    /// The stream is gone.
    pub(crate) fn lose(
        &self,
        state: &mut State<P::Stream>,
        socket: &Rc<Socket<P::Stream>>,
        now: Now,
    ) {
        if matches!(socket.phase.get(), Phase::Open | Phase::Faulted) {
            self.feed(state, now, Input::Closed { conn: socket.conn });
        }
        state.remove(socket);
        self.carry_out(state, now);
    }

    /// A close frame of the client's came: `answer` is the last that it gets.
    pub(crate) fn peer_closes(
        &self,
        socket: &Rc<Socket<P::Stream>>,
        code: Option<u16>,
        answer: Chunk,
    ) {
        if socket.phase.get() != Phase::Open {
            return;
        }
        let now = self.platform.now();
        let mut state = self.state.borrow_mut();
        let conn = socket.conn;
        self.feed(&mut state, now, Input::Closed { conn });
        let linger_until = now.time.plus(self.limits.linger_ms);
        state.forget(socket, linger_until, "client", code);
        let mut outgoing = socket.blocked.take().unwrap_or_default();
        outgoing.truncate();
        outgoing.push(answer);
        socket.blocked.set(Some(outgoing));
        state.enqueue(socket);
        self.writable.writer.wake();
        self.carry_out(&mut state, now);
    }

    /// The client broke the protocol.
    pub(crate) fn fault(
        &self,
        state: &mut State<P::Stream>,
        socket: &Rc<Socket<P::Stream>>,
        fault: fanfare_core::Fault,
        now: Now,
    ) {
        if socket.phase.get() == Phase::Open {
            socket.phase.set(Phase::Faulted);
            let conn = socket.conn;
            self.feed(state, now, Input::Fault { conn, fault });
            self.carry_out(state, now);
        }
    }

    /// A message was begun that is not complete: it has a moment.
    pub(crate) fn watch_message(&self, socket: &Socket<P::Stream>) {
        if socket.message_since.get().is_some() && socket.message_watched.get() {
            return;
        }
        let since = self.platform.time();
        if socket.message_since.get().is_none() {
            socket.message_since.set(Some(since));
        }
        if !socket.message_watched.replace(true) {
            let mut state = self.state.borrow_mut();
            let at = since.plus(self.limits.message_ms);
            state.due.insert((at, socket.conn, Due::Message));
            state.rearm();
        }
    }

    /// Comes back with the time whenever hub or sockets need it.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        loop {
            let at = {
                let mut state = self.state.borrow_mut();
                state.armed = state.next_deadline();
                state.armed
            };
            let rearmed = poll_fn(|cx| {
                let mut state = self.state.borrow_mut();
                if state.armed != at {
                    return Poll::Ready(());
                }
                state.timer = Some(cx.waker().clone());
                Poll::Pending
            });
            match at {
                Some(at) => or(rearmed, self.platform.sleep_until(at)).await,
                None => rearmed.await,
            }
            self.tick();
        }
    }

    fn tick(&self) {
        let now = self.platform.now();
        let mut state = self.state.borrow_mut();
        while let Some((at, conn, why)) = state.due.first().copied()
            && at <= now.time
        {
            state.due.pop_first();
            let Some(socket) = state.find(conn).cloned() else {
                continue;
            };
            match why {
                Due::Linger => {
                    sim_reached!("linger_ends");
                    state.remove(&socket);
                }
                Due::Message => self.message_due(&mut state, &socket, now),
            }
        }
        self.feed(&mut state, now, Input::Tick);
        self.carry_out(&mut state, now);
    }

    fn message_due(&self, state: &mut State<P::Stream>, socket: &Rc<Socket<P::Stream>>, now: Now) {
        socket.message_watched.set(false);
        let Some(since) = socket.message_since.get() else {
            return;
        };
        let at = since.plus(self.limits.message_ms);
        if at <= now.time {
            sim_reached!("message_never_finished");
            return self.fault(state, socket, fanfare_core::Fault::Policy, now);
        }
        // Another one was begun since.
        socket.message_watched.set(true);
        state.due.insert((at, socket.conn, Due::Message));
    }
}
