//! A disk that fails or is full, in a store that is open.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use std::ops::Bound;

use fanfare_loopback::DiskFault;
use fanfare_store::{Batch, Durability, Error, KeyRange, Options, Read, Store, Table};
use support::{Op, POWER, Player, Rows, SimDisk, Workload, all, small};

mod support;

fn commit(store: &Store, batch: &Batch) -> Result<(), Error> {
    smol::block_on(store.commit(batch.clone()))
}

fn open(disk: &SimDisk, options: &Options) -> Result<Store, Error> {
    Store::open_on(disk.clone(), "simulated", options.clone())
}

/// An empty store, whose disk remembers from now on.
fn empty(options: &Options) -> (Store, SimDisk, Vec<u8>) {
    let disk = SimDisk::default();
    open(&disk, options).unwrap().close().unwrap();
    let bytes = disk.bytes();
    let disk = SimDisk::recording(bytes.clone());
    (open(&disk, options).unwrap(), disk, bytes)
}

/// What a power loss right now leaves.
fn power_loss(disk: &SimDisk, bytes: Vec<u8>, random: &mut fastrand::Rng) -> SimDisk {
    let mut player = Player::new(bytes);
    let told = disk.take_record().into_iter().map(Op::Disk);
    told.for_each(|op| player.play(&op));
    SimDisk::holding(player.crash(POWER, random))
}

