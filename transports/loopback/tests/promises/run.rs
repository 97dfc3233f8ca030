//! How a script is run: the world does it, and the oracle sees it.

use crate::oracle::{Found, Log, Oracle};
use crate::plan::{
    CLIENTS, Kind, Plan, Since, Step, TASK_LOG, TASKS, Told, USER_LOG, USERS, Where,
};
use fanfare_core::{
    Draft, Endpoint, History, Limits, Position, Publish, RoomId, Seq, StoreFailure, Target, Ticket,
};
use fanfare_loopback::{
    Client, Digest, Handshake, Restart, Settings, StoreSettings, World, draft, task, user,
};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};

/// Publishes under way: with what clients have under way no more than a log keeps, so that all that is there after a crash
/// is seen.
const IN_FLIGHT_MAX: usize = 3;
/// In which everything is answered.
const QUIET_MS: u64 = 1_000;

/// The one who runs a plan.
struct Run {
    world: World,
    oracle: Oracle,
    clients: Vec<Client>,
    handshakes: Vec<Handshake>,
    published: Vec<Publish>,
    in_flight: VecDeque<Ticket>,
    next_mark: u64,
    /// What went in and came out, up to the end of each step.
    digests: Vec<Digest>,
}

impl Plan {
    /// What the script came to, or how a promise was broken.
    pub(crate) fn run(&self) -> Result<BTreeMap<&'static str, u64>, String> {
        self.run_through().map(|(marks, _)| marks)
    }

    /// The first step after which two runs of the script differ by a byte.
    pub(crate) fn differs(&self) -> Result<Option<String>, String> {
        let ((_, one), (_, other)) = (self.run_through()?, self.run_through()?);
        let at = one.iter().zip(&other).position(|(one, other)| one != other);
        let at = at.or_else(|| (one.len() != other.len()).then_some(one.len().min(other.len())));
        Ok(at.map(|at| format!("step {at}: {:?}", self.steps.get(at))))
    }

    fn run_through(&self) -> Result<(BTreeMap<&'static str, u64>, Vec<Digest>), String> {
        let defaults = Limits::default();
        let store = self.store.as_ref();
        let mut world = World::with(Settings {
            seed: self.seed,
            limits: Limits {
                task_log_events: TASK_LOG.try_into().expect("a small number"),
                user_log_events: USER_LOG.try_into().expect("a small number"),
                outbox_bytes: 4_000,
                messages_burst: 1_000_000,
                errors_per_minute: 1_000_000,
                log_bytes: store.map_or(defaults.log_bytes, |it| it.log_bytes),
                ..defaults
            },
            store: store.map(|it| StoreSettings {
                commit_ms: 0..=it.commit_ms,
                fetch_ms: 0..=it.fetch_ms,
                reads_ahead: it.reads_ahead,
            }),
            outlets: self.outlets,
            ..Settings::default()
        });
        // Every other store was put back once: what a server names is the same then from start to start.
        if self.store.is_some() && self.seed.is_multiple_of(2) {
            let backup = world.back_up();
            world.restore(backup);
            world.take_observations();
        }
        let mut run = Run {
            oracle: Oracle::new(subscribe(&mut world), store.is_some()),
            world,
            clients: Vec::new(),
            handshakes: Vec::new(),
            published: Vec::new(),
            in_flight: VecDeque::new(),
            next_mark: 1,
            digests: Vec::new(),
        };
        for step in &self.steps {
            run.step(step)?;
            run.world.settle();
            run.judge()?;
            run.digests.push(run.world.digest());
        }
        if self.store.is_some() {
            run.quiet()?;
            run.restart(Restart::Crash, true)?;
        }
        run.quiet()?;
        let open = run.clients.iter().copied();
        let open = open.filter(|it| run.world.is_open(*it)).collect();
        let found = run.found();
        run.oracle.finds(&found)?;
        run.digests.push(run.world.digest());
        Ok((run.oracle.end(&open)?, run.digests))
    }
}

fn subscribe(world: &mut World) -> Client {
    world.subscribe(&["*".parse().expect("all types")])
}

impl Run {
    fn judge(&mut self) -> Result<(), String> {
        self.oracle.see(self.world.take_observations())
    }

