//! Connections without bytes: frames go from the hub to a client, and messages back, as they are. The shard is the shipped
//! one; only its sockets and their codec are left out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use async_channel::{Receiver, Sender};
use fanfare_core::{ConnId, Effect, Input, Open, Pull};
use fanfare_loopback::{Direction, Timeline};
use fanfare_websocket::{Passes, Shard};
use smol::future::or;

use crate::machine::{Clocks, Witness};
use crate::wire::Frame;

/// Messages of a client that wait for the server.
const SAID_MAX: usize = 64;
/// Bytes of a frame, about: a line that holds so many bytes holds a frame for each.
const FRAME_BYTES: usize = 200;

/// What a client says.
#[derive(Debug)]
pub(crate) enum Said {
    Text(String),
    Pong,
}

/// Who is to be told that the hub has something for a connection. One that is dropped is gone.
pub(crate) struct Ports {
    open: RefCell<BTreeMap<ConnId, Sender<()>>>,
    timeline: Timeline,
    witness: Option<Witness>,
}

impl Ports {
    pub(crate) fn new(timeline: &Timeline, witness: Option<Witness>) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            timeline: timeline.clone(),
            witness,
        })
    }

    /// Shows what passes by the shard, as the shard would.
    fn show(&self, passes: Passes<'_>) {
        if let Some(witness) = &self.witness {
            witness(self.timeline.now(), passes);
        }
    }

    /// Sees what leaves the hub.
    pub(crate) fn watch(&self, passes: Passes<'_>) {
        match passes {
            Passes::Effect(Effect::Ready(conn)) => {
                if let Some(port) = self.open.borrow().get(conn) {
                    // One that was told already looks anyway.
                    let _ = port.try_send(());
                }
            }
            Passes::Effect(Effect::Drop(conn)) => {
                self.open.borrow_mut().remove(conn);
            }
            Passes::Open(_)
            | Passes::Input(_)
            | Passes::Effect(_)
            | Passes::Pull(..)
            | Passes::Ride(..)
            | Passes::Order(_) => {}
        }
    }
}

