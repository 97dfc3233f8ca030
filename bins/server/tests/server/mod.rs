//! The real binary on a free port, and requests to it byte by byte.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic"
)]

#[path = "../../../../transports/websocket/tests/support/broken_frames.rs"]
pub(crate) mod broken_frames;
#[path = "../../../../transports/websocket/tests/support/raw.rs"]
pub(crate) mod raw;
pub(crate) mod scene;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const TOKEN_SECRET: &str = "token-secret-of-the-tests-0123456789";
pub(crate) const API_KEY: &str = "api-key-of-the-tests-0123456789abcdef";
pub(crate) const SECRETS: [(&str, &str); 2] = [
    ("FANFARE_TOKEN_SECRET", TOKEN_SECRET),
    ("FANFARE_API_KEY", API_KEY),
];
pub(crate) const TASK: &str = "550e8400-e29b-41d4-a716-446655440000";
/// Who issues tokens, and for whom: claims that count where they are configured.
pub(crate) const OURS: &str = r#""iss":"https://id.example","aud":"fanfare""#;
pub(crate) const SOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Generous: how long anything at all may take.
const PATIENCE: Duration = Duration::from_secs(30);

const BINARY: &str = env!("CARGO_BIN_EXE_fanfare-server");

/// The binary with nothing of this process's environment that is Fanfare's. Without `--data` it keeps nothing, so that no
/// test finds what another one left.
pub(crate) fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    prepare(Command::new(BINARY), arguments, environment)
}

fn prepare(mut command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    if !arguments.contains(&"--data") {
        command.env("FANFARE_MEMORY", "true");
    }
    command.args(arguments).envs(environment.iter().copied());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a pipe brought so far, with a bell for each line.
pub(crate) type Text = (Mutex<String>, Condvar);

/// A server that listens. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    out: Arc<Text>,
    log: Arc<Text>,
    readers: Vec<JoinHandle<()>>,
}

impl Server {
    /// A server with the secrets of the tests, which logs all there is.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::run(Command::new(BINARY), arguments)
    }

    /// Such a one that a shell becomes, after it has done this.
    pub(crate) fn in_shell(first: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = format!(r#"{first} && exec "$0" "$@""#);
        shell.args(["-c", &script, BINARY]);
        Self::run(shell, arguments)
    }

    fn run(command: Command, arguments: &[&str]) -> Self {
        // The arguments go over these.
        let settings = [
            ("FANFARE_LISTEN", "127.0.0.1:0"),
            ("FANFARE_LOG", "trace"),
            ("FANFARE_TOKEN_SECRET", TOKEN_SECRET),
            ("FANFARE_API_KEY", API_KEY),
        ];
        Self::spawn(prepare(command, arguments, &settings))
    }

    /// Starts `command` and waits for its address in the log.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, addresses) = mpsc::channel();
        let (out, log) = (Arc::<Text>::default(), Arc::<Text>::default());
        let readers = vec![
            collect(child.stdout.take().unwrap(), &out, |_| {}),
            collect(child.stderr.take().unwrap(), &log, move |line| {
                if let Ok(line) = serde_json::from_str::<serde_json::Value>(line)
                    && line["message"] == "listening"
                {
                    let _ = sender.send(line["address"].as_str().unwrap().parse().unwrap());
                }
            }),
        ];
        let address = addresses.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("no address was logged: {}", log.0.lock().unwrap());
        });
        Self {
            child,
            address,
            out,
            log,
            readers,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends `bytes` on a connection of their own and reads the answer.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = self.connect();
        // The answer may come before the last byte went.
        let _ = stream.write_all(bytes.as_ref());
        Answer::read(&mut stream)
    }

    /// A request with a `Host`, and with a length where it has a body.
    pub(crate) fn request(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        self.send(request(line, headers, body))
    }

    /// A publish with the API key.
    pub(crate) fn publish(&self, path: &str, body: &str) -> Answer {
        let bearer = format!("Authorization: Bearer {API_KEY}");
        self.request(
            &format!("POST {path}"),
            &[&bearer, "Content-Type: application/json"],
            body,
        )
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// KiB of memory that the process has.
    pub(crate) fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// Whether the process is still there.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// The log, once `text` is in it.
    pub(crate) fn log_until(&self, text: &str) -> String {
        until(&self.log, text)
    }

    /// The standard output, once `text` is in it: it comes by another pipe than the log.
    pub(crate) fn out_until(&self, text: &str) -> String {
        until(&self.out, text)
    }

    /// Waits for the end. Its exit status and its log.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        self.readers
            .drain(..)
            .for_each(|reader| reader.join().unwrap());
        (status, self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a pipe brought, once a line of it has `part`.
pub(crate) fn until(text: &Text, part: &str) -> String {
    let (text, line) = text;
    let mut looked = 0;
    let waiting = |text: &mut String| {
        let waiting = !text[looked..].contains(part);
        looked = text.len();
        waiting
    };
    let (text, wait) = line
        .wait_timeout_while(text.lock().unwrap(), PATIENCE, waiting)
        .unwrap();
    assert!(!wait.timed_out(), "no {part} in {text}");
    text.clone()
}

pub(crate) fn collect(
    pipe: impl Read + Send + 'static,
    into: &Arc<Text>,
    mut seen: impl FnMut(&str) + Send + 'static,
) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            into.0.lock().unwrap().push_str(&format!(
                "{line}
"
            ));
            into.1.notify_all();
            seen(&line);
        }
    })
}

