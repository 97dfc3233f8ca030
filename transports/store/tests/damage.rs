//! A file with any byte changed, or cut anywhere: an error, or the right rows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use fanfare_store::{Batch, Error, KeyRange, Options, Read, Store, Table};
use support::{Rows, SimDisk, Workload, all};

mod support;

fn options(verify: bool) -> Options {
    Options {
        verify,
        read_threads: 1,
        cache_bytes: 1 << 20,
        log_bytes: 64 << 10,
        ..Options::default()
    }
}

/// A store's file, closed or as a crash leaves it, and what is in it.
fn file(closed: bool) -> (Vec<u8>, Rows) {
    let mut random = fastrand::Rng::with_seed(9);
    let workload = Workload::new(&mut random, 60);
    let disk = SimDisk::default();
    let store = Store::open_on(disk.clone(), "simulated", options(true)).unwrap();
    for batch in &workload.batches {
        smol::block_on(store.commit(batch.clone())).unwrap();
    }
    let rows = all(&store).unwrap();
    let crashed = disk.bytes();
    store.close().unwrap();
    (if closed { disk.bytes() } else { crashed }, rows)
}

#[derive(Debug, Default)]
struct Seen {
    right: usize,
    refused: usize,
    wrong: usize,
}

/// Every row, found by reading all and by its own key: damage between the rows shows only to one of the two.
fn found(store: &Store, rows: &Rows) -> Result<Rows, Error> {
    let mut found = all(store)?;
    for (table, key) in rows.keys() {
        let read = Read::new(*table, KeyRange::key(key));
        if smol::block_on(store.read(read))?.rows.is_empty() {
            found.remove(&(*table, key.clone()));
        }
    }
    Ok(found)
}

fn look(disk: &SimDisk, options: Options, rows: &Rows, seen: &mut Seen) -> Result<(), Error> {
    let store = Store::open_on(disk.clone(), "simulated", options);
    match store.and_then(|store| found(&store, rows)) {
        Ok(found) if found == *rows => seen.right += 1,
        Ok(_) => seen.wrong += 1,
        Err(error) => {
            seen.refused += 1;
            return Err(error);
        }
    }
    Ok(())
}

/// The error's words name the file and say what to do.
fn typed(error: &Error, what: &str) {
    let of_the_file = matches!(
        error,
        Error::Damaged { .. } | Error::NotAStore { .. } | Error::NewerFormat { .. }
    );
    assert!(of_the_file, "{what}: {error}");
    assert!(error.to_string().contains("simulated: "), "{error}");
}

#[test]
fn a_file_with_any_byte_changed_is_refused_and_left_as_it_is_or_right() {
    for closed in [true, false] {
        let (bytes, rows) = file(closed);
        let mut random = fastrand::Rng::with_seed(10);
        let mut seen = Seen::default();
        // The header whole, with each bit; of the rest some bytes of each page.
        let header = (0..320 * 8).map(|bit| (bit / 8, 1 << (bit % 8)));
        let pages = (0..bytes.len().div_ceil(512))
            .map(|part| (part * 512 + random.usize(..512), 1 << random.u8(..8)))
            .collect::<Vec<_>>();
        for (at, flip) in header.chain(pages).filter(|(at, _)| *at < bytes.len()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let disk = SimDisk::holding(damaged.clone());
            if let Err(error) = look(&disk, options(true), &rows, &mut seen) {
                let what = format!("closed {closed}, byte {at} ^ {flip}");
                typed(&error, &what);
                assert!(disk.bytes() == damaged, "{what}: the file was changed");
            }
            assert_eq!(
                seen.wrong, 0,
                "closed {closed}, byte {at} ^ {flip}: other rows"
            );
        }
        println!("closed {closed}, {} bytes: {seen:?}", bytes.len());
        assert!(seen.refused > 100 && seen.right > 100, "{seen:?}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_or_right() {
    for closed in [true, false] {
        let (bytes, rows) = file(closed);
        let mut seen = Seen::default();
        let every_64 = (1..bytes.len()).step_by(64);
        for len in (1..400).chain(every_64) {
            let cut = SimDisk::holding(bytes[..len].to_vec());
            if let Err(error) = look(&cut, options(true), &rows, &mut seen) {
                typed(&error, &format!("closed {closed}, cut at {len}"));
            }
            assert_eq!(seen.wrong, 0, "closed {closed}, cut at {len}: other rows");
        }
        println!("closed {closed}, {} bytes: {seen:?}", bytes.len());
        assert!(seen.refused > 100, "{seen:?}");
    }
}

/// Nothing of the log is zeros, also where no commit was yet. So it does not look shorter when its end was zeroed.
#[test]
fn a_log_with_zeros_where_commits_were_or_would_be_next_is_refused() {
    let disk = SimDisk::default();
    let store = Store::open_on(disk.clone(), "simulated", options(true)).unwrap();
    let commits = 9;
    for number in 0..commits {
        let mut batch = Batch::new();
        batch.put(Table::Meta, [number], [number]);
        smol::block_on(store.commit(batch)).unwrap();
    }
    let bytes = disk.bytes();
    drop(store);
    let (start, half) = (4_096, 32 << 10);
    let sector = |number: usize| start + number * 512;
    let one = (0..usize::from(commits) + 1).map(|at| sector(at)..sector(at + 1));
    let to_the_end = (0..usize::from(commits) + 1).map(|at| sector(at)..start + half);
    let other = [start..start + 2 * half, start + half..start + 2 * half];
    for zeros in one.chain(to_the_end).chain(other) {
        let mut zeroed = bytes.clone();
        zeroed[zeros.clone()].fill(0);
        let disk = SimDisk::holding(zeroed.clone());
        let opened = Store::open_on(disk.clone(), "simulated", options(true));
        typed(&opened.unwrap_err(), &format!("zeros in {zeros:?}"));
        assert!(disk.bytes() == zeroed, "{zeros:?}: the file was changed");
    }
}

/// What verification at the start is for: without it, damage between the rows hides some of them. A row that is read is right
/// nevertheless.
#[test]
fn damage_between_rows_is_seen_by_verification_only() {
    let (bytes, rows) = file(true);
    let (mut with, mut without) = (Seen::default(), Seen::default());
    // redb's pages that hold keys and other pages' places begin with this byte.
    const BRANCH: u8 = 2;
    let branches = (4_096..bytes.len())
        .step_by(4_096)
        .filter(|at| bytes[*at] == BRANCH);
    for at in branches.flat_map(|at| (at..at + 1_024).step_by(6)) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let disk = SimDisk::holding(damaged.clone());
        match Store::open_on(disk, "simulated", options(false))
            .and_then(|store| found(&store, &rows))
        {
            Ok(found) if found == rows => without.right += 1,
            Ok(found) => {
                let known = found
                    .iter()
                    .all(|(key, value)| rows.get(key) == Some(value));
                assert!(known, "byte {at}: a row that was never written");
                without.wrong += 1;
                let disk = SimDisk::holding(damaged);
                let refused = look(&disk, options(true), &rows, &mut with);
                typed(&refused.unwrap_err(), &format!("byte {at}"));
            }
            Err(_) => without.refused += 1,
        }
    }
    println!("without verification: {without:?}, with it: {with:?}");
    assert!(
        without.wrong > 0 && with.refused == without.wrong,
        "{without:?}, {with:?}"
    );
}
