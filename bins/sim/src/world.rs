//! Runs a plan: everything in one thread, on one timeline, judged at every step.

mod lives;
mod phases;
mod steps;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use async_channel::Sender;
use fanfare_core::{Held, Time};
use smol::LocalExecutor;

use crate::coverage;
use crate::device::{self, Command};
use crate::history::Observation;
use crate::listener;
use crate::machine::{Server, Witness};
use crate::meter::Meter;
use crate::net::Net;
use crate::oracle::{BoundedMemory, Broken, Oracles, Sample};
use crate::outside::Program;
use crate::panics;
use crate::plan::Plan;
use crate::presence::Presence;
use crate::publisher::{self, Request};
use crate::storage::Machine;
use crate::tally::{Counts, Tally};

/// Pieces of work in one millisecond; more means that something goes round in circles.
const WORK_MAX: u64 = 5_000_000;

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
    /// Of the back ends that listen to the bus. Who is dropped is gone.
    listeners: RefCell<Vec<smol::Task<()>>>,
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
    // What a witness keeps is no part of the world.
    let witness = witness.map(|witness| -> Witness {
        Rc::new(move |at, passes| Meter::leave_out(|| witness(at, passes)))
    });
    let world = meter.count(|| World::begin(plan, witness, outside, Rc::clone(&meter)));
    let keeps = plan.world.keeps();
    let mut judge = Judge {
        oracles: Oracles::new(plan.world.limits.clone(), keeps),
        memory: BoundedMemory::new(
            plan.world.limits.clone(),
            plan.world.devices.len(),
            plan.world.outlets,
        ),
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
        let listeners = plan.world.listeners.iter().enumerate();
        let listeners = listeners.map(|(number, about)| {
            let faults_ms = plan.world.faults_ms;
            actors.spawn(listener::run(Rc::clone(&net), number, *about, faults_ms))
        });
        let listeners: Vec<_> = listeners.collect();
        let store = plan.world.store.as_ref();
        let store = store.filter(|_| net.outside.is_none());
        let machine = store.map(|keeping| Machine::new(&net.timeline, keeping, plan.seed));
        Self {
            machine: machine.map(Rc::new),
            listeners: RefCell::new(listeners),
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
}
