//! What a caller sees: order, pages, bounds, errors of files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use std::fs;
use std::time::Duration;

use fanfare_store::{Batch, Error, KeyRange, Options, Order, Read, Row, Store, Table};
use support::{Rows, Workload, all};

mod support;

fn opened(options: Options) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store.redb"), options).unwrap();
    (dir, store)
}

fn commit(store: &Store, batch: Batch) -> Result<(), Error> {
    smol::block_on(store.commit(batch))
}

fn numbers(rows: &[Row]) -> Vec<u64> {
    let number = |row: &Row| u64::from_be_bytes(row.key.as_slice().try_into().unwrap());
    rows.iter().map(number).collect()
}

fn put(number: u64, value: Vec<u8>) -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::Entries, number.to_be_bytes(), value);
    batch
}

#[test]
fn random_batches_leave_what_the_model_has() {
    let mut random = fastrand::Rng::with_seed(21);
    let workload = Workload::new(&mut random, 300);
    let (dir, store) = opened(Options::default());
    let commits: Vec<_> = workload
        .batches
        .iter()
        .map(|batch| store.commit(batch.clone()))
        .collect();
    for (number, commit) in commits.into_iter().enumerate() {
        smol::block_on(commit).unwrap();
        // Later ones are committed meanwhile, so one page is looked at, not all.
        let count = Read::new(Table::Meta, KeyRange::key(support::COUNT));
        let page = smol::block_on(store.read(count)).unwrap();
        let count = u64::from_be_bytes(page.rows[0].value.as_slice().try_into().unwrap());
        assert!(count > number as u64, "a read lacks an answered commit");
    }
    assert_eq!(workload.prefix(&all(&store).unwrap()), 300);
    store.close().unwrap();
    let store = Store::open(dir.path().join("store.redb"), Options::default()).unwrap();
    assert_eq!(workload.prefix(&all(&store).unwrap()), 300);
}

#[test]
fn every_read_has_what_was_answered_before_it_in_both_durabilities() {
    for durability in [
        fanfare_store::Durability::Immediate,
        fanfare_store::Durability::Relaxed,
    ] {
        let (_dir, store) = opened(Options {
            durability,
            ..Options::default()
        });
        std::thread::scope(|threads| {
            for thread in 0..4_u64 {
                let store = &store;
                threads.spawn(move || {
                    for number in 0..50 {
                        let key = thread * 1_000 + number;
                        commit(store, put(key, vec![1])).unwrap();
                        let read = Read::new(Table::Entries, KeyRange::key(&key.to_be_bytes()));
                        let page = smol::block_on(store.read(read)).unwrap();
                        assert_eq!(page.rows.len(), 1, "{durability:?} {key}");
                    }
                });
            }
        });
    }
}

#[test]
fn later_batches_win_whatever_the_group() {
    let (_dir, store) = opened(Options::default());
    let commits: Vec<_> = (0..3_000_u64)
        .map(|n| store.commit(put(1, n.to_le_bytes().to_vec())))
        .collect();
    for commit in commits {
        smol::block_on(commit).unwrap();
    }
    let rows = all(&store).unwrap();
    assert_eq!(
        rows.into_values().collect::<Vec<_>>(),
        [2_999_u64.to_le_bytes()]
    );
}

