//! A server under load, killed with `kill -9` at random moments: what it answered is there, once and in order.
//!
//! `FANFARE_TEST_KILLS` says how often, 100 times where it says nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;
use server::raw::{Got, frame, parse};
use server::{API_KEY, SECRETS, Server, TASK, handshake, token};

const USER: &str = "user:7";
/// Milliseconds of load before the kill.
const LIFE_MS: u64 = 150;
/// Kills after which the server is killed while it starts, and how often in a row.
const START_KILLS: (u64, u64) = (4, 3);

/// What the server answered or a client saw, by its number in the room: which publisher's which event.
type Seen = BTreeMap<u64, (u64, u64)>;

/// What a publish is.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// To the user's room.
    Alone,
    /// One of several lines of a batch, each to the user's room.
    Batch,
    /// To a task's room and those of two users.
    ManyRooms,
}

/// Publishes one request after another; with ids, it sends again what was not answered.
struct Publisher {
    number: u64,
    how: How,
    ids: bool,
    next: u64,
    /// By room.
    answered: BTreeMap<String, Seen>,
    duplicates: u64,
}

impl Publisher {
    fn run(&mut self, address: SocketAddr) -> Option<()> {
        let mut stream = TcpStream::connect(address).ok()?;
        loop {
            let lines = if self.how == How::Batch { 8 } else { 1 };
            let events = self.next..self.next + lines;
            if !self.ids {
                // What was not answered may be there or not: it is not sent again.
                self.next += lines;
            }
            let (status, answer) = post(&mut stream, &self.request(events.clone()))?;
            assert_eq!(status, 200, "{answer}");
            assert_eq!(answer.lines().count() as u64, lines, "{answer}");
            for (event, receipt) in events.zip(answer.lines()) {
                let receipt: Value = serde_json::from_str(receipt).unwrap();
                let rooms = receipt["rooms"].as_object();
                let rooms = rooms.unwrap_or_else(|| panic!("refused: {receipt}"));
                assert_eq!(rooms.len(), self.rooms(), "{receipt}");
                for (room, place) in rooms {
                    let answered = self.answered.entry(room.clone()).or_default();
                    answered.insert(place["seq"].as_u64().unwrap(), (self.number, event));
                }
                self.duplicates += u64::from(receipt["duplicate"] == true);
            }
            if self.ids {
                self.next += lines;
            }
        }
    }

    const fn rooms(&self) -> usize {
        match self.how {
            How::Alone | How::Batch => 1,
            How::ManyRooms => 3,
        }
    }

