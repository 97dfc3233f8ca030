//! A server on a machine of its own: the shipped shard and HTTP API, over simulated streams and clocks.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;

use async_channel::{Receiver, Sender};
use fanfare_core::{Endpoint, Held, Hub, Limits, Now, Open, Time, Wall};
use fanfare_loopback::{Stream, Timeline, WallClock};
use fanfare_store::HubLog;
use fanfare_websocket::{
    Api, ApiKey, ApiOptions, Credentials, ListenerLimits, OutletShard, Passes, Platform, Shard,
    SocketLimits, TokenKey, serve,
};
use smol::LocalExecutor;

use crate::direct::{self, Ports, Said};
use crate::outlets::Turns;
use crate::plan::Bounds;
use crate::storage::{Kept, Machine, Unopened, Writing};
use crate::wire::Frame;

/// The wall clock's time when a world begins.
pub(crate) const BEGINNING: Wall = WallClock::BEGINNING;
pub(crate) const API_KEY: &str = "the key of all back ends of the simulation";
pub(crate) const SECRET: &[u8] = b"the secret that signs all tokens of the simulation";
/// Milliseconds that clients have to leave when a server drains.
const DRAIN_MS: u64 = 10_000;
/// Milliseconds between two looks at whether all have left.
const DRAIN_LOOK_MS: u64 = 50;

/// Both clocks of a process that was started at some time. As the shipped one, it does not show that its machine's wall
/// clock was set back; one that is started after that shows it.
pub(crate) struct Clocks {
    timeline: Timeline,
    started: Time,
    /// Of the machine, which goes on with it when a server on it is started anew.
    machine: Rc<Cell<WallClock>>,
    shown: Cell<Wall>,
    witness: Option<Witness>,
    ports: Rc<Ports>,
    turns: Turns,
}

