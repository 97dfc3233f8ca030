//! The one door of the core: inputs with their time go in, effects come out.
//!
//! Same inputs, same effects, byte for byte. A driver drains [`Hub::poll`] after every call, pulls the frames of the
//! connections that it names, and comes back at [`Hub::next_deadline`].

mod close;
mod commits;
mod fan_out;
mod jobs;
mod join;
mod loads;
mod ops;
mod pull;
mod sweep;

pub use pull::Pull;

use crate::auth::{AuthError, Principal};
use crate::bus::EventBus;
use crate::close::CloseCode;
use crate::devices::{ConnectedDevice, Devices};
use crate::era::Era;
use crate::error::Error;
use crate::event::{Draft, Entry, Publish, Target};
use crate::history::{self, History, Page};
use crate::ids::{ConnId, Epoch, Pattern, RoomId, Seq, TaskId, UserId};
use crate::inbox::KnownDevice;
use crate::limits::Limits;
use crate::port::{Change, Fetch, FetchId, Fetched, StoreFailure};
use crate::protocol::{self, Token};
use crate::receipt::Receipt;
use crate::rooms::{TaskRooms, UserRooms};
use crate::session::{Due, Endpoint, Open, Session, State};
use crate::slots::Slots;
use crate::subscriptions::{Delivery, SubscriptionId};
use crate::task_events::Publisher;
use crate::tasks::Snapshot;
use crate::time::{Now, Time};
use jobs::{Job, Origin};
use loads::Work;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A number by which a driver knows the answer to its publish.
///
/// ```
/// use fanfare_core::Ticket;
/// assert_eq!(Ticket(1), Ticket(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// How a client broke the rules of the WebSocket protocol or of its use here; what it is closed with.
///
/// ```
/// use fanfare_core::{CloseCode, Fault};
/// assert_eq!(Fault::NotText.close_code(), CloseCode::NOT_TEXT);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are no frames of RFC 6455.
    Protocol,
    /// A binary message.
    NotText,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A message in too many fragments, or that was never finished.
    Policy,
    /// A message over the limit.
    TooBig,
}

impl Fault {
    /// The code that it is closed with.
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::PROTOCOL_ERROR,
            Self::NotText => CloseCode::NOT_TEXT,
            Self::NotUtf8 => CloseCode::NOT_UTF8,
            Self::Policy => CloseCode::POLICY,
            Self::TooBig => CloseCode::TOO_BIG,
        }
    }
}

/// What happened outside. Inputs for a connection that is gone do nothing.
///
/// ```
/// use fanfare_core::{Hub, Input, Limits, Now};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// hub.handle(Now::default(), Input::Tick);
/// assert!(hub.poll().is_none());
/// ```
#[derive(Debug)]
pub enum Input {
    /// A text message came.
    Message {
        /// From whom.
        conn: ConnId,
        /// The text.
        text: String,
    },
    /// A ping came (the transport answers it).
    Ping {
        /// From whom.
        conn: ConnId,
    },
    /// A pong came.
    Pong {
        /// From whom.
        conn: ConnId,
    },
    /// A client broke the protocol.
    Fault {
        /// Which.
        conn: ConnId,
        /// How.
        fault: Fault,
    },
    /// The other side closed, or the socket is gone.
    Closed {
        /// Whose.
        conn: ConnId,
    },
    /// The answer to [`Effect::Verify`]; it must come before the connection's next message.
    Verified {
        /// Whose token.
        conn: ConnId,
        /// What the token says.
        result: Result<Principal, AuthError>,
    },
    /// A back end publishes; answered by [`Effect::Published`].
    Publish {
        /// By which the answer is known.
        ticket: Ticket,
        /// What.
        publish: Publish,
    },
    /// A back end closes all connections of a user, with 4503.
    Disconnect {
        /// The user.
        user: UserId,
    },
    /// The server shuts down: everybody is told, nobody else comes in. [`Effect::Drained`] follows.
    Drain,
    /// A back end, or a client by HTTP, wants to know something; answered by [`Effect::Answered`].
    Query {
        /// By which the answer is known.
        ticket: Ticket,
        /// What.
        query: Query,
    },
    /// The answer to [`Effect::Commit`].
    Committed(Result<(), StoreFailure>),
    /// The answer to [`Effect::Fetch`].
    Fetched {
        /// Which.
        id: FetchId,
        /// What each of its fetches found, in their order.
        result: Result<Vec<Fetched>, StoreFailure>,
    },
    /// Time passed.
    Tick,
}