/// The text of a request; `Connection: close` so that its answer ends with the connection.
pub(crate) fn request(line: &str, headers: &[&str], body: &str) -> String {
    let mut text = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in headers {
        write!(text, "{header}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    text + "\r\n" + body
}

/// The text of a handshake. A header with a name of the good ones replaces it; one that begins with `-` takes it away.
pub(crate) fn handshake(path: &str, changes: &[&str]) -> String {
    let mut headers = vec![
        "Host: localhost".to_owned(),
        "Connection: Upgrade".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
        format!("Sec-WebSocket-Key: {SOCKET_KEY}"),
    ];
    for change in changes {
        let name = change
            .trim_start_matches(['-', '+'])
            .split(':')
            .next()
            .unwrap()
            .to_ascii_lowercase();
        if !change.starts_with('+') {
            headers.retain(|header| !header.to_ascii_lowercase().starts_with(&format!("{name}:")));
        }
        if !change.starts_with('-') {
            headers.push(change.trim_start_matches('+').to_owned());
        }
    }
    format!("GET {path} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"))
}

/// A token for user 7 that names all tasks.
pub(crate) fn token() -> String {
    token_of(7, r#"["*"]"#)
}

/// A token for a user that names these tasks.
pub(crate) fn token_of(user: u64, tasks: &str) -> String {
    token_until(user, tasks, 4_000_000_000)
}

/// A token that ends at this second.
pub(crate) fn token_until(user: u64, tasks: &str, exp: u64) -> String {
    signed(&format!(
        r#"{{"sub":"{user}","exp":{exp},"tasks":{tasks},{OURS}}}"#
    ))
}

/// A good token of these claims.
pub(crate) fn signed(claims: &str) -> String {
    signed_as(TOKEN_SECRET, r#"{"alg":"HS256"}"#, claims)
}

/// A token of any header and claims, signed by HS256 with `secret`.
pub(crate) fn signed_as(secret: &str, header: &str, claims: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// Reads a head, and what belongs to it: as much as its length says. Nothing beyond, where the next answer begins.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                other => panic!(
                    "no answer: {other:?} after {:?}",
                    String::from_utf8_lossy(&head)
                ),
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        // HEAD has a length and no body.
        let _ = stream.read_exact(&mut body);
        Self {
            status,
            headers,
            body: String::from_utf8(body).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The `code` of a problem, after a look at its form.
    pub(crate) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        for field in ["type", "title", "detail"] {
            assert!(problem[field].is_string(), "{field}: {self:?}");
        }
        problem["code"].as_str().unwrap().to_owned()
    }
}
