//! Carries bytes: the command's output to ours and, as lines, to the feed; our keyboard to its terminal.
//!
//! Threads that block, one a direction, so that output is passed on the moment it comes and nothing that the server
//! does can hold it up.

use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use async_channel::{Receiver, Sender};
use pty_process::blocking::Pty;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr};

use super::feed::{Event, Feed, Stream};
use super::lines::Splitter;
use super::secrets::Secrets;
use super::watch::Happening;

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

/// How many writes to our own output wait for whoever reads it.
#[derive(Clone, Default)]
pub(crate) struct Traffic(Arc<AtomicUsize>);

impl Traffic {
    pub(crate) fn is_held_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn during<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Ordering::Relaxed);
        let done = write();
        self.0.fetch_sub(1, Ordering::Relaxed);
        done
    }
}

/// What carries one stream of the command to ours.
pub(crate) struct Pump {
    pub(crate) stream: Stream,
    pub(crate) shared: Arc<Shared>,
    pub(crate) traffic: Traffic,
    pub(crate) tell: Sender<Happening>,
    /// Dropped when the stream has ended.
    pub(crate) done: Sender<()>,
}

impl Pump {
    pub(crate) fn start(self, from: impl Read + Send + 'static) {
        thread::spawn(move || self.run(from));
    }

    fn run(self, mut from: impl Read) {
        let mut splitter = Splitter::default();
        let mut open = true;
        let mut chunk = vec![0; CHUNK_BYTES];
        while open {
            let read = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let bytes = chunk.get(..read).unwrap_or_default();
            let mut lines = Vec::new();
            splitter.feed(bytes, |line| lines.push(line));
            self.shared
                .printed(self.stream, lines, splitter.unfinished());
            open = self.traffic.during(|| write(self.stream, bytes)).is_ok();
        }
        if !open {
            // Nobody reads here any more. The command notices as it would without us: its pipe is closed, or its
            // terminal is gone.
            drop(from);
            let _ = self.tell.try_send(Happening::Unread);
        }
        let last = splitter.finish();
        self.shared
            .printed(self.stream, last.into_iter().collect(), "");
        drop(self.done);
    }
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

/// Copies our keyboard to the command's terminal, until what it returns is dropped.
pub(crate) fn keyboard(pty: Arc<Pty>, tell: Sender<Happening>) -> io::Result<Stop> {
    let (wake, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    thread::spawn(move || {
        let mut chunk = [0; 1024];
        let mut asked = false;
        while let Some(typed) = next_keys(&wake, &mut chunk) {
            let keys = SignalKeys::of(&pty);
            for key in typed {
                let happening = keys.meaning(*key);
                let happening = match happening {
                    Some(Happening::Asked(_)) => {
                        asked = true;
                        happening
                    }
                    None if mem::take(&mut asked) => Some(Happening::TypedOn),
                    other => other,
                };
                // Before the command can have acted on it. It fails only where nobody cares any more.
                let _ = happening.map(|happening| tell.send_blocking(happening));
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

/// The bytes of which the command's terminal makes signals now. A full-screen program has switched that off.
#[derive(Default)]
struct SignalKeys(Option<[u8; 3]>);

impl SignalKeys {
    fn of(pty: &Pty) -> Self {
        let keys = tcgetattr(pty).ok().and_then(|modes| {
            let keys = [
                SpecialCodeIndex::VINTR,
                SpecialCodeIndex::VQUIT,
                SpecialCodeIndex::VSUSP,
            ];
            let on = modes.local_modes.contains(LocalModes::ISIG);
            on.then(|| keys.map(|key| modes.special_codes[key]))
        });
        Self(keys)
    }

    fn meaning(&self, key: u8) -> Option<Happening> {
        // 0 is the terminal's word for no key.
        let [interrupt, quit, suspend] = self.0.filter(|_| key != 0)?;
        if key == interrupt {
            Some(Happening::Asked("SIGINT"))
        } else if key == quit {
            Some(Happening::Asked("SIGQUIT"))
        } else {
            (key == suspend).then_some(Happening::Suspend)
        }
    }
}
