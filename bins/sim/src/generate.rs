//! Draws a plan from a seed. Each kind of step and fault is off in a run, or has a weight of its own: a fixed mix never comes
//! into the corners.

use fastrand::Rng;

use crate::apart;
use crate::bunch::bunch;
use crate::disk;
use crate::garble::Garble;
use crate::listener;
use crate::outlets;
use crate::plan::{
    Bounds, Device, Endpoint, FORMAT, Fault, Kind, Network, Plan, Setting, Since, Step, Target,
    Timed, Token,
};
use crate::shipped;

/// Milliseconds of the first phase.
const FAULTS_MS: u64 = 10 * 60_000;

/// Devices of a world without a crowd.
const DEVICES_MAX: usize = 60;

/// The plan of this seed.
pub(crate) fn generate(seed: u64) -> Plan {
    let mut random = Rng::with_seed(seed);
    let crowd = crowd(seed);
    let mut world = setting(&mut random);
    if let Some(count) = crowd {
        world.devices = (0..count)
            .map(|number| member(&mut random, number))
            .collect();
    }
    let weights = Weights::draw(&mut random);
    let mut steps = Vec::new();
    for device in 0..world.devices.len() {
        let at_ms = random.u64(..5_000);
        let with = Since::Nothing;
        steps.push(Timed {
            at_ms,
            step: Step::Connect { device, with },
        });
    }
    let pace = [50, 400, 2_000, 8_000];
    let pace = pace.get(random.usize(..pace.len())).copied().unwrap_or(400);
    let mut at_ms = 0;
    // Each of a crowd sees each event of it.
    let most = steps.len() + if crowd.is_some() { 40 } else { 1_000 };
    while steps.len() < most {
        // Things come in bunches.
        at_ms += if random.u8(..4) == 0 {
            random.u64(..pace * 4)
        } else {
            random.u64(..20)
        };
        if at_ms > FAULTS_MS {
            break;
        }
        let step = weights.step(&mut random, &world);
        steps.extend(bunch(&mut random, &world, at_ms, step));
    }
    steps.retain(|timed| timed.at_ms <= FAULTS_MS);
    steps.sort_by_key(|timed| timed.at_ms);
    if crowd.is_none() {
        world.store = disk::keeping(seed);
        disk::faults(seed, &world, &mut steps);
        apart::limits(seed, &mut world);
    }
    shipped::choose(seed, &mut world);
    outlets::choose(seed, &mut world);
    if crowd.is_none() {
        listener::choose(seed, &mut world, &mut steps);
        apart::steps(seed, &world, &mut steps);
    }
    Plan {
        format: FORMAT,
        seed,
        world,
        steps,
    }
}

/// How many are in one room, in the few worlds that are about that.
fn crowd(seed: u64) -> Option<usize> {
    let sizes = [100, 1_000, 300, 10_000, 3_000, 100, 2_000, 500, 1_000, 300];
    let number = usize::try_from(seed / 100).ok()? % sizes.len();
    sizes.get(number).copied().filter(|_| seed % 100 == 50)
}

fn member(random: &mut Rng, number: usize) -> Device {
    Device {
        user: number as u64 / 8 + 1,
        name: (random.u8(..8) == 0).then(|| format!("device{}", number % 8)),
        endpoint: Endpoint::Chat { task: 0 },
        given_up: random.u8(..50) == 0,
        shipped: false,
    }
}

fn pick<T: Copy>(random: &mut Rng, of: &[T]) -> Option<T> {
    of.get(random.usize(..of.len().max(1))).copied()
}

fn network(random: &mut Rng) -> Network {
    let latency = pick(random, &[[1, 1], [1, 40], [20, 300], [100, 3_000]]);
    Network {
        latency_ms: latency.unwrap_or([1, 1]),
        bytes_per_ms: pick(random, &[1 << 20, 1_000, 50, 2]).unwrap_or(1_000),
        window_bytes: pick(random, &[64 << 10, 4_096, 300]).unwrap_or(4_096),
        chopped: random.bool(),
    }
}

