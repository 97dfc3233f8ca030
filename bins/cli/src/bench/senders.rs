//! Who publishes: connections of HTTP that are kept, each with one request under way.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use memchr::memmem;

use super::answer::Reader;
use super::crowd::{Buffer, answer_words};
use super::ledger::{Ledger, number};
use super::poll::{Poll, Ready, Source};
use super::sockets::{connect, now};
use super::tally::Tally;
use super::target::Target;

/// How long an answer may take, in nanoseconds.
const ANSWER_MAX: u64 = 10_000_000_000;

pub(crate) struct Senders {
    all: Vec<Sender>,
    address: SocketAddr,
    /// What is published, its mark at the beginning.
    data: Vec<u8>,
    body: Vec<u8>,
    pub(crate) answered: u64,
    pub(crate) failures: Tally,
    /// The first refusal, if it came before any success.
    pub(crate) refusal: Option<(u16, Vec<u8>)>,
}

#[derive(Default)]
struct Sender {
    socket: Option<TcpStream>,
    request: Vec<u8>,
    written: usize,
    reader: Reader,
    /// When it sent, while it waits for the answer.
    since: Option<u64>,
    /// Whether it is told when its socket takes more.
    blocked: bool,
    /// When it was answered, while its publish is not everywhere.
    answered: Option<u64>,
}

impl Senders {
    pub(crate) fn new(address: SocketAddr, count: u16, data: usize) -> Self {
        Self {
            all: (0..count).map(|_| Sender::default()).collect(),
            address,
            data: vec![b'x'; data],
            body: Vec::new(),
            answered: 0,
            failures: Tally::default(),
            refusal: None,
        }
    }

    /// Publishes to a room: what was due at this time, and has to reach so many connections to be done.
    pub(crate) fn publish(
        &mut self,
        number: u16,
        (room, due, members): (u32, u64, u32),
        (poll, target): (&Poll, &Target),
        ledger: &mut Ledger,
        now: u64,
    ) {
        let Some(sender) = self.all.get_mut(usize::from(number)) else {
            return;
        };
        ledger.send(number, room, due, members, &mut self.data);
        target.publish(room, &self.data, &mut self.body, &mut sender.request);
        sender.written = 0;
        sender.since = Some(now);
        sender.answered = None;
        sender.reader.clear();
        let sent = if sender.socket.is_some() {
            sender.write(number, poll)
        } else {
            connect(self.address, 0).and_then(|socket| {
                poll.add(&socket, Source::Sender(number), true)?;
                sender.socket = Some(socket);
                sender.blocked = true;
                Ok(())
            })
        };
        if let Err(error) = sent {
            self.fail(number, ledger, &error.to_string());
        }
    }

    /// How many wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        self.all
            .iter()
            .filter(|sender| sender.since.is_some())
            .count()
    }

    pub(crate) fn ready(
        &mut self,
        ready: Ready,
        number: u16,
        (poll, buffer): (&Poll, &mut Buffer),
        ledger: &mut Ledger,
        now: u64,
    ) {
        let Some(sender) = self.all.get_mut(usize::from(number)) else {
            return;
        };
        if ready.writable
            && let Err(error) = sender.write(number, poll)
        {
            return self.fail(number, ledger, &error.to_string());
        }
        let Some(socket) = sender.socket.as_mut().filter(|_| ready.readable) else {
            return;
        };
        match buffer.read(&[], socket) {
            Ok(Some([])) => {}
            Ok(Some(bytes)) => self.take(number, bytes, ledger, now),
            Ok(None) => self.end(number, ledger, now),
            Err(error) => self.fail(number, ledger, &error.to_string()),
        }
    }

    fn take(&mut self, number: u16, bytes: &[u8], ledger: &mut Ledger, now: u64) {
        let Some(sender) = self.all.get_mut(usize::from(number)) else {
            return;
        };
        if sender.since.is_none() {
            // Said without being asked, such as 408 before a close.
            sender.socket = None;
            return;
        }
        match sender.reader.take(bytes) {
            Ok(false) => {}
            Ok(true) => self.answer(number, ledger, now),
            Err(words) => self.fail(number, ledger, &words),
        }
    }

    /// The server closed a sender's connection: an idle one's as it likes, and after some answers.
    fn end(&mut self, number: u16, ledger: &mut Ledger, now: u64) {
        let Some(sender) = self.all.get_mut(usize::from(number)) else {
            return;
        };
        if sender.since.is_some() && sender.reader.ends() {
            self.answer(number, ledger, now);
        } else {
            let words = "the server closed the connection without an answer";
            self.fail(number, ledger, words);
        }
    }

    fn answer(&mut self, number: u16, ledger: &mut Ledger, now: u64) {
        let Some(sender) = self.all.get_mut(usize::from(number)) else {
            return;
        };
        let answer = sender.reader.answer();
        sender.since = None;
        if (200..300).contains(&answer.status) {
            ledger.answered(number, seq(answer.body));
            sender.answered = Some(now);
            self.answered += 1;
        } else {
            self.failures
                .count(&answer_words(answer.status, answer.body));
            if self.answered == 0 {
                let refusal = (answer.status, answer.body.to_vec());
                self.refusal.get_or_insert(refusal);
            }
            ledger.failed(number, true);
        }
        if !answer.keep {
            sender.socket = None;
        }
    }

    fn fail(&mut self, number: u16, ledger: &mut Ledger, words: &str) {
        let Some(sender) = self.all.get_mut(usize::from(number)) else {
            return;
        };
        sender.socket = None;
        if sender.since.take().is_some() {
            self.failures.count(words);
            // Of what was not even begun to be sent the server knows nothing.
            ledger.failed(number, sender.written == 0);
        }
    }

    /// Gives up what takes too long: an answer, or in `stall` nanoseconds the way to all. How many publishes were not
    /// everywhere.
    pub(crate) fn too_long(&mut self, ledger: &mut Ledger, stall: u64, now: u64) -> u64 {
        let mut stalled = 0;
        for number in (0..).take(self.all.len()) {
            let Some(sender) = self.all.get_mut(usize::from(number)) else {
                break;
            };
            let since = |at: Option<u64>| at.map_or(0, |at| now.saturating_sub(at));
            if since(sender.since) > ANSWER_MAX {
                self.fail(number, ledger, "no answer within 10 s");
            } else if since(sender.answered) > stall {
                sender.answered = None;
                stalled += u64::from(ledger.give_up(number));
            }
        }
        stalled
    }
}

impl Sender {
    /// Writes what it can. Says so where the rest has to wait.
    fn write(&mut self, number: u16, poll: &Poll) -> std::io::Result<()> {
        let Some(socket) = &mut self.socket else {
            return Ok(());
        };
        while let Some(rest @ [_, ..]) = self.request.get(self.written..) {
            let Some(written) = now(socket.write(rest))? else {
                if !std::mem::replace(&mut self.blocked, true) {
                    poll.change(&*socket, Source::Sender(number), true)?;
                }
                return Ok(());
            };
            self.written += written;
        }
        if std::mem::take(&mut self.blocked) {
            poll.change(&*socket, Source::Sender(number), false)?;
        }
        Ok(())
    }
}

/// Where Fanfare's receipt says which number the event has.
fn seq(receipt: &[u8]) -> Option<u64> {
    let name = br#""seq":"#;
    let at = memmem::find(receipt, name)? + name.len();
    number(receipt.get(at..)?)
}