#[test]
fn a_range_is_read_in_pages_forwards_and_backwards() {
    let (_dir, store) = opened(Options::default());
    for number in 0..100 {
        drop(store.commit(put(number, vec![0; 92])));
    }
    commit(&store, Batch::new()).unwrap();
    let key = u64::to_be_bytes;
    let middle = KeyRange::new(&key(10)[..]..&key(30)[..]);
    let rows = |read: Read| -> Vec<Vec<u64>> {
        let mut pages = Vec::new();
        let mut read = read;
        loop {
            let page = smol::block_on(store.read(read.clone())).unwrap();
            pages.push(numbers(&page.rows));
            let Some(next) = page.next else {
                return pages;
            };
            read.range = next;
        }
    };
    let read = Read::new(Table::Entries, middle.clone());
    let forwards: Vec<u64> = (10..30).collect();
    let backwards: Vec<u64> = (10..30).rev().collect();
    let cases = [
        ("all at once", read.clone(), vec![forwards.clone()]),
        (
            "by rows",
            read.clone().rows(8),
            forwards.chunks(8).map(<[u64]>::to_vec).collect(),
        ),
        (
            "exactly full",
            read.clone().rows(20),
            vec![forwards.clone()],
        ),
        (
            "by bytes",
            read.clone().bytes(1_050),
            forwards.chunks(10).map(<[u64]>::to_vec).collect(),
        ),
        (
            "a row larger than a page",
            read.clone().bytes(1),
            forwards.iter().map(|n| vec![*n]).collect(),
        ),
        (
            "backwards by bytes",
            read.clone().order(Order::Backward).bytes(1_050),
            backwards.chunks(10).map(<[u64]>::to_vec).collect(),
        ),
        (
            "backwards, a row larger than a page",
            read.clone().order(Order::Backward).bytes(0),
            backwards.iter().map(|n| vec![*n]).collect(),
        ),
        (
            "both ends included",
            Read::new(Table::Entries, KeyRange::new(&key(10)[..]..=&key(30)[..]))
                .order(Order::Backward)
                .rows(11),
            vec![(20..=30).rev().collect(), (10..20).rev().collect()],
        ),
        (
            "a key",
            Read::new(Table::Entries, KeyRange::key(&key(7))).bytes(0),
            vec![vec![7]],
        ),
        (
            "backwards",
            read.clone().order(Order::Backward).rows(7),
            backwards.chunks(7).map(<[u64]>::to_vec).collect(),
        ),
        ("no rows", read.clone().rows(0), vec![vec![]]),
        ("another table", Read::new(Table::Ids, middle), vec![vec![]]),
        (
            "a range of nothing",
            Read::new(Table::Entries, KeyRange::new(&b"b"[..]..&b"a"[..])),
            vec![vec![]],
        ),
    ];
    for (name, read, expected) in cases {
        assert_eq!(rows(read), expected, "{name}");
    }
}

/// Each batch puts its number in three tables and moves a window of rows on; more are committed all the while.
#[test]
fn reads_of_one_call_are_of_one_moment() {
    const WINDOW: u64 = 5;
    let (_dir, store) = opened(Options::default());
    let batch = |number: u64| {
        let mut batch = put(number, vec![7; 200]);
        for table in [Table::Rooms, Table::Tasks, Table::Meta] {
            batch.put(table, b"number", number.to_be_bytes());
        }
        if let Some(old) = number.checked_sub(WINDOW) {
            batch.delete(Table::Entries, old.to_be_bytes());
        }
        batch
    };
    (0..WINDOW).for_each(|number| commit(&store, batch(number)).unwrap());
    let number = |table| Read::new(table, KeyRange::key(b"number"));
    let reads = vec![
        number(Table::Rooms),
        Read::new(Table::Entries, KeyRange::all()),
        number(Table::Tasks),
        Read::new(Table::Entries, KeyRange::all())
            .order(Order::Backward)
            .rows(2),
        Read::new(Table::Entries, KeyRange::key(b"none")),
        number(Table::Meta),
    ];
    let mut moments = std::collections::BTreeSet::new();
    for number in WINDOW..1_000 {
        let committed = store.commit(batch(number));
        let pages = smol::block_on(store.read_all(reads.clone())).unwrap();
        let [rooms, forwards, tasks, backwards, none, meta] = &pages[..] else {
            panic!("{} pages for six reads", pages.len());
        };
        let last = u64::from_be_bytes(rooms.rows[0].value.as_slice().try_into().unwrap());
        let window: Vec<u64> = (last + 1 - WINDOW..=last).collect();
        assert_eq!(numbers(&forwards.rows), window, "at {last}");
        assert_eq!(numbers(&backwards.rows), [last, last - 1], "at {last}");
        assert!(backwards.next.is_some() && forwards.next.is_none());
        assert_eq!([&tasks.rows, &meta.rows], [&rooms.rows; 2]);
        assert_eq!(none.rows, []);
        moments.insert(last);
        if number % 50 == 0 {
            smol::block_on(committed).unwrap();
        }
    }
    assert!(moments.len() > 20, "commits went on: {moments:?}");
    assert_eq!(smol::block_on(store.read_all(vec![])).unwrap(), []);
}

/// The largest publish: 1 MiB of data in a task's room and those of 100 users.
#[test]
fn one_value_in_many_rows_is_one_in_memory_and_fits_the_default_bounds() {
    let (_dir, store) = opened(Options::default());
    let value: std::sync::Arc<[u8]> = vec![7; (1 << 20) + 4_096].into();
    let mut batch = Batch::new();
    for room in 0..101_u64 {
        batch.put(Table::Entries, room.to_be_bytes(), value.clone());
    }
    assert_eq!(std::sync::Arc::strong_count(&value), 102);
    assert!(batch.bytes() > 101 << 20, "{}", batch.bytes());
    commit(&store, batch).unwrap();
    let rows = all(&store).unwrap();
    assert_eq!(rows.len(), 101);
    assert!(rows.into_values().all(|row| row[..] == value[..]));
}

