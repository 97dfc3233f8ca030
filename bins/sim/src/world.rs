//! Runs a plan: everything in one thread, on one timeline, judged at every step.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use async_channel::Sender;
use fanfare_core::{Held, Time};
use fanfare_loopback::{Crash, Digest, task};
use serde_json::{Value, json};
use smol::LocalExecutor;

use crate::coverage;
use crate::device::{self, Command};
use crate::disk::{DiskFault, Loss};
use crate::fault;
use crate::history::{Observation, Seen};
use crate::machine::{self, Server, Start, Witness};
use crate::meter::Meter;
use crate::net::Net;
use crate::oracle::{BoundedMemory, Broken, Oracles, Sample};
use crate::outside::Program;
use crate::panics;
use crate::plan::{Keeps, Kind, Network, Plan, Step, Target, Token};
use crate::presence::Presence;
use crate::publisher::{self, Request};
use crate::storage::{Machine, Unopened};
use crate::tally::{self, Counts, Tally};

/// Milliseconds after the faults, in which all that is owed has to come: the longest wait of a client, and a server's or a
/// client's notice that the other is gone.
const HEALING_MS: u64 = 240_000;
/// Milliseconds after the faults at which an orderly new start comes, in some worlds: nobody holds a dead line any more.
const ROLL_MS: u64 = 130_000;
/// Milliseconds after the faults at which something is published to everybody. All have come back and have caught up.
const PROBE_MS: u64 = 200_000;
/// Users who are published to then; in a crowd not all.
const PROBED_MAX: usize = 20;
/// Milliseconds in which everything can be read.
const AUDIT_MS: u64 = 120_000;
/// How often all leave at the end.
const EMPTIED: usize = 4;
/// Milliseconds after which a server is started again whose store takes nothing more.
const REPAIR_MS: u64 = 20_000;
/// Milliseconds in which a server forgets who has left, and in which all can come.
const EMPTY_MS: u64 = 30_000;
/// Milliseconds from the end of a server to the start of the next.
const RESTART_MS: u64 = 500;
/// Pieces of work in one millisecond; more means that something goes round in circles.
const WORK_MAX: u64 = 5_000_000;

/// How long the phases after the faults last, in milliseconds from their end.
#[derive(Debug, Clone, Copy)]
struct Pace {
    roll: u64,
    probe: u64,
    healing: u64,
    audit: u64,
}

const PACE: Pace = Pace {
    roll: ROLL_MS,
    probe: PROBE_MS,
    healing: HEALING_MS,
    audit: AUDIT_MS,
};

/// Against a real program everybody is told to come back, and nobody waits for what is due in minutes.
const PACE_OUTSIDE: Pace = Pace {
    roll: 1_000,
    probe: 15_000,
    healing: 25_000,
    audit: 10_000,
};
/// Milliseconds between two looks whether a real program has ended.
const LOOK_MS: u64 = 20;

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    Safety(Broken),
    Liveness(Broken),
    Panic(String),
}

/// What a run was.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) failure: Option<Failure>,
    /// Of everything that was seen, with its time.
    pub(crate) digest: Digest,
    pub(crate) seen: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) tally: Tally,
    /// Steps of the plan that had come when it ended.
    pub(crate) taken: usize,
    /// What was seen last: where a promise was broken, this broke it.
    pub(crate) last: Option<Observation>,
    /// Rare branches of the server that were reached, where this build counts them.
    pub(crate) marks: BTreeSet<&'static str>,
}

/// The actors, and the means to tell them what to do.
struct World {
    plan: Rc<Plan>,
    net: Rc<Net>,
    actors: LocalExecutor<'static>,
    devices: Vec<Sender<Command>>,
    publishers: Vec<Sender<Request>>,
    published: Cell<u64>,
    /// The last publish of each publisher that insisted.
    insisted: RefCell<Vec<Option<Request>>>,
    lives: Cell<u64>,
    /// Where a durable server runs.
    machine: Option<Rc<Machine>>,
    witness: Option<Witness>,
    steps: RefCell<Counts>,
    taken: Cell<usize>,
    meter: Rc<Meter>,
}

