//! Check, export, import, compact.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use std::fs;
use std::path::Path;

use fanfare_store::{
    Batch, Error, KeyRange, Options, Progress, Store, Table, check, compact, export, import,
};
use support::{Rows, Workload, all};

mod support;

/// A store with rows, closed or left as a killed process leaves it.
fn store(dir: &Path, closed: bool) -> Rows {
    let mut random = fastrand::Rng::with_seed(31);
    let workload = Workload::new(&mut random, 200);
    let file = dir.join("store.redb");
    let open = dir.join("open.redb");
    let store = Store::open(&open, Options::default()).unwrap();
    for batch in &workload.batches {
        drop(store.commit(batch.clone()));
    }
    smol::block_on(store.commit(Batch::new())).unwrap();
    let rows = all(&store).unwrap();
    if closed {
        store.close().unwrap();
        fs::rename(open, file).unwrap();
    } else {
        fs::copy(&open, file).unwrap();
    }
    rows
}

/// Progress that rises to its total.
fn rising() -> (
    impl FnMut(Progress),
    std::rc::Rc<std::cell::Cell<Option<Progress>>>,
) {
    let last = std::rc::Rc::new(std::cell::Cell::new(None::<Progress>));
    let seen = last.clone();
    let report = move |progress: Progress| {
        if let Some(before) = seen.get() {
            assert!(progress.done >= before.done && progress.total == before.total);
        }
        assert!(progress.done <= progress.total);
        seen.set(Some(progress));
    };
    (report, last)
}

#[test]
fn check_counts_every_row_and_writes_nothing() {
    for closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.redb");
        let rows = store(dir.path(), closed);
        let before = fs::read(&file).unwrap();
        let (mut report, last) = rising();
        let checked = check(&file, &mut report).unwrap();
        let total: u64 = checked.rows.iter().map(|(_, rows)| rows).sum();
        assert_eq!(total, rows.len() as u64);
        assert_eq!(last.get(), Some(Progress { done: total, total }));
        assert_eq!(checked.bytes, before.len() as u64);
        assert!(
            fs::read(&file).unwrap() == before,
            "closed {closed}: check wrote"
        );
    }
}

#[test]
fn what_is_exported_can_be_imported_and_is_the_same() {
    for closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let rows = store(dir.path(), closed);
        let mut lines = Vec::new();
        let (mut report, last) = rising();
        let exported = export(dir.path().join("store.redb"), &mut lines, &mut report).unwrap();
        assert_eq!(exported, rows.len() as u64);
        assert_eq!(last.get().unwrap().done, exported);

        let copy = dir.path().join("copy.redb");
        let (mut report, last) = rising();
        assert_eq!(
            import(&copy, &mut lines.as_slice(), &Batch::new(), &mut report).unwrap(),
            exported
        );
        assert_eq!(last.get().unwrap().done, exported);
        let mut again = Vec::new();
        export(&copy, &mut again, &mut |_| {}).unwrap();
        assert!(again == lines);
        let store = Store::open(&copy, Options::default()).unwrap();
        assert!(all(&store).unwrap() == rows);
        let error = import(&copy, &mut lines.as_slice(), &Batch::new(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
    }
}

#[test]
fn an_import_of_anything_else_is_refused_with_its_line_and_leaves_no_file() {
    let head = "{\"format\":2,\"rows\":2}\n";
    let row = "{\"table\":\"meta\",\"key\":\"YQ\",\"value\":\"Yg\"}\n";
    let other = "{\"table\":\"meta\",\"key\":\"Yg\",\"value\":\"Yg\"}\n";
    let cases = [
        ("nothing", String::new(), 1),
        ("no head", row.to_owned(), 1),
        ("text", "hello\n".to_owned(), 1),
        ("cut after a row", format!("{head}{row}"), 2),
        ("cut in a row", format!("{head}{row}{}", &other[..20]), 3),
        ("a row twice", format!("{head}{row}{row}"), 3),
        ("a row too many", format!("{head}{row}{other}{other}"), 4),
        (
            "an unknown table",
            format!("{head}{}", row.replace("meta", "letters")),
            2,
        ),
        ("no base64", format!("{head}{}", row.replace("YQ", "Y!")), 2),
        (
            "a field too many",
            format!("{head}{}", row.replace('}', ",\"more\":1}")),
            2,
        ),
    ];
    for (name, text, at) in cases {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.redb");
        let error = import(&file, &mut text.as_bytes(), &Batch::new(), &mut |_| {}).unwrap_err();
        assert!(
            matches!(error, Error::BadImport { line, .. } if line == at),
            "{name}: {error}"
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "{name}: a file is left"
        );
    }
    let newer = "{\"format\":9,\"rows\":0}\n";
    let dir = tempfile::tempdir().unwrap();
    let error = import(
        dir.path().join("new"),
        &mut newer.as_bytes(),
        &Batch::new(),
        &mut |_| {},
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::NewerFormat { found: 9, .. }),
        "{error}"
    );
}

#[test]
fn compact_gives_space_back_and_keeps_every_row() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    store(dir.path(), true);
    let store = Store::open(&file, Options::default()).unwrap();
    let mut batch = Batch::new();
    for number in 0..2_000_u64 {
        batch.put(Table::Entries, number.to_be_bytes(), vec![1; 2_000]);
    }
    smol::block_on(store.commit(batch)).unwrap();
    let mut batch = Batch::new();
    batch.delete_range(
        Table::Entries,
        KeyRange::new(..&1_990_u64.to_be_bytes()[..]),
    );
    smol::block_on(store.commit(batch)).unwrap();
    let rows = all(&store).unwrap();
    store.close().unwrap();
    let (mut report, last) = rising();
    let compacted = compact(&file, &mut report).unwrap();
    assert_eq!(last.get().unwrap().done, rows.len() as u64);
    assert_eq!(compacted.after, fs::metadata(&file).unwrap().len());
    println!("{compacted:?}");
    assert!(compacted.after <= compacted.before);
    let log = Options::default().log_bytes as u64;
    assert!(compacted.after < log + (2 << 20), "{compacted:?}");
    check(&file, &mut |_| {}).unwrap();
    let store = Store::open(&file, Options::default()).unwrap();
    assert!(all(&store).unwrap() == rows);
}

#[test]
fn none_of_them_touches_a_file_that_is_open_or_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    let rows = store(dir.path(), true);
    let open = Store::open(&file, Options::default()).unwrap();
    let all_three = || {
        [
            check(&file, &mut |_| {}).unwrap_err(),
            export(&file, &mut Vec::new(), &mut |_| {}).unwrap_err(),
            compact(&file, &mut |_| {}).unwrap_err(),
        ]
    };
    for error in all_three() {
        assert!(matches!(error, Error::Locked { .. }), "{error}");
    }
    open.close().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    // Where a row is, every copy of it: what is free in the file changes with how batches were grouped, and is no damage.
    let value = rows.values().max_by_key(|value| value.len()).unwrap();
    let copies = bytes.windows(value.len()).enumerate();
    let copies: Vec<usize> = copies
        .filter(|(_, window)| window == value)
        .map(|(at, _)| at)
        .collect();
    assert!(!copies.is_empty());
    for at in copies {
        bytes[at] ^= 0xa5;
    }
    fs::write(&file, &bytes).unwrap();
    for error in all_three() {
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }
    assert!(fs::read(&file).unwrap() == bytes);
}