/// What the driver has to do.
///
/// ```
/// use fanfare_core::{Effect, Endpoint, Hub, Input, Limits, Now, Open, Pull};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let conn = hub.open(Now::default(), Open::new(Endpoint::Notifications));
/// hub.handle(Now::default(), Input::Drain);
/// assert_eq!(hub.poll(), Some(Effect::Ready(conn)));
/// assert!(matches!(hub.pull(Now::default(), conn), Pull::Frame(_)));
/// assert!(matches!(hub.pull(Now::default(), conn), Pull::Close { .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The connection has something to send: [`Hub::pull`] it. Comes once until a pull was empty.
    Ready(ConnId),
    /// Check this token, and answer with [`Input::Verified`].
    Verify {
        /// Whose.
        conn: ConnId,
        /// The token.
        token: Token,
    },
    /// Close the socket now, there is nothing more to write; the hub has forgotten the connection.
    Drop(ConnId),
    /// The answer to a publish.
    Published {
        /// Whose.
        ticket: Ticket,
        /// Where the event is, or why it was refused.
        result: Result<Receipt, Error>,
    },
    /// The answer to a query.
    Answered {
        /// Whose.
        ticket: Ticket,
        /// What it wanted to know, or why it can't.
        result: Result<Answer, Error>,
    },
    /// Commit these changes in their order, all or none, and answer with [`Input::Committed`]. One is under way at a time.
    Commit(Vec<Change>),
    /// Read these parts of the store, with everything whose commit was answered, and answer with [`Input::Fetched`].
    Fetch {
        /// By which the answer is known.
        id: FetchId,
        /// What to read.
        fetches: Vec<Fetch>,
    },
    /// The subscriber has something to pull. Comes once until a pull was empty.
    Subscription(SubscriptionId),
    /// Draining is done: no connection is left.
    Drained,
}

/// A task as a back end may look at it. Serialises as the body of `GET /v1/tasks/{id}`.
///
/// ```
/// use fanfare_core::{Hub, Limits, Now, TaskId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let task: TaskId = "550e8400-e29b-41d4-a716-446655440000".parse()?;
/// assert_eq!(hub.task(Now::default(), task).connected, 0);
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskView {
    /// The task.
    pub task: TaskId,
    /// Its snapshot.
    pub state: Snapshot,
    /// Its room's epoch.
    pub epoch: Epoch,
    /// Its room's last seq.
    pub seq: Seq,
    /// Connections in its room.
    pub connected: usize,
}

/// A user's inbox as a back end may look at it. Serialises as the body of `GET /v1/users/{id}/inbox`.
///
/// ```
/// use fanfare_core::{Draft, Hub, Limits, Now, Payload, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let draft = Draft::new("user:notification".parse()?, Payload::default());
/// hub.at(Now::default()).publish_to_user(UserId::new(7), draft)?;
/// assert_eq!(hub.inbox(Now::default(), UserId::new(7)).unread, 1);
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboxView {
    /// The user's room.
    pub room: RoomId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its last seq.
    pub seq: Seq,
    /// Notifications that are kept and that the user has not read.
    pub unread: usize,
    /// Connections in it.
    pub connected: usize,
    /// The devices that the server knows, by name.
    pub devices: Vec<KnownDevice>,
}

/// What is asked of a hub, by a back end or for a client.
///
/// ```
/// use fanfare_core::{Answer, Effect, Hub, Input, Limits, Now, Query, Ticket, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let query = Query::Inbox(UserId::new(7));
/// hub.handle(Now::default(), Input::Query { ticket: Ticket(1), query });
/// let Some(Effect::Answered { result: Ok(Answer::Inbox(inbox)), .. }) = hub.poll() else { panic!() };
/// assert_eq!(inbox.unread, 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// A task as it is now; of one that nothing was heard of the state is unknown.
    Task(TaskId),
    /// A user's inbox.
    Inbox(UserId),
    /// A part of a room's log.
    History {
        /// The room.
        room: RoomId,
        /// Which part.
        history: History,
    },
}

