//! `docs/http-api.md` says what the real server answers, and leaves nothing out.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use server::{API_KEY, Server, TOKEN_SECRET, command, token};

/// The address in the document's commands.
const ADDRESS: &str = "127.0.0.1:8080";

fn document() -> String {
    fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/http-api.md"
    ))
    .unwrap()
}

/// The `--dev` server with the secrets of the tests.
fn dev() -> Server {
    let secrets = [
        ("FANFARE_TOKEN_SECRET", TOKEN_SECRET),
        ("FANFARE_API_KEY", API_KEY),
    ];
    Server::spawn(command(&["--dev", "--listen", "127.0.0.1:0"], &secrets))
}

/// Each `curl` of the document, with the answer that it shows.
fn examples(document: &str) -> Vec<(String, String)> {
    let mut blocks = document.split("\n```");
    let mut examples = Vec::new();
    // Of the pieces every second one is a block's inside.
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let (language, text) = block.split_once('\n').unwrap_or((block, ""));
        match (language, examples.last_mut()) {
            ("sh", _) if text.starts_with("curl ") => {
                examples.push((text.to_owned(), String::new()));
            }
            ("json" | "http" | "text", Some((_, answer))) => text.clone_into(answer),
            _ => {}
        }
    }
    examples
}

fn run(server: &Server, command: &str) -> String {
    let command = command.replace(ADDRESS, &server.address.to_string());
    let output = Command::new("sh")
        .args(["-c", &command])
        .env("FANFARE_API_KEY", API_KEY)
        .env("FANFARE_TOKEN", token())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

/// What a value of the document stands for in this run: the same for the same.
type Meanings = BTreeMap<String, String>;

/// Whether the value of `key` is another one in every run.
fn varies(key: &str, text: &str) -> bool {
    match key {
        "epoch" | "at" | "seen" => true,
        "id" => text.len() == 36 && text.matches('-').count() == 4,
        _ => false,
    }
}

/// Whether an answer is the one that is shown. At the end of a shown text `…` stands for the rest.
fn is_as_shown(key: &str, shown: &Value, real: &Value, meanings: &mut Meanings) -> bool {
    match (shown, real) {
        (Value::String(shown), Value::String(real)) if varies(key, shown) && varies(key, real) => {
            let meaning = meanings
                .entry(shown.clone())
                .or_insert_with(|| real.clone());
            shown.len() == real.len() && meaning == real
        }
        (Value::String(shown), Value::String(real)) => match shown.strip_suffix('…') {
            Some(begin) => real.starts_with(begin),
            None => shown == real,
        },
        (Value::Object(shown), Value::Object(real)) => {
            shown.keys().eq(real.keys())
                && shown
                    .iter()
                    .all(|(key, value)| is_as_shown(key, value, &real[key], meanings))
        }
        (Value::Array(shown), Value::Array(real)) => {
            shown.len() == real.len()
                && (shown.iter().zip(real))
                    .all(|(shown, real)| is_as_shown(key, shown, real, meanings))
        }
        (shown, real) => shown == real,
    }
}

/// The same for an answer of several lines: JSON in a line of its own, and a line `…` that stands for any number.
fn are_as_shown(shown: &str, real: &str, meanings: &mut Meanings) -> bool {
    let mut lines = real.lines().filter(|line| !line.starts_with("date: "));
    let mut skips = false;
    for shown in shown.trim_end().lines() {
        if shown == "…" {
            skips = true;
            continue;
        }
        let mut is_line =
            |real: &str| match (serde_json::from_str(shown), serde_json::from_str(real)) {
                (Ok(shown), Ok(real)) => is_as_shown("", &shown, &real, meanings),
                _ => shown == real,
            };
        let found = if skips {
            lines.any(is_line)
        } else {
            lines.next().is_some_and(&mut is_line)
        };
        if !found {
            return false;
        }
        skips = false;
    }
    skips || lines.all(str::is_empty)
}

#[test]
fn every_curl_of_the_document_gets_the_answer_that_it_shows() {
    let (server, document) = (dev(), document());
    let examples = examples(&document);
    assert_eq!(examples.len(), document.matches("\ncurl ").count());
    let mut meanings = Meanings::new();
    for (command, shown) in examples {
        let real = run(&server, &command);
        assert!(
            are_as_shown(&shown, &real, &mut meanings),
            "{command}\nshown\n{shown}\nreal\n{real}"
        );
    }
}

#[test]
fn the_document_has_every_metric_and_no_other() {
    let server = dev();
    // Without a request the requests have no series.
    server.request("GET /healthz", &[], "");
    let metrics = server.request("GET /metrics", &[], "").body;
    let served = metrics.lines().filter_map(|line| {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        let total = if kind == "counter" { "_total" } else { "" };
        Some(format!("{name}{total} {kind}"))
    });
    let document = document();
    let written = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `fanfare_")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`');
        Some(format!("fanfare_{name} {}", cells.next()?))
    });
    assert_eq!(
        written.collect::<BTreeSet<_>>(),
        served.collect::<BTreeSet<_>>()
    );
}
