//! The connections: opening them, and reading what comes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;

use super::answer::{self, HEAD_MAX, Reader};
use super::frames::{self, Frame, HEADER_MAX, PAYLOAD_MAX, control};
use super::ledger::Ledger;
use super::poll::{Poll, Ready, Source};
use super::run::system;
use super::sockets::{connect, now};
use super::tally::{Tally, shown};
use super::target::{ACCEPT, Target};
use crate::args::Bench;
use crate::error::Error;

const READ: usize = 256 << 10;
/// Bytes of a refusal that are waited for.
const REFUSAL_MAX: usize = HEAD_MAX + 1_024;
/// How long a connection may take to open, in nanoseconds.
pub(crate) const OPEN_MAX: u64 = 10_000_000_000;
const WELCOME: &[u8] = br#"{"type":"system:welcome""#;

/// What all reads go to: the rest of what a connection had before, and behind it what comes.
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) fn new() -> Self {
        Self(vec![0; HEADER_MAX + PAYLOAD_MAX + READ])
    }

    /// Reads behind `rest`. All bytes, or `None` where there are no more.
    pub(crate) fn read(&mut self, rest: &[u8], from: &mut impl Read) -> io::Result<Option<&[u8]>> {
        let Some((before, after)) = self.0.split_at_mut_checked(rest.len()) else {
            return Err(io::Error::other("too much that is not whole"));
        };
        before.copy_from_slice(rest);
        let space = after.len().min(READ);
        let after = after.get_mut(..space).unwrap_or_default();
        let read = match now(from.read(after))? {
            Some(0) => return Ok(None),
            Some(read) => read,
            None => 0,
        };
        Ok(self.0.get(..rest.len() + read))
    }
}

pub(crate) struct Crowd {
    members: Vec<Member>,
    address: SocketAddr,
    /// Those that read nothing once they are open.
    stalled: Range<u32>,
    /// Connections of each room that are open and read.
    in_room: Vec<u32>,
    /// Connections that are opening.
    opening: Vec<u32>,
    pub(crate) open: u32,
    /// The first refusal, with what the server said.
    pub(crate) refusal: Option<(u16, Vec<u8>)>,
    pub(crate) failures: Tally,
    pub(crate) closures: Tally,
    is_fanfare: bool,
}

#[derive(Default)]
struct Member {
    socket: Option<TcpStream>,
    state: State,
    /// What came and is not whole.
    rest: Vec<u8>,
    /// When it began to open.
    since: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Connecting,
    /// The request is sent.
    Asked,
    /// The upgrade is there, the welcome is not.
    Upgraded,
    Open,
    /// It is open, and reads nothing.
    Stalled,
}

impl Crowd {
    pub(crate) fn new(target: &Target, address: SocketAddr, args: &Bench) -> Self {
        let (connections, rooms) = (args.connections, args.rooms);
        Self {
            stalled: connections - args.stalled..connections,
            members: Vec::with_capacity(connections as usize),
            address,
            in_room: vec![0; rooms as usize],
            opening: Vec::new(),
            open: 0,
            refusal: None,
            failures: Tally::default(),
            closures: Tally::default(),
            is_fanfare: target.is_fanfare(),
        }
    }

