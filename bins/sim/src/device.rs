//! A client's device: connects, reads, says what the plan wants, and comes back as `docs/protocol.md` asks clients to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use async_channel::Receiver;
use fanfare_core::{Claims, TaskGrant, UserId};
use fanfare_loopback::task;
use fanfare_websocket::Credentials;
use serde_json::{Value, json};
use smol::future::or;

use crate::history::{Conn, Place, Rights, Seen};
use crate::machine::{BEGINNING, credentials};
use crate::net::{Net, Node};
use crate::oracle;
use crate::plan::{self, Endpoint, Since};
use crate::wire::{Frame, Wire};

/// Milliseconds for a connection, a handshake and a message that has to leave.
const PATIENCE_MS: u64 = 10_000;
/// Milliseconds of silence after which a server is taken for dead: two heartbeats, and some.
const SILENCE_MS: u64 = 60_000;
/// Longest wait before the next try, in milliseconds.
const WAIT_MAX_MS: u64 = 30_000;
/// Milliseconds for which a token is good.
const TOKEN_MS: u64 = 24 * 3_600_000;
/// An epoch that no server gives.
const FOREIGN: &str = "elsewhere";

/// What the plan wants of a device.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Connect(Since),
    Leave { in_order: bool },
    Join(u32, Since),
    Part(u32),
    Ack(i64),
    Read(i64),
    Send { task: u32, ephemeral: bool },
    Babble(String),
    StopReading,
    ResumeReading,
}

/// How a connection ended.
enum Over {
    /// The device stays away.
    Away,
    /// It is to come back after so many milliseconds; of its own choice, if there is no number.
    Lost(Option<u64>),
}

struct Device {
    net: Rc<Net>,
    number: usize,
    about: plan::Device,
    credentials: Credentials,
    connections: u64,
    /// Where it stands; a room of which it only knows the epoch has no number.
    places: BTreeMap<String, (String, Option<u64>)>,
    /// Rooms of tasks that it joined beside that of its endpoint.
    joined: BTreeSet<String>,
    reference: u64,
    mark: u64,
    reads: bool,
}

/// What a device waits for.
enum Next {
    Frame(io::Result<Frame>),
    Command(Option<Command>),
    Silence,
}

