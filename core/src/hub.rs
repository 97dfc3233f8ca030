//! The one door of the core: inputs with their time go in, effects come out.
//!
//! Same inputs, same effects, byte for byte. A driver drains [`Hub::poll`] after every call, pulls the frames of the
//! connections that it names, and comes back at [`Hub::next_deadline`].

mod at;
mod close;
mod commits;
mod effects;
mod fan_out;
mod held;
mod inputs;
mod jobs;
mod join;
mod loads;
mod ops;
mod pull;
mod queries;
mod reads;
mod sweep;
mod watchers;
mod work;

pub use at::At;
pub use effects::Effect;
pub use held::Held;
pub use inputs::{Fault, Input, Ticket};
pub use pull::Pull;
pub use queries::{Answer, InboxView, Query, TaskView};

use crate::bus::EventBus;
use crate::close::CloseCode;
use crate::devices::{ConnectedDevice, Devices};
use crate::era::Era;
use crate::error::Error;
use crate::event::{Entry, Publish};
use crate::ids::{ConnId, Pattern, RoomId, UserId};
use crate::limits::Limits;
use crate::outlet::{Order, Outlet, OutletOrder, OutletReport, ReadWhy, Report};
use crate::port::{Change, StoreFailure};
use crate::protocol::{self};
use crate::receipt::Receipt;
use crate::rooms::UserRooms;
use crate::session::{Due, Endpoint, Open, Session, State};
use crate::sim_reached;
use crate::slots::Slots;
use crate::subscriptions::{Delivery, SubscriptionId};
use crate::time::{Now, Time};
use jobs::{Job, Origin};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use watchers::Watchers;
use work::Work;

/// Rooms, connections and the bus as one state machine.
///
/// ```
/// use fanfare_core::{Effect, Endpoint, Claims, Hub, Input, Limits, Now, Open, Principal, Pull, TaskGrant, UserId};
/// let now = Now::default();
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let claims = Claims::new(UserId::new(7), 1, TaskGrant::All);
/// let principal = Principal::new(claims, now.wall).ok();
/// let conn = hub.open(now, Open { principal, ..Open::new(Endpoint::Notifications) });
/// assert_eq!(hub.poll(), Some(Effect::Ready(conn)));
/// let Pull::Frame(welcome) = hub.pull(now, conn) else { panic!() };
/// assert!(welcome.text().starts_with(r#"{"type":"system:welcome""#));
/// ```
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    bus: EventBus,
    tasks: Watchers,
    users: UserRooms,
    devices: Devices,
    sessions: Slots<Session>,
    outlet: Outlet,
    /// For outlets of other threads, of which there are as many as this but one.
    orders: VecDeque<(usize, OutletOrder)>,
    outlets: usize,
    /// Whether what the outlet reported is being looked at.
    hears_reports: bool,
    bus_connections: BTreeMap<SubscriptionId, ConnId>,
    deadlines: BTreeSet<(Time, ConnId)>,
    effects: VecDeque<Effect>,
    /// Whether it is shutting down, and whether that was said to be done.
    draining: Option<Drained>,
    /// What there is to do with a store, where there is one.
    work: Option<Box<Work>>,
    /// Connections whose next messages were held, and wait for nothing any more.
    resumed: VecDeque<ConnId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Drained(bool);

impl Hub {
    /// A hub without connections or events. All random bytes come from `seed`.
    #[must_use]
    pub fn new(limits: Limits, seed: [u8; 32]) -> Self {
        Self::over(limits.clone(), EventBus::new(&limits, seed), None)
    }

    fn over(limits: Limits, bus: EventBus, work: Option<Box<Work>>) -> Self {
        Self {
            bus,
            outlet: Outlet::new(limits.clone()),
            limits,
            tasks: Watchers::default(),
            users: UserRooms::new(),
            devices: Devices::default(),
            sessions: Slots::default(),
            orders: VecDeque::new(),
            outlets: 1,
            hears_reports: false,
            bus_connections: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            effects: VecDeque::new(),
            draining: None,
            work,
            resumed: VecDeque::new(),
        }
    }

