//! The I/O of one thread: which sockets are ready, which timers are due, and the loop that runs the thread's tasks.
//!
//! Each shard has its own. The reactor of async-io is one for the whole process, behind a lock, with a thread of its own that takes
//! over whenever tasks run for long: waking each other, these two threads took a sixth of a publish's time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use polling::{Event, Events, PollMode, Poller};
use slab::Slab;
use smol::LocalExecutor;

/// A clone is another handle to the same one; all stay on one thread.
#[derive(Clone)]
pub(crate) struct Reactor(Rc<Inner>);

struct Inner {
    poller: Arc<Poller>,
    sources: RefCell<Slab<Waiting>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_timer: Cell<u64>,
}

/// Who waits for one source. Its reader and its writer are woken apart.
#[derive(Default)]
struct Waiting {
    read: Option<Waker>,
    write: Option<Waker>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Wakes the loop, from this thread or another one.
struct Alarm {
    poller: Arc<Poller>,
    /// Whether the loop has something to do.
    rung: AtomicBool,
    /// Whether the loop is waiting, or about to.
    waits: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::SeqCst) && self.waits.load(Ordering::SeqCst) {
            // Of a poller that can't be notified nothing can be told either; it is woken by what comes next.
            let _ = self.poller.notify();
        }
    }
}

impl Reactor {
    /// # Errors
    /// Where the system has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Rc::new(Inner {
            poller: Arc::new(Poller::new()?),
            sources: RefCell::default(),
            timers: RefCell::default(),
            next_timer: Cell::new(0),
        })))
    }

    /// Runs `executor` on this thread until `future` is done.
    ///
    /// # Panics
    /// Where the system's poller fails: without it nothing would be heard of any socket.
    #[expect(
        clippy::panic,
        reason = "a poller that fails is a bug, and nobody is served without it"
    )]
    pub(crate) fn block_on<T>(
        &self,
        executor: &LocalExecutor<'_>,
        future: impl Future<Output = T>,
    ) -> T {
        let alarm = Arc::new(Alarm {
            poller: Arc::clone(&self.0.poller),
            rung: AtomicBool::new(true),
            waits: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&alarm));
        let mut cx = Context::from_waker(&waker);
        let mut running = pin!(executor.run(future));
        let mut events = Events::new();
        loop {
            if alarm.rung.swap(false, Ordering::SeqCst)
                && let Poll::Ready(done) = running.as_mut().poll(&mut cx)
            {
                return done;
            }
            alarm.waits.store(true, Ordering::SeqCst);
            let timeout = if alarm.rung.load(Ordering::SeqCst) {
                // It has more to do, after a look at the sockets.
                Some(Duration::ZERO)
            } else {
                self.next_timer()
            };
            events.clear();
            let waited = self.0.poller.wait(&mut events, timeout);
            alarm.waits.store(false, Ordering::SeqCst);
            match waited {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("the system's poller failed: {error}"),
            }
            self.wake_ready(&events);
            self.wake_due();
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        let timers = self.0.timers.borrow();
        let ((at, _), _) = timers.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    fn wake_ready(&self, events: &Events) {
        for event in events.iter() {
            let woken = {
                let mut sources = self.0.sources.borrow_mut();
                let waiting = sources.get_mut(event.key);
                waiting.map(|waiting| {
                    (
                        waiting.read.take_if(|_| event.readable),
                        waiting.write.take_if(|_| event.writable),
                    )
                })
            };
            let (read, write) = woken.unwrap_or_default();
            read.into_iter().chain(write).for_each(Waker::wake);
        }
    }

    fn wake_due(&self) {
        let now = Instant::now();
        loop {
            let due = {
                let mut timers = self.0.timers.borrow_mut();
                match timers.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    Some(_) | None => return,
                }
            };
            due.wake();
        }
    }

    /// Hears of `source` from now on.
    ///
    /// # Errors
    /// Where the system does not watch such a source.
    pub(crate) fn register<S: AsFd>(&self, source: S) -> io::Result<Io<S>> {
        let key = self.0.sources.borrow_mut().insert(Waiting::default());
        // By edges: a source that was read or written until it would block is heard of again without another call.
        let mode = PollMode::Edge;
        // SAFETY: `Io` owns the source, and takes it out of the poller before the source is closed.
        #[expect(unsafe_code, reason = "see the comment above")]
        let added = unsafe {
            self.0
                .poller
                .add_with_mode(source.as_fd().as_raw_fd(), Event::all(key), mode)
        };
        if let Err(error) = added {
            self.0.sources.borrow_mut().remove(key);
            return Err(error);
        }
        Ok(Io {
            source,
            key,
            reactor: self.clone(),
        })
    }

    /// Ends at `at`.
    pub(crate) fn sleep_until(&self, at: Instant) -> Sleep {
        let id = self.0.next_timer.get();
        self.0.next_timer.set(id + 1);
        Sleep {
            reactor: self.clone(),
            key: (at, id),
        }
    }
}