/// Does what the commands want, until there are no more.
pub(crate) async fn run(
    net: Rc<Net>,
    number: usize,
    about: plan::Device,
    commands: Receiver<Command>,
) {
    let Ok(credentials) = credentials() else {
        return;
    };
    let mut device = Device {
        net,
        number,
        about,
        credentials,
        connections: 0,
        places: BTreeMap::new(),
        joined: BTreeSet::new(),
        reference: 0,
        // So that marks of devices and of publishers differ.
        mark: 1_000_000 * (number as u64 + 1),
        reads: true,
    };
    while let Ok(command) = commands.recv().await {
        if let Command::Connect(with) = command {
            device.stay(with, &commands).await;
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
                None
            };
            let told = async {
                loop {
                    match commands.recv().await {
                        Ok(Command::Leave { .. }) | Err(_) => return Some(()),
                        Ok(Command::ResumeReading) => self.reads = true,
                        Ok(_) => {}
                    }
                }
            };
            if or(told, waited).await.is_some() {
                return;
            }
            with = Since::Positions;
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
        if !parameters.is_empty() {
            path = format!("{path}?{}", parameters.join("&"));
        }
        (path, since)
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
            Since::Nothing => None,
            Since::Positions => known,
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
        let head = format!(
            "GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {token}\r\n",
        );
        let opened = net.within(PATIENCE_MS, async {
            let mut wire = Wire::new(net.connect(Node::Device(number)).await?);
            let answer = wire.request(&head, "").await?;
            Ok((wire, answer.status))
        });
        let mut wire = match opened.await {
            Ok((wire, 101)) => wire,
            Ok((_, status)) => {
                net.observe(Seen::Refused {
                    device: number,
                    status,
                });
                return Over::Lost(None);
            }
            Err(_) => return Over::Lost(None),
        };
        self.connections += 1;
        net.observe(Seen::Opened {
            conn,
            user: self.about.user,
            name: self.about.name.clone(),
            since,
        });
        let over = self.speak(&mut wire, conn, commands, failures).await;
        if matches!(over, Over::Away) {
            net.observe(Seen::Leaves { conn });
        }
        over
    }

    async fn speak(
        &mut self,
        wire: &mut Wire,
        conn: Conn,
        commands: &Receiver<Command>,
        failures: &mut u32,
    ) -> Over {
        let net = Rc::clone(&self.net);
        let mut retry = None;
        let lost = |code| {
            net.observe(Seen::Closed { conn, code });
        };
        loop {
            let reads = self.reads;
            let frame = async {
                if reads {
                    Next::Frame(wire.frame().await)
                } else {
                    std::future::pending().await
                }
            };
            let command = async { Next::Command(commands.recv().await.ok()) };
            let silence = async {
                net.sleep_ms(SILENCE_MS).await;
                Next::Silence
            };
            match or(or(frame, command), silence).await {
                Next::Frame(Ok(Frame::Text(text))) => {
                    let Ok(frame) = serde_json::from_str::<Value>(&text) else {
                        // Told to the oracles as what it is.
                        net.observe(Seen::Received {
                            conn,
                            frame: Value::String(text),
                        });
                        continue;
                    };
                    net.observe(Seen::Received {
                        conn,
                        frame: frame.clone(),
                    });
                    if frame["type"] == "system:welcome" {
                        *failures = 0;
                    }
                    if frame["type"] == "system:goodbye" {
                        retry = Some(frame["data"].clone());
                    }
                    self.learn(&frame);
                    if frame["type"] == "system:welcome" && !self.rejoin(wire, conn).await {
                        lost(None);
                        return Over::Lost(None);
                    }
                }
                Next::Frame(Ok(Frame::Ping(content))) => {
                    let pong = net.within(PATIENCE_MS, wire.pong(&content));
                    if pong.await.is_err() {
                        lost(None);
                        return Over::Lost(None);
                    }
                }
                Next::Frame(Ok(Frame::Close(code))) => {
                    lost(code);
                    return after(
                        retry.as_ref(),
                        code,
                        net.draw(Node::Device(self.number), 1_000),
                    );
                }
                Next::Frame(Err(_)) => {
                    lost(None);
                    return after(
                        retry.as_ref(),
                        None,
                        net.draw(Node::Device(self.number), 1_000),
                    );
                }
                Next::Silence if self.reads => {
                    lost(None);
                    return Over::Lost(None);
                }
                Next::Silence => {}
                Next::Command(None) => return Over::Away,
                Next::Command(Some(Command::Leave { in_order })) => {
                    if in_order {
                        let _ = net.within(PATIENCE_MS, wire.close()).await;
                    }
                    return Over::Away;
                }
                Next::Command(Some(Command::StopReading)) => self.reads = false,
                Next::Command(Some(Command::ResumeReading)) => self.reads = true,
                Next::Command(Some(command)) => {
                    if let Some(text) = self.words(&command)
                        && !self.say(wire, conn, text).await
                    {
                        lost(None);
                        return Over::Lost(None);
                    }
                }
            }
        }
    }

    /// A new token, which is about to be shown.
    fn token(&self, conn: Conn, reference: &str) -> String {
        let now_ms = BEGINNING.as_unix_millis() + self.net.now().as_millis();
        let exp = (now_ms + TOKEN_MS) / 1_000;
        self.net.observe(Seen::Shows {
            conn,
            reference: reference.to_owned(),
            token: Rights {
                ends_ms: exp * 1_000,
                tasks: None,
            },
        });
        let claims = Claims::new(UserId::new(self.about.user), exp, TaskGrant::All);
        self.credentials.issue(&claims)
    }

    /// Says a text. Whether it left.
    async fn say(&self, wire: &mut Wire, conn: Conn, text: String) -> bool {
        self.net.observe(Seen::Said {
            conn,
            text: text.clone(),
        });
        self.net.within(PATIENCE_MS, wire.say(&text)).await.is_ok()
    }

    /// Joins again what it had joined: the server has forgotten it with the old connection.
    async fn rejoin(&mut self, wire: &mut Wire, conn: Conn) -> bool {
        for room in self.joined.clone() {
            let text = self.join(&room, Since::Positions);
            if !self.say(wire, conn, text).await {
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
                self.joined.insert(room.clone());
                self.join(&room, *with)
            }
            Command::Part(number) => {
                let room = format!("task:{}", task(*number));
                self.joined.remove(&room);
                self.places.remove(&room);
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
            | Command::ResumeReading => return None,
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

/// When to come back, by what the server said: its goodbye, or the close code alone.
fn after(goodbye: Option<&Value>, code: Option<u16>, random: u64) -> Over {
    match goodbye.and_then(|it| it["retry"].as_str()) {
        Some("never") => Over::Away,
        Some("now") => Over::Lost(Some(random)),
        Some(_) => {
            let wait = goodbye.and_then(|it| it["retry_after_ms"].as_u64());
            Over::Lost(Some(wait.unwrap_or(1_000) + random))
        }
        None if code.is_some_and(|code| (4_500..4_600).contains(&code)) => Over::Away,
        None => Over::Lost(None),
    }
}
