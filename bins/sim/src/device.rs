//! A client's device: connects, reads, says what the plan wants, and comes back as `docs/protocol.md` asks clients to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use async_channel::Receiver;
use fanfare_core::{Claims, Open, TaskGrant, TaskId, Time, UserId};
use fanfare_loopback::task;
use fanfare_websocket::Credentials;
use serde_json::{Value, json};
use smol::future::or;

use crate::garble::Garble;
use crate::history::{Conn, Place, Rights, Seen};
use crate::link::Link;
use crate::machine::{BEGINNING, credentials};
use crate::net::{Net, Node};
use crate::oracle;
use crate::plan::{self, Endpoint, Since};
use crate::shipped;
use crate::wire::{Frame, Wire};

/// Milliseconds for a connection, a handshake and a message that has to leave.
const PATIENCE_MS: u64 = 10_000;
/// Milliseconds of silence after which a server is taken for dead: two heartbeats, and some.
const SILENCE_MS: u64 = 60_000;
/// Longest wait before the next try, in milliseconds.
const WAIT_MAX_MS: u64 = 30_000;
/// Milliseconds after which who is to stay away comes back, at least, and at most so many more.
const NEVER_MIN_MS: u64 = 5_000;
const NEVER_MAX_MS: u64 = 60_000;
/// Handshakes that may be refused for want of rights before somebody signs in anew.
const REFUSED_MAX: u32 = 3;
/// Seconds since 1970 at which a token of another user ends: in 2100.
const FAR: u64 = 4_102_444_800;
/// An epoch that no server gives.
const FOREIGN: &str = "elsewhere";

/// What the plan wants of a device.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Connect(Since),
    Leave {
        in_order: bool,
    },
    Join(u32, Since),
    Part(u32),
    Ack(i64),
    Read(i64),
    Send {
        task: u32,
        ephemeral: bool,
    },
    Babble(String),
    Garble(Garble),
    /// So many messages at once.
    Chatter(u32),
    StopReading,
    ResumeReading,
    ReadSlowly {
        every_ms: u64,
    },
    /// Nothing of it runs until then.
    Background {
        until: Time,
    },
    HalfClose,
    /// Drops its connection and comes back at once.
    Return,
    Token(plan::Token),
    /// Shows a token of another user.
    OtherToken,
}

/// How a connection ended.
enum Over {
    /// The device stays away, as the plan wants it.
    Away,
    /// The server wants it to stay away. Its person signs in anew after some time.
    Never,
    /// It is to come back after so many milliseconds; of its own choice, if there is no number.
    Lost(Option<u64>),
}

struct Device {
    net: Rc<Net>,
    number: usize,
    about: plan::Device,
    is_direct: bool,
    credentials: Credentials,
    connections: u64,
    /// Where it stands; a room of which it only knows the epoch has no number.
    places: BTreeMap<String, (String, Option<u64>)>,
    /// Rooms of tasks that it joined beside that of its endpoint.
    joined: BTreeSet<String>,
    reference: u64,
    mark: u64,
    reads: Reads,
    /// What its tokens say.
    token: plan::Token,
    /// Handshakes in a row that were refused for want of rights.
    refused: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Freely,
    /// A frame in so many milliseconds.
    Slowly(u64),
    Not,
}

/// What a device waits for.
enum Next {
    Frame(io::Result<Frame>),
    Command(Option<Command>),
    Silence,
    /// Its token ends soon.
    Refresh,
}

/// A connection as its device holds it.
struct Held {
    wire: Link,
    conn: Conn,
    /// When the last frame came.
    heard: Time,
    /// When a new token is shown.
    refresh: Option<Time>,
    /// Whether the server knows whose it is.
    is_welcomed: bool,
    /// What the server said in its goodbye.
    goodbye: Option<Value>,
}

