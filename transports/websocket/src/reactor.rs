//! The I/O of one thread: which sockets are ready, which timers are due, and the loop that runs the thread's tasks.
//!
//! Each shard has its own. The reactor of async-io is one for the whole process, behind a lock, with a thread of its own that takes
//! over whenever tasks run for long: waking each other, these two threads took a sixth of a publish's time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use slab::Slab;
use smol::LocalExecutor;

/// What the loop itself is woken by; no source has this number.
const ALARM: Token = Token(usize::MAX);
/// Events that are taken at a time.
const EVENTS: usize = 1_024;

/// A clone is another handle to the same one; all stay on one thread.
#[derive(Clone)]
pub(crate) struct Reactor(Rc<Inner>);

struct Inner {
    poller: RefCell<mio::Poll>,
    alarm: Arc<mio::Waker>,
    sources: RefCell<Slab<Source>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_timer: Cell<u64>,
}

/// What is known of one source. Its reader and its writer are woken apart.
#[derive(Default)]
struct Source {
    read: Side,
    write: Side,
}

#[derive(Default)]
struct Side {
    readiness: Readiness,
    waiting: Option<Waker>,
}

/// What a call would come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Readiness {
    /// Perhaps it moves bytes: it is to be tried.
    #[default]
    Likely,
    /// It would block, until the system tells of the source again.
    None,
    /// It never blocks again. The system told of the end, and will not do so a second time.
    Ended,
}

impl Source {
    const fn side(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }

    /// Who is to be woken.
    fn told(&mut self, event: &Event) -> [Option<Waker>; 2] {
        let failed = event.is_error();
        [
            self.read
                .told(event.is_readable(), event.is_read_closed() || failed),
            self.write
                .told(event.is_writable(), event.is_write_closed() || failed),
        ]
    }
}

impl Side {
    /// The system told of it. Who is to be woken.
    fn told(&mut self, is_ready: bool, is_ended: bool) -> Option<Waker> {
        if is_ended {
            self.readiness = Readiness::Ended;
        } else if !is_ready {
            return None;
        } else if self.readiness == Readiness::None {
            self.readiness = Readiness::Likely;
        }
        self.waiting.take()
    }

