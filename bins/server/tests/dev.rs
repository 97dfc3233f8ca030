//! `--dev`: what it prints, and what it serves to whom.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use server::{Server, TASK, command, handshake};

fn dev() -> Server {
    Server::spawn(command(&["--dev", "--listen", "127.0.0.1:0"], &[]))
}

/// What stands behind `name=` in the output.
fn printed(out: &str, name: &str) -> String {
    let rest = out.split_once(&format!("{name}=")).unwrap().1;
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn everything_that_is_printed_can_be_used_as_it_is() {
    let server = dev();
    let out = server.out_until("Ctrl-C");
    let url = format!("http://{}", server.address);
    assert_eq!(printed(&out, "export FANFARE_URL"), url);
    for text in [
        format!("{url}/\n"),
        "fanfare exec --user 7 -- ping -c 5 127.0.0.1".to_owned(),
        "cargo run --release -p fanfare -- exec --user 7 -- ping -c 5 127.0.0.1".to_owned(),
        "fanfare tail user:7".to_owned(),
    ] {
        assert!(out.contains(&text), "{text}\n{out}");
    }
    assert!(printed(&out, "FANFARE_TOKEN_SECRET").len() >= 32);
    let key = format!("Authorization: Bearer {}", printed(&out, "FANFARE_API_KEY"));
    // The curl of the output, by hand.
    let (head, body) = (
        "Content-Type: application/json",
        r#"{"type":"task:created","users":[7],"data":{"name":"demo"}}"#,
    );
    assert!(out.contains(&format!("-d '{body}'")), "{out}");
    let answer = server.request(
        &format!("POST /v1/tasks/{TASK}/events"),
        &[&key, head],
        body,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    for user in [7, 8] {
        let line = out
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("user {user} ")))
            .unwrap();
        let bearer = format!(
            "Authorization: Bearer {}",
            line.split_whitespace().last().unwrap()
        );
        let text = handshake(&format!("/v1/tasks/{TASK}/chat"), &[&bearer]);
        assert_eq!(server.send(text).status, 101, "user {user}");
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
