//! `fanfare-server store` on real stores.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fanfare_store::{Batch, KeyRange, Options, Store, Table};
use server::command;

type Done = (Option<i32>, String, String);

fn run(folder: &Path, arguments: &[&str], input: Option<&Path>) -> Done {
    let mut command = command(&[&["store"], arguments].concat(), &[]);
    command.env("FANFARE_DATA", folder);
    if let Some(input) = input {
        command.stdin(File::open(input).unwrap());
    }
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn file(folder: &Path) -> PathBuf {
    folder.join("fanfare.redb")
}

fn open(folder: &Path) -> Store {
    Store::open(file(folder), Options::default()).unwrap()
}

/// A folder with a store of 300 events.
fn stored() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut batch = Batch::new();
    for number in 0..300_u64 {
        batch.put(Table::Entries, number.to_be_bytes(), vec![7; 2_000]);
    }
    batch.put(Table::Meta, b"store", *b"{}");
    smol::block_on(store.commit(batch)).unwrap();
    store.close().unwrap();
    dir
}

#[test]
fn check_counts_what_is_there_and_changes_nothing() {
    let dir = stored();
    let before = fs::read(file(dir.path())).unwrap();
    let (code, out, error) = run(dir.path(), &["check"], None);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let file = file(dir.path());
    let expected = format!("{}: good, 301 rows (entries 300, meta 1), ", file.display());
    assert!(out.starts_with(&expected) && out.ends_with("iB\n"), "{out}");
    assert!(fs::read(file).unwrap() == before);
    // A flag goes over the environment, before the task or behind it.
    let folder = dir.path().to_str().unwrap();
    for arguments in [["--data", folder, "check"], ["check", "--data", folder]] {
        assert_eq!(run(Path::new("/nowhere"), &arguments, None).1, out);
    }
}

#[test]
fn what_is_exported_can_be_imported_and_is_the_same() {
    let dir = stored();
    let (code, lines, said) = run(dir.path(), &["export"], None);
    assert_eq!((code, lines.lines().count()), (Some(0), 302), "{said}");
    assert!(said.ends_with(": 301 rows exported\n"), "{said}");

    let backup = dir.path().join("backup.jsonl");
    let name = backup.to_str().unwrap();
    let (code, out, _) = run(dir.path(), &["export", name], None);
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(fs::read_to_string(&backup).unwrap() == lines);
    assert_eq!(
        fs::metadata(&backup).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (code, _, error) = run(dir.path(), &["export", name], None);
    assert_eq!(code, Some(1), "an export must not be overwritten");
    assert!(error.contains(name) && error.contains("exists"), "{error}");

    for (from, input) in [(name, None), ("-", Some(backup.as_path()))] {
        let new = tempfile::tempdir().unwrap();
        let folder = new.path().join("made/here");
        let (code, out, error) = run(&folder, &["import", "--keep-epochs", from], input);
        assert_eq!((code, error.as_str()), (Some(0), ""));
        assert!(out.ends_with(": 301 rows imported\n"), "{out}");
        assert!(run(&folder, &["export"], None).1 == lines);
        // New epochs are one row, whatever else there is.
        let again = new.path().join("again");
        let (code, out, error) = run(&again, &["import", from], input);
        assert_eq!((code, error.as_str()), (Some(0), ""));
        assert!(out.ends_with(": 301 rows imported\n"), "{out}");
        let with_epochs = run(&again, &["export"], None).1;
        let rows = |lines: &str| -> BTreeSet<String> {
            lines.lines().skip(1).map(str::to_owned).collect()
        };
        let more: Vec<String> = rows(&with_epochs)
            .difference(&rows(&lines))
            .cloned()
            .collect();
        assert!(
            more.len() == 1 && more[0].contains(r#""table":"meta""#),
            "{more:?}"
        );
        assert_eq!(rows(&with_epochs).len(), 302);
        let (code, _, error) = run(&folder, &["import", from], input);
        assert_eq!(code, Some(1));
        assert!(error.contains("is there already"), "{error}");
    }
}

#[test]
fn an_import_that_is_cut_makes_no_store_and_names_the_line() {
    let dir = stored();
    let lines = run(dir.path(), &["export"], None).1;
    let cut = dir.path().join("cut.jsonl");
    fs::write(&cut, &lines[..lines.len() - 9]).unwrap();
    let new = tempfile::tempdir().unwrap();
    let (code, _, error) = run(new.path(), &["import", cut.to_str().unwrap()], None);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("cut.jsonl: line 302 of the import"),
        "{error}"
    );
    assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0);
    let (code, _, error) = run(new.path(), &["import", "/nowhere/f"], None);
    assert_eq!(code, Some(1));
    assert!(error.contains("/nowhere/f: can't read"), "{error}");
}

