//! Connections to a server, thousands of them, all read by one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::message::{Message, cut};
use crate::{Outcome, Server};

/// A pong without payload, masked with zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
/// Connections that are read in one turn.
const TURN: usize = 1_024;
const READ: usize = 64 << 10;

/// Connections by their numbers, from 0 on.
#[derive(Debug)]
pub struct Sockets {
    poller: OwnedFd,
    all: Vec<Socket>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    /// What was read of a message that is not whole.
    rest: Vec<u8>,
}

impl Sockets {
    /// No connection yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> Outcome<Self> {
        Ok(Self {
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            all: Vec::new(),
            buffer: vec![0; READ],
        })
    }

    /// Connects, and does not wait for a word. The connection's number.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(&mut self, address: SocketAddr) -> Outcome<usize> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let number = self.all.len();
        let key = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.poller, &stream, key, epoll::EventFlags::IN)?;
        self.all.push(Socket {
            stream,
            rest: Vec::new(),
        });
        Ok(number)
    }

    /// Connects as a client to one of the server's WebSockets, and does not wait for the answer.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(&mut self, server: &Server, path: &str, token: &str) -> Outcome<usize> {
        let number = self.connect(server.address)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer {token}\r\n\r\n",
            server.address
        );
        self.send(number, request.as_bytes())?;
        Ok(number)
    }

    /// Sends what is small enough for an empty socket.
    ///
    /// # Errors
    /// What the system says; also where the socket is full.
    pub fn send(&mut self, number: usize, bytes: &[u8]) -> Outcome<()> {
        let socket = self.all.get_mut(number).ok_or("no such connection")?;
        Ok(socket.stream.write_all(bytes)?)
    }

    /// Waits for bytes, no longer than `wait`, and hands each message that they complete to `take`, with the number of
    /// its connection. Pings are answered.
    ///
    /// # Errors
    /// Where a connection ends, and what `take` says.
    pub fn turn(
        &mut self,
        wait: Option<Duration>,
        mut take: impl FnMut(usize, Message<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        let wait = wait.map(Timespec::try_from).transpose()?;
        let mut ready = Vec::with_capacity(TURN);
        epoll::wait(&self.poller, spare_capacity(&mut ready), wait.as_ref())?;
        for event in ready {
            let number = usize::try_from(event.data.u64())?;
            let socket = self.all.get_mut(number).ok_or("an event of no socket")?;
            let read = match socket.stream.read(&mut self.buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            let read = self.buffer.get(..read).unwrap_or_default();
            let mut rest = std::mem::take(&mut socket.rest);
            let mut left = if rest.is_empty() {
                read
            } else {
                rest.extend(read);
                rest.as_slice()
            };
            while let Some((message, after)) = cut(left)? {
                match message {
                    Message::Ping => socket.stream.write_all(&PONG)?,
                    whole @ (Message::Answer { .. } | Message::Text(_)) => take(number, whole)?,
                }
                left = after;
            }
            socket.rest = left.to_vec();
        }
        Ok(())
    }
}
