//! What is kept, over HTTP: history, inbox and batches; who may read it, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

mod server;

use std::collections::BTreeSet;

use server::{API_KEY, Server, TASK, token, token_of};

fn bearer(text: &str) -> String {
    format!("Authorization: Bearer {text}")
}

#[test]
fn history_and_inbox_are_for_back_ends_and_for_who_may_join_the_room() {
    let server = Server::start(&[]);
    let other_task = "650e8400-e29b-41d4-a716-446655440000";
    let own = token_of(7, &format!("[\"{TASK}\"]"));
    for (path, credential, status, code) in [
        ("/v1/users/7/events", API_KEY, 200, ""),
        ("/v1/users/7/inbox", API_KEY, 200, ""),
        ("/v1/users/7/events", &*own, 200, ""),
        ("/v1/users/7/inbox", &*own, 200, ""),
        ("/v1/users/8/events", &*own, 403, "forbidden"),
        ("/v1/users/8/inbox", &*own, 403, "forbidden"),
        (&*format!("/v1/tasks/{TASK}/events"), &*own, 200, ""),
        (&*format!("/v1/tasks/{other_task}/events"), API_KEY, 200, ""),
        (
            &*format!("/v1/tasks/{other_task}/events"),
            &*own,
            403,
            "forbidden",
        ),
        ("/v1/users/7/events", "x", 401, "bad_token"),
        ("/v1/users/07/events", &*own, 400, "bad_request"),
        ("/v1/users/07/events", "x", 401, "bad_token"),
        ("/v1/users/7/events?since=9", &*own, 400, "bad_request"),
        ("/v1/users/7/events?limit=0", &*own, 400, "bad_request"),
        ("/v1/users/7/events?limit=1001", &*own, 400, "bad_request"),
        ("/v1/users/7/events?before=k:1", &*own, 400, "bad_request"),
        ("/v1/users/7/events?order=up", &*own, 400, "bad_request"),
        ("/v1/users/7/events?since=elsewhere:9", &*own, 200, ""),
    ] {
        let answer = server.request(&format!("GET {path}"), &[&bearer(credential)], "");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        if status != 200 {
            assert_eq!(answer.code(), code, "{path}");
        }
    }
    for path in ["/v1/users/7/events", "/v1/users/7/inbox"] {
        let nobody = server.request(&format!("GET {path}"), &[], "");
        assert_eq!(nobody.code(), "unauthenticated", "{path}");
    }
}

#[test]
fn following_next_reads_every_event_once_in_both_directions() {
    let server = Server::start(&[]);
    for number in 1..=7 {
        let body = format!(r#"{{"type":"note:added","data":{number}}}"#);
        server.publish("/v1/users/7/events", &body);
    }
    let up = "/v1/users/7/events?limit=3";
    let down = "/v1/users/7/events?order=newest&limit=3";
    let rising: Vec<u64> = (1..=7).collect();
    let falling = rising.iter().copied().rev().collect();
    for (first, expected) in [(up, rising), (down, falling)] {
        let mut path = first.to_owned();
        let (mut read, mut pages) = (Vec::new(), BTreeSet::new());
        loop {
            assert!(pages.insert(path.clone()), "{path} came twice");
            let page = server.request(&format!("GET {path}"), &[&bearer(&token())], "");
            let page = page.json();
            assert_eq!((&page["first"], &page["seq"]), (&1.into(), &7.into()));
            for event in page["events"].as_array().unwrap() {
                assert_eq!(event["data"], event["rooms"]["user:7"], "{event}");
                read.push(event["data"].as_u64().unwrap());
            }
            let Some(next) = page["next"].as_str() else {
                break;
            };
            path = next.to_owned();
        }
        assert_eq!(read, expected);
    }
}

#[test]
fn a_batch_takes_what_is_good_and_says_of_each_line_what_became_of_it() {
    let server = Server::start(&["--batch-bytes", "1000B"]);
    let send = |body: &str, headers: &[&str]| server.request("POST /v1/events", headers, body);
    let (key, ndjson) = (bearer(API_KEY), "Content-Type: application/x-ndjson");
    let body = concat!(
        r#"{"type":"note:added","room":"user:7","id":"a"}"#,
        "\n{}\n\nnot json\n",
        r#"{"type":"note:added","room":"user:7","id":"a"}"#,
        "\r\n",
        r#"{"type":"note:added","room":"user:7","id":"a","data":1}"#,
        "\n",
        r#"{"type":"note:added","room":"user:7","id":"b"}"#,
    );
    let answer = send(body, &[&key, ndjson]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines: Vec<serde_json::Value> = answer
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = lines
        .iter()
        .map(|it| {
            it["code"].as_str().map_or_else(
                || format!("{} {}", it["duplicate"], it["rooms"]["user:7"]["seq"]),
                str::to_owned,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "false 1",
            "bad_request",
            "bad_request",
            "true 1",
            "id_reused",
            "false 2"
        ]
    );
    for (name, body, headers, code) in [
        ("no key", body, &[ndjson][..], "unauthenticated"),
        (
            "a client's token",
            body,
            &[&bearer(&token()), ndjson],
            "forbidden",
        ),
        (
            "too large",
            &"\n".repeat(1_001),
            &[&key, ndjson],
            "too_large",
        ),
    ] {
        assert_eq!(send(body, headers).code(), code, "{name}");
    }
    let to_user = server.request("POST /v1/users/7/events", &[&key, ndjson], body);
    assert_eq!(to_user.code(), "unsupported_media_type");
    assert_eq!(send("\n\n", &[&key, ndjson]).body, "");
}

#[test]
fn a_batch_of_too_many_lines_is_refused_before_any_is_published() {
    let server = Server::start(&[]);
    let (key, ndjson) = (bearer(API_KEY), "Content-Type: application/x-ndjson");
    let line = "{\"type\":\"note:added\",\"room\":\"user:7\"}\n";
    let body = line.to_owned() + &"1\n".repeat(10_000);
    let answer = server.request("POST /v1/events", &[&key, ndjson], &body);
    assert_eq!((answer.status, &*answer.code()), (413, "too_large"));
    let room = server.request("GET /v1/users/7/inbox", &[&key], "");
    assert_eq!(room.json()["seq"], 0);
}
