//! Real processes: killed with SIGKILL while they commit, and out of space by a limit on the file and on a small file system.
//!
//! Each test starts this executable again, as the process that is killed or limited.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]
#![cfg(unix)]

use std::io::{BufRead, BufReader, Read as _, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fanfare_store::{
    Batch, Durability, Error, KeyRange, Options, Read, Store, Table, check, compact,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const FILE: &str = "FANFARE_STORE_TEST_FILE";
const RELAXED: &str = "FANFARE_STORE_TEST_RELAXED";
const BALLAST: &str = "FANFARE_STORE_TEST_BALLAST";

/// This executable, to run one of its tests in a process of its own.
fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(FILE, file);
    command
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// A batch of which any half would show: two rows in two tables, and the number in a third.
fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    let len = usize::try_from(number % 700).unwrap();
    batch
        .put(
            Table::Entries,
            key(number),
            vec![number.to_le_bytes()[0]; len],
        )
        .put(Table::Ids, key(number), key(number))
        .put(Table::Meta, b"last", key(number));
    if number > 2_000 {
        batch.delete_range(Table::Entries, KeyRange::new(..&key(number - 2_000)[..]));
        batch.delete_range(Table::Ids, KeyRange::new(..&key(number - 2_000)[..]));
    }
    batch
}

fn last(store: &Store) -> u64 {
    let read = Read::new(Table::Meta, KeyRange::key(b"last"));
    let page = smol::block_on(store.read(read)).unwrap();
    let number = |value: &[u8]| u64::from_be_bytes(value.try_into().unwrap());
    page.rows.first().map_or(0, |row| number(&row.value))
}

/// Checks that the rows are those of all batches up to the last one, and gives its number.
fn prefix(store: &Store) -> u64 {
    let last = last(store);
    for table in [Table::Entries, Table::Ids] {
        let mut expected = last.saturating_sub(2_000).max(1);
        let mut next = Some(KeyRange::all());
        while let Some(range) = next {
            let page = smol::block_on(store.read(Read::new(table, range))).unwrap();
            for row in page.rows {
                assert_eq!(row.key, key(expected), "{table}");
                let len = usize::try_from(expected % 700).unwrap();
                let value = vec![expected.to_le_bytes()[0]; len];
                assert!(table == Table::Ids || row.value == value, "{expected}");
                expected += 1;
            }
            next = page.next;
        }
        assert_eq!(expected, last + 1, "{table}");
    }
    last
}

/// Not a test of its own: commits until it is killed, and prints the number of each batch that was answered.
#[test]
fn child_that_commits() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let durability = match std::env::var_os(RELAXED) {
        Some(_) => Durability::Relaxed,
        None => Durability::Immediate,
    };
    let options = Options {
        durability,
        ..Options::default()
    };
    let store = Store::open(file, options).unwrap();
    let mut output = std::io::stdout();
    writeln!(output, "open").unwrap();
    let mut number = last(&store);
    loop {
        let commits: Vec<_> = (0..number % 40 + 1)
            .map(|_| {
                number += 1;
                (number, store.commit(batch(number)))
            })
            .collect();
        for (number, commit) in commits {
            smol::block_on(commit).unwrap();
            writeln!(output, "answered {number}").unwrap();
        }
    }
}

fn killed(durability: Durability, times: usize, seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut answered = 0;
    for time in 0..times {
        let mut command = child("child_that_commits", &file);
        if durability == Durability::Relaxed {
            command.env(RELAXED, "1");
        }
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        // The first ones while it makes the file, the others after some answers.
        let lines = if time < 5 { time } else { random.usize(1..400) };
        let mut see = |line: &str| {
            if let Some(number) = line.trim().strip_prefix("answered ") {
                answered = number.parse::<u64>().unwrap();
            }
        };
        for _ in 0..lines {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            see(&line);
        }
        process.kill().unwrap();
        process.wait().unwrap();
        // What it had said already. A line that was cut off by the kill is not an answer that anybody saw.
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        rest.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .for_each(see);

        let options = Options::default();
        let store =
            Store::open(&file, options).unwrap_or_else(|error| panic!("kill {time}: {error}"));
        let kept = prefix(&store);
        assert!(
            kept >= answered,
            "kill {time}: {kept} batches, {answered} were answered"
        );
        store.close().unwrap();
    }
    println!("{durability:?}: {times} kills, {answered} batches");
    assert!(answered > 1_000, "only {answered} batches");
}

#[test]
fn what_was_answered_survives_kill_9() {
    killed(Durability::Immediate, 60, 1);
}

#[test]
fn what_was_answered_survives_kill_9_when_relaxed() {
    killed(Durability::Relaxed, 30, 2);
}

