//! A store without threads: the same that threads do, in the order in which it is asked for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use fanfare_loopback::{Crash, Disk, DiskFault, DiskOp};
use fanfare_store::{
    Batch, Completion, Durability, Error, KeyRange, Options, Read, Steps, Store, Table,
};
use futures::FutureExt;
use support::{POWER, SimDisk, Workload, all, small};

mod support;

fn answered<T>(completion: Completion<T>) -> Option<Result<T, Error>> {
    completion.now_or_never()
}

fn open(disk: &Disk, options: &Options) -> (Store, Steps) {
    Store::open_stepped(disk.clone(), "simulated", options.clone()).unwrap()
}

fn empty(options: &Options) -> Disk {
    let disk = Disk::default();
    let (_, steps) = open(&disk, options);
    steps.close().unwrap();
    disk
}

#[test]
fn the_same_steps_write_the_same_bytes() {
    let run = || {
        let mut random = fastrand::Rng::with_seed(11);
        let workload = Workload::new(&mut random, 60);
        let disk = Disk::default();
        disk.record();
        let (store, mut steps) = open(&disk, &small());
        for batch in &workload.batches {
            let commit = store.commit(batch.clone());
            assert!(steps.write() && steps.answer());
            answered(commit).unwrap().unwrap();
            if random.bool() {
                steps.checkpoint();
            }
        }
        drop(store);
        steps.close().unwrap();
        disk.take_record()
    };
    let (one, other) = (run(), run());
    assert!(one.len() > 200, "{}", one.len());
    assert!(one == other);
}

fn rows(store: &Store, steps: &mut Steps) -> usize {
    let read = store.read(Read::new(Table::Rooms, KeyRange::all()));
    assert!(steps.read());
    answered(read).unwrap().unwrap().rows.len()
}

/// A process ends when a commit of it is with the system only, and the next one finds no space to bring that to the tables.
#[test]
fn what_is_read_while_the_disk_is_full_is_still_there_when_the_power_went() {
    let disk = empty(&small());
    let (store, mut steps) = open(&disk, &small());
    disk.fail(Some((DiskFault::Sync, 0)));
    let mut batch = Batch::new();
    batch.put(Table::Rooms, b"task:7", *b"head 1");
    let commit = store.commit(batch);
    assert!(steps.write() && steps.answer());
    assert!(answered(commit).unwrap().is_err());
    drop((store, steps));

    let disk = disk.crash(Crash::Kept, 1);
    disk.space(Some(disk.used()));
    let (store, mut steps) = open(&disk, &small());
    assert_eq!(rows(&store, &mut steps), 1);
    drop((store, steps));

    let disk = disk.crash(Crash::Lost, 1);
    disk.space(None);
    let (store, mut steps) = open(&disk, &small());
    assert_eq!(rows(&store, &mut steps), 1);
}

#[test]
fn what_waits_is_one_group_which_is_answered_and_seen_when_that_is_said() {
    let disk = empty(&small());
    disk.record();
    let (store, mut steps) = open(&disk, &small());
    let _ = disk.take_record();
    let commits: Vec<_> = (0..5_u8)
        .map(|number| {
            let mut batch = Batch::new();
            batch.put(Table::Rooms, [number], *b"row");
            store.commit(batch)
        })
        .collect();
    let mut read = || {
        let read = store.read(Read::new(Table::Rooms, KeyRange::all()));
        assert!(steps.read());
        (answered(read).unwrap().unwrap().rows.len(), steps.write())
    };
    assert_eq!(read(), (0, true));
    assert_eq!(read(), (0, false));
    let told = disk.take_record();
    assert!(
        matches!(told[..], [DiskOp::Write(..), DiskOp::Sync]),
        "{}",
        told.len()
    );
    assert!(steps.answer());
    for commit in commits {
        answered(commit).unwrap().unwrap();
    }
    let rows = store.read(Read::new(Table::Rooms, KeyRange::all()));
    assert!(steps.read() && !steps.read() && !steps.answer());
    assert_eq!(answered(rows).unwrap().unwrap().rows.len(), 5);
}

#[test]
fn what_waits_when_the_steps_end_is_answered() {
    let (store, steps) = open(&empty(&small()), &small());
    let commit = store.commit(Batch::new());
    let read = store.read(Read::new(Table::Rooms, KeyRange::all()));
    drop(steps);
    assert!(matches!(answered(commit), Some(Err(Error::Closed))));
    assert!(matches!(answered(read), Some(Err(Error::Closed))));
    assert!(matches!(
        answered(store.commit(Batch::new())),
        Some(Err(Error::Closed))
    ));
}

/// Each fsync takes its time, and crashes come within: of commits, of checkpoints, and of openings.
#[test]
fn a_crash_while_the_disk_is_slow_leaves_what_was_answered() {
    for durability in [Durability::Immediate, Durability::Relaxed] {
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let workload = Workload::new(&mut random, 40);
            let options = Options {
                durability,
                ..small()
            };
            let mut disk = empty(&options);
            let mut kept = 0;
            while kept < workload.batches.len() {
                let crashes = random.u8(..4) == 0;
                disk.sync_ms(10);
                let (store, mut steps) = open(&disk, &options);
                if crashes {
                    let told = random.usize(..=disk.undone());
                    disk = disk.crash_after(told, POWER, random.u64(..));
                    let found = SimDisk::holding(disk.bytes());
                    let found = Store::open_on(found, "simulated", options.clone()).unwrap();
                    assert_eq!(workload.prefix(&all(&found).unwrap()), kept, "{seed}");
                    continue;
                }
                disk.pass_ms(u64::MAX);
                let crash = [Crash::Kept, Crash::Lost, Crash::Reordered, POWER][random.usize(..4)];
                let (mut answers, mut most) = (kept, kept);
                for batch in workload.batches.iter().skip(kept).take(random.usize(..12)) {
                    let commit = store.commit(batch.clone());
                    assert!(steps.write());
                    most += 1;
                    let (busy, ends) = (disk.busy_ms(), random.u8(..8) == 0);
                    if ends {
                        disk.pass_ms(random.u64(..=busy));
                        break;
                    }
                    disk.pass_ms(busy);
                    assert!(steps.answer());
                    answered(commit).unwrap().unwrap();
                    if durability == Durability::Immediate || crash == Crash::Kept {
                        answers = most;
                    }
                    if random.u8(..3) > 0 {
                        disk.pass_ms(disk.busy_ms());
                        answers = most;
                    }
                    if random.bool() && steps.checkpoint() {
                        disk.pass_ms(random.u64(..=disk.busy_ms()));
                        break;
                    }
                }
                let after = disk.crash(crash, random.u64(..));
                drop((store, steps));
                disk = after;
                let found = SimDisk::holding(disk.bytes());
                let found = Store::open_on(found, "simulated", options.clone()).unwrap();
                kept = workload.prefix(&all(&found).unwrap());
                assert!(
                    (answers..=most).contains(&kept),
                    "{seed}, {crash:?}: {kept} of {answers}"
                );
            }
        }
    }
}
