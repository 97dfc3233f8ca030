//! A script as data, which proptest draws and shortens.

use fanfare_loopback::{Handshake, task, user};
use proptest::prelude::*;

/// Few enough of each that they meet.
pub(crate) const TASKS: u32 = 3;
pub(crate) const USERS: u64 = 3;
pub(crate) const CLIENTS: usize = 5;
/// Events that a task's room and a user's room keep.
pub(crate) const TASK_LOG: u64 = 8;
pub(crate) const USER_LOG: u64 = 12;
/// A day would end tokens and logs.
const ADVANCE_MAX_MS: u64 = 40_000;

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) store: Option<Store>,
    /// Beside the hub's own. What passes between takes no time, and comes in an order that is drawn.
    pub(crate) outlets: u8,
    pub(crate) steps: Vec<Step>,
}

/// A store, and how much of the log is in memory beside it.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) commit_ms: u64,
    pub(crate) fetch_ms: u64,
    pub(crate) reads_ahead: bool,
    pub(crate) log_bytes: usize,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
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
        /// For the answer.
        waits: bool,
    },
    /// More than an outbox or a log holds.
    Burst(Where, u8),
    /// A publish of before, once more, and whether it waits for the answer.
    Retry(usize, bool),
    Advance(u64),
    DisconnectUser(u64),
    FailCommits(usize, bool),
    FailReads(usize),
    /// With everybody coming back at once, as clients do.
    Restart {
        crash: bool,
        all: bool,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Opening {
    chat: Option<u32>,
    user: u64,
    all: bool,
    narrow: bool,
    is_phone: Option<bool>,
}

impl Opening {
    pub(crate) fn handshake(&self) -> Handshake {
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
pub(crate) enum Told {
    Ack(u64),
    ReadUpTo(u64),
    ReadIds(u8),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Since {
    Positions,
    Nothing,
    Elsewhere,
    Future,
}

#[derive(Debug, Clone)]
pub(crate) enum Where {
    Task(u32, Vec<u64>),
    User(u64),
    Bus,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Kept,
    Ephemeral,
    Keyed,
    Life(&'static str),
}

/// With so many publishes of one that wait for their answer.
fn steps(waiting: f64) -> impl Strategy<Value = Step> {
    let waits = || prop::bool::weighted(waiting);
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
        40 => (target, kind, prop::option::weighted(0.2, 0..20_u8), any::<bool>(), waits())
            .prop_map(|(target, kind, id, large, waits)| Step::Publish { target, kind, id, large, waits }),
        4 => (burst, 5..25_u8).prop_map(|(target, count)| Step::Burst(target, count)),
        3 => (any::<prop::sample::Index>(), waits())
            .prop_map(|(index, waits)| Step::Retry(index.index(64), waits)),
        3 => (0..ADVANCE_MAX_MS).prop_map(Step::Advance),
        1 => user.prop_map(Step::DisconnectUser),
    ]
}

fn store_steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        100 => steps(0.5),
        20 => (0..30_u64).prop_map(Step::Advance),
        6 => (prop::bool::weighted(0.7), any::<bool>())
            .prop_map(|(crash, all)| Step::Restart { crash, all }),
        3 => (1..3_usize, prop::bool::weighted(0.2))
            .prop_map(|(count, is_final)| Step::FailCommits(count, is_final)),
        1 => (1..4_usize).prop_map(Step::FailReads),
    ]
}

pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let steps = prop::collection::vec(steps(1.0), 1..120);
    (any::<u64>(), 0..3_u8, steps).prop_map(|(seed, outlets, steps)| Plan {
        seed,
        store: None,
        outlets,
        steps,
    })
}

pub(crate) fn stored_plans() -> impl Strategy<Value = Plan> {
    let millis = || prop::sample::select(vec![0, 3, 20]);
    let log_bytes = prop::sample::select(vec![256 << 20, 5_000]);
    let store = (millis(), millis(), any::<bool>(), log_bytes);
    let store = store.prop_map(|(commit_ms, fetch_ms, reads_ahead, log_bytes)| Store {
        commit_ms,
        fetch_ms,
        reads_ahead,
        log_bytes,
    });
    let steps = prop::collection::vec(store_steps(), 1..120);
    (any::<u64>(), 0..3_u8, store, steps).prop_map(|(seed, outlets, store, steps)| Plan {
        seed,
        store: Some(store),
        outlets,
        steps,
    })
}