/// Runs a plan to its end, or to the first promise that is broken. `trace` is shown everything.
pub(crate) fn run(plan: &Plan, trace: &mut dyn FnMut(&Observation)) -> Report {
    watched(plan, trace, None)
}

/// The same, with somebody who looks into the server.
pub(crate) fn watched(
    plan: &Plan,
    trace: &mut dyn FnMut(&Observation),
    witness: Option<Witness>,
) -> Report {
    judged(plan, trace, witness, None)
}

/// The same with a real program, at the pace of the real clock.
pub(crate) fn outside(
    plan: &Plan,
    program: Rc<Program>,
    trace: &mut dyn FnMut(&Observation),
) -> Report {
    judged(plan, trace, None, Some(program))
}

fn judged(
    plan: &Plan,
    trace: &mut dyn FnMut(&Observation),
    witness: Option<Witness>,
    outside: Option<Rc<Program>>,
) -> Report {
    // What others on this thread have reached.
    drop(coverage::take());
    let meter = Rc::<Meter>::default();
    let world = meter.count(|| World::begin(plan, witness, outside, Rc::clone(&meter)));
    let keeps = match &world.machine {
        Some(_) => plan.world.keeps(),
        None => Keeps::Memory,
    };
    let mut judge = Judge {
        oracles: Oracles::new(plan.world.limits.clone(), keeps),
        memory: BoundedMemory::new(plan.world.limits.clone(), plan.world.devices.len()),
        digest: Digest::default(),
        seen: 0,
        last: None,
        presence: Presence::default(),
        trace,
    };
    panics::within(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.phases(&mut judge)));
    panics::within(false);
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            let words = panics::take().or(words);
            Some(Failure::Panic(words.unwrap_or_default()))
        }
    };
    Report {
        failure,
        digest: judge.digest,
        seen: judge.seen,
        simulated_ms: world.net.now().as_millis(),
        tally: Tally {
            steps: world.steps.borrow().clone(),
            faults: world.net.faults(),
            device_ms: plan.world.faults_ms * plan.world.devices.len() as u64,
            connected_ms: judge.presence.connected_ms,
        },
        taken: world.taken.get(),
        last: judge.last,
        marks: coverage::take(),
    }
}

fn broken_memory(what: String) -> Broken {
    Broken {
        oracle: BoundedMemory::NAME,
        what,
        at: "of all that is held".to_owned(),
    }
}

struct Judge<'t> {
    oracles: Oracles,
    memory: BoundedMemory,
    digest: Digest,
    seen: u64,
    last: Option<Observation>,
    presence: Presence,
    trace: &'t mut dyn FnMut(&Observation),
}

impl Judge<'_> {
    fn judge(&mut self, seen: Vec<Observation>) -> Result<(), Failure> {
        for it in seen {
            // What judges keep is no part of the world.
            let judged = Meter::leave_out(|| {
                (self.trace)(&it);
                self.presence.see(&it);
                self.digest.bytes(it.to_string().as_bytes());
                self.seen += 1;
                self.oracles.see(&it)
            });
            self.last = Some(it);
            judged.map_err(Failure::Safety)?;
        }
        Ok(())
    }
}

impl World {
    /// All is there, and the plan's steps wait for their time.
    fn begin(
        plan: &Plan,
        witness: Option<Witness>,
        outside: Option<Rc<Program>>,
        meter: Rc<Meter>,
    ) -> Rc<Self> {
        let world = Rc::new(Self::new(plan.clone(), witness, outside, meter));
        world.start_server();
        for timed in &plan.steps {
            let (this, step) = (Rc::downgrade(&world), timed.step.clone());
            let at = Time::from_millis(timed.at_ms);
            world.net.timeline.at(at, move || {
                if let Some(world) = this.upgrade() {
                    world.step(&step);
                }
            });
        }
        world
    }

