//! How what the hub has for its connections is written: each in its turn, as much as its socket takes.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use fanfare_core::{CloseCode, Now, Pull, sim_reached};
use futures::io::AsyncWrite;
use smol::future::yield_now;

use super::{Driver, State};
use crate::socket::{Phase, Socket};
use crate::writer::{Chunk, Outgoing};
use crate::{Passes, Platform};

/// Connections written before others have their turn.
const WRITES_MAX: usize = 256;

/// What became of what waits for several.
enum Ride {
    Whole,
    /// So many bytes were written; all is still with the hub.
    Part(usize),
    Failed,
}

impl<P: Platform> Driver<P> {
    /// Writes all connections that have something, whenever there are any.
    pub(crate) async fn write_ready(self: Rc<Self>) {
        let mut batch = Vec::new();
        loop {
            poll_fn(|cx| self.poll_ready(cx, &mut batch)).await;
            let now = self.platform.now();
            for (number, socket) in batch.drain(..).enumerate() {
                self.write(&socket, now);
                if number % WRITES_MAX == WRITES_MAX - 1 {
                    yield_now().await;
                }
            }
            self.state.borrow().share_counters();
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>, batch: &mut Vec<Rc<Socket<P::Stream>>>) -> Poll<()> {
        self.writable.writer.register(cx.waker());
        let mut state = self.state.borrow_mut();
        state.wake_readers();
        for conn in self.writable.take() {
            if let Some(socket) = state.find(conn).cloned() {
                state.enqueue(&socket);
            }
        }
        if state.ready.is_empty() {
            return Poll::Pending;
        }
        std::mem::swap(&mut state.ready, batch);
        Poll::Ready(())
    }

    /// Writes to one connection until it has nothing or its socket is full. One write, where that takes everything.
    fn write(&self, socket: &Rc<Socket<P::Stream>>, now: Now) {
        let mut state = self.state.borrow_mut();
        socket.queued.set(false);
        let cx = &mut Context::from_waker(&socket.writable);
        let blocked = socket.blocked.take();
        let mut taken = 0;
        if blocked.is_none() && socket.phase.get() == Phase::Open {
            match self.write_ride(&mut state, socket, cx, now) {
                Ride::Whole => return,
                Ride::Part(bytes) => taken = bytes,
                Ride::Failed => return self.fail(&mut state, socket, now),
            }
        }
        let mut outgoing = match blocked {
            Some(blocked) => *blocked,
            None => std::mem::take(&mut state.outgoing),
        };
        let mut emptied = false;
        let written = loop {
            if outgoing.is_empty() && !emptied {
                emptied = self.pull(&mut state, socket, &mut outgoing, now);
                // The same frames, one by one.
                state.counters.frames_written += outgoing.advance(std::mem::take(&mut taken));
            }
            if let Some(frames) = socket.take_control() {
                outgoing.push_control(frames);
            }
            if outgoing.is_empty() {
                break Ok(());
            }
            let written = outgoing.poll_write(&mut *socket.stream.borrow_mut(), cx);
            state.counters.writes += 1;
            match written {
                Poll::Pending => break Ok(()),
                Poll::Ready(Ok(taken @ 1..)) => {
                    state.counters.bytes_written += taken as u64;
                    state.counters.frames_written += outgoing.advance(taken);
                }
                Poll::Ready(Ok(0) | Err(_)) => break Err(()),
            }
        };
        if written.is_err() {
            return self.fail(&mut state, socket, now);
        }
        if outgoing.is_empty() {
            state.outgoing = outgoing;
            self.shut(&mut state, socket, cx);
        } else {
            sim_reached!("write_blocked");
            state.counters.writes_blocked += 1;
            socket.blocked.set(Some(Box::new(outgoing)));
        }
        self.carry_out(&mut state, now);
    }

    /// Writes what waits for several connections alike, in one write and without taking it apart.
    fn write_ride(
        &self,
        state: &mut State<P::Stream>,
        socket: &Rc<Socket<P::Stream>>,
        cx: &mut Context<'_>,
        now: Now,
    ) -> Ride {
        let State {
            engine, counters, ..
        } = state;
        let ride = engine.ride(socket.conn).filter(|_| !socket.has_control());
        let Some((bytes, frames)) = ride else {
            return Ride::Part(0);
        };
        let written = Pin::new(&mut *socket.stream.borrow_mut()).poll_write(cx, bytes);
        counters.writes += 1;
        match written {
            Poll::Ready(Ok(taken)) if taken == bytes.len() => {
                self.platform.watch(now, Passes::Ride(socket.conn, bytes));
                counters.bytes_written += taken as u64;
                counters.frames_written += frames;
                engine.rode(socket.conn);
                Ride::Whole
            }
            Poll::Ready(Ok(0) | Err(_)) => Ride::Failed,
            Poll::Ready(Ok(taken)) => {
                sim_reached!("ride_cut_short");
                counters.bytes_written += taken as u64;
                Ride::Part(taken)
            }
            Poll::Pending => Ride::Part(0),
        }
    }

    fn fail(&self, state: &mut State<P::Stream>, socket: &Rc<Socket<P::Stream>>, now: Now) {
        sim_reached!("write_failed");
        state.counters.writes_failed += 1;
        self.lose(state, socket, now);
    }

    /// Takes from the hub what may be in hand at once. Whether it has no more.
    fn pull(
        &self,
        state: &mut State<P::Stream>,
        socket: &Rc<Socket<P::Stream>>,
        outgoing: &mut Outgoing,
        now: Now,
    ) -> bool {
        if !matches!(socket.phase.get(), Phase::Open | Phase::Faulted) {
            return true;
        }
        while !outgoing.is_full() {
            let pulled = state.engine.pull(now, socket.conn);
            self.platform.watch(now, Passes::Pull(socket.conn, &pulled));
            match pulled {
                Pull::Frame(frame) => outgoing.push(Chunk::Frame(frame)),
                Pull::Ping => outgoing.push(Chunk::Ping),
                Pull::Close { code, reason } => {
                    outgoing.push(Chunk::close(code.number(), reason));
                    // A token that does not hold was told of when it came.
                    if code == CloseCode::NO_TOKEN || code == CloseCode::NOT_ALLOWED {
                        let name = if code == CloseCode::NO_TOKEN {
                            "no_token"
                        } else {
                            "forbidden"
                        };
                        state.refused(now, socket.conn, name, &reason);
                    }
                    let linger_until = now.time.plus(self.limits.linger_ms);
                    state.forget(socket, linger_until, "server", Some(code.number()));
                    return true;
                }
                Pull::Empty => return true,
            }
        }
        false
    }

    /// Ends the writing side of a connection of which all is written, so that the peer gets everything and then the
    /// end.
    fn shut(
        &self,
        state: &mut State<P::Stream>,
        socket: &Rc<Socket<P::Stream>>,
        cx: &mut Context<'_>,
    ) {
        if socket.phase.get() != Phase::Closing {
            return;
        }
        let Poll::Ready(closed) = Pin::new(&mut *socket.stream.borrow_mut()).poll_close(cx) else {
            return;
        };
        socket.phase.set(Phase::Shut);
        if closed.is_err() || socket.ended.get() {
            state.remove(socket);
        }
    }
}