    fn request(&self, events: Range<u64>) -> String {
        let (path, media) = match self.how {
            How::Alone => ("/v1/users/7/events".to_owned(), "application/json"),
            How::Batch => ("/v1/events".to_owned(), "application/x-ndjson"),
            How::ManyRooms => (format!("/v1/tasks/{TASK}/events"), "application/json"),
        };
        let target = match self.how {
            How::Alone => String::new(),
            How::Batch => format!(r#""room":"{USER}","#),
            How::ManyRooms => r#""users":[7,8],"#.to_owned(),
        };
        let number = self.number;
        let lines = events.map(|event| {
            let id = if self.ids {
                format!(r#""id":"p{number}-{event}","#)
            } else {
                String::new()
            };
            format!(r#"{{"type":"user:notification",{target}{id}"data":[{number},{event}]}}"#)
        });
        let body = lines.collect::<Vec<_>>().join("\n");
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\n\
             Content-Type: {media}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    }
}

/// A device that acknowledges; `since` says whether it names its position when it comes back.
struct Device {
    name: &'static str,
    since: bool,
    epoch: Option<String>,
    seen: Seen,
    sent: u64,
    confirmed: u64,
}

impl Device {
    fn run(&mut self, address: SocketAddr) -> Option<()> {
        let last = self.seen.keys().next_back().copied().unwrap_or(0);
        let mut path = format!("/v1/user/notifications?device={}", self.name);
        if let Some(epoch) = self.epoch.as_ref().filter(|_| self.since) {
            path += &format!("&since=user:7@{epoch}:{last}");
        }
        let mut stream = TcpStream::connect(address).ok()?;
        let bearer = format!("Authorization: Bearer {}", token());
        let request = handshake(&path, &[&bearer]);
        stream.write_all(request.as_bytes()).ok()?;
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            read(&mut stream, &mut buffer)?;
        };
        buffer.drain(..end);
        let (mut expected, mut asked) = (None, 0);
        loop {
            let Some((got, used)) = parse(&buffer) else {
                read(&mut stream, &mut buffer)?;
                continue;
            };
            buffer.drain(..used);
            let Got::Text(text) = got else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            let room = &message["data"]["rooms"]["user:7"];
            match message["type"].as_str().unwrap() {
                "system:welcome" => {
                    let epoch = room["epoch"].as_str().unwrap().to_owned();
                    let before = self.epoch.replace(epoch.clone());
                    assert!(before.is_none_or(|it| it == epoch), "another epoch: {text}");
                    assert_ne!(room["recovered"], false, "{text}");
                    expected = (self.since && last > 0).then_some(last + 1);
                }
                "system:reply" => {
                    assert_eq!(message["data"]["ok"], true, "{text}");
                    self.confirmed = self.confirmed.max(asked);
                    asked = 0;
                }
                "user:notification" => {
                    let seq = message["rooms"]["user:7"].as_u64().unwrap();
                    match expected {
                        Some(expected) => {
                            assert_eq!(seq, expected, "{}: a hole or a double", self.name)
                        }
                        // From where it has acknowledged: between what was confirmed and what it asked for.
                        None => assert!(
                            (self.confirmed + 1..=self.sent + 1).contains(&seq),
                            "{}: {seq} after {} and {}",
                            self.name,
                            self.confirmed,
                            self.sent
                        ),
                    }
                    expected = Some(seq + 1);
                    let event = event(&message);
                    let before = self.seen.insert(seq, event);
                    assert!(
                        before.is_none_or(|it| it == event),
                        "{seq} was another event"
                    );
                    if seq.is_multiple_of(10) && asked == 0 && seq > self.sent {
                        let ack = format!(r#"{{"op":"ack","seq":{seq},"ref":1}}"#);
                        (asked, self.sent) = (seq, seq);
                        stream.write_all(&frame(0x81, ack.as_bytes())).ok()?;
                    }
                }
                other => panic!("{}: {other}: {text}", self.name),
            }
        }
    }
}

fn event(event: &Value) -> (u64, u64) {
    let number = |at: usize| event["data"][at].as_u64().unwrap();
    (number(0), number(1))
}

/// Reads some; nothing at the end, however that came.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 16 << 10];
    let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
    buffer.extend(&chunk[..read]);
    Some(())
}

/// A request over a connection that is kept, unless it breaks: the status and the body of the answer.
fn post(stream: &mut TcpStream, request: &str) -> Option<(u16, String)> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut buffer = Vec::new();
    loop {
        read(stream, &mut buffer)?;
        let text = String::from_utf8_lossy(&buffer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let lower = head.to_ascii_lowercase();
        let (_, rest) = lower.split_once("content-length: ").unwrap();
        let length: usize = rest.lines().next().unwrap().parse().unwrap();
        if body.len() == length {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return Some((status, body.to_owned()));
        }
    }
}

/// The log of a room, as far as it was read.
struct Log {
    room: String,
    path: String,
    epoch: Option<String>,
    events: Seen,
    /// The last event of each publisher.
    last: BTreeMap<u64, u64>,
}

impl Log {
    fn new(room: String, path: String) -> Self {
        Self {
            room,
            path,
            epoch: None,
            events: Seen::new(),
            last: BTreeMap::new(),
        }
    }

    /// Reads what came since it was last read, and checks that nothing came twice or out of turn.
    fn follow(&mut self, server: &Server) {
        let bearer = format!("Authorization: Bearer {API_KEY}");
        let mut path = format!("{}?limit=1000", self.path);
        if let Some(epoch) = &self.epoch {
            path += &format!("&since={epoch}:{}", self.events.len());
        }
        loop {
            let page = server
                .request(&format!("GET {path}"), &[&bearer], "")
                .json();
            let now = page["epoch"].as_str().unwrap().to_owned();
            let before = self.epoch.replace(now.clone());
            assert!(before.is_none_or(|it| it == now), "{page}");
            for it in page["events"].as_array().unwrap() {
                let seq = it["rooms"][&self.room].as_u64().unwrap();
                let expected = self.events.len() as u64 + 1;
                assert_eq!(seq, expected, "a hole or a double: {it}");
                let (publisher, number) = event(it);
                let before = self.last.insert(publisher, number);
                assert!(
                    before.is_none_or(|before| number > before),
                    "{number} after {before:?} of publisher {publisher}"
                );
                self.events.insert(seq, (publisher, number));
            }
            let Some(next) = page["next"].as_str() else {
                return;
            };
            path = next.to_owned();
        }
    }

    /// The events of these publishers, in the order of the room.
    fn of(&self, publishers: &[u64]) -> Vec<(u64, u64)> {
        let events = self.events.values().copied();
        events.filter(|it| publishers.contains(&it.0)).collect()
    }
}

/// Any moment of so long a time.
fn moment(within: Duration) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX).max(1);
    Duration::from_micros((now.subsec_nanos() % within).into())
}