/// Sees everything that passes between a server's shard and its hub.
pub(crate) type Witness = Rc<dyn Fn(Time, Passes<'_>)>;

impl Platform for Clocks {
    type Stream = Stream;
    type Parcel = Stream;

    fn send_off(&self, stream: Stream) -> Stream {
        stream
    }

    fn take_in(&self, parcel: Stream) -> std::io::Result<Stream> {
        Ok(parcel)
    }

    fn now(&self) -> Now {
        let now = self.timeline.now();
        let wall = self.machine.get().at(now).max(self.shown.get());
        self.shown.set(wall);
        Now {
            time: Time::from_millis(now.since(self.started)),
            wall,
        }
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> {
        self.timeline.sleep_until(self.started.plus(at.as_millis()))
    }

    async fn crossing(&self) {
        let late = self.turns.next();
        if late > 0 {
            let at = self.timeline.now().plus(late);
            self.timeline.sleep_until(at).await;
        }
    }

    fn watch(&self, _now: Now, passes: Passes<'_>) {
        self.ports.watch(passes);
        if let Some(witness) = &self.witness {
            witness(self.timeline.now(), passes);
        }
    }
}

/// A server. Dropping it is `kill -9`.
pub(crate) struct Server {
    timeline: Timeline,
    executor: Rc<LocalExecutor<'static>>,
    /// Once it serves.
    serving: Rc<OnceCell<Serving>>,
    /// Of a durable one.
    writing: Option<Rc<Writing>>,
    log: Option<HubLog>,
}

struct Serving {
    shard: Shard<Clocks>,
    api: Rc<Api<Clocks>>,
    /// Of connections without bytes.
    ports: Rc<Ports>,
    outlets: Vec<OutletShard<Clocks>>,
    credentials: Credentials,
}

/// Who may: the same in every life of the server.
pub(crate) fn credentials() -> Result<Credentials, fanfare_websocket::Error> {
    Ok(Credentials {
        tokens: TokenKey::new(SECRET)?,
        api_key: ApiKey::new(API_KEY)?,
    })
}

/// What a server is made of.
pub(crate) struct Start<'w> {
    pub(crate) timeline: &'w Timeline,
    pub(crate) wall: &'w Rc<Cell<WallClock>>,
    pub(crate) seed: [u8; 32],
    pub(crate) bounds: &'w Bounds,
    pub(crate) outlets: u8,
    pub(crate) witness: Option<Witness>,
    pub(crate) credentials: Credentials,
}

impl Start<'_> {
    fn limits(&self) -> Limits {
        Limits {
            task_log_events: self.bounds.task_log_events,
            user_log_events: self.bounds.user_log_events,
            outbox_bytes: self.bounds.outbox_bytes,
            log_bytes: self.bounds.log_bytes,
            rooms_per_connection: self.bounds.rooms_per_connection,
            inbox_bytes: self.bounds.inbox_bytes,
            ..Limits::default()
        }
    }

    fn clocks(&self, ports: &Rc<Ports>, turns: &Turns) -> Clocks {
        Clocks {
            turns: turns.clone(),
            timeline: self.timeline.clone(),
            started: self.timeline.now(),
            machine: Rc::clone(self.wall),
            shown: Cell::new(Wall::from_unix_millis(0)),
            witness: self.witness.clone(),
            ports: Rc::clone(ports),
        }
    }

    /// A server that keeps all in memory. It serves at once.
    pub(crate) fn in_memory(self) -> Server {
        let executor = Rc::new(LocalExecutor::new());
        let hub = Hub::new(self.limits(), self.seed);
        let verify = verify(self.credentials.clone());
        let ports = Ports::new(self.timeline, self.witness.clone());
        let turns = Turns::new(self.seed);
        let clocks = || self.clocks(&ports, &turns);
        let shard = Shard::new(hub, clocks(), SocketLimits::default(), verify, &executor);
        let outlets = (0..self.outlets).map(|_| clocks()).collect();
        let outlets = begin(&shard, outlets, &executor);
        let serving = Serving::new(shard, outlets, self.credentials, ports);
        let serving = OnceCell::from(serving);
        Server {
            timeline: self.timeline.clone(),
            executor,
            serving: Rc::new(serving),
            writing: None,
            log: None,
        }
    }

    /// A server whose log is in the store of this machine. `started` is called when it serves, or does not.
    pub(crate) fn durable(
        self,
        machine: &Rc<Machine>,
        started: impl FnOnce(Result<(), String>) + 'static,
    ) -> Result<Server, Unopened> {
        let (log, writing) = machine.open()?;
        let executor = Rc::new(LocalExecutor::new());
        let serving = Rc::new(OnceCell::new());
        let ports = Ports::new(self.timeline, self.witness.clone());
        let (limits, seed, turns) = (self.limits(), self.seed, Turns::new(self.seed));
        let clocks = self.clocks(&ports, &turns);
        let apart = (0..self.outlets).map(|_| self.clocks(&ports, &turns));
        let apart: Vec<Clocks> = apart.collect();
        let timeline = self.timeline.clone();
        let clock = timeline.clone();
        let (own, place) = (Rc::downgrade(&executor), Rc::clone(&serving));
        let (machine, storage) = (Rc::clone(machine), log.clone());
        let verify = verify(self.credentials.clone());
        let credentials = self.credentials;
        let opened = writing.idle_at();
        let start = async move {
            // Opening ends when what it wrote is safe.
            clock.sleep_until(opened).await;
            let recalled = storage.recall(machine.is_in_doubt(), seed).await;
            recalled.map_err(|error| error.to_string())?;
            machine.recalled();
            let rows = storage.meta().await.map_err(|error| error.to_string())?;
            let hub = Hub::restore(limits, seed, &rows).map_err(|error| error.to_string())?;
            let (shard, outlets) = {
                let executor = own.upgrade().ok_or("it is gone")?;
                let storage = Kept::new(storage, &machine);
                let limits = SocketLimits::default();
                let shard = Shard::with_storage(hub, storage, clocks, limits, verify, &executor);
                let outlets = begin(&shard, apart, &executor);
                (shard, outlets)
            };
            let restored = shard.restored().await;
            restored.map_err(|failure| format!("the first commit: {failure:?}"))?;
            // Nobody else sets it.
            let _ = place.set(Serving::new(shard, outlets, credentials, ports));
            Ok(())
        };
        executor.spawn(async move { started(start.await) }).detach();
        Ok(Server {
            timeline,
            executor,
            serving,
            writing: Some(writing),
            log: Some(log),
        })
    }
}

/// Begins an outlet by each of these clocks.
fn begin(
    shard: &Shard<Clocks>,
    clocks: Vec<Clocks>,
    executor: &Rc<LocalExecutor<'static>>,
) -> Vec<OutletShard<Clocks>> {
    let begin = |clocks| {
        // A plan has a few.
        let link = shard.add_outlet().ok()?;
        Some(OutletShard::new(
            link,
            clocks,
            SocketLimits::default(),
            executor,
        ))
    };
    clocks.into_iter().filter_map(begin).collect()
}

