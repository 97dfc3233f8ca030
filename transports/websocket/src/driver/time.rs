//! Time: when the hub or a socket needs to be looked after.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use fanfare_core::{Fault, Input, Now, Time};
use smol::future::or;

use super::{Driver, State};
use crate::Platform;
use crate::socket::Socket;

/// Why a socket is looked after at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A message was begun.
    Message,
    /// It is closing.
    Linger,
}

impl<S> State<S> {
    /// When time matters next.
    fn next_deadline(&self) -> Option<Time> {
        let due = self.due.first().map(|(at, _, _)| *at);
        self.hub.next_deadline().into_iter().chain(due).min()
    }

    /// Has the timer fire earlier, where that is needed. That it fires too early does no harm, so it is never put off.
    pub(super) fn rearm(&mut self) {
        let next = self.next_deadline();
        if next.is_some() && self.armed.is_none_or(|armed| next < Some(armed)) {
            self.armed = next;
            if let Some(waker) = self.timer.take() {
                waker.wake();
            }
        }
    }
}

impl<P: Platform> Driver<P> {
    /// A message was begun that is not complete: it has a moment.
    pub(crate) fn watch_message(&self, socket: &Socket<P::Stream>) {
        if socket.message_since.get().is_some() && socket.message_watched.get() {
            return;
        }
        let since = self.platform.now().time;
        if socket.message_since.get().is_none() {
            socket.message_since.set(Some(since));
        }
        if !socket.message_watched.replace(true) {
            let mut state = self.state.borrow_mut();
            let at = since.plus(self.limits.message_ms);
            state.due.insert((at, socket.conn, Due::Message));
            state.rearm();
        }
    }

    /// Comes back with the time whenever hub or sockets need it.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        loop {
            let at = {
                let mut state = self.state.borrow_mut();
                state.armed = state.next_deadline();
                state.armed
            };
            let rearmed = poll_fn(|cx| {
                let mut state = self.state.borrow_mut();
                if state.armed != at {
                    return Poll::Ready(());
                }
                state.timer = Some(cx.waker().clone());
                Poll::Pending
            });
            match at {
                Some(at) => or(rearmed, self.platform.sleep_until(at)).await,
                None => rearmed.await,
            }
            self.tick();
        }
    }

    fn tick(&self) {
        let now = self.platform.now();
        let mut state = self.state.borrow_mut();
        while let Some((at, conn, why)) = state.due.first().copied()
            && at <= now.time
        {
            state.due.pop_first();
            let Some(socket) = state.find(conn).cloned() else {
                continue;
            };
            match why {
                Due::Linger => state.remove(&socket),
                Due::Message => self.message_due(&mut state, &socket, now),
            }
        }
        state.hub.handle(now, Input::Tick);
        self.carry_out(&mut state, now);
    }

    fn message_due(&self, state: &mut State<P::Stream>, socket: &Rc<Socket<P::Stream>>, now: Now) {
        socket.message_watched.set(false);
        let Some(since) = socket.message_since.get() else {
            return;
        };
        let at = since.plus(self.limits.message_ms);
        if at <= now.time {
            return self.fault(state, socket, Fault::Policy, now);
        }
        // Another one was begun since.
        socket.message_watched.set(true);
        state.due.insert((at, socket.conn, Due::Message));
    }
}
