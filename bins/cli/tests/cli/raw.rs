//! A WebSocket server that is no Fanfare, and not always an honest one: what is posted to it goes to all its sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does to the first of its sockets, of every tenth message; or at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Honest,
    Loses,
    Doubles,
    /// The tenth comes after the eleventh.
    Swaps,
    /// Every tenth publish is refused.
    Refuses,
    /// Every tenth publish is not taken, and has a closed connection for an answer.
    HangsUp,
    /// It takes nineteen publishes; of the others each has a closed connection for an answer.
    TakesNoMore,
    /// The first socket ends instead of its tenth message.
    Leaves,
    /// The tenth publish takes a fifth of a second.
    Pauses,
    /// These bytes instead of an answer to a handshake.
    Says(&'static [u8]),
    /// These bytes after it.
    SaysAfter(&'static [u8]),
    /// All its connections end at the 20th publish, and new ones are refused.
    Dies,
}

pub(crate) struct RawServer {
    address: SocketAddr,
}

struct State {
    sockets: Vec<TcpStream>,
    publishers: Vec<TcpStream>,
    published: usize,
    held: Option<Vec<u8>>,
    manner: Manner,
    dead: bool,
}

impl RawServer {
    pub(crate) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            sockets: Vec::new(),
            publishers: Vec::new(),
            published: 0,
            held: None,
            manner,
            dead: false,
        }));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address }
    }

    /// The flags that measure it.
    pub(crate) fn flags(&self) -> [String; 4] {
        let url = |scheme| format!("{scheme}://{}/rooms/{{room}}", self.address);
        [
            "--raw".to_owned(),
            url("ws"),
            "--publish-url".to_owned(),
            url("http"),
        ]
    }
}

/// Ends with the connection.
fn serve(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().ok()?;
            }
            if line == "\r\n" {
                break;
            }
            if first.is_empty() {
                first = line;
            }
        }
        let mut state = state.lock().unwrap();
        if state.dead {
            return None;
        }
        if first.starts_with("GET") {
            return state.open(stream);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        state.publishers.push(stream.try_clone().ok()?);
        let answer = state.publish(&body)?;
        (&stream).write_all(answer.as_bytes()).ok()?;
    }
}

impl State {
    fn open(&mut self, mut stream: TcpStream) -> Option<()> {
        if let Manner::Says(bytes) = self.manner {
            stream.write_all(bytes).ok()?;
            return None;
        }
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(answer.as_bytes()).ok()?;
        if let Manner::SaysAfter(bytes) = self.manner {
            stream.write_all(bytes).ok()?;
        }
        self.sockets.push(stream);
        Some(())
    }

    fn publish(&mut self, body: &[u8]) -> Option<&'static str> {
        self.published += 1;
        let tenth = self.published.is_multiple_of(10);
        if self.manner == Manner::Dies && self.published == 20 {
            self.dead = true;
            for stream in self.sockets.iter().chain(&self.publishers) {
                let _ = stream.shutdown(Shutdown::Both);
            }
            return None;
        }
        if tenth && self.manner == Manner::Refuses {
            return Some("HTTP/1.1 503 Busy\r\nContent-Length: 14\r\n\r\ncome back \x1b[2J");
        }
        let hangs_up = tenth && self.manner == Manner::HangsUp;
        let takes_no_more = self.published >= 20 && self.manner == Manner::TakesNoMore;
        if hangs_up || takes_no_more {
            self.publishers.last()?.shutdown(Shutdown::Both).ok()?;
            return None;
        }
        if self.published == 10 && self.manner == Manner::Pauses {
            std::thread::sleep(Duration::from_millis(200));
        }
        if self.published == 10 && self.manner == Manner::Leaves {
            self.sockets.remove(0).shutdown(Shutdown::Both).ok()?;
        }
        // A ping between, as servers do.
        let frame = [&[0x89, 1, b'p', 0x81, 126, 1, 0][..], body].concat();
        let held = self.held.take();
        let (first, others) = self.sockets.split_first_mut()?;
        match (self.manner, tenth) {
            (Manner::Loses, true) => {}
            (Manner::Swaps, true) => self.held = Some(frame.clone()),
            (Manner::Doubles, true) => first.write_all(&[&*frame, &frame].concat()).ok()?,
            _ => first.write_all(&frame).ok()?,
        }
        if let Some(held) = held {
            first.write_all(&held).ok()?;
        }
        for other in others {
            other.write_all(&frame).ok()?;
        }
        // Without a length, as some frameworks answer.
        Some("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    }
}
