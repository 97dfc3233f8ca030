//! `fanfare tail`: what comes, in which form, over which outages, and how it ends.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::relay::Relay;
use crate::run::{Done, Run, Text, bare, fanfare, run};
use crate::server::{API_KEY, Server, TASK};
use crate::terminal::Terminal;

const OTHER_TASK: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

fn publish(server: &Server, words: &[&str]) {
    let words = [&["publish"], words].concat();
    run(fanfare(server, &words)).assert_code(0);
}

/// `fanfare tail` that has joined what it is to watch.
fn tail(server: &Server, words: &[&str]) -> Run {
    let words = [&["tail"], words].concat();
    let run = Run::spawn(fanfare(server, &words));
    run.err.until("watching");
    run
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
        })
        .collect()
}

fn data(done: &Done) -> Vec<Value> {
    let events = lines(&done.out).into_iter();
    events.map(|event| event["data"].clone()).collect()
}

#[test]
fn each_event_is_a_line_of_json_and_only_those_come_that_were_asked_for() {
    let task = format!("task:{TASK}");
    let cases: &[(&[&str], &[i32])] = &[
        (&[&task], &[1, 2]),
        (&["user:7"], &[2, 4]),
        (&["--bus", "*"], &[1, 2, 3, 4, 5, 6]),
        (&["--bus", "chat:*"], &[1, 5]),
        (&["--bus", "task:*,metrics:tick"], &[2, 3, 6]),
        (&["--bus", "task:*", "--bus", "metrics:tick"], &[2, 3, 6]),
    ];
    for (words, expected) in cases {
        let server = Server::start();
        let count = expected.len().to_string();
        let tail = tail(&server, &[words, &["--count", &count][..]].concat());
        let other = format!("task:{OTHER_TASK}");
        publish(&server, &[&task, "chat:message", "1"]);
        publish(&server, &[&task, "task:created", "2", "--user", "7"]);
        publish(&server, &[&other, "task:created", "3"]);
        publish(&server, &["user:7", "user:notification", "4"]);
        publish(&server, &["user:8", "chat:message", "5"]);
        publish(&server, &["--bus", "metrics:tick", "6"]);
        let done = tail.wait();
        done.assert_code(0);
        assert_eq!(data(&done), expected.to_vec(), "{words:?}: {done:?}");
    }
}

#[test]
fn an_event_is_printed_as_it_came() {
    let server = Server::start();
    let tail = tail(&server, &["user:7", "-n1"]);
    let data = "{\n  \"text\": \"grün\",\n  \"n\": 1.50\n}";
    publish(&server, &["user:7", "a:b", data, "--id", "the-id"]);
    let done = tail.wait();
    assert!(
        done.out.contains("{   \"text\": \"grün\",   \"n\": 1.50 }"),
        "not written anew: {done:?}"
    );
    let [event] = &lines(&done.out)[..] else {
        panic!("{done:?}");
    };
    assert_eq!(event["type"], "a:b");
    assert_eq!(event["id"], "the-id");
    assert_eq!(event["rooms"], json!({ "user:7": 1 }));
    assert_eq!(event["data"], json!({ "text": "grün", "n": 1.5 }));
}

#[test]
fn on_a_terminal_a_line_is_for_people() {
    let server = Server::start();
    let terminal = Terminal::spawn(fanfare(&server, &["tail", "user:7"]), 100);
    terminal.screen.until("watching user:7");
    publish(&server, &["user:7", "{\"text\":\"hello\"}"]);
    let screen = terminal.screen.until("hello");
    assert!(screen.contains("user:notification"), "{screen}");
    assert!(!screen.contains("\"type\""), "{screen}");
    terminal.type_keys("\x03");
    let done = terminal.run.wait();
    done.assert_code(0);
    assert!(!done.out.contains("error"), "{done:?}");
}