fn verify(
    known: Credentials,
) -> impl Fn(&fanfare_core::Token, Now) -> Result<fanfare_core::Principal, fanfare_core::AuthError>
{
    move |token, now| known.client(token.expose(), now.wall)
}

impl Serving {
    fn new(
        shard: Shard<Clocks>,
        outlets: Vec<OutletShard<Clocks>>,
        credentials: Credentials,
        ports: Rc<Ports>,
    ) -> Self {
        let api = Api::new(shard.clone(), credentials.clone(), ApiOptions::default());
        Self {
            shard,
            api: Rc::new(api),
            ports,
            outlets,
            credentials,
        }
    }
}

impl Server {
    /// Whether it listens.
    pub(crate) fn accepts(&self) -> bool {
        self.serving.get().is_some()
    }

    /// Takes a connection, where it listens.
    pub(crate) fn accept(&self, stream: Stream) {
        let Some(Serving { shard, api, .. }) = self.serving.get() else {
            return;
        };
        let limits = ListenerLimits::default();
        let served = serve(stream, shard.clone(), Rc::clone(api), limits);
        self.executor.spawn(served).detach();
    }

    /// Takes a connection without bytes, or refuses it as the HTTP API would.
    pub(crate) fn accept_directly(
        &self,
        mut open: Open,
        token: &str,
        said: Receiver<Said>,
        frames: Sender<Frame>,
    ) -> Result<(), u16> {
        let serving = self.serving.get().ok_or(503_u16)?;
        let Serving { shard, ports, .. } = serving;
        let principal = serving.credentials.client(token, shard.now().wall);
        let principal = principal.map_err(|_| 401_u16)?;
        match &open.endpoint {
            Endpoint::Task(task) if !principal.may_join(*task) => return Err(403),
            Endpoint::Task(_) | Endpoint::Notifications | Endpoint::Bus(_) => {}
        }
        open.principal = Some(principal);
        let (shard, ports) = (shard.clone(), Rc::clone(ports));
        let served = direct::serve(shard, ports, open, said, frames);
        self.executor.spawn(served).detach();
        Ok(())
    }

    /// What its hub holds.
    pub(crate) fn held(&self) -> Held {
        let Some(Serving { shard, outlets, .. }) = self.serving.get() else {
            return Held::default();
        };
        let hub = shard.with_hub(|hub, _| hub.held());
        let outlets = outlets.iter().map(OutletShard::held);
        outlets.fold(hub, |all, held| Held {
            connections: all.connections + held.connections,
            outbox_bytes: all.outbox_bytes + held.outbox_bytes,
            outbox_bytes_max: all.outbox_bytes_max.max(held.outbox_bytes_max),
            ..all
        })
    }

    /// Does a piece of work. Whether there was any.
    pub(crate) fn tick(&self) -> bool {
        let writing = self.writing.as_ref();
        self.executor.try_tick() || writing.is_some_and(|it| it.tick())
    }

    /// Begins to end in order; `ended` is called when it has, with whether nobody was left.
    pub(crate) fn drain(&self, ended: impl FnOnce(bool) + 'static) {
        let Some(Serving { shard, .. }) = self.serving.get() else {
            return;
        };
        let (shard, log, timeline) = (shard.clone(), self.log.clone(), self.timeline.clone());
        let drained = async move {
            let deadline = shard.now().time.plus(DRAIN_MS);
            let in_time = shard.drain(DRAIN_MS).await;
            // Connections without bytes are known to the hub only.
            let left = || shard.with_hub(|hub, _| hub.connections());
            while left() > 0 && shard.now().time < deadline {
                let look = timeline.now().plus(DRAIN_LOOK_MS);
                timeline.sleep_until(look).await;
            }
            let in_time = in_time && left() == 0;
            if let Some(log) = log {
                drop(log.end().await);
            }
            ended(in_time);
        };
        self.executor.spawn(drained).detach();
    }

    /// Tasks that ended in a panic.
    pub(crate) fn panics(&self) -> u64 {
        let serving = self.serving.get();
        serving.map_or(0, |it| it.shard.counters().panics)
    }
}