    fn new(
        plan: Plan,
        witness: Option<Witness>,
        outside: Option<Rc<Program>>,
        meter: Rc<Meter>,
    ) -> Self {
        let net = Net::new(plan.world.network.clone(), plan.seed, outside);
        let actors = LocalExecutor::new();
        let devices = plan
            .world
            .devices
            .iter()
            .enumerate()
            .map(|(number, about)| {
                // Bounded by the steps of the plan, as the one below.
                let (sender, commands) = async_channel::unbounded();
                let is_direct = plan.world.direct;
                let run = device::run(Rc::clone(&net), number, about.clone(), is_direct, commands);
                actors.spawn(run).detach();
                sender
            });
        let devices = devices.collect();
        let publishers = (0..plan.world.publishers as usize).map(|number| {
            let (sender, requests) = async_channel::unbounded();
            actors
                .spawn(publisher::run(Rc::clone(&net), number, requests))
                .detach();
            sender
        });
        let publishers: Vec<_> = publishers.collect();
        let store = plan.world.store.as_ref();
        let store = store.filter(|_| net.outside.is_none());
        let machine = store.map(|keeping| Machine::new(&net.timeline, keeping, plan.seed));
        Self {
            machine: machine.map(Rc::new),
            insisted: RefCell::new(vec![None; publishers.len()]),
            plan: Rc::new(plan),
            net,
            actors,
            devices,
            publishers,
            published: Cell::new(0),
            lives: Cell::new(0),
            witness,
            steps: RefCell::default(),
            taken: Cell::new(0),
            meter,
        }
    }

    fn start_server(self: &Rc<Self>) {
        if let Some(program) = &self.net.outside {
            if program.start() {
                self.net.observe(Seen::Started);
            }
            return;
        }
        self.lives.set(self.lives.get() + 1);
        self.net.renew_machine();
        let mut random = fastrand::Rng::with_seed(self.plan.seed ^ self.lives.get() << 32);
        let mut seed = [0; 32];
        random.fill(&mut seed);
        let credentials = match machine::credentials() {
            Ok(credentials) => credentials,
            // They are the simulation's own.
            Err(error) => unreachable!("the server does not start: {error}"),
        };
        let start = Start {
            timeline: &self.net.timeline,
            wall: &self.net.wall,
            seed,
            bounds: &self.plan.world.limits,
            witness: self.witness.clone(),
            credentials,
        };
        let Some(machine) = &self.machine else {
            *self.net.server.borrow_mut() = Some(start.in_memory());
            return self.started(Ok(()));
        };
        let (world, life) = (Rc::downgrade(self), self.lives.get());
        let started = move |result| {
            let Some(world) = world.upgrade() else { return };
            let net = Rc::clone(&world.net);
            // Not within the server's own work.
            net.timeline.at(net.now(), move || {
                if world.lives.get() == life && world.net.server.borrow().is_some() {
                    world.started(result);
                }
            });
        };
        match start.durable(machine, started) {
            Ok(server) => *self.net.server.borrow_mut() = Some(server),
            Err(Unopened::Crashed) => {
                self.net.observe(Seen::PowerLost);
                self.restart();
            }
            Err(Unopened::Refused(error)) => self.started(Err(error.to_string())),
        }
    }

    /// The server serves, or it does not and is started again. One that goes on refusing gets an empty disk.
    fn started(self: &Rc<Self>, result: Result<(), String>) {
        let Err(why) = result else {
            self.net.observe(Seen::Started);
            let ahead_ms = self.net.wall.get().ahead_ms(self.net.now());
            return self.net.observe(Seen::Clock { ahead_ms });
        };
        let is_damaged = why.contains("damaged")
            || why.contains("is not a Fanfare store")
            || why.contains("has format");
        self.net.observe(Seen::Unstarted { why });
        let server = self.net.server.take();
        if let Some(machine) = &self.machine {
            machine.crash(Crash::Kept);
            if is_damaged {
                machine.renew();
                self.net.observe(Seen::DiskRenewed);
            }
        }
        drop(server);
        self.restart();
    }

