//! A hub on its thread, as the rest of a program sees it.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fanfare_core::{
    Answer, AuthError, ConnId, Delivery, Endpoint, Error, Fault, Held, History, Hub, InboxView,
    Input, Now, Open, OutletOrder, Page, Pattern, Principal, Publish, Query, Receipt, RoomId,
    StoreFailure, SubscriptionId, TaskId, TaskView, Ticket, Time, Token, UserId, sim_reached,
};
use futures::FutureExt;
use futures::channel::oneshot;
use smol::future::or;
use smol::{LocalExecutor, Task};
use tracing::field::display;

use crate::connection::{Frames, Reader};
use crate::driver::{Driver, State, Verify};
use crate::engine::Engine;
use crate::outlet::{self, OutletLink, RELEASED};
use crate::socket::{Phase, Socket};
use crate::writer::Chunk;
use crate::{Counters, Native, Passes, Platform, Storage, Subscription};

/// What a shard takes from one socket.
///
/// ```
/// use fanfare_websocket::SocketLimits;
/// assert_eq!(SocketLimits::default().fragments, 64);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketLimits {
    /// Fragments of a client's message; more are answered by 1008.
    pub fragments: usize,
    /// Milliseconds in which a message that was begun has to be complete, else it is answered by 1008.
    pub message_ms: u64,
    /// Milliseconds that the peer has, from our close frame on, to take it and to close its side.
    pub linger_ms: u64,
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            fragments: 64,
            message_ms: 10_000,
            linger_ms: 5_000,
        }
    }
}

/// What no hub does.
const ANOTHER_ANSWER: Error = Error::Unavailable("it answered another question");

/// A hub with its sockets. A clone is another handle to the same one; all stay on one thread.
///
/// ```
/// use std::rc::Rc;
/// use fanfare_core::{AuthError, Draft, Hub, Limits, Payload, Publish, Target, UserId};
/// use fanfare_websocket::{Native, Shard, SocketLimits};
///
/// let (native, executor) = (Native::new()?, Rc::new(smol::LocalExecutor::new()));
/// let hub = Hub::new(Limits::default(), [7; 32]);
/// let nobody = |_: &_, _| Err(AuthError::BadToken);
/// let shard = Shard::new(hub, native.clone(), SocketLimits::default(), nobody, &executor);
/// let publish = Publish {
///     target: Target::User(UserId::new(7)),
///     draft: Draft::new("note:added".parse()?, Payload::default()),
/// };
/// let receipt = native.block_on(&executor, shard.publish(publish))?;
/// assert_eq!(receipt.rooms()[0].connected, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shard<P: Platform = Native> {
    driver: Rc<Driver<P>>,
}

impl<P: Platform> Clone for Shard<P> {
    fn clone(&self) -> Self {
        Self {
            driver: Rc::clone(&self.driver),
        }
    }
}

impl<P: Platform> fmt::Debug for Shard<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").finish_non_exhaustive()
    }
}

impl<P: Platform> Shard<P> {
    /// A shard in memory, whose tasks run on `executor`. `verify` says who a token's bearer is, for tokens that come as
    /// messages; it must not use the shard.
    pub fn new(
        hub: Hub,
        platform: P,
        limits: SocketLimits,
        verify: impl Fn(&Token, Now) -> Result<Principal, AuthError> + 'static,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Self {
        Self::start(hub, None, platform, limits, Box::new(verify), executor)
    }

    /// A shard whose `hub` was restored from `storage`. Serve when it is [`restored`](Self::restored).
    pub fn with_storage(
        hub: Hub,
        storage: impl Storage,
        platform: P,
        limits: SocketLimits,
        verify: impl Fn(&Token, Now) -> Result<Principal, AuthError> + 'static,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Self {
        let storage: Rc<dyn Storage> = Rc::new(storage);
        let verify = Box::new(verify);
        Self::start(hub, Some(storage), platform, limits, verify, executor)
    }

