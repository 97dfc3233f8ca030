//! `docs/cli.md`: every example runs as it stands, in the order of the page, and prints what the page shows.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::run::{Run, fanfare};
use crate::server::Server;

/// A command, and the lines that it prints.
struct Example<'a> {
    command: &'a str,
    lines: Vec<&'a str>,
}

/// The `console` blocks, each as its commands.
fn blocks(document: &str) -> Vec<Vec<Example<'_>>> {
    let blocks = document.split("\n```console\n").skip(1);
    blocks
        .map(|rest| {
            let mut examples = Vec::<Example<'_>>::new();
            for line in rest.split("\n```").next().unwrap().lines() {
                match (line.strip_prefix("$ "), examples.last_mut()) {
                    (Some(command), _) => examples.push(Example {
                        command,
                        lines: Vec::new(),
                    }),
                    (None, Some(example)) => example.lines.push(line),
                    (None, None) => panic!("a block begins with a command, not with {line:?}"),
                }
            }
            examples
        })
        .collect()
}

/// Whether a line is the one that is shown, where `…` stands for anything.
fn is_as_shown(shown: &str, real: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = real.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        (rest, last) = (after, Some(part));
    }
    // What ends with `…`, or with a part that comes again later in the line.
    rest.is_empty() || last == Some("") || last.is_some_and(|last| rest.ends_with(last))
}

fn assert_as_shown(example: &Example<'_>, out: &str) {
    let mut real: Vec<_> = out.lines().collect();
    let mut as_shown = real.len() == example.lines.len();
    for shown in &example.lines {
        // What `exec` says stands among what its command prints, in whatever order.
        let anywhere = example.command.starts_with("fanfare exec");
        let among = if anywhere { real.len() } else { 1 };
        let at = real
            .iter()
            .take(among)
            .position(|real| is_as_shown(shown, real));
        match at {
            Some(at) => drop(real.remove(at)),
            None => as_shown = false,
        }
    }
    assert!(
        as_shown,
        "{}\nshown\n{}\nreal\n{out}",
        example.command,
        example.lines.join("\n")
    );
}

/// A shell in which `fanfare` is known, as a person has it. Both its streams are one.
fn shell(server: &Server, command: &str, folder: &std::path::Path) -> Run {
    let exec = fanfare(server, &[]);
    let program = std::path::Path::new(exec.get_program());
    let mut path = program.parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    // `exec` where nothing follows, so that a signal reaches the command itself.
    let script = if command.starts_with("fanfare tail") {
        format!("exec 2>&1; exec {command}")
    } else {
        format!("exec 2>&1; {command}")
    };
    shell
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(folder)
        .stdin(Stdio::null());
    for (name, value) in exec.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    Run::spawn(shell)
}

#[test]
fn every_example_of_the_document_prints_what_it_shows() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let document = std::fs::read_to_string(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let blocks = blocks(&document);
    assert!(blocks.iter().map(Vec::len).sum::<usize>() > 10);
    for block in &blocks {
        let mut tails = Vec::new();
        for example in block {
            let run = shell(&server, example.command, folder.path());
            if example.command.starts_with("fanfare tail") {
                run.out.until("watching");
                tails.push((example, run));
            } else {
                assert_as_shown(example, &run.wait().out);
            }
        }
        for (example, run) in tails {
            if !example.command.contains("--count") {
                // Where they do not come, the comparison says what came.
                let _ = run
                    .out
                    .until_it(|text| text.lines().count() >= example.lines.len());
                run.signal(Signal::INT);
            }
            assert_as_shown(example, &run.wait().out);
        }
    }
}