/// A source that a reactor watches.
pub(crate) struct Io<S: AsFd> {
    source: S,
    key: usize,
    reactor: Reactor,
}

impl<S: AsFd> Io<S> {
    pub(crate) const fn get_ref(&self) -> &S {
        &self.source
    }

    /// Tries `operation`; where it would block, again when the source is ready for it.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match operation(&self.source) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        let mut sources = self.reactor.0.sources.borrow_mut();
        if let Some(waiting) = sources.get_mut(self.key) {
            let place = match direction {
                Direction::Read => &mut waiting.read,
                Direction::Write => &mut waiting.write,
            };
            match place {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *place = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// The same as a future.
    pub(crate) async fn ready<T>(
        &self,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> io::Result<T> {
        poll_fn(|cx| self.poll(cx, direction, &mut operation)).await
    }
}

impl<S: AsFd> Drop for Io<S> {
    fn drop(&mut self) {
        // One that the system does not know any more is out of the poller.
        let _ = self.reactor.0.poller.delete(&self.source);
        self.reactor.0.sources.borrow_mut().remove(self.key);
    }
}

/// A timer that was set.
pub(crate) struct Sleep {
    reactor: Reactor,
    key: (Instant, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.key.0 <= Instant::now() {
            return Poll::Ready(());
        }
        let mut timers = self.reactor.0.timers.borrow_mut();
        timers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.reactor.0.timers.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn run<T>(reactor: &Reactor, future: impl Future<Output = T>) -> T {
        reactor.block_on(&LocalExecutor::new(), future)
    }

    async fn read(io: &Io<TcpStream>) -> u8 {
        let mut byte = [0];
        let read = |mut stream: &TcpStream| stream.read(&mut byte);
        io.ready(Direction::Read, read).await.unwrap();
        byte[0]
    }

    #[test]
    fn what_comes_later_wakes_its_reader_each_time() {
        let reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = pair();
        let io = reactor.register(ours).unwrap();
        let (told, heard) = std::sync::mpsc::sync_channel(1);
        let writer = thread::spawn(move || {
            for byte in 1..=100 {
                theirs.write_all(&[byte]).unwrap();
                heard.recv().unwrap();
            }
        });
        run(&reactor, async {
            for byte in 1..=100 {
                assert_eq!(read(&io).await, byte);
                told.send(()).unwrap();
            }
        });
        writer.join().unwrap();
    }

    #[test]
    fn who_writes_more_than_fits_goes_on_when_it_was_read() {
        const BYTES: usize = 16 << 20;
        let reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = pair();
        let io = reactor.register(ours).unwrap();
        let reader = thread::spawn(move || {
            let mut all = vec![0; BYTES];
            theirs.read_exact(&mut all).unwrap();
        });
        run(&reactor, async {
            let mut left = BYTES;
            while left > 0 {
                let bytes = vec![7; left.min(1 << 20)];
                let write = |mut stream: &TcpStream| stream.write(&bytes);
                left -= io.ready(Direction::Write, write).await.unwrap();
            }
        });
        reader.join().unwrap();
    }

    #[test]
    fn another_thread_wakes_the_loop_while_it_waits() {
        let reactor = Reactor::new().unwrap();
        for number in 0..1_000 {
            let (sender, receiver) = futures::channel::oneshot::channel();
            let sent = thread::spawn(move || sender.send(number));
            assert_eq!(run(&reactor, receiver), Ok(number));
            sent.join().unwrap().unwrap();
        }
    }

    #[test]
    fn timers_are_due_in_their_order_and_a_dropped_one_is_gone() {
        let reactor = Reactor::new().unwrap();
        let now = Instant::now();
        let at = |ms| reactor.sleep_until(now + Duration::from_millis(ms));
        let order = RefCell::new(Vec::new());
        let wait = async |ms| {
            at(ms).await;
            order.borrow_mut().push(ms);
        };
        let dropped = futures::future::select(Box::pin(at(3_600_000)), Box::pin(at(1)));
        run(&reactor, async {
            drop(dropped.await);
            futures::join!(wait(6), wait(2), wait(4), wait(2));
        });
        assert_eq!(order.into_inner(), [2, 2, 4, 6]);
        assert_eq!(reactor.0.timers.borrow().len(), 0);
    }

    #[test]
    fn a_source_that_is_gone_leaves_nothing() {
        let reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = pair();
        let io = reactor.register(ours).unwrap();
        theirs.write_all(&[1]).unwrap();
        drop(io);
        // Its number is another's now, which must not be told of what came for it.
        let (ours, mut theirs) = pair();
        let io = reactor.register(ours).unwrap();
        assert_eq!(reactor.0.sources.borrow().len(), 1);
        theirs.write_all(&[2]).unwrap();
        assert_eq!(run(&reactor, read(&io)), 2);
    }
}