/// Starts a server and kills it at this moment. Whether it listened by then.
fn killed_while_it_starts(arguments: &[&str], moment: Duration) -> bool {
    let [secret, key] = SECRETS;
    let settings = [secret, key, ("FANFARE_LISTEN", "127.0.0.1:0")];
    let mut child = server::command(arguments, &settings).spawn().unwrap();
    // Not for something: the moment of the kill is to be any.
    thread::sleep(moment);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains(r#""level":"ERROR""#), "{log}");
    log.contains("listening")
}

/// What was answered, seen or acknowledged is there.
fn check(
    server: &Server,
    kill: u64,
    publishers: &[Publisher],
    devices: &[Device],
    logs: &mut [Log; 3],
) {
    let in_many = publishers.iter().filter(|it| it.how == How::ManyRooms);
    let in_many: Vec<u64> = in_many.map(|it| it.number).collect();
    logs.iter_mut().for_each(|log| log.follow(server));
    for publisher in publishers {
        for (room, answered) in &publisher.answered {
            let log = logs.iter().find(|log| log.room == *room).unwrap();
            for (seq, event) in answered {
                let there = log.events.get(seq);
                assert_eq!(
                    there,
                    Some(event),
                    "kill {kill}: {seq} of {room} was answered"
                );
            }
        }
    }
    let [user, others @ ..] = &*logs;
    for (seq, event) in devices.iter().flat_map(|it| &it.seen) {
        let there = user.events.get(seq);
        assert_eq!(there, Some(event), "kill {kill}: {seq} was seen");
    }
    // All rooms of a publish have it, or none, answered or not; and all in one order.
    for other in others {
        let (one, two) = (user.of(&in_many), other.of(&in_many));
        assert_eq!(one, two, "kill {kill}: {USER} and {}", other.room);
    }
    let bearer = format!("Authorization: Bearer {API_KEY}");
    let inbox = server
        .request("GET /v1/users/7/inbox", &[&bearer], "")
        .json();
    for device in devices {
        let known = inbox["devices"].as_array().unwrap();
        let known = known.iter().find(|it| it["device"] == device.name);
        let cursor = known.map_or(0, |it| it["cursor"].as_u64().unwrap());
        assert!(
            (device.confirmed..=device.sent).contains(&cursor),
            "kill {kill}: {} has {cursor}, confirmed {}",
            device.name,
            device.confirmed
        );
    }
}

#[test]
fn what_was_answered_under_load_survives_kill_9_at_any_moment() {
    let kills = std::env::var("FANFARE_TEST_KILLS");
    let kills: u64 = kills.map_or(100, |kills| kills.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--data", data.path().to_str().unwrap(), "--log", "info"];
    let publishers = [
        (How::Alone, true),
        (How::Alone, true),
        (How::Alone, false),
        (How::Batch, true),
        (How::ManyRooms, true),
        (How::ManyRooms, false),
    ];
    let mut number = 0;
    let mut publishers = publishers.map(|(how, ids)| {
        number += 1;
        Publisher {
            number,
            how,
            ids,
            next: 1,
            answered: BTreeMap::new(),
            duplicates: 0,
        }
    });
    let mut devices = [("phone", true), ("tablet", false)].map(|(name, since)| Device {
        name,
        since,
        epoch: None,
        seen: Seen::new(),
        sent: 0,
        confirmed: 0,
    });
    let mut logs = [
        (USER.to_owned(), "/v1/users/7/events".to_owned()),
        ("user:8".to_owned(), "/v1/users/8/events".to_owned()),
        (format!("task:{TASK}"), format!("/v1/tasks/{TASK}/events")),
    ]
    .map(|(room, path)| Log::new(room, path));
    let (mut starts_cut, mut starts_whole) = (0, 0);
    for kill in 1..=kills {
        let begun = Instant::now();
        let server = Server::start(&arguments);
        let start = begun.elapsed();
        let address = server.address;
        thread::scope(|scope| {
            publishers
                .iter_mut()
                .for_each(|it| drop(scope.spawn(move || it.run(address))));
            devices
                .iter_mut()
                .for_each(|it| drop(scope.spawn(move || it.run(address))));
            // Not for something: the moment of the kill is to be any.
            thread::sleep(moment(Duration::from_millis(LIFE_MS)));
            server.signal(Signal::KILL);
        });
        server.wait();
        if kill % START_KILLS.0 == 0 {
            for _ in 0..START_KILLS.1 {
                match killed_while_it_starts(&arguments, moment(start)) {
                    true => starts_whole += 1,
                    false => starts_cut += 1,
                }
            }
        }

        let server = Server::start(&arguments);
        check(&server, kill, &publishers, &devices, &mut logs);
        server.signal(Signal::KILL);
        server.wait();
    }
    let answered = publishers.each_ref().map(|it| {
        let events = it.answered.values().map(Seen::len);
        events.sum::<usize>() / it.rooms()
    });
    let duplicates = publishers.each_ref().map(|it| it.duplicates);
    let confirmed = devices.each_ref().map(|it| it.confirmed);
    eprintln!(
        "{kills} kills, {answered:?} answered, {duplicates:?} retries known, acknowledged {confirmed:?}; \
         {starts_cut} more kills before it listened, {starts_whole} after"
    );
    let loaded = answered.iter().all(|it| *it > 0) && confirmed.iter().all(|it| *it > 0);
    assert!(loaded, "no load");
    assert!(starts_cut > 0 || kills < START_KILLS.0, "no start was cut");
}