/// Commits until there is no space; checks that all is read and that only whole batches are there; then makes space.
fn until_full_and_on(file: &Path, make_space: impl FnOnce()) {
    let options = Options {
        log_bytes: 256 << 10,
        ..Options::default()
    };
    let store = Store::open(file, options.clone()).unwrap();
    let mut taken = 0;
    let mut large = |store: &Store| {
        let mut batch = batch(taken + 1);
        batch.put(Table::Rooms, key(taken + 1), vec![1; 50_000]);
        let result = smol::block_on(store.commit(batch));
        taken += u64::from(result.is_ok());
        result
    };
    let error = (0..10_000)
        .find_map(|_| large(&store).err())
        .expect("never full");
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.to_string().contains("store.redb"), "{error}");
    for _ in 0..5 {
        let error = large(&store).unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        prefix(&store);
    }
    store.close().unwrap();
    check(file, &mut |_| {}).unwrap();
    let error = compact(file, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    let store = Store::open(file, options).unwrap();
    make_space();
    large(&store).unwrap();
    large(&store).unwrap();
    assert_eq!(prefix(&store), taken);
    store.close().unwrap();
    let store = Store::open(file, Options::default()).unwrap();
    assert_eq!(prefix(&store), taken);
    store.close().unwrap();
    println!("{taken} batches");
}

/// Not a test of its own: what runs under the limit.
#[test]
fn child_with_a_limit() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    until_full_and_on(Path::new(&file), || {
        let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
        setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    });
}

#[test]
fn a_limit_on_the_files_size_is_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let inner = child("child_with_a_limit", &dir.path().join("store.redb"));
    // The limit's signal would end the process, and what a shell ignores stays ignored.
    let script = "trap '' XFSZ; ulimit -S -f 8192; exec \"$@\"";
    let mut outer = Command::new("sh");
    outer.args(["-c", script, "sh"]).arg(inner.get_program());
    outer
        .args(inner.get_args())
        .env(FILE, dir.path().join("store.redb"));
    let done = outer.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(
        said.contains(" batches"),
        "the limited process did nothing: {said}"
    );
}

/// Not a test of its own: what runs on the small file system.
#[test]
fn child_on_a_small_file_system() {
    let (Some(file), Some(ballast)) = (std::env::var_os(FILE), std::env::var_os(BALLAST)) else {
        return;
    };
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    until_full_and_on(Path::new(&file), || std::fs::remove_file(&ballast).unwrap());
}

/// Where a process may mount a tmpfs of its own; elsewhere the limit on the file's size stands for it.
#[test]
fn a_full_file_system_refuses_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let inner = child(
        "child_on_a_small_file_system",
        &dir.path().join("store.redb"),
    );
    let mount = "mount -t tmpfs -o size=12m none \"$1\" || exit 77; shift; exec \"$@\"";
    let mut outer = Command::new("unshare");
    outer
        .args(["-Urm", "sh", "-c", mount, "sh"])
        .arg(dir.path());
    outer.arg(inner.get_program()).args(inner.get_args());
    outer.env(FILE, dir.path().join("store.redb"));
    outer.env(BALLAST, dir.path().join("ballast"));
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match outer.output() {
        Ok(done) if done.status.success() => {
            assert!(
                said(&done.stdout).contains(" batches"),
                "{}",
                said(&done.stdout)
            );
        }
        Ok(done) if said(&done.stdout).is_empty() => {
            eprintln!(
                "NOT TESTED: no tmpfs can be mounted here: {}",
                said(&done.stderr)
            );
        }
        Ok(done) => panic!("{}{}", said(&done.stdout), said(&done.stderr)),
        Err(error) => eprintln!("NOT TESTED: no tmpfs can be mounted here: unshare: {error}"),
    }
}

/// Not a test of its own: what runs as a user who may not read the file.
#[test]
fn child_without_permission() {
    let Some(file) = std::env::var_os(FILE) else {
        return;
    };
    let error = Store::open(file, Options::default()).unwrap_err();
    assert!(matches!(error, Error::Permission { .. }), "{error}");
    assert!(error.to_string().contains("read and write the file"));
    println!("refused");
}

#[test]
fn a_file_without_permission_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    Store::open(&file, Options::default())
        .unwrap()
        .close()
        .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = child("child_without_permission", &file);
    if std::fs::File::open(&file).is_ok() {
        // Root may read everything; `nobody` may not.
        command.uid(65_534).current_dir("/");
    }
    match command.output() {
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(said.contains("refused"), "{said}");
        }
        Err(error) => eprintln!("NOT TESTED: no process can run as `nobody`: {error}"),
    }
}

#[test]
fn a_new_store_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.redb");
    let store = Store::open(&file, Options::default()).unwrap();
    store.close().unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
