//! Carries bytes: the command's output to ours and, as lines, to the feed; our keyboard to its terminal.
//!
//! Threads that block, one a direction, so that output is passed on the moment it comes and nothing that the server
//! does can hold it up.

use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use async_channel::{Receiver, Sender};
use pty_process::blocking::Pty;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr};

use super::Happening;
use super::feed::{Event, Feed, Stream};
use super::lines::Splitter;
use super::secrets::Secrets;

const CHUNK_BYTES: usize = 16 * 1024;

/// The feed, shared by the threads that fill it and the task that empties it.
pub(crate) struct Shared {
    feed: Mutex<Feed>,
    secrets: Secrets,
    /// One word that there is something new; a second one before the first was heard adds nothing.
    news: Sender<()>,
}

impl Shared {
    pub(crate) fn new(feed: Feed, secrets: Secrets) -> (Arc<Self>, Receiver<()>) {
        let (news, heard) = async_channel::bounded(1);
        (
            Arc::new(Self {
                feed: Mutex::new(feed),
                secrets,
                news,
            }),
            heard,
        )
    }

    /// Does something with the feed, and tells the sender of it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Feed) -> T) -> T {
        let done = self.with_quietly(work);
        let _ = self.news.try_send(());
        done
    }

    /// Does something with the feed that gives the sender nothing to do.
    pub(crate) fn with_quietly<T>(&self, work: impl FnOnce(&mut Feed) -> T) -> T {
        // The feed keeps no state between two of its steps that a panic could have torn.
        work(&mut self.feed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The event to send now.
    pub(crate) fn peek(&self, now: Instant) -> Option<Event> {
        self.with_quietly(|feed| feed.poll(now).cloned())
    }

    pub(crate) fn mask(&self, text: String) -> String {
        self.secrets.mask(text)
    }

    fn printed(&self, stream: Stream, lines: Vec<String>, unfinished: &str) {
        let lines: Vec<_> = lines.into_iter().map(|line| self.mask(line)).collect();
        let unfinished = self.mask(unfinished.to_owned());
        self.with(|feed| feed.printed(stream, lines, &unfinished));
    }
}

/// Copies a stream of the command to ours until it ends. `done` is dropped then.
pub(crate) fn output(
    mut from: impl Read + Send + 'static,
    stream: Stream,
    shared: Arc<Shared>,
    done: Sender<()>,
) {
    thread::spawn(move || {
        let mut splitter = Splitter::default();
        let mut open = true;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let bytes = chunk.get(..read).unwrap_or_default();
            if open && write(stream, bytes).is_err() {
                // Nobody reads here any more: so that the command notices as it would without us, its pipe is closed.
                open = false;
            }
            let mut lines = Vec::new();
            splitter.feed(bytes, |line| lines.push(line));
            shared.printed(stream, lines, splitter.unfinished());
            if !open {
                break;
            }
        }
        drop(from);
        shared.printed(stream, splitter.finish().into_iter().collect(), "");
        drop(done);
    });
}

/// Straight to the descriptor: what the command did not hold back is not held back here.
fn write(stream: Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = match stream {
            Stream::Stdout => rustix::io::write(io::stdout(), bytes),
            Stream::Stderr => rustix::io::write(io::stderr(), bytes),
        };
        match written {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // Whoever shares the descriptor with us has set it not to block.
            Err(rustix::io::Errno::AGAIN) => {
                let (out, err) = (io::stdout(), io::stderr());
                let fd = match stream {
                    Stream::Stdout => out.as_fd(),
                    Stream::Stderr => err.as_fd(),
                };
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Copies our keyboard to the command's terminal, until `stop` is dropped.
pub(crate) fn keyboard(pty: Arc<Pty>, tell: Sender<Happening>) -> io::Result<Stop> {
    let (wake, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    thread::spawn(move || {
        let mut chunk = [0; 1024];
        let mut interrupted = false;
        while let Some(typed) = next_keys(&wake, &mut chunk) {
            let interrupt = interrupt_key(&pty);
            for key in typed {
                if Some(*key) == interrupt {
                    interrupted = true;
                    let _ = tell.try_send(Happening::Interrupted);
                } else if mem::take(&mut interrupted) {
                    let _ = tell.try_send(Happening::TypedOn);
                }
            }
            if (&*pty).write_all(typed).is_err() {
                break;
            }
        }
    });
    Ok(Stop { _writer: stop })
}

/// Ends [`keyboard`] when it is dropped: what is typed later is the shell's.
pub(crate) struct Stop {
    _writer: OwnedFd,
}

/// Waits for keys; `None` when it is over.
fn next_keys<'a>(wake: &OwnedFd, chunk: &'a mut [u8]) -> Option<&'a [u8]> {
    loop {
        let keyboard = io::stdin();
        let mut both = [
            PollFd::new(&keyboard, PollFlags::IN),
            PollFd::new(wake, PollFlags::IN),
        ];
        match poll(&mut both, None) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        let [_, wake] = both;
        if !wake.revents().is_empty() {
            return None;
        }
        match rustix::io::read(&keyboard, &mut *chunk) {
            Ok(0) => return None,
            Ok(read) => return chunk.get(..read),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => return None,
        }
    }
}

/// The byte of which the command's terminal makes SIGINT now. A full-screen program has switched that off.
fn interrupt_key(pty: &Pty) -> Option<u8> {
    let modes = tcgetattr(pty).ok()?;
    modes
        .local_modes
        .contains(LocalModes::ISIG)
        .then(|| modes.special_codes[SpecialCodeIndex::VINTR])
}
