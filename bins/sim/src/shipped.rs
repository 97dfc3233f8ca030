//! A device whose client is the one that ships: it follows its rooms over the simulated lines, on virtual time, with its own
//! waits, positions and timeouts. Only who uses it is pretended.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::Receiver;
use fanfare_core::{Epoch, Position, RoomId, Seq, Time};
use fanfare_loopback::task;
use fanfare_websocket::Credentials;
use fanfare_websocket::client::{
    Access, Client, Connection, Error, Incoming, Op, Platform, Secret, Server,
};
use serde_json::{Value, json};
use smol::future::or;

use crate::device::{Command, issue};
use crate::history::{Place, Seen, Tells};
use crate::machine::credentials;
use crate::net::{Net, Node};
use crate::oracle;
use crate::plan::{self, Endpoint, Since};
use crate::tap::{Tap, User};

/// Milliseconds after which somebody tries again whose client gave up at once, at most.
const AGAIN_MS: u64 = 10_000;
/// Milliseconds after which who is to stay away signs in anew, at least, and at most so many more.
const NEVER_MIN_MS: u64 = 5_000;
const NEVER_MAX_MS: u64 = 60_000;
/// An epoch that no server gives.
const FOREIGN: &str = "elsewhere";

/// One device in a third of the worlds with lines. Drawn apart, so that all else of a world is the same with and without.
pub(crate) fn choose(seed: u64, world: &mut plan::Setting) {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5419);
    let drawn = random.usize(..world.devices.len().max(1));
    if !world.direct
        && random.u8(..3) == 0
        && let Some(device) = world.devices.get_mut(drawn)
    {
        device.shipped = true;
    }
}

/// The simulated world around a client.
#[derive(Clone)]
struct Around {
    user: Rc<User>,
    credentials: Rc<Credentials>,
    /// The token of the attempt that is made now.
    token: Arc<Mutex<String>>,
}

impl Platform for Around {
    type Stream = Tap;

    async fn connect(&self, server: &Server) -> Result<Tap, Error> {
        let User { net, device, .. } = &*self.user;
        let connected = net.connect(Node::Device(*device)).await;
        let stream = connected.map_err(|source| Error::Unreachable {
            server: server.to_string(),
            source,
        })?;
        let conn = self.user.next();
        let wants = self.user.token.borrow().clone();
        let (of, shown) = (self.user.about.user, oracle::WELCOME);
        let token = issue(net, &self.credentials, of, &wants, conn, shown);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(Tap::new(stream, Rc::clone(&self.user)))
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.user.net.now().as_millis())
    }

    async fn sleep_until(&self, at: Duration) {
        let millis = at.as_nanos().div_ceil(1_000_000);
        let at = Time::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
        self.user.net.timeline.sleep_until(at).await;
    }

    fn random(&self) -> f64 {
        let most = u32::MAX;
        let drawn = self.user.draw(u64::from(most));
        f64::from(u32::try_from(drawn).unwrap_or(most)) / f64::from(most)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Freely,
    /// A message in so many milliseconds.
    Slowly(u64),
    Not,
}

/// Who uses the client.
struct Person {
    around: Around,
    places: Vec<(RoomId, Position)>,
    reads: Reads,
    /// When the last message was taken.
    took: Time,
    reference: u64,
    mark: u64,
}

/// Why a client is no more.
enum Over {
    Away,
    /// A new one is made after so many milliseconds.
    Again(u64),
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
    let mut person = Person {
        around: Around {
            user: Rc::new(User::new(net, number, about)),
            credentials: Rc::new(credentials),
            token: Arc::default(),
        },
        places: Vec::new(),
        reads: Reads::Freely,
        took: Time::default(),
        reference: 0,
        mark: 1_000_000 * (number as u64 + 1),
    };
    while let Ok(command) = commands.recv().await {
        if let Command::Connect(with) = command {
            person.stay(with, &commands).await;
        } else {
            person.note(&command);
        }
    }
}

impl Person {
    fn tells(&self, tells: Tells) {
        let device = self.around.user.device;
        self.around.user.net.observe(Seen::Client { device, tells });
    }

