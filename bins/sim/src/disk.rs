//! Where a server keeps what it is told, and what goes wrong with that: the part of a plan, and how it is drawn.

use fanfare_loopback::Crash;
use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::plan::{Setting, Step, Timed, is_false};

/// How a durable server keeps its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keeping {
    /// Whether it answers before the fsync.
    pub(crate) relaxed: bool,
    /// Milliseconds that an fsync takes, from and to.
    pub(crate) sync_ms: [u64; 2],
    /// Length of the store's log.
    pub(crate) log_bytes: usize,
}

/// What a loss of power leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Loss {
    /// All of it, by chance.
    Kept {},
    Lost {},
    /// Of each sector of so many bytes any version.
    Torn {
        sector: usize,
    },
    /// Each write wholly or not at all, in any order.
    Reordered {},
}

impl From<Loss> for Crash {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Kept {} => Self::Kept,
            Loss::Lost {} => Self::Lost,
            Loss::Torn { sector } => Self::Torn { sector },
            Loss::Reordered {} => Self::Reordered,
        }
    }
}

/// How a server's disk fails. Each ends when all is well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum DiskFault {
    /// After so many more, every fsync fails, until the server is started again.
    FsyncFails { after: usize },
    /// After so many more, every write fails, until the server is started again.
    WriteFails { after: usize },
    /// After so many more, every read fails, until the server is started again.
    ReadFails { after: usize },
    /// Only so many more blocks of 4 KiB find space, for so long.
    Full {
        blocks: usize,
        for_ms: u64,
        /// Whether what is written in place needs space too, as where a file system copies on write.
        #[serde(default, skip_serializing_if = "is_false")]
        copies: bool,
    },
    /// An fsync takes so long, for so long.
    SlowFsync { sync_ms: u64, for_ms: u64 },
    /// The server ends, and of its file a bit is another one: so far from its begin, in millionths of it.
    BitFlip { millionths: u64 },
    /// The next start of the server crashes while it opens its store.
    CrashInRecovery { loses: Loss },
}

/// The name of a loss of power, as a fault.
pub(crate) const fn loss(loses: Loss) -> &'static str {
    match loses {
        Loss::Kept {} => "power_kept",
        Loss::Lost {} => "power_lost",
        Loss::Torn { .. } => "power_torn",
        Loss::Reordered {} => "power_reordered",
    }
}

/// The name of a disk's fault.
pub(crate) const fn fault(how: DiskFault) -> &'static str {
    match how {
        DiskFault::FsyncFails { .. } => "fsync_fails",
        DiskFault::WriteFails { .. } => "write_fails",
        DiskFault::ReadFails { .. } => "read_fails",
        DiskFault::Full { .. } => "disk_full",
        DiskFault::SlowFsync { .. } => "slow_fsync",
        DiskFault::BitFlip { .. } => "bit_flip",
        DiskFault::CrashInRecovery { .. } => "crash_in_recovery",
    }
}

/// What a step with a disk's fault tells a reader.
pub(crate) fn story(how: DiskFault) -> String {
    match how {
        DiskFault::FsyncFails { after } => format!("the disk fails each fsync, after {after} more"),
        DiskFault::WriteFails { after } => format!("the disk fails each write, after {after} more"),
        DiskFault::ReadFails { after } => format!("the disk fails each read, after {after} more"),
        DiskFault::Full {
            blocks,
            for_ms,
            copies,
        } => {
            let also = if copies { ", also in place" } else { "" };
            format!("the disk has space for {blocks} more blocks{also}, for {for_ms} ms")
        }
        DiskFault::SlowFsync { sync_ms, for_ms } => {
            format!("an fsync takes {sync_ms} ms, for {for_ms} ms")
        }
        DiskFault::BitFlip { millionths } => {
            format!("the server crashes, and a bit of its file flips, at {millionths} millionths")
        }
        DiskFault::CrashInRecovery { loses } => {
            format!("the next start crashes in its recovery: {}", loss(loses))
        }
    }
}

/// About half of all worlds are durable. Drawn apart, so that a world in memory is the same with and without.
pub(crate) fn keeping(seed: u64) -> Option<Keeping> {
    let mut random = Rng::with_seed(seed ^ 0xd15c);
    if random.bool() {
        return None;
    }
    let most = [0, 2, 20, 200][random.usize(..4)];
    Some(Keeping {
        relaxed: random.u8(..3) == 0,
        sync_ms: [most / 4, most],
        log_bytes: [16 << 10, 64 << 10, 256 << 10][random.usize(..3)],
    })
}

