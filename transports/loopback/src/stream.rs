//! Byte streams between two ends, on virtual time: as late, slow, chopped and broken as a network is.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use fanfare_core::Time;
use futures::io::{AsyncRead, AsyncWrite};

use crate::random::Random;
use crate::timeline::Timeline;

/// How a line is.
///
/// ```
/// use fanfare_loopback::Conditions;
/// let slow = Conditions { bytes_per_ms: 1, ..Conditions::default() };
/// assert_eq!(slow.latency_ms, 1..=1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions {
    /// Milliseconds that bytes take, drawn for each piece. They never overtake each other.
    pub latency_ms: RangeInclusive<u64>,
    /// Bytes a millisecond, in each direction.
    pub bytes_per_ms: u64,
    /// Bytes on their way or not read yet, in each direction; more have to wait at the writer.
    pub window_bytes: usize,
    /// Whether what is written comes in pieces, cut anywhere, and a write takes a part.
    pub chopped: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency_ms: 1..=1,
            bytes_per_ms: 1 << 20,
            window_bytes: 64 << 10,
            chopped: false,
        }
    }
}

/// A direction of a line.
///
/// ```
/// assert_ne!(fanfare_loopback::Direction::Up, fanfare_loopback::Direction::Down);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the end that opened the line: a client's.
    Up,
    /// To it.
    Down,
}

/// How one side of a pipe is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything that was written comes before it.
    Orderly,
    Reset,
    /// Everything that arrived before it can be read, then it is as a reset.
    Cut,
}

/// One direction: what is on its way, and what arrived.
struct Pipe {
    conditions: Conditions,
    /// Bytes that were written and did not arrive.
    under_way: usize,
    /// What arrived while the line was stalled comes at its end.
    stalled: Option<Vec<Box<dyn FnOnce()>>>,
    /// Nothing arrives any more, and nobody is told.
    swallows: bool,
    /// After so many more bytes of this direction the line is cut, in both.
    cut_after: Option<(usize, Weak<RefCell<Self>>)>,
    arrived: VecDeque<u8>,
    /// Before this nothing that is written now arrives.
    busy_until: Time,
    end: Option<End>,
    /// Whether nobody will read.
    deserted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(conditions: Conditions) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            conditions,
            under_way: 0,
            stalled: None,
            swallows: false,
            cut_after: None,
            arrived: VecDeque::new(),
            busy_until: Time::default(),
            end: None,
            deserted: false,
            reader: None,
            writer: None,
        }))
    }

    fn room(&self) -> usize {
        let held = self.under_way + self.arrived.len();
        self.conditions.window_bytes.saturating_sub(held)
    }

    fn wake(&mut self) {
        let both = self.reader.take().into_iter().chain(self.writer.take());
        both.for_each(Waker::wake);
    }

    /// Both sides fail from now on, and what was under way is lost.
    fn reset(&mut self) {
        self.end = Some(End::Reset);
        self.cut_after = None;
        self.arrived.clear();
        self.wake();
    }

    fn is_reset(&self) -> bool {
        self.end == Some(End::Reset)
    }

    fn takes_nothing(&self) -> bool {
        self.deserted || matches!(self.end, Some(End::Reset | End::Cut))
    }

    /// As many bytes arrive as come before the line is cut, and with the last of them the other direction ends.
    fn arrives(&mut self, mut bytes: Vec<u8>) -> Option<Rc<RefCell<Self>>> {
        if self.takes_nothing() {
            return None;
        }
        let left = self
            .cut_after
            .as_ref()
            .map_or(usize::MAX, |(left, _)| *left);
        if bytes.len() < left {
            if let Some((left, _)) = &mut self.cut_after {
                *left -= bytes.len();
            }
            self.arrived.extend(bytes);
            return None;
        }
        bytes.truncate(left);
        self.arrived.extend(bytes);
        self.end = Some(End::Cut);
        self.cut_after.take().and_then(|(_, other)| other.upgrade())
    }
}

/// A piece arrives, or the end does. What comes over a stalled line waits; over one that swallows it is lost.
fn arrive(pipe: &Rc<RefCell<Pipe>>, bytes: Option<Vec<u8>>) {
    let mut it = pipe.borrow_mut();
    if it.swallows {
        return;
    }
    if let Some(waiting) = &mut it.stalled {
        let pipe = Rc::clone(pipe);
        waiting.push(Box::new(move || arrive(&pipe, bytes)));
        return;
    }
    match bytes {
        Some(bytes) => {
            it.under_way -= bytes.len();
            if let Some(other) = it.arrives(bytes) {
                other.borrow_mut().reset();
            }
        }
        None if it.end.is_none() => it.end = Some(End::Orderly),
        None => {}
    }
    it.wake();
}

