//! `--dev`: what it prints, and what it serves to whom.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use server::scene::ask;
use server::{Server, TASK, Text, collect, command, handshake, until};

fn dev() -> Server {
    Server::spawn(command(&["--dev", "--listen", "127.0.0.1:0"], &[]))
}

/// What stands behind `name=` in the output.
fn printed(out: &str, name: &str) -> String {
    let rest = out.split_once(&format!("{name}=")).unwrap().1;
    rest.split_whitespace().next().unwrap().to_owned()
}

/// Each command of the output, with its lines. What is indented otherwise is an address, a token or an `export`.
fn commands(out: &str) -> Vec<String> {
    let mut commands = Vec::<String>::new();
    let mut goes_on = false;
    for line in out.lines() {
        let begins = ["cargo", "curl", "fanfare"].map(|word| format!("  {word} "));
        if begins.iter().any(|begin| line.starts_with(begin)) {
            commands.push(String::new());
            goes_on = true;
        }
        if goes_on {
            commands.last_mut().unwrap().push_str(&format!("{line}\n"));
            goes_on = line.ends_with('\\');
        }
    }
    commands
}

/// `command` as in another terminal of who started the server from its source.
fn terminal(out: &str, command: &str) -> Command {
    let exports: Vec<_> = (out.lines().map(str::trim))
        .filter(|line| line.starts_with("export "))
        .collect();
    assert_eq!(exports.len(), 2, "{out}");
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("{}\nexec {command}", exports.join("\n"))])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .stdin(Stdio::null());
    bash
}

/// A command that never ends by itself, and what it says.
struct Endless(Child, Arc<Text>);

