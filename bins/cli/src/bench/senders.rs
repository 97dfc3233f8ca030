//! Who publishes: connections of HTTP that are kept, each with one request under way.

use std::collections::BTreeSet;
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
/// How long a sender rests at least after its second failure in a row, in nanoseconds: twice as long after each more, up to
/// the longest.
const REST: u64 = 10_000_000;
const REST_MAX: u64 = 1_000_000_000;

pub(crate) struct Senders {
    all: Vec<Sender>,
    /// Those with nothing under way; and those that failed again and again, with the time up to which they rest.
    free: Vec<u16>,
    resting: BTreeSet<(u64, u16)>,
    /// Whether they rest: at a rate none does, by which they are paced.
    rests: bool,
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
    /// Failures since the last success.
    failed: u32,
}

impl Senders {
    pub(crate) fn new(address: SocketAddr, count: u16, data: usize, rests: bool) -> Self {
        Self {
            all: (0..count).map(|_| Sender::default()).collect(),
            free: (0..count).rev().collect(),
            resting: BTreeSet::new(),
            rests,
            address,
            data: vec![b'x'; data],
            body: Vec::new(),
            answered: 0,
            failures: Tally::default(),
            refusal: None,
        }
    }

    /// Takes one that has nothing under way and does not rest.
    pub(crate) fn next_free(&mut self, now: u64) -> Option<u16> {
        while let Some((until, number)) = self.resting.first().copied()
            && until <= now
        {
            self.resting.remove(&(until, number));
            self.free.push(number);
        }
        self.free.pop()
    }

    /// What this one had under way is done. A single failure costs no time; a server that takes nothing is asked less and less
    /// often whether it takes something again.
    pub(crate) fn done(&mut self, number: u16, now: u64) {
        let failed = self.all.get(usize::from(number)).map(|it| it.failed);
        match failed {
            Some(failed @ 2..) if self.rests => {
                let rest = REST << (failed - 2).min(7);
                self.resting.insert((now + rest.min(REST_MAX), number));
            }
            Some(_) | None => self.free.push(number),
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
            sender.failed = 0;
            self.answered += 1;
        } else {
            self.failures
                .count(&answer_words(answer.status, answer.body));
            if self.answered == 0 {
                let refusal = (answer.status, answer.body.to_vec());
                self.refusal.get_or_insert(refusal);
            }
            sender.failed = sender.failed.saturating_add(1);
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
            sender.failed = sender.failed.saturating_add(1);
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;
    use std::time::Duration;

    use clap::Parser;

    use super::super::mark::BYTES;
    use super::*;
    use crate::args::{Cli, Command};

    /// One sender, and all that it needs.
    struct Bench {
        target: Target,
        poll: Poll,
        buffer: Buffer,
        ledger: Ledger,
        senders: Senders,
    }

    impl Bench {
        fn new(address: SocketAddr, rests: bool) -> Self {
            let words = [
                "fanfare",
                "bench",
                "--raw",
                "ws://h/",
                "--publish-url",
                "http://h/",
            ];
            let cli = Cli::try_parse_from(words).unwrap();
            let Command::Bench(args) = &cli.command else {
                panic!("another command");
            };
            let target = Target::new(args, &cli.connection).unwrap();
            Self {
                poll: Poll::new().unwrap(),
                buffer: Buffer::new(),
                ledger: Ledger::new(target.rooms, 1, 1, 1),
                senders: Senders::new(address, 1, BYTES, rests),
                target,
            }
        }

        /// Publishes at this time, until it was answered or has failed.
        fn publish(&mut self, now: u64) {
            let sender = self.senders.next_free(now).unwrap();
            let with = (&self.poll, &self.target);
            self.senders
                .publish(sender, (0, now, 0), with, &mut self.ledger, now);
            loop {
                if let Some(done) = self.ledger.next_done() {
                    return self.senders.done(done, now);
                }
                for at in 0..self.poll.wait(Duration::from_secs(600)).unwrap() {
                    let ready = self.poll.ready(at).unwrap();
                    let with = (&self.poll, &mut self.buffer);
                    self.senders
                        .ready(ready, sender, with, &mut self.ledger, now);
                }
            }
        }
    }

    /// Takes one connection and answers its publish so, or not at all. The number that the publish bore.
    fn answer(listener: &TcpListener, status: &str) -> u64 {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        let mut body = [0; BYTES];
        reader.read_exact(&mut body).unwrap();
        if !status.is_empty() {
            let answer =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
        // The number, and when it was due, are the last.
        u64::from_str_radix(str::from_utf8(&body[BYTES - 22..BYTES - 14]).unwrap(), 16).unwrap()
    }

    /// Publishes to a server that answers so; which number it saw.
    fn published(bench: &mut Bench, listener: &TcpListener, status: &'static str, now: u64) -> u64 {
        let listener = listener.try_clone().unwrap();
        // Not waited for where there is no publish.
        let number = std::thread::spawn(move || answer(&listener, status));
        bench.publish(now);
        number.join().unwrap()
    }

    #[test]
    fn the_number_of_a_publish_that_nobody_took_is_used_again() {
        // Of a socket that does not listen.
        let nobody =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        nobody.bind(&any.into()).unwrap();
        let listener = TcpListener::bind(any).unwrap();
        let address = nobody.local_addr().unwrap().as_socket().unwrap();
        let mut bench = Bench::new(address, false);
        bench.publish(0);
        assert_eq!(bench.senders.failures.total(), 1);
        bench.senders.address = listener.local_addr().unwrap();
        let statuses = ["204 None", "503 Busy", "204 None", "", "204 None"];
        let numbers = statuses.map(|status| published(&mut bench, &listener, status, 0));
        // Whether the fourth was taken nobody knows.
        assert_eq!(numbers, [1, 2, 2, 3, 4]);
    }

    #[test]
    fn who_fails_again_and_again_rests_longer_each_time_until_one_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut bench = Bench::new(listener.local_addr().unwrap(), true);
        let mut now = 0;
        for taken in 0..2 {
            let rests = [0, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000];
            for (round, rest) in (0..).zip(rests) {
                // Refused, or without an answer.
                let status = if round % 2 == 0 { "503 Busy" } else { "" };
                published(&mut bench, &listener, status, now);
                if rest > 0 {
                    now += rest * 1_000_000;
                    assert_eq!(bench.senders.next_free(now - 1), None, "{rest}");
                }
            }
            published(&mut bench, &listener, "204 None", now);
            assert_eq!(bench.senders.answered, taken + 1);
        }
    }

    #[test]
    fn at_a_rate_nobody_rests() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut bench = Bench::new(listener.local_addr().unwrap(), false);
        for _ in 0..3 {
            published(&mut bench, &listener, "503 Busy", 0);
        }
        assert_eq!(bench.senders.next_free(0), Some(0));
    }
}
