//! What a few worlds have beside all else. Each is drawn with a generator of its own, so that all else of a world is the same with
//! and without.

use fastrand::Rng;

use crate::generate::{device, publish};
use crate::plan::{Bounds, Kind, Setting, Since, Step, Target, Timed};

/// When in a rush the server crashes.
const CRASH_MS: u64 = 14_000;

/// The limits of its server that are drawn so.
pub(crate) fn limits(seed: u64, world: &mut Setting) {
    world.limits.rooms_per_connection = rooms(seed);
    if of_rush(seed).is_some_and(|(goes_on, _)| goes_on) {
        world.limits.task_log_events = 8;
        world.network.window_bytes = 300;
    }
    // A store has what leaves the memory.
    if world.store.is_none() {
        world.limits.inbox_bytes = inbox_bytes(seed);
        if of_crush(seed).is_some() {
            world.limits.log_bytes = 12_000;
            world.limits.outbox_bytes = 4_000;
            world.network.window_bytes = 300;
        }
    }
}

/// The steps that are drawn so.
pub(crate) fn steps(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    strangers(seed, world, steps);
    talkers(seed, world, steps);
    rush(seed, world, steps);
    crush(seed, world, steps);
    steps.sort_by_key(|timed| timed.at_ms);
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
}

/// What is drawn for a crush, in the worlds that have one.
fn of_crush(seed: u64) -> Option<Rng> {
    let mut random = Rng::with_seed(seed ^ 0xc205);
    (random.u8(..8) == 0).then_some(random)
}

/// In an eighth of the worlds without a store: one device is in all rooms and reads nothing for a while, and more comes than all rooms
/// together may keep. What it falls behind by puts another of its rooms out of memory.
fn crush(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    let Some(mut random) = of_crush(seed) else {
        return;
    };
    if world.tasks == 0 || world.devices.is_empty() || world.store.is_some() {
        return;
    }
    let from = random.u64(..world.faults_ms.max(1));
    let mut then = from_then(from, world, steps);
    let device = device(&mut random, world);
    let with = Since::Positions;
    then(0, Step::Connect { device, with });
    for round in 0..random.u64(1..8) {
        let begin = round * 20_000;
        for task in 0..world.tasks {
            let join = Step::Join { device, task, with };
            then(begin + random.u64(1_000..3_000), join);
        }
        then(begin + 6_000, Step::StopReading { device });
        then(begin + 12_000, Step::ResumeReading { device });
        for _ in 0..random.u8(10..40) {
            let mut step = publish(&mut random, world);
            if let Step::Publish {
                to, kind, bytes, ..
            } = &mut step
            {
                let task = random.u32(..world.tasks);
                let users = Vec::new();
                *to = Target::Task { task, users };
                *kind = Kind::Note {};
                *bytes = random.usize(400..900);
            }
            then(begin + random.u64(5_000..19_000), step);
        }
    }
}

/// Adds steps so long after `from`, and none after the end of the faults.
fn from_then(from: u64, world: &Setting, steps: &mut Vec<Timed>) -> impl FnMut(u64, Step) {
    move |after_ms, step| {
        let at_ms = (from + after_ms).min(world.faults_ms);
        steps.push(Timed { at_ms, step });
    }
}

/// What is drawn for a rush, in the worlds that have one, and whether it goes on after the crash.
fn of_rush(seed: u64) -> Option<(bool, Rng)> {
    let mut random = Rng::with_seed(seed ^ 0x9054);
    (random.u8(..3) == 0).then(|| (random.bool(), random))
}

/// The last seconds with faults, in a third of the worlds: some go away while much comes in their rooms, and come back to a server
/// that has nothing in memory. In half of these worlds as much comes meanwhile, and they read nothing of it: one room's next page is
/// to be read when another's is trimmed.
fn rush(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    let Some((goes_on, mut random)) = of_rush(seed) else {
        return;
    };
    if world.tasks == 0 || world.devices.is_empty() {
        return;
    }
    let from = world.faults_ms.saturating_sub(30_000);
    let mut then = from_then(from, world, steps);
    let tasks: Vec<u32> = (0..random.u8(1..4))
        .map(|_| random.u32(..world.tasks))
        .collect();
    let mut users = Vec::new();
    for _ in 0..random.u8(1..if goes_on { 3 } else { 6 }) {
        let device = device(&mut random, world);
        users.extend(world.devices.get(device).map(|it| it.user));
        let with = Since::Positions;
        let in_order = random.bool();
        for &task in &tasks {
            then(random.u64(..3_000), Step::Join { device, task, with });
            then(
                random.u64(19_000..21_000),
                Step::Join { device, task, with },
            );
        }
        then(random.u64(6_000..8_000), Step::Leave { device, in_order });
        then(random.u64(15_000..18_000), Step::Connect { device, with });
        if goes_on {
            // Where lines hold little, nothing more is taken out of its outbox.
            then(random.u64(14_000..18_000), Step::StopReading { device });
            then(19_000, Step::Chatter { device, count: 20 });
        }
    }
    let until = if goes_on { 28_000 } else { CRASH_MS };
    for _ in 0..random.u8(10..80) {
        let at_ms = random.u64(8_000..until);
        // One is as it was before the crash, and the others go on.
        let tasks = match tasks.split_first() {
            Some((_, rest)) if at_ms > CRASH_MS && !rest.is_empty() => rest,
            _ => &tasks,
        };
        let mut step = publish(&mut random, world);
        if let Step::Publish { to, kind, .. } = &mut step {
            let task = random.choice(tasks).copied().unwrap_or_default();
            let users = random.choice(&users).filter(|_| random.bool());
            let users = users.into_iter().copied().collect();
            *to = Target::Task { task, users };
            *kind = Kind::Note {};
        }
        then(at_ms, step);
    }
    then(CRASH_MS, Step::Crash {});
}
