//! The log and the tables: one of them fails, is full or is slow, and the other goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use std::thread;

use fanfare_loopback::DiskFault;
use fanfare_store::{Batch, Completion, Error, Store, Table};
use support::{Rows, SimDisk, all, small};

mod support;

/// Rows that a half of the log takes: each is a batch, and a sector.
const HALF: usize = 16;
/// Where the tables begin: behind the first block and the log.
const TABLES: usize = 4_096 + 2 * HALF * 512;

/// A store, and what is in it.
struct Run {
    disk: SimDisk,
    store: Store,
    rows: Rows,
}

fn open(disk: &SimDisk) -> Store {
    Store::open_on(disk.clone(), "simulated", small()).unwrap()
}

/// Too large for a half of the log.
fn large() -> Vec<u8> {
    vec![9; 20_000]
}

impl Run {
    /// With an empty half of the log, and nothing on its way to the tables.
    fn new() -> Self {
        let disk = SimDisk::default();
        let mut run = Self {
            store: open(&disk),
            disk,
            rows: Rows::new(),
        };
        run.put_value(large()).unwrap();
        run
    }

    /// A row that is not there, on its way to the disk.
    fn send(&self, value: Vec<u8>) -> (Rows, Completion<()>) {
        let key = self.rows.len().to_be_bytes().to_vec();
        let mut batch = Batch::new();
        batch.put(Table::Entries, key.clone(), value.clone());
        let row = Rows::from([((Table::Entries, key), value)]);
        (row, self.store.commit(batch))
    }

    fn put_value(&mut self, value: Vec<u8>) -> Result<(), Error> {
        let (row, answer) = self.send(value);
        smol::block_on(answer)?;
        self.rows.extend(row);
        Ok(())
    }

    fn put(&mut self) -> Result<(), Error> {
        self.put_value(vec![7; 100])
    }

    /// Puts rows until the log turns to its other half, which then has one row, and the tables wait for the disk.
    fn hold_the_tables(&mut self) -> Held {
        let held = Held(self.disk.clone());
        self.disk.hold(Some(TABLES as u64));
        (0..=HALF).for_each(|_| self.put().unwrap());
        self.disk.until_waiting();
        held
    }

    /// Nothing is taken or written any more, and everything answered is read, before and after a restart.
    fn has_failed(mut self, what: &str) {
        let before = self.disk.bytes();
        let refused = self.put().unwrap_err();
        assert!(
            matches!(refused, Error::WriteFailed { .. }),
            "{what}: {refused}"
        );
        assert_eq!(all(&self.store).unwrap(), self.rows, "{what}");
        self.store.close().unwrap();
        assert!(self.disk.bytes() == before, "{what}: written to");
        assert_eq!(kept(before), self.rows, "{what}");
    }
}

/// Until it is dropped, the tables wait: a test that fails is not to wait with them.
struct Held(SimDisk);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.hold(None);
    }
}

/// Every row of the store that is on this disk.
fn kept(bytes: Vec<u8>) -> Rows {
    all(&open(&SimDisk::holding(bytes))).unwrap()
}

/// A store without a commit.
fn blank() -> Vec<u8> {
    let disk = SimDisk::default();
    drop(open(&disk));
    disk.bytes()
}

/// Every row that is there without the log.
fn in_tables(mut bytes: Vec<u8>) -> Rows {
    let log = 4_096..TABLES;
    bytes[log.clone()].copy_from_slice(&blank()[log]);
    kept(bytes)
}

fn is_full(answer: &Result<(), Error>) -> bool {
    matches!(answer, Err(Error::Full { .. }))
}