/// Adds what goes wrong with the disk of a durable world: mostly while something is being written.
pub(crate) fn faults(seed: u64, world: &Setting, steps: &mut Vec<Timed>) {
    if world.store.is_none() {
        return;
    }
    let mut random = Rng::with_seed(seed ^ 0xfa17);
    let publishes = steps
        .iter()
        .filter(|it| matches!(it.step, Step::Publish { .. }));
    let publishes: Vec<u64> = publishes.map(|it| it.at_ms).collect();
    let mut drawn = Vec::new();
    // Of each kind none in some worlds, and many in others.
    for kind in 0..8 {
        let most = [0, 1, 3, 8][random.usize(..4)];
        for _ in 0..most {
            let near = publishes.get(random.usize(..publishes.len().max(1)));
            let at_ms = match near {
                Some(at_ms) if random.u8(..11) > 0 => at_ms + random.u64(..200),
                _ => random.u64(..world.faults_ms.max(1)),
            };
            if kind == 4 && random.u8(..3) > 0 {
                // A file that is damaged is the end of what was kept.
                continue;
            }
            for step in steps_of(kind, &mut random) {
                drawn.push(Timed {
                    at_ms: at_ms.min(world.faults_ms),
                    step,
                });
            }
        }
    }
    steps.extend(drawn);
    steps.extend(worse(seed, world, &publishes));
    steps.sort_by_key(|timed| timed.at_ms);
}

/// A disk that gets worse and worse, in some worlds: it fails an fsync, the next server finds it full, and then the power goes.
fn worse(seed: u64, world: &Setting, publishes: &[u64]) -> Vec<Timed> {
    let mut random = Rng::with_seed(seed ^ 0x3025);
    let mut steps = Vec::new();
    let most = [0, 0, 3][random.usize(..3)];
    for _ in 0..random.usize(..=most) {
        let Some(&at_ms) = random.choice(publishes) else {
            break;
        };
        let crash_ms = at_ms + random.u64(100..1_000);
        let power_ms = crash_ms + random.u64(600..6_000);
        let full = DiskFault::Full {
            blocks: random.usize(..4),
            for_ms: random.u64(5_000..60_000),
            copies: random.bool(),
        };
        let fails = DiskFault::FsyncFails { after: 0 };
        let loses = any_loss(&mut random);
        let all = [
            (at_ms, Step::BadDisk { how: fails }),
            (crash_ms, Step::Crash {}),
            (crash_ms, Step::BadDisk { how: full }),
            (power_ms, Step::PowerCut { loses }),
        ];
        steps.extend(all.map(|(at_ms, step)| Timed { at_ms, step }));
    }
    steps.retain(|timed| timed.at_ms <= world.faults_ms);
    steps
}

fn any_loss(random: &mut Rng) -> Loss {
    match random.u8(..7) {
        0 => Loss::Kept {},
        1 | 2 => Loss::Lost {},
        3 | 4 => Loss::Reordered {},
        _ => Loss::Torn {
            sector: 512 << random.u8(..4),
        },
    }
}

fn steps_of(kind: u8, random: &mut Rng) -> Vec<Step> {
    let how = match kind {
        0 => DiskFault::FsyncFails {
            after: random.usize(..4),
        },
        1 => DiskFault::WriteFails {
            after: random.usize(..12),
        },
        2 => {
            let most = [3, 10, 40][random.usize(..3)];
            DiskFault::Full {
                blocks: random.usize(..most),
                for_ms: random.u64(1_000..180_000),
                copies: random.u8(..3) == 0,
            }
        }
        3 => DiskFault::SlowFsync {
            sync_ms: random.u64(1..=10_000),
            for_ms: random.u64(1_000..60_000),
        },
        4 => DiskFault::BitFlip {
            millionths: random.u64(..1_000_000),
        },
        5 => {
            let (loses, again) = (any_loss(random), any_loss(random));
            let how = DiskFault::CrashInRecovery { loses: again };
            return vec![Step::BadDisk { how }, Step::PowerCut { loses }];
        }
        6 => {
            let loses = any_loss(random);
            return vec![Step::PowerCut { loses }];
        }
        _ => DiskFault::ReadFails {
            after: random.usize(..12),
        },
    };
    vec![Step::BadDisk { how }]
}
