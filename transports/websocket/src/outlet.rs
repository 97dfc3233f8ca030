//! Shards of other threads: each serves connections, and all have one hub, with which they talk in two queues.
//!
//! What the hub's shard has for an outlet goes down, what that reports comes up, each in its order. What goes down in one turn of
//! the executor goes at once, so that several publishes wake the other thread once and leave it in one write a socket. An outlet
//! waits for nobody and does what it is told as it comes. Whatever would bring more of that waits while an outlet has too much to do
//! already: publishes of back ends, messages of clients, and questions for what the log has next. What comes up is bounded by what
//! connections may say at once.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use async_channel::{Receiver, Sender, unbounded};
use bytes::Bytes;
use fanfare_core::{AuthError, ConnId, Held, Input, Limits, Outlet, OutletOrder, OutletReport};
use futures::FutureExt;
use futures::task::AtomicWaker;
use smol::LocalExecutor;
use smol::future::yield_now;

use crate::driver::Driver;
use crate::engine::Engine;
use crate::{Counters, Native, Platform, Shard, SocketLimits};

/// Bytes of orders that an outlet has not obeyed yet, above which nothing is done that brings more; until half of them are left.
const ORDERS_BYTES_MAX: usize = 4 << 20;
/// Messages of an outlet's connections that are taken before it is asked again whether that may be: several, since each outlet waits
/// in one place, as a back end with one publish does.
const CREDIT: usize = 32;
/// Who waited and goes on at once, before it is asked again whether an outlet has too much to do.
pub(crate) const RELEASED: usize = 16;
/// Orders or reports taken before others have their turn.
const TURN: usize = 256;

/// What the hub's shard has for an outlet's.
pub(crate) enum Down<P: Platform> {
    Order(OutletOrder),
    /// A connection whose handshake is done.
    Serve {
        conn: ConnId,
        parcel: P::Parcel,
        read: Bytes,
    },
}

impl<P: Platform> Down<P> {
    fn cost(&self) -> usize {
        match self {
            Self::Order(order) => order.cost(),
            Self::Serve { read, .. } => size_of::<Self>() + read.len(),
        }
    }
}

/// What an outlet's shard has for the hub's.
pub(crate) enum Up {
    Report(OutletReport),
    /// No socket is left.
    IsEmpty,
}

/// What both sides look at.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Sockets of the outlet, and those on the way to it.
    pub(crate) sockets: AtomicUsize,
    /// Bytes of orders that it has not obeyed yet.
    orders: AtomicUsize,
    /// Whether it has obeyed most of them since it was looked at, and who looks.
    rested: AtomicBool,
    waits: AtomicWaker,
    pub(crate) counters: Mutex<Counters>,
}