#[test]
fn while_the_tables_are_slow_the_log_takes_its_other_half_and_all_is_read() {
    let mut run = Run::new();
    let before = run.rows.clone();
    let held = run.hold_the_tables();
    for _ in 1..HALF {
        run.put().unwrap();
        assert_eq!(all(&run.store).unwrap(), run.rows);
        assert_eq!(kept(run.disk.bytes()), run.rows);
    }
    assert_eq!(in_tables(run.disk.bytes()), before);
    // Its place is that of what the tables don't have.
    let (row, answer) = run.send(vec![7; 100]);
    assert_eq!(kept(run.disk.bytes()), run.rows);
    drop(held);
    smol::block_on(answer).unwrap();
    run.rows.extend(row);
    assert_eq!(all(&run.store).unwrap(), run.rows);
    assert_eq!(kept(run.disk.bytes()), run.rows);
}

#[test]
fn while_the_tables_are_full_the_log_takes_its_other_half_and_then_all_goes_there() {
    let mut run = Run::new();
    run.disk.space(Some(run.disk.used()));
    (0..2 * HALF).for_each(|_| run.put().unwrap());
    for _ in 0..3 {
        assert!(is_full(&run.put()));
        assert!(is_full(&run.put_value(large())));
        assert_eq!(all(&run.store).unwrap(), run.rows);
        assert_eq!(kept(run.disk.bytes()), run.rows);
    }
    run.disk.space(None);
    (0..5 * HALF).for_each(|_| run.put().unwrap());
    run.put_value(large()).unwrap();
    assert_eq!(all(&run.store).unwrap(), run.rows);
    assert_eq!(in_tables(run.disk.bytes()), run.rows);
}

#[test]
fn when_the_tables_fail_the_log_takes_no_more() {
    for fault in [
        DiskFault::Write,
        DiskFault::Sync,
        DiskFault::SyncWithoutSpace,
    ] {
        let what = format!("{fault:?}");
        let mut run = Run::new();
        let held = run.hold_the_tables();
        (0..HALF / 2).for_each(|_| run.put().unwrap());
        run.disk.fail(Some((fault, 0)));
        drop(held);
        run.disk.until_failed();
        // Repaired meanwhile.
        run.disk.fail(None);
        // The log hears of it later, but before it turns.
        let taken = (0..).take_while(|_| run.put().is_ok()).count();
        assert!(taken < HALF / 2, "{what}: {taken} were taken");
        run.has_failed(&what);
    }
}

#[test]
fn when_the_log_fails_the_tables_end_what_they_do_and_take_no_more() {
    for fault in [
        DiskFault::Write,
        DiskFault::Sync,
        DiskFault::SyncWithoutSpace,
    ] {
        let what = format!("{fault:?}");
        let mut run = Run::new();
        let held = run.hold_the_tables();
        let mut sent = run.rows.clone();
        // In the other half already.
        sent.pop_last();
        run.disk.fail(Some((fault, 0)));
        let (row, answer) = run.send(vec![7; 100]);
        run.disk.until_failed();
        run.disk.fail(None);
        drop(held);
        let answer = smol::block_on(answer);
        assert!(
            matches!(answer, Err(Error::WriteFailed { .. })),
            "{what}: {answer:?}"
        );
        assert_eq!(in_tables(run.disk.bytes()), sent, "{what}");
        assert_eq!(all(&run.store).unwrap(), run.rows, "{what}");
        if fault == DiskFault::Write {
            run.has_failed(&what);
            continue;
        }
        // Only after the restart it is known to be kept.
        let (bytes, written) = (run.disk.bytes(), run.disk.clone());
        run.store.close().unwrap();
        assert!(written.bytes() == bytes, "{what}: written to");
        run.rows.extend(row);
        assert_eq!(kept(bytes), run.rows, "{what}");
    }
}

#[test]
fn a_close_waits_for_the_tables_and_brings_them_all_and_lets_the_file_go() {
    let mut run = Run::new();
    let held = run.hold_the_tables();
    run.put().unwrap();
    let store = run.store;
    let closing = thread::spawn(move || store.close());
    drop(held);
    closing.join().unwrap().unwrap();
    assert!(run.disk.is_mine(), "something has the file still");
    assert_eq!(in_tables(run.disk.bytes()), run.rows);
}