    /// A hub whose log is in a store. `meta` are the rows of [`Table::Meta`](crate::Table::Meta), none in a new store.
    /// Its first effects may be a commit, which must be done before anybody is let in.
    ///
    /// # Errors
    /// [`Error::NewerStore`] and [`Error::UnreadableStore`].
    pub fn restore(
        limits: Limits,
        seed: [u8; 32],
        meta: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Self, Error> {
        let mut bus = EventBus::restored(&limits, seed, meta)?;
        let is_new = bus.journal().is_some_and(|journal| !journal.is_empty());
        let work = Some(Box::new(Work::new(is_new)));
        let mut hub = Self::over(limits, bus, work);
        hub.commit(Now::default());
        Ok(hub)
    }

    /// The change by which all rooms of a store begin a new epoch, for one that was put back to an earlier moment: numbers
    /// that it gives again are of another epoch then, so a client that saw what is lost is told a gap. What the store
    /// itself knows, such as cursors of devices, goes on. To be committed while no hub has the store. All random bytes
    /// come from `seed`.
    ///
    /// ```
    /// use fanfare_core::{Change, Hub, Table};
    /// let change = Hub::new_epochs([7; 32]);
    /// assert!(matches!(change, Change::Put { table: Table::Meta, .. }));
    /// ```
    #[must_use]
    pub fn new_epochs(seed: [u8; 32]) -> Change {
        Era::begin(seed)
    }

    /// Whether a message of the connection's waits until an earlier one is answered. The next is best read when none does,
    /// though a few more would be held; until then a driver goes on reading, so that it hears pongs, and of a peer that is gone.
    #[must_use]
    pub fn is_busy(&self, conn: ConnId) -> bool {
        let session = self.sessions.get(conn);
        session.is_some_and(|session| !session.held.is_empty())
    }

    /// Why the store takes nothing now, if it does not: what the last commit came to.
    #[must_use]
    pub fn store_failure(&self) -> Option<StoreFailure> {
        self.work.as_ref()?.commits.failure
    }

    /// The bounds that it keeps.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a connection. One that can't be is told so and closed, by what the driver pulls.
    pub fn open(&mut self, now: Now, open: Open) -> ConnId {
        self.open_at(now, 0, open)
    }

    /// The same for a connection that an [`Outlet`] of another thread serves, from 1 on; 0 is the hub's own.
    pub fn open_at(&mut self, now: Now, outlet: u8, mut open: Open) -> ConnId {
        let principal = open.principal.take();
        let session = Session::new(now.time, open, &self.limits);
        let conn = self.sessions.insert(outlet, session);
        self.outlets = self.outlets.max(conn.outlet() + 1);
        self.order(now, Order::Open { conn });
        if self.draining.is_some() {
            sim_reached!("open_while_draining");
            self.close(now, conn, CloseCode::DRAINING);
        } else if let Some(patterns) = self.bus_patterns(conn) {
            self.open_bus(now, conn, patterns);
        } else if let Some(principal) = principal {
            let principal = Box::new(principal);
            self.run(
                now,
                Job::Admit {
                    conn,
                    principal,
                    reference: None,
                },
            );
        }
        self.reschedule(conn);
        self.see_to_the_store(now);
        conn
    }

    /// Takes one input in full.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Message { conn, text } => {
                self.outlet.heard(now, conn);
                self.message(now, conn, &text);
            }
            Input::Ping { conn } => {
                self.outlet.heard(now, conn);
                self.ping(now, conn);
            }
            Input::Pong { conn } => self.outlet.heard(now, conn),
            Input::Fault { conn, fault } => self.close(now, conn, fault.close_code()),
            Input::Closed { conn } => {
                self.outlet.closed(conn);
                self.hear_reports(now);
            }
            Input::Verified { conn, result } => self.verified(now, conn, result),
            Input::Publish { ticket, .. } if self.draining.is_some() => {
                sim_reached!("publish_while_draining");
                let result = Err(Error::Draining);
                self.effects.push_back(Effect::Published { ticket, result });
            }
            Input::Publish { ticket, publish } => {
                let origin = Origin::Ticket(ticket);
                self.run(
                    now,
                    Job::Publish {
                        origin,
                        publish,
                        follows: false,
                    },
                );
            }
            Input::Disconnect { user } => {
                for conn in self.users.members(user).to_vec() {
                    sim_reached!("disconnected");
                    self.close(now, conn, CloseCode::DISCONNECTED);
                }
            }
            Input::Drain => self.drain(now),
            Input::Query { ticket, query } => self.run(now, Job::Query { ticket, query }),
            Input::Committed(result) => self.committed(now, result),
            Input::Fetched { id, result } => self.fetched(now, id, result),
            Input::Report(OutletReport(report)) => self.hear(now, report),
            Input::Tick => self.tick(now),
        }
        self.see_to_the_store(now);
    }

    /// What follows an input: memory keeps its bounds, and a store gets its work.
    fn see_to_the_store(&mut self, now: Now) {
        if self.work.is_none() {
            return self.forget_inboxes(now);
        }
        self.take_held(now);
        self.sweep(now);
        self.put_out();
        self.commit(now);
        self.tell_drained();
    }

    /// The next effect, or `None` until the next input.
    pub fn poll(&mut self) -> Option<Effect> {
        self.outlet.poll().or_else(|| self.effects.pop_front())
    }

    /// When [`Input::Tick`] is due. An earlier one does nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let session = self.deadlines.first().map(|(time, _)| *time);
        let work = self.work.as_ref();
        let commit = work.and_then(|work| work.commits.deadline());
        let sweep = work.and_then(|work| work.sweep.deadline());
        let outlet = self.outlet.next_deadline();
        [session, commit, sweep, outlet].into_iter().flatten().min()
    }

    /// Subscribes to the bus; see [`EventBus::subscribe`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] where there are as many subscribers as there may be.
    pub fn subscribe(&mut self, patterns: Vec<Pattern>) -> Result<SubscriptionId, Error> {
        self.bus.subscribe(patterns)
    }

    /// Ends a subscription. Whether there was one.
    pub fn unsubscribe(&mut self, id: SubscriptionId) -> bool {
        self.bus.unsubscribe(id)
    }

    /// What a subscriber gets next, or `None` until [`Effect::Subscription`] names it again.
    pub fn pull_subscription(&mut self, id: SubscriptionId) -> Option<Delivery> {
        self.bus.pull(id)
    }

    /// The devices from which a user is connected, by name.
    #[must_use]
    pub fn devices(&self, user: UserId) -> Vec<ConnectedDevice> {
        self.devices.of(user)
    }

    /// Connections that are open, those that are being closed too.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// Whether it is shutting down.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Bytes that wait in the outbox of a connection.
    #[must_use]
    pub fn waiting_bytes(&self, conn: ConnId) -> usize {
        self.outlet.waiting_bytes(conn)
    }

    fn publish(&mut self, now: Now, publish: Publish) -> Result<Receipt, Error> {
        if self.draining.is_some() {
            return Err(Error::Draining);
        }
        let (tasks, users) = (&self.tasks, &self.users);
        let connected = |room| match room {
            RoomId::Task(task) => tasks.count(task),
            RoomId::User(user) => users.members(user).len(),
        };
        let published = self.bus.take(now, None, publish, connected)?;
        if let Some(entry) = published.entry {
            self.told(now, &entry);
        }
        Ok(published.receipt)
    }

    /// Hands a new entry to everybody who gets it.
    fn told(&mut self, now: Now, entry: &Arc<Entry>) {
        // First: who falls behind by this entry reads all its rooms from here on, by their new epochs.
        if !planted!(EvictionToldLate) {
            self.tell_evicted(now);
        }
        self.fan_out(now, entry);
        if planted!(EvictionToldLate) {
            self.tell_evicted(now);
        }
        self.wake_subscribers(now);
    }

    /// Has an outlet do something, and takes in what follows from it.
    fn order(&mut self, now: Now, order: Order) {
        let outlet = order.conn().map_or(0, ConnId::outlet);
        self.order_to(now, outlet, order);
    }

    fn order_to(&mut self, now: Now, outlet: usize, order: Order) {
        if outlet > 0 {
            return self.orders.push_back((outlet, OutletOrder(order)));
        }
        self.outlet.take(now, order);
        self.hear_reports(now);
    }

    /// What an [`Outlet`] of another thread is to do next, and its number.
    pub fn poll_order(&mut self) -> Option<(usize, OutletOrder)> {
        self.orders.pop_front()
    }

    fn hear_reports(&mut self, now: Now) {
        // What follows from a report may be reported in turn: it comes after those that are there.
        if std::mem::replace(&mut self.hears_reports, true) {
            return;
        }
        while let Some(OutletReport(report)) = self.outlet.report() {
            self.hear(now, report);
        }
        self.hears_reports = false;
    }

    fn hear(&mut self, now: Now, report: Report) {
        match report {
            Report::Message { conn, text } => self.message(now, conn, &text),
            Report::Ping { conn } => {
                self.ping(now, conn);
                self.order(now, Order::Handled { conn });
            }
            Report::Asks { conn } => self.read_for(now, conn),
            Report::Behind { conn, index } => self.falls_behind(now, conn, index),
            Report::Missed { conn, first } => {
                let session = self.sessions.get_mut(conn);
                let catch_up = session.and_then(|session| session.catch_up.as_mut());
                if let Some(catch_up) = catch_up {
                    first
                        .iter()
                        .for_each(|(room, first)| catch_up.rewind(*room, first));
                }
            }
            Report::Failing { conn, code } => self.close(now, conn, code),
            Report::Gone { conn } => self.forget(now, conn),
        }
    }

    fn tick(&mut self, now: Now) {
        self.outlet.tick(now);
        self.hear_reports(now);
        while let Some((time, conn)) = self
            .deadlines
            .first()
            .copied()
            .filter(|(time, _)| *time <= now.time)
        {
            self.deadlines.remove(&(time, conn));
            let Some(session) = self.sessions.get_mut(conn) else {
                continue;
            };
            session.scheduled = None;
            match session.tick(now.time, &self.limits) {
                None => {}
                Some(Due::Expiring(in_ms)) => self.say(now, conn, protocol::expiring(in_ms)),
                Some(Due::Close(code)) => self.close(now, conn, code),
            }
            self.reschedule(conn);
        }
    }

    /// Sees to it that the session is looked at in time. A look that comes too early costs little, so that one is left.
    fn reschedule(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let Some(deadline) = session.deadline(&self.limits) else {
            return;
        };
        if session
            .scheduled
            .is_some_and(|scheduled| scheduled <= deadline)
        {
            return;
        }
        if let Some(scheduled) = session.scheduled.replace(deadline) {
            self.deadlines.remove(&(scheduled, conn));
        }
        self.deadlines.insert((deadline, conn));
    }

    fn bus_patterns(&self, conn: ConnId) -> Option<Vec<Pattern>> {
        match &self.sessions.get(conn)?.endpoint {
            Endpoint::Bus(patterns) => Some(patterns.clone()),
            Endpoint::Task(_) | Endpoint::Notifications => None,
        }
    }

    fn open_bus(&mut self, now: Now, conn: ConnId, patterns: Vec<Pattern>) {
        let Ok(id) = self.bus.subscribe(patterns.clone()) else {
            return self.close(now, conn, CloseCode::TOO_MANY_CONNECTIONS);
        };
        self.bus_connections.insert(id, conn);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.state = State::Bus(id);
        }
        let welcome = protocol::BusWelcome {
            conn: conn.to_string(),
            heartbeat_ms: self.limits.heartbeat_ms,
            max_message_bytes: self.limits.message_bytes,
            types: patterns,
        };
        self.say(now, conn, protocol::bus_welcome(&welcome));
        let why = ReadWhy::Resumes;
        self.order(now, Order::Read { conn, why });
    }
}