impl Shared {
    pub(crate) fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Acquire)
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.orders.load(Ordering::Acquire) > ORDERS_BYTES_MAX
    }

    /// So many bytes of orders are obeyed.
    fn obeyed(&self, bytes: usize) {
        let half = ORDERS_BYTES_MAX / 2;
        let before = self.orders.fetch_sub(bytes, Ordering::AcqRel);
        if before >= half && before - bytes < half {
            self.rested.store(true, Ordering::Release);
            self.waits.wake();
        }
    }

    /// Waits until most of too many orders are obeyed.
    async fn rests(&self) {
        poll_fn(|cx| {
            self.waits.register(cx.waker());
            if self.rested.swap(false, Ordering::AcqRel) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn count(&self, counters: Counters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    pub(crate) fn counters(&self) -> Counters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hub's end.
pub(crate) struct Link<P: Platform> {
    waiting: Rc<RefCell<Waiting<P>>>,
    pub(crate) shared: Arc<Shared>,
}

/// What goes down next, and who sends it.
struct Waiting<P: Platform> {
    downs: Vec<Down<P>>,
    sender: Option<Waker>,
}

impl<P: Platform> Link<P> {
    pub(crate) fn sockets(&self) -> usize {
        self.shared.sockets()
    }

    pub(crate) fn order(&self, order: OutletOrder) {
        self.push(Down::Order(order));
    }

    /// Sends a connection to the outlet.
    pub(crate) fn serve(&self, conn: ConnId, parcel: P::Parcel, read: Bytes) {
        self.shared.sockets.fetch_add(1, Ordering::AcqRel);
        self.push(Down::Serve { conn, parcel, read });
    }

    fn push(&self, down: Down<P>) {
        self.shared.orders.fetch_add(down.cost(), Ordering::AcqRel);
        let Waiting { downs, sender } = &mut *self.waiting.borrow_mut();
        downs.push(down);
        if let Some(sender) = sender.take() {
            sender.wake();
        }
    }

    /// Sends what waits, whenever there is any, once the tasks before this one have had their turn.
    fn send(&self, down: Sender<Vec<Down<P>>>) -> impl Future<Output = ()> + use<P> {
        let (waiting, shared) = (Rc::clone(&self.waiting), Arc::clone(&self.shared));
        async move {
            loop {
                let downs = poll_fn(|cx| {
                    let Waiting { downs, sender } = &mut *waiting.borrow_mut();
                    if downs.is_empty() {
                        *sender = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Poll::Ready(std::mem::take(downs))
                });
                // With an outlet that has ended its connections have ended too.
                if let Err(refused) = down.try_send(downs.await) {
                    let downs = refused.into_inner();
                    let is_socket = |down: &&Down<P>| matches!(down, Down::Serve { .. });
                    let sockets = downs.iter().filter(is_socket).count();
                    shared.sockets.fetch_sub(sockets, Ordering::AcqRel);
                    shared.obeyed(downs.iter().map(Down::cost).sum());
                }
            }
        }
    }
}

/// The outlet's end.
pub(crate) struct Uplink {
    pub(crate) up: Sender<Up>,
    pub(crate) shared: Arc<Shared>,
}

impl Uplink {
    /// What the hub has no more is nobody's to hear.
    pub(crate) fn send(&self, up: Up) {
        let _ = self.up.try_send(up);
    }

    /// A socket is gone.
    pub(crate) fn removed(&self) {
        if self.shared.sockets.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.send(Up::IsEmpty);
        }
    }
}

/// The way between a [`Shard`] and an [`OutletShard`] that is still to begin, in any thread.
///
/// ```
/// fn crosses_threads<T: Send>() {}
/// crosses_threads::<fanfare_websocket::OutletLink>();
/// ```
pub struct OutletLink<P: Platform = Native> {
    limits: Limits,
    down: Receiver<Vec<Down<P>>>,
    uplink: Uplink,
}

impl<P: Platform> fmt::Debug for OutletLink<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutletLink").finish_non_exhaustive()
    }
}

/// Both ends of a way to an outlet, what is to run beside the hub for it, and what comes up.
pub(crate) fn link<P: Platform>(
    limits: Limits,
) -> (
    Link<P>,
    impl Future<Output = ()> + use<P>,
    Receiver<Up>,
    OutletLink<P>,
) {
    let (down, orders) = unbounded();
    let (up, reports) = unbounded();
    let shared = Arc::<Shared>::default();
    let link = Link {
        waiting: Rc::new(RefCell::new(Waiting {
            downs: Vec::new(),
            sender: None,
        })),
        shared: Arc::clone(&shared),
    };
    let sends = link.send(down);
    let uplink = Uplink { up, shared };
    let outlet = OutletLink {
        limits,
        down: orders,
        uplink,
    };
    (link, sends, reports, outlet)
}

/// Connections of another thread than their hub's, on that thread. A clone is another handle to the same ones.
///
/// ```
/// use std::rc::Rc;
/// use fanfare_core::{AuthError, Hub, Limits};
/// use fanfare_websocket::{Native, OutletShard, Shard, SocketLimits};
///
/// let (native, executor) = (Native::new()?, Rc::new(smol::LocalExecutor::new()));
/// let hub = Hub::new(Limits::default(), [7; 32]);
/// let nobody = |_: &_, _| Err(AuthError::BadToken);
/// let shard = Shard::new(hub, native.clone(), SocketLimits::default(), nobody, &executor);
/// let (link, clock) = (shard.add_outlet()?, native.clock());
/// let outlet = std::thread::spawn(move || -> std::io::Result<()> {
///     let (native, executor) = (Native::with_clock(clock)?, Rc::new(smol::LocalExecutor::new()));
///     let outlet = OutletShard::new(link, native.clone(), SocketLimits::default(), &executor);
///     native.block_on(&executor, outlet.ended());
///     Ok(())
/// });
/// drop((shard, executor));
/// outlet.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OutletShard<P: Platform = Native> {
    shard: Shard<P>,
    end: Rc<End>,
}

/// How far an outlet is, and who waits for its end.
#[derive(Debug, Default)]
struct End(RefCell<(Course, Vec<Waker>)>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Course {
    #[default]
    Serves,
    /// The hub is gone.
    Ended,
    /// What does what the hub wants has panicked.
    Panicked,
}

impl<P: Platform> Clone for OutletShard<P> {
    fn clone(&self) -> Self {
        Self {
            shard: self.shard.clone(),
            end: Rc::clone(&self.end),
        }
    }
}

impl<P: Platform> fmt::Debug for OutletShard<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutletShard").finish_non_exhaustive()
    }
}

