//! `fanfare bench`: what it counts, of an honest server and of others.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::raw::{Manner, RawServer};
use crate::run::{Done, Run, bare, fanfare, run};
use crate::server::{API_KEY, Fault, Server, TOKEN_SECRET};
use crate::terminal::Terminal;

fn report(done: &Done) -> Value {
    serde_json::from_str(&done.out).unwrap_or_else(|error| panic!("{error}: {done:?}"))
}

/// A run against a raw server.
fn raw(server: &RawServer, flags: &str) -> Done {
    let own = server.flags();
    let words: Vec<_> = ["bench", "--json"]
        .into_iter()
        .chain(own.iter().map(String::as_str))
        .chain(flags.split(' '))
        .collect();
    run(bare(&words))
}

#[test]
fn of_a_real_server_every_delivery_comes_once_and_in_order() {
    for (rooms, in_flight, rate, size) in [
        (1, 1, "", 256),
        (7, 20, "", 51),
        (3, 2, "--rate 500", 12_000),
    ] {
        let server = Server::start();
        let flags = format!(
            "bench --connections 21 --rooms {rooms} --in-flight {in_flight} --size {size} --publishes 70 --json {rate}"
        );
        let done = run(fanfare(
            &server,
            &flags.split_whitespace().collect::<Vec<_>>(),
        ));
        done.assert_code(0);
        let report = report(&done);
        assert_eq!(report["deliveries"], 70 * 21 / rooms, "{report}");
        assert_eq!(report["publishes"]["answered"], 70);
        for nothing in ["lost", "doubled", "out_of_order", "unexpected", "gaps"] {
            assert_eq!(report[nothing], 0, "{nothing}");
        }
        assert_eq!(report["ended"], "done");
        assert_eq!(report["connections"]["opened"], 21);
        assert_eq!(report["server"]["pids"], json!([std::process::id()]));
        assert!(report["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
        assert!(report["server"]["resident_kib"][2].as_u64().unwrap() > 0);
        // What was published is what was asked for, evenly.
        let events = server.so_far();
        assert_eq!(events.len(), 70);
        assert!(
            events
                .iter()
                .all(|event| event.data.to_string().len() == size)
        );
        let of_first = events.iter().filter(|event| event.rooms == events[0].rooms);
        assert!([70 / rooms, 70 / rooms + 1].contains(&of_first.count()));
    }
}

#[test]
fn who_reads_nothing_is_not_waited_for_and_takes_nothing_from_the_others() {
    let server = Server::start();
    let flags = "bench --connections 9 --stalled 3 --rooms 3 --publishes 30 --json";
    let done = run(fanfare(
        &server,
        &flags.split_whitespace().collect::<Vec<_>>(),
    ));
    done.assert_code(0);
    let report = report(&done);
    assert_eq!(report["connections"]["opened"], 9);
    assert_eq!(report["deliveries"], 30 * 2, "{report}");
    assert_eq!(report["publishes"]["stalled"], 0);
    assert_eq!(report["lost"], 0);
}

#[test]
fn with_one_token_as_many_connect_as_the_server_lets_one_user() {
    let server = Server::start();
    let token = run(fanfare(&server, &["token", "--user", "7", "--tasks", "*"])).out;
    let mut command = bare(&["bench", "--connections", "40", "--publishes", "3", "--json"]);
    command
        .env("FANFARE_URL", server.url())
        .env("FANFARE_API_KEY", API_KEY)
        .env("FANFARE_TOKEN", token.trim());
    let done = run(command);
    done.assert_code(1);
    let report = report(&done);
    assert_eq!(report["connections"]["failed"], 8, "{report}");
    let words = report["connections"]["failures"].to_string();
    assert!(words.contains("too many connections"), "{words}");
    assert_eq!(report["deliveries"], 3 * 32);
}

#[test]
fn publishes_that_are_refused_are_counted_with_the_servers_words() {
    let server = Server::start();
    let run = Run::spawn(fanfare(
        &server,
        &[
            "bench",
            "--connections",
            "2",
            "--publishes",
            "2000",
            "--json",
        ],
    ));
    server.events_until(|_| true);
    server.fault([Fault::Status(503), Fault::AnswerLost]);
    let done = run.wait();
    done.assert_code(1);
    let report = report(&done);
    assert_eq!(report["publishes"]["errors"], 2, "{report}");
    assert_eq!(report["publishes"]["answered"], 1_998);
    let words = report["publishes"]["failures"].to_string();
    assert!(
        words.contains("HTTP 503: {}") && words.contains("closed the connection"),
        "{words}"
    );
    // What was taken and not answered came all the same.
    assert_eq!(report["deliveries"], 2 * 1_999);
    assert_eq!(report["lost"], 0);
}

#[test]
fn of_a_raw_server_each_kind_of_wrong_is_counted() {
    let counts = |lost, doubled, out_of_order| [lost, doubled, out_of_order];
    for (manner, code, wrong, errors) in [
        (Manner::Honest, 0, counts(0, 0, 0), 0),
        (Manner::Loses, 1, counts(9, 0, 0), 0),
        (Manner::Doubles, 1, counts(0, 9, 0), 0),
        (Manner::Swaps, 1, counts(0, 0, 9), 0),
        (Manner::Refuses, 1, counts(0, 0, 0), 9),
    ] {
        let server = RawServer::start(manner);
        let done = raw(
            &server,
            "--connections 3 --rate 1000 --in-flight 1 --publishes 95",
        );
        done.assert_code(code);
        let report = report(&done);
        let got = ["lost", "doubled", "out_of_order"].map(|name| report[name].as_u64().unwrap());
        assert_eq!(got, wrong, "{manner:?}: {report}");
        assert_eq!(report["publishes"]["errors"], errors, "{manner:?}");
        assert_eq!(
            report["deliveries"],
            3 * (95 - errors) - wrong[0],
            "{manner:?}"
        );
    }
}

#[test]
fn a_publish_that_is_not_everywhere_holds_the_others_up_no_longer_than_that() {
    let server = RawServer::start(Manner::Loses);
    let done = raw(&server, "--connections 2 --in-flight 1 --publishes 12");
    done.assert_code(1);
    let report = report(&done);
    assert_eq!(
        (&report["publishes"]["stalled"], &report["lost"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn nonsense_is_told_as_what_it_is() {
    for (bytes, code, words) in [
        (&b"SSH-2.0-OpenSSH\r\n"[..], 1, "no HTTP"),
        (b"\0\xff\x1b[2J", 1, "no HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            3,
            "HTTP 200: hi",
        ),
        (
            b"HTTP/1.1 403 Forbidden\r\n\r\nnot you",
            3,
            "HTTP 403: not you",
        ),
        (b"HTTP/1.1 101 Sure\r\n\r\n", 1, "Sec-WebSocket-Accept"),
        (b"", 1, "without a word"),
        (&[b'x'; 20_000], 1, "no HTTP"),
    ] {
        let server = RawServer::start(Manner::Says(bytes));
        let done = raw(&server, "--connections 3");
        done.assert_code(code);
        assert!(done.err.contains(words) && done.out.is_empty(), "{done:?}");
        assert!(!done.err.contains('\x1b'), "{done:?}");
    }
    for (bytes, words) in [
        (&[0xc1, 0][..], "reserved bits"),
        (&[0x81, 0x80], "masked"),
        (
            &[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255],
            "more than 2 MiB",
        ),
        (
            &[0x88, 8, 0x11, 0x94, b's', b'o', b'r', b'r', b'y', 0x1b],
            "closed with 4500: sorry",
        ),
    ] {
        let server = RawServer::start(Manner::SaysAfter(bytes));
        let done = raw(&server, "--connections 3 --publishes 1000");
        done.assert_code(1);
        let report = report(&done);
        assert_eq!(report["ended"], "server_gone", "{report}");
        assert_eq!(report["connections"]["closed"], 3);
        let said = report["connections"]["closures"][0]["words"]
            .as_str()
            .unwrap();
        assert!(said.contains(words) && !said.contains('\x1b'), "{said}");
    }
}

#[test]
fn a_server_that_dies_in_the_middle_is_reported_as_far_as_it_came() {
    let server = RawServer::start(Manner::Dies);
    let done = raw(
        &server,
        "--connections 3 --rate 1000 --in-flight 1 --duration 60s",
    );
    done.assert_code(1);
    let report = report(&done);
    assert_eq!(report["ended"], "server_gone", "{report}");
    assert_eq!(report["publishes"]["answered"], 19);
    assert_eq!(report["deliveries"], 57);
    assert_eq!(report["connections"]["closed"], 3);
}

#[test]
fn ctrl_c_ends_it_early_and_prints_what_was_done() {
    let server = Server::start();
    for signals in [1, 2] {
        let before = server.so_far().len();
        let mut run = Run::spawn(fanfare(
            &server,
            &[
                "bench",
                "--connections",
                "3",
                "--rate",
                "200",
                "--duration",
                "600s",
            ],
        ));
        while server.so_far().len() < before + 10 {
            std::thread::yield_now();
        }
        for _ in 0..signals {
            run.signal(Signal::INT);
        }
        assert_eq!(run.status().code(), Some(0));
        let done = run.out.until("early, as asked");
        assert!(done.contains("0 lost, 0 doubled"), "{done}");
    }
}

#[test]
fn on_a_terminal_a_line_tells_how_far_it_is() {
    let server = Server::start();
    let terminal = Terminal::spawn(
        fanfare(
            &server,
            &[
                "bench",
                "--connections",
                "3",
                "--rate",
                "200",
                "--duration",
                "600s",
            ],
        ),
        100,
    );
    terminal.screen.until("deliveries a second, p99");
    terminal.run.signal(Signal::INT);
    terminal.screen.until("early, as asked");
}

#[test]
fn what_cannot_be_is_told_before_anything_is_sent() {
    let server = Server::start();
    let raw = "bench --raw ws://127.0.0.1:9/ --publish-url http://127.0.0.1:9/";
    for (flags, words) in [
        ("bench --url https://127.0.0.1:9", "speaks no TLS"),
        (
            "bench --raw wss://127.0.0.1:9/ --publish-url http://127.0.0.1:9/",
            "speaks no TLS",
        ),
        ("bench --size 50", "it takes 51 bytes"),
        ("bench --size 1000001", "1000001"),
        ("bench --connections 2 --rooms 3", "some would be empty"),
        ("bench --connections 2 --stalled 2", "nobody would read"),
        ("bench --rate 0", "0.001"),
        ("bench --pid 4294967295", "no such process"),
        (
            "bench --in-flight 1024 --connections 100000 --publish-url x --raw y",
            "begin with",
        ),
        (
            "bench --in-flight 1024 --connections 1000000 --raw ws://h/ --publish-url http://h/",
            "MiB of memory",
        ),
        ("bench --raw ws://h/", "--publish-url"),
        ("bench --publish-body x", "--raw"),
        (&format!("{raw} --publish-body nothing"), "lacks {data}"),
        (
            &format!("{raw} --rooms 2"),
            "--raw or --connect-header has to have {room}",
        ),
        (
            &format!("{raw} --rooms 2 --connect-header a:{{room}}"),
            "--publish-url, --publish-header",
        ),
        (&format!("{raw} --publish-header nothing"), "no header"),
        (&format!("{raw} --publish-method P/T"), "no method"),
        (
            &format!("{raw} --connect-header a:{{data}}"),
            "its place in --publish-body only",
        ),
        (
            &format!("{raw} --publish-body {{data}}{{connection}}"),
            "no place",
        ),
        ("bench --raw ws://h/{rom} --publish-url http://h/", "braces"),
    ] {
        let done = run(fanfare(&server, &flags.split(' ').collect::<Vec<_>>()));
        done.assert_code(2);
        assert!(
            done.err.contains(words) && done.out.is_empty(),
            "{flags}: {done:?}"
        );
    }
    assert!(server.so_far().is_empty());
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    let mut server = Server::start();
    let with = |name: &str, value: &str| {
        let mut command = fanfare(&server, &["bench", "--connections", "3"]);
        command.env(name, value);
        run(command)
    };
    let other = "another-secret-of-the-tests-0123456789";
    for (name, code, words) in [
        (
            "FANFARE_TOKEN_SECRET",
            "bad_token",
            "must be signed with the server's secret",
        ),
        (
            "FANFARE_API_KEY",
            "bad_api_key",
            "must be the key that the server was started with",
        ),
    ] {
        let done = with(name, other);
        done.assert_code(3);
        assert!(
            done.err.contains(code) && done.err.contains(words),
            "{done:?}"
        );
        assert!(!done.err.contains(other) && done.out.is_empty(), "{done:?}");
    }
    let done = with("FANFARE_TOKEN_SECRET", "");
    done.assert_code(2);
    assert!(
        done.err.contains("FANFARE_TOKEN_SECRET is not set"),
        "{done:?}"
    );
    server.go_away();
    let done = run(fanfare(&server, &["bench"]));
    done.assert_code(4);
    assert!(done.err.contains("does the server run"), "{done:?}");
}

#[test]
fn too_few_open_files_are_told_with_how_many_it_takes() {
    let server = Server::start();
    let bench = fanfare(&server, &["bench", "--connections", "200"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""])
        .arg(bench.get_program())
        .args(bench.get_args())
        .env("FANFARE_URL", server.url())
        .env("FANFARE_API_KEY", API_KEY)
        .env("FANFARE_TOKEN_SECRET", TOKEN_SECRET);
    let done = run(command);
    done.assert_code(2);
    assert!(done.err.contains("ulimit -n 233"), "{done:?}");
}