    fn start(
        hub: Hub,
        storage: Option<Rc<dyn Storage>>,
        platform: P,
        limits: SocketLimits,
        verify: Verify,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Self {
        let engine = Engine::Hub(Box::new(hub));
        let driver = Driver::new(engine, None, storage, platform, limits, verify, executor);
        let shard = Self::begin(driver);
        // A restored hub has a commit to make.
        shard.with_hub(|_, _| ());
        shard
    }

    pub(crate) fn begin(driver: Rc<Driver<P>>) -> Self {
        let shard = Self { driver };
        shard.spawn(Rc::clone(&shard.driver).write_ready());
        shard.spawn(Rc::clone(&shard.driver).keep_time());
        shard
    }

    /// The way to one more [`OutletShard`](crate::OutletShard), which gets its part of the connections from now on.
    ///
    /// # Errors
    /// [`TooManyOutlets`](crate::Error::TooManyOutlets), above 255 of them.
    pub fn add_outlet(&self) -> Result<OutletLink<P>, crate::Error> {
        let mut links = self.driver.links.borrow_mut();
        if links.len() >= usize::from(u8::MAX) {
            return Err(crate::Error::TooManyOutlets);
        }
        let mut state = self.driver.state.borrow_mut();
        let limits = state.engine.hub().limits().clone();
        let (link, sends, reports, outlet) = outlet::link(limits);
        let shared = Arc::clone(&link.shared);
        state.outlets.push(Arc::clone(&shared));
        links.push(link);
        drop(state);
        self.spawn(sends);
        self.spawn(outlet::release(self.clone(), shared));
        self.spawn(outlet::hear(self.clone(), reports));
        Ok(outlet)
    }

    /// Waits until no outlet has far too much to do.
    pub(crate) async fn keeps_up(&self) {
        let mut waits: Option<Rc<Cell<bool>>> = None;
        poll_fn(|cx| {
            let mut state = self.driver.state.borrow_mut();
            let may = match &waits {
                // Once it may, whatever others have brought since.
                Some(may) if may.get() => return Poll::Ready(()),
                Some(may) => Rc::clone(may),
                None if !state.is_behind() => return Poll::Ready(()),
                None => Rc::clone(waits.insert(Rc::default())),
            };
            state.wait(may, cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// What the hub and its own thread's connections hold, or those of an outlet.
    pub(crate) fn held(&self) -> Held {
        match &self.driver.state.borrow().engine {
            Engine::Hub(hub) => hub.held(),
            Engine::Outlet(outlet) => outlet.held(),
        }
    }

    /// Has an outlet do what its hub wants.
    pub(crate) fn obey(&self, order: OutletOrder) {
        let now = self.now();
        self.driver.platform.watch(now, Passes::Order(&order));
        if let Engine::Outlet(outlet) = &mut self.driver.state.borrow_mut().engine {
            outlet.obey(now, order);
        }
    }

    /// What follows from several orders.
    pub(crate) fn obeyed(&self) {
        let now = self.now();
        let mut state = self.driver.state.borrow_mut();
        self.driver.carry_out(&mut state, now);
        state.takes_again();
    }

    /// An outlet has done most of what it was told: some of those who waited for that go on. Whether there are more who may.
    pub(crate) fn outlet_rests(&self) -> bool {
        let mut state = self.driver.state.borrow_mut();
        if state.is_behind() {
            return false;
        }
        state.takes_again();
        // Some have given up.
        state.behind.retain(|(may, _)| Rc::strong_count(may) > 1);
        let released = state.behind.len().min(RELEASED);
        for (may, waker) in state.behind.drain(..released) {
            may.set(true);
            waker.wake();
        }
        !state.behind.is_empty()
    }

    /// An outlet has no socket left.
    pub(crate) fn outlet_is_empty(&self) {
        self.driver.state.borrow_mut().wake_drain();
    }

    /// Waits until what the hub had to keep before anybody is let in is kept.
    ///
    /// # Errors
    /// What the storage said of that.
    pub async fn restored(&self) -> Result<(), StoreFailure> {
        poll_fn(|cx| {
            let mut state = self.driver.state.borrow_mut();
            if state.commits == 0 {
                return Poll::Ready(state.engine.hub().store_failure().map_or(Ok(()), Err));
            }
            state.settling.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub(crate) fn platform(&self) -> &P {
        &self.driver.platform
    }

    /// The time by this shard's clock.
    #[must_use]
    pub fn now(&self) -> Now {
        self.driver.platform.now()
    }

    /// The same without the wall clock.
    pub(crate) fn time(&self) -> Time {
        self.driver.platform.time()
    }

    /// Publishes, after everything that was published before this call; the future resolves when what was published is
    /// kept. Receivers are written to when this task yields.
    ///
    /// # Errors
    /// What the hub says, of which nothing was kept then.
    pub fn publish(
        &self,
        publish: Publish,
    ) -> impl Future<Output = Result<Receipt, Error>> + use<P> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.ticket();
        self.driver
            .state
            .borrow_mut()
            .publishes
            .insert(ticket, sender);
        self.handle(Input::Publish { ticket, publish });
        // The hub answers every publish, unless it is gone with this shard.
        receiver.map(|answer| answer.unwrap_or(Err(Error::Draining)))
    }

    /// Asks the hub something.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the storage does not tell.
    pub fn query(&self, query: Query) -> impl Future<Output = Result<Answer, Error>> + use<P> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.ticket();
        self.driver
            .state
            .borrow_mut()
            .queries
            .insert(ticket, sender);
        self.handle(Input::Query { ticket, query });
        receiver.map(|answer| answer.unwrap_or(Err(Error::Draining)))
    }

    fn ticket(&self) -> Ticket {
        let tickets = &self.driver.tickets;
        Ticket(tickets.replace(tickets.get() + 1))
    }

    /// Closes all connections of a user, with 4503.
    pub fn disconnect(&self, user: UserId) {
        self.handle(Input::Disconnect { user });
    }

    /// What is known of a task.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn task(&self, task: TaskId) -> Result<TaskView, Error> {
        match self.query(Query::Task(task)).await? {
            Answer::Task(view) => Ok(view),
            Answer::Inbox(_) | Answer::History(_) => Err(ANOTHER_ANSWER),
        }
    }

    /// A user's inbox.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn inbox(&self, user: UserId) -> Result<InboxView, Error> {
        match self.query(Query::Inbox(user)).await? {
            Answer::Inbox(view) => Ok(view),
            Answer::Task(_) | Answer::History(_) => Err(ANOTHER_ANSWER),
        }
    }

    /// A part of a room's log.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    pub async fn history(&self, room: RoomId, history: History) -> Result<Page, Error> {
        match self.query(Query::History { room, history }).await? {
            Answer::History(page) => Ok(page),
            Answer::Task(_) | Answer::Inbox(_) => Err(ANOTHER_ANSWER),
        }
    }

    /// Subscribes to the bus.
    ///
    /// # Errors
    /// Where there are as many subscribers as there may be.
    pub fn subscribe(&self, patterns: Vec<Pattern>) -> Result<Subscription<P>, Error> {
        let id = self.with_hub(|hub, _| hub.subscribe(patterns))?;
        self.driver.state.borrow_mut().subscribers.insert(id, None);
        Ok(Subscription::new(self.clone(), id))
    }

    /// Lets `use_hub` use the hub directly, and carries out what follows from that.
    pub fn with_hub<T>(&self, use_hub: impl FnOnce(&mut Hub, Now) -> T) -> T {
        let now = self.now();
        let mut state = self.driver.state.borrow_mut();
        let result = use_hub(state.engine.hub(), now);
        self.driver.carry_out(&mut state, now);
        result
    }

    /// Tells every client when to come back, closes all connections, and ends when the last of those that were there is gone, every
    /// HTTP request under way is answered and no commit is under way, or `deadline_ms` from now. Whether all went in time. Who comes
    /// meanwhile is sent away, and not waited for.
    pub async fn drain(&self, deadline_ms: u64) -> bool {
        self.handle(Input::Drain);
        let deadline = self.time().plus(deadline_ms);
        let gone = poll_fn(|cx| {
            let mut state = self.driver.state.borrow_mut();
            if state.is_empty() {
                return Poll::Ready(true);
            }
            state.settling.push(cx.waker().clone());
            Poll::Pending
        });
        let late = async {
            self.driver.platform.sleep_until(deadline).await;
            sim_reached!("drain_too_long");
            false
        };
        or(gone, late).await
    }

    /// Whether it takes nothing more, and its clients are being told to leave.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.driver.state.borrow_mut().engine.hub().is_draining()
    }

    /// WebSockets of which anything is left, those that are closing included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.driver.state.borrow().all_sockets()
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let state = self.driver.state.borrow();
        let outlets = state.outlets.iter().map(|outlet| outlet.counters());
        outlets.fold(state.counters, Counters::plus)
    }

    /// Makes a byte stream a connection. Its handshake is done; `read` are the bytes that came behind it.
    pub fn accept(&self, stream: P::Stream, read: Bytes, open: Open) {
        let now = self.now();
        let user = open.principal.as_ref().map(|it| display(it.user()));
        let (endpoint, task) = match &open.endpoint {
            Endpoint::Task(task) => ("task", Some(display(*task))),
            Endpoint::Notifications => ("notifications", None),
            Endpoint::Bus(_) => ("bus", None),
        };
        let links = self.driver.links.borrow();
        let least = (1..).zip(&*links).min_by_key(|(_, link)| link.sockets());
        let mut state = self.driver.state.borrow_mut();
        // Who comes while it drains is sent away by this thread, which counts them.
        let is_late = state.engine.hub().is_draining();
        let least = least.filter(|(_, link)| !is_late && link.sockets() < state.sockets);
        let outlet = least.map_or(0, |(outlet, _)| outlet);
        self.driver.platform.watch(now, Passes::Open(&open));
        // In the hub's own thread, so that nothing that is said of its user from here on misses it.
        let conn = state.engine.hub().open_at(now, outlet, open);
        tracing::debug!(%conn, endpoint, task, user, "connected");
        match least {
            Some((_, link)) => {
                self.driver.carry_out(&mut state, now);
                link.serve(conn, self.driver.platform.send_off(stream), read);
            }
            None => {
                self.attach(&mut state, conn, stream, is_late, read);
                self.driver.carry_out(&mut state, now);
            }
        }
    }

    /// Takes the socket of a connection that the hub has an outlet serve.
    pub(crate) fn take_in(&self, conn: ConnId, parcel: P::Parcel, read: Bytes) {
        let now = self.now();
        let taken = self.driver.platform.take_in(parcel);
        let mut state = self.driver.state.borrow_mut();
        match taken {
            Ok(stream) if state.engine.serves(conn) => {
                self.attach(&mut state, conn, stream, false, read);
                // What waits for it was named when it had no socket.
                if let Some(socket) = state.find(conn).cloned() {
                    state.enqueue(&socket);
                    self.driver.writable.writer.wake();
                }
                return;
            }
            // It was closed before its socket came.
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection can't be served");
                self.driver.close(&mut state, now, conn);
            }
        }
        if let Some(uplink) = &state.uplink {
            uplink.removed();
        }
    }