/// Both halves have what the tables don't: a commit that is missing in either was not cut off by the power.
#[test]
fn a_commit_that_is_missing_in_either_half_is_damage() {
    let mut run = Run::new();
    let held = run.hold_the_tables();
    (0..3).for_each(|_| run.put().unwrap());
    let (bytes, blank) = (run.disk.bytes(), blank());
    let log = 4_096..TABLES;
    let sectors = log.step_by(512).map(|at| at..at + 512);
    let written: Vec<_> = sectors
        .filter(|sector| bytes[sector.clone()] != blank[sector.clone()])
        .collect();
    assert_eq!(written.len(), HALF + 1 + 3);
    let lost = |sectors: &[std::ops::Range<usize>]| {
        let mut bytes = bytes.clone();
        for sector in sectors {
            bytes[sector.clone()].copy_from_slice(&blank[sector.clone()]);
        }
        let store = Store::open_on(SimDisk::holding(bytes), "simulated", small());
        store.map(|store| all(&store).unwrap())
    };
    let is_damage = |found: Result<Rows, Error>| matches!(found, Err(Error::Damaged { .. }));
    // The half in use is the first of the two in the file.
    let (newer, older) = written.split_at(4);
    assert!(is_damage(lost(older)), "the older half");
    for (place, sector) in written.iter().enumerate() {
        let found = lost(std::slice::from_ref(sector));
        if place == newer.len() - 1 {
            assert_eq!(found.unwrap().len(), run.rows.len() - 1);
        } else {
            assert!(is_damage(found), "sector {place}");
        }
    }
    drop(held);
}

/// What is found goes to the tables when the file is opened, or stays where it is if they are full.
#[test]
fn a_batch_too_large_for_the_log_comes_after_what_was_found_in_it() {
    for full in [false, true] {
        let what = format!("full {full}");
        let mut run = Run::new();
        (0..HALF / 2).for_each(|_| run.put().unwrap());
        let disk = SimDisk::holding(run.disk.bytes());
        if full {
            disk.space(Some(disk.used()));
        }
        let mut run = Run {
            store: open(&disk),
            disk,
            rows: run.rows,
        };
        assert_eq!(all(&run.store).unwrap(), run.rows, "{what}");
        if full {
            assert!(is_full(&run.put_value(large())));
            assert!(is_full(&run.put()));
            assert_eq!(all(&run.store).unwrap(), run.rows);
            assert_eq!(kept(run.disk.bytes()), run.rows);
            run.disk.space(None);
        }
        run.put_value(large()).unwrap();
        assert_eq!(in_tables(run.disk.bytes()), run.rows, "{what}");
        for _ in 0..3 * HALF {
            run.put().unwrap();
            assert_eq!(kept(run.disk.bytes()), run.rows, "{what}");
        }
        run.store.close().unwrap();
        assert_eq!(in_tables(run.disk.bytes()), run.rows, "{what}");
    }
}

/// A log has its space from the start, but for a file system that takes new space for what is written in place.
#[test]
fn a_batch_that_the_log_has_no_space_for_is_not_found_after_a_crash() {
    let mut run = Run::new();
    run.disk.fail(Some((DiskFault::WriteWithoutSpace, 0)));
    assert!(is_full(&run.put()));
    assert_eq!(all(&run.store).unwrap(), run.rows);
    assert_eq!(kept(run.disk.bytes()), run.rows, "all of it was written");
    run.disk.vacate(0..TABLES as u64 / 4_096);
    run.disk.space(Some(run.disk.used() + 1));
    assert!(is_full(&run.put_value(vec![7; 5_000])));
    assert_eq!(kept(run.disk.bytes()), run.rows, "a part was written");
    run.put().unwrap();
    assert_eq!(kept(run.disk.bytes()), run.rows);
    run.disk.space(None);
    (0..3 * HALF).for_each(|_| run.put().unwrap());
    assert_eq!(kept(run.disk.bytes()), run.rows);
}
