//! A real server on a port of its own, and clients that speak bytes.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

pub mod broken_frames;
mod raw;

use std::net::SocketAddr;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use fanfare_core::{
    AuthError, Claims, Draft, Endpoint, Error, Held, Hub, Limits, Now, Open, Payload, Principal,
    Publish, Receipt, Target, TaskGrant, TaskId, Token, UserId,
};
use fanfare_websocket::upgrade::{Handshake, Query, Refusal};
use fanfare_websocket::{
    Answer, Body, Clock, Counters, Listener, ListenerLimits, Native, OutletLink, OutletShard,
    Respond, Shard, SocketLimits, Storage,
};
use futures::future::LocalBoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded, unbounded};

pub use self::raw::*;

pub const TASK: &str = "550e8400-e29b-41d4-a716-446655440000";
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// `/user/7` and `/task/7` become WebSockets of user 7; whatever else is answered by the length of its body.
struct Doors {
    shard: Shard,
}

impl Doors {
    fn open(&self, head: &http::request::Parts) -> Result<Option<(Handshake, Open)>, Refusal> {
        let task: TaskId = TASK.parse().unwrap();
        let (endpoint, user) = match head.uri.path().rsplit_once('/') {
            Some(("/user", user)) => (Endpoint::Notifications, user),
            Some(("/task", user)) => (Endpoint::Task(task), user),
            _ => return Ok(None),
        };
        let handshake = Handshake::check(head)?;
        let query = Query::parse(head.uri.query())?;
        let user = UserId::new(user.parse().unwrap());
        let claims = Claims::new(user, 4_000_000_000, TaskGrant::All);
        let open = Open {
            principal: Principal::new(claims, self.shard.now().wall).ok(),
            device: query.device,
            since: query.since,
            ..Open::new(endpoint)
        };
        Ok(Some((handshake, open)))
    }
}

impl Respond for Doors {
    async fn respond(&self, request: http::Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        assert_ne!(head.uri.path(), "/panic", "this path panics");
        if head.uri.path() == "/never" {
            std::future::pending::<()>().await;
        }
        match self.open(&head) {
            Ok(Some((handshake, open))) => Answer::Upgrade(handshake, open),
            Ok(None) => {
                let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
                Answer::Response(http::Response::new(Body::from(format!("{length} bytes"))))
            }
            Err(refusal) => {
                let mut response = http::Response::new(Body::from(refusal.to_string()));
                *response.status_mut() = refusal.status();
                refusal.describe(response.headers_mut());
                Answer::Response(response)
            }
        }
    }
}

fn nobody(_: &Token, _: Now) -> Result<Principal, AuthError> {
    Err(AuthError::BadToken)
}

type Job = Box<dyn FnOnce(Shard) -> LocalBoxFuture<'static, ()> + Send>;

/// What a test's server is given.
#[derive(Clone)]
pub struct Options {
    pub limits: Limits,
    pub sockets: SocketLimits,
    pub listener: ListenerLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits {
                connections_per_user: 2_000,
                ..Limits::default()
            },
            sockets: SocketLimits::default(),
            listener: ListenerLimits::default(),
        }
    }
}

/// A thread that serves connections.
pub struct Outlet {
    asks: Sender<Sender<Held>>,
    thread: JoinHandle<()>,
}

impl Outlet {
    fn begin(link: OutletLink, clock: Clock, limits: SocketLimits) -> Self {
        let (asks, asked) = unbounded::<Sender<Held>>();
        let thread = std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            let native = Native::with_clock(clock).unwrap();
            let outlet = OutletShard::new(link, native.clone(), limits, &executor);
            let ended = outlet.ended();
            let tells = async move {
                while let Ok(asker) = asked.recv().await {
                    let _ = asker.send(outlet.held()).await;
                }
            };
            executor.spawn(tells).detach();
            native.block_on(&executor, ended);
        });
        Self { asks, thread }
    }

    pub fn held(&self) -> Held {
        let (sender, receiver) = bounded(1);
        self.asks.send_blocking(sender).unwrap();
        receiver.recv_blocking().unwrap()
    }

    /// Waits for its end, which comes with its server's.
    pub fn join(self) {
        self.thread.join().unwrap();
    }
}