/// Every write and every fsync of a run fails once, in a run of its own: the batch is refused, later ones too, what was
/// answered is read on, and is there after a restart.
#[test]
fn after_a_failed_write_or_fsync_nothing_is_taken_and_everything_answered_is_read() {
    let mut random = fastrand::Rng::with_seed(5);
    let workload = Workload::new(&mut random, 12);
    for durability in [Durability::Immediate, Durability::Relaxed] {
        let options = Options {
            durability,
            ..small()
        };
        for fault in [
            DiskFault::Write,
            DiskFault::Sync,
            DiskFault::SyncWithoutSpace,
        ] {
            let mut runs = 0;
            for turn in 0.. {
                let what = format!("{durability:?}, {fault:?} {turn}");
                let (store, disk, bytes) = empty(&options);
                disk.fail(Some((fault, turn)));
                let mut answered = 0;
                let mut failed = None;
                for batch in &workload.batches {
                    match commit(&store, batch) {
                        Ok(()) => {
                            assert!(failed.is_none(), "{what}: taken after a failure");
                            answered += 1;
                        }
                        Err(error) => {
                            assert!(
                                matches!(error, Error::WriteFailed { .. }),
                                "{what}: {error}"
                            );
                            let said = error.to_string();
                            assert!(
                                said.contains("simulated") && said.contains("restart"),
                                "{said}"
                            );
                            failed = Some(error);
                        }
                    }
                    let rows = all(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(workload.prefix(&rows), answered, "{what}");
                }
                if failed.is_none() {
                    break;
                }
                runs += 1;
                // The disk is repaired meanwhile: still nothing is taken.
                disk.fail(None);
                assert!(matches!(
                    commit(&store, &Batch::new()),
                    Err(Error::WriteFailed { .. })
                ));
                let before = disk.bytes();
                store.close().unwrap();
                assert!(
                    disk.bytes() == before,
                    "{what}: a failed store was written to"
                );
                let after = power_loss(&disk, bytes, &mut random);
                let store =
                    open(&after, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
                let kept = workload.prefix(&all(&store).unwrap());
                // Answered before its fsync, a relaxed batch may be lost with the power.
                let least = match durability {
                    Durability::Immediate => answered,
                    Durability::Relaxed => answered.saturating_sub(1),
                };
                assert!(
                    (least..=answered + 1).contains(&kept),
                    "{what}: {kept} of {answered}"
                );
            }
            println!("{durability:?}, {fault:?}: {runs} runs");
            assert!(runs > 10, "{durability:?}, {fault:?}: only {runs} runs");
        }
    }
}

/// The disk is full at every point of a run, once each: the batch is refused and leaves no trace, reads go on, and when
/// there is space, writes do.
#[test]
fn a_full_disk_refuses_batches_wholly_until_there_is_space() {
    let mut random = fastrand::Rng::with_seed(6);
    let workload = Workload::new(&mut random, 25);
    for durability in [Durability::Immediate, Durability::Relaxed] {
        let options = Options {
            durability,
            log_bytes: 8 << 10,
            ..small()
        };
        let mut refusals = 0;
        for more in 0..60 {
            let what = format!("{durability:?}, {more} more blocks");
            let (store, disk, bytes) = empty(&options);
            let used = disk.used();
            disk.space(Some(used + more));
            let mut answered = 0;
            for batch in &workload.batches {
                for attempt in 0.. {
                    assert!(attempt < 20, "{what}: full for ever");
                    let result = commit(&store, batch);
                    let kept = workload.prefix(&all(&store).unwrap());
                    match result {
                        Ok(()) => {
                            answered += 1;
                            assert_eq!(kept, answered, "{what}");
                            break;
                        }
                        Err(Error::Full { .. }) => {
                            assert_eq!(kept, answered, "{what}: a refused batch can be seen");
                            assert!(
                                matches!(commit(&store, batch), Err(Error::Full { .. })),
                                "{what}"
                            );
                            refusals += 1;
                            // Each time only a little space, so that it is soon full again.
                            let used = disk.used();
                            disk.space(Some(used + 256 + 40));
                        }
                        Err(error) => panic!("{what}: {error}"),
                    }
                }
            }
            let after = power_loss(&disk, bytes, &mut random);
            let kept = workload.prefix(&all(&open(&after, &options).unwrap()).unwrap());
            match durability {
                Durability::Immediate => assert_eq!(kept, answered, "{what}"),
                Durability::Relaxed => assert!(kept + 1 >= answered, "{what}"),
            }
        }
        println!("{durability:?}: {refusals} times full");
        assert!(refusals > 30, "{durability:?}: only {refusals} times full");
    }
}

#[test]
fn a_store_on_a_full_disk_opens_and_is_read() {
    let mut random = fastrand::Rng::with_seed(8);
    let workload = Workload::new(&mut random, 10);
    let (store, disk, bytes) = empty(&small());
    for batch in &workload.batches {
        commit(&store, batch).unwrap();
    }
    let after = power_loss(&disk, bytes, &mut random);
    after.space(Some(after.used()));
    let store = open(&after, &small()).unwrap();
    assert_eq!(workload.prefix(&all(&store).unwrap()), 10);
    let mut large = Batch::new();
    large.put(Table::Rooms, b"large", vec![7; 500_000]);
    assert!(matches!(commit(&store, &large), Err(Error::Full { .. })));
    after.space(None);
    commit(&store, &large).unwrap();
    let rows: Rows = all(&store).unwrap();
    assert_eq!(rows.len(), workload.states[10].len() + 1);
}

#[test]
fn a_new_store_is_not_made_on_a_full_disk() {
    let disk = SimDisk::default();
    disk.space(Some(2));
    let error = open(&disk, &small()).map(drop).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
}

#[test]
fn a_row_damaged_while_the_store_is_open_is_an_error_and_never_other_data() {
    let options = Options {
        // The value is read from the disk, not from memory.
        cache_bytes: 0,
        ..small()
    };
    let (store, disk, _) = empty(&options);
    let value = b"a value that is found in the file".repeat(10);
    let mut batch = Batch::new();
    batch.put(Table::Rooms, b"key", value.clone());
    // Too large for the log, so that it is in the tables at once.
    batch.put(Table::Meta, b"filler", vec![0; 20_000]);
    commit(&store, &batch).unwrap();
    let read = || smol::block_on(store.read(Read::new(Table::Rooms, KeyRange::all())));
    assert_eq!(read().unwrap().rows[0].value, value);
    let bytes = disk.bytes();
    let places = (0..bytes.len() - value.len()).filter(|at| bytes[*at..].starts_with(&value));
    let places: Vec<usize> = places.collect();
    assert!(!places.is_empty());
    for at in places {
        disk.flip(8 * (at as u64 + 3));
    }
    let error = read().unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(!error.to_string().contains("key"), "{error}");
}

/// The log would be written over before the tables say that they have it: nothing of it is ever sent to them.
#[test]
fn a_batch_that_clears_ranges_without_a_key_leaves_a_log_that_can_be_read() {
    let (a, a0): (&[u8], &[u8]) = (b"a", b"a\0");
    let empty_ranges = [
        KeyRange::new(a0..a),
        KeyRange::new(a..a),
        KeyRange::new((Bound::Excluded(a), Bound::Excluded(a0))),
    ];
    for range in empty_ranges {
        let (store, disk, _) = empty(&small());
        let mut cleared = Batch::new();
        cleared.delete_range(Table::Rooms, range.clone());
        let mut put = Batch::new();
        put.put(Table::Rooms, a, *b"1");
        for number in 0..100 {
            let batch = if number % 40 < 38 { &cleared } else { &put };
            commit(&store, batch).unwrap();
            let after = open(&SimDisk::holding(disk.bytes()), &small());
            let rows = after.and_then(|store| all(&store));
            let rows = rows.unwrap_or_else(|error| panic!("{range:?}, {number}: {error}"));
            assert_eq!(rows.len(), usize::from(number >= 38), "{range:?}, {number}");
        }
    }
}