/// The means to break a line. It does not keep its ends.
///
/// ```
/// use fanfare_loopback::{Conditions, Line, Timeline};
/// let (client, server, line) = Line::open(&Timeline::default(), Conditions::default(), 1);
/// line.cut();
/// # drop((client, server));
/// ```
#[derive(Clone)]
pub struct Line {
    up: Rc<RefCell<Pipe>>,
    down: Rc<RefCell<Pipe>>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").finish_non_exhaustive()
    }
}

impl Line {
    /// A line and its two ends: the one that opened it first. `seed` is for what is drawn.
    #[must_use]
    pub fn open(timeline: &Timeline, conditions: Conditions, seed: u64) -> (Stream, Stream, Self) {
        let (up, down) = (Pipe::new(conditions.clone()), Pipe::new(conditions));
        let random = Rc::new(RefCell::new(Random::new(seed)));
        let end = |reads: &Rc<RefCell<Pipe>>, writes: &Rc<RefCell<Pipe>>| Stream {
            timeline: timeline.clone(),
            random: Rc::clone(&random),
            reads: Rc::clone(reads),
            writes: Rc::clone(writes),
            closed: false,
        };
        (end(&down, &up), end(&up, &down), Self { up, down })
    }

    const fn pipe(&self, direction: Direction) -> &Rc<RefCell<Pipe>> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Resets the line: both ends fail at once, and what was under way is lost.
    pub fn cut(&self) {
        self.up.borrow_mut().reset();
        self.down.borrow_mut().reset();
    }

    /// Cuts the line when so many more bytes have arrived in this direction: they can be read, and then both ends fail.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        let other = match direction {
            Direction::Up => &self.down,
            Direction::Down => &self.up,
        };
        let mut pipe = self.pipe(direction).borrow_mut();
        if pipe.end.is_none() {
            pipe.cut_after = Some((bytes, Rc::downgrade(other)));
        }
    }

    /// A cut of [`cut_after`](Self::cut_after) that has not come does not come.
    pub fn spare(&self) {
        for pipe in [&self.up, &self.down] {
            pipe.borrow_mut().cut_after = None;
        }
    }

    /// Bytes on their way or not read yet, in both directions.
    #[must_use]
    pub fn held(&self) -> usize {
        let held = |pipe: &RefCell<Pipe>| {
            let pipe = pipe.borrow();
            pipe.under_way + pipe.arrived.len()
        };
        held(&self.up) + held(&self.down)
    }

    /// Whether one of its ends is not dropped yet.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !(self.up.borrow().deserted && self.down.borrow().deserted)
    }

    /// From now on nothing arrives in this direction, and nobody is told.
    pub fn swallow(&self, direction: Direction) {
        self.pipe(direction).borrow_mut().swallows = true;
    }

    /// From now on what arrives in this direction waits, until [`go_on`](Self::go_on).
    pub fn stall(&self, direction: Direction) {
        let mut pipe = self.pipe(direction).borrow_mut();
        pipe.stalled.get_or_insert_default();
    }

    /// What waited in this direction arrives in one burst.
    pub fn go_on(&self, direction: Direction) {
        let waiting = self.pipe(direction).borrow_mut().stalled.take();
        waiting.into_iter().flatten().for_each(|arrives| arrives());
    }

    /// What is written from now on finds these conditions.
    pub fn set(&self, conditions: &Conditions) {
        for pipe in [&self.up, &self.down] {
            let mut pipe = pipe.borrow_mut();
            pipe.conditions = conditions.clone();
            pipe.wake();
        }
    }
}

