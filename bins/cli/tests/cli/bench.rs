//! `fanfare bench`: what it counts, of an honest server and of others.

use std::net::TcpListener;
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

/// A run against a real server, with these flags.
fn bench(server: &Server, flags: &str) -> Command {
    let words: Vec<_> = ["bench"]
        .into_iter()
        .chain(flags.split_whitespace())
        .collect();
    fanfare(server, &words)
}

/// One that goes on until it is told not to.
fn endless(server: &Server) -> Command {
    bench(server, "--connections 3 --rate 200 --duration 600s")
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
            "--connections 21 --rooms {rooms} --in-flight {in_flight} --size {size} --publishes 70 --json {rate}"
        );
        let done = run(bench(&server, &flags));
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
        // A tail of less than ten is not told.
        assert_eq!(report["latency_ms"]["p99"].is_f64(), rooms == 1, "{report}");
        assert!(report["latency_ms"]["p99_9"].is_null());
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
    let flags = "--connections 9 --stalled 3 --rooms 3 --publishes 30 --json";
    let done = run(bench(&server, flags));
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
    let run = Run::spawn(bench(&server, "--connections 2 --publishes 2000 --json"));
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
        // Nobody gets what it did not take.
        (Manner::HangsUp, 1, counts(0, 0, 0), 9),
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
fn a_server_that_takes_no_more_publishes_is_not_stormed() {
    let server = RawServer::start(Manner::TakesNoMore);
    let done = raw(&server, "--connections 2 --in-flight 1 --duration 1s");
    done.assert_code(1);
    let report = report(&done);
    assert_eq!(report["publishes"]["answered"], 19, "{report}");
    assert_eq!(
        (&report["lost"], &report["ended"]),
        (&json!(0), &json!("done"))
    );
    // At once, then after at least 0, 10, 20, 40, 80, 160 and 320 ms, and 640 more are too many.
    let errors = report["publishes"]["errors"].as_u64().unwrap();
    assert!((1..=8).contains(&errors), "{report}");
}

#[test]
fn a_publish_does_not_wait_for_a_connection_that_closes() {
    let server = RawServer::start(Manner::Leaves);
    let done = raw(&server, "--connections 2 --in-flight 1 --publishes 12");
    done.assert_code(1);
    let report = report(&done);
    assert_eq!(report["publishes"]["stalled"], 0, "{report}");
    assert_eq!(report["publishes"]["answered"], 12);
    assert_eq!(report["deliveries"], 2 * 9 + 3);
    assert_eq!(report["lost"], 0);
    assert_eq!(report["connections"]["closed"], 1);
}

#[test]
fn at_a_rate_a_pause_of_the_server_is_charged_with_all_that_was_due_in_it() {
    let server = RawServer::start(Manner::Pauses);
    let done = raw(
        &server,
        "--connections 1 --rate 1000 --in-flight 1 --publishes 95",
    );
    done.assert_code(0);
    let report = report(&done);
    // 86 of 95 were due in the first 94 ms and had to wait for the end of 200.
    let p50 = report["latency_ms"]["p50"].as_f64().unwrap();
    assert!(p50 > 100.0, "{report}");
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
    // Nothing is heard of one that reads nothing, its end neither.
    for stalled in ["", " --stalled 1"] {
        let server = RawServer::start(Manner::Dies);
        let flags = "--connections 3 --rate 1000 --in-flight 1 --duration 60s";
        let done = raw(&server, &format!("{flags}{stalled}"));
        done.assert_code(1);
        let report = report(&done);
        let readers = if stalled.is_empty() { 3 } else { 2 };
        assert_eq!(report["ended"], "server_gone", "{report}");
        assert_eq!(report["publishes"]["answered"], 19);
        assert_eq!(report["deliveries"], 19 * readers);
        assert_eq!(report["connections"]["closed"], readers);
        assert_eq!(report["connections"]["opened"], 3);
    }
}

#[test]
fn ctrl_c_while_it_connects_is_told_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let flags = format!(
        "bench --raw ws://{at}/ --publish-url http://{at}/ --connections 2 --duration 0s --json"
    );
    let run = Run::spawn(bare(&flags.split(' ').collect::<Vec<_>>()));
    // The first looks whether somebody listens; the second asks, and is not answered.
    let _sockets = [listener.accept().unwrap(), listener.accept().unwrap()];
    run.signal(Signal::INT);
    let report = report(&run.wait());
    assert_eq!(report["ended"], "interrupted", "{report}");
    assert_eq!(report["connections"]["opened"], 0);
}

#[test]
fn ctrl_c_ends_it_early_and_prints_what_was_done() {
    let server = Server::start();
    for signals in [1, 2] {
        let before = server.so_far().len();
        let mut run = Run::spawn(endless(&server));
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
    let terminal = Terminal::spawn(endless(&server), 100);
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
        ("bench --url nonsense", "does not begin with http://"),
        ("bench --url http://", "no URL"),
        ("bench --url http://h:99999", "from 1 to 65535"),
        ("bench --connections 0", "0 is not in 1..=1000000"),
        ("bench --connections 1000001", "1000001"),
        ("bench --rooms 0", "0 is not in"),
        ("bench --in-flight 1025", "1025"),
        ("bench --publishes 4294967296", "4294967296"),
        ("bench --duration soon", "soon"),
        (
            "bench --connections 2000 --size 1000000",
            "--size times --connections",
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
    let raw = RawServer::start(Manner::Honest);
    let [_, to, _, _] = raw.flags();
    let from = format!("--raw {to} --publish-url {}/", server.url());
    for flags in ["", &from] {
        let done = run(bench(&server, flags));
        done.assert_code(4);
        assert!(done.err.contains("does the server run"), "{done:?}");
    }
}

#[test]
fn too_few_open_files_are_told_with_how_many_it_takes() {
    let server = Server::start();
    let bench = bench(&server, "--connections 200");
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
