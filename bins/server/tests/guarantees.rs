//! `docs/guarantees.md` names each promise twice, with what it is and with the tests that show it; those are there.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The cells of the table that follows this heading line.
fn table(document: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = document.lines().skip_while(|line| *line != heading);
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// The names of all tests below a folder.
fn tests(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for rest in text.split("#[test]").skip(1) {
                let name = rest.split_once("fn ").unwrap().1;
                names.insert(name.split_once('(').unwrap().0.to_owned());
            }
        }
    }
}

#[test]
fn every_promise_has_tests_and_they_are_there() {
    let document = fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let exactly = table(&document, "| promise | exactly | kept by |");
    let shown = table(&document, "| promise | its limits | tests |");
    let names = |rows: &[Vec<String>]| -> Vec<String> {
        rows.iter().filter_map(|row| row.first().cloned()).collect()
    };
    assert!(!exactly.is_empty());
    assert_eq!(names(&exactly), names(&shown));
    let mut there = BTreeSet::new();
    for folder in [
        "core/src",
        "transports/websocket/src",
        "transports/loopback/tests",
        "transports/store/tests",
        "transports/websocket/tests",
        "bins/server/tests",
    ] {
        tests(&root().join(folder), &mut there);
    }
    for row in &shown {
        let named: Vec<&str> = row.last().unwrap().split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{row:?}");
        for name in named {
            assert!(there.contains(name), "{name} is no test");
        }
    }
}
