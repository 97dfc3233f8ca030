//! `docs/deployment.md` names what there is, and its unit starts a server.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use server::{API_KEY, Server, TASK, TOKEN_SECRET, command};

fn document(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// The fenced block of this language.
fn block(document: &str, language: &str) -> String {
    let (_, rest) = document.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// What stands in single backticks.
fn named(document: &str) -> Vec<&str> {
    let prose = document.split("\n```").step_by(2);
    prose
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .collect()
}

/// The default of each setting, by its TOML key, as a test of the settings keeps it true.
fn defaults() -> BTreeMap<String, String> {
    let settings = document("configuration.md");
    let rows = settings.lines().filter(|line| line.starts_with("| `--"));
    rows.map(|row| {
        let cells: Vec<_> = (row.split(" | "))
            .map(|cell| cell.trim_matches('`'))
            .collect();
        (cells[2].to_owned(), cells[3].to_owned())
    })
    .collect()
}

/// The server as the unit of the document starts it: with other paths, and on a port that is free.
fn start(document: &str, folder: &Path) -> Server {
    for (name, text) in [
        ("fanfare.toml", block(document, "toml").as_str()),
        ("token-secret", TOKEN_SECRET),
        ("api-key", API_KEY),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    let folder = folder.to_str().unwrap();
    let unit = block(document, "ini");
    let value = |name: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(name));
        found
            .unwrap()
            .replace("/etc/fanfare", folder)
            .replace("%d", folder)
            .replace("%S", folder)
    };
    let (started, environment) = (value("ExecStart="), value("Environment="));
    let mut arguments: Vec<_> = started.split(' ').skip(1).collect();
    arguments.extend(["--listen", "127.0.0.1:0"]);
    let environment: Vec<_> = (environment.split(' '))
        .map(|pair| pair.split_once('=').unwrap())
        .collect();
    Server::spawn(command(&arguments, &environment))
}

#[test]
fn the_unit_and_the_file_start_a_server_that_has_each_path_and_metric_named() {
    let (document, folder) = (document("deployment.md"), tempfile::tempdir().unwrap());
    let server = start(&document, folder.path());
    assert_eq!(
        server.publish("/v1/events", r#"{"type":"a:b"}"#).status,
        200
    );
    let metrics = server.request("GET /metrics", &[], "").body;
    for name in named(&document) {
        let is_path =
            name.starts_with('/') && !name.contains(['.', ' ']) && !name.starts_with("/etc");
        if is_path {
            let path = name.replace("{id}", TASK);
            assert_ne!(
                server.request(&format!("GET {path}"), &[], "").status,
                404,
                "{name}"
            );
        }
        let words = name.split(|c: char| !c.is_ascii_lowercase() && c != '_');
        for metric in words.filter(|word| word.starts_with("fanfare_")) {
            let served = metrics.lines().any(|line| {
                (line.strip_prefix(metric)).is_some_and(|rest| rest.starts_with([' ', '{']))
                    || line == format!("# TYPE {metric} histogram")
            });
            assert!(served, "{metric}");
        }
    }
}

#[test]
fn each_setting_named_is_there_with_the_default_that_is_told() {
    // Of nginx and of the kernel.
    const OTHERS: [&str; 4] = [
        "worker_rlimit_nofile",
        "worker_connections",
        "worker_shutdown_timeout",
        "net.ipv4.ip_local_port_range",
    ];
    let (document, defaults) = (document("deployment.md"), defaults());
    for name in named(&document) {
        let is_key = name.contains('_') && !name.contains("fanfare_");
        assert!(
            !is_key || defaults.contains_key(name) || OTHERS.contains(&name),
            "{name}"
        );
    }
    let mut told = 0;
    for (key, default) in &defaults {
        let plain = |text: &str| text.replace([' ', ','], "").replace("1min", "1m");
        for (before, after) in [("", ")"), ("| ", " |")] {
            let begin = if before.is_empty() {
                format!("`{key}` (")
            } else {
                format!("| `{key}`")
            };
            let Some((_, rest)) = document.split_once(&begin) else {
                continue;
            };
            let line = rest.split('\n').next().unwrap();
            let value = if after == ")" {
                line.split(')').next().unwrap()
            } else {
                line.trim_end_matches(" |").rsplit("| ").next().unwrap()
            };
            assert_eq!(&plain(value), default, "{key}");
            told += 1;
        }
    }
    assert_eq!(told, 12, "defaults in the document");
}
