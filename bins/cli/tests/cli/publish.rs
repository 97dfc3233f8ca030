//! `fanfare publish` and `fanfare token`: what they send and make, and what they say.

use serde_json::{Value, json};

use crate::run::{Run, bare, fanfare, run};
use crate::server::{Fault, Server, TASK, TOKEN_SECRET};
use crate::terminal::Terminal;

#[test]
fn an_event_reaches_its_rooms_and_the_receipt_is_json() {
    let task = &*format!("task:{TASK}");
    let cases: &[(&[&str], &str, &[&str])] = &[
        (
            &["user:7", "a:b", "{\"n\":1}", "--id", "e"],
            "a:b",
            &["user:7"],
        ),
        (&["user:7", "1"], "user:notification", &["user:7"]),
        (&[task, "1"], "chat:message", &[task]),
        (
            &[task, "task:created", "1", "--user", "8,7"],
            "task:created",
            &[task, "user:7", "user:8"],
        ),
        (&["--bus", "a:b", "1"], "a:b", &[]),
        (
            &["--bus", "a:b", "1", "--ephemeral", "--key", "k"],
            "a:b",
            &[],
        ),
    ];
    for (words, kind, rooms) in cases {
        let server = Server::start();
        let done = run(fanfare(&server, &[&["publish"], *words].concat()));
        done.assert_code(0);
        let receipt: Value = serde_json::from_str(&done.out).unwrap();
        let events = server.events_until(|event| event.kind == *kind);
        let [event] = &events[..] else {
            panic!("{words:?}: {events:?}");
        };
        let mut reached = event.rooms.clone();
        reached.sort();
        assert_eq!(reached, *rooms, "{words:?}");
        assert_eq!(receipt["id"], event.id, "{words:?}");
        assert_eq!(event.ephemeral, words.contains(&"--ephemeral"), "{words:?}");
        let named: Vec<_> = receipt["rooms"].as_object().unwrap().keys().collect();
        assert_eq!(named, *rooms, "{words:?}");
    }
}

#[test]
fn the_same_id_is_published_once() {
    let server = Server::start();
    for duplicate in [false, true] {
        let done = run(fanfare(&server, &["publish", "user:7", "1", "--id", "x"]));
        done.assert_code(0);
        let receipt: Value = serde_json::from_str(&done.out).unwrap();
        assert_eq!(receipt["duplicate"], duplicate, "{receipt}");
    }
    assert_eq!(server.so_far().len(), 1);
}

#[test]
fn data_comes_from_standard_input_where_it_is_a_dash() {
    let server = Server::start();
    let mut command = fanfare(&server, &["publish", "user:7", "a:b", "-"]);
    command.stdin(std::process::Stdio::piped());
    let mut publish = Run::spawn(command);
    publish.say("{\"lines\":\n[1]}\n");
    publish.wait().assert_code(0);
    let events = server.events_until(|event| event.kind == "a:b");
    assert_eq!(events[0].data, json!({ "lines": [1] }));
}

#[test]
fn data_that_is_too_large_is_refused_with_the_limit() {
    let server = Server::start();
    let mut file = tempfile::tempfile().unwrap();
    let text = format!("\"{}\"", "x".repeat(1 << 20));
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut command = fanfare(&server, &["publish", "user:7", "a:b", "-"]);
    command.stdin(file);
    let done = run(command);
    done.assert_code(3);
    assert!(done.err.contains("too_large"), "{done:?}");
}

#[test]
fn on_a_terminal_the_receipt_is_for_people() {
    let server = Server::start();
    let terminal = Terminal::spawn(fanfare(&server, &["publish", "user:7", "1"]), 100);
    let done = terminal.run.wait();
    done.assert_code(0);
    assert!(done.out.starts_with("published "), "{done:?}");
    assert!(done.out.contains("user:7 #1 (0 connected)"), "{done:?}");
}

#[test]
fn it_tries_again_as_long_as_it_was_told() {
    let server = Server::start();
    server.fault([Fault::Status(503), Fault::AnswerLost]);
    let words = ["publish", "user:7", "1", "--retry-for", "10m"];
    run(fanfare(&server, &words)).assert_code(0);
    assert_eq!(server.so_far().len(), 1, "once, though tried again");
}