impl<P: Platform> OutletShard<P> {
    /// Begins to serve what comes over `link`, by tasks that run on `executor`.
    pub fn new(
        link: OutletLink<P>,
        platform: P,
        limits: SocketLimits,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Self {
        let engine = Engine::Outlet(Box::new(Outlet::new(link.limits)));
        // Tokens are the hub's business.
        let verify = Box::new(|_: &_, _| Err(AuthError::BadToken));
        let shared = Arc::clone(&link.uplink.shared);
        let uplink = Some(link.uplink);
        let driver = Driver::new(engine, uplink, None, platform, limits, verify, executor);
        let shard = Shard::begin(driver);
        let end = Rc::<End>::default();
        shard.spawn({
            let (shard, end) = (shard.clone(), Rc::clone(&end));
            async move {
                let obeys = AssertUnwindSafe(obey(&shard, link.down, &shared));
                let ended = obeys.catch_unwind().await;
                let (course, waiting) = &mut *end.0.borrow_mut();
                *course = ended.map_or(Course::Panicked, |()| Course::Ended);
                waiting.drain(..).for_each(Waker::wake);
            }
        });
        Self { shard, end }
    }

    /// Waits until the hub's shard is gone.
    ///
    /// # Panics
    /// Where what does what the hub wants has panicked, which nobody does any more then: the program can't go on.
    pub fn ended(&self) -> impl Future<Output = ()> + use<P> {
        let end = Rc::clone(&self.end);
        poll_fn(move |cx| {
            let (course, waiting) = &mut *end.0.borrow_mut();
            assert_ne!(*course, Course::Panicked, "an outlet obeys its hub");
            if *course == Course::Ended {
                return Poll::Ready(());
            }
            waiting.push(cx.waker().clone());
            Poll::Pending
        })
    }

    /// What its connections hold. O(connections).
    #[must_use]
    pub fn held(&self) -> Held {
        self.shard.held()
    }
}

/// Does what the hub wants, in its order, until the hub is gone.
async fn obey<P: Platform>(shard: &Shard<P>, down: Receiver<Vec<Down<P>>>, shared: &Shared) {
    while let Ok(orders) = down.recv().await {
        shard.platform().crossing().await;
        let mut orders = orders.into_iter();
        while orders.len() > 0 {
            // Nobody is served without a hub, whatever is left to do.
            if down.is_closed() {
                return;
            }
            let mut bytes = 0;
            for order in orders.by_ref().take(TURN) {
                bytes += order.cost();
                match order {
                    Down::Order(order) => shard.obey(order),
                    Down::Serve { conn, parcel, read } => shard.take_in(conn, parcel, read),
                }
            }
            shard.obeyed();
            shared.obeyed(bytes);
            yield_now().await;
        }
    }
}

/// Lets go on what waited for an outlet with too much to do: who came first goes first, and nobody who comes later goes before.
pub(crate) async fn release<P: Platform>(shard: Shard<P>, shared: Arc<Shared>) {
    loop {
        shared.rests().await;
        while shard.outlet_rests() {
            yield_now().await;
        }
    }
}

/// Hands the hub what an outlet reports, in its order.
pub(crate) async fn hear<P: Platform>(shard: Shard<P>, up: Receiver<Up>) {
    let mut credit = 0_usize;
    while let Ok(first) = up.recv().await {
        shard.platform().crossing().await;
        let more = std::iter::from_fn(|| up.try_recv().ok());
        for next in std::iter::once(first).chain(more).take(TURN) {
            match next {
                Up::Report(report) => {
                    if report.brings_orders() {
                        if credit == 0 {
                            shard.keeps_up().await;
                            credit = CREDIT;
                        }
                        credit -= 1;
                    }
                    shard.handle(Input::Report(report));
                }
                Up::IsEmpty => shard.outlet_is_empty(),
            }
        }
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::{
        Claims, Draft, Endpoint, Hub, Open, Payload, Principal, Publish, Target, TaskGrant, UserId,
    };
    use std::task::Context;

    const USER: UserId = UserId::new(7);

    /// A hub's shard with an outlet that did not begin yet, and a connection of a user there.
    fn with_outlet(
        native: &Native,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> (Shard, OutletLink, Open) {
        let nobody = |_: &_, _| Err(AuthError::BadToken);
        let hub = Hub::new(Limits::default(), [7; 32]);
        let limits = SocketLimits::default();
        let shard = Shard::new(hub, native.clone(), limits, nobody, executor);
        let link = shard.add_outlet().unwrap();
        let now = shard.now();
        let claims = Claims::new(USER, 4_000_000_000, TaskGrant::All);
        let open = Open {
            principal: Principal::new(claims, now.wall).ok(),
            ..Open::new(Endpoint::Notifications)
        };
        shard.with_hub(|hub, now| hub.open_at(now, 1, open.clone()));
        (shard, link, open)
    }

    fn publish(shard: &Shard) {
        let data = Payload::from_value(&"x".repeat(60_000)).unwrap();
        let draft = Draft::new("note:added".parse().unwrap(), data);
        let target = Target::User(USER);
        drop(shard.publish(Publish { target, draft }));
    }

    #[test]
    fn what_brings_orders_waits_while_an_outlet_has_too_many() {
        let (native, executor) = (Native::new().unwrap(), Rc::new(LocalExecutor::new()));
        let (shard, link, open) = with_outlet(&native, &executor);
        let own = shard.with_hub(|hub, now| hub.open(now, open));
        let cx = &mut Context::from_waker(Waker::noop());
        let takes = |cx: &mut Context<'_>| {
            let publishes = std::pin::pin!(shard.keeps_up()).poll(cx).is_ready();
            assert_eq!(publishes, shard.poll_takes(own, cx).is_ready());
            publishes
        };
        let mut published = 0;
        while takes(cx) {
            publish(&shard);
            published += 1;
        }
        // An event is kept once by the hub, and its frame for the connection.
        assert!((30..=80).contains(&published), "{published}");
        let outlet = OutletShard::new(link, native.clone(), SocketLimits::default(), &executor);
        native.block_on(&executor, shard.keeps_up());
        assert!(takes(cx));
        assert_eq!(outlet.held().connections, 1);
    }

    #[test]
    fn a_message_waits_in_the_hubs_thread_while_an_outlet_has_too_much_to_do() {
        let (native, executor) = (Native::new().unwrap(), Rc::new(LocalExecutor::new()));
        let (shard, link, open) = with_outlet(&native, &executor);
        // A second connection of the outlet's, whose part is played here.
        let mut outlet = Outlet::new(Limits::default());
        let conn = shard.with_hub(|hub, now| {
            let conn = hub.open_at(now, 1, open);
            while let Some((_, order)) = hub.poll_order() {
                outlet.obey(now, order);
            }
            conn
        });
        let text = r#"{"op":"ping","ref":1}"#.to_owned();
        outlet.handle(shard.now(), Input::Message { conn, text });
        let shared = Arc::clone(&link.uplink.shared);
        while !shared.is_behind() {
            publish(&shard);
        }
        while let Some(report) = outlet.report() {
            link.uplink.send(Up::Report(report));
        }
        let before = shared.orders.load(Ordering::Acquire);
        let turns = async {
            for _ in 0..10 {
                yield_now().await;
            }
        };
        native.block_on(&executor, turns);
        assert_eq!(shared.orders.load(Ordering::Acquire), before, "unanswered");
        shared.obeyed(before);
        native.block_on(&executor, shard.keeps_up());
        native.block_on(&executor, yield_now());
        assert_ne!(shared.orders.load(Ordering::Acquire), 0, "answered");
    }

    #[test]
    fn an_outlet_whose_hub_is_gone_ends_and_leaves_what_it_had_to_do() {
        let (native, executor) = (Native::new().unwrap(), Rc::new(LocalExecutor::new()));
        let (shard, link, _) = with_outlet(&native, &executor);
        publish(&shard);
        native.block_on(&executor, yield_now());
        assert_eq!(link.down.len(), 1, "all orders of a turn go at once");
        drop((shard, executor));
        let executor = Rc::new(LocalExecutor::new());
        let outlet = OutletShard::new(link, native.clone(), SocketLimits::default(), &executor);
        native.block_on(&executor, outlet.ended());
        assert_eq!(outlet.held().connections, 0);
    }
}
