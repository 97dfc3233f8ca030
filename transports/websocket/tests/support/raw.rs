//! A client that speaks bytes, well-formed or not.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here fails a test"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Longer than anything takes on a busy machine; a test that gets here fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A client's frame, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, payload.len() as u64);
    let mask = [0x11, 0x22, 0x33, 0x44];
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

/// The header of a masked frame, up to the mask.
pub fn header(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// What a server sent: a frame, or that it is at its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    End,
    Reset,
}

pub struct Raw {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    /// One for which little waits to be read: the system would hold megabytes else.
    pub fn narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::of(socket.into())
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// A WebSocket by this request, before its first frame.
    pub fn upgrade(address: SocketAddr, request: &str) -> Self {
        Self::connect(address).upgraded(request)
    }

    /// Becomes a WebSocket by this request.
    pub fn upgraded(mut self, request: &str) -> Self {
        self.send(request.as_bytes());
        self.accepted()
    }

    /// Becomes a WebSocket by the request that was sent.
    pub fn accepted(mut self) -> Self {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        self
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends one text.
    pub fn say(&mut self, text: &str) {
        self.send(&frame(0x81, text.as_bytes()));
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The head of the next response, or what came before the end.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            if self.read().is_none_or(|read| read == 0) {
                return String::from_utf8(std::mem::take(&mut self.buffer)).unwrap();
            }
        }
    }

    /// Everything until the end; `None` for a reset.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        while self.read()? > 0 {}
        Some(std::mem::take(&mut self.buffer))
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert_ne!(self.read(), Some(0), "the end came early");
        }
        self.buffer.drain(..count).collect()
    }

    /// The next text, which has to be one.
    pub fn text(&mut self) -> String {
        loop {
            match self.next() {
                Got::Text(text) => return text,
                Got::Ping | Got::Pong(_) => {}
                other @ (Got::Close(..) | Got::End | Got::Reset) => panic!("no text but {other:?}"),
            }
        }
    }

    /// The next text as JSON.
    pub fn json(&mut self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next text of this type, behind whatever comes before it.
    pub fn json_of(&mut self, kind: &str) -> serde_json::Value {
        loop {
            let json = self.json();
            if json["type"] == kind {
                return json;
            }
        }
    }

    /// Says something, and the data of its reply.
    pub fn ask(&mut self, text: &str) -> serde_json::Value {
        self.say(text);
        self.json_of("system:reply")["data"].take()
    }

    /// The close frame, behind whatever comes before it, and the goodbye among that.
    pub fn close(&mut self) -> (Got, Option<String>) {
        let mut goodbye = None;
        loop {
            match self.next() {
                Got::Text(text) if text.contains("system:goodbye") => goodbye = Some(text),
                Got::Text(_) | Got::Ping | Got::Pong(_) => {}
                last @ (Got::Close(..) | Got::End | Got::Reset) => return (last, goodbye),
            }
        }
    }

    pub fn next(&mut self) -> Got {
        loop {
            if let Some((got, used)) = parse(&self.buffer) {
                self.buffer.drain(..used);
                return got;
            }
            match self.read() {
                Some(0) => return Got::End,
                Some(_) => {}
                None => return Got::Reset,
            }
        }
    }

    fn read(&mut self) -> Option<usize> {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(read) => {
                self.buffer.extend(&chunk[..read]);
                Some(read)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("a read failed: {error}"),
        }
    }
}

/// The first frame of `bytes` and its length, once it is complete.
pub fn parse(bytes: &[u8]) -> Option<(Got, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server's frame is not masked");
    let (length, start) = match second {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
            4,
        ),
        127 => (
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).unwrap(),
            10,
        ),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let got = match first {
        0x81 => Got::Text(text(payload)),
        0x88 => match payload.split_at_checked(2) {
            Some((code, reason)) => Got::Close(
                Some(u16::from_be_bytes(code.try_into().unwrap())),
                text(reason.to_vec()),
            ),
            None => Got::Close(None, text(payload)),
        },
        0x89 => Got::Ping,
        0x8a => Got::Pong(payload),
        other => panic!("a frame that begins with {other:#x}"),
    };
    Some((got, start + length))
}
