//! A script as data, which proptest draws and shortens, and how it is run.

use crate::oracle::Oracle;
use fanfare_core::{Draft, Endpoint, Limits, Position, Publish, RoomId, Seq, Target};
use fanfare_loopback::{Client, Handshake, Settings, World, draft, task, user};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

/// Few enough of each that they meet.
const TASKS: u32 = 3;
const USERS: u64 = 3;
const CLIENTS: usize = 5;
/// Events that a task's room and a user's room keep.
pub(crate) const TASK_LOG: u64 = 8;
pub(crate) const USER_LOG: u64 = 12;
/// A day would end tokens and logs.
const ADVANCE_MAX_MS: u64 = 40_000;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    seed: u64,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Open(Opening),
    Disconnect(usize),
    /// With its positions, as a client resumes; or with none; or with some from elsewhere.
    Reopen(usize, Since),
    Join(usize, u32, bool),
    Leave(usize, u32),
    Send {
        client: usize,
        task: u32,
        ephemeral: bool,
        large: bool,
    },
    Ping(usize),
    Tell(usize, Told),
    StopReading(usize),
    ReadSome(usize, usize),
    ResumeReading(usize),
    Publish {
        target: Where,
        kind: Kind,
        id: Option<u8>,
        large: bool,
    },
    /// More than an outbox or a log holds.
    Burst(Where, u8),
    /// A publish of before, once more.
    Retry(usize),
    Advance(u64),
    DisconnectUser(u64),
}

#[derive(Debug, Clone)]
struct Opening {
    chat: Option<u32>,
    user: u64,
    all: bool,
    narrow: bool,
    is_phone: Option<bool>,
}

impl Opening {
    fn handshake(&self) -> Handshake {
        let mut handshake = match self.chat {
            Some(number) => Handshake::chat(user(self.user), task(number)),
            None => Handshake::notifications(user(self.user)),
        };
        if !self.all {
            handshake = handshake.tasks(&[task(0), task(1)]);
        }
        if self.narrow {
            handshake = handshake.window_bytes(1);
        }
        if let Some(is_phone) = self.is_phone {
            handshake = handshake.device(if is_phone { "phone" } else { "laptop" });
        }
        handshake
    }
}

#[derive(Debug, Clone)]
enum Told {
    Ack(u64),
    ReadUpTo(u64),
    ReadIds(u8),
}

#[derive(Debug, Clone, Copy)]
enum Since {
    Positions,
    Nothing,
    Elsewhere,
    Future,
}

#[derive(Debug, Clone)]
enum Where {
    Task(u32, Vec<u64>),
    User(u64),
    Bus,
}

#[derive(Debug, Clone)]
enum Kind {
    Kept,
    Ephemeral,
    Keyed,
    Life(&'static str),
}

fn steps() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let task = 0..TASKS;
    let user = 0..USERS;
    let users =
        prop::collection::btree_set(0..USERS, 0..=2).prop_map(|it| it.into_iter().collect());
    let target = prop_oneof![
        6 => (task.clone(), users).prop_map(|(task, users)| Where::Task(task, users)),
        3 => user.clone().prop_map(Where::User),
        1 => Just(Where::Bus),
    ]
    .boxed();
    let burst = target.clone();
    let life = prop::sample::select(vec![
        "task:created",
        "task:created",
        "task:started",
        "task:started",
        "task:status",
        "task:status",
        "task:completed",
        "task:failed",
        "task:cancelled",
        "task:deleted",
    ]);
    let kind = prop_oneof![
        6 => Just(Kind::Kept),
        1 => Just(Kind::Ephemeral),
        1 => Just(Kind::Keyed),
        3 => life.prop_map(Kind::Life),
    ];
    let told = prop_oneof![
        6 => (0..4_u64).prop_map(Told::Ack),
        2 => (0..4_u64).prop_map(Told::ReadUpTo),
        2 => (0..20_u8).prop_map(Told::ReadIds),
    ];
    let since = prop_oneof![
        6 => Just(Since::Positions),
        4 => Just(Since::Nothing),
        1 => Just(Since::Elsewhere),
        1 => Just(Since::Future),
    ];
    prop_oneof![
        6 => (prop::option::of(task.clone()), user.clone(), prop::bool::weighted(0.8), any::<bool>(), any::<Option<bool>>())
            .prop_map(|(chat, user, all, narrow, is_phone)| Step::Open(Opening { chat, user, all, narrow, is_phone })),
        10 => (client.clone(), told).prop_map(|(client, told)| Step::Tell(client, told)),
        4 => client.clone().prop_map(Step::Disconnect),
        8 => (client.clone(), since).prop_map(|(client, since)| Step::Reopen(client, since)),
        6 => (client.clone(), task.clone(), any::<bool>())
            .prop_map(|(client, task, since)| Step::Join(client, task, since)),
        2 => (client.clone(), task.clone()).prop_map(|(client, task)| Step::Leave(client, task)),
        6 => (client.clone(), task, prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(client, task, ephemeral, large)| Step::Send { client, task, ephemeral, large }),
        1 => client.clone().prop_map(Step::Ping),
        5 => client.clone().prop_map(Step::StopReading),
        3 => (client.clone(), 1..6_usize).prop_map(|(client, count)| Step::ReadSome(client, count)),
        5 => client.prop_map(Step::ResumeReading),
        40 => (target, kind, prop::option::weighted(0.2, 0..20_u8), any::<bool>())
            .prop_map(|(target, kind, id, large)| Step::Publish { target, kind, id, large }),
        4 => (burst, 5..25_u8).prop_map(|(target, count)| Step::Burst(target, count)),
        3 => any::<prop::sample::Index>().prop_map(|index| Step::Retry(index.index(64))),
        3 => (0..ADVANCE_MAX_MS).prop_map(Step::Advance),
        1 => user.prop_map(Step::DisconnectUser),
    ]
}

pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    (any::<u64>(), prop::collection::vec(steps(), 1..120))
        .prop_map(|(seed, steps)| Plan { seed, steps })
}

/// The one who runs a plan.
struct Run {
    world: World,
    oracle: Oracle,
    clients: Vec<Client>,
    handshakes: Vec<Handshake>,
    published: Vec<Publish>,
    next_mark: u64,
}

impl Plan {
    /// What the script came to, or how a promise was broken.
    pub(crate) fn run(&self) -> Result<BTreeMap<&'static str, u64>, String> {
        let mut world = World::with(Settings {
            seed: self.seed,
            limits: Limits {
                task_log_events: TASK_LOG.try_into().expect("a small number"),
                user_log_events: USER_LOG.try_into().expect("a small number"),
                outbox_bytes: 4_000,
                messages_burst: 1_000_000,
                errors_per_minute: 1_000_000,
                ..Limits::default()
            },
            ..Settings::default()
        });
        let witness = world.subscribe(&["*".parse().expect("all types")]);
        let mut run = Run {
            oracle: Oracle::new(witness),
            world,
            clients: Vec::new(),
            handshakes: Vec::new(),
            published: Vec::new(),
            next_mark: 1,
        };
        for step in &self.steps {
            run.step(step);
            run.world.settle();
            run.judge()?;
        }
        for client in run.clients.clone() {
            if run.world.is_open(client) {
                run.world.resume_reading(client);
            }
        }
        run.world.settle();
        run.judge()?;
        let open = run
            .clients
            .iter()
            .copied()
            .filter(|it| run.world.is_open(*it))
            .collect();
        run.oracle.end(&open)
    }
}

impl Run {
    fn judge(&mut self) -> Result<(), String> {
        for seen in self.world.take_observations() {
            let told = format!("{} ms: {:?}", seen.time.as_millis(), seen.what);
            let broken = |error| format!("{error}\n  at {told}");
            self.oracle.see(seen.what).map_err(broken)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Open(opening) if self.clients.len() < CLIENTS => {
                let handshake = opening.handshake();
                self.handshakes.push(handshake.clone());
                self.clients.push(self.world.open(handshake));
            }
            Step::Open(_) => {}
            Step::Publish {
                target,
                kind,
                id,
                large,
            } => {
                let publish = self.publish(target, kind, *id, *large);
                self.published.push(publish.clone());
                // What becomes of it is the oracle's to judge.
                let _ = self.world.try_publish(publish);
            }
            Step::Burst(target, count) => {
                for _ in 0..*count {
                    let publish = self.publish(target, &Kind::Kept, None, true);
                    let _ = self.world.try_publish(publish);
                    // Who reads, reads.
                    self.world.settle();
                }
            }
            Step::Retry(back) => {
                let again = self.published.len().checked_sub(back + 1);
                if let Some(publish) = again.and_then(|at| self.published.get(at)).cloned()
                    && publish.draft.id.is_some()
                {
                    let _ = self.world.try_publish(publish);
                }
            }
            Step::Advance(millis) => self.world.advance_ms(*millis),
            Step::DisconnectUser(number) => {
                self.oracle.disconnects(user(*number));
                self.world.disconnect_user(user(*number));
            }
            Step::Disconnect(at) => self.of(*at, World::disconnect),
            Step::Reopen(at, since) => {
                let Some(handshake) = self.handshakes.get(*at).cloned() else {
                    return;
                };
                self.of(*at, |world, client| match since {
                    Since::Positions => world.reopen(client),
                    Since::Nothing => world.reopen_with(client, handshake),
                    Since::Elsewhere | Since::Future => {
                        reopen_lost(world, client, handshake, *since);
                    }
                });
            }
            Step::Tell(at, told) => self.tell(*at, told),
            Step::Ping(at) => self.of_open(*at, |world, client| {
                world.ping(client);
            }),
            Step::StopReading(at) => {
                if let Some(client) = self.clients.get(*at) {
                    self.oracle.stops_reading(*client);
                }
                self.of(*at, World::stop_reading);
            }
            Step::ReadSome(at, count) => {
                self.of_open(*at, |world, client| world.read_some(client, *count))
            }
            Step::ResumeReading(at) => self.of_open(*at, World::resume_reading),
            Step::Join(at, number, since) => self.of_open(*at, |world, client| {
                match world.position(client, task(*number)).filter(|_| *since) {
                    Some(position) => world.join_since(client, task(*number), &position),
                    None => world.join(client, task(*number)),
                };
            }),
            Step::Leave(at, number) => self.of_open(*at, |world, client| {
                world.leave(client, task(*number));
            }),
            Step::Send {
                client,
                task: number,
                ephemeral,
                large,
            } => {
                let mark = self.mark();
                let mut draft = draft("chat:message", data(mark, *large));
                if *ephemeral {
                    draft = draft.ephemeral(None);
                }
                self.of_open(*client, |world, client| {
                    world.send(client, task(*number), &draft);
                });
            }
        }
    }