/// The server's end of one connection.
pub(crate) async fn serve(
    shard: Shard<Clocks>,
    ports: Rc<Ports>,
    open: Open,
    said: Receiver<Said>,
    frames: Sender<Frame>,
) {
    ports.show(Passes::Open(&open));
    let conn = shard.with_hub(|hub, now| hub.open(now, open));
    let (port, ready) = async_channel::bounded(1);
    ports.open.borrow_mut().insert(conn, port);
    let feed = |input: Input| {
        ports.show(Passes::Input(&input));
        shard.with_hub(|hub, now| hub.handle(now, input));
    };
    let write = async {
        loop {
            let pulled = shard.with_hub(|hub, now| hub.pull(now, conn));
            ports.show(Passes::Pull(conn, &pulled));
            let (frame, is_last) = match pulled {
                Pull::Frame(frame) => (Frame::Text(frame.text().to_owned()), false),
                Pull::Ping => (Frame::Ping(Vec::new()), false),
                Pull::Close { code, .. } => (Frame::Close(Some(code.number())), true),
                Pull::Empty => match ready.recv().await {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            let sent = async { frames.send(frame).await.is_ok() };
            let dropped = async {
                // What is ready is looked at after this frame.
                while ready.recv().await.is_ok() {}
                false
            };
            if !or(sent, dropped).await || is_last {
                return;
            }
        }
    };
    let read = async {
        while let Ok(said) = said.recv().await {
            feed(match said {
                Said::Text(text) => Input::Message { conn, text },
                Said::Pong => Input::Pong { conn },
            });
        }
    };
    or(write, read).await;
    ports.open.borrow_mut().remove(&conn);
    feed(Input::Closed { conn });
}

/// What stands between both ends: the means to break it.
#[derive(Debug)]
pub(crate) struct DirectLine {
    said: Sender<Said>,
    frames: Receiver<Frame>,
    is_cut: Cell<bool>,
    /// Nothing comes this way for now: up, down.
    held: Cell<[bool; 2]>,
    /// Nor ever again.
    swallows: Cell<[bool; 2]>,
    changed: (Sender<()>, Receiver<()>),
}

const fn index(direction: Direction) -> usize {
    match direction {
        Direction::Up => 0,
        Direction::Down => 1,
    }
}

fn is_set(flags: &Cell<[bool; 2]>, direction: Direction) -> bool {
    flags.get().get(index(direction)).copied().unwrap_or(false)
}

fn set(flags: &Cell<[bool; 2]>, direction: Direction, to: bool) {
    let mut both = flags.get();
    if let Some(flag) = both.get_mut(index(direction)) {
        *flag = to;
    }
    flags.set(both);
}

impl DirectLine {
    pub(crate) fn cut(&self) {
        self.is_cut.set(true);
        self.said.close();
        self.frames.close();
        self.changes();
    }

    pub(crate) fn swallow(&self, direction: Direction) {
        set(&self.swallows, direction, true);
    }

    pub(crate) fn hold(&self, direction: Direction) {
        set(&self.held, direction, true);
    }

    pub(crate) fn go_on(&self, direction: Direction) {
        set(&self.held, direction, false);
        self.changes();
    }

    fn changes(&self) {
        let _ = self.changed.0.try_send(());
    }

    /// Waits until something may come this way.
    async fn opens(&self, direction: Direction) -> io::Result<()> {
        loop {
            if self.is_cut.get() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let swallows = direction == Direction::Down && is_set(&self.swallows, direction);
            if !swallows && !is_set(&self.held, direction) {
                return Ok(());
            }
            // It lasts as long as this line.
            let _ = self.changed.1.recv().await;
        }
    }
}

/// The client's end.
#[derive(Debug)]
pub(crate) struct Direct {
    line: Rc<DirectLine>,
    /// What came and is not told yet.
    next: Option<Frame>,
}

/// A connection: the client's end, the means to break it, and what the server's end is made of.
pub(crate) fn open(window_bytes: usize) -> (Direct, Rc<DirectLine>, Receiver<Said>, Sender<Frame>) {
    let (said, messages) = async_channel::bounded(SAID_MAX);
    let (sender, frames) = async_channel::bounded(window_bytes / FRAME_BYTES + 1);
    let line = Rc::new(DirectLine {
        said,
        frames,
        is_cut: Cell::new(false),
        held: Cell::default(),
        swallows: Cell::default(),
        changed: async_channel::bounded(1),
    });
    let direct = Direct {
        line: Rc::clone(&line),
        next: None,
    };
    (direct, line, messages, sender)
}

impl Direct {
    /// The next frame. May be dropped and asked for again.
    pub(crate) async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            self.line.opens(Direction::Down).await?;
            if let Some(next) = self.next.take() {
                return Ok(next);
            }
            let frame = async { self.line.frames.recv().await.ok() };
            let cut = async {
                let _ = self.line.changed.1.recv().await;
                None
            };
            match or(async { Some(frame.await) }, cut).await {
                Some(Some(frame)) => self.next = Some(frame),
                Some(None) if !self.line.is_cut.get() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                // It is cut, or goes on.
                Some(None) | None => {}
            }
        }
    }

    pub(crate) async fn say(&self, said: Said) -> io::Result<()> {
        if is_set(&self.line.swallows, Direction::Up) {
            return Ok(());
        }
        self.line.opens(Direction::Up).await?;
        let sent = self.line.said.send(said).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Ends its side.
    pub(crate) fn close(&self) {
        self.line.said.close();
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        // A line that swallows tells nobody.
        if !is_set(&self.line.swallows, Direction::Up) {
            self.line.said.close();
            self.line.frames.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::{block_on, poll_once};

    fn text(words: &str) -> Frame {
        Frame::Text(words.to_owned())
    }

    #[test]
    fn what_is_held_comes_when_it_goes_on_and_a_wait_that_is_dropped_loses_nothing() {
        let (mut direct, line, _said, frames) = open(1_000);
        block_on(async {
            frames.send(text("one")).await.unwrap();
            line.hold(Direction::Down);
            for _ in 0..3 {
                assert!(poll_once(direct.frame()).await.is_none());
            }
            line.go_on(Direction::Down);
            assert_eq!(direct.frame().await.unwrap(), text("one"));
            assert!(poll_once(direct.frame()).await.is_none());
            frames.send(text("two")).await.unwrap();
            assert_eq!(direct.frame().await.unwrap(), text("two"));
            drop(frames);
            let error = direct.frame().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        });
    }

    #[test]
    fn a_line_that_is_cut_fails_at_both_ends_and_one_that_swallows_says_nothing() {
        let say = || Said::Text("hello".to_owned());
        let (direct, line, said, _frames) = open(1_000);
        block_on(async {
            direct.say(say()).await.unwrap();
            assert!(matches!(said.recv().await, Ok(Said::Text(_))));
            line.swallow(Direction::Up);
            direct.say(say()).await.unwrap();
            assert!(said.is_empty());
            drop(direct);
            assert!(!said.is_closed(), "the server is told");
        });
        let (mut direct, line, said, frames) = open(1_000);
        block_on(async {
            frames.send(text("lost")).await.unwrap();
            line.cut();
            let error = direct.frame().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert!(direct.say(say()).await.is_err());
            assert!(said.recv().await.is_err());
            assert!(frames.send(text("more")).await.is_err());
        });
    }
}
