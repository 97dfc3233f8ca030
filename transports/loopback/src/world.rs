//! One hub, its clients and publishers, on virtual time, in one thread.

mod clients;
mod expectations;
mod outlets;
mod publishers;
mod run;
mod store;

pub use publishers::BackEnd;
pub use store::{Backup, Restart};

use crate::agenda::Agenda;
use crate::client::{self, Client};
use crate::clock::WallClock;
use crate::digest::Digest;
use crate::handshake::Handshake;
use crate::link::{Link, LinkId, Parcel};
use crate::observation::{Observation, Observed};
use crate::random::Random;
use crate::script::Script;
use crate::settings::Settings;
use crate::store::SimStore;
use fanfare_core::{
    Answer, ConnId, ConnectedDevice, Error, Fault, History, Hub, InboxView, Input, Limits, Now,
    Page, Publish, Query, Receipt, RoomId, SubscriptionId, TaskId, TaskView, Ticket, UserId, Wall,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// Milliseconds that an answer may take.
const WAIT_MAX_MS: u64 = 60_000;

/// Who goes first among things of the same millisecond. What a script does comes in before the hub's deadlines, and all
/// of that before sockets are written: so what happens in one moment leaves in one write, as in one turn of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    Arrive,
    Tick,
    Write,
}

/// What comes in at the hub's side, or lands at a client's.
#[derive(Debug)]
pub(crate) enum Happening {
    Open(LinkId, Box<Handshake>),
    Said(LinkId, Said),
    Write(LinkId),
    Land(LinkId, fanfare_core::Time, Parcel),
    /// In this life of the hub.
    Store(u64, store::Work),
    /// In this life of the hub.
    Cross(u64, outlets::Crossing),
}

/// What a client's side of a connection sends, in its order.
#[derive(Debug)]
pub(crate) enum Said {
    Message(String),
    Pong,
    Fault(Fault),
    Hangup,
}

/// A hub with everything around it pretended.
///
/// A step of a script takes effect at once, or after the network's latency; sockets are written when the script expects
/// something, or lets time pass: what was done between leaves in one write. Every step and everything received is kept,
/// so a world lives as long as a test.
///
/// ```
/// use fanfare_loopback::{Handshake, World, draft, event, task, user};
/// let mut world = World::new(1);
/// let alice = world.connect(Handshake::chat(user(7), task(1)));
/// world.publish_to_task(task(1), &[user(7)], draft("task:started", ()));
/// world.expect(alice, event("task:started").at(task(1), 1).at(user(7), 1));
/// world.advance_ms(1_000);
/// world.expect_nothing(alice);
/// ```
#[derive(Debug)]
pub struct World {
    wall: WallClock,
    random: Random,
    latency_ms: RangeInclusive<u64>,
    hub: Hub,
    outlets: outlets::Outlets,
    agenda: Agenda<Turn, Happening>,
    /// Things that happened in this millisecond.
    happened: usize,
    clients: Vec<client::State>,
    links: Vec<Link>,
    by_conn: BTreeMap<ConnId, LinkId>,
    by_subscription: BTreeMap<SubscriptionId, LinkId>,
    store: Option<SimStore>,
    /// How many hubs there were before this one.
    life: u64,
    /// Links of which something is held until the hub is no longer busy with them.
    busy: BTreeSet<LinkId>,
    /// Publishes that were not answered.
    in_flight: BTreeMap<Ticket, Publish>,
    /// Answers to publishes and queries that nobody has looked at.
    answers: BTreeMap<Ticket, Result<Receipt, Error>>,
    answered: BTreeMap<Ticket, Result<Answer, Error>>,
    tickets: u64,
    drained: bool,
    digest: Digest,
    observations: Vec<Observation>,
    script: Script,
}

