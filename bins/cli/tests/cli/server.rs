//! A real server on a thread of this process, built from the crates as any program can embed it. It can go away and
//! come back at its address, lose answers and refuse requests; all that was published is recorded.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use fanfare_core::{Delivery, Hub, Limits, Now, Token};
use fanfare_websocket::{
    Answer, Api, ApiKey, ApiOptions, Body, Credentials, Listener, ListenerLimits, Native, Respond,
    Shard, SocketLimits, TokenKey,
};
use futures::StreamExt;
use serde_json::Value;
use smol::LocalExecutor;
use smol::channel::{Sender, bounded};
use socket2::{Domain, Socket, Type};

use crate::PATIENCE;

pub(crate) const API_KEY: &str = "api-key-of-the-tests-0123456789abcdef";
pub(crate) const TOKEN_SECRET: &str = "token-secret-of-the-tests-0123456789";
pub(crate) const TASK: &str = "550e8400-e29b-41d4-a716-446655440000";

/// An event as the bus had it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) at_ms: u64,
    pub(crate) ephemeral: bool,
    pub(crate) rooms: Vec<String>,
    pub(crate) data: Value,
}

impl Event {
    /// The lines of a `task:status`, as text.
    pub(crate) fn lines(&self) -> Vec<&str> {
        let lines = self.data["lines"].as_array();
        let lines = lines.map(Vec::as_slice).unwrap_or_default();
        lines
            .iter()
            .map(|line| line["text"].as_str().unwrap())
            .collect()
    }

    /// Whether nothing comes after it.
    pub(crate) fn is_end(&self) -> bool {
        ["task:completed", "task:failed", "task:cancelled"].contains(&self.kind.as_str())
    }
}

/// What a server does with a publish, instead of what it should.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It takes it, and the connection breaks before the answer.
    AnswerLost,
    /// It answers with this status, and takes nothing.
    Status(u16),
}

#[derive(Default)]
struct Record {
    events: Mutex<Vec<Event>>,
    bell: Condvar,
    faults: Mutex<VecDeque<Fault>>,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
    running: Option<Running>,
    /// Bound, so that nobody else gets the port while there is no server.
    _reservation: Socket,
}

struct Running {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let mut server = Self::reserved();
        server.come_back();
        server
    }

    /// An address at which there is no server yet.
    pub(crate) fn reserved() -> Self {
        let reservation = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        reservation.set_reuse_address(true).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        reservation.bind(&any.into()).unwrap();
        let address = reservation.local_addr().unwrap();
        Self {
            address: address.as_socket().unwrap(),
            record: Arc::default(),
            running: None,
            _reservation: reservation,
        }
    }

    /// As a process that is killed: connections break, and what was in memory is gone.
    pub(crate) fn go_away(&mut self) {
        let running = self.running.take().unwrap();
        let _ = running.stop.send_blocking(());
        running.thread.join().unwrap();
    }

    pub(crate) fn come_back(&mut self) {
        assert!(self.running.is_none());
        let (ready, listening) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = bounded(1);
        let (address, record) = (self.address, Arc::clone(&self.record));
        let thread = std::thread::spawn(move || {
            serve(address, &record, async move {
                ready.send(()).unwrap();
                let _ = stopped.recv().await;
            });
        });
        listening.recv_timeout(PATIENCE).unwrap();
        self.running = Some(Running { stop, thread });
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happens to the next publishes, one each.
    pub(crate) fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.record.faults.lock().unwrap().extend(faults);
    }

    /// All events, once one of them is as asked.
    pub(crate) fn events_until(&self, what: impl Fn(&Event) -> bool) -> Vec<Event> {
        let waiting = |events: &mut Vec<Event>| !events.iter().any(&what);
        let (events, wait) = self
            .record
            .bell
            .wait_timeout_while(self.record.events.lock().unwrap(), PATIENCE, waiting)
            .unwrap();
        assert!(!wait.timed_out(), "not published in time: {events:#?}");
        events.clone()
    }

    /// All events of a task that has ended.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events_until(Event::is_end)
    }

    /// What was published so far.
    pub(crate) fn so_far(&self) -> Vec<Event> {
        self.record.events.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() && !std::thread::panicking() {
            self.go_away();
        }
    }
}

fn serve(address: SocketAddr, record: &Arc<Record>, until: impl Future<Output = ()>) {
    let (native, executor) = (Native::new().unwrap(), Rc::new(LocalExecutor::new()));
    let credentials = Credentials {
        tokens: TokenKey::new(TOKEN_SECRET.as_bytes()).unwrap(),
        api_key: ApiKey::new(API_KEY).unwrap(),
    };
    let mut seed = [0; 32];
    fastrand::fill(&mut seed);
    let verifier = credentials.clone();
    let verify = move |token: &Token, now: Now| verifier.client(token.expose(), now.wall);
    let hub = Hub::new(Limits::default(), seed);
    let limits = SocketLimits::default();
    let shard = Shard::new(hub, native.clone(), limits, verify, &executor);
    let mut all = shard.subscribe(vec!["*".parse().unwrap()]).unwrap();
    let recorder = {
        let record = Arc::clone(record);
        executor.spawn(async move {
            while let Some(delivery) = all.next().await {
                let Delivery::Entry(entry) = delivery else {
                    panic!("the record has a hole: {delivery:?}");
                };
                record.events.lock().unwrap().push(heard(&entry));
                record.bell.notify_all();
            }
        })
    };
    let doors = Doors {
        api: Api::new(shard.clone(), credentials, ApiOptions::default()),
        record: Arc::clone(record),
    };
    let listener = Listener::bind(address, ListenerLimits::default()).unwrap();
    let serving = executor.spawn(listener.serve(shard, doors).unwrap());
    native.block_on(&executor, until);
    drop((serving, recorder));
}

fn heard(entry: &fanfare_core::Entry) -> Event {
    let event = entry.event();
    Event {
        kind: event.kind.to_string(),
        id: event.id.to_string(),
        at_ms: event.at.as_unix_millis(),
        ephemeral: !entry.is_kept(),
        rooms: entry
            .places()
            .iter()
            .map(|place| place.room.to_string())
            .collect(),
        data: serde_json::from_str(event.data.as_str()).unwrap(),
    }
}

/// The API, in front of it the faults.
struct Doors {
    api: Api,
    record: Arc<Record>,
}

impl Respond for Doors {
    async fn respond(&self, request: http::Request<hyper::body::Incoming>) -> Answer {
        let fault = if request.method() == http::Method::POST {
            self.record.faults.lock().unwrap().pop_front()
        } else {
            None
        };
        match fault {
            Some(Fault::Status(status)) => {
                let mut response = http::Response::new(Body::from("{}"));
                *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
                Answer::Response(response)
            }
            Some(Fault::AnswerLost) => {
                drop(self.api.respond(request).await);
                // Ends this connection only, and without a word on standard error.
                std::panic::resume_unwind(Box::new("the answer is lost"));
            }
            None => self.api.respond(request).await,
        }
    }
}