/// Does what the commands want, until there are no more.
pub(crate) async fn run(
    net: Rc<Net>,
    number: usize,
    about: plan::Device,
    is_direct: bool,
    commands: Receiver<Command>,
) {
    if about.shipped && !is_direct {
        return shipped::run(net, number, about, commands).await;
    }
    let Ok(credentials) = credentials() else {
        return;
    };
    let mut device = Device {
        net,
        number,
        about,
        is_direct,
        credentials,
        connections: 0,
        places: BTreeMap::new(),
        joined: BTreeSet::new(),
        reference: 0,
        // So that marks of devices and of publishers differ.
        mark: 1_000_000 * (number as u64 + 1),
        reads: Reads::Freely,
        token: plan::Token::default(),
        refused: 0,
    };
    while let Ok(command) = commands.recv().await {
        if let Command::Connect(with) = command {
            device.stay(with, &commands).await;
        } else {
            device.note(&command);
        }
    }
}

impl Device {
    /// Is there, over as many connections as it takes, until it is to go.
    async fn stay(&mut self, mut with: Since, commands: &Receiver<Command>) {
        let mut failures = 0;
        loop {
            let wait = match self.connection(with, commands, &mut failures).await {
                Over::Away => return,
                Over::Never => {
                    self.token = plan::Token::default();
                    let wait = self.net.draw(Node::Device(self.number), NEVER_MAX_MS);
                    NEVER_MIN_MS + wait
                }
                Over::Lost(Some(wait)) => wait,
                Over::Lost(None) => {
                    let most = (500 << failures.min(6)).min(WAIT_MAX_MS);
                    failures += 1;
                    self.net.draw(Node::Device(self.number), most)
                }
            };
            let net = Rc::clone(&self.net);
            let waited = async {
                net.sleep_ms(wait).await;
                Some(Since::Positions)
            };
            let told = async {
                loop {
                    match commands.recv().await {
                        Ok(Command::Leave { .. }) | Err(_) => return None,
                        Ok(Command::Return) => return Some(Since::Positions),
                        Ok(Command::Connect(with)) => return Some(with),
                        Ok(command) => self.note(&command),
                    }
                }
            };
            match or(told, waited).await {
                None => return,
                Some(next) => with = next,
            }
        }
    }

    /// What a command changes of a device, connected or not.
    fn note(&mut self, command: &Command) {
        match command {
            Command::StopReading => self.reads = Reads::Not,
            Command::ResumeReading => self.reads = Reads::Freely,
            Command::ReadSlowly { every_ms } => self.reads = Reads::Slowly(*every_ms),
            Command::Token(token) => self.token = token.clone(),
            Command::Join(number, _) => {
                self.joined.insert(format!("task:{}", task(*number)));
            }
            Command::Part(number) => {
                let room = format!("task:{}", task(*number));
                self.joined.remove(&room);
                self.places.remove(&room);
            }
            Command::Connect(_)
            | Command::Leave { .. }
            | Command::Ack(_)
            | Command::Read(_)
            | Command::Send { .. }
            | Command::Babble(_)
            | Command::Garble(_)
            | Command::Chatter(_)
            | Command::Background { .. }
            | Command::HalfClose
            | Command::OtherToken
            | Command::Return => {}
        }
    }

    fn path(&self, with: Since) -> (String, Vec<(String, Place)>) {
        let mut path = match self.about.endpoint {
            Endpoint::Chat { task: number } => format!("/v1/tasks/{}/chat", task(number)),
            Endpoint::Notifications {} => "/v1/user/notifications".to_owned(),
        };
        let mut rooms = vec![format!("user:{}", self.about.user)];
        if let Endpoint::Chat { task: number } = self.about.endpoint {
            rooms.push(format!("task:{}", task(number)));
        }
        let since = rooms.into_iter().filter_map(|room| {
            let place = self.place(&room, with)?;
            Some((room, place))
        });
        let since: Vec<(String, Place)> = since.collect();
        let mut parameters = Vec::new();
        if let Some(name) = &self.about.name {
            parameters.push(format!("device={name}"));
        }
        if !since.is_empty() {
            let since = since
                .iter()
                .map(|(room, at)| format!("{room}@{}:{}", at.epoch, at.seq));
            parameters.push(format!("since={}", since.collect::<Vec<_>>().join(",")));
        }
        if with == Since::Garbage {
            parameters.push("since=task:1@:-5".to_owned());
        }
        if !parameters.is_empty() {
            path = format!("{path}?{}", parameters.join("&"));
        }
        (path, since)
    }

