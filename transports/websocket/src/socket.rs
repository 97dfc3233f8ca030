//! What reader, writer and shard share about one connection's socket.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use fanfare_core::{ConnId, Time};
use futures::io::AsyncRead;
use smol::Task;

use crate::writer::{Outgoing, Writable, WriteWaker};

/// How far a connection is. It only goes down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Frames go both ways.
    Open,
    /// The hub knows of a fault of the client: it is still pulled from, but what comes is thrown away.
    Faulted,
    /// The hub has forgotten it: what is in hand is written, then the writing side is shut.
    Closing,
    /// Everything was written. The peer has a moment to close its side.
    Shut,
    /// Removed: whoever still holds it does nothing.
    Gone,
}

/// One WebSocket's byte stream and what belongs to it. Some 200 bytes while nothing is blocked.
pub(crate) struct Socket<S> {
    pub(crate) conn: ConnId,
    pub(crate) phase: Cell<Phase>,
    pub(crate) stream: RefCell<S>,
    /// What the socket did not take yet.
    pub(crate) blocked: Cell<Option<Box<Outgoing>>>,
    /// Whole control frames of tungstenite's that are to be written; more wait until these are.
    control: RefCell<Vec<u8>>,
    control_waiting: Cell<Option<Waker>>,
    /// Whether it came while the shard drained, which does not wait for it.
    pub(crate) is_late: bool,
    /// Whether it stands in the writer's list.
    pub(crate) queued: Cell<bool>,
    /// Whether the peer has ended its side.
    pub(crate) ended: Cell<bool>,
    /// When the message was begun that is not complete.
    pub(crate) message_since: Cell<Option<Time>>,
    /// Whether a deadline looks after that.
    pub(crate) message_watched: Cell<bool>,
    /// Wakes the writer for this connection.
    pub(crate) writable: Waker,
    /// The reader. Dropping it closes the stream, once nobody else holds the socket.
    pub(crate) reader: Cell<Option<Task<()>>>,
}

impl<S> Socket<S> {
    pub(crate) fn new(conn: ConnId, stream: S, is_late: bool, writable: &Arc<Writable>) -> Self {
        let writable = Waker::from(Arc::new(WriteWaker {
            conn,
            writable: Arc::clone(writable),
        }));
        Self {
            conn,
            phase: Cell::new(Phase::Open),
            stream: RefCell::new(stream),
            blocked: Cell::new(None),
            control: RefCell::default(),
            control_waiting: Cell::new(None),
            is_late,
            queued: Cell::new(false),
            ended: Cell::new(false),
            message_since: Cell::new(None),
            message_watched: Cell::new(false),
            writable,
            reader: Cell::new(None),
        }
    }

    /// Takes whole control frames to be written between frames of ours. While earlier ones wait, these have to: a
    /// client that pings faster than it reads is answered at its own pace, and holds a few hundred bytes here.
    pub(crate) fn poll_control(&self, cx: &mut Context<'_>, frames: &[u8]) -> Poll<usize> {
        let mut control = self.control.borrow_mut();
        if self.phase.get() != Phase::Open {
            // After a close frame nothing is sent.
            return Poll::Ready(frames.len());
        }
        if !control.is_empty() {
            self.control_waiting.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        control.extend_from_slice(frames);
        Poll::Ready(frames.len())
    }

    /// Whether control frames wait to be written.
    pub(crate) fn has_control(&self) -> bool {
        !self.control.borrow().is_empty()
    }

    /// The control frames that wait, to be written now.
    pub(crate) fn take_control(&self) -> Option<Vec<u8>> {
        let frames = std::mem::take(&mut *self.control.borrow_mut());
        if let Some(waker) = self.control_waiting.take() {
            waker.wake();
        }
        (!frames.is_empty()).then_some(frames)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for &Socket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buffer)
    }
}