fn setting(random: &mut Rng) -> Setting {
    let users = random.u64(1..=12);
    let tasks = random.u32(1..=20);
    let count = if random.bool() {
        random.usize(3..=12)
    } else {
        random.usize(3..=DEVICES_MAX)
    };
    let devices = (0..count).map(|_| Device {
        user: random.u64(1..=users),
        name: pick(
            random,
            &[None, Some("phone"), Some("laptop"), Some("tablet")],
        )
        .flatten()
        .map(str::to_owned),
        endpoint: if random.bool() {
            Endpoint::Chat {
                task: random.u32(..tasks),
            }
        } else {
            Endpoint::Notifications {}
        },
        given_up: false,
        shipped: false,
    });
    let mut devices: Vec<Device> = devices.collect();
    // The others must not notice.
    let given_up = random.usize(..3).min(devices.len() / 3);
    for device in devices.iter_mut().take(given_up) {
        device.given_up = true;
    }
    // One device, twice at once.
    if let Some(twin) = devices.last().cloned().filter(|_| random.u8(..4) == 0) {
        devices.truncate(DEVICES_MAX - 1);
        devices.push(twin);
    }
    Setting {
        faults_ms: FAULTS_MS,
        tasks,
        publishers: random.u32(1..=5),
        devices,
        network: network(random),
        direct: random.bool(),
        outlets: 0,
        rolls: random.u8(..3) == 0,
        store: None,
        listeners: Vec::new(),
        limits: Bounds {
            task_log_events: pick(random, &[1_000, 8, 40]).unwrap_or(40),
            user_log_events: pick(random, &[10_000, 12, 50]).unwrap_or(50),
            outbox_bytes: pick(random, &[256 << 10, 4_000, 20_000]).unwrap_or(4_000),
            log_bytes: pick(random, &[256 << 20, 256 << 20, 40_000]).unwrap_or(40_000),
            ..Bounds::default()
        },
    }
}

/// How often each kind of step comes, beside the others.
struct Weights(Vec<(u32, Draw)>);

type Draw = fn(&mut Rng, &Setting) -> Step;

impl Weights {
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn draw(random: &mut Rng) -> Self {
        let kinds: [(u32, Draw); 28] = [
            (60, publish),
            (10, |random, world| Step::Repeat {
                publisher: random.usize(..world.publishers.max(1) as usize),
                lies: random.u8(..4) == 0,
            }),
            (10, |random, world| Step::Connect {
                device: device(random, world),
                with: since(random),
            }),
            (6, |random, world| Step::Leave {
                device: device(random, world),
                in_order: random.bool(),
            }),
            (10, |random, world| Step::Join {
                device: device(random, world),
                task: random.u32(..world.tasks),
                with: since(random),
            }),
            (5, |random, world| Step::Part {
                device: device(random, world),
                task: random.u32(..world.tasks),
            }),
            (12, |random, world| Step::Ack {
                device: device(random, world),
                behind: random.i64(-2..5),
            }),
            (6, |random, world| Step::Read {
                device: device(random, world),
                behind: random.i64(-2..5),
            }),
            (10, |random, world| Step::Send {
                device: device(random, world),
                task: random.u32(..world.tasks),
                ephemeral: random.u8(..4) == 0,
            }),
            (2, |random, world| Step::Babble {
                device: device(random, world),
                text: babble(random),
            }),
            (1, |random, world| Step::Garble {
                device: device(random, world),
                how: pick(random, &Garble::ALL).unwrap_or(Garble::Binary),
            }),
            (1, |random, world| Step::Chatter {
                device: device(random, world),
                count: random.u32(10..400),
            }),
            (4, |random, world| Step::StopReading {
                device: device(random, world),
            }),
            (5, |random, world| Step::ResumeReading {
                device: device(random, world),
            }),
            (1, |random, world| Step::Disconnect {
                user: world
                    .devices
                    .get(device(random, world))
                    .map_or(1, |it| it.user),
            }),
            (6, |random, world| Step::Break {
                device: device(random, world),
                how: Fault::Reset {},
            }),
            (4, |random, world| Step::Break {
                device: device(random, world),
                how: fault(random),
            }),
            (4, |random, world| Step::Break {
                device: device(random, world),
                how: Fault::Cut {
                    up: random.bool(),
                    after_bytes: random.usize(1..600),
                },
            }),
            (1, |random, world| Step::Break {
                device: device(random, world),
                how: Fault::Clog {},
            }),
            (2, |random, world| Step::HalfClose {
                device: device(random, world),
            }),
            (2, |random, world| Step::ReadSlowly {
                device: device(random, world),
                every_ms: random.u64(50..20_000),
            }),
            (2, |random, world| Step::Background {
                device: device(random, world),
                for_ms: random.u64(100..100_000),
            }),
            (4, |random, world| Step::Token {
                device: device(random, world),
                token: token(random, world),
            }),
            (1, |random, _| match random.u8(..3) {
                0 => Step::Storm {},
                1 => Step::NoDescriptors {
                    for_ms: random.u64(100..60_000),
                },
                _ => Step::Clock {
                    ahead_ms: random.i64(-1..=1) * random.i64(0..600_000),
                    drift_ms: random.i64(-3_000..3_000),
                },
            }),
            (1, |random, _| Step::Pause {
                for_ms: pick(random, &[10, 1_000, 30_000, 300_000])
                    .map_or(1, |most| random.u64(1..=most)),
            }),
            (1, |random, _| Step::Weather {
                network: network(random),
            }),
            (1, |_, _| Step::Crash {}),
            (1, |_, _| Step::Drain {}),
        ];
        // Publishing is always on; of the others about a third is off, and some come often.
        let kinds = kinds
            .into_iter()
            .enumerate()
            .map(|(number, (weight, draw))| {
                let weight = match random.u8(..6) {
                    0 | 1 if number > 0 => 0,
                    2 => weight * 4,
                    _ => weight,
                };
                (weight, draw)
            });
        Self(kinds.collect())
    }

