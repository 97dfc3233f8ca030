//! A line whose bytes are looked at as they pass: what a client that ships says and is told, as the judges see it of all others.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use fanfare_loopback::Stream;
use futures::{AsyncRead, AsyncWrite};
use serde_json::Value;

use crate::history::{Conn, Place, Seen};
use crate::net::{Net, Node};
use crate::plan;

/// Whose lines they are.
pub(crate) struct User {
    pub(crate) net: Rc<Net>,
    pub(crate) device: usize,
    pub(crate) about: plan::Device,
    /// What its tokens say.
    pub(crate) token: RefCell<plan::Token>,
    /// Whether it goes of its own will.
    pub(crate) leaves: Cell<bool>,
    connections: Cell<u64>,
}

impl User {
    pub(crate) fn new(net: Rc<Net>, device: usize, about: plan::Device) -> Self {
        Self {
            net,
            device,
            about,
            token: RefCell::default(),
            leaves: Cell::default(),
            connections: Cell::default(),
        }
    }

    /// The connection that is to come.
    pub(crate) fn next(&self) -> Conn {
        Conn {
            device: self.device,
            number: self.connections.get() + 1,
        }
    }

    /// A number below `most`.
    pub(crate) fn draw(&self, most: u64) -> u64 {
        self.net.draw(Node::Device(self.device), most)
    }
}

pub(crate) struct Tap {
    stream: Stream,
    user: Rc<User>,
    /// Bytes that were read and written, and are no whole yet.
    read: Vec<u8>,
    written: Vec<u8>,
    /// What the handshake asked for.
    since: Option<Vec<(String, Place)>>,
    /// Once it has succeeded.
    conn: Option<Conn>,
    /// The code of the server's close frame.
    code: Option<u16>,
    /// Nothing more is understood.
    is_deaf: bool,
}

impl Tap {
    pub(crate) const fn new(stream: Stream, user: Rc<User>) -> Self {
        Self {
            stream,
            user,
            read: Vec::new(),
            written: Vec::new(),
            since: None,
            conn: None,
            code: None,
            is_deaf: false,
        }
    }

    fn writes(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
        if self.since.is_none() {
            let Some(head) = head(&mut self.written) else {
                return;
            };
            let path = head.split(' ').nth(1).unwrap_or_default();
            self.since = Some(positions(path));
        }
        while let Some((kind, content)) = frame(&mut self.written) {
            if let (Some(conn), 0x81) = (self.conn, kind) {
                let text = String::from_utf8_lossy(&content).into_owned();
                self.user.net.observe(Seen::Said { conn, text });
            }
        }
    }

    fn reads(&mut self, bytes: &[u8]) {
        if self.is_deaf {
            return;
        }
        self.read.extend_from_slice(bytes);
        if self.conn.is_none() {
            let Some(head) = head(&mut self.read) else {
                return;
            };
            self.answered(&head);
        }
        let Some(conn) = self.conn else { return };
        while let Some((kind, content)) = frame(&mut self.read) {
            match kind {
                0x81 => {
                    let frame = serde_json::from_slice(&content).unwrap_or_else(|_| {
                        Value::String(String::from_utf8_lossy(&content).into_owned())
                    });
                    self.user.net.observe(Seen::Received { conn, frame });
                }
                0x88 => {
                    let code = content.first_chunk::<2>();
                    self.code = code.map(|code| u16::from_be_bytes(*code));
                }
                _ => {}
            }
        }
    }

    fn answered(&mut self, head: &str) {
        let User {
            net, device, about, ..
        } = &*self.user;
        let status = head.split(' ').nth(1);
        let status = status.and_then(|status| status.parse().ok());
        if status != Some(101) {
            self.is_deaf = true;
            net.observe(Seen::Refused {
                device: *device,
                status: status.unwrap_or_default(),
            });
            return;
        }
        let conn = self.user.next();
        self.user.connections.set(conn.number);
        self.conn = Some(conn);
        net.observe(Seen::Opened {
            conn,
            user: about.user,
            name: about.name.clone(),
            since: self.since.clone().unwrap_or_default(),
        });
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let Some(conn) = self.conn else { return };
        let code = self.code;
        self.user.net.observe(if self.user.leaves.get() {
            Seen::Leaves { conn }
        } else {
            Seen::Closed { conn, code }
        });
    }
}

/// Takes the head of a request or an answer, where it is whole.
fn head(bytes: &mut Vec<u8>) -> Option<String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head: Vec<u8> = bytes.drain(..end).collect();
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// The positions that a path names.
fn positions(path: &str) -> Vec<(String, Place)> {
    let (_, query) = path.split_once('?').unwrap_or_default();
    let since = query.split('&').find_map(|it| it.strip_prefix("since="));
    let since = since.unwrap_or_default().split(',');
    let each = since.filter_map(|it| {
        let (room, at) = it.split_once('@')?;
        let (epoch, seq) = at.rsplit_once(':')?;
        let (epoch, seq) = (epoch.to_owned(), seq.parse().ok()?);
        Some((room.to_owned(), Place { epoch, seq }))
    });
    each.collect()
}

/// Takes a frame, where it is whole: its first byte, and its content without the mask.
fn frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [kind, second, rest @ ..] = bytes.as_slice() else {
        return None;
    };
    let kind = *kind;
    let (length, at) = match second & 0x7f {
        127 => (
            usize::try_from(u64::from_be_bytes(*rest.first_chunk::<8>()?)).ok()?,
            10,
        ),
        126 => (
            usize::from(u16::from_be_bytes(*rest.first_chunk::<2>()?)),
            4,
        ),
        length => (usize::from(length), 2),
    };
    let (mask, at) = if second & 0x80 == 0 {
        ([0; 4], at)
    } else {
        (*bytes.get(at..)?.first_chunk::<4>()?, at + 4)
    };
    let end = at.checked_add(length)?;
    let masked = bytes.get(at..end)?.iter();
    let content = masked
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    let content = content.collect();
    bytes.drain(..end);
    Some((kind, content))
}

impl AsyncRead for Tap {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(read)) = polled {
            this.reads(buffer.get(..read).unwrap_or_default());
        }
        polled
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            this.writes(bytes.get(..written).unwrap_or_default());
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_close(cx)
    }
}