    pub(crate) fn begun(&self) -> u32 {
        u32::try_from(self.members.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn opening(&self) -> u32 {
        u32::try_from(self.opening.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn room(&self, connection: u32) -> u32 {
        connection % u32::try_from(self.in_room.len()).unwrap_or(1).max(1)
    }

    pub(crate) fn in_room(&self, room: u32) -> u32 {
        self.in_room.get(room as usize).copied().unwrap_or_default()
    }

    pub(crate) fn rooms(&self) -> u32 {
        u32::try_from(self.in_room.len()).unwrap_or(u32::MAX)
    }

    /// The connections that are open and read.
    pub(crate) fn all_open(&self) -> impl Iterator<Item = u32> {
        let members = (0_u32..).zip(&self.members);
        members.filter_map(|(number, member)| (member.state == State::Open).then_some(number))
    }

    /// Begins to open one more.
    pub(crate) fn add(&mut self, poll: &Poll, now: u64) {
        let number = self.begun();
        let socket = connect(self.address, number).and_then(|socket| {
            poll.add(&socket, Source::Member(number), true)?;
            Ok(socket)
        });
        let mut member = Member {
            since: now,
            ..Member::default()
        };
        match socket {
            Ok(socket) => {
                member.socket = Some(socket);
                self.opening.push(number);
            }
            Err(error) => self.failures.count(&error.to_string()),
        }
        self.members.push(member);
    }

    /// Gives up those that take too long to open.
    pub(crate) fn too_long(&mut self, now: u64) {
        let late = |number: &u32| {
            let member = self.members.get(*number as usize);
            member.is_some_and(|member| now.saturating_sub(member.since) > OPEN_MAX)
        };
        for number in self
            .opening
            .iter()
            .copied()
            .filter(late)
            .collect::<Vec<_>>()
        {
            self.gone(number, "not open within 10 s");
        }
    }

    pub(crate) fn ready(
        &mut self,
        ready: Ready,
        number: u32,
        (poll, target, buffer): (&Poll, &Target, &mut Buffer),
        ledger: &mut Ledger,
        now: u64,
    ) -> Result<(), Error> {
        let room = self.room(number);
        let Some(member) = self.members.get_mut(number as usize) else {
            return Ok(());
        };
        let Some(socket) = &mut member.socket else {
            return Ok(());
        };
        if member.state == State::Connecting {
            if !ready.writable {
                return Ok(());
            }
            let request = target.handshake(number, room)?;
            let asked = ask(socket, &request)
                .and_then(|()| poll.change(&*socket, Source::Member(number), false));
            match asked {
                Ok(()) => member.state = State::Asked,
                Err(error) => {
                    self.gone(number, &error.to_string());
                }
            }
            return Ok(());
        }
        if !ready.readable {
            return Ok(());
        }
        let end = match buffer.read(&member.rest, socket) {
            Ok(Some(bytes)) => match self.take(number, room, bytes, ledger, now) {
                Ok(()) => return self.stall(number, poll),
                Err(words) => words,
            },
            Ok(None) => self.end(number),
            Err(error) => error.to_string(),
        };
        if self.gone(number, &end) {
            ledger.gone(number, room);
        }
        Ok(())
    }

    /// Nothing more is heard of one that reads nothing, its end neither.
    fn stall(&mut self, number: u32, poll: &Poll) -> Result<(), Error> {
        let member = self.members.get_mut(number as usize);
        let opened = member.filter(|member| member.state == State::Open);
        let Some(member) = opened.filter(|_| self.stalled.contains(&number)) else {
            return Ok(());
        };
        member.state = State::Stalled;
        let room = self.room(number);
        count(&mut self.in_room, room, -1);
        let socket = self
            .members
            .get(number as usize)
            .and_then(|it| it.socket.as_ref());
        socket.map_or(Ok(()), |socket| poll.remove(socket).map_err(system))
    }

    /// Takes all that a connection has; what ends it, where something does.
    fn take(
        &mut self,
        number: u32,
        room: u32,
        bytes: &[u8],
        ledger: &mut Ledger,
        now: u64,
    ) -> Result<(), String> {
        let Some(member) = self.members.get_mut(number as usize) else {
            return Ok(());
        };
        let mut left = bytes;
        if member.state == State::Asked {
            let Some(head) = answer::head(bytes)? else {
                keep(&mut member.rest, bytes);
                return Ok(());
            };
            if head.status != 101 {
                let mut reader = Reader::default();
                if reader.take(bytes)? || bytes.len() >= REFUSAL_MAX {
                    return Err(refused(&reader, &mut self.refusal));
                }
                keep(&mut member.rest, bytes);
                return Ok(());
            }
            if head.accept != Some(*ACCEPT) {
                return Err(
                    "HTTP 101 without the right Sec-WebSocket-Accept: no WebSocket".to_owned(),
                );
            }
            member.state = State::Upgraded;
            left = bytes.get(head.length..).unwrap_or_default();
            if !self.is_fanfare {
                opened(member, &mut self.opening, number);
                self.open += 1;
                count(&mut self.in_room, room, 1);
            }
        }
        while let Some((frame, length)) = frames::cut(left)? {
            match frame {
                Frame::Message(message) if member.state == State::Open => {
                    ledger.message(number, room, message, now);
                }
                Frame::Message(message) if message.starts_with(WELCOME) => {
                    opened(member, &mut self.opening, number);
                    self.open += 1;
                    count(&mut self.in_room, room, 1);
                }
                Frame::Message(message) => {
                    let said = String::from_utf8_lossy(message);
                    return Err(format!("not welcomed, but told: {said}"));
                }
                Frame::Ping(payload) => {
                    if let Some(socket) = &mut member.socket {
                        let (pong, length) = control(10, payload);
                        ask(socket, pong.get(..length).unwrap_or_default())
                            .map_err(|error| format!("a ping can't be answered: {error}"))?;
                    }
                }
                Frame::More | Frame::Pong => {}
                Frame::Close(reason) => return Err(closed(reason)),
            }
            left = left.get(length..).unwrap_or_default();
        }
        keep(&mut member.rest, left);
        Ok(())
    }

    /// What the end of the bytes means.
    fn end(&mut self, number: u32) -> String {
        let member = self.members.get(number as usize);
        let asked = member.filter(|member| member.state == State::Asked);
        let refusal = asked.and_then(|member| {
            let mut reader = Reader::default();
            reader.take(&member.rest).ok()?;
            (!reader.is_in_head()).then(|| refused(&reader, &mut self.refusal))
        });
        refusal.unwrap_or_else(|| "the server closed the connection without a word".to_owned())
    }

    /// A connection has ended. Whether it was open.
    fn gone(&mut self, number: u32, words: &str) -> bool {
        let room = self.room(number);
        let Some(member) = self.members.get_mut(number as usize) else {
            return false;
        };
        let was_open = member.state == State::Open;
        if was_open {
            self.closures.count(words);
            self.open -= 1;
            count(&mut self.in_room, room, -1);
        } else {
            self.failures.count(words);
            self.opening.retain(|it| *it != number);
        }
        *member = Member::default();
        was_open
    }
}

fn opened(member: &mut Member, opening: &mut Vec<u32>, number: u32) {
    member.state = State::Open;
    if let Some(at) = opening.iter().position(|it| *it == number) {
        opening.swap_remove(at);
    }
}

fn count(in_room: &mut [u32], room: u32, more: i32) {
    if let Some(count) = in_room.get_mut(room as usize) {
        *count = count.saturating_add_signed(more);
    }
}

/// Replaces what was kept. The memory is kept too.
fn keep(rest: &mut Vec<u8>, bytes: &[u8]) {
    rest.clear();
    rest.extend_from_slice(bytes);
}

/// Sends what is small enough for an empty socket.
fn ask(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    socket.write_all(bytes)
}

/// What a refusal says, as far as it came.
fn refused(reader: &Reader, first: &mut Option<(u16, Vec<u8>)>) -> String {
    let answer = reader.answer();
    first.get_or_insert_with(|| (answer.status, answer.body.to_vec()));
    answer_words(answer.status, answer.body)
}

/// A refusal of HTTP in one line.
pub(crate) fn answer_words(status: u16, body: &[u8]) -> String {
    shown(&format!("HTTP {status}: {}", String::from_utf8_lossy(body)))
}

fn closed(reason: &[u8]) -> String {
    match reason {
        [high, low, reason @ ..] => format!(
            "closed with {}: {}",
            u16::from_be_bytes([*high, *low]),
            String::from_utf8_lossy(reason)
        ),
        _ => "closed without a code".to_owned(),
    }
}
