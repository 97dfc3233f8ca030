//! What a few worlds have beside all else. Each is drawn with a generator of its own, so that all else of a world is the same with
//! and without.

use fastrand::Rng;

use crate::generate::{device, publish};
use crate::plan::{Bounds, Kind, Setting, Since, Step, Target, Timed};

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

/// The last seconds with faults, in a third of the worlds: some go away while much comes in their rooms, and come back to a server
/// that has nothing in memory. Of one room they missed more than is kept, and another one is read for them; in half of these
/// worlds as much comes meanwhile.
fn rush(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    let mut random = Rng::with_seed(seed ^ 0x9054);
    if random.u8(..3) > 0 || world.tasks == 0 || world.devices.is_empty() {
        return;
    }
    let goes_on = random.bool();
    let from = world.faults_ms.saturating_sub(30_000);
    let mut all = Vec::new();
    let mut then = |after_ms: u64, step: Step| {
        let at_ms = (from + after_ms).min(world.faults_ms);
        all.push(Timed { at_ms, step });
    };
    let tasks: Vec<u32> = (0..random.u8(1..4))
        .map(|_| random.u32(..world.tasks))
        .collect();
    let mut users = Vec::new();
    for _ in 0..random.u8(1..6) {
        let device = device(&mut random, world);
        users.extend(world.devices.get(device).map(|it| it.user));
        let with = Since::Positions;
        let in_order = random.bool();
        for &task in &tasks {
            then(random.u64(..3_000), Step::Join { device, task, with });
            then(
                random.u64(18_000..21_000),
                Step::Join { device, task, with },
            );
        }
        then(random.u64(6_000..8_000), Step::Leave { device, in_order });
        then(random.u64(15_000..18_000), Step::Connect { device, with });
        if goes_on && random.bool() {
            then(random.u64(18_000..22_000), Step::StopReading { device });
        }
    }
    let until = if goes_on { 28_000 } else { 14_000 };
    for _ in 0..random.u8(10..80) {
        let mut step = publish(&mut random, world);
        if let Step::Publish { to, kind, .. } = &mut step {
            let task = random.choice(&tasks).copied().unwrap_or_default();
            let users = random.choice(&users).filter(|_| random.bool());
            let users = users.into_iter().copied().collect();
            *to = Target::Task { task, users };
            *kind = Kind::Note {};
        }
        then(random.u64(8_000..until), step);
    }
    then(14_000, Step::Crash {});
    steps.extend(all);
    steps.sort_by_key(|timed| timed.at_ms);
}