    fn phases(self: &Rc<Self>, judge: &mut Judge<'_>) -> Result<(), Failure> {
        let pace = self.net.outside.as_ref().map_or(PACE, |_| PACE_OUTSIDE);
        let faults = Time::from_millis(self.plan.world.faults_ms);
        self.run_until(faults, judge)?;
        self.meter.count(|| self.heal());
        self.run_until(faults.plus(pace.roll), judge)?;
        if self.plan.world.rolls {
            self.meter.count(|| self.drain());
        }
        self.run_until(faults.plus(pace.probe), judge)?;
        self.meter.count(|| self.probe());
        let healed = faults.plus(pace.healing);
        self.run_until(healed, judge)?;
        let audit = self.meter.count(|| self.audit());
        let audited = healed.plus(pace.audit);
        self.run_until(audited, judge)?;
        if !audit.is_finished() {
            return Err(Failure::Liveness(Broken {
                oracle: "answered",
                what: "what is kept could not be read".to_owned(),
                at: "at the end".to_owned(),
            }));
        }
        judge.oracles.end().map_err(Failure::Liveness)?;
        if self.net.outside.is_some() {
            return Ok(());
        }
        self.empty(audited, judge)
    }

    /// All leave, come and leave, again and again, and nothing is left of them.
    fn empty(self: &Rc<Self>, from: Time, judge: &mut Judge<'_>) -> Result<(), Failure> {
        let tell_all = |command: &Command| {
            let devices = 0..self.devices.len();
            self.meter
                .count(|| devices.for_each(|device| self.tell(device, command.clone())));
        };
        let mut until = from;
        for round in 0..EMPTIED {
            if round > 0 {
                tell_all(&Command::Connect(crate::plan::Since::Positions));
                until = until.plus(EMPTY_MS);
                self.run_until(until, judge)?;
            }
            tell_all(&Command::Leave { in_order: true });
            until = until.plus(EMPTY_MS);
            self.run_until(until, judge)?;
            let quiet = judge.memory.quiet(&self.sample());
            quiet.map_err(|what| Failure::Liveness(broken_memory(what)))?;
        }
        let ended = judge.memory.end();
        ended.map_err(|what| Failure::Liveness(broken_memory(what)))
    }

    fn sample(&self) -> Sample {
        let machine = self.machine.as_ref();
        let (disk, store) = machine.map_or((0, 0), |machine| machine.memory());
        let server = self.net.server.borrow();
        let held = server.as_ref().map_or_else(Held::default, Server::held);
        let (devices, others) = self.net.lines_held();
        Sample {
            store,
            held,
            others: others + devices.saturating_sub(held.connections),
            waiting: self.publishers.iter().map(Sender::len).sum(),
            lines: self.net.line_bytes(),
            bytes: self.meter.bytes() - i64::try_from(disk).unwrap_or(0),
        }
    }

    fn audit(&self) -> smol::Task<()> {
        let task_paths = (0..self.plan.world.tasks)
            .map(|number| format!("/v1/tasks/{}/events?limit=1000", task(number)));
        let users: BTreeSet<u64> = self.plan.world.devices.iter().map(|it| it.user).collect();
        let user_paths = users.iter().flat_map(|user| {
            [
                format!("/v1/users/{user}/events?limit=1000"),
                format!("/v1/users/{user}/inbox"),
            ]
        });
        let audit = publisher::audit(Rc::clone(&self.net), task_paths.chain(user_paths).collect());
        self.actors.spawn(audit)
    }

    /// Lets everything happen up to this time.
    fn run_until(&self, until: Time, judge: &mut Judge<'_>) -> Result<(), Failure> {
        if let Some(program) = &self.net.outside {
            return self.run_in_time(program, until, judge);
        }
        let mut work = 0;
        // Who is weighed all the time grows slow.
        let every = 16 * (1 + self.devices.len() / 64);
        for number in 0_usize.. {
            let goes_on = self.meter.count(|| self.go_on(until, judge, &mut work))?;
            if number % every == 0 {
                let weighed = judge.memory.weigh(&self.sample());
                weighed.map_err(|what| Failure::Safety(broken_memory(what)))?;
            }
            if !goes_on {
                break;
            }
        }
        self.net.timeline.advance_to(until);
        Ok(())
    }