    /// The same without bytes.
    fn open(&self, since: &[(String, Place)]) -> Open {
        let endpoint = match self.about.endpoint {
            Endpoint::Chat { task: number } => fanfare_core::Endpoint::Task(task(number)),
            Endpoint::Notifications {} => fanfare_core::Endpoint::Notifications,
        };
        let since = since.iter().filter_map(|(room, at)| {
            let position = format!("{}:{}", at.epoch, at.seq);
            Some((room.parse().ok()?, position.parse().ok()?))
        });
        Open {
            device: self.about.name.as_ref().and_then(|name| name.parse().ok()),
            since: since.collect(),
            ..Open::new(endpoint)
        }
    }

    /// The position that it names for a room.
    fn place(&self, room: &str, with: Since) -> Option<Place> {
        let known = self.places.get(room).and_then(|(epoch, seq)| {
            Some(Place {
                epoch: epoch.clone(),
                seq: (*seq)?,
            })
        });
        match with {
            Since::Nothing | Since::Garbage => None,
            Since::Positions => known,
            Since::Old => known.map(|at| Place {
                seq: at.seq / 2,
                ..at
            }),
            Since::Foreign => Some(Place {
                epoch: FOREIGN.to_owned(),
                seq: 3,
            }),
            Since::Future => known.map(|at| Place {
                seq: at.seq + 1_000,
                ..at
            }),
        }
    }