    /// Has a client, one after the other, until it is to go.
    async fn stay(&mut self, mut with: Since, commands: &Receiver<Command>) {
        loop {
            let over = self.client(with, commands).await;
            self.tells(Tells::Ends);
            let Over::Again(wait) = over else { return };
            let net = Rc::clone(&self.around.user.net);
            let waited = async {
                net.sleep_ms(wait).await;
                Some(Since::Positions)
            };
            match or(self.told(commands), waited).await {
                None => return,
                Some(next) => with = next,
            }
        }
    }

    /// Listens to the commands while there is no client; ends when one is to be made, or none.
    async fn told(&mut self, commands: &Receiver<Command>) -> Option<Since> {
        loop {
            match commands.recv().await {
                Ok(Command::Leave { .. }) | Err(_) => return None,
                Ok(Command::Return) => return Some(Since::Positions),
                Ok(Command::Connect(with)) => return Some(with),
                Ok(command) => self.note(&command),
            }
        }
    }

    fn note(&mut self, command: &Command) {
        match command {
            Command::StopReading => self.reads = Reads::Not,
            Command::ResumeReading => self.reads = Reads::Freely,
            Command::ReadSlowly { every_ms } => self.reads = Reads::Slowly(*every_ms),
            Command::Token(token) => *self.around.user.token.borrow_mut() = token.clone(),
            // Of its lines and its rooms nothing is known while there is no connection.
            Command::Connect(_)
            | Command::Leave { .. }
            | Command::Join(..)
            | Command::Part(_)
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

    /// Where a new client begins.
    fn since(&self, with: Since) -> Vec<(RoomId, Position)> {
        let at = |epoch: &Epoch, seq: u64| {
            let seq = Seq::new(seq).ok()?;
            let epoch = epoch.clone();
            Some(Position { epoch, seq })
        };
        let places = self.places.iter();
        let each = places.filter_map(|(room, place)| {
            let seq = place.seq.number();
            let place = match with {
                Since::Nothing | Since::Garbage => return None,
                Since::Positions => place.clone(),
                Since::Old => at(&place.epoch, seq / 2)?,
                Since::Foreign => at(&FOREIGN.parse().ok()?, 3)?,
                Since::Future => at(&place.epoch, seq + 1_000)?,
            };
            Some((*room, place))
        });
        each.collect()
    }

    async fn client(&mut self, with: Since, commands: &Receiver<Command>) -> Over {
        let since = self.since(with);
        let begins = since.iter().map(|(room, at)| {
            let (epoch, seq) = (at.epoch.to_string(), at.seq.number());
            (room.to_string(), Place { epoch, seq })
        });
        self.tells(Tells::Begins(begins.collect()));
        let user = Rc::clone(&self.around.user);
        user.leaves.set(false);
        let Ok(server) = "http://simulated".parse() else {
            return Over::Away;
        };
        let endpoint = match user.about.endpoint {
            Endpoint::Chat { task: number } => fanfare_core::Endpoint::Task(task(number)),
            Endpoint::Notifications {} => fanfare_core::Endpoint::Notifications,
        };
        let token = Arc::clone(&self.around.token);
        let access = Access::Fresh(Box::new(move || {
            let token = token.lock().unwrap_or_else(PoisonError::into_inner);
            Secret::new(token.clone())
        }));
        let client = Client::on(self.around.clone(), server, endpoint, access).since(since);
        let name = user.about.name.as_ref().and_then(|name| name.parse().ok());
        let client = match name {
            Some(name) => client.device(name),
            None => client,
        };
        let told = async { Err(self.told(commands).await) };
        let connecting = async { Ok(client.connect().await) };
        match or(connecting, told).await {
            Ok(Ok(connection)) => self.follow(connection, commands).await,
            Ok(Err(error)) => self.refused(&error),
            Err(None) => Over::Away,
            Err(Some(_)) => Over::Again(0),
        }
    }

    /// A client gave up.
    fn refused(&self, error: &Error) -> Over {
        let user = &self.around.user;
        if error.is_temporary() {
            return Over::Again(user.draw(AGAIN_MS));
        }
        // The person signs in anew.
        user.token.take();
        Over::Again(NEVER_MIN_MS + user.draw(NEVER_MAX_MS))
    }

    /// Takes what the client has, and says what the commands want.
    async fn follow(
        &mut self,
        mut connection: Connection<Around>,
        commands: &Receiver<Command>,
    ) -> Over {
        let net = Rc::clone(&self.around.user.net);
        loop {
            let (reads, took) = (self.reads, self.took);
            let incoming = async {
                match reads {
                    Reads::Freely => {}
                    Reads::Slowly(every_ms) => {
                        net.timeline.sleep_until(took.plus(every_ms)).await;
                    }
                    Reads::Not => std::future::pending().await,
                }
                Ok(connection.next().await)
            };
            // Only that they wait: what comes first is not lost.
            let command = async { Err(commands.recv().await) };
            let next = or(incoming, command).await;
            self.took = net.now();
            match next {
                Ok(Ok(Incoming::Message(message))) => {
                    let frame = serde_json::from_str(message.text()).unwrap_or_default();
                    self.tells(Tells::Message(frame));
                }
                Ok(Ok(Incoming::Lost { wait, .. })) => {
                    let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    self.tells(Tells::Lost(wait));
                }
                Ok(Err(error)) => {
                    self.places = connection.positions();
                    return self.refused(&error);
                }
                Err(Ok(Command::Leave { in_order })) => {
                    self.places = connection.positions();
                    self.around.user.leaves.set(true);
                    if in_order {
                        connection.close().await;
                    }
                    return Over::Away;
                }
                Err(Ok(Command::Return)) => {
                    self.places = connection.positions();
                    return Over::Again(0);
                }
                Err(Ok(Command::Background { until })) => {
                    net.timeline.sleep_until(until).await;
                }
                Err(Ok(command)) => {
                    self.note(&command);
                    self.say(&mut connection, &command).await;
                }
                Err(Err(_)) => return Over::Away,
            }
        }
    }

    /// Says what a command wants. What can't be said now is not said.
    async fn say(&mut self, connection: &mut Connection<Around>, command: &Command) {
        self.reference += 1;
        let reference = Some(self.reference);
        let positions = connection.positions();
        let at = |room: &RoomId| {
            let mut all = positions.iter();
            all.find_map(|(of, at)| (of == room).then(|| at.clone()))
        };
        let home = positions.iter().find_map(|(room, at)| match room {
            RoomId::User(_) => Some(at),
            RoomId::Task(_) => None,
        });
        let back = |behind: i64| {
            let position = home.cloned()?;
            let seq = position.seq.number();
            let seq = seq.checked_sub(u64::try_from(behind).ok()?)?;
            Some((position.epoch, Seq::new(seq).ok()?))
        };
        let op = match command {
            Command::Join(number, _) => {
                let room = RoomId::Task(task(*number));
                let since = at(&room);
                Op::Join {
                    reference,
                    room,
                    since,
                }
            }
            Command::Part(number) => Op::Leave {
                reference,
                room: RoomId::Task(task(*number)),
            },
            Command::Ack(behind) => {
                let Some((epoch, seq)) = back(*behind) else {
                    return;
                };
                Op::Ack {
                    reference,
                    epoch,
                    seq,
                }
            }
            Command::Read(behind) => {
                let Some((epoch, up_to)) = back(*behind) else {
                    return;
                };
                Op::Read {
                    reference,
                    epoch: Some(epoch),
                    up_to,
                }
            }
            Command::Send {
                task: number,
                ephemeral,
            } => {
                self.mark += 1;
                let room = format!("task:{}", task(*number));
                let data = json!({"mark": self.mark, "to": [room]});
                let mut op = json!({
                    "op": "send", "ref": reference, "room": room, "type": "chat:message", "data": data,
                });
                if *ephemeral {
                    op["ephemeral"] = Value::Bool(true);
                }
                drop(connection.send_text(op.to_string()).await);
                return;
            }
            Command::Babble(text) => {
                drop(connection.send_text(text.clone()).await);
                return;
            }
            Command::Connect(_)
            | Command::Leave { .. }
            | Command::Garble(_)
            | Command::Chatter(_)
            | Command::StopReading
            | Command::ResumeReading
            | Command::ReadSlowly { .. }
            | Command::Background { .. }
            | Command::HalfClose
            | Command::Return
            | Command::OtherToken
            | Command::Token(_) => return,
        };
        drop(connection.send(&op).await);
    }
}