#[test]
fn a_signal_ends_it_and_is_no_failure() {
    let server = Server::start();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let tail = tail(&server, &["user:7", "--count", "9"]);
        publish(&server, &["user:7", "1"]);
        tail.out.until("\n");
        tail.signal(signal);
        let done = tail.wait();
        done.assert_code(0);
        assert_eq!(data(&done), [1], "{signal:?}");
        assert_eq!(done.err.lines().count(), 1, "{signal:?}: {done:?}");
    }
}

#[test]
fn when_nobody_reads_any_more_it_ends_and_that_is_no_failure() {
    let server = Server::start();
    let mut command = fanfare(&server, &["tail", "user:7"]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdout(writer).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    let err = Text::default();
    let collecting = err.collect(child.stderr.take().unwrap(), |_| {});
    let tail = Run::of(child, Text::default(), err.clone(), vec![collecting]);
    err.until("watching");
    drop(reader);
    publish(&server, &["user:7", "1"]);
    let done = tail.wait();
    done.assert_code(0);
    assert_eq!(done.err.lines().count(), 1, "{done:?}");
}

#[test]
fn after_the_connection_was_lost_it_goes_on_from_where_it_was() {
    let task = format!("task:{TASK}");
    for room in ["user:7", &task] {
        let server = Server::start();
        let relay = Relay::to(server.address);
        let mut command = fanfare(&server, &["tail", room, "--count", "4"]);
        command.env("FANFARE_URL", relay.url());
        let tail = Run::spawn(command);
        tail.err.until("watching");
        publish(&server, &[room, "a:b", "1"]);
        tail.out.until("\n");
        relay.cut();
        tail.err.until("trying again");
        for number in ["2", "3"] {
            publish(&server, &[room, "a:b", number]);
        }
        relay.mend();
        tail.err.until("connected again");
        publish(&server, &[room, "a:b", "4"]);
        let done = tail.wait();
        done.assert_code(0);
        assert_eq!(data(&done), [1, 2, 3, 4], "{done:?}");
        assert_eq!(done.err.matches("trying again").count(), 1, "{done:?}");
        assert!(!done.err.contains("missing"), "{done:?}");
    }
}

#[test]
fn a_server_that_was_killed_and_started_again_is_found_again_and_what_is_lost_is_said() {
    for words in [&["user:7"][..], &["--bus", "*"]] {
        let mut server = Server::start();
        let tail = tail(&server, &[words, &["--count", "2"][..]].concat());
        publish(&server, &["user:7", "1"]);
        tail.out.until("\n");
        server.go_away();
        tail.err.until("trying again");
        server.come_back();
        tail.err.until("connected again");
        publish(&server, &["user:7", "2"]);
        let done = tail.wait();
        done.assert_code(0);
        assert_eq!(data(&done), [1, 2], "{done:?}");
        // The bus is live only: it has no position to miss anything from.
        let gap = words.len() == 1;
        assert_eq!(done.err.contains("missing"), gap, "{done:?}");
    }
}

#[test]
fn it_begins_after_the_position_that_is_named() {
    let server = Server::start();
    for number in ["1", "2", "3"] {
        publish(&server, &["user:7", number]);
    }
    let first = tail(&server, &["user:7", "-n1", "--system"]);
    let welcome = first.out.until("\n");
    let welcome: Value = serde_json::from_str(welcome.lines().next().unwrap()).unwrap();
    let epoch = welcome["data"]["rooms"]["user:7"]["epoch"]
        .as_str()
        .unwrap_or_else(|| panic!("{welcome}"));
    for since in [format!("{epoch}:1"), format!("user:7@{epoch}:1")] {
        let done = tail(&server, &["user:7", "-n2", "--since", &since]).wait();
        done.assert_code(0);
        assert_eq!(data(&done), [2, 3], "{since}");
    }
}

#[test]
fn a_room_of_which_nothing_is_known_yet_is_said_to_be_so() {
    let server = Server::start();
    let task = format!("task:{TASK}");
    let unknown = tail(&server, &[&task]);
    assert!(
        unknown
            .err
            .until("\n")
            .contains("nothing is known of it yet"),
        "{}",
        unknown.err.now()
    );
    publish(&server, &[&task, "task:created", "{}"]);
    let known = tail(&server, &[&task]);
    assert!(known.err.until("\n").contains("created"));
}

#[test]
fn what_is_wrong_is_told_with_what_to_do_and_its_exit_status() {
    struct Case {
        name: &'static str,
        words: &'static [&'static str],
        set: &'static [(&'static str, &'static str)],
        code: i32,
        says: &'static [&'static str],
    }
    let cases = [
        Case {
            name: "a wrong API key",
            words: &["tail", "--bus", "*"],
            set: &[("FANFARE_API_KEY", "some-wrong-key-0123456789")],
            code: 3,
            says: &["bad_api_key", "FANFARE_API_KEY"],
        },
        Case {
            name: "a token that is none",
            words: &["tail", "user:7"],
            set: &[("FANFARE_TOKEN", "abc")],
            code: 3,
            says: &["bad_token", "FANFARE_TOKEN"],
        },
        Case {
            name: "a token of another secret",
            words: &["tail", "user:7"],
            set: &[(
                "FANFARE_TOKEN_SECRET",
                "another-secret-0123456789-0123456789",
            )],
            code: 3,
            says: &["bad_token", "FANFARE_TOKEN_SECRET"],
        },
        Case {
            name: "no token",
            words: &["tail", "user:7"],
            set: &[("FANFARE_TOKEN_SECRET", "")],
            code: 2,
            says: &["FANFARE_TOKEN ", "fanfare token"],
        },
        Case {
            name: "no API key",
            words: &["tail", "--bus", "*"],
            set: &[("FANFARE_API_KEY", "")],
            code: 2,
            says: &["FANFARE_API_KEY", "--dev"],
        },
        Case {
            name: "no server",
            words: &["tail", "user:7"],
            set: &[("FANFARE_URL", "http://127.0.0.1:9")],
            code: 4,
            says: &["can't reach http://127.0.0.1:9", "FANFARE_URL"],
        },
        Case {
            name: "an address without http",
            words: &["tail", "user:7"],
            set: &[("FANFARE_URL", "127.0.0.1:9")],
            code: 2,
            says: &["http://"],
        },
        Case {
            name: "a room that is none",
            words: &["tail", "room:7"],
            set: &[],
            code: 2,
            says: &["task:", "user:"],
        },
        Case {
            name: "nothing to watch",
            words: &["tail"],
            set: &[],
            code: 2,
            says: &["ROOM", "--bus"],
        },
    ];
    let server = Server::start();
    for case in cases {
        let mut command = fanfare(&server, case.words);
        command.envs(case.set.iter().copied());
        let done = run(command);
        assert_eq!(done.code, Some(case.code), "{}: {done:?}", case.name);
        for words in case.says {
            assert!(done.err.contains(words), "{}, {words}: {done:?}", case.name);
        }
        for (_, value) in case.set.iter().filter(|(_, value)| value.len() > 20) {
            assert!(!done.err.contains(value), "{}: {done:?}", case.name);
        }
        assert_eq!(done.out, "", "{}", case.name);
    }
}

#[test]
fn a_token_of_another_user_is_told_at_once() {
    let server = Server::start();
    let token = run(fanfare(&server, &["token", "--user", "8"])).out;
    let mut command = fanfare(&server, &["tail", "user:7"]);
    command.env("FANFARE_TOKEN", token.trim());
    let done = run(command);
    done.assert_code(2);
    assert!(done.err.contains("user:8"), "{done:?}");
}

#[test]
fn a_token_that_does_not_name_the_task_is_refused() {
    let server = Server::start();
    let words = ["token", "--user", "7", "--tasks", OTHER_TASK];
    let token = run(fanfare(&server, &words)).out;
    let task = format!("task:{TASK}");
    let mut command = bare(&["tail", &task]);
    command
        .env("FANFARE_URL", server.url())
        .env("FANFARE_API_KEY", API_KEY)
        .env("FANFARE_TOKEN", token.trim());
    let done = run(command);
    done.assert_code(3);
    for words in ["forbidden", "--tasks"] {
        assert!(done.err.contains(words), "{words}: {done:?}");
    }
}