pub struct Server {
    pub address: SocketAddr,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        Self::run_shard(options, |options, native, executor| {
            let hub = Hub::new(options.limits.clone(), [7; 32]);
            Shard::new(hub, native.clone(), options.sockets, nobody, executor)
        })
    }

    /// One whose log is in the storage that `make` makes, which has to be new.
    pub fn over<S: Storage>(options: Options, make: impl FnOnce() -> S + Send + 'static) -> Self {
        Self::run_shard(options, |options, native, executor| {
            let hub = Hub::restore(options.limits.clone(), [7; 32], &[]).unwrap();
            let sockets = options.sockets;
            let shard = Shard::with_storage(hub, make(), native.clone(), sockets, nobody, executor);
            native.block_on(executor, shard.restored()).unwrap();
            shard
        })
    }

    /// One of which so many further threads serve connections, and those threads.
    pub fn spread(options: Options, threads: usize) -> (Self, Vec<Outlet>) {
        let (begun, outlets) = std::sync::mpsc::channel();
        let server = Self::run_shard(options, move |options, native, executor| {
            let hub = Hub::new(options.limits.clone(), [7; 32]);
            let shard = Shard::new(hub, native.clone(), options.sockets, nobody, executor);
            for _ in 0..threads {
                let link = shard.add_outlet().unwrap();
                begun
                    .send(Outlet::begin(link, native.clock(), options.sockets))
                    .unwrap();
            }
            shard
        });
        (server, outlets.into_iter().take(threads).collect())
    }

    fn run_shard(
        options: Options,
        make: impl FnOnce(&Options, &Native, &Rc<LocalExecutor<'static>>) -> Shard + Send + 'static,
    ) -> Self {
        let (ready, address) = std::sync::mpsc::channel();
        let (jobs, work) = unbounded::<Job>();
        let thread = std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            let native = Native::new().unwrap();
            let shard = make(&options, &native, &executor);
            let bind = ([127, 0, 0, 1], 0).into();
            let listener = Listener::bind(bind, options.listener).unwrap();
            ready.send(listener.local_addr()).unwrap();
            let doors = Doors {
                shard: shard.clone(),
            };
            let serving = executor.spawn(listener.serve(shard.clone(), doors).unwrap());
            native.block_on(&executor, async {
                while let Ok(job) = work.recv().await {
                    job(shard.clone()).await;
                }
            });
            drop(serving);
        });
        Self {
            address: address.recv().unwrap(),
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    /// Runs something on the server's thread.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(Shard) -> LocalBoxFuture<'static, T> + Send + 'static,
    ) -> T {
        let (sender, receiver) = bounded(1);
        let job: Job = Box::new(move |shard| {
            Box::pin(async move {
                let _ = sender.send(job(shard).await).await;
            })
        });
        self.jobs.as_ref().unwrap().send_blocking(job).unwrap();
        receiver.recv_blocking().unwrap()
    }

    pub fn publish(&self, publish: Publish) -> Receipt {
        self.run(|shard| Box::pin(async move { shard.publish(publish).await.unwrap() }))
    }

    /// Begins a publish. Until it is answered nothing else is run.
    pub fn publishing(&self, publish: Publish) -> Receiver<Result<Receipt, Error>> {
        let (sender, receiver) = bounded(1);
        let job: Job = Box::new(move |shard| {
            Box::pin(async move { drop(sender.send(shard.publish(publish).await).await) })
        });
        self.jobs.as_ref().unwrap().send_blocking(job).unwrap();
        receiver
    }

    pub fn counters(&self) -> Counters {
        self.run(|shard| Box::pin(async move { shard.counters() }))
    }

    pub fn connections(&self) -> usize {
        self.run(|shard| Box::pin(async move { shard.connections() }))
    }

    /// Waits until something holds of the server.
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

/// A publish to a user of an event whose data is this JSON.
pub fn to_user(user: u64, data: &str) -> Publish {
    Publish {
        target: Target::User(UserId::new(user)),
        draft: Draft::new("note:added".parse().unwrap(), Payload::parse(data).unwrap()),
    }
}

/// The same to everybody at [`TASK`].
pub fn to_task(data: &str) -> Publish {
    Publish {
        target: Target::Task {
            task: TASK.parse().unwrap(),
            users: Vec::new(),
        },
        ..to_user(0, data)
    }
}

/// A request for a WebSocket with these further lines.
pub fn request(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{lines}\r\n"
    )
}

/// A WebSocket that has its welcome.
pub fn open(address: SocketAddr, path: &str) -> Raw {
    let mut raw = Raw::upgrade(address, &request(path, ""));
    assert!(raw.text().contains("system:welcome"));
    raw
}
