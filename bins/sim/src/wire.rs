//! The client's side of HTTP and WebSocket, written by hand so that it shares no code with the server and draws nothing: a
//! handshake's key and the frames' masks are always the same.

use std::io;

use crate::garble::{self, Garble};
use fanfare_loopback::Stream;
use futures::{AsyncReadExt, AsyncWriteExt};

/// Longest head or frame that is read.
const LONGEST: usize = 16 << 20;

pub(crate) struct Wire {
    stream: Stream,
    /// What was read and not used yet.
    read: Vec<u8>,
}

/// An answer to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(String),
    Ping(Vec<u8>),
    Close(Option<u16>),
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Wire {
    pub(crate) const fn new(stream: Stream) -> Self {
        let read = Vec::new();
        Self { stream, read }
    }

    /// Reads on. What is there stays if it is dropped.
    async fn more(&mut self) -> io::Result<()> {
        if self.read.len() > LONGEST {
            return Err(invalid("longer than anything that a server says"));
        }
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.read
                    .extend_from_slice(buffer.get(..read).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// Sends a request.
    pub(crate) async fn ask(&mut self, head: &str, body: &str) -> io::Result<()> {
        let length = body.len();
        let request = format!("{head}Host: sim\r\nContent-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await
    }

    /// Sends a request and reads its answer. After a 101 the WebSocket's frames follow.
    pub(crate) async fn request(&mut self, head: &str, body: &str) -> io::Result<Answer> {
        self.ask(head, body).await?;
        let end = loop {
            let end = self.read.windows(4).position(|four| four == b"\r\n\r\n");
            match end {
                Some(end) => break end + 4,
                None => self.more().await?,
            }
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let head = String::from_utf8(head).map_err(|_| invalid("a head that is no text"))?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("a head without a status"))?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(Some(0), |length| length.trim().parse().ok());
        let length: usize = length.ok_or_else(|| invalid("a length that is none"))?;
        while self.read.len() < length {
            self.more().await?;
        }
        let body = self.read.drain(..length).collect();
        Ok(Answer { status, body })
    }

    /// The next frame of interest. May be dropped and asked for again.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            match self.parse()? {
                Some(frame) => return Ok(frame),
                None => self.more().await?,
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Frame>> {
        let (length, start) = match self.read.as_slice() {
            [_, 127, a, b, c, d, e, f, g, h, ..] => {
                let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (usize::try_from(length).unwrap_or(LONGEST), 10)
            }
            [_, 126, a, b, ..] => (usize::from(u16::from_be_bytes([*a, *b])), 4),
            [_, length @ ..=125, ..] => (usize::from(*length), 2),
            [_, 128..=255, ..] => return Err(invalid("a server's frame is not masked")),
            _ => return Ok(None),
        };
        let end = start + length;
        let (Some(first), Some(content)) = (self.read.first().copied(), self.read.get(start..end))
        else {
            return Ok(None);
        };
        let content = content.to_vec();
        self.read.drain(..end);
        match first {
            0x81 => match String::from_utf8(content) {
                Ok(text) => Ok(Some(Frame::Text(text))),
                Err(_) => Err(invalid("a text that is not UTF-8")),
            },
            0x89 => Ok(Some(Frame::Ping(content))),
            0x88 => {
                let code = content.first_chunk::<2>();
                Ok(Some(Frame::Close(
                    code.map(|code| u16::from_be_bytes(*code)),
                )))
            }
            other => Err(invalid(&format!("a frame that begins with {other:#x}"))),
        }
    }

    async fn send(&mut self, first: u8, content: &[u8]) -> io::Result<()> {
        self.stream.write_all(&garble::frame(first, content)).await
    }

    pub(crate) async fn garble(&mut self, how: Garble) -> io::Result<()> {
        self.stream.write_all(&how.bytes()).await
    }

    pub(crate) async fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(0x81, text.as_bytes()).await
    }

    pub(crate) async fn pong(&mut self, content: &[u8]) -> io::Result<()> {
        self.send(0x8a, content).await
    }

    /// Ends its side, and may read on.
    pub(crate) async fn half_close(&mut self) -> io::Result<()> {
        self.stream.close().await
    }

    /// Says that it goes.
    pub(crate) async fn close(&mut self) -> io::Result<()> {
        self.send(0x88, &1_000_u16.to_be_bytes()).await?;
        self.stream.close().await
    }
}