    async fn connection(
        &mut self,
        with: Since,
        commands: &Receiver<Command>,
        failures: &mut u32,
    ) -> Over {
        let net = Rc::clone(&self.net);
        let (path, since) = self.path(with);
        let number = self.number;
        let conn = Conn {
            device: number,
            number: self.connections + 1,
        };
        let token = self.token(conn, oracle::WELCOME);
        // As a browser, which can send no header.
        let by_message = !self.is_direct && self.draw(8) == 0;
        let authorization = if by_message {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let head = format!(
            "GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{authorization}",
        );
        let opened = net.within(PATIENCE_MS, async {
            if self.is_direct {
                if with == Since::Garbage {
                    return Ok(Err(400));
                }
                let open = self.open(&since);
                let opened = net.connect_directly(number, open, &token).await?;
                return Ok(opened.map(Link::Direct));
            }
            let mut wire = Wire::new(net.connect(Node::Device(number)).await?);
            let answer = wire.request(&head, "").await?;
            Ok(match answer.status {
                101 => Ok(Link::Bytes(wire)),
                status => Err(status),
            })
        });
        let wire = match opened.await {
            Ok(Ok(wire)) => wire,
            Ok(Err(status)) => {
                net.observe(Seen::Refused {
                    device: number,
                    status,
                });
                self.refused += 1;
                // The person signs in anew.
                if matches!(status, 401 | 403) && self.refused > REFUSED_MAX {
                    self.token = plan::Token::default();
                }
                return Over::Lost(None);
            }
            Err(_) => return Over::Lost(None),
        };
        self.connections += 1;
        self.refused = 0;
        net.observe(Seen::Opened {
            conn,
            user: self.about.user,
            name: self.about.name.clone(),
            since,
        });
        let mut held = Held {
            wire,
            conn,
            heard: net.now(),
            refresh: None,
            is_welcomed: false,
            goodbye: None,
        };
        // Some forget it.
        if by_message && self.draw(8) > 0 {
            let text = json!({"op": "auth", "token": token}).to_string();
            if !self.say(&mut held, text).await {
                net.observe(Seen::Closed { conn, code: None });
                return Over::Lost(None);
            }
        }
        let over = self.speak(&mut held, commands, failures).await;
        match over {
            Over::Away => net.observe(Seen::Leaves { conn }),
            Over::Lost(Some(0)) => net.observe(Seen::Closed { conn, code: None }),
            Over::Never | Over::Lost(_) => {}
        }
        over
    }

    async fn speak(
        &mut self,
        held: &mut Held,
        commands: &Receiver<Command>,
        failures: &mut u32,
    ) -> Over {
        let net = Rc::clone(&self.net);
        let conn = held.conn;
        let lost = |code| {
            net.observe(Seen::Closed { conn, code });
        };
        loop {
            match self.next(held, commands).await {
                Next::Frame(Ok(Frame::Text(text))) => {
                    held.heard = net.now();
                    let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                        net.observe(Seen::Garbled {
                            conn: Some(conn),
                            what: text,
                        });
                        continue;
                    };
                    self.learn(&frame);
                    let data = &frame["data"];
                    let welcomed = match frame["type"].as_str().unwrap_or_default() {
                        "system:welcome" => true,
                        "system:goodbye" => {
                            held.goodbye = Some(data.clone());
                            false
                        }
                        // Most devices have a new token in time.
                        "system:expiring" if self.draw(4) > 0 => {
                            let left = data["in_ms"].as_u64().unwrap_or_default();
                            held.refresh = Some(net.now().plus(left / 2 + 1));
                            false
                        }
                        _ => false,
                    };
                    net.observe(Seen::Received { conn, frame });
                    if welcomed {
                        held.is_welcomed = true;
                        *failures = 0;
                        if !self.rejoin(held).await {
                            lost(None);
                            return Over::Lost(None);
                        }
                    }
                }
                Next::Frame(Ok(Frame::Ping(content))) => {
                    held.heard = net.now();
                    let pong = net.within(PATIENCE_MS, held.wire.pong(&content));
                    if pong.await.is_err() {
                        lost(None);
                        return Over::Lost(None);
                    }
                }
                Next::Frame(Ok(Frame::Close(code))) => {
                    lost(code);
                    return after(held.goodbye.as_ref(), code, self.draw(1_000));
                }
                Next::Frame(Err(error)) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        net.observe(Seen::Garbled {
                            conn: Some(conn),
                            what: error.to_string(),
                        });
                    }
                    lost(None);
                    return after(held.goodbye.as_ref(), None, self.draw(1_000));
                }
                Next::Silence => {
                    lost(None);
                    return Over::Lost(None);
                }
                Next::Refresh => {
                    held.refresh = None;
                    if !self.show(held).await {
                        lost(None);
                        return Over::Lost(None);
                    }
                }
                Next::Command(None) => return Over::Away,
                Next::Command(Some(Command::Return)) => return Over::Lost(Some(0)),
                Next::Command(Some(Command::Leave { in_order })) => {
                    if in_order {
                        let _ = net.within(PATIENCE_MS, held.wire.close()).await;
                    }
                    return Over::Away;
                }
                Next::Command(Some(Command::Background { until })) => {
                    net.timeline.sleep_until(until).await;
                }
                Next::Command(Some(command)) => {
                    self.note(&command);
                    held.heard = net.now();
                    if !self.act(held, &command).await {
                        lost(None);
                        return Over::Lost(None);
                    }
                }
            }
        }
    }

    /// Does what a command wants of a connection. Whether it left.
    async fn act(&mut self, held: &mut Held, command: &Command) -> bool {
        let net = Rc::clone(&self.net);
        match command {
            Command::Token(_) => self.show(held).await,
            // Whoever is not known yet would be somebody else.
            Command::OtherToken if !held.is_welcomed => true,
            Command::OtherToken => {
                let another = Claims::new(UserId::new(self.about.user + 1), FAR, TaskGrant::All);
                let token = self.credentials.issue(&another);
                let reference = self.reference();
                let text = json!({"op": "auth", "ref": reference, "token": token}).to_string();
                self.say(held, text).await
            }
            Command::Garble(how) => {
                let _ = net.within(PATIENCE_MS, held.wire.garble(*how)).await;
                true
            }
            Command::HalfClose => {
                let _ = net.within(PATIENCE_MS, held.wire.half_close()).await;
                true
            }
            Command::Chatter(count) => {
                for _ in 0..*count {
                    let ping = json!({"op": "ping", "ref": self.reference()}).to_string();
                    // What comes of it is read later.
                    if !self.say(held, ping).await {
                        return false;
                    }
                }
                true
            }
            Command::Connect(_)
            | Command::Leave { .. }
            | Command::Join(..)
            | Command::Part(_)
            | Command::Ack(_)
            | Command::Read(_)
            | Command::Send { .. }
            | Command::Babble(_)
            | Command::StopReading
            | Command::ResumeReading
            | Command::ReadSlowly { .. }
            | Command::Background { .. }
            | Command::Return => match self.words(command) {
                Some(text) => self.say(held, text).await,
                None => true,
            },
        }
    }

    /// What comes next. Waits for nothing that was not there yet.
    async fn next(&self, held: &mut Held, commands: &Receiver<Command>) -> Next {
        let net = &self.net;
        let (reads, heard, refresh) = (self.reads, held.heard, held.refresh);
        let wire = &mut held.wire;
        let frame = async {
            match reads {
                Reads::Freely => {}
                Reads::Slowly(every_ms) => {
                    net.timeline.sleep_until(heard.plus(every_ms)).await;
                }
                Reads::Not => std::future::pending().await,
            }
            Next::Frame(wire.frame().await)
        };
        let command = async { Next::Command(commands.recv().await.ok()) };
        let other = async {
            let silence = heard.plus(SILENCE_MS);
            match refresh {
                Some(at) if reads == Reads::Not || at < silence => {
                    net.timeline.sleep_until(at).await;
                    Next::Refresh
                }
                _ if reads == Reads::Freely => {
                    net.timeline.sleep_until(silence).await;
                    Next::Silence
                }
                _ => std::future::pending().await,
            }
        };
        or(or(frame, command), other).await
    }

    /// A number below `most`.
    fn draw(&self, most: u64) -> u64 {
        self.net.draw(Node::Device(self.number), most)
    }

    /// Shows a new token over a connection that is there. Whether it left.
    async fn show(&mut self, held: &mut Held) -> bool {
        let reference = self.reference();
        let token = self.token(held.conn, &reference.to_string());
        let text = json!({"op": "auth", "ref": reference, "token": token}).to_string();
        self.say(held, text).await
    }

    /// A new token, which is about to be shown.
    fn token(&self, conn: Conn, reference: &str) -> String {
        let (user, wants) = (self.about.user, &self.token);
        issue(&self.net, &self.credentials, user, wants, conn, reference)
    }

    /// Says a text. Whether it left.
    async fn say(&self, held: &mut Held, text: String) -> bool {
        self.net.observe(Seen::Said {
            conn: held.conn,
            text: text.clone(),
        });
        let said = self.net.within(PATIENCE_MS, held.wire.say(&text));
        said.await.is_ok()
    }

    /// Joins again what it had joined: the server has forgotten it with the old connection. First it asks whether anybody is
    /// there.
    async fn rejoin(&mut self, held: &mut Held) -> bool {
        let ping = json!({"op": "ping", "ref": self.reference()}).to_string();
        if !self.say(held, ping).await {
            return false;
        }
        for room in self.joined.clone() {
            let text = self.join(&room, Since::Positions);
            if !self.say(held, text).await {
                return false;
            }
        }
        true
    }

    fn reference(&mut self) -> u64 {
        self.reference += 1;
        self.reference
    }

    fn join(&mut self, room: &str, with: Since) -> String {
        let since = self.place(room, with);
        let mut op = json!({"op": "join", "ref": self.reference(), "room": room});
        if let Some(at) = since {
            op["since"] = json!({"epoch": at.epoch, "seq": at.seq});
        } else if with == Since::Garbage {
            op["since"] = json!({"epoch": 5, "seq": "-"});
        }
        op.to_string()
    }

    fn words(&mut self, command: &Command) -> Option<String> {
        let home = format!("user:{}", self.about.user);
        let last = self.places.get(&home).and_then(|(_, seq)| *seq);
        let back = |behind: i64| {
            let last = i64::try_from(last?).ok()?;
            u64::try_from(last - behind).ok()
        };
        Some(match command {
            Command::Join(number, with) => {
                let room = format!("task:{}", task(*number));
                self.join(&room, *with)
            }
            Command::Part(number) => {
                let room = format!("task:{}", task(*number));
                json!({"op": "leave", "ref": self.reference(), "room": room}).to_string()
            }
            Command::Ack(behind) => {
                let seq = back(*behind)?;
                json!({"op": "ack", "ref": self.reference(), "seq": seq}).to_string()
            }
            Command::Read(behind) => {
                let seq = back(*behind)?;
                json!({"op": "read", "ref": self.reference(), "up_to": seq}).to_string()
            }
            Command::Send {
                task: number,
                ephemeral,
            } => {
                self.mark += 1;
                let room = format!("task:{}", task(*number));
                let data = json!({"mark": self.mark, "to": [room]});
                let mut op = json!({
                    "op": "send", "ref": self.reference(), "room": room, "type": "chat:message", "data": data,
                });
                if *ephemeral {
                    op["ephemeral"] = json!(true);
                }
                op.to_string()
            }
            Command::Babble(text) => text.clone(),
            Command::Connect(_)
            | Command::Leave { .. }
            | Command::StopReading
            | Command::ResumeReading
            | Command::ReadSlowly { .. }
            | Command::Garble(_)
            | Command::Chatter(_)
            | Command::Background { .. }
            | Command::HalfClose
            | Command::Return
            | Command::OtherToken
            | Command::Token(_) => return None,
        })
    }

    /// Learns where it stands.
    fn learn(&mut self, frame: &Value) {
        let data = &frame["data"];
        match frame["type"].as_str().unwrap_or_default() {
            "system:welcome" => {
                for (room, at) in data["rooms"].as_object().into_iter().flatten() {
                    self.enters(room, at);
                }
            }
            "system:joined" => {
                if let Some(room) = data["room"].as_str() {
                    self.enters(room, data);
                }
            }
            "system:left" => {
                if let Some(room) = data["room"].as_str() {
                    self.places.remove(room);
                    self.joined.remove(room);
                }
            }
            "system:gap" => {
                let (room, epoch) = (data["room"].as_str(), data["epoch"].as_str());
                if let (Some(room), Some(epoch), Some(to)) = (room, epoch, data["to"].as_u64()) {
                    self.places
                        .insert(room.to_owned(), (epoch.to_owned(), Some(to)));
                }
            }
            _ if frame["ephemeral"] == true => {}
            _ => {
                for (room, seq) in frame["rooms"].as_object().into_iter().flatten() {
                    if let (Some((_, at)), Some(seq)) = (self.places.get_mut(room), seq.as_u64()) {
                        *at = Some(at.unwrap_or_default().max(seq));
                    }
                }
            }
        }
    }

    fn enters(&mut self, room: &str, at: &Value) {
        let (Some(epoch), Some(seq)) = (at["epoch"].as_str(), at["seq"].as_u64()) else {
            return;
        };
        let known = self.places.get(room).filter(|(known, _)| known == epoch);
        let place = match (at["recovered"].as_bool(), known) {
            (None, _) => Some(seq),
            // What was missed comes now, or a gap.
            (Some(_), Some((_, known))) => *known,
            (Some(_), None) => None,
        };
        self.places
            .insert(room.to_owned(), (epoch.to_owned(), place));
    }
}

