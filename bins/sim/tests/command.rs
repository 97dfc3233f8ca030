//! `fanfare-sim` as a person runs it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare-sim"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn words_of(output: &Output) -> String {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    stdout + &String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_range_of_seeds_without_one_is_told() {
    for (seeds, told) in [
        ("3..3", "3..4 has one"),
        ("3..1", "did you mean 1..3?"),
        ("3", "two numbers with `..` between"),
        ("x..3", "`x`: invalid digit"),
        ("0..-1", "`-1`: invalid digit"),
    ] {
        let output = run(&["run", "--seeds", seeds]);
        assert_eq!(output.status.code(), Some(2), "{seeds}");
        assert!(
            words_of(&output).contains(told),
            "{seeds}: {}",
            words_of(&output)
        );
    }
}

#[test]
fn what_can_not_be_done_is_told_before_anything_is() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    std::fs::write(&plan, run(&["plan", "46"]).stdout).unwrap();
    let plan = plan.to_str().unwrap();
    for (arguments, told) in [
        (
            vec!["run", "--seeds", "0..9", "--jobs", "0"],
            "not in 1..=1024",
        ),
        (
            vec!["determinism", "--seeds", "0..9", "--jobs", "9999"],
            "not in 1..=1024",
        ),
        (
            vec!["run", "--seeds", "0..9", "--plans", "/nonexistent"],
            "/nonexistent: no such folder",
        ),
        (
            vec!["shrink", plan, "--out", "/nonexistent/short.json"],
            "short.json: there is no such folder",
        ),
        (
            vec!["shrink", plan, "--out", plan],
            "would be written over it",
        ),
        (
            vec!["outside", "--server", "/nonexistent"],
            "no such program",
        ),
        (
            vec!["outside", "--server", "/bin/true", "--memory"],
            "/bin/true: it ended with exit status: 0",
        ),
    ] {
        let output = run(&arguments);
        let words = words_of(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {words}");
        assert!(words.contains(told), "{arguments:?}: {words}");
    }
}

#[test]
fn the_last_seed_of_all_is_one_world() {
    let seeds = format!("{}..{}", u64::MAX - 1, u64::MAX);
    let output = run(&["run", "--seeds", &seeds, "--jobs", "2"]);
    let told = words_of(&output);
    assert!(told.contains("\n1 worlds in "), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_plan_that_is_cut_is_told() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let output = command(&["plan", "46"]).stdout(full.unwrap()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words_of(&output).contains("it can't be written"));
}

#[test]
fn a_run_counts_steps_and_faults_by_kind_and_shows_no_bar_where_nobody_looks() {
    let output = run(&["run", "--seeds", "0..1"]);
    assert_eq!(output.status.code(), Some(0), "{}", words_of(&output));
    assert!(output.stderr.is_empty(), "{}", words_of(&output));
    let told = words_of(&output);
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("seeds 0..1, "), "{told}");
    assert!(lines[1].starts_with("1 worlds in "), "{told}");
    let count = |name: &str| {
        let line = lines.iter().find_map(|it| it.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}: {told}")).trim()
    };
    assert_ne!(count("publish"), "0");
}

#[test]
fn ctrl_c_prints_what_was_done_so_far() {
    let rest = [
        " worlds in ",
        "\nsteps\n",
        "\nfaults\n",
        "\ninterrupted: seeds from ",
    ];
    let also = [" worlds, each three times, in ", "\ninterrupted: "];
    for (name, told) in [("run", &rest[..]), ("determinism", &also[..])] {
        let mut child = command(&[name, "--seeds", "0..1000000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("seeds 0..1000000, "), "{line}");
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        kill(pid, Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        for told in told {
            assert!(rest.contains(told), "{name}: {told}: {rest}");
        }
    }
}

#[test]
fn a_plan_that_is_none_is_told_with_its_file_and_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    let name = file.to_str().unwrap();
    let output = run(&["replay", name]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words_of(&output).contains("plan.json: No such file"),
        "{}",
        words_of(&output)
    );
    std::fs::write(&file, "{\"format\": true}").unwrap();
    let output = run(&["replay", name]);
    assert_eq!(output.status.code(), Some(2));
    let told = words_of(&output);
    assert!(
        told.contains("format: invalid type") && told.contains("line 1 column 15"),
        "{told}"
    );
}

#[test]
fn every_plan_of_the_corpus_keeps_every_promise() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    // It is there once a bug was found.
    for file in std::fs::read_dir(folder).into_iter().flatten() {
        let file = file.unwrap().path();
        let output = run(&["replay", file.to_str().unwrap()]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}: {}",
            file.display(),
            words_of(&output)
        );
    }
}

#[test]
fn a_run_can_be_followed_as_text_and_as_a_page_that_needs_no_network() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, page) = (
        folder.path().join("plan.json"),
        folder.path().join("page.html"),
    );
    let output = run(&["plan", "0"]);
    assert_eq!(output.status.code(), Some(0));
    std::fs::write(&plan, &output.stdout).unwrap();
    let told = words_of(&output);
    assert!(
        told.contains("\"story\": \"t=") && told.contains(" of user "),
        "{told}"
    );
    let output = run(&[
        "replay",
        plan.to_str().unwrap(),
        "--trace",
        "--html",
        page.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", words_of(&output));
    let told = words_of(&output);
    for shown in [
        "* t=",
        " <- welcome ",
        " -> POST /v1/",
        "every promise was kept",
    ] {
        assert!(told.contains(shown), "{shown}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("\"messages\":[["));
    for outside in ["http://", "https://", "src=", "url(", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

/// The commands of the document, each once: with one seed, and without what builds.
#[test]
fn every_command_of_the_document_works() {
    let document = include_str!("../../../docs/simulation.md");
    let folder = tempfile::tempdir().unwrap();
    let commands = document.lines().filter_map(|line| line.strip_prefix("$ "));
    let mut count = 0;
    for command in commands {
        let (program, arguments) = command.split_once("fanfare-sim ").unwrap();
        let arguments = match arguments.split_once("-- ") {
            Some((_, arguments)) if program.starts_with("cargo") => arguments,
            _ => arguments,
        };
        // Continuous integration runs them as they stand.
        if ["outside", "mutants"]
            .iter()
            .any(|it| arguments.starts_with(it))
        {
            continue;
        }
        let mut words: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        if let Some(seeds) = words.iter_mut().find(|it| it.contains("..")) {
            *seeds = "0..1".to_owned();
        }
        let script = format!("exec \"$0\" {}", words.join(" "));
        let output = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_fanfare-sim")])
            .current_dir(&folder)
            .output()
            .unwrap();
        let told = words_of(&output);
        match output.status.code() {
            Some(0) => {}
            Some(2) if told.contains("there is nothing to shorten") => {}
            // Without the feature.
            Some(2) if told.contains("this build counts no marks") => {}
            // One seed does not come to everything.
            Some(14) => {}
            other => panic!("{command}: {other:?}: {told}"),
        }
        count += 1;
    }
    assert!(count >= 6, "{count} commands");
}