    fn attach(
        &self,
        state: &mut State<P::Stream>,
        conn: ConnId,
        stream: P::Stream,
        is_late: bool,
        read: Bytes,
    ) {
        let message_bytes = state.engine.message_bytes();
        let socket = Rc::new(Socket::new(conn, stream, is_late, &self.driver.writable));
        let frames = Frames::new(
            self.clone(),
            Rc::clone(&socket),
            read,
            self.driver.limits.fragments,
            message_bytes,
        );
        let (shard, read) = (self.clone(), Rc::clone(&socket));
        let reader = AssertUnwindSafe(Reader::new(frames)).catch_unwind();
        socket.reader.set(self.run(reader.map(move |ended| {
            if ended.is_err() {
                shard.count(|counters| counters.panics += 1);
                tracing::error!(%conn, "the reader of a connection panicked; the connection is closed");
                shard.lost(&read);
            }
        })));
        state.insert(socket);
    }

    fn run(&self, future: impl Future<Output = ()> + 'static) -> Option<Task<()>> {
        Some(self.driver.executor.upgrade()?.spawn(future))
    }

    /// Runs a future on the shard's executor. A panic ends that future only.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let shard = self.clone();
        let task = self.run(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                shard.count(|counters| counters.panics += 1);
                tracing::error!("a task panicked; what it served is closed");
            }
        });
        if let Some(task) = task {
            task.detach();
        }
    }

    /// Ends when this shard's clock has reached `at`.
    pub(crate) fn sleep_until(&self, at: Time) -> impl Future<Output = ()> {
        self.driver.platform.sleep_until(at)
    }

    /// An HTTP request is under way, until the guard is dropped.
    pub(crate) fn begin_request(&self) -> UnderWay<P> {
        self.driver.state.borrow_mut().requests += 1;
        UnderWay(self.clone())
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.driver.state.borrow_mut().counters);
    }

    /// How many times `what` happened since it was last said in the log, where it may be said now.
    pub(crate) fn admit_line(&self, what: &'static str) -> Option<u64> {
        let now = self.time();
        self.driver.state.borrow_mut().throttle.admit(what, now)
    }

    pub(crate) fn handle(&self, input: Input) {
        self.driver.handle(input);
    }

    /// Control frames wait in the socket.
    pub(crate) fn queue(&self, socket: &Rc<Socket<P::Stream>>) {
        self.driver.state.borrow_mut().enqueue(socket);
        self.driver.writable.writer.wake();
    }

    pub(crate) fn fault(&self, socket: &Rc<Socket<P::Stream>>, fault: Fault) {
        let now = self.now();
        self.driver
            .fault(&mut self.driver.state.borrow_mut(), socket, fault, now);
    }

    pub(crate) fn peer_closes(
        &self,
        socket: &Rc<Socket<P::Stream>>,
        code: Option<u16>,
        answer: Chunk,
    ) {
        self.driver.peer_closes(socket, code, answer);
    }

    /// The peer has ended its side while the connection was closing.
    pub(crate) fn ended(&self, socket: &Rc<Socket<P::Stream>>) {
        socket.ended.set(true);
        // Before, what is still to be written has its time.
        if socket.phase.get() == Phase::Shut {
            self.lost(socket);
        }
    }

    pub(crate) fn lost(&self, socket: &Rc<Socket<P::Stream>>) {
        let now = self.now();
        self.driver
            .lose(&mut self.driver.state.borrow_mut(), socket, now);
    }

    /// Whether the connection's next message may be read.
    pub(crate) fn poll_takes(&self, conn: ConnId, cx: &Context<'_>) -> Poll<()> {
        self.driver.state.borrow_mut().poll_takes(conn, cx)
    }

    /// Whether what a client still sends may be thrown away: its goodbye is there.
    pub(crate) fn poll_goodbye(&self, conn: ConnId, cx: &Context<'_>) -> Poll<()> {
        self.driver.state.borrow_mut().poll_goodbye(conn, cx)
    }

    /// What the hub says of its store.
    pub(crate) fn store_failure(&self) -> Option<StoreFailure> {
        self.driver.state.borrow_mut().engine.hub().store_failure()
    }

    pub(crate) fn watch_message(&self, socket: &Socket<P::Stream>) {
        self.driver.watch_message(socket);
    }

    pub(crate) fn poll_subscription(&self, id: SubscriptionId, cx: &Context<'_>) -> Poll<Delivery> {
        let mut state = self.driver.state.borrow_mut();
        if let Some(delivery) = state.engine.hub().pull_subscription(id) {
            return Poll::Ready(delivery);
        }
        state.subscribers.insert(id, Some(cx.waker().clone()));
        Poll::Pending
    }

    pub(crate) fn unsubscribe(&self, id: SubscriptionId) {
        self.with_hub(|hub, _| hub.unsubscribe(id));
        self.driver.state.borrow_mut().subscribers.remove(&id);
    }
}

/// A request that was not answered yet.
pub(crate) struct UnderWay<P: Platform>(Shard<P>);

impl<P: Platform> Drop for UnderWay<P> {
    fn drop(&mut self) {
        let mut state = self.0.driver.state.borrow_mut();
        state.requests = state.requests.saturating_sub(1);
        state.wake_drain();
    }
}