/// One end of a [`Line`]. Closing ends the writing side, after all that was written; dropping it also tells the other end
/// that nobody reads.
///
/// ```
/// use fanfare_loopback::{Conditions, Line, Timeline};
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// let timeline = Timeline::default();
/// let (mut client, mut server, _) = Line::open(&timeline, Conditions::default(), 1);
/// let executor = smol::LocalExecutor::new();
/// let read = executor.spawn(async move {
///     let mut text = String::new();
///     server.read_to_string(&mut text).await.map(|_| text)
/// });
/// executor.spawn(async move {
///     client.write_all(b"hello").await?;
///     client.close().await
/// }).detach();
/// while executor.try_tick() || timeline.step() {}
/// assert_eq!(smol::block_on(read)?, "hello");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Stream {
    timeline: Timeline,
    random: Rc<RefCell<Random>>,
    reads: Rc<RefCell<Pipe>>,
    writes: Rc<RefCell<Pipe>>,
    closed: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl Stream {
    fn draw(&self, range: RangeInclusive<u64>) -> u64 {
        self.random.borrow_mut().within(&range)
    }

    /// A length of 1 to `most`: often short, where the line is chopped.
    fn length(&self, most: usize, chopped: bool) -> usize {
        if !chopped || most <= 1 || self.draw(0..=3) == 0 {
            return most;
        }
        let most = if self.draw(0..=1) == 0 {
            most.min(8)
        } else {
            most
        };
        usize::try_from(self.draw(1..=most as u64)).unwrap_or(most)
    }

    /// Puts bytes, or the end, on their way.
    fn send(&self, bytes: Option<Vec<u8>>) {
        let mut pipe = self.writes.borrow_mut();
        let latency = self.draw(pipe.conditions.latency_ms.clone());
        let length = bytes.as_ref().map_or(0, Vec::len);
        let takes = length as u64 / pipe.conditions.bytes_per_ms.max(1);
        let arrives = self.timeline.now().plus(latency).max(pipe.busy_until);
        pipe.busy_until = arrives.plus(takes);
        pipe.under_way += length;
        let at = pipe.busy_until;
        drop(pipe);
        let pipe = Rc::clone(&self.writes);
        self.timeline.at(at, move || arrive(&pipe, bytes));
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.reads.borrow_mut();
        if pipe.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let length = buffer.len().min(pipe.arrived.len());
        if length == 0 {
            match pipe.end {
                None => {}
                Some(End::Orderly) => return Poll::Ready(Ok(0)),
                Some(End::Reset | End::Cut) => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        for (place, byte) in buffer.iter_mut().zip(pipe.arrived.drain(..length)) {
            *place = byte;
        }
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.writes.borrow_mut();
        if pipe.takes_nothing() || self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let most = bytes.len().min(pipe.room());
        if most == 0 && !bytes.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let chopped = pipe.conditions.chopped;
        drop(pipe);
        let mut left = bytes.get(..self.length(most, chopped)).unwrap_or_default();
        let length = left.len();
        while !left.is_empty() {
            let (piece, rest) = left.split_at(self.length(left.len(), chopped));
            self.send(Some(piece.to_vec()));
            left = rest;
        }
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // No more than is taken: what waits may be much.
        let mut room = self.writes.borrow().room().max(1);
        let mut bytes = Vec::new();
        for slice in slices {
            let part = slice.get(..room).unwrap_or(slice);
            bytes.extend_from_slice(part);
            room -= part.len();
        }
        self.poll_write(cx, &bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.closed, true) {
            self.send(None);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.closed {
            self.send(None);
        }
        let pipe = Rc::clone(&self.reads);
        let latency = self.draw(pipe.borrow().conditions.latency_ms.clone());
        pipe.borrow_mut().arrived.clear();
        let told = self.timeline.now().plus(latency);
        self.timeline.at(told, move || {
            let mut pipe = pipe.borrow_mut();
            pipe.deserted = true;
            pipe.wake();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{AsyncReadExt, AsyncWriteExt};
    use smol::LocalExecutor;

    fn run(executor: &LocalExecutor<'_>, timeline: &Timeline) {
        while executor.try_tick() || timeline.step() {}
    }

    /// What one end reads of what the other writes, and when it was through.
    fn carried(conditions: Conditions, length: usize) -> (usize, u64, usize) {
        let (timeline, executor) = (Timeline::default(), LocalExecutor::new());
        let (mut client, mut server, _line) = Line::open(&timeline, conditions, 7);
        let sent: Vec<u8> = (0..=250).cycle().take(length).collect();
        let expected = sent.clone();
        executor
            .spawn(async move {
                client.write_all(&sent).await.unwrap();
                client.close().await.unwrap();
            })
            .detach();
        let read = executor.spawn(async move {
            let (mut all, mut reads) = (Vec::new(), 0);
            let mut buffer = vec![0; 4_096];
            loop {
                let read = server.read(&mut buffer).await.unwrap();
                if read == 0 {
                    assert!(all == expected, "other bytes");
                    return (all.len(), reads);
                }
                all.extend_from_slice(&buffer[..read]);
                reads += 1;
            }
        });
        run(&executor, &timeline);
        let (read, reads) = smol::block_on(read);
        (read, timeline.now().as_millis(), reads)
    }

    #[test]
    fn bytes_come_whole_and_in_order_however_they_are_carried() {
        let latency = Conditions {
            latency_ms: 3..=300,
            ..Conditions::default()
        };
        let chopped = Conditions {
            chopped: true,
            ..latency.clone()
        };
        let narrow = Conditions {
            window_bytes: 10,
            ..Conditions::default()
        };
        let slow = Conditions {
            bytes_per_ms: 2,
            ..Conditions::default()
        };
        for conditions in [Conditions::default(), latency, chopped.clone(), narrow] {
            let (length, ..) = carried(conditions.clone(), 10_000);
            assert_eq!(length, 10_000, "{conditions:?}");
        }
        assert!(carried(slow, 1_000).1 >= 500);
        assert!(carried(chopped, 10_000).2 > 5);
    }

    #[test]
    fn a_line_that_is_cut_fails_at_both_ends() {
        let (timeline, executor) = (Timeline::default(), LocalExecutor::new());
        let (mut client, mut server, line) = Line::open(&timeline, Conditions::default(), 1);
        let waiting = executor.spawn(async move { server.read(&mut [0; 8]).await });
        while executor.try_tick() {}
        line.cut();
        run(&executor, &timeline);
        let error = smol::block_on(waiting).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let error = smol::block_on(client.write(b"x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_line_that_is_cut_after_some_bytes_gives_these_and_fails() {
        for bytes in 1..=8 {
            for conditions in [
                Conditions::default(),
                Conditions {
                    chopped: true,
                    latency_ms: 1..=9,
                    ..Conditions::default()
                },
            ] {
                let (timeline, executor) = (Timeline::default(), LocalExecutor::new());
                let (mut client, mut server, line) = Line::open(&timeline, conditions, 1);
                line.cut_after(Direction::Up, bytes);
                let read = executor.spawn(async move {
                    let mut all = Vec::new();
                    let error = server.read_to_end(&mut all).await.unwrap_err();
                    (all, error.kind(), server)
                });
                let write = executor
                    .spawn(async move { client.write_all(b"12345678").await.map(|()| client) });
                run(&executor, &timeline);
                let (all, error, _server) = smol::block_on(read);
                assert_eq!(all, &b"12345678"[..bytes]);
                assert_eq!(error, io::ErrorKind::ConnectionReset);
                if let Ok(mut client) = smol::block_on(write) {
                    let error = smol::block_on(client.read(&mut [0; 8])).unwrap_err();
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                }
                assert_eq!(line.held(), 0);
            }
        }
    }

    #[test]
    fn a_stalled_line_bursts_and_one_that_swallows_says_nothing() {
        let (timeline, executor) = (Timeline::default(), LocalExecutor::new());
        let (mut client, mut server, line) = Line::open(&timeline, Conditions::default(), 1);
        line.stall(Direction::Up);
        smol::block_on(client.write_all(b"one")).unwrap();
        while timeline.step() {}
        let waiting = executor.spawn(async move {
            let mut buffer = [0; 8];
            let read = server.read(&mut buffer).await.unwrap();
            (server, buffer[..read].to_vec())
        });
        while executor.try_tick() {}
        assert!(!waiting.is_finished());
        line.go_on(Direction::Up);
        run(&executor, &timeline);
        let (mut server, read) = smol::block_on(waiting);
        assert_eq!(read, b"one");
        line.swallow(Direction::Up);
        smol::block_on(client.write_all(b"two")).unwrap();
        drop(client);
        let waiting = executor.spawn(async move { server.read(&mut [0; 8]).await });
        run(&executor, &timeline);
        assert!(!waiting.is_finished(), "neither bytes nor an end");
    }

    #[test]
    fn who_writes_to_an_end_that_is_gone_is_told_after_the_latency() {
        let (timeline, executor) = (Timeline::default(), LocalExecutor::new());
        let (mut client, server, _) = Line::open(&timeline, Conditions::default(), 1);
        smol::block_on(client.write_all(b"on its way")).unwrap();
        drop(server);
        run(&executor, &timeline);
        let error = smol::block_on(client.write(b"x")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(smol::block_on(client.read(&mut [0; 8])).unwrap(), 0);
    }
}
