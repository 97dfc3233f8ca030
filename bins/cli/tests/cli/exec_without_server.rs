//! `fanfare exec` while the server is away, broken or says no: the command never notices.

use crate::run::{Run, bare, fanfare, run};
use crate::server::{Event, Fault, Server};

/// Waits for a line on its standard input between what it prints.
const STEPS: &str = "echo one; read word; echo two; read word; echo three; exit 5";

fn steps(server: &Server, linger: &str) -> Run {
    let arguments = ["exec", "--linger", linger, "--", "sh", "-c", STEPS];
    let mut command = fanfare(server, &arguments);
    command.stdin(std::process::Stdio::piped());
    Run::spawn(command)
}

fn assert_whole(events: &[Event]) {
    let mut ids: Vec<_> = events.iter().map(|event| &event.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), events.len(), "an event came twice: {events:#?}");
    let lines: Vec<_> = events.iter().flat_map(Event::lines).collect();
    assert_eq!(lines, ["one", "two", "three"], "{events:#?}");
    let kinds: Vec<_> = events
        .iter()
        .map(|event| event.kind.as_str())
        .filter(|kind| *kind != "task:status")
        .collect();
    assert_eq!(kinds, ["task:created", "task:started", "task:failed"]);
    assert_eq!(events.last().unwrap().data["exit_code"], 5);
}

#[test]
fn a_server_that_is_away_at_the_start_gets_everything_when_it_comes() {
    let mut server = Server::reserved();
    let mut run = steps(&server, "10m");
    run.err.until("can't reach");
    run.out.until("one");
    run.say("\n");
    run.out.until("two");
    server.come_back();
    run.err.until("is back");
    run.say("\n");
    let done = run.wait();
    done.assert_code(5);
    assert_eq!(done.out, "one\ntwo\nthree\n");
    assert_eq!(done.err.matches("can't reach").count(), 1, "{done:?}");
    assert_whole(&server.events());
}

#[test]
fn a_server_that_goes_away_in_the_middle_gets_the_rest_when_it_is_back() {
    let mut server = Server::start();
    let mut run = steps(&server, "10m");
    server.events_until(|event| event.lines().contains(&"one"));
    server.go_away();
    run.say("\n");
    run.out.until("two");
    run.err.until("can't reach");
    run.say("\n");
    run.out.until("three");
    server.come_back();
    let done = run.wait();
    done.assert_code(5);
    assert_whole(&server.events());
}

#[test]
fn a_server_that_never_comes_costs_the_linger_and_what_it_missed_is_said() {
    let server = Server::reserved();
    let mut run = steps(&server, "1s");
    run.say("\n\n");
    let done = run.wait();
    done.assert_code(5);
    assert_eq!(done.out, "one\ntwo\nthree\n");
    assert!(
        done.err.contains("not delivered: 3 events and 3 lines"),
        "{done:?}"
    );
}

#[test]
fn of_a_flood_the_newest_lines_wait_and_how_many_went_is_said() {
    let mut server = Server::reserved();
    let script = "seq 1 5000; read word";
    let arguments = ["exec", "--linger", "10m", "--", "sh", "-c", script];
    let mut command = fanfare(&server, &arguments);
    command.stdin(std::process::Stdio::piped());
    let run = Run::spawn(command);
    run.out.until("\n5000\n");
    server.come_back();
    run.wait().assert_code(1);
    let events = server.events();
    let lines: Vec<_> = events.iter().flat_map(Event::lines).collect();
    let dropped: u64 = events
        .iter()
        .filter_map(|event| event.data["dropped"].as_u64())
        .sum();
    assert_eq!(lines.len(), 2_000);
    assert_eq!(dropped, 3_000);
    assert_eq!(lines.last(), Some(&"5000"));

    let server = Server::reserved();
    let arguments = ["exec", "--linger", "0s", "--", "seq", "1", "5000"];
    let done = crate::run::run(fanfare(&server, &arguments));
    assert!(
        done.err.contains("not delivered: 3 events and 5000 lines"),
        "{done:?}"
    );
}

#[test]
fn whoever_waits_for_the_delivery_is_told_and_can_end_it() {
    let server = Server::reserved();
    let mut run = steps(&server, "10m");
    run.say("\n\n");
    run.err.until("Ctrl-C");
    run.signal(rustix::process::Signal::INT);
    let done = run.wait();
    done.assert_code(5);
    assert!(done.err.contains("not delivered"), "{done:?}");
}

#[test]
fn an_answer_that_is_lost_does_not_double_its_event() {
    let server = Server::start();
    server.fault([Fault::AnswerLost; 3]);
    let mut run = steps(&server, "10m");
    run.say("\n\n");
    run.wait().assert_code(5);
    assert_whole(&server.events());
}

#[test]
fn a_server_that_has_no_time_is_asked_again() {
    for status in [429, 500, 503, 507] {
        let server = Server::start();
        server.fault([Fault::Status(status); 2]);
        let mut run = steps(&server, "10m");
        run.say("\n\n");
        let done = run.wait();
        done.assert_code(5);
        assert!(done.err.contains(&status.to_string()), "{done:?}");
        assert_whole(&server.events());
    }
}

#[test]
fn a_server_that_says_no_for_good_is_asked_once() {
    let server = Server::start();
    let mut command = fanfare(&server, &["exec", "--", "sh", "-c", STEPS]);
    command.env("FANFARE_API_KEY", "a-wrong-key-0123456789");
    let done = run(command);
    done.assert_code(5);
    assert_eq!(done.out, "one\ntwo\nthree\n");
    assert_eq!(done.err.matches("refused").count(), 1, "{done:?}");
    for words in ["401", "bad_api_key", "no more events are sent"] {
        assert!(done.err.contains(words), "{words}: {done:?}");
    }
    assert!(!done.err.contains("a-wrong-key"), "{done:?}");
    assert!(server.so_far().is_empty());
}

#[test]
fn without_a_key_nothing_is_run() {
    let done = run(bare(&["exec", "--", "echo", "ran"]));
    done.assert_code(2);
    assert_eq!(done.out, "");
    assert!(done.err.contains("FANFARE_API_KEY"), "{done:?}");
}