/// What a [`Query`] is answered with.
///
/// ```
/// use fanfare_core::Answer;
/// fn is_history(answer: &Answer) -> bool {
///     matches!(answer, Answer::History(_))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A task.
    Task(TaskView),
    /// A user's inbox.
    Inbox(InboxView),
    /// A part of a room's log.
    History(Page),
}

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
    tasks: TaskRooms,
    users: UserRooms,
    devices: Devices,
    sessions: Slots<Session>,
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

const NEEDS_A_QUERY: &str =
    "a hub with a store answers by `Effect::Published` and `Effect::Answered`";

impl Hub {
    /// A hub without connections or events. All random bytes come from `seed`.
    #[must_use]
    pub fn new(limits: Limits, seed: [u8; 32]) -> Self {
        Self::over(limits.clone(), EventBus::new(&limits, seed), None)
    }

    fn over(limits: Limits, bus: EventBus, work: Option<Box<Work>>) -> Self {
        Self {
            bus,
            limits,
            tasks: TaskRooms::new(),
            users: UserRooms::new(),
            devices: Devices::default(),
            sessions: Slots::default(),
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
    pub fn open(&mut self, now: Now, mut open: Open) -> ConnId {
        let principal = open.principal.take();
        let conn = self
            .sessions
            .insert(Session::new(now.time, open, &self.limits));
        if self.draining.is_some() {
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
            Input::Message { conn, text } => self.message(now, conn, &text),
            Input::Ping { conn } => self.ping(now, conn),
            Input::Pong { conn } => self.heard(now, conn),
            Input::Fault { conn, fault } => self.close(now, conn, fault.close_code()),
            Input::Closed { conn } => self.forget(now, conn),
            Input::Verified { conn, result } => self.verified(now, conn, result),
            Input::Publish { ticket, .. } if self.draining.is_some() => {
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
                    self.close(now, conn, CloseCode::DISCONNECTED);
                }
            }
            Input::Drain => self.drain(now),
            Input::Query { ticket, query } => self.run(now, Job::Query { ticket, query }),
            Input::Committed(result) => self.committed(now, result),
            Input::Fetched { id, result } => self.fetched(now, id, result),
            Input::Tick => self.tick(now),
        }
        self.see_to_the_store(now);
    }

    /// What follows an input, in a hub with a store.
    fn see_to_the_store(&mut self, now: Now) {
        if self.work.is_none() {
            return;
        }
        self.take_held(now);
        self.sweep(now);
        self.put_out();
        self.commit(now);
        self.tell_drained();
    }

    /// The next effect, or `None` until the next input.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is due. An earlier one does nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let session = self.deadlines.first().map(|(time, _)| *time);
        let work = self.work.as_ref();
        let commit = work.and_then(|work| work.commits.deadline());
        let sweep = work.and_then(|work| work.sweep.deadline());
        [session, commit, sweep].into_iter().flatten().min()
    }

    /// A publisher in this thread, at this time.
    ///
    /// # Panics
    /// With a store, where an answer can't come at once: see [`Input::Publish`].
    pub fn at(&mut self, now: Now) -> At<'_> {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        At { hub: self, now }
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

    /// A task as it is now; of one that nothing was heard of the state is unknown.
    ///
    /// # Panics
    /// With a store, since the task may have to be read first: see [`Query::Task`].
    pub fn task(&mut self, now: Now, task: TaskId) -> TaskView {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        self.task_view(now, task)
    }

    fn task_view(&mut self, now: Now, task: TaskId) -> TaskView {
        let position = self.bus.position(task.into());
        TaskView {
            task,
            state: self.bus.snapshot(now.wall, task),
            epoch: position.epoch,
            seq: position.seq,
            connected: self.tasks.members(task).len(),
        }
    }

    /// Whether the task was deleted in the last 24 hours: it can't be joined, and no event is taken for it.
    ///
    /// # Panics
    /// With a store, since the task may have to be read first: see [`Query::Task`].
    #[must_use]
    pub fn is_gone(&self, now: Now, task: TaskId) -> bool {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        self.bus.is_gone(now.wall, task)
    }

