//! The writing side of sockets: what has left the hub and not the socket yet, and who is to be written next.
//!
//! All connections that have something are written one after another by one task, at the end of the executor's turn:
//! what comes for a connection in one turn leaves in one vectored write, and no task is woken for it. A socket that is
//! full wakes through a [`WriteWaker`] of its own.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake};

use fanfare_core::{ConnId, Frame};
use futures::io::AsyncWrite;
use futures::task::AtomicWaker;

/// Frames of one connection that may have left the hub without having been written.
pub(crate) const FRAMES_MAX: usize = 64;
/// Bytes of one connection that may have left the hub without having been written, give or take a frame.
pub(crate) const BYTES_MAX: usize = 64 << 10;
/// Longest reason of a close frame, bytes: a control frame has 125, the code takes two.
const REASON_MAX: usize = 123;

/// Something to write that may not be interrupted by anything else.
#[derive(Debug)]
pub(crate) enum Chunk {
    Frame(Frame),
    Ping,
    /// A close frame, ours or the answer to the client's.
    Close(Box<[u8]>),
    /// Whole control frames that tungstenite wrote.
    Control(Vec<u8>),
}

impl Chunk {
    pub(crate) fn close(code: u16, reason: &str) -> Self {
        let mut length = reason.len().min(REASON_MAX);
        while !reason.is_char_boundary(length) {
            length -= 1;
        }
        let reason = reason.as_bytes().get(..length).unwrap_or_default();
        let mut bytes = Vec::with_capacity(4 + length);
        // At most 125, as the reason was cut.
        bytes.extend([0x88, u8::try_from(2 + length).unwrap_or_default()]);
        bytes.extend(code.to_be_bytes());
        bytes.extend(reason);
        Self::Close(bytes.into())
    }

    pub(crate) fn close_without_code() -> Self {
        Self::Close([0x88, 0x00].into())
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(frame) => frame.wire(),
            Self::Ping => &[0x89, 0x00],
            Self::Close(bytes) => bytes,
            Self::Control(bytes) => bytes,
        }
    }
}

/// What is to be written to one connection, in order; of the first chunk, a part may have been.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that were written.
    written: usize,
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.chunks.len() >= FRAMES_MAX || self.bytes >= BYTES_MAX
    }

    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes().len();
        self.chunks.push_back(chunk);
    }

    /// Puts control frames as far to the front as they can go: behind what was begun.
    pub(crate) fn push_control(&mut self, frames: Vec<u8>) {
        self.bytes += frames.len();
        let place = usize::from(self.written > 0);
        self.chunks.insert(place, Chunk::Control(frames));
    }

    /// Forgets everything but what was begun: after a close frame of the client nothing is sent but ours.
    pub(crate) fn truncate(&mut self) {
        self.chunks.truncate(usize::from(self.written > 0));
        self.bytes = self
            .chunks
            .iter()
            .map(|chunk| chunk.bytes().len())
            .sum::<usize>()
            - self.written;
    }

    /// Asks the system once to take everything. The bytes that it took.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut chunks = self.chunks.iter().map(Chunk::bytes);
        let first = chunks.next().and_then(|bytes| bytes.get(self.written..));
        let first = first.unwrap_or_default();
        if self.chunks.len() == 1 {
            // Cheaper than the vectored one, and the common case.
            return Pin::new(stream).poll_write(cx, first);
        }
        let mut slices = [IoSlice::new(&[]); FRAMES_MAX + 2];
        let mut used = 0;
        for (slice, bytes) in slices.iter_mut().zip(std::iter::once(first).chain(chunks)) {
            *slice = IoSlice::new(bytes);
            used += 1;
        }
        Pin::new(stream).poll_write_vectored(cx, slices.get(..used).unwrap_or_default())
    }

    /// The system took `taken` bytes. How many frames of the hub left in whole by that.
    pub(crate) fn advance(&mut self, mut taken: usize) -> u64 {
        let mut frames = 0;
        self.bytes = self.bytes.saturating_sub(taken);
        while let Some(chunk) = self.chunks.front() {
            let left = chunk.bytes().len() - self.written;
            if taken < left {
                if !fanfare_core::planted!(ShortWriteRepeats) {
                    self.written += taken;
                }
                break;
            }
            taken -= left;
            self.written = 0;
            frames += u64::from(!matches!(chunk, Chunk::Control(_)));
            self.chunks.pop_front();
        }
        frames
    }
}

