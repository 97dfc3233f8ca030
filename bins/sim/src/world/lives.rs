//! The lives of the server: how it starts, and each way in which it ends.

use std::rc::Rc;

use fanfare_loopback::Crash;

use super::World;
use crate::disk::{DiskFault, Loss};
use crate::history::Seen;
use crate::machine::{self, Start};
use crate::outside::Program;
use crate::storage::Unopened;

/// Milliseconds after which a server is started again whose store takes nothing more.
const REPAIR_MS: u64 = 20_000;
/// Milliseconds from the end of a server to the start of the next.
const RESTART_MS: u64 = 500;
/// Milliseconds between two looks whether a real program has ended.
const LOOK_MS: u64 = 20;

impl World {
    pub(super) fn start_server(self: &Rc<Self>) {
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
            outlets: self.plan.world.outlets,
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

    /// Of the process, or of the machine with this loss.
    pub(super) fn crash(self: &Rc<Self>, loses: Option<Loss>) {
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

    pub(super) fn bad_disk(self: &Rc<Self>, how: DiskFault) {
        let Some(machine) = &self.machine else { return };
        if matches!(how, DiskFault::BitFlip { .. }) {
            self.crash(None);
        }
        let ends = match (machine.fail(how), how) {
            (Some(for_ms), _) => for_ms,
            // Somebody looks after a server that takes nothing more.
            (
                None,
                DiskFault::FsyncFails { .. }
                | DiskFault::WriteFails { .. }
                | DiskFault::ReadFails { .. },
            ) => REPAIR_MS,
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
    pub(super) fn repair(self: &Rc<Self>) {
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

    pub(super) fn drain(self: &Rc<Self>) {
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
