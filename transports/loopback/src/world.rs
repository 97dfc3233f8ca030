//! One hub, its clients and publishers, on virtual time, in one thread.

mod clients;
mod expectations;
mod publishers;
mod run;

pub use publishers::BackEnd;

use crate::agenda::Agenda;
use crate::client::{self, Client};
use crate::clock::Clock;
use crate::digest::Digest;
use crate::handshake::Handshake;
use crate::link::{Link, LinkId, Parcel};
use crate::observation::{Observation, Observed};
use crate::random::Random;
use crate::script::Script;
use crate::settings::Settings;
use fanfare_core::{
    ConnId, ConnectedDevice, Error, Fault, Hub, InboxView, Input, Now, Receipt, SubscriptionId,
    TaskId, TaskView, UserId, Wall,
};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What comes in at the hub's side, or lands at a client's.
#[derive(Debug)]
enum Happening {
    Open(LinkId, Box<Handshake>),
    Message(LinkId, String),
    Pong(LinkId),
    Fault(LinkId, Fault),
    Hangup(LinkId),
    Write(LinkId),
    Land(LinkId, fanfare_core::Time, Parcel),
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
    clock: Clock,
    random: Random,
    latency_ms: RangeInclusive<u64>,
    hub: Hub,
    agenda: Agenda<Happening>,
    clients: Vec<client::State>,
    links: Vec<Link>,
    by_conn: BTreeMap<ConnId, LinkId>,
    by_subscription: BTreeMap<SubscriptionId, LinkId>,
    answers: BTreeMap<u64, Result<Receipt, Error>>,
    next_ticket: u64,
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
        let mut random = Random::new(settings.seed);
        Self {
            clock: Clock::new(),
            hub: Hub::new(settings.limits, random.bytes()),
            random,
            latency_ms: settings.latency_ms,
            agenda: Agenda::new(),
            clients: Vec::new(),
            links: Vec::new(),
            by_conn: BTreeMap::new(),
            by_subscription: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_ticket: 0,
            drained: false,
            digest: Digest::new(),
            observations: Vec::new(),
            script: Script::default(),
        }
    }

    /// The time, by both clocks.
    #[must_use]
    pub const fn now(&self) -> Now {
        self.clock.now()
    }

    /// Lets everything happen that is due by now: what is on its way arrives, sockets are written and read.
    pub fn settle(&mut self) {
        self.run_until(self.clock.now().time);
    }

    /// Lets so many milliseconds pass, and everything happen that is due in them.
    pub fn advance_ms(&mut self, millis: u64) {
        self.settle();
        let until = self.clock.now().time.plus(millis);
        self.note(format!("{millis} ms pass"));
        self.run_until(until);
    }

    /// Sets the wall clock, also back. The monotonic clock goes on.
    pub fn set_wall(&mut self, wall: Wall) {
        self.note(format!("the wall clock is set to {wall}"));
        self.clock.set_wall(wall);
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
    pub fn task(&mut self, task: TaskId) -> TaskView {
        self.hub.task(self.clock.now(), task)
    }

    /// A user's inbox as a back end may look at it.
    pub fn inbox(&mut self, user: UserId) -> InboxView {
        self.hub.inbox(self.clock.now(), user)
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
        self.script.note(self.clock.now().time, line);
    }

    fn note_of(&mut self, client: Client, what: &str) {
        let line = format!("{} {what}", self.state(client).name);
        self.note(line);
    }

    fn observe(&mut self, what: Observed) {
        let time = self.clock.now().time;
        self.observations.push(Observation { time, what });
    }
}
