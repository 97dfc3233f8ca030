//! No number is told twice in one epoch: the real process on a store that was put back, and after the system went down.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use fanfare_store::{Batch, KeyRange, Options, Read, Store, Table};
use rustix::process::Signal;
use serde_json::Value;
use server::raw::Raw;
use server::scene::{NOTIFICATIONS, open};
use server::{Server, command, token};

const RELAXED: [&str; 2] = ["--durability", "relaxed"];

/// A folder for a server's data.
struct Data(tempfile::TempDir);

impl Data {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("fanfare.redb")
    }

    fn start(&self, more: &[&str]) -> Server {
        let folder = self.0.path().to_str().unwrap();
        Server::start(&[&["--data", folder], more].concat())
    }

    /// A task of `store`, which has to be done.
    fn store(&self, arguments: &[&str]) {
        let folder = self.0.path().to_str().unwrap();
        let arguments = [&["store", "--data", folder], arguments].concat();
        let output = command(&arguments, &[]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    /// The boot with which the store is marked.
    fn mark(&self) -> Option<String> {
        let store = Store::open(self.file(), Options::default()).unwrap();
        let read = Read::new(Table::Meta, KeyRange::key(b"relaxed"));
        let page = smol::block_on(store.read(read)).unwrap();
        let row = page.rows.into_iter().next();
        row.map(|row| String::from_utf8(row.value).unwrap())
    }

    /// Marks it as one that was written in this boot.
    fn set_mark(&self, boot: &str) {
        let store = Store::open(self.file(), Options::default()).unwrap();
        let mut batch = Batch::new();
        batch.put(Table::Meta, b"relaxed", boot.as_bytes());
        smol::block_on(store.commit(batch)).unwrap();
        store.close().unwrap();
    }
}

/// Publishes to user 7. Where it is, as a client may name it.
fn note(server: &Server, data: u64) -> String {
    let body = format!(r#"{{"type":"user:notification","data":{data}}}"#);
    let answer = server.publish("/v1/users/7/events", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let room = &answer.json()["rooms"]["user:7"];
    format!("{}:{}", room["epoch"].as_str().unwrap(), room["seq"])
}

/// Publishes so many. Where the last one is.
fn notes(server: &Server, numbers: RangeInclusive<u64>) -> String {
    let mut last = String::new();
    for number in numbers {
        last = note(server, number);
    }
    last
}

fn end(server: Server, signal: Signal) -> String {
    server.signal(signal);
    server.wait().1
}

fn resume(server: &Server, position: &str) -> (Raw, Value) {
    let path = format!("{NOTIFICATIONS}?since=user:7@{position}");
    let (client, welcome) = open(server, &path, &token());
    (client, welcome["data"]["rooms"]["user:7"].clone())
}

/// The epoch of a position.
fn epoch(position: &str) -> &str {
    position.split_once(':').unwrap().0
}

/// A client at `position`, which is lost, is told a gap, then gets what is new, and can resume from there.
fn expect_a_gap(server: &Server, position: &str, head: u64, row: &str) {
    let (mut client, room) = resume(server, position);
    assert_eq!(room["recovered"], false, "{row}: {room}");
    assert_eq!(room["seq"], head, "{row}: {room}");
    assert_ne!(room["epoch"], epoch(position), "{row}: {room}");
    let gap = client.json();
    assert_eq!(gap["type"], "system:gap", "{row}: {gap}");
    assert_eq!(gap["data"]["reason"], "epoch", "{row}: {gap}");
    assert_eq!(gap["data"]["to"], head, "{row}: {gap}");
    let new = note(server, 900);
    let event = client.json();
    assert_eq!(event["data"], 900, "{row}: {event}");
    assert_eq!(event["rooms"]["user:7"], head + 1, "{row}: {event}");
    note(server, 901);
    let (mut client, room) = resume(server, &new);
    assert_eq!(room["recovered"], true, "{row}: {room}");
    assert_eq!(client.json()["data"], 901, "{row}");
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_file(to);
    fs::copy(from, to).unwrap();
}

#[test]
fn who_saw_what_a_restored_backup_does_not_have_is_told_a_gap() {
    type Restore = fn(&Data);
    let import: Restore = |data| {
        fs::remove_file(data.file()).unwrap();
        data.store(&["import", data.path("backup.jsonl").to_str().unwrap()]);
    };
    let put_back: Restore = |data| {
        copy(&data.path("copy"), &data.file());
        data.store(&["new-epochs"]);
    };
    for (row, restore) in [("imported", import), ("a copy put back", put_back)] {
        let data = Data::new();
        let server = data.start(&[]);
        let kept = notes(&server, 1..=3);
        end(server, Signal::TERM);
        data.store(&["export", data.path("backup.jsonl").to_str().unwrap()]);
        copy(&data.file(), &data.path("copy"));
        let server = data.start(&[]);
        assert_eq!(resume(&server, &kept).1["recovered"], true, "{row}");
        let lost = notes(&server, 4..=5);
        end(server, Signal::KILL);

        restore(&data);
        let server = data.start(&[]);
        // The numbers of what is lost are given again, and more.
        let (mut live, _) = open(&server, NOTIFICATIONS, &token());
        for (number, seq) in (104..=107).zip(4..) {
            note(&server, number);
            assert_eq!(live.json()["rooms"]["user:7"], seq, "{row}");
        }
        expect_a_gap(&server, &lost, 7, row);
        expect_a_gap(&server, &kept, 9, row);
        end(server, Signal::KILL);
        // The log goes on, and so do the new epochs.
        let server = data.start(&[]);
        let last = note(&server, 1);
        assert!(last.ends_with(":12"), "{row}: {last}");
        end(server, Signal::TERM);
        assert_eq!(epoch(&note(&data.start(&[]), 1)), epoch(&last), "{row}");
    }
}

#[test]
fn a_store_that_is_moved_by_export_and_import_keeps_its_epochs_if_that_is_asked_for() {
    let (old, new) = (Data::new(), Data::new());
    let server = old.start(&[]);
    let positions: Vec<_> = (1..=3).map(|number| note(&server, number)).collect();
    end(server, Signal::TERM);
    let export = new.path("export.jsonl");
    old.store(&["export", export.to_str().unwrap()]);
    new.store(&["import", "--keep-epochs", export.to_str().unwrap()]);
    let server = new.start(&[]);
    let (mut client, room) = resume(&server, &positions[1]);
    assert_eq!(room["recovered"], true, "{room}");
    assert_eq!(client.json()["data"], 3);
}

#[test]
fn a_relaxed_store_begins_new_epochs_after_another_boot_unless_it_ended_in_order() {
    const SAID: &str = "all rooms begin a new epoch";
    for (row, durability, signal, is_rebooted, next, is_new) in [
        (
            "killed",
            &RELAXED[..],
            Signal::KILL,
            false,
            &RELAXED[..],
            false,
        ),
        (
            "killed, and a reboot",
            &RELAXED,
            Signal::KILL,
            true,
            &RELAXED,
            true,
        ),
        (
            "a reboot, then immediate",
            &RELAXED,
            Signal::KILL,
            true,
            &[],
            true,
        ),
        (
            "killed, then immediate",
            &RELAXED,
            Signal::KILL,
            false,
            &[],
            false,
        ),
        (
            "an orderly end",
            &RELAXED,
            Signal::TERM,
            false,
            &RELAXED,
            false,
        ),
        (
            "immediate, killed",
            &[],
            Signal::KILL,
            false,
            &RELAXED,
            false,
        ),
    ] {
        let data = Data::new();
        let server = data.start(durability);
        notes(&server, 1..=2);
        if is_rebooted {
            // What the disk has when the power goes: all but the last event.
            copy(&data.file(), &data.path("copy"));
        }
        let last = note(&server, 3);
        let log = end(server, signal);
        assert!(!log.contains(SAID), "{row}: {log}");
        let mark = data.mark();
        let is_marked = !durability.is_empty() && signal == Signal::KILL;
        assert_eq!(mark.is_some(), is_marked, "{row}: {mark:?}");
        if is_rebooted {
            copy(&data.path("copy"), &data.file());
            assert_eq!(
                data.mark(),
                mark,
                "{row}: marked before anything is answered"
            );
            data.set_mark("00000000-0000-0000-0000-000000000000");
        }
        let server = data.start(next);
        if is_new {
            expect_a_gap(&server, &last, 2, row);
        } else {
            let (_, room) = resume(&server, &last);
            assert_eq!(room["recovered"], true, "{row}: {room}");
        }
        let position = note(&server, 4);
        let log = end(server, Signal::KILL);
        assert_eq!(
            log.matches(SAID).count(),
            usize::from(is_new),
            "{row}: {log}"
        );
        let is_marked = !next.is_empty();
        assert_eq!(data.mark().is_some(), is_marked, "{row}: by the second one");
        // Within the same boot that is for good.
        let server = data.start(next);
        assert_eq!(resume(&server, &position).1["recovered"], true, "{row}");
        let log = end(server, Signal::TERM);
        assert!(!log.contains(SAID), "{row}: {log}");
        assert_eq!(data.mark(), None, "{row}: after an orderly end");
    }
}

#[test]
fn a_relaxed_store_that_nobody_writes_to_is_not_marked() {
    let data = Data::new();
    end(data.start(&[]), Signal::TERM);
    let server = data.start(&RELAXED);
    drop(open(&server, NOTIFICATIONS, &token()));
    end(server, Signal::KILL);
    assert_eq!(data.mark(), None);
}
