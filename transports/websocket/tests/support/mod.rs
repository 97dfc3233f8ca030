//! A real server on a port of its own, and clients that speak bytes.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use fanfare_core::{
    AuthError, Claims, Draft, Endpoint, Hub, Limits, Open, Payload, Principal, Publish, Receipt,
    Target, TaskGrant, TaskId, UserId,
};
use fanfare_websocket::upgrade::{Handshake, Query, Refusal};
use fanfare_websocket::{
    Answer, Body, Counters, Listener, ListenerLimits, Native, Respond, Shard, SocketLimits,
};
use futures::future::LocalBoxFuture;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use smol::LocalExecutor;
use smol::channel::{Sender, bounded, unbounded};

/// Longer than anything takes on a busy machine; a test that gets here fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
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
        let (ready, address) = std::sync::mpsc::channel();
        let (jobs, work) = unbounded::<Job>();
        let thread = std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            let hub = Hub::new(options.limits, [7; 32]);
            let nobody = |_: &_, _| Err(AuthError::BadToken);
            let shard = Shard::new(hub, Native::default(), options.sockets, nobody, &executor);
            let bind = ([127, 0, 0, 1], 0).into();
            let listener = Listener::bind(bind, options.listener).unwrap();
            ready.send(listener.local_addr()).unwrap();
            let doors = Doors {
                shard: shard.clone(),
            };
            let serving = {
                let shard = shard.clone();
                executor.spawn(async move { listener.serve(&shard, doors).await })
            };
            smol::block_on(executor.run(async {
                while let Ok(job) = work.recv().await {
                    job(shard.clone()).await;
                }
            }));
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

/// A client's frame, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    let mask = [0x11, 0x22, 0x33, 0x44];
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// The header of a masked frame, up to the mask.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// What a server sent: a frame, or that it is at its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    End,
    Reset,
}

pub struct Raw {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// A WebSocket that has its welcome.
    pub fn open(address: SocketAddr, path: &str) -> Self {
        let mut raw = Self::connect(address);
        raw.send(request(path, "").as_bytes());
        let head = raw.head();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(raw.text().contains("system:welcome"));
        raw
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The head of the next response, or what came before the end.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            if self.read().is_none_or(|read| read == 0) {
                return String::from_utf8(std::mem::take(&mut self.buffer)).unwrap();
            }
        }
    }

    /// Everything until the end; `None` for a reset.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        while self.read()? > 0 {}
        Some(std::mem::take(&mut self.buffer))
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert_ne!(self.read(), Some(0), "the end came early");
        }
        self.buffer.drain(..count).collect()
    }

    /// The next text, which has to be one.
    pub fn text(&mut self) -> String {
        loop {
            match self.next() {
                Got::Text(text) => return text,
                Got::Ping | Got::Pong(_) => {}
                other @ (Got::Close(..) | Got::End | Got::Reset) => panic!("no text but {other:?}"),
            }
        }
    }

    /// The close frame, behind whatever comes before it, and the goodbye among that.
    pub fn close(&mut self) -> (Got, Option<String>) {
        let mut goodbye = None;
        loop {
            match self.next() {
                Got::Text(text) if text.contains("system:goodbye") => goodbye = Some(text),
                Got::Text(_) | Got::Ping | Got::Pong(_) => {}
                last @ (Got::Close(..) | Got::End | Got::Reset) => return (last, goodbye),
            }
        }
    }

    pub fn next(&mut self) -> Got {
        loop {
            if let Some((got, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return got;
            }
            match self.read() {
                Some(0) => return Got::End,
                Some(_) => {}
                None => return Got::Reset,
            }
        }
    }

    fn read(&mut self) -> Option<usize> {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(read) => {
                self.buffer.extend(&chunk[..read]);
                Some(read)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("a read failed: {error}"),
        }
    }
}

/// The first frame of `bytes` and its length, once it is complete.
pub fn parse(bytes: &[u8]) -> Option<(Got, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server's frame is not masked");
    let (length, start) = match second {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
            4,
        ),
        127 => (
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).unwrap(),
            10,
        ),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let got = match first {
        0x81 => Got::Text(text(payload)),
        0x88 => match payload.split_at_checked(2) {
            Some((code, reason)) => Got::Close(
                Some(u16::from_be_bytes(code.try_into().unwrap())),
                text(reason.to_vec()),
            ),
            None => Got::Close(None, text(payload)),
        },
        0x89 => Got::Ping,
        0x8a => Got::Pong(payload),
        other => panic!("a frame that begins with {other:#x}"),
    };
    Some((got, start + length))
}
