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
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;
use server::raw::{Got, frame, parse};
use server::{API_KEY, Server, handshake, token};

const PATH: &str = "/v1/users/7/events";
/// Milliseconds of load before the kill.
const LIFE_MS: u64 = 150;

/// What the server answered or a client saw, by its number in the room: which publisher's which event.
type Seen = BTreeMap<u64, (u64, u64)>;

/// Publishes one event after another; with ids, it sends again what was not answered.
struct Publisher {
    number: u64,
    ids: bool,
    next: u64,
    answered: Seen,
    duplicates: u64,
}

impl Publisher {
    fn run(&mut self, address: SocketAddr) -> Option<()> {
        let mut stream = TcpStream::connect(address).ok()?;
        loop {
            let (number, next) = (self.number, self.next);
            let id = if self.ids {
                format!(r#""id":"p{number}-{next}","#)
            } else {
                // What was not answered may be there or not: it is not sent again.
                self.next += 1;
                String::new()
            };
            let body = format!(r#"{{"type":"user:notification",{id}"data":[{number},{next}]}}"#);
            let (status, answer) = post(&mut stream, &body)?;
            assert_eq!(status, 200, "{answer}");
            let seq = answer["rooms"]["user:7"]["seq"].as_u64().unwrap();
            self.answered.insert(seq, (number, next));
            self.duplicates += u64::from(answer["duplicate"] == true);
            if self.ids {
                self.next += 1;
            }
        }
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

/// A publish over a connection that is kept, unless it breaks.
fn post(stream: &mut TcpStream, body: &str) -> Option<(u16, Value)> {
    let length = body.len();
    let text = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {API_KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).ok()?;
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
            return Some((status, serde_json::from_str(body).unwrap()));
        }
    }
}

/// Reads what came into the log since it was last read, and checks that nothing came twice or out of turn.
fn follow(server: &Server, epoch: &mut Option<String>, log: &mut Seen, last: &mut [u64; 3]) {
    let bearer = format!("Authorization: Bearer {API_KEY}");
    let mut path = format!("{PATH}?limit=1000");
    if let Some(epoch) = epoch {
        path += &format!("&since={epoch}:{}", log.len());
    }
    loop {
        let page = server
            .request(&format!("GET {path}"), &[&bearer], "")
            .json();
        let now = page["epoch"].as_str().unwrap().to_owned();
        assert!(
            epoch.replace(now.clone()).is_none_or(|it| it == now),
            "{page}"
        );
        for it in page["events"].as_array().unwrap() {
            let seq = it["rooms"]["user:7"].as_u64().unwrap();
            assert_eq!(seq, log.len() as u64 + 1, "a hole or a double: {it}");
            let (publisher, number) = event(it);
            let before = &mut last[usize::try_from(publisher).unwrap()];
            assert!(
                number > *before,
                "{number} after {before} of publisher {publisher}"
            );
            *before = number;
            log.insert(seq, (publisher, number));
        }
        let Some(next) = page["next"].as_str() else {
            return;
        };
        path = next.to_owned();
    }
}

#[test]
fn what_was_answered_under_load_survives_kill_9_at_any_moment() {
    let kills = std::env::var("FANFARE_TEST_KILLS");
    let kills: u64 = kills.map_or(100, |kills| kills.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--data", data.path().to_str().unwrap(), "--log", "info"];
    let mut publishers = [(0, true), (1, true), (2, false)].map(|(number, ids)| Publisher {
        number,
        ids,
        next: 1,
        answered: Seen::new(),
        duplicates: 0,
    });
    let mut devices = [("phone", true), ("tablet", false)].map(|(name, since)| Device {
        name,
        since,
        epoch: None,
        seen: Seen::new(),
        sent: 0,
        confirmed: 0,
    });
    let (mut epoch, mut log, mut last) = (None, Seen::new(), [0; 3]);
    for kill in 1..=kills {
        let server = Server::start(&arguments);
        let address = server.address;
        let nanoseconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .subsec_nanos();
        let life = Duration::from_millis(u64::from(nanoseconds / 1_000) % LIFE_MS);
        thread::scope(|scope| {
            publishers
                .iter_mut()
                .for_each(|it| drop(scope.spawn(move || it.run(address))));
            devices
                .iter_mut()
                .for_each(|it| drop(scope.spawn(move || it.run(address))));
            // Not for something: the moment of the kill is to be any.
            thread::sleep(life);
            server.signal(Signal::KILL);
        });
        server.wait();

        let server = Server::start(&arguments);
        follow(&server, &mut epoch, &mut log, &mut last);
        for (seq, event) in publishers.iter().flat_map(|it| &it.answered) {
            assert_eq!(log.get(seq), Some(event), "kill {kill}: {seq} was answered");
        }
        for (seq, event) in devices.iter().flat_map(|it| &it.seen) {
            assert_eq!(log.get(seq), Some(event), "kill {kill}: {seq} was seen");
        }
        let bearer = format!("Authorization: Bearer {API_KEY}");
        let inbox = server
            .request("GET /v1/users/7/inbox", &[&bearer], "")
            .json();
        for device in &devices {
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
        server.signal(Signal::KILL);
        server.wait();
    }
    let answered: usize = publishers.iter().map(|it| it.answered.len()).sum();
    let duplicates: u64 = publishers.iter().map(|it| it.duplicates).sum();
    let confirmed = devices.each_ref().map(|it| it.confirmed);
    eprintln!(
        "{kills} kills, {answered} answered, {duplicates} retries known, acknowledged {confirmed:?}"
    );
    assert!(
        answered > 0 && confirmed.iter().all(|it| *it > 0),
        "no load"
    );
}