/// Makes a token, which is about to be shown.
pub(crate) fn issue(
    net: &Net,
    credentials: &Credentials,
    user: u64,
    wants: &plan::Token,
    conn: Conn,
    reference: &str,
) -> String {
    let now_ms = BEGINNING.as_unix_millis() + net.now().as_millis();
    let exp = (now_ms + wants.for_ms) / 1_000;
    let tasks = wants.tasks.as_ref();
    let rooms = tasks.map(|tasks| {
        let rooms = tasks.iter().map(|number| format!("task:{}", task(*number)));
        rooms.collect()
    });
    net.observe(Seen::Shows {
        conn,
        reference: reference.to_owned(),
        token: Rights {
            ends_ms: exp * 1_000,
            tasks: rooms,
        },
    });
    let grant = tasks.map_or(TaskGrant::All, |tasks| {
        let mut tasks: Vec<TaskId> = tasks.iter().map(|number| task(*number)).collect();
        tasks.sort_unstable();
        TaskGrant::Only(tasks)
    });
    let exp = exp + net.ahead_ms() / 1_000;
    credentials.issue(&Claims::new(UserId::new(user), exp, grant))
}

/// When to come back, by what the server said: its goodbye, or the close code alone.
fn after(goodbye: Option<&Value>, code: Option<u16>, random: u64) -> Over {
    match goodbye.and_then(|it| it["retry"].as_str()) {
        Some("never") => Over::Never,
        Some("now") => Over::Lost(Some(random)),
        Some(_) => {
            let wait = goodbye.and_then(|it| it["retry_after_ms"].as_u64());
            Over::Lost(Some(wait.unwrap_or(1_000) + random))
        }
        None if code.is_some_and(|code| (4_500..4_600).contains(&code)) => Over::Never,
        None => Over::Lost(None),
    }
}