#[test]
fn what_waits_is_bounded_in_number_and_bytes_and_fullness_says_so() {
    // A group that waits for a long time keeps the queue as it is.
    let slow = Options {
        queue_batches: 10,
        queue_bytes: 10_000,
        ..Options::default()
    };
    let cases = [("number", 1, "batches"), ("bytes", 4_000, "bytes")];
    for (name, size, word) in cases {
        let (_dir, store) = opened(slow.clone());
        let commits: Vec<_> = (0..50_000)
            .map(|n| store.commit(put(n % 100, vec![0; size])))
            .collect();
        let mut refused = 0;
        for commit in commits {
            match smol::block_on(commit) {
                Ok(()) => {}
                Err(error @ Error::QueueFull { .. }) => {
                    assert!(error.to_string().contains(word), "{name}: {error}");
                    refused += 1;
                }
                Err(error) => panic!("{name}: {error}"),
            }
        }
        assert!(refused > 100, "{name}: {refused} of 50,000 refused");
        commit(&store, Batch::new()).unwrap();
    }
    let (_dir, store) = opened(Options {
        queue_reads: 4,
        read_threads: 1,
        ..Options::default()
    });
    for number in 0..2_000 {
        drop(store.commit(put(number, vec![0; 100])));
    }
    commit(&store, Batch::new()).unwrap();
    let reads: Vec<_> = (0..500)
        .map(|_| store.read(Read::new(Table::Entries, KeyRange::all())))
        .collect();
    let full = |error: &Error| matches!(error, Error::QueueFull { what: "reads" });
    let results: Vec<_> = reads.into_iter().map(smol::block_on).collect();
    assert!(
        results
            .iter()
            .any(|result| result.as_ref().is_err_and(full))
    );
    assert!(
        results
            .iter()
            .all(|result| result.as_ref().err().is_none_or(full))
    );
    let many = |reads| store.read_all(vec![Read::new(Table::Rooms, KeyRange::all()); reads]);
    assert_eq!(smol::block_on(many(4)).unwrap().len(), 4);
    assert!(full(&smol::block_on(many(5)).unwrap_err()));
}

#[test]
fn what_can_never_be_stored_is_refused_at_once() {
    let (_dir, store) = opened(Options::default());
    let mut long_key = Batch::new();
    long_key.put(Table::Rooms, vec![0; 1_025], []);
    let mut long_range = Batch::new();
    long_range.delete_range(Table::Rooms, KeyRange::key(&[0; 1_025]));
    let mut large = Batch::new();
    for _ in 0..9 {
        large.put(Table::Rooms, b"a", vec![0; 15 << 20]);
    }
    let cases = [
        ("key", long_key),
        ("key", long_range),
        ("value", put(1, vec![0; (16 << 20) + 1])),
        ("batch", large),
    ];
    for (what, batch) in cases {
        let error = commit(&store, batch).unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { what: found, .. } if found == what),
            "{error}"
        );
    }
    let mut largest = Batch::new();
    largest
        .put(Table::Rooms, vec![9; 1_024], vec![1; 16 << 20])
        .put(Table::Rooms, b"", *b"");
    commit(&store, largest).unwrap();
    let rows: Rows = all(&store).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[&(Table::Rooms, vec![9; 1_024])], vec![1; 16 << 20]);
}

#[cfg(unix)]
#[test]
fn a_file_that_is_no_longer_there_takes_nothing_more() {
    for (name, large) in [
        ("removed", false),
        ("replaced", false),
        ("moved", false),
        // Too large for the log.
        ("moved", true),
    ] {
        let (dir, store) = opened(Options {
            log_bytes: 64 << 10,
            ..Options::default()
        });
        commit(&store, put(1, vec![])).unwrap();
        let (file, moved) = (dir.path().join("store.redb"), dir.path().join("moved"));
        match name {
            "removed" => fs::remove_file(&file).unwrap(),
            "replaced" => {
                fs::copy(&file, &moved).unwrap();
                fs::rename(&moved, &file).unwrap();
            }
            _ => fs::rename(&file, &moved).unwrap(),
        }
        for _ in 0..2 {
            let value = vec![7; if large { 100_000 } else { 1 }];
            let error = commit(&store, put(2, value)).unwrap_err();
            assert!(matches!(error, Error::Replaced { .. }), "{name}: {error}");
            assert!(error.to_string().contains("put the file back"), "{error}");
        }
        // What passed the log by was in the tables before that was seen.
        let rows = all(&store).unwrap().len();
        assert_eq!(rows, 1 + usize::from(large), "{name}: it is still read");
        // What went wrong was said.
        store.close().unwrap();
        if name == "moved" {
            fs::rename(&moved, &file).unwrap();
            let store = Store::open(&file, Options::default()).unwrap();
            commit(&store, put(3, vec![])).unwrap();
        }
    }
}

