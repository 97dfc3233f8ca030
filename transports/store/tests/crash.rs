//! The store over a disk that loses, tears and reorders what was not synced: more than 10,000 crashes, and as many in the
//! recovery after them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use fanfare_loopback::{Crash, DiskOp};
use fanfare_store::{Durability, Options, Store};
use support::{Op, POWER, Player, Rows, SimDisk, Workload, all, small};

mod support;

/// A run of the workload: an empty store, and what its disk was told then.
fn trace(workload: &Workload, options: &Options, random: &mut fastrand::Rng) -> (Vec<u8>, Vec<Op>) {
    let disk = SimDisk::default();
    let store = Store::open_on(disk.clone(), "simulated", options.clone()).unwrap();
    store.close().unwrap();
    let empty = disk.bytes();
    let disk = SimDisk::recording(empty.clone());
    let store = Store::open_on(disk.clone(), "simulated", options.clone()).unwrap();
    let (mut answered, mut ops) = (0, Vec::new());
    while answered < workload.batches.len() {
        let wave = random.usize(1..8).min(workload.batches.len() - answered);
        let batches = &workload.batches[answered..answered + wave];
        let commits: Vec<_> = batches
            .iter()
            .map(|batch| store.commit(batch.clone()))
            .collect();
        for commit in commits {
            smol::block_on(commit).unwrap();
        }
        answered += wave;
        ops.extend(disk.take_record().into_iter().map(Op::Disk));
        ops.push(Op::Answered(answered));
    }
    store.close().unwrap();
    ops.extend(disk.take_record().into_iter().map(Op::Disk));
    let grows = |op: &Op| matches!(op, Op::Disk(DiskOp::SetLen(_)));
    assert!(ops.iter().any(grows));
    (empty, ops)
}

fn reopen(disk: SimDisk, options: &Options, what: &str) -> Rows {
    let store = Store::open_on(disk, "simulated", options.clone());
    let store = store.unwrap_or_else(|error| panic!("{what}: {error}"));
    let rows = all(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
    // A close writes, and that is no part of the recovery.
    drop(store);
    rows
}

/// Crashes the run at every operation, several times, `points` times at least; and the recovery after each of them. How many
/// batches meet in a commit is a matter of time, and so is the number of operations.
fn crashes(options: &Options, seed: u64, batches: usize, points: usize) {
    let began = std::time::Instant::now();
    let mut random = fastrand::Rng::with_seed(seed);
    let workload = Workload::new(&mut random, batches);
    let (empty, ops) = trace(&workload, options, &mut random);
    let mut player = Player::new(empty);
    let times = points.div_ceil(ops.len()).max(4);
    let mut crashed = 0;
    for (at, op) in ops.iter().enumerate() {
        player.play(op);
        for time in 0..times {
            let crash = match time {
                0 => Crash::Kept,
                1 => Crash::Lost,
                2 => Crash::Reordered,
                _ => POWER,
            };
            let what = format!("seed {seed}, operation {at}, {crash:?} {time}");
            let least = match (options.durability, crash) {
                (Durability::Immediate, _) | (_, Crash::Kept) => player.answered,
                // An fsync follows each answer: what was answered before the last but one is safe.
                (Durability::Relaxed, _) => player.synced.min(player.answered),
            };
            let bytes = player.crash(crash, &mut random);
            let disk = SimDisk::recording(bytes.clone());
            let count = workload.prefix(&reopen(disk.clone(), options, &what));
            assert!(
                count >= least,
                "{what}: {count} batches, {least} were answered"
            );
            crashed += 1;

            // The recovery and the close after it crash too.
            let mut second = Player::new(bytes);
            let ops = disk.take_record();
            let until = random.usize(..=ops.len());
            let told = ops.into_iter().take(until).map(Op::Disk);
            told.for_each(|op| second.play(&op));
            let crash = if random.bool() { POWER } else { Crash::Kept };
            let what = format!("{what}, then {crash:?} after {until} operations");
            let bytes = second.crash(crash, &mut random);
            let again = workload.prefix(&reopen(SimDisk::holding(bytes), options, &what));
            assert!(again == count, "{what}: {again} batches, {count} before");
            crashed += 1;
        }
    }
    println!("{crashed} crashes in {:?}", began.elapsed());
    assert!(crashed >= 2 * points);
}

#[test]
fn what_was_answered_survives_every_crash_wholly_and_in_order() {
    crashes(&small(), 1, 90, 4_500);
}

#[test]
fn with_a_large_cache_and_log_too() {
    let options = Options {
        read_threads: 1,
        log_bytes: 64 << 10,
        ..Options::default()
    };
    crashes(&options, 2, 90, 3_300);
}

#[test]
fn relaxed_keeps_what_was_answered_when_the_process_ends_and_a_prefix_when_the_power_goes() {
    let options = Options {
        durability: Durability::Relaxed,
        ..small()
    };
    crashes(&options, 3, 60, 2_300);
}
