//! The connections, all read by one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_benches::Progress;
use fanfare_core::{Claims, TaskGrant, TaskId, UserId};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::Outcome;
use crate::server::Server;

/// A pong without payload, masked with zeros.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

pub(crate) struct Clients {
    poller: OwnedFd,
    all: Vec<Client>,
    /// How the task's room is named in an event, up to its number.
    room: Vec<u8>,
}

struct Client {
    socket: TcpStream,
    /// What was read of a frame that is not whole.
    rest: Vec<u8>,
    welcome: bool,
    seq: u64,
}

impl Clients {
    /// Opens all connections before any answer is read, and returns when each has its welcome.
    pub(crate) fn connect(server: &Server, task: TaskId, connections: u64) -> Outcome<Self> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 86_400;
        let mut all = Vec::new();
        for user in 1..=connections {
            let claims = Claims::new(UserId::new(user), expires, TaskGrant::All);
            let token = server.tokens.issue(&claims);
            let mut socket = TcpStream::connect(server.address)?;
            write!(
                socket,
                "GET /v1/tasks/{task}/chat HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Authorization: Bearer {token}\r\n\r\n",
                server.address
            )?;
            socket.set_nonblocking(true)?;
            let key = epoll::EventData::new_u64(all.len() as u64);
            epoll::add(&poller, &socket, key, epoll::EventFlags::IN)?;
            all.push(Client {
                socket,
                rest: Vec::new(),
                welcome: false,
                seq: 0,
            });
        }
        let room = format!("\"task:{task}\":").into_bytes();
        let mut clients = Self { poller, all, room };
        let mut welcomes = 0;
        while welcomes < connections {
            clients.turn(|client, _, _| {
                welcomes += u64::from(!client.welcome);
                client.welcome = true;
                Ok(())
            })?;
        }
        Ok(clients)
    }

    /// Reads until each connection has had `publishes` events of the room, and tells `arrived` how many more events are
    /// everywhere.
    ///
    /// # Errors
    /// Where an event is missing, comes twice or out of order.
    pub(crate) fn receive(&mut self, publishes: u64, arrived: &Sender<u64>) -> Outcome<()> {
        let mut progress = Progress::new(self.all.len());
        let mut complete = 0;
        while complete < publishes {
            let mut more = 0;
            self.turn(|client, frame, room| {
                let seq = seq(frame, room)
                    .ok_or_else(|| format!("not an event: {}", String::from_utf8_lossy(frame)))?;
                if seq != client.seq + 1 {
                    return Err(format!("event {seq} came after {}", client.seq).into());
                }
                client.seq = seq;
                more += progress.arrived(usize::try_from(seq - 1)?) as u64;
                Ok(())
            })?;
            complete += more;
            // The publisher may be done.
            let _ = arrived.send(more);
        }
        Ok(())
    }

    /// Waits for bytes, and hands each text that they complete to `take`, with the name of the room.
    fn turn(
        &mut self,
        mut take: impl FnMut(&mut Client, &[u8], &[u8]) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut ready = Vec::with_capacity(1_024);
        epoll::wait(&self.poller, spare_capacity(&mut ready), None)?;
        let mut buffer = vec![0; 64 << 10];
        for event in ready {
            let key = usize::try_from(event.data.u64())?;
            let client = self.all.get_mut(key).ok_or("an event of no socket")?;
            let read = match client.socket.read(&mut buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            };
            let mut bytes = std::mem::take(&mut client.rest);
            bytes.extend(buffer.iter().take(read));
            let mut left = bytes.as_slice();
            while let Some((opcode, payload, after)) = frame(left)? {
                match opcode {
                    Opcode::Answer => {}
                    Opcode::Text => take(client, payload, &self.room)?,
                    Opcode::Ping => client.socket.write_all(&PONG)?,
                }
                left = after;
            }
            let used = bytes.len() - left.len();
            bytes.drain(..used);
            client.rest = bytes;
        }
        Ok(())
    }
}

enum Opcode {
    /// The answer to the handshake, which is no frame.
    Answer,
    Text,
    Ping,
}

type Cut<'a> = (Opcode, &'a [u8], &'a [u8]);

/// What `bytes` begin with, and what follows; `None` where it is not whole yet.
fn frame(bytes: &[u8]) -> Outcome<Option<Cut<'_>>> {
    let (opcode, payload_at, length) = match *bytes {
        [b'H', ..] => {
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Ok(None);
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                return Err(String::from_utf8_lossy(bytes).into());
            }
            (Opcode::Answer, 0, end + 4)
        }
        [0x81, 127, a, b, c, d, e, f, g, h, ..] => {
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            (Opcode::Text, 10, usize::try_from(length)?)
        }
        [0x81, 126, high, low, ..] => (Opcode::Text, 4, u16::from_be_bytes([high, low]).into()),
        [0x81, length @ 0..126, ..] => (Opcode::Text, 2, length.into()),
        [0x89, length @ 0..126, ..] => (Opcode::Ping, 2, length.into()),
        [] | [0x81 | 0x89, ..] => return Ok(None),
        [other, ..] => return Err(format!("a frame that begins with {other:#x}").into()),
    };
    let Some(rest) = bytes.get(payload_at..) else {
        return Ok(None);
    };
    Ok(rest
        .split_at_checked(length)
        .map(|(payload, after)| (opcode, payload, after)))
}

/// The room's number in an event.
fn seq(event: &[u8], room: &[u8]) -> Option<u64> {
    let at = event.windows(room.len()).position(|part| part == room)? + room.len();
    let digits = event
        .get(at..)?
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