#[test]
fn closing_commits_what_was_taken() {
    let (dir, store) = opened(Options {
        group_wait: Duration::from_secs(3_600),
        ..Options::default()
    });
    let commits: Vec<_> = (0..500).map(|n| store.commit(put(n, vec![]))).collect();
    store.close().unwrap();
    for commit in commits {
        smol::block_on(commit).unwrap();
    }
    let store = Store::open(dir.path().join("store.redb"), Options::default()).unwrap();
    assert_eq!(all(&store).unwrap().len(), 500);
}

#[test]
fn a_file_that_keeps_its_rows_keeps_its_size() {
    let (dir, store) = opened(Options::default());
    let mut sizes = Vec::new();
    for round in 0..4_u64 {
        for number in 0..500_u64 {
            let mut batch = put(round * 500 + number, vec![7; 300]);
            if let Some(old) = (round * 500 + number).checked_sub(500) {
                batch.delete(Table::Entries, old.to_be_bytes());
            }
            drop(store.commit(batch));
            if number % 20 == 0 {
                commit(&store, Batch::new()).unwrap();
            }
        }
        sizes.push(fs::metadata(dir.path().join("store.redb")).unwrap().len());
    }
    assert!(sizes[3] <= sizes[1], "the file grows: {sizes:?}");
}

/// Each gives an error of its own, which names the file and what to do; the file is left as it was.
#[test]
fn a_file_that_is_no_store_of_ours_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(
        path("text"),
        "some text that is longer than a header".repeat(100),
    )
    .unwrap();
    fs::write(path("short"), "x").unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::create_dir(path("directory")).unwrap();
    let foreign = redb::Database::create(path("foreign")).unwrap();
    let write = foreign.begin_write().unwrap();
    let table: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("theirs");
    write.open_table(table).unwrap().insert(1, 1).unwrap();
    write.commit().unwrap();
    drop(foreign);
    let open = Store::open(path("open"), Options::default()).unwrap();
    let not_made = Options {
        create: false,
        ..Options::default()
    };
    let cases = [
        ("text", Options::default(), "not a Fanfare store"),
        ("short", Options::default(), "not a Fanfare store"),
        ("empty", Options::default(), "it is empty"),
        (
            "directory",
            Options::default(),
            "check the disk and the file",
        ),
        ("foreign", Options::default(), "has format 1"),
        ("open", Options::default(), "stop that process"),
        ("missing/store", Options::default(), "create the directory"),
        ("text/store", Options::default(), "create the directory"),
        ("absent", not_made.clone(), "no such file"),
        ("missing/store", not_made, "no such file"),
    ];
    for (name, options, words) in cases {
        let before = fs::read(path(name)).ok();
        let error = Store::open(path(name), options).unwrap_err().to_string();
        assert!(error.contains(words), "{name}: {error}");
        assert!(
            error.contains(path(name).to_str().unwrap()),
            "{name}: {error}"
        );
        assert_eq!(fs::read(path(name)).ok(), before, "{name} was changed");
    }
    drop(open);
    let left: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".new")),
        "{left:?}"
    );
}

#[test]
fn a_newer_format_is_refused_and_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    Store::open(&file, Options::default())
        .unwrap()
        .close()
        .unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[16..20].copy_from_slice(&7_u32.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let error = Store::open(&file, Options::default()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::NewerFormat {
                found: 7,
                known: 3,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("run the version that wrote it"),
        "{error}"
    );
}

#[test]
fn a_file_is_named_when_it_is_whole_and_what_a_crash_left_of_it_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("store.redb.new"), "half").unwrap();
    Store::open(dir.path().join("store.redb"), Options::default()).unwrap();
    assert!(!dir.path().join("store.redb.new").exists());
}