    fn step(&self, random: &mut Rng, world: &Setting) -> Step {
        let all: u32 = self.0.iter().map(|(weight, _)| weight).sum();
        let mut drawn = random.u32(..all.max(1));
        for (weight, draw) in &self.0 {
            if drawn < *weight {
                return draw(random, world);
            }
            drawn -= weight;
        }
        publish(random, world)
    }
}

pub(crate) fn device(random: &mut Rng, world: &Setting) -> usize {
    random.usize(..world.devices.len().max(1))
}

fn since(random: &mut Rng) -> Since {
    match random.u8(..16) {
        0 => Since::Foreign,
        1 => Since::Future,
        2 | 3 => Since::Old,
        4 => Since::Garbage,
        5 | 6 => Since::Nothing,
        _ => Since::Positions,
    }
}

fn fault(random: &mut Rng) -> Fault {
    let up = random.bool();
    match random.u8(..4) {
        0 => Fault::BlackHole {},
        1 => Fault::OneWay { up },
        _ => Fault::Stall {
            up,
            for_ms: random.u64(1..90_000),
        },
    }
}

fn token(random: &mut Rng, world: &Setting) -> Token {
    let most = pick(random, &[10_000, 90_000, 180_000, 3_600_000]).unwrap_or(10_000);
    let some = random.u8(..3) == 0;
    Token {
        for_ms: random.u64(2_000..=most),
        tasks: some.then(|| {
            let tasks = 0..world.tasks;
            tasks.filter(|_| random.bool()).collect()
        }),
    }
}

pub(crate) fn publish(random: &mut Rng, world: &Setting) -> Step {
    let to = target(random, world);
    let life = [
        "created",
        "created",
        "started",
        "started",
        "status",
        "status",
        "completed",
        "failed",
        "cancelled",
        "deleted",
    ];
    let kind = match (random.u8(..10), &to) {
        (0, _) => Kind::Ephemeral {
            key: random.bool().then(|| random.u8(..3)),
        },
        (1..=3, Target::Task { .. }) => Kind::Life {
            event: pick(random, &life).unwrap_or("created").to_owned(),
        },
        _ => Kind::Note {},
    };
    Step::Publish {
        publisher: random.usize(..world.publishers.max(1) as usize),
        to,
        kind,
        // Of any length around the one from which a frame has a longer header.
        bytes: match random.u8(..4) {
            0 => random.usize(..200),
            1 => 60,
            2 => 900,
            _ => 0,
        },
        insists: random.bool(),
        dies: random.u8(..12) == 0,
        notify: (random.u8(..6) == 0).then(|| random.bool()),
    }
}

/// Where something is published to.
fn target(random: &mut Rng, world: &Setting) -> Target {
    let user = |random: &mut Rng| {
        world
            .devices
            .get(device(random, world))
            .map_or(1, |it| it.user)
    };
    if random.u8(..3) == 0 {
        Target::User { user: user(random) }
    } else {
        let mut users: Vec<u64> = (0..random.usize(..3)).map(|_| user(random)).collect();
        users.sort_unstable();
        users.dedup();
        Target::Task {
            task: random.u32(..world.tasks),
            users,
        }
    }
}

/// Its references are none that a device counts up to: a bad join must not have the number of a good one.
fn babble(random: &mut Rng) -> String {
    let texts = [
        "",
        "{",
        "[]",
        "null",
        "{\"op\":5}",
        "{\"op\":\"fly\"}",
        "{\"op\":\"ack\",\"seq\":-1,\"ref\":9001}",
        "{\"op\":\"join\",\"room\":\"task:1\",\"ref\":9002}",
        "{\"op\":\"join\",\"room\":\"user:1\",\"ref\":9003}",
        "{\"op\":\"read\",\"ref\":9004}",
        "{\"op\":\"ack\",\"seq\":9007199254740993,\"ref\":9005}",
        "{\"op\":\"send\",\"room\":\"user:1\",\"type\":\"chat:message\",\"ref\":9006}",
        "{\"op\":\"send\",\"room\":\"x\",\"type\":\"system:welcome\",\"ref\":9007}",
    ];
    pick(random, &texts).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_another_is_another() {
        assert_eq!(generate(7), generate(7));
        assert_ne!(generate(7).steps, generate(8).steps);
    }
}