/// Connections whose sockets can be written again, and the task that writes. Reactors may wake from any thread.
#[derive(Debug, Default)]
pub(crate) struct Writable {
    any: AtomicBool,
    connections: Mutex<Vec<ConnId>>,
    pub(crate) writer: AtomicWaker,
}

impl Writable {
    /// The connections that became writable since the last call. No lock where there is none.
    pub(crate) fn take(&self) -> Vec<ConnId> {
        if !self.any.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(
            &mut *self
                .connections
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

/// Wakes the writer for one connection.
#[derive(Debug)]
pub(crate) struct WriteWaker {
    pub(crate) conn: ConnId,
    pub(crate) writable: Arc<Writable>,
}

impl Wake for WriteWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let writable = &self.writable;
        let mut connections = writable
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.push(self.conn);
        writable.any.store(true, Ordering::Release);
        drop(connections);
        writable.writer.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that takes so many bytes at a time.
    struct Narrow(usize, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.0);
            self.1.extend(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = bytes.len().min(self.0);
            self.1.extend(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write_all(outgoing: &mut Outgoing, socket: &mut Narrow) -> u64 {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut frames = 0;
        while !outgoing.is_empty() {
            let Poll::Ready(Ok(taken)) = outgoing.poll_write(socket, cx) else {
                panic!("this socket always takes something");
            };
            frames += outgoing.advance(taken);
        }
        assert_eq!((outgoing.bytes, outgoing.written), (0, 0));
        frames
    }

    #[test]
    fn everything_is_written_once_and_in_order_whatever_the_socket_takes() {
        for taken in 1..20 {
            let mut outgoing = Outgoing::default();
            outgoing.push(Chunk::Frame(Frame::from_text("one")));
            outgoing.push(Chunk::Ping);
            outgoing.push(Chunk::Frame(Frame::from_text("two")));
            outgoing.push(Chunk::close(4001, "bye"));
            let mut socket = Narrow(taken, Vec::new());
            assert_eq!(write_all(&mut outgoing, &mut socket), 4);
            assert_eq!(
                socket.1, b"\x81\x03one\x89\x00\x81\x03two\x88\x05\x0f\xa1bye",
                "{taken}"
            );
        }
    }

    #[test]
    fn control_frames_go_between_frames_never_into_one() {
        for (taken, expected) in [(0, "PPoneontwo"), (2, "onPPetwo"), (5, "PPtwo")] {
            let mut outgoing = Outgoing::default();
            outgoing.push(Chunk::Frame(Frame::from_text("one")));
            outgoing.push(Chunk::Frame(Frame::from_text("two")));
            outgoing.advance(taken);
            outgoing.push_control(b"PP".to_vec());
            let mut socket = Narrow(100, Vec::new());
            write_all(&mut outgoing, &mut socket);
            let expected: &[u8] = match expected {
                "PPoneontwo" => b"PP\x81\x03one\x81\x03two",
                "onPPetwo" => b"onePP\x81\x03two",
                _ => b"PP\x81\x03two",
            };
            assert_eq!(socket.1, expected, "after {taken}");
        }
    }

    #[test]
    fn after_a_close_of_the_client_only_what_was_begun_is_finished() {
        let mut outgoing = Outgoing::default();
        outgoing.push(Chunk::Frame(Frame::from_text("one")));
        outgoing.push(Chunk::Frame(Frame::from_text("two")));
        outgoing.advance(3);
        outgoing.truncate();
        outgoing.push_control(b"CC".to_vec());
        let mut socket = Narrow(1, Vec::new());
        write_all(&mut outgoing, &mut socket);
        assert_eq!(socket.1, b"neCC");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let Chunk::Close(bytes) = Chunk::close(4001, &"é".repeat(100)) else {
            panic!("it is a close frame");
        };
        assert_eq!(bytes[1], 2 + 122);
        assert_eq!(bytes.len(), 4 + 122);
    }
}
