//! `fanfare history`: all that a room keeps, or a word about what is missing between two of its events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

use serde_json::json;

use crate::run::{Done, bare, run};

/// An answer: the epoch, the oldest number that is kept, and the numbers of the page's events.
type Page<'a> = (&'a str, u64, &'a [u64]);

/// `fanfare history user:7` where the server answers so, one page after the other.
fn history(words: &[&str], pages: &[Page<'_>]) -> Done {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bodies: Vec<String> = pages
        .iter()
        .enumerate()
        .map(|(number, (epoch, first, seqs))| {
            let event = |seq: &u64| {
                json!({"type": "a:b", "id": "1", "at": "2026-01-01T00:00:00.000Z", "rooms": {"user:7": seq}})
            };
            let events: Vec<_> = seqs.iter().map(event).collect();
            let next = (number + 1 < pages.len()).then_some("/next");
            json!({"room": "user:7", "epoch": epoch, "first": first, "seq": 99, "events": events, "next": next})
                .to_string()
        })
        .collect();
    let server = std::thread::spawn(move || {
        for body in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let words = [&["history", "user:7", "--url", &url], words].concat();
    let mut command = bare(&words);
    command.env("FANFARE_API_KEY", "any");
    let done = run(command);
    server.join().unwrap();
    done
}

#[test]
fn what_is_missing_between_two_events_is_said_and_nothing_else_is() {
    const TRIMMED: &str = "fanfare: events 3 to 7 of user:7 are missing (trimmed)\n";
    const EPOCH: &str = "fanfare: events of user:7 may be missing (epoch)\n";
    let rows: [(&str, &[&str], &[Page<'_>], &str); 10] = [
        ("all", &[], &[("e", 1, &[1, 2]), ("e", 1, &[3])], ""),
        ("trimmed before the first", &[], &[("e", 5, &[5, 6])], ""),
        ("a hole", &[], &[("e", 1, &[1, 2]), ("e", 8, &[8])], TRIMMED),
        (
            "a hole, and then nothing",
            &[],
            &[("e", 1, &[1, 2]), ("e", 8, &[])],
            TRIMMED,
        ),
        (
            "another epoch",
            &[],
            &[("e", 1, &[1, 2]), ("f", 1, &[1, 2])],
            EPOCH,
        ),
        (
            "after a position",
            &["--since", "e:2"],
            &[("e", 1, &[3])],
            "",
        ),
        (
            "a hole after a position",
            &["--since", "e:2"],
            &[("e", 8, &[8])],
            TRIMMED,
        ),
        (
            "a position of another epoch",
            &["--since", "e:2"],
            &[("f", 1, &[1])],
            EPOCH,
        ),
        (
            "downwards",
            &["--newest"],
            &[("e", 1, &[9, 8]), ("e", 8, &[])],
            "",
        ),
        (
            "downwards, another epoch",
            &["--newest"],
            &[("e", 1, &[9, 8]), ("f", 1, &[2])],
            EPOCH,
        ),
    ];
    for (row, words, pages, said) in rows {
        let done = history(words, pages);
        assert_eq!(done.code, Some(0), "{row}: {done:?}");
        assert_eq!(done.err, said, "{row}");
        let printed = done.out.lines().count();
        let events: usize = pages.iter().map(|(_, _, seqs)| seqs.len()).sum();
        assert_eq!(printed, events, "{row}: {done:?}");
    }
}