#[test]
fn compact_gives_space_back() {
    let dir = stored();
    let store = open(dir.path());
    let mut batch = Batch::new();
    batch.delete_range(Table::Entries, KeyRange::all());
    smol::block_on(store.commit(batch)).unwrap();
    store.close().unwrap();
    let before = fs::metadata(file(dir.path())).unwrap().len();
    let (code, out, error) = run(dir.path(), &["compact"], None);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.contains(", before "), "{out}");
    assert!(fs::metadata(file(dir.path())).unwrap().len() < before);
}

#[test]
fn what_is_open_damaged_or_not_there_is_an_error_that_names_the_file() {
    let locked = stored();
    let _open = open(locked.path());
    let damaged = stored();
    let mut bytes = fs::read(file(damaged.path())).unwrap();
    // Where the log is free, nothing would be read: the tables follow it.
    let log = Options::default().log_bytes;
    let at = log + (bytes.len() - log) / 2;
    bytes[at..at + 8_192].fill(0xa5);
    fs::write(file(damaged.path()), bytes).unwrap();
    let none = tempfile::tempdir().unwrap();
    let missing = none.path().join("missing");
    let export = none.path().join("export.jsonl");
    for (folder, words) in [
        (locked.path(), "another process has this store open"),
        (damaged.path(), "is damaged"),
        (none.path(), "there is no such file"),
        (&missing, "there is no such file"),
    ] {
        for arguments in [
            &["check"][..],
            &["compact"],
            &["new-epochs"],
            &["export"],
            &["export", export.to_str().unwrap()],
        ] {
            let (code, _, error) = run(folder, arguments, None);
            let name = file(folder).display().to_string();
            assert_eq!(code, Some(1), "{arguments:?} {words}: {error}");
            assert!(
                error.contains(words) && error.contains(&name),
                "{arguments:?}: {error}"
            );
            assert!(!export.exists(), "{words}: half an export");
        }
    }
}

#[test]
fn an_export_that_nobody_reads_ends_quietly() {
    let dir = stored();
    let mut command = command(&["store", "export", "-"], &[]);
    let mut child = command
        .env("FANFARE_DATA", dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn wrong_usage_exits_2_and_every_task_has_help() {
    for arguments in [
        &[][..],
        &["import"],
        &["check", "more"],
        &["new-epochs", "more"],
        &["verify"],
        &["check", "--listen", "127.0.0.1:0"],
    ] {
        let (code, out, error) = run(Path::new("/nowhere"), arguments, None);
        assert_eq!(
            (code, out.as_str()),
            (Some(2), ""),
            "{arguments:?}: {error}"
        );
    }
    for task in ["check", "export", "import", "compact", "new-epochs"] {
        let (code, out, _) = run(Path::new("/nowhere"), &[task, "--help"], None);
        assert_eq!(code, Some(0), "{task}");
        assert!(
            out.contains("--data <DIR>") && out.contains("Exit codes"),
            "{out}"
        );
    }
}

/// With every number and every unit of a size as one.
fn shape(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let number = word.trim_matches(|c: char| !c.is_ascii_digit());
        if matches!(word.trim_end_matches(','), "KiB" | "MiB" | "B") {
            "size".to_owned()
        } else if number.is_empty() {
            word.to_owned()
        } else {
            word.replace(number, "0")
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_commands_of_docs_store_md_print_what_it_shows() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/store.md");
    let document = fs::read_to_string(document).unwrap();
    let block = document.split_once("```console\n").unwrap().1;
    let block = block.split_once("```").unwrap().0;
    let dir = tempfile::tempdir().unwrap();
    fs::rename(stored().keep(), dir.path().join("fanfare-data")).unwrap();
    let mut ran = 0;
    for part in block.split("$ fanfare-server ").skip(1) {
        let (words, shown) = part.split_once('\n').unwrap();
        let arguments: Vec<&str> = words.split(' ').collect();
        let output = command(&arguments, &[])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        assert!(output.status.success(), "{words}: {printed}");
        assert_eq!(shape(printed.trim()), shape(shown.trim()), "{words}");
        ran += 1;
    }
    assert_eq!(ran, 5);
}