    /// Everybody reads, and what was asked is answered.
    fn quiet(&mut self) -> Result<(), String> {
        for client in self.clients.clone() {
            if self.world.is_open(client) {
                self.world.resume_reading(client);
            }
        }
        self.world.settle();
        self.judge()?;
        self.world.advance_ms(QUIET_MS);
        self.judge()
    }

    fn restart(&mut self, how: Restart, all: bool) -> Result<(), String> {
        self.world.fail_commits(0, StoreFailure::Full);
        self.world.fail_reads(0);
        self.oracle.ends(how);
        self.world.restart(how);
        self.world.settle();
        self.judge()?;
        self.in_flight.clear();
        let witness = subscribe(&mut self.world);
        let found = self.found();
        self.oracle.finds(&found)?;
        self.oracle.begins_again(how, witness);
        for client in self.clients.clone() {
            if all {
                self.world.reopen(client);
            }
        }
        self.world.settle();
        self.judge()
    }

    /// What a back end can read.
    fn found(&mut self) -> Found {
        let tasks = (0..TASKS).map(task);
        let users = (0..USERS).map(user);
        let rooms = tasks.clone().map(RoomId::from);
        let rooms = rooms.chain(users.clone().map(RoomId::from));
        Found {
            logs: rooms.map(|room| self.log(room)).collect(),
            tasks: tasks
                .map(|task| (task, self.world.task(task).state.status))
                .collect(),
            inboxes: users.map(|user| (user, self.world.inbox(user))).collect(),
        }
    }

    fn log(&mut self, room: RoomId) -> Log {
        let page = self.world.history(room, History::default());
        let events = page.events.iter().map(|(seq, entry)| {
            let place = std::iter::once((&room, *seq));
            let frame = entry.encode(place, None);
            let event = serde_json::from_str(frame.text()).expect("an event");
            (seq.number(), event)
        });
        Log {
            room,
            epoch: page.epoch.to_string(),
            first: page.first.number(),
            head: page.seq.number(),
            events: events.collect(),
        }
    }

    /// Begins a publish as soon as not too many are under way. What becomes of it is the oracle's to judge.
    fn begin(&mut self, publish: Publish, waits: bool) {
        let world = &mut self.world;
        self.in_flight
            .retain(|ticket| world.answer(*ticket).is_none());
        if self.in_flight.len() == IN_FLIGHT_MAX
            && let Some(first) = self.in_flight.pop_front()
        {
            let _ = world.wait_answer(first);
        }
        let ticket = world.begin_publish(publish);
        if waits {
            let _ = world.wait_answer(ticket);
        } else {
            self.in_flight.push_back(ticket);
        }
    }

    fn again(&mut self, back: usize, waits: bool) {
        let at = self.published.len().checked_sub(back + 1);
        let publish = at.and_then(|at| self.published.get(at)).cloned();
        if let Some(publish) = publish.filter(|it| it.draft.id.is_some()) {
            self.begin(publish, waits);
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
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
                waits,
            } => {
                let publish = self.publish(target, kind, *id, *large);
                self.published.push(publish.clone());
                self.begin(publish, *waits);
            }
            Step::Burst(target, count) => {
                for _ in 0..*count {
                    let publish = self.publish(target, &Kind::Kept, None, true);
                    let _ = self.world.try_publish(publish);
                    // Who reads, reads.
                    self.world.settle();
                }
            }
            Step::Retry(back, waits) => self.again(*back, *waits),
            Step::FailCommits(count, true) => {
                self.world.fail_commits(*count, StoreFailure::Failed);
            }
            Step::FailCommits(count, false) => {
                self.world.fail_commits(*count, StoreFailure::Full);
            }
            Step::FailReads(count) => self.world.fail_reads(*count),
            Step::Restart { crash, all } => {
                let how = [Restart::Orderly, Restart::Crash][usize::from(*crash)];
                return self.restart(how, *all);
            }
            Step::Advance(millis) => self.world.advance_ms(*millis),
            Step::DisconnectUser(number) => {
                self.oracle.disconnects(user(*number));
                self.world.disconnect_user(user(*number));
            }
            Step::Disconnect(at) => self.of(*at, World::disconnect),
            Step::Reopen(at, since) => {
                let Some(handshake) = self.handshakes.get(*at).cloned() else {
                    return Ok(());
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
        Ok(())
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
