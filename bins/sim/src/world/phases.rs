//! The phases of a run: faults, healing, reading all that is kept, and leaving until nothing is left.

use std::collections::BTreeSet;
use std::rc::Rc;

use fanfare_core::Time;
use fanfare_loopback::task;

use super::{Failure, Judge, World, broken_memory};
use crate::device::Command;
use crate::history::Seen;
use crate::oracle::Broken;
use crate::plan::{Kind, Network, Since, Target, Token};
use crate::publisher;

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
/// Milliseconds in which a server forgets who has left, and in which all can come.
const EMPTY_MS: u64 = 30_000;

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

impl World {
    pub(super) fn phases(self: &Rc<Self>, judge: &mut Judge<'_>) -> Result<(), Failure> {
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
            self.tell(device, Command::Connect(Since::Positions));
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

    /// All leave, come and leave, again and again, and nothing is left of them.
    fn empty(self: &Rc<Self>, from: Time, judge: &mut Judge<'_>) -> Result<(), Failure> {
        self.meter.count(|| drop(self.listeners.take()));
        let tell_all = |command: &Command| {
            let devices = 0..self.devices.len();
            self.meter
                .count(|| devices.for_each(|device| self.tell(device, command.clone())));
        };
        let mut until = from;
        for round in 0..EMPTIED {
            if round > 0 {
                tell_all(&Command::Connect(Since::Positions));
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
}