impl World {
    /// A world of this seed, with the defaults of [`Settings`].
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Settings {
            seed,
            ..Settings::default()
        })
    }

    /// A world made of `settings`.
    #[must_use]
    pub fn with(settings: Settings) -> Self {
        let mut world = Self {
            wall: WallClock::default(),
            // The one that is started below takes its place.
            hub: Hub::new(Limits::default(), [0; 32]),
            outlets: outlets::Outlets::new(settings.outlets, settings.crossing_ms),
            random: Random::new(settings.seed),
            latency_ms: settings.latency_ms,
            agenda: Agenda::new(),
            happened: 0,
            clients: Vec::new(),
            links: Vec::new(),
            by_conn: BTreeMap::new(),
            by_subscription: BTreeMap::new(),
            store: settings.store.map(SimStore::new),
            life: 0,
            busy: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            answers: BTreeMap::new(),
            answered: BTreeMap::new(),
            tickets: 0,
            drained: false,
            digest: Digest::new(),
            observations: Vec::new(),
            script: Script::default(),
        };
        world.start(settings.limits);
        world
    }

    /// The time, by both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let time = self.agenda.now();
        let wall = self.wall.at(time);
        Now { time, wall }
    }

    /// Lets everything happen that is due by now: what is on its way arrives, sockets are written and read.
    pub fn settle(&mut self) {
        self.run_until(self.agenda.now());
    }

    /// Lets so many milliseconds pass, and everything happen that is due in them.
    pub fn advance_ms(&mut self, millis: u64) {
        self.settle();
        let until = self.agenda.now().plus(millis);
        self.note(format!("{millis} ms pass"));
        self.run_until(until);
    }

    /// Sets the wall clock, also back. The monotonic clock goes on.
    pub fn set_wall(&mut self, wall: Wall) {
        self.note(format!("the wall clock is set to {wall}"));
        self.wall = WallClock::set(self.agenda.now(), wall);
    }

    /// Begins to shut the hub down.
    pub fn drain(&mut self) {
        self.note("the server drains".to_owned());
        self.feed(Input::Drain);
    }

    /// A back end closes all connections of a user.
    pub fn disconnect_user(&mut self, user: UserId) {
        self.note(format!("a back end disconnects user:{user}"));
        self.feed(Input::Disconnect { user });
    }

    /// Whether the hub said that it has no connection left, and takes none.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.drained
    }

    /// A task as a back end may look at it.
    ///
    /// # Panics
    /// Where the hub does not tell.
    #[track_caller]
    pub fn task(&mut self, task: TaskId) -> TaskView {
        match self.query(Query::Task(task)) {
            Ok(Answer::Task(view)) => view,
            other => self.fail("a task", &format!("{other:?}")),
        }
    }

    /// A user's inbox as a back end may look at it.
    ///
    /// # Panics
    /// Where the hub does not tell.
    #[track_caller]
    pub fn inbox(&mut self, user: UserId) -> InboxView {
        match self.query(Query::Inbox(user)) {
            Ok(Answer::Inbox(view)) => view,
            other => self.fail("an inbox", &format!("{other:?}")),
        }
    }

    /// A part of a room's log, as it may be read without a connection.
    ///
    /// # Panics
    /// Where the hub does not tell.
    #[track_caller]
    pub fn history(&mut self, room: impl Into<RoomId>, history: History) -> Page {
        let room = room.into();
        match self.query(Query::History { room, history }) {
            Ok(Answer::History(page)) => page,
            other => self.fail("a page of a log", &format!("{other:?}")),
        }
    }

    /// The devices from which a user is connected.
    #[must_use]
    pub fn devices(&self, user: UserId) -> Vec<ConnectedDevice> {
        self.hub.devices(user)
    }

    /// Connections that the hub holds, those that are being closed too.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.hub.connections()
    }

    /// What went into the hub and came out of it so far, as one number.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What could be seen from outside since the last call.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    fn note(&mut self, line: String) {
        self.script.note(self.agenda.now(), line);
    }

    fn note_of(&mut self, client: Client, what: &str) {
        let line = format!("{} {what}", self.state(client).name);
        self.note(line);
    }

    fn observe(&mut self, what: Observed) {
        let time = self.agenda.now();
        self.observations.push(Observation { time, what });
    }
}
