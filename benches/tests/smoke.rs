//! Each measuring program runs, with numbers that are too small to say anything, and finds what it checks as it should be.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::path::Path;
use std::process::Command;

/// The server that they measure, where cargo has not built it beside them.
fn build_server() {
    let beside = Path::new(env!("CARGO_BIN_EXE_floor")).with_file_name("fanfare-server");
    if !beside.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        let built = cargo.args(["build", "-p", "fanfare-server"]).status();
        assert!(built.unwrap().success());
    }
}

#[test]
fn every_program_measures_what_it_says() {
    build_server();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    // The program, its arguments, and what its lines begin with.
    let cases: [(&str, &[&str], &[&str]); 5] = [
        (
            env!("CARGO_BIN_EXE_floor"),
            &["2", "10", "1"],
            &["floor connections=2 deliveries=20 "],
        ),
        (
            env!("CARGO_BIN_EXE_publish"),
            &[dir, "0.01", "3"],
            &[
                "immediate publishers=3 rooms=own publishes_per_s=",
                "  commits_per_s=",
                "immediate publishers=3 rooms=any_user publishes_per_s=",
                "  commits_per_s=",
                "relaxed publishers=3 rooms=own publishes_per_s=",
                "  commits_per_s=",
                "relaxed publishers=3 rooms=any_user publishes_per_s=",
                "  commits_per_s=",
                "memory publishers=3 rooms=own publishes_per_s=",
                "memory publishers=3 rooms=any_user publishes_per_s=",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_resume"),
            &[dir, "3", "5"],
            &[
                "shared-memory",
                "  filled: events=5 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
                "shared-store",
                "  filled: events=5 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
                "own-memory",
                "  filled: events=15 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
                "own-store",
                "  filled: events=15 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_restart"),
            &[dir, "30", "20"],
            &[
                "filled events=30 rooms=20 ",
                "after=kill ready_s=",
                "after=kill ready_s=",
                "after=kill ready_s=",
                "after=term ready_s=",
                "after=term ready_s=",
                "after=term ready_s=",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_store"),
            &["open", dir, "10"],
            &[
                "filled batches=10 ",
                "closed: ",
                "closed, not verified: ",
                "killed: ",
            ],
        ),
    ];
    for (program, arguments, begins) in cases {
        let output = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{program}: {said}\n{errors}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), begins.len(), "{program}: {said}");
        for (line, begin) in lines.iter().zip(begins) {
            assert!(line.starts_with(begin), "{program}: {said}");
        }
    }
}