    /// What a client says of its inbox: so far behind the last event in the user's room, or beyond it.
    fn tell(&mut self, at: usize, told: &Told) {
        // Whether an ack of a client that did not read all was heard is not seen from outside.
        if matches!(told, Told::Ack(_)) && !self.reads_at_once(at) {
            return;
        }
        self.of_open(at, |world, client| {
            let after = head_of(world, client) + 1;
            match told {
                Told::Ack(back) => world.ack(client, after.saturating_sub(*back)),
                Told::ReadUpTo(back) => world.read_up_to(client, after.saturating_sub(*back)),
                Told::ReadIds(id) => world.read_ids(client, &[&format!("id:{id}"), "nobody"]),
            };
        });
    }

    fn of(&mut self, at: usize, act: impl FnOnce(&mut World, Client)) {
        if let Some(client) = self.clients.get(at) {
            act(&mut self.world, *client);
        }
    }

    fn of_open(&mut self, at: usize, act: impl FnOnce(&mut World, Client)) {
        self.of(at, |world, client| {
            if world.is_open(client) {
                act(world, client);
            }
        });
    }

    fn reads_at_once(&self, at: usize) -> bool {
        let client = self.clients.get(at);
        client.is_some_and(|client| self.oracle.reads_at_once(*client))
    }

    fn mark(&mut self) -> u64 {
        // Between two of them there is room for what the server itself says in the user's room.
        self.next_mark += 1_000;
        self.next_mark
    }

    fn publish(&mut self, target: &Where, kind: &Kind, id: Option<u8>, large: bool) -> Publish {
        let data = data(self.mark(), large);
        let key = || Some("progress".parse().expect("a key"));
        let mut draft: Draft = match (kind, target) {
            (Kind::Life(name), Where::Task(..)) => draft(name, data),
            (Kind::Kept | Kind::Life(_), _) => draft("note:added", data),
            (Kind::Ephemeral, _) => draft("note:typing", data).ephemeral(None),
            (Kind::Keyed, _) => draft("note:progress", data).ephemeral(key()),
        };
        draft.id = id.map(|id| format!("id:{id}").parse().expect("an id"));
        let target = match target {
            Where::Task(number, users) => Target::Task {
                task: task(*number),
                users: users.iter().copied().map(user).collect(),
            },
            Where::User(number) => Target::User(user(*number)),
            Where::Bus => Target::Bus,
        };
        Publish { target, draft }
    }
}

fn data(mark: u64, large: bool) -> serde_json::Value {
    json!({"mark": mark, "text": "x".repeat(if large { 600 } else { 0 })})
}

/// With a position in the rooms of its endpoint that the server can't know.
fn reopen_lost(world: &mut World, client: Client, mut handshake: Handshake, since: Since) {
    let rooms: Vec<RoomId> = match (handshake.endpoint(), handshake.user()) {
        (Endpoint::Task(task), Some(user)) => vec![(*task).into(), user.into()],
        (_, user) => user.into_iter().map(RoomId::User).collect(),
    };
    for room in rooms {
        let position = match (since, world.position(client, room)) {
            (Since::Future, Some(position)) => Position {
                seq: Seq::new(1_000).expect("a number"),
                ..position
            },
            _ => "elsewhere:3".parse().expect("a position"),
        };
        handshake = handshake.since(room, position);
    }
    world.reopen_with(client, handshake);
}

/// The last number in the room of the client's user, as far as the client knows.
fn head_of(world: &World, client: Client) -> u64 {
    let users = (0..USERS).map(user);
    let mut positions = users.filter_map(|user| world.position(client, user));
    positions.next().map_or(0, |position| position.seq.number())
}