impl Endless {
    fn start(out: &str, command: &str) -> Self {
        let mut command = terminal(out, command);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let text = Arc::default();
        // It ends with the command.
        drop(collect(child.stdout.take().unwrap(), &text, |_| {}));
        Self(child, text)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn everything_that_is_printed_can_be_used_as_it_is() {
    let server = dev();
    let out = server.out_until("Ctrl-C");
    let url = format!("http://{}", server.address);
    assert_eq!(printed(&out, "FANFARE_URL"), url);
    assert!(out.contains(&format!("  {url}/\n")), "{out}");
    assert!(printed(&out, "FANFARE_TOKEN_SECRET").len() >= 32);
    let sockets = out
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ws://"));
    let paths: Vec<&str> = sockets
        .map(|socket| &socket[socket.find('/').unwrap()..])
        .collect();
    assert_eq!(paths.len(), 2, "{out}");
    for user in [7, 8] {
        let start = format!("  user {user}  ");
        let token = out
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap();
        for path in &paths {
            let text = handshake(&format!("{path}?token={token}"), &[]);
            assert_eq!(server.send(text).status, 101, "user {user} {path}");
        }
    }
}

#[test]
fn every_command_that_is_printed_runs_as_printed_and_runs_again() {
    for (listen, rounds) in [("127.0.0.1:0", 2), ("[::1]:0", 1)] {
        let mut start = command(&["--dev"], &[("FANFARE_LISTEN", listen)]);
        start.env("CARGO_PKG_NAME", "fanfare-server");
        let server = Server::spawn(start);
        let out = server.out_until("Ctrl-C");
        let commands = commands(&out);
        let (tails, others): (Vec<_>, Vec<_>) =
            commands.iter().partition(|it| it.contains(" tail "));
        assert_eq!((tails.len(), others.len()), (2, 4), "{out}");
        let start = |tail: &&String| Endless::start(&out, tail);
        let mut tails: Vec<_> = tails.iter().map(start).collect();
        // Over one connection: cargo may build first, and ports would run out.
        let mut metrics = server.connect();
        while !ask(&mut metrics, "GET /metrics", "", "")
            .body
            .contains("\nfanfare_connections 2\n")
        {
            for Endless(tail, _) in &mut tails {
                assert_eq!(tail.try_wait().unwrap(), None, "it ended");
            }
        }
        for command in std::iter::repeat_n(&others, rounds).flatten() {
            let output = terminal(&out, command).output().unwrap();
            assert!(output.status.success(), "{command} {output:?}");
            if command.contains("curl ") {
                let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
                    .unwrap_or_else(|error| panic!("{error}: {command} {output:?}"));
                assert_eq!(answer["duplicate"], false, "{command} {answer}");
            }
        }
        for (tail, types) in tails.iter().zip([
            ["task:completed", "user:notification", "chat:message"],
            ["task:created", "task:status", "task:completed"],
        ]) {
            for kind in types {
                until(&tail.1, kind);
            }
        }
    }
}

#[test]
fn secrets_that_a_shell_would_change_are_printed_so_that_it_does_not() {
    let (key, secret) = (
        r#"it's-the-$HOME-of-"keys"-\n-0123456789"#,
        "two words, `and` more; 0123456789 *",
    );
    let given = [("FANFARE_API_KEY", key), ("FANFARE_TOKEN_SECRET", secret)];
    let server = Server::spawn(command(&["--dev", "--listen", "127.0.0.1:0"], &given));
    let out = server.out_until("Ctrl-C");
    let print = "printenv FANFARE_API_KEY FANFARE_TOKEN_SECRET";
    let output = terminal(&out, print).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed, format!("{key}\n{secret}\n"));
}

#[test]
fn the_task_that_is_printed_is_another_one_at_each_start() {
    let [one, other] = [dev(), dev()].map(|server| {
        let out = server.out_until("Ctrl-C");
        let (_, rest) = out.split_once("&task=").unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    });
    assert_ne!(one, other);
}

#[test]
fn the_command_line_is_named_as_it_is_there() {
    for (package, named) in [
        (Some("fanfare-server"), "cargo run -p fanfare --"),
        (Some("another"), "fanfare"),
        (None, "fanfare"),
    ] {
        let mut command = command(&["--dev", "--listen", "127.0.0.1:0"], &[]);
        match package {
            Some(package) => command.env("CARGO_PKG_NAME", package),
            None => command.env_remove("CARGO_PKG_NAME"),
        };
        let server = Server::spawn(command);
        let out = server.out_until("Ctrl-C");
        assert!(
            out.contains(&format!("  {named} exec --user 7 -- ")),
            "{out}"
        );
        let page = server.request("GET /command.txt", &[], "").body;
        assert_eq!(page, named, "on the page");
    }
}

#[test]
fn the_page_and_its_files_are_served() {
    let server = dev();
    let page = server.request("GET /", &[], "");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    let attributes = page.body.split(['"', ' ', '\n']).collect::<Vec<_>>();
    let named = attributes
        .windows(2)
        .filter(|pair| ["href=", "src="].contains(&pair[0]))
        .map(|pair| pair[1]);
    let paths: Vec<&str> = named.filter(|path| path.starts_with('/')).collect();
    assert!(!paths.is_empty());
    for path in paths {
        assert_eq!(
            server.request(&format!("GET {path}"), &[], "").status,
            200,
            "{path}"
        );
    }
}

#[test]
fn tokens_and_tasks_are_for_this_machines_own_page_only() {
    let server = dev();
    let key = format!(
        "Authorization: Bearer {}",
        printed(&server.out_until("Ctrl-C"), "FANFARE_API_KEY")
    );
    let json = "Content-Type: application/json";
    server.request(
        &format!("POST /v1/tasks/{TASK}/events"),
        &[&key, json],
        r#"{"type":"task:started"}"#,
    );
    let own = format!("Origin: http://{}", server.address);
    let get = |path: &str, host: &str, more: &str| {
        server.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\nConnection: close\r\n\r\n"
        ))
    };
    let address = server.address.to_string();
    for (host, more, status) in [
        (address.as_str(), own.as_str(), 200),
        (&address, "X: y", 200),
        ("localhost", "X: y", 200),
        (&address, "Origin: https://evil.test", 403),
        (&address, "Origin: null", 403),
        ("rebound.evil.test", "X: y", 403),
    ] {
        for path in ["/dev/token?user=9", "/dev/tasks"] {
            let answer = get(path, host, more);
            assert_eq!(answer.status, status, "{path} {host} {more}: {answer:?}");
            assert_eq!(
                answer.header("access-control-allow-origin"),
                "",
                "{path} {more}"
            );
        }
    }
    let token = get("/dev/token?user=9&tasks=*", &address, "X: y").json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let text = handshake(&format!("/v1/tasks/{TASK}/chat?token={token}"), &[]);
    assert_eq!(server.send(text).status, 101);
    let tasks = get("/dev/tasks", &address, "X: y").json();
    assert_eq!(tasks["tasks"][0]["task"], TASK);
    assert_eq!(tasks["tasks"][0]["status"], "started");
    assert!(tasks["tasks"][0]["at"].is_string());
    assert_eq!(get("/dev/token?user=x", &address, "X: y").status, 400);
}