    fn exhausted(&mut self) {
        if self.readiness == Readiness::Likely {
            self.readiness = Readiness::None;
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Wakes the loop, from this thread or another one.
struct Alarm {
    bell: Arc<mio::Waker>,
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
            let _ = self.bell.wake();
        }
    }
}

impl Reactor {
    /// # Errors
    /// Where the system has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let poller = mio::Poll::new()?;
        let alarm = mio::Waker::new(poller.registry(), ALARM)?;
        Ok(Self(Rc::new(Inner {
            poller: RefCell::new(poller),
            alarm: Arc::new(alarm),
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
            bell: Arc::clone(&self.0.alarm),
            rung: AtomicBool::new(true),
            waits: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&alarm));
        let mut cx = Context::from_waker(&waker);
        let mut running = pin!(executor.run(future));
        let mut events = Events::with_capacity(EVENTS);
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
            let waited = self.0.poller.borrow_mut().poll(&mut events, timeout);
            alarm.waits.store(false, Ordering::SeqCst);
            match waited {
                Ok(()) => {}
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
        for event in events {
            let woken = {
                let mut sources = self.0.sources.borrow_mut();
                let source = sources.get_mut(event.token().0);
                source.map(|source| source.told(event))
            };
            woken.into_iter().flatten().flatten().for_each(Waker::wake);
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
        let key = self.0.sources.borrow_mut().insert(Source::default());
        // By edges, as mio has it: what was read or written to its end is heard of again without another call.
        let interest = Interest::READABLE | Interest::WRITABLE;
        let added = self.0.poller.borrow().registry().register(
            &mut SourceFd(&source.as_fd().as_raw_fd()),
            Token(key),
            interest,
        );
        if let Err(error) = added {
            self.0.sources.borrow_mut().remove(key);
            return Err(error);
        }
        Ok(Io {
            watch: Watch {
                fd: source.as_fd().as_raw_fd(),
                key,
                reactor: self.clone(),
            },
            source,
        })
    }

    /// Ends at `at`.
    pub(crate) fn sleep_until(&self, at: Instant) -> Sleep {
        let id = self.0.next_timer.get();
        self.0.next_timer.set(id + 1);
        Sleep {
            reactor: self.clone(),
            key: (at, id),
            is_set: false,
        }
    }
}

/// A source that a reactor watches.
pub(crate) struct Io<S: AsFd> {
    /// Before the source, so that it ends first.
    watch: Watch,
    source: S,
}

/// That a reactor watches a source.
struct Watch {
    fd: RawFd,
    key: usize,
    reactor: Reactor,
}

impl<S: AsFd> Io<S> {
    pub(crate) const fn get_ref(&self) -> &S {
        &self.source
    }

    /// The source, which is watched no longer.
    pub(crate) fn into_inner(self) -> S {
        self.source
    }

    fn with_side<T>(&self, direction: Direction, look: impl FnOnce(&mut Side) -> T) -> Option<T> {
        let mut sources = self.watch.reactor.0.sources.borrow_mut();
        let source = sources.get_mut(self.watch.key)?;
        Some(look(source.side(direction)))
    }

    /// Tries `operation`; where it would block, again when the source is ready for it.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        mut operation: impl FnMut(&S) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let readiness = self.with_side(direction, |side| side.readiness);
        while readiness != Some(Readiness::None) {
            match operation(&self.source) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        self.with_side(direction, |side| {
            side.exhausted();
            match &mut side.waiting {
                Some(waker) => waker.clone_from(cx.waker()),
                None => side.waiting = Some(cx.waker().clone()),
            }
        });
        Poll::Pending
    }

    /// The same for an `operation` that moves up to `room` bytes. One that moved less has emptied the source, or filled it: the
    /// next waits for the system's word, and asks for none itself.
    pub(crate) fn poll_bytes(
        &self,
        cx: &Context<'_>,
        direction: Direction,
        room: usize,
        operation: impl FnMut(&S) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let moved = ready!(self.poll(cx, direction, operation))?;
        // None is the end, or nothing was asked for.
        if (1..room).contains(&moved) {
            self.with_side(direction, Side::exhausted);
        }
        Poll::Ready(Ok(moved))
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

impl Drop for Watch {
    fn drop(&mut self) {
        // One that the system does not know any more is out of the poller.
        let mut source = SourceFd(&self.fd);
        let _ = self
            .reactor
            .0
            .poller
            .borrow()
            .registry()
            .deregister(&mut source);
        self.reactor.0.sources.borrow_mut().remove(self.key);
    }
}

/// A timer.
pub(crate) struct Sleep {
    reactor: Reactor,
    key: (Instant, u64),
    /// Whether the loop has it, until it is due.
    is_set: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut timers = this.reactor.0.timers.borrow_mut();
        if this.is_set {
            // The loop takes out what is due; a clock need not be asked each time.
            return match timers.get_mut(&this.key) {
                Some(waker) => {
                    waker.clone_from(cx.waker());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            };
        }
        if this.key.0 <= Instant::now() {
            return Poll::Ready(());
        }
        timers.insert(this.key, cx.waker().clone());
        this.is_set = true;
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
    use std::net::{Shutdown, TcpListener, TcpStream};
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

    /// Has the system tell everything that it has to tell by now.
    fn hear(reactor: &Reactor) {
        run(
            reactor,
            reactor.sleep_until(Instant::now() + Duration::from_millis(2)),
        );
    }

    /// A source of which the calls are counted.
    struct Counted {
        io: Io<TcpStream>,
        calls: Cell<u32>,
    }

    impl Counted {
        fn new(reactor: &Reactor, stream: TcpStream) -> Self {
            let io = reactor.register(stream).unwrap();
            let calls = Cell::new(0);
            Self { io, calls }
        }

        fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            self.io
                .poll_bytes(cx, Direction::Read, buffer.len(), |mut stream| {
                    self.calls.set(self.calls.get() + 1);
                    stream.read(buffer)
                })
        }

        fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.io
                .poll_bytes(cx, Direction::Write, bytes.len(), |mut stream| {
                    self.calls.set(self.calls.get() + 1);
                    stream.write(bytes)
                })
        }

        /// What a read of up to `room` bytes comes to, at once.
        fn read_now(&self, room: usize) -> Poll<io::Result<usize>> {
            self.poll_read(&Context::from_waker(Waker::noop()), &mut vec![0; room])
        }

        async fn read(&self, room: usize) -> io::Result<usize> {
            let mut buffer = vec![0; room];
            poll_fn(|cx| self.poll_read(cx, &mut buffer)).await
        }
    }

    fn moved(poll: Poll<io::Result<usize>>) -> Option<usize> {
        match poll {
            Poll::Ready(moved) => Some(moved.unwrap()),
            Poll::Pending => None,
        }
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
    fn a_read_that_left_room_is_not_tried_again_before_more_comes() {
        let reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = pair();
        let source = Counted::new(&reactor, ours);
        for round in 1..=100 {
            theirs.write_all(&[7; 10]).unwrap();
            // As much as there was room for: perhaps there is more.
            assert_eq!(run(&reactor, source.read(4)).unwrap(), 4);
            assert_eq!(moved(source.read_now(4)), Some(4));
            assert_eq!(moved(source.read_now(4)), Some(2));
            let calls = source.calls.get();
            assert_eq!(moved(source.read_now(4)), None);
            assert_eq!(source.calls.get(), calls, "round {round}");
        }
    }

    #[test]
    fn the_end_is_seen_behind_a_read_that_left_room_whenever_it_came() {
        for told_of_both_at_once in [false, true] {
            let reactor = Reactor::new().unwrap();
            let (ours, mut theirs) = pair();
            let source = Counted::new(&reactor, ours);
            theirs.write_all(&[7; 10]).unwrap();
            if told_of_both_at_once {
                theirs.shutdown(Shutdown::Write).unwrap();
                hear(&reactor);
                assert_eq!(moved(source.read_now(100)), Some(10));
                // Of this end the system does not tell again.
                assert_eq!(moved(source.read_now(100)), Some(0));
            } else {
                assert_eq!(run(&reactor, source.read(100)).unwrap(), 10);
                hear(&reactor);
                assert_eq!(moved(source.read_now(100)), None);
                theirs.shutdown(Shutdown::Write).unwrap();
                assert_eq!(run(&reactor, source.read(100)).unwrap(), 0);
            }
            assert_eq!(moved(source.read_now(100)), Some(0), "and it stays so");
        }
    }

    #[test]
    fn a_reset_wakes_who_reads_and_who_writes() {
        let reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = pair();
        let source = Counted::new(&reactor, ours);
        theirs.write_all(&[7; 10]).unwrap();
        assert_eq!(run(&reactor, source.read(100)).unwrap(), 10);
        let full = || source.poll_write(&Context::from_waker(Waker::noop()), &[7; 1 << 20]);
        while full().is_ready() {}
        // With bytes in it that nobody read, it is reset.
        drop(theirs);
        let writes = poll_fn(|cx| source.poll_write(cx, &[7]));
        let (read, written) = run(&reactor, futures::future::join(source.read(100), writes));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        written.unwrap_err();
    }

    #[test]
    fn who_writes_more_than_fits_goes_on_when_it_was_read() {
        const BYTES: usize = 16 << 20;
        let reactor = Reactor::new().unwrap();
        let (ours, mut theirs) = pair();
        let source = Counted::new(&reactor, ours);
        let (told, heard) = std::sync::mpsc::sync_channel(1);
        let reader = thread::spawn(move || {
            let mut all = vec![0; BYTES];
            let () = heard.recv().unwrap();
            theirs.read_exact(&mut all).unwrap();
        });
        let mut left = BYTES;
        let mut write = |cx: &Context<'_>| {
            let written = source.poll_write(cx, &vec![7; left.min(1 << 20)]);
            written.map(|written| left -= written.unwrap())
        };
        let cx = Context::from_waker(Waker::noop());
        while write(&cx).is_ready() {}
        let calls = source.calls.get();
        assert!(write(&cx).is_pending());
        assert_eq!(
            source.calls.get(),
            calls,
            "it is full, and was not told of since"
        );
        told.send(()).unwrap();
        run(&reactor, async {
            while left > 0 {
                poll_fn(|cx| {
                    let written = source.poll_write(cx, &vec![7; left.min(1 << 20)]);
                    written.map(|written| left -= written.unwrap())
                })
                .await;
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
    fn a_timer_wakes_whom_it_was_polled_for_last_and_is_done_once_it_is_due() {
        let reactor = Reactor::new().unwrap();
        let mut timer = pin!(reactor.sleep_until(Instant::now() + Duration::from_millis(1)));
        let mut polled = 0;
        let done = poll_fn(|cx| {
            polled += 1;
            // First for somebody who does nothing.
            let nobody = &mut Context::from_waker(Waker::noop());
            if polled == 1 {
                assert!(timer.as_mut().poll(nobody).is_pending());
            }
            timer.as_mut().poll(cx)
        });
        run(&reactor, done);
        assert_eq!(polled, 2);
        assert!(
            timer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        );
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
