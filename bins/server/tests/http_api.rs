//! The HTTP API over raw sockets: what is answered to requests good and bad.

mod server;

use std::io::{Read, Write};

use server::scene::Scene;
use server::{API_KEY, Answer, Server, TASK, request, token};

const JSON: &str = "Content-Type: application/json";

fn bearer(text: &str) -> String {
    format!("Authorization: Bearer {text}")
}

#[test]
fn a_publish_is_answered_with_its_rooms_and_a_retry_with_the_same() {
    let server = Server::start(&[]);
    let path = format!("/v1/tasks/{TASK}/events");
    let body = r#"{"type":"task:created","users":[7,"8"],"data":{"a":1},"id":"one"}"#;
    let first = server.publish(&path, body);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.header("content-type"), "application/json");
    let mut receipt = first.json();
    assert_eq!(receipt["id"], "one");
    assert_eq!(receipt["duplicate"], false);
    for room in [
        format!("task:{TASK}"),
        "user:7".to_owned(),
        "user:8".to_owned(),
    ] {
        let place = &receipt["rooms"][&room];
        assert_eq!(
            (&place["seq"], &place["connected"]),
            (&1.into(), &0.into()),
            "{room}"
        );
        assert!(place["epoch"].is_string(), "{room}");
    }
    receipt["duplicate"] = true.into();
    assert_eq!(server.publish(&path, body).json(), receipt);
    let to_user = server.publish("/v1/users/7/events", r#"{"type":"user:notification"}"#);
    assert_eq!(to_user.json()["rooms"]["user:7"]["seq"], 2);
    let to_room = server.publish(
        "/v1/events",
        r#"{"type":"user:notification","room":"user:7"}"#,
    );
    assert_eq!(to_room.json()["rooms"]["user:7"]["seq"], 3);
    let to_bus = server.publish("/v1/events", r#"{"type":"cache:cleared"}"#);
    assert_eq!(
        (to_bus.status, &to_bus.json()["rooms"]),
        (200, &serde_json::json!({}))
    );
}

#[test]
fn a_second_terminal_event_is_refused_with_the_state_and_a_reused_id_without() {
    let mut scene = Scene::start(&[]);
    let path = format!("/v1/tasks/{TASK}/events");
    for (body, status, code) in [
        (r#"{"type":"task:completed","id":"done"}"#, 200, ""),
        (r#"{"type":"task:failed"}"#, 409, "lifecycle"),
        (r#"{"type":"task:completed","id":"done"}"#, 200, ""),
        (
            r#"{"type":"task:completed","id":"done","data":1}"#,
            409,
            "id_reused",
        ),
        (r#"{"type":"chat:message"}"#, 200, ""),
        (r#"{"type":"task:deleted"}"#, 200, ""),
        (r#"{"type":"chat:message"}"#, 409, "gone"),
    ] {
        let answer = scene.publish(&path, body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        if status != 200 {
            assert_eq!(answer.code(), code, "{body}");
        }
        if code == "lifecycle" {
            assert_eq!(
                answer.json()["task"],
                serde_json::json!({ "id": TASK, "status": "completed" })
            );
        }
        scene.assert_unharmed(body);
    }
}

#[test]
fn a_task_is_shown_to_back_ends_and_to_clients_whose_token_names_it() {
    let server = Server::start(&[]);
    let path = format!("GET /v1/tasks/{TASK}");
    let key = bearer(API_KEY);
    assert_eq!(
        server.request(&path, &[&key], "").json()["state"]["status"],
        "unknown"
    );
    server.publish(
        &format!("/v1/tasks/{TASK}/events"),
        r#"{"type":"task:started"}"#,
    );
    for (credential, status) in [
        (key.clone(), 200),
        (bearer(&token()), 200),
        (bearer("x"), 401),
        ("Accept: */*".to_owned(), 401),
    ] {
        let answer = server.request(&path, &[&credential], "");
        assert_eq!(answer.status, status, "{answer:?}");
        if status == 200 {
            assert_eq!(answer.json()["state"]["status"], "started", "{answer:?}");
        }
    }
    assert_eq!(server.request("GET /v1/tasks/x", &[&key], "").status, 400);
}

#[test]
fn what_is_wrong_with_a_publish_has_its_status_and_nothing_is_kept() {
    let mut scene = Scene::start(&[]);
    let key = bearer(API_KEY);
    let good = r#"{"type":"chat:message","data":"s3cret payload"}"#;
    let task = format!("POST /v1/tasks/{TASK}/events");
    let many = format!(r#"{{"type":"a:b","users":[{}]}}"#, vec!["1"; 101].join(","));
    let deep = format!(
        r#"{{"type":"a:b","data":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let large = format!(r#"{{"type":"a:b","data":"{}"}}"#, "x".repeat(1 << 20));
    let in_query =
        format!("POST /v1/users/7/events?key={API_KEY}&api_key={API_KEY}&token={API_KEY}");
    let token = bearer(&token());
    #[rustfmt::skip]
    let rows: Vec<(&str, Vec<&str>, &str, u16, &str)> = vec![
        (&task, vec![JSON], good, 401, "unauthenticated"),
        (&task, vec![JSON, "Authorization: Basic eDp5"], good, 401, "unauthenticated"),
        (&task, vec![JSON, "Authorization: Bearer wrong"], good, 401, "bad_api_key"),
        (&task, vec![JSON, &key, "Authorization: Bearer x"], good, 401, "unauthenticated"),
        (&in_query, vec![JSON], good, 401, "unauthenticated"),
        (&task, vec![JSON, &token], good, 403, "forbidden"),
        (&task, vec![&key], good, 415, "unsupported_media_type"),
        (&task, vec![&key, "Content-Type: text/plain"], good, 415, "unsupported_media_type"),
        (&task, vec![&key, "Content-Type: application/json; charset=utf-16"], good, 415, "unsupported_media_type"),
        (&task, vec![&key, "Content-Type: application/x-ndjson"], good, 415, "unsupported_media_type"),
        (&task, vec![&key, JSON, "Content-Encoding: gzip"], good, 415, "unsupported_media_type"),
        (&task, vec![&key, JSON], &large, 413, "too_large"),
        (&task, vec![&key, JSON], "", 400, "bad_request"),
        (&task, vec![&key, JSON], "no JSON", 400, "bad_request"),
        (&task, vec![&key, JSON], r#"["chat:message"]"#, 400, "bad_request"),
        (&task, vec![&key, JSON], r#"{"data":1}"#, 400, "bad_request"),
        (&task, vec![&key, JSON], r#"{"type":"chat:message","tpye":1}"#, 400, "bad_request"),
        (&task, vec![&key, JSON], r#"{"type":"Chat"}"#, 400, "bad_request"),
        (&task, vec![&key, JSON], r#"{"type":"system:welcome"}"#, 400, "reserved_type"),
        (&task, vec![&key, JSON], r#"{"type":"inbox:read"}"#, 400, "reserved_type"),
        (&task, vec![&key, JSON], r#"{"type":"task:created","ephemeral":true}"#, 400, "bad_request"),
        (&task, vec![&key, JSON], &many, 400, "bad_request"),
        (&task, vec![&key, JSON], &deep, 400, "bad_request"),
        ("POST /v1/tasks/7/events", vec![&key, JSON], good, 400, "bad_request"),
        ("POST /v1/tasks/550E8400-E29B-41D4-A716-446655440000/events", vec![&key, JSON], good, 400, "bad_request"),
        ("POST /v1/tasks/%2f..%2f/events", vec![&key, JSON], good, 400, "bad_request"),
        ("POST /v1/users/07/events", vec![&key, JSON], good, 400, "bad_request"),
        ("POST /v1/users/-7/events", vec![&key, JSON], good, 400, "bad_request"),
        ("POST /v1/users/18446744073709551616/events", vec![&key, JSON], good, 400, "bad_request"),
        ("POST /v1/users/x/disconnect", vec![&key], "", 400, "bad_request"),
        ("POST /v1/users/7/disconnect", vec![], "", 401, "unauthenticated"),
        ("POST /v1/nothing", vec![&key, JSON], good, 404, "not_found"),
        ("GET /v1/events/", vec![&key], "", 404, "not_found"),
        ("GET //v1/events", vec![&key], "", 404, "not_found"),
        ("GET /v1/users/7/inboxes", vec![&key], "", 404, "not_found"),
        ("POST /v1/users/7/inbox", vec![&key, JSON], "{}", 405, "method_not_allowed"),
        ("PUT /v1/users/7/events", vec![&key, JSON], good, 405, "method_not_allowed"),
        ("GET /v1/events", vec![&key], "", 405, "method_not_allowed"),
        ("PUT /v1/events", vec![&key, JSON], good, 405, "method_not_allowed"),
        ("DELETE /healthz", vec![], "", 405, "method_not_allowed"),
        ("GET /dev/token?user=7", vec![], "", 404, "not_found"),
        ("GET /", vec![], "", 404, "not_found"),
    ];
    for (line, headers, body, status, code) in rows {
        let answer = scene.request(line, &headers, body);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{line} {body:.60}: {answer:?}"
        );
        match status {
            401 => assert!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{line}: {answer:?}"
            ),
            405 => assert!(!answer.header("allow").is_empty(), "{line}: {answer:?}"),
            _ => {}
        }
        scene.assert_unharmed(&format!("{line} {body:.60}"));
    }
    let next = scene.publish(
        &format!("/v1/tasks/{TASK}/events"),
        r#"{"type":"chat:message"}"#,
    );
    assert_eq!(
        next.json()["rooms"][format!("task:{TASK}")]["seq"],
        1,
        "nothing before was kept"
    );
}

#[test]
fn a_field_that_is_unknown_is_named_and_a_long_one_by_its_beginning() {
    let server = Server::start(&[]);
    let long = format!(r#"{{"type":"chat:message","{}":1}}"#, "x".repeat(100_000));
    assert!(server.publish("/v1/events", &long).body.len() < 1_000);
    let answer = server.publish("/v1/events", r#"{"type":"chat:message","tpye":1}"#);
    assert!(
        answer.json()["detail"].as_str().unwrap().contains("`tpye`"),
        "{answer:?}"
    );
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_it_is_sent() {
    let mut scene = Scene::start(&[]);
    let head = |length: &str| {
        let key = bearer(API_KEY);
        format!("POST /v1/events HTTP/1.1\r\nHost: a\r\n{key}\r\n{JSON}\r\n{length}\r\n\r\n")
    };
    for length in [
        "Content-Length: 1048577",
        "Content-Length: 1048577\r\nExpect: 100-continue",
    ] {
        assert_eq!(scene.send(head(length)).code(), "too_large", "{length}");
    }
    // A length that is not told is found out.
    let chunk = format!("40000\r\n{}\r\n", "x".repeat(0x40000));
    let chunks = head("Transfer-Encoding: chunked") + &chunk.repeat(5) + "0\r\n\r\n";
    assert_eq!(scene.send(chunks).code(), "too_large");
    scene.assert_unharmed("all of them");
}

#[test]
fn a_body_in_another_transfer_coding_is_not_taken_for_its_chunks() {
    let mut scene = Scene::start(&[]);
    let body = r#"{"type":"chat:message"}"#;
    let post = |lines: &str| {
        let key = bearer(API_KEY);
        let head = format!("POST /v1/events HTTP/1.1\r\nHost: a\r\n{key}\r\n{JSON}\r\n{lines}");
        format!("{head}\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
    };
    for (lines, expected) in [
        ("Transfer-Encoding: chunked", None),
        ("Transfer-Encoding: Chunked", None),
        ("Transfer-Encoding: gzip, chunked", Some("transfer_coding")),
        (
            "Transfer-Encoding: chunked, chunked",
            Some("transfer_coding"),
        ),
        (
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
            Some("transfer_coding"),
        ),
    ] {
        let answer = scene.send(post(lines));
        match expected {
            None => assert_eq!(answer.status, 200, "{lines}"),
            Some(code) => {
                assert_eq!(answer.status, 501, "{lines}");
                assert_eq!(answer.code(), code, "{lines}");
            }
        }
    }
    scene.assert_unharmed("all of them");
}

#[test]
fn who_speaks_http_2_is_closed_without_an_answer() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"");
}

#[test]
fn who_expects_100_continue_gets_it_where_the_body_is_wanted() {
    let server = Server::start(&[]);
    let body = r#"{"type":"chat:message"}"#;
    let text = request(
        "POST /v1/events",
        &[&bearer(API_KEY), JSON, "Expect: 100-continue"],
        body,
    );
    let (head, body) = text.split_at(text.len() - body.len());
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 100);
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).status, 200);
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let mut scene = Scene::start(&["--publish-timeout", "50ms"]);
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: a\r\n{}\r\n{JSON}\r\n",
        bearer(API_KEY)
    );
    let mut stream = scene.connect();
    stream
        .write_all(format!("{head}Content-Length: 10\r\n\r\n{{").as_bytes())
        .unwrap();
    assert_eq!(Answer::read(&mut stream).code(), "timeout");
    assert_eq!(
        stream.read(&mut [0]).unwrap(),
        0,
        "the connection is closed"
    );
    scene.assert_unharmed("all of them");
}

#[test]
fn heads_and_methods_are_answered_as_http_has_them() {
    let server = Server::start(&[]);
    for (line, status, allow, body) in [
        ("GET /healthz", 200, "", true),
        ("HEAD /healthz", 200, "", false),
        ("GET /readyz", 200, "", true),
        ("OPTIONS /healthz", 204, "GET, HEAD, OPTIONS", false),
        ("OPTIONS /v1/events", 204, "POST, OPTIONS", false),
        ("POST /healthz", 405, "GET, HEAD, OPTIONS", true),
        ("GET /v1/events", 405, "POST, OPTIONS", true),
        ("OPTIONS /v1/user/notifications", 405, "GET", true),
        ("POST /v1/user/notifications", 405, "GET", true),
    ] {
        let answer = server.request(line, &[], "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (status, allow),
            "{line}: {answer:?}"
        );
        assert_eq!(
            answer.body.trim_matches('\0').is_empty(),
            !body,
            "{line}: {answer:?}"
        );
    }
}

#[test]
fn metrics_count_and_name_nobody() {
    let server = Server::start(&[]);
    server.publish("/v1/users/777/events", r#"{"type":"chat:message"}"#);
    let answer = server.request("GET /metrics", &[], "");
    assert!(
        answer
            .header("content-type")
            .starts_with("application/openmetrics-text"),
        "{answer:?}"
    );
    let count = "fanfare_http_requests_total{route=\"user_events\",status=\"200\"} 1";
    assert!(answer.body.contains(count), "{}", answer.body);
    assert!(!answer.body.contains("777"), "{}", answer.body);
}

#[test]
fn cors_follows_the_list_of_origins() {
    let listed = Server::start(&["--allowed-origins", "https://app.example.com"]);
    let open = Server::start(&[]);
    let key = bearer(API_KEY);
    for (server, origin, status, allowed) in [
        (
            &listed,
            "Origin: https://app.example.com",
            200,
            "https://app.example.com",
        ),
        (&listed, "Origin: https://evil.test", 403, ""),
        (&listed, "Origin: null", 403, ""),
        (&open, "Origin: https://evil.test", 200, "*"),
        (&open, "Accept: */*", 200, ""),
    ] {
        let preflight = server.request(
            "OPTIONS /v1/events",
            &[origin, "Access-Control-Request-Method: POST"],
            "",
        );
        assert_eq!(
            preflight.header("access-control-allow-origin"),
            allowed,
            "{origin}"
        );
        assert_eq!(
            preflight.header("access-control-allow-methods").is_empty(),
            allowed.is_empty(),
            "{origin}"
        );
        let answer = server.request(
            "POST /v1/events",
            &[origin, &key, JSON],
            r#"{"type":"chat:message"}"#,
        );
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            allowed,
            "{origin}"
        );
        assert_eq!(
            answer.header("access-control-allow-credentials"),
            "",
            "nothing rests on cookies"
        );
    }
}

#[test]
fn the_browser_client_is_served_and_known_again_by_its_tag() {
    let server = Server::start(&[]);
    let answer = server.request("GET /fanfare.js", &["Origin: https://any.example"], "");
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/javascript; charset=utf-8")
    );
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let tag = format!("If-None-Match: {}", answer.header("etag"));
    assert_eq!(server.request("GET /fanfare.js", &[&tag], "").status, 304);
}