#[test]
fn what_is_wrong_is_told_with_what_to_do_and_its_exit_status() {
    type Case<'a> = (&'a [&'a str], (&'a str, &'a str), i32, &'a [&'a str]);
    let none = ("NO_COLOR", "1");
    let task = &*format!("task:{TASK}");
    let cases: &[Case<'_>] = &[
        (&["user:7", "{"], none, 2, &["the data is no JSON"]),
        (&["user:07", "1"], none, 2, &["\"07\""]),
        (&["user:7", "nope", "1"], none, 2, &["namespace:name"]),
        (
            &[task, "task:completed", "1"],
            none,
            3,
            &["lifecycle", "completed"],
        ),
        (
            &["user:7", "1"],
            ("FANFARE_API_KEY", ""),
            2,
            &["FANFARE_API_KEY", "--dev"],
        ),
        (
            &["user:7", "1"],
            ("FANFARE_API_KEY", "some-wrong-key"),
            3,
            &["bad_api_key", "FANFARE_API_KEY"],
        ),
        (
            &["user:7", "1"],
            ("FANFARE_URL", "http://127.0.0.1:9"),
            4,
            &["can't reach http://127.0.0.1:9", "FANFARE_URL"],
        ),
        (
            &["user:7", "1"],
            ("FANFARE_URL", "ftp://x"),
            2,
            &["http://"],
        ),
    ];
    let server = Server::start();
    run(fanfare(&server, &["publish", task, "task:completed", "0"])).assert_code(0);
    for (words, (name, value), code, says) in cases {
        let mut command = fanfare(&server, &[&["publish"], *words].concat());
        command.env(name, value);
        let done = run(command);
        let case = format!("{:.60} {name}={value}", words.join(" "));
        assert_eq!(done.code, Some(*code), "{case}: {done:?}");
        for words in *says {
            assert!(done.err.contains(words), "{case}, {words}: {done:?}");
        }
        assert!(done.out.is_empty(), "{case}");
        assert!(!done.err.contains("some-wrong-key"), "{case}: {done:?}");
    }
    assert_eq!(server.so_far().len(), 1, "nothing wrong was published");
}

#[test]
fn a_token_says_what_was_asked_for_and_the_server_takes_it() {
    let server = Server::start();
    let words = [
        "token",
        "--user",
        "7",
        "--tasks",
        TASK,
        "--tasks",
        "*",
        "--send",
        "chat:*",
        "--expires",
        "90s",
        "--iss",
        "i",
        "--aud",
        "a",
    ];
    let mut command = bare(&words);
    command.env("FANFARE_TOKEN_SECRET", TOKEN_SECRET);
    let done = run(command);
    done.assert_code(0);
    assert_eq!(done.err, "");
    let token = done.out.strip_suffix('\n').unwrap();
    let key = jsonwebtoken::DecodingKey::from_secret(TOKEN_SECRET.as_bytes());
    let mut validation = jsonwebtoken::Validation::default();
    validation.set_audience(&["a"]);
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
        .unwrap()
        .claims;
    assert_eq!(claims["sub"], "7");
    assert_eq!(claims["tasks"], json!([TASK, "*"]));
    assert_eq!(claims["send"], json!(["chat:*"]));
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("i"), &json!("a")));
    let lifetime = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lifetime, 90);

    let token = run(fanfare(&server, &["token", "--user", "7"])).out;
    let mut command = bare(&["tail", "user:7", "-n1"]);
    command
        .env("FANFARE_URL", server.url())
        .env("FANFARE_TOKEN", token.trim());
    let tail = Run::spawn(command);
    tail.err.until("watching");
    run(fanfare(&server, &["publish", "user:7", "1"])).assert_code(0);
    tail.wait().assert_code(0);
}

#[test]
fn without_a_secret_or_with_a_wrong_user_there_is_no_token() {
    let secret = ("FANFARE_TOKEN_SECRET", TOKEN_SECRET);
    let cases: [(&[&str], _, &str); 4] = [
        (
            &["--user", "7"],
            ("NO_COLOR", "1"),
            "FANFARE_TOKEN_SECRET is not set",
        ),
        (&["--user", "07"], secret, "07"),
        (&["--user", "7", "--tasks", "x"], secret, "x"),
        (
            &["--user", "7", "--expires", "1w"],
            secret,
            "such as 90s or 12h",
        ),
    ];
    for (words, (name, value), says) in cases {
        let mut command = bare(&[&["token"], words].concat());
        command.env(name, value);
        let done = run(command);
        assert_eq!(done.code, Some(2), "{words:?}: {done:?}");
        assert!(done.err.contains(says), "{words:?}: {done:?}");
        assert_eq!(done.out, "");
    }
}
