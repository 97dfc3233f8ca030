//! A server, and beside whatever a test does to it a client that must notice nothing.

use std::net::TcpStream;
use std::ops::{Deref, DerefMut};

use serde_json::Value;

use super::raw::Raw;
use super::{API_KEY, Answer, Server, TOKEN_SECRET, handshake, token, token_of};

/// A word of every payload; it must not get into the log.
pub(crate) const SECRET: &str = "s3cret";
/// The user who is connected all along.
pub(crate) const BYSTANDER: u64 = 8;

/// A [`Server`] that logs all there is, with a bystander and a back end that were connected before the test began.
pub(crate) struct Scene {
    server: Server,
    bystander: Raw,
    /// Events that the bystander got.
    told: u64,
    backend: TcpStream,
    /// Bytes of the log that were looked through.
    looked: usize,
}

impl Scene {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::of(Server::start(arguments))
    }

    pub(crate) fn of(server: Server) -> Self {
        let (bystander, _) = open(&server, NOTIFICATIONS, &token_of(BYSTANDER, "[]"));
        let mut backend = server.connect();
        ask(&mut backend, "GET /healthz", "", "");
        Self {
            bystander,
            told: 0,
            backend,
            looked: 0,
            server,
        }
    }

    /// A WebSocket of user 7 in the task's room and their own, after its welcome.
    pub(crate) fn client(&self) -> Raw {
        self.open(CHAT, &token()).0
    }

    /// Such a one for which little waits to be read.
    pub(crate) fn narrow_client(&self) -> Raw {
        let bearer = format!("Authorization: Bearer {}", token());
        let mut client = Raw::narrow(self.server.address).upgraded(&handshake(CHAT, &[&bearer]));
        assert_eq!(client.json()["type"], "system:welcome");
        client
    }

    /// A WebSocket, and its welcome.
    pub(crate) fn open(&self, path: &str, token: &str) -> (Raw, Value) {
        open(&self.server, path, token)
    }

    /// A publish over a connection that is kept.
    pub(crate) fn tell(&mut self, path: &str, body: &str) -> Answer {
        tell(&mut self.backend, path, body)
    }

    /// A number of `/metrics`, by the connection that is kept.
    pub(crate) fn metric(&mut self, name: &str) -> u64 {
        let answer = ask(&mut self.backend, "GET /metrics", "", "");
        let line = answer.body.lines().find_map(|line| line.strip_prefix(name));
        let number = line.unwrap_or_else(|| panic!("no {name} in {}", answer.body));
        number.trim().parse().unwrap()
    }

    /// What holds after every row: the server lives, the bystander gets its next event and nothing before that, and
    /// neither token nor key nor payload is in the log.
    pub(crate) fn assert_unharmed(&mut self, row: &str) {
        assert!(self.server.lives(), "{row}: {}", self.server.log());
        self.told += 1;
        let data = format!("{SECRET} {}", self.told);
        let body = format!(r#"{{"type":"note:added","data":"{data}"}}"#);
        let answer = self.tell(&format!("/v1/users/{BYSTANDER}/events"), &body);
        assert_eq!(answer.status, 200, "{row}: {answer:?}");
        let event = self.bystander.json();
        let room = format!("user:{BYSTANDER}");
        assert_eq!(event["rooms"][&room], self.told, "{row}: {event}");
        assert_eq!(event["data"], data, "{row}: {event}");
        self.assert_nothing_is_told(row);
    }

    fn assert_nothing_is_told(&mut self, row: &str) {
        // Everything before this line is there when it is.
        let path = format!("/log-mark/{}/", self.told);
        ask(&mut self.backend, &format!("GET {path}"), "", "");
        let log = self.server.log_until(&path);
        let new = &log[self.looked..];
        let bytes = format!("{:?}", SECRET.as_bytes());
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        // Every token begins with `{"` in base64.
        for secret in [
            TOKEN_SECRET,
            API_KEY,
            "eyJ",
            SECRET,
            &hex,
            bytes.trim_matches(['[', ']']),
        ] {
            let told = new.lines().find(|line| line.contains(secret));
            assert_eq!(told, None, "{row}: {secret} is in the log");
        }
        assert!(!new.contains("panicked"), "{row}: {new}");
        self.looked = log.len();
    }
}

impl Deref for Scene {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Scene {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

pub(crate) const NOTIFICATIONS: &str = "/v1/user/notifications";
pub(crate) const CHAT: &str = "/v1/tasks/550e8400-e29b-41d4-a716-446655440000/chat";
pub(crate) const EVENTS: &str = "/v1/tasks/550e8400-e29b-41d4-a716-446655440000/events";

/// A WebSocket, and its welcome.
pub(crate) fn open(server: &Server, path: &str, token: &str) -> (Raw, Value) {
    let bearer = format!("Authorization: Bearer {token}");
    let mut client = Raw::upgrade(server.address, &handshake(path, &[&bearer]));
    let welcome = client.json();
    assert_eq!(welcome["type"], "system:welcome", "{welcome}");
    (client, welcome)
}

/// A publish over a connection that is kept.
pub(crate) fn tell(backend: &mut TcpStream, path: &str, body: &str) -> Answer {
    let key = format!("Authorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n");
    ask(backend, &format!("POST {path}"), &key, body)
}

/// A request over a connection that is kept.
pub(crate) fn ask(backend: &mut TcpStream, line: &str, headers: &str, body: &str) -> Answer {
    use std::io::Write;
    let length = body.len();
    let text = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    backend.write_all(text.as_bytes()).unwrap();
    Answer::read(backend)
}