    /// Lets everything happen that can happen now, and moves on to what is next. Whether there is something.
    fn go_on(&self, until: Time, judge: &mut Judge<'_>, work: &mut u64) -> Result<bool, Failure> {
        while self.tick() {
            *work += 1;
            assert!(*work < WORK_MAX, "a moment that never ends");
        }
        judge.judge(self.net.take_seen())?;
        let panics = self.net.server.borrow().as_ref().map_or(0, Server::panics);
        if panics > 0 {
            let words = panics::take();
            let words = words.unwrap_or_else(|| "a task of the server".to_owned());
            return Err(Failure::Panic(words));
        }
        match self.net.timeline.next() {
            Some(next) if next <= until => {
                if next > self.net.now() {
                    *work = 0;
                }
                self.net.timeline.step();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Lets everything happen up to this time, when it is that time.
    fn run_in_time(
        &self,
        program: &Program,
        until: Time,
        judge: &mut Judge<'_>,
    ) -> Result<(), Failure> {
        let timeline = &self.net.timeline;
        loop {
            while self.actors.try_tick() | program.tick() {}
            judge.judge(self.net.take_seen())?;
            if let Some(words) = program.failure() {
                return Err(Failure::Panic(words));
            }
            let (now, next) = (program.now(), timeline.next());
            if next.is_some_and(|next| next <= now.min(until)) {
                timeline.step();
                continue;
            }
            timeline.advance_to(now.min(until));
            if now >= until {
                return Ok(());
            }
            program.wait(&self.actors, next.map_or(until, |next| next.min(until)));
        }
    }

    /// A piece of work of the actors, and one of the server.
    fn tick(&self) -> bool {
        let actors = self.actors.try_tick();
        let is_paused = self.net.now() < self.net.paused_until.get();
        let server = self.net.server.borrow();
        let server = server.as_ref().filter(|_| !is_paused);
        actors | server.is_some_and(Server::tick)
    }

    /// All faults end, and everybody comes.
    fn heal(self: &Rc<Self>) {
        let devices = self.plan.world.devices.iter().enumerate();
        let given_up = devices.filter(|(_, device)| device.given_up);
        let given_up: Vec<usize> = given_up.map(|(number, _)| number).collect();
        self.net.observe(Seen::Healed {
            given_up: given_up.clone(),
        });
        self.net.weather(Network::CALM);
        self.net.heal_machine();
        self.repair();
        for device in 0..self.devices.len() {
            self.tell(device, Command::Token(Token::default()));
            if given_up.contains(&device) {
                self.tell(device, Command::StopReading);
            } else {
                self.net.heal_line(device);
                self.tell(device, Command::ResumeReading);
            }
            self.tell(device, Command::Connect(crate::plan::Since::Positions));
            if self.net.outside.is_some() {
                // There is no time in which to find out that a line is dead.
                self.tell(device, Command::Return);
            }
        }
    }

    /// A back end publishes to every task and user.
    fn probe(&self) {
        let tasks = (0..self.plan.world.tasks).map(|task| Target::Task {
            task,
            users: Vec::new(),
        });
        let users: BTreeSet<u64> = self.plan.world.devices.iter().map(|it| it.user).collect();
        let users = users.into_iter().take(PROBED_MAX);
        let all = tasks.chain(users.map(|user| Target::User { user }));
        let publishers = (0..self.publishers.len()).cycle();
        for (to, publisher) in all.zip(publishers) {
            let request = self.request(publisher, &to, &Kind::Note {}, 0, true);
            self.send(publisher, request);
        }
    }

    fn tell(&self, device: usize, command: Command) {
        if let Some(sender) = self.devices.get(device) {
            // An unbounded channel takes it, and a device ends with the world.
            let _ = sender.try_send(command);
        }
    }

    fn step(self: &Rc<Self>, step: &Step) {
        self.taken.set(self.taken.get() + 1);
        self.steps.borrow_mut().add(&tally::name(step), 1);
        if let Some(name) = fault::name(step) {
            self.net.fault(name, step.names().0);
        }
        match step {
            Step::Connect { device, with } => self.tell(*device, Command::Connect(*with)),
            Step::Leave { device, in_order } => {
                let in_order = *in_order;
                self.tell(*device, Command::Leave { in_order });
            }
            Step::Join { device, task, with } => self.tell(*device, Command::Join(*task, *with)),
            Step::Part { device, task } => self.tell(*device, Command::Part(*task)),
            Step::Ack { device, behind } => self.tell(*device, Command::Ack(*behind)),
            Step::Read { device, behind } => self.tell(*device, Command::Read(*behind)),
            Step::Send {
                device,
                task,
                ephemeral,
            } => {
                let (task, ephemeral) = (*task, *ephemeral);
                self.tell(*device, Command::Send { task, ephemeral });
            }
            Step::Babble { device, text } => self.tell(*device, Command::Babble(text.clone())),
            Step::Garble { device, how } => self.tell(*device, Command::Garble(*how)),
            Step::Chatter { device, count } => self.tell(*device, Command::Chatter(*count)),
            Step::StopReading { device } => self.tell(*device, Command::StopReading),
            Step::ResumeReading { device } => self.tell(*device, Command::ResumeReading),
            Step::ReadSlowly { device, every_ms } => {
                let every_ms = *every_ms;
                self.tell(*device, Command::ReadSlowly { every_ms });
            }
            Step::Background { device, for_ms } => {
                // Faults end with their time.
                let end = Time::from_millis(self.plan.world.faults_ms);
                let until = self.net.now().plus(*for_ms).min(end);
                self.tell(*device, Command::Background { until });
            }
            Step::HalfClose { device } => self.tell(*device, Command::HalfClose),
            Step::Token { device, token } => self.tell(*device, Command::Token(token.clone())),
            Step::Storm {} => {
                for device in 0..self.devices.len() {
                    self.tell(device, Command::Return);
                }
            }
            Step::Unclog { device } => self.net.unclog(*device),
            Step::Pause { for_ms } => self.net.pause(*for_ms),
            Step::NoDescriptors { for_ms } => self.net.accept_nobody(*for_ms),
            Step::Clock { ahead_ms, drift_ms } => self.net.set_clock(*ahead_ms, *drift_ms),
            Step::Publish {
                publisher,
                to,
                kind,
                bytes,
                insists,
                dies,
                notify,
            } => {
                let mut request = self.request(*publisher, to, kind, *bytes, *insists);
                request.dies = *dies;
                if let Some(notify) = notify {
                    request.body["notify"] = json!(notify);
                }
                if *insists && let Some(last) = self.insisted.borrow_mut().get_mut(*publisher) {
                    *last = Some(request.clone());
                }
                self.send(*publisher, request);
            }
            Step::Repeat { publisher, lies } => {
                let last = self.insisted.borrow().get(*publisher).cloned().flatten();
                let Some(mut request) = last else { return };
                request.number = self.number();
                if *lies {
                    request.body["data"]["mark"] = json!(request.number);
                }
                self.send(*publisher, request);
            }
            Step::Disconnect { user } => {
                let number = self.number();
                self.net.observe(Seen::Disconnecting { user: *user });
                let request = Request {
                    number,
                    path: format!("/v1/users/{user}/disconnect"),
                    body: Value::Null,
                    insists: false,
                    dies: false,
                };
                self.send(0, request);
            }
            Step::Break { device, how } => self.net.break_line(*device, *how),
            Step::Weather { network } => self.net.weather(network.clone()),
            Step::Crash {} => self.crash(None),
            Step::PowerCut { loses } => self.crash(Some(*loses)),
            Step::BadDisk { how } => self.bad_disk(*how),
            Step::Drain {} => self.drain(),
        }
    }

    fn send(&self, publisher: usize, request: Request) {
        if let Some(sender) = self.publishers.get(publisher) {
            let _ = sender.try_send(request);
        }
    }

    fn number(&self) -> u64 {
        self.published.set(self.published.get() + 1);
        self.published.get()
    }

    fn request(
        &self,
        publisher: usize,
        to: &Target,
        kind: &Kind,
        bytes: usize,
        insists: bool,
    ) -> Request {
        let number = self.number();
        let (path, rooms) = match to {
            Target::Task { task: of, users } => {
                let rooms = users.iter().map(|user| format!("user:{user}"));
                let rooms: Vec<String> = std::iter::once(format!("task:{}", task(*of)))
                    .chain(rooms)
                    .collect();
                (format!("/v1/tasks/{}/events", task(*of)), rooms)
            }
            Target::User { user } => (
                format!("/v1/users/{user}/events"),
                vec![format!("user:{user}")],
            ),
        };
        let mut body = json!({"data": {"mark": number, "to": rooms, "text": "x".repeat(bytes)}});
        if let Target::Task { users, .. } = to {
            body["users"] = json!(users);
        }
        if insists {
            body["id"] = json!(format!("p{publisher}-{number}"));
        }
        match kind {
            Kind::Note {} => body["type"] = json!("note:added"),
            Kind::Ephemeral { key } => {
                body["type"] = json!("note:typing");
                body["ephemeral"] = json!(true);
                if let Some(key) = key {
                    body["key"] = json!(format!("key{key}"));
                }
            }
            Kind::Life { event } => body["type"] = json!(format!("task:{event}")),
        }
        Request {
            number,
            path,
            body,
            insists,
            dies: false,
        }
    }

    /// Of the process, or of the machine with this loss.
    fn crash(self: &Rc<Self>, loses: Option<Loss>) {
        if let Some(program) = &self.net.outside {
            if program.kill() {
                self.net.observe(Seen::Crashed);
                self.restart();
            }
            return;
        }
        let Some(server) = self.net.server.take() else {
            return;
        };
        self.net.observe(Seen::Crashed);
        if loses.is_some() {
            self.net.observe(Seen::PowerLost);
        }
        match (&self.machine, loses) {
            (Some(machine), None) => machine.crash(Crash::Kept),
            (Some(machine), Some(loses)) => machine.lose_power(loses.into()),
            (None, _) => {}
        }
        drop(server);
        self.restart();
    }

    fn bad_disk(self: &Rc<Self>, how: DiskFault) {
        let Some(machine) = &self.machine else { return };
        if matches!(how, DiskFault::BitFlip { .. }) {
            self.crash(None);
        }
        let ends = match (machine.fail(how), how) {
            (Some(for_ms), _) => for_ms,
            // Somebody looks after a server that takes nothing more.
            (None, DiskFault::FsyncFails { .. } | DiskFault::WriteFails { .. }) => REPAIR_MS,
            (None, _) => return,
        };
        let world = Rc::downgrade(self);
        self.net.timeline.at(self.net.now().plus(ends), move || {
            if let Some(world) = world.upgrade() {
                world.repair();
            }
        });
    }

    /// The disk is as it should be, and a server whose store failed is started again.
    fn repair(self: &Rc<Self>) {
        let Some(machine) = &self.machine else { return };
        machine.over();
        if machine.has_failed() {
            self.crash(None);
        }
    }

    fn restart(self: &Rc<Self>) {
        let world = Rc::downgrade(self);
        self.net
            .timeline
            .at(self.net.now().plus(RESTART_MS), move || {
                if let Some(world) = world.upgrade()
                    && world.net.server.borrow().is_none()
                {
                    world.start_server();
                }
            });
    }

    fn drain(self: &Rc<Self>) {
        if let Some(program) = self.net.outside.clone() {
            return self.drain_outside(program);
        }
        let server = self.net.server.borrow();
        let Some(server) = server.as_ref().filter(|it| it.accepts()) else {
            return;
        };
        self.net.observe(Seen::Drains);
        let (world, life) = (Rc::downgrade(self), self.lives.get());
        server.drain(move |in_time| {
            let Some(world) = world.upgrade() else { return };
            let net = Rc::clone(&world.net);
            // Not within the server's own work.
            net.timeline.at(net.now(), move || {
                if world.lives.get() == life
                    && let Some(server) = world.net.server.take()
                {
                    if let Some(machine) = &world.machine {
                        machine.ended();
                    }
                    drop(server);
                    world.net.observe(Seen::Drained { in_time });
                    world.restart();
                }
            });
        });
    }

    fn drain_outside(self: &Rc<Self>, program: Rc<Program>) {
        if !program.terminate() {
            return;
        }
        self.net.observe(Seen::Drains);
        let (world, net) = (Rc::downgrade(self), Rc::clone(&self.net));
        let ends = async move {
            let in_time = loop {
                match program.ended() {
                    Some(in_time) => break in_time,
                    None => net.sleep_ms(LOOK_MS).await,
                }
            };
            net.observe(Seen::Drained { in_time });
            if let Some(world) = world.upgrade() {
                world.restart();
            }
        };
        self.actors.spawn(ends).detach();
    }
}
