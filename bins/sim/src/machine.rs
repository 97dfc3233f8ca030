//! A server on a machine of its own: the shipped shard and HTTP API, over simulated streams and clocks.

use std::cell::Cell;
use std::rc::Rc;

use async_channel::{Receiver, Sender};
use fanfare_core::{Endpoint, Held, Hub, Limits, Now, Open, Time, Wall};
use fanfare_loopback::{Stream, Timeline};
use fanfare_websocket::{
    Api, ApiKey, ApiOptions, Credentials, ListenerLimits, Passes, Platform, Shard, SocketLimits,
    TokenKey, serve,
};
use smol::LocalExecutor;

use crate::direct::{self, Ports, Said};
use crate::plan::Bounds;
use crate::wire::Frame;

/// The wall clock's time when a world begins: 2026-01-01, 00:00 UTC.
pub(crate) const BEGINNING: Wall = Wall::from_unix_millis(1_767_225_600_000);
pub(crate) const API_KEY: &str = "the key of all back ends of the simulation";
pub(crate) const SECRET: &[u8] = b"the secret that signs all tokens of the simulation";
/// Milliseconds that clients have to leave when a server drains.
const DRAIN_MS: u64 = 10_000;
/// Milliseconds between two looks at whether all have left.
const DRAIN_LOOK_MS: u64 = 50;

/// How wrong a machine's wall clock is. It goes on being so when a server on it is started anew.
#[derive(Debug, Default)]
pub(crate) struct Skew {
    ahead_ms: Cell<i64>,
    /// Milliseconds an hour, since then.
    drift_ms: Cell<i64>,
    since: Cell<Time>,
}

impl Skew {
    pub(crate) fn set(&self, now: Time, ahead_ms: i64, drift_ms: i64) {
        self.ahead_ms.set(ahead_ms);
        self.drift_ms.set(drift_ms);
        self.since.set(now);
    }

    pub(crate) fn ahead_ms(&self, now: Time) -> i64 {
        let passed = i64::try_from(now.since(self.since.get())).unwrap_or(i64::MAX);
        self.ahead_ms.get() + passed.saturating_mul(self.drift_ms.get()) / 3_600_000
    }
}

/// Both clocks of a process that was started at some time. As the shipped one, it does not show that its machine's wall
/// clock was set back; one that is started after that shows it.
pub(crate) struct Clocks {
    timeline: Timeline,
    started: Time,
    skew: Rc<Skew>,
    shown_ms: Cell<u64>,
    witness: Option<Witness>,
    ports: Rc<Ports>,
}

/// Sees everything that passes between a server's shard and its hub.
pub(crate) type Witness = Rc<dyn Fn(Time, Passes<'_>)>;

impl Platform for Clocks {
    type Stream = Stream;

    fn now(&self) -> Now {
        let now = self.timeline.now();
        let wall_ms = BEGINNING.as_unix_millis() + now.as_millis();
        let wall_ms = wall_ms.saturating_add_signed(self.skew.ahead_ms(now));
        let wall_ms = wall_ms.max(self.shown_ms.get());
        self.shown_ms.set(wall_ms);
        Now {
            time: Time::from_millis(now.since(self.started)),
            wall: Wall::from_unix_millis(wall_ms),
        }
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> {
        self.timeline.sleep_until(self.started.plus(at.as_millis()))
    }

    fn watch(&self, _now: Now, passes: Passes<'_>) {
        self.ports.watch(passes);
        if let Some(witness) = &self.witness {
            witness(self.timeline.now(), passes);
        }
    }
}

/// A server that runs. Dropping it is `kill -9`.
pub(crate) struct Server {
    timeline: Timeline,
    executor: Rc<LocalExecutor<'static>>,
    shard: Shard<Clocks>,
    api: Rc<Api<Clocks>>,
    /// Of connections without bytes.
    ports: Rc<Ports>,
    credentials: Credentials,
}

/// Who may: the same in every life of the server.
pub(crate) fn credentials() -> Result<Credentials, fanfare_websocket::Error> {
    Ok(Credentials {
        tokens: TokenKey::new(SECRET)?,
        api_key: ApiKey::new(API_KEY)?,
    })
}

impl Server {
    pub(crate) fn start(
        timeline: &Timeline,
        skew: &Rc<Skew>,
        seed: [u8; 32],
        bounds: &Bounds,
        witness: Option<Witness>,
    ) -> Result<Self, fanfare_websocket::Error> {
        let limits = Limits {
            task_log_events: bounds.task_log_events,
            user_log_events: bounds.user_log_events,
            outbox_bytes: bounds.outbox_bytes,
            log_bytes: bounds.log_bytes,
            ..Limits::default()
        };
        let executor = Rc::new(LocalExecutor::new());
        let ports = Rc::<Ports>::default();
        let clocks = Clocks {
            timeline: timeline.clone(),
            started: timeline.now(),
            skew: Rc::clone(skew),
            shown_ms: Cell::new(0),
            witness,
            ports: Rc::clone(&ports),
        };
        let known = credentials()?;
        let verify =
            move |token: &fanfare_core::Token, now: Now| known.client(token.expose(), now.wall);
        let hub = Hub::new(limits, seed);
        let shard = Shard::new(hub, clocks, SocketLimits::default(), verify, &executor);
        let api = Api::new(shard.clone(), credentials()?, ApiOptions::default());
        Ok(Self {
            timeline: timeline.clone(),
            executor,
            shard,
            api: Rc::new(api),
            ports,
            credentials: credentials()?,
        })
    }

    /// Takes a connection.
    pub(crate) fn accept(&self, stream: Stream) {
        let served = serve(
            stream,
            self.shard.clone(),
            Rc::clone(&self.api),
            ListenerLimits::default(),
        );
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
        let principal = self.credentials.client(token, self.shard.now().wall);
        let principal = principal.map_err(|_| 401_u16)?;
        match &open.endpoint {
            Endpoint::Task(task) if !principal.may_join(*task) => return Err(403),
            Endpoint::Task(_) | Endpoint::Notifications | Endpoint::Bus(_) => {}
        }
        open.principal = Some(principal);
        let (shard, ports) = (self.shard.clone(), Rc::clone(&self.ports));
        let served = direct::serve(shard, ports, open, said, frames);
        self.executor.spawn(served).detach();
        Ok(())
    }

    /// What its hub holds.
    pub(crate) fn held(&self) -> Held {
        self.shard.with_hub(|hub, _| hub.held())
    }

    /// Does a piece of work. Whether there was any.
    pub(crate) fn tick(&self) -> bool {
        self.executor.try_tick()
    }

    /// Begins to end in order; `ended` is called when it has, with whether nobody was left.
    pub(crate) fn drain(&self, ended: impl FnOnce(bool) + 'static) {
        let (shard, timeline) = (self.shard.clone(), self.timeline.clone());
        let drained = async move {
            let deadline = shard.now().time.plus(DRAIN_MS);
            let in_time = shard.drain(DRAIN_MS).await;
            // Connections without bytes are known to the hub only.
            let left = || shard.with_hub(|hub, _| hub.connections());
            while left() > 0 && shard.now().time < deadline {
                timeline
                    .sleep_until(timeline.now().plus(DRAIN_LOOK_MS))
                    .await;
            }
            ended(in_time && left() == 0);
        };
        self.executor.spawn(drained).detach();
    }

    /// Tasks that ended in a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.shard.counters().panics
    }
}
