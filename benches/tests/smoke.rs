//! Each measuring program runs, with numbers that are too small to say anything, and finds what it checks as it should be.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The server that they measure, where cargo has not built it beside them.
fn build_server() {
    let beside = Path::new(env!("CARGO_BIN_EXE_floor")).with_file_name("fanfare-server");
    if !beside.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        let built = cargo.args(["build", "-p", "fanfare-server"]).status();
        assert!(built.unwrap().success());
    }
}

#[test]
fn every_program_measures_what_it_says() {
    build_server();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    // The program, its arguments, and what its lines begin with.
    let cases: [(&str, &[&str], &[&str]); 5] = [
        (
            env!("CARGO_BIN_EXE_floor"),
            &["2", "10", "1"],
            &["floor connections=2 deliveries=20 "],
        ),
        (
            env!("CARGO_BIN_EXE_publish"),
            &[dir, "0.01", "3"],
            &[
                "immediate publishers=3 rooms=own publishes_per_s=",
                "  commits_per_s=",
                "immediate publishers=3 rooms=any_user publishes_per_s=",
                "  commits_per_s=",
                "relaxed publishers=3 rooms=own publishes_per_s=",
                "  commits_per_s=",
                "relaxed publishers=3 rooms=any_user publishes_per_s=",
                "  commits_per_s=",
                "memory publishers=3 rooms=own publishes_per_s=",
                "memory publishers=3 rooms=any_user publishes_per_s=",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_resume"),
            &[dir, "3", "5"],
            &[
                "shared-memory",
                "  filled: events=5 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
                "shared-store",
                "  filled: events=5 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
                "own-memory",
                "  filled: events=15 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
                "own-store",
                "  filled: events=15 ",
                "  idle: live n=",
                "  resume: ",
                "  connect: ",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_restart"),
            &[dir, "30", "20"],
            &[
                "filled events=30 rooms=20 ",
                "after=kill ready_s=",
                "after=kill ready_s=",
                "after=kill ready_s=",
                "after=term ready_s=",
                "after=term ready_s=",
                "after=term ready_s=",
            ],
        ),
        (
            env!("CARGO_BIN_EXE_store"),
            &["open", dir, "10"],
            &[
                "filled batches=10 ",
                "closed: ",
                "closed, not verified: ",
                "killed: ",
            ],
        ),
    ];
    for (program, arguments, begins) in cases {
        let output = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{program}: {said}\n{errors}");
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), begins.len(), "{program}: {said}");
        for (line, begin) in lines.iter().zip(begins) {
            assert!(line.starts_with(begin), "{program}: {said}");
        }
    }
}

/// Ends with the test, also where that fails.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_is_posted_to_the_floor_goes_to_the_members_of_that_path() {
    let server = Command::new(env!("CARGO_BIN_EXE_floor-server"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn();
    let mut server = Server(server.unwrap());
    let mut line = String::new();
    let mut said = BufReader::new(server.0.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap();
    let join = |path: &str| {
        let mut member = TcpStream::connect(address).unwrap();
        // What does not come fails the test, instead of holding it up.
        let while_busy = Some(Duration::from_secs(30));
        member.set_read_timeout(while_busy).unwrap();
        // The key and the answer of RFC 6455, section 1.3.
        let request = format!(
            "GET {path} HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        member.write_all(request.as_bytes()).unwrap();
        let mut member = BufReader::new(member);
        let head: Vec<String> = (0..5)
            .map(|_| {
                let mut line = String::new();
                member.read_line(&mut line).unwrap();
                line
            })
            .collect();
        assert_eq!(head[0], "HTTP/1.1 101 Switching Protocols\r\n");
        assert_eq!(
            head[3],
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        );
        member
    };
    let (mut here, mut there) = (join("/1"), join("/2"));
    let mut back_end = TcpStream::connect(address).unwrap();
    for (path, body) in [("/1", "one"), ("/2", "two"), ("/3", "nobody")] {
        let length = body.len();
        write!(
            back_end,
            "POST {path} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = [0; 38];
        back_end.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    for (member, payload) in [(&mut here, "one"), (&mut there, "two")] {
        let mut frame = [0; 5];
        member.read_exact(&mut frame).unwrap();
        assert_eq!(frame, *fanfare_benches::text_frame(payload.as_bytes()));
    }
    drop(server);
    // Nothing of another path, to the end of the connection.
    for mut member in [here, there] {
        let mut rest = Vec::new();
        let _ = member.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
    }
}