    /// The tasks of which an event came last, at most `count`, the latest first.
    #[must_use]
    pub fn recent_tasks(&self, now: Now, count: usize) -> Vec<(TaskId, Snapshot)> {
        let recent = self.bus.recent_tasks(now.wall);
        recent
            .take(count)
            .map(|(task, snapshot)| (task, snapshot.clone()))
            .collect()
    }

    /// A part of a room's log.
    ///
    /// # Panics
    /// With a store, since it may have to be read first: see [`Query::History`].
    #[must_use]
    pub fn history(&mut self, now: Now, room: RoomId, history: &History) -> Page {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        history::read(&mut self.bus, now.wall, room, history)
    }

    /// A user's inbox as a back end may look at it.
    ///
    /// # Panics
    /// With a store, since it may have to be read first: see [`Query::Inbox`].
    #[must_use]
    pub fn inbox(&mut self, now: Now, user: UserId) -> InboxView {
        assert!(self.work.is_none(), "{NEEDS_A_QUERY}");
        self.inbox_view(now, user)
    }

    fn inbox_view(&self, now: Now, user: UserId) -> InboxView {
        let devices = self.bus.known_devices(now.wall, user, &self.devices);
        let position = self.bus.position(user.into());
        InboxView {
            room: user.into(),
            epoch: position.epoch,
            seq: position.seq,
            unread: self.bus.unread(user),
            connected: self.users.members(user).len(),
            devices,
        }
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
        self.sessions
            .get(conn)
            .map_or(0, |session| session.outbox.bytes())
    }

    fn publish(&mut self, now: Now, publish: Publish) -> Result<Receipt, Error> {
        if self.draining.is_some() {
            return Err(Error::Draining);
        }
        let (tasks, users) = (&self.tasks, &self.users);
        let connected = |room| match room {
            RoomId::Task(task) => tasks.members(task).len(),
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
        self.fan_out(now, entry);
        self.tell_evicted(now);
        self.wake_subscribers(now);
    }

    fn tick(&mut self, now: Now) {
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
                Some(Due::Ping) => self.ready(now.time, conn),
                Some(Due::Expiring(in_ms)) => self.say(now, conn, protocol::expiring(in_ms)),
                Some(Due::Close(code)) => self.close(now, conn, code),
                Some(Due::Drop) => {
                    self.forget(now, conn);
                    self.effects.push_back(Effect::Drop(conn));
                }
            }
            self.reschedule(conn);
        }
    }

    /// Sees to it that the session is looked at in time. A look that comes too early costs little, so that one is left.
    fn reschedule(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else {
            return;
        };
        let deadline = session.deadline(&self.limits);
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
    }
}

/// A hub at one moment, as a publisher in the hub's own thread.
///
/// ```
/// use fanfare_core::{Draft, Hub, Limits, Now, Payload, UserId};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let draft = Draft::new("user:notification".parse()?, Payload::default());
/// hub.at(Now::default()).publish_to_user(UserId::new(7), draft)?;
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug)]
pub struct At<'a> {
    hub: &'a mut Hub,
    now: Now,
}

impl At<'_> {
    /// Publishes to `room`, or with none to the bus's subscribers only.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`], and [`Error::Draining`].
    pub fn publish(&mut self, room: Option<RoomId>, draft: Draft) -> Result<Receipt, Error> {
        let target = room.into();
        self.hub.publish(self.now, Publish { target, draft })
    }

    /// Publishes one event to a task's room and to the rooms of `users`.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`], and [`Error::Draining`].
    pub fn publish_to_task(
        &mut self,
        task: TaskId,
        users: &[UserId],
        draft: Draft,
    ) -> Result<Receipt, Error> {
        let users = users.to_vec();
        let target = Target::Task { task, users };
        self.hub.publish(self.now, Publish { target, draft })
    }

    /// Publishes to a user's room.
    ///
    /// # Errors
    /// As [`EventBus::publish_to_task`], and [`Error::Draining`].
    pub fn publish_to_user(&mut self, user: UserId, draft: Draft) -> Result<Receipt, Error> {
        self.publish(Some(user.into()), draft)
    }
}

impl Publisher for At<'_> {
    type Answer = Result<Receipt, Error>;

    fn publish(&mut self, publish: Publish) -> Self::Answer {
        self.hub.publish(self.now, publish)
    }
}
