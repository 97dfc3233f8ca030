//! Connections without bytes: frames go from the hub to a client, and messages back, as they are. The shard is the shipped
//! one; only its sockets and their codec are left out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use async_channel::{Receiver, Sender};
use fanfare_core::{ConnId, Effect, Input, Open, Pull};
use fanfare_loopback::Direction;
use fanfare_websocket::{Passes, Shard};
use smol::future::or;

use crate::machine::Clocks;
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
#[derive(Debug, Default)]
pub(crate) struct Ports(RefCell<BTreeMap<ConnId, Sender<()>>>);

impl Ports {
    /// Sees what leaves the hub.
    pub(crate) fn watch(&self, passes: Passes<'_>) {
        match passes {
            Passes::Effect(Effect::Ready(conn)) => {
                if let Some(port) = self.0.borrow().get(conn) {
                    // One that was told already looks anyway.
                    let _ = port.try_send(());
                }
            }
            Passes::Effect(Effect::Drop(conn)) => {
                self.0.borrow_mut().remove(conn);
            }
            Passes::Open(_) | Passes::Input(_) | Passes::Effect(_) | Passes::Pull(..) => {}
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
    let conn = shard.with_hub(|hub, now| hub.open(now, open));
    let (port, ready) = async_channel::bounded(1);
    ports.0.borrow_mut().insert(conn, port);
    let write = async {
        loop {
            let (frame, is_last) = match shard.with_hub(|hub, now| hub.pull(now, conn)) {
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
            let input = match said {
                Said::Text(text) => Input::Message { conn, text },
                Said::Pong => Input::Pong { conn },
            };
            shard.with_hub(|hub, now| hub.handle(now, input));
        }
    };
    or(write, read).await;
    ports.0.borrow_mut().remove(&conn);
    shard.with_hub(|hub, now| hub.handle(now, Input::Closed { conn }));
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
