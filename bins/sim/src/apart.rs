//! What a few worlds have beside all else. Each is drawn with a generator of its own, so that all else of a world is the same with
//! and without.

use fastrand::Rng;

use crate::generate::{device, publish};
use crate::plan::{Bounds, Device, Endpoint, Kind, Setting, Since, Step, Target, Timed};

/// The limits of its server that are drawn so.
pub(crate) fn limits(seed: u64, world: &mut Setting) {
    world.limits.rooms_per_connection = rooms(seed);
    // A store has what leaves the memory.
    if world.store.is_none() {
        world.limits.inbox_bytes = inbox_bytes(seed);
    }
}

/// The steps that are drawn so.
pub(crate) fn steps(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    strangers(seed, world, steps);
    talkers(seed, world, steps);
    rush(seed, world, steps);
}

/// Tokens of other users, in a few worlds.
fn strangers(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    let mut random = Rng::with_seed(seed ^ 0x57a6);
    let most = [0, 0, 0, 4][random.usize(..4)];
    for _ in 0..random.usize(..=most) {
        let at_ms = random.u64(..world.faults_ms.max(1));
        let device = device(&mut random, world);
        let step = Step::OtherToken { device };
        steps.push(Timed { at_ms, step });
    }
    steps.sort_by_key(|timed| timed.at_ms);
}

/// Rooms that a connection may be in: few in a few worlds.
fn rooms(seed: u64) -> usize {
    let mut random = Rng::with_seed(seed ^ 0x7007);
    let all = Bounds::default().rooms_per_connection;
    [all, all, all, all, all, all, 3, 6][random.usize(..8)]
}

/// Bytes of all inboxes: few in a few worlds.
fn inbox_bytes(seed: u64) -> usize {
    let mut random = Rng::with_seed(seed ^ 0x1b0c);
    let all = Bounds::default().inbox_bytes;
    [all, all, all, all, all, all, 2_000, 6_000][random.usize(..8)]
}

/// Who says as much as it may, for a time, and reads nothing of what it is answered.
fn talkers(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    let mut random = Rng::with_seed(seed ^ 0x7a1c);
    if random.u8(..8) > 0 {
        return;
    }
    let device = device(&mut random, world);
    let mut at_ms = random.u64(..world.faults_ms.max(1));
    let step = Step::StopReading { device };
    steps.push(Timed { at_ms, step });
    for _ in 0..random.u8(4..16) {
        let count = 90;
        let step = Step::Chatter { device, count };
        steps.push(Timed { at_ms, step });
        at_ms += 2_000;
    }
    let step = Step::ResumeReading { device };
    steps.push(Timed { at_ms, step });
    steps.retain(|timed| timed.at_ms <= world.faults_ms);
    steps.sort_by_key(|timed| timed.at_ms);
}

/// The last seconds with faults, in some worlds: all come back to a server that has nothing in memory, and of those who watch a
/// task some stop reading while so much comes in it, and in one of their own rooms, that it is trimmed before they read it.
fn rush(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    let mut random = Rng::with_seed(seed ^ 0x9054);
    let watching = |(number, device): (usize, &Device)| match device.endpoint {
        Endpoint::Chat { task } => Some((number, device.user, task)),
        Endpoint::Notifications {} => None,
    };
    let devices = world.devices.iter().enumerate();
    let watchers: Vec<_> = devices.filter_map(watching).collect();
    let Some(&(_, user, task)) = random.choice(&watchers).filter(|_| seed.is_multiple_of(3)) else {
        return;
    };
    let from = world.faults_ms.saturating_sub(random.u64(12_000..20_000));
    let mut then = |after_ms: u64, step: Step| {
        let at_ms = (from + after_ms).min(world.faults_ms);
        steps.push(Timed { at_ms, step });
    };
    then(0, Step::Crash {});
    for &(device, ..) in watchers
        .iter()
        .filter(|(_, of, at)| *of == user || *at == task)
    {
        let with = Since::Positions;
        then(random.u64(500..2_000), Step::Connect { device, with });
        if random.bool() {
            then(random.u64(1_000..5_000), Step::StopReading { device });
        }
    }
    let places = [vec![user], vec![]].map(|users| Target::Task { task, users });
    for _ in 0..random.u64(20..120) {
        let mut step = publish(&mut random, world);
        if let Step::Publish { to, kind, .. } = &mut step {
            to.clone_from(&places[random.usize(..places.len())]);
            *kind = Kind::Note {};
        }
        then(random.u64(3_000..12_000), step);
    }
    steps.sort_by_key(|timed| timed.at_ms);
}
