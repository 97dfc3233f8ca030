//! One connection while it speaks HTTP/1.1: hyper reads and writes, deadlines are kept, and a request that may
//! become a WebSocket goes to the shard with every byte that came behind it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fanfare_core::{Open, Time};
use futures::io::{AsyncRead, AsyncWrite};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::connection::discard;
use crate::head::HeadScan;
use crate::upgrade::Handshake;
use crate::{ListenerLimits, Platform, Shard};

/// Bytes that a client may still be sending while it is answered and closed, so that it sees the answer.
const DISCARD_MAX: usize = 16 << 20;
/// Milliseconds for which it may do so.
const DISCARD_MS: u64 = 5_000;

/// Headers that hyper takes where it is told no number.
const HYPERS_HEADERS: usize = 100;

/// Bytes that are read at a time, at most.
const READ_MAX: usize = 64 << 10;

/// The body of an answer.
pub type Body = Full<Bytes>;

/// What a request gets.
///
/// ```
/// use fanfare_websocket::{Answer, Body};
/// let answer = Answer::Response(http::Response::new(Body::from("{}")));
/// ```
#[derive(Debug)]
pub enum Answer {
    /// An ordinary response.
    Response(Response<Body>),
    /// The connection becomes a WebSocket, opened in the shard.
    Upgrade(Handshake, Open),
}

/// Answers requests: the HTTP API.
///
/// ```
/// use fanfare_websocket::{Answer, Body, Respond};
/// use hyper::body::Incoming;
///
/// struct Hello;
/// impl Respond for Hello {
///     async fn respond(&self, _: http::Request<Incoming>) -> Answer {
///         Answer::Response(http::Response::new(Body::from("hello")))
///     }
/// }
/// ```
pub trait Respond: 'static {
    /// Answers one request. Is dropped unfinished where that takes longer than [`ListenerLimits::request_ms`].
    fn respond(&self, request: Request<Incoming>) -> impl Future<Output = Answer>;
}

/// Where a connection is in its requests, and since when.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Head(Time),
    Request(Time),
    Idle(Time),
}

/// What the stream sees, the service decides and the deadline goes by.
struct Course<P: Platform> {
    shard: Shard<P>,
    scan: RefCell<HeadScan>,
    phase: Cell<Phase>,
    open: Cell<Option<Open>>,
    limits: ListenerLimits,
}

impl<P: Platform> Course<P> {
    fn new(shard: Shard<P>, limits: ListenerLimits) -> Self {
        Self {
            scan: RefCell::new(HeadScan::new()),
            // The first head is waited for from the beginning.
            phase: Cell::new(Phase::Head(shard.time())),
            open: Cell::new(None),
            limits,
            shard,
        }
    }

    fn now(&self) -> Time {
        self.shard.time()
    }

    fn deadline(&self) -> Time {
        let (since, ms) = match self.phase.get() {
            Phase::Head(since) => (since, self.limits.head_ms),
            Phase::Request(since) => (since, self.limits.request_ms),
            Phase::Idle(since) => (since, self.limits.idle_ms),
        };
        since.plus(ms)
    }

    /// The service has a request.
    fn begin(&self) {
        // Its head came with the last read or, behind the one before it, earlier.
        if !matches!(self.phase.get(), Phase::Request(_)) {
            self.phase.set(Phase::Request(self.now()));
        }
    }

    /// Bytes came.
    fn read(&self, bytes: &mut [u8]) {
        let mut scan = self.scan.borrow_mut();
        let completed = scan.feed(bytes);
        match self.phase.get() {
            Phase::Head(_) | Phase::Idle(_) if completed => {
                self.phase.set(Phase::Request(self.now()));
            }
            Phase::Idle(_) if scan.is_within() => self.phase.set(Phase::Head(self.now())),
            Phase::Head(_) | Phase::Idle(_) | Phase::Request(_) => {}
        }
    }

    /// The service has an answer.
    fn answered(&self, answer: Answer) -> Response<Body> {
        let scan = self.scan.borrow();
        let now = self.now();
        self.phase.set(if scan.is_within() {
            Phase::Head(now)
        } else {
            Phase::Idle(now)
        });
        match answer {
            Answer::Response(mut response) => {
                if scan.is_opaque() {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                response
            }
            Answer::Upgrade(handshake, open) => {
                self.open.set(Some(open));
                handshake.response(Body::default())
            }
        }
    }
}

/// Serves one connection until it closes, keeps a deadline no longer, or has become a WebSocket.
///
/// A [`Listener`](crate::Listener) does this for every connection that it accepts; who brings connections of another kind
/// spawns it on the shard's executor.
pub async fn serve<P: Platform, R: Respond>(
    stream: P::Stream,
    shard: Shard<P>,
    respond: Rc<R>,
    limits: ListenerLimits,
) {
    let course = Rc::new(Course::new(shard, limits));
    let scanned = Scanned {
        stream,
        course: Rc::clone(&course),
    };
    // On the heap: of a connection that became a WebSocket nothing of this remains.
    let Some((stream, read)) = Box::pin(speak(scanned, &course, respond)).await else {
        return;
    };
    match course.open.take() {
        Some(open) => course.shard.accept(stream, read, open),
        None => hang_up(stream, &course.shard).await,
    }
}

/// Lets hyper speak. The connection with what was read of it and not used, unless a deadline passed.
async fn speak<P: Platform, R: Respond>(
    stream: Scanned<P>,
    course: &Rc<Course<P>>,
    respond: Rc<R>,
) -> Option<(P::Stream, Bytes)> {
    let service = service_fn(|request| {
        let respond = Rc::clone(&respond);
        let course = Rc::clone(course);
        let under_way = course.shard.begin_request();
        course.begin();
        Box::pin(async move {
            let answer = respond.respond(request).await;
            // In this turn hyper writes the answer; who waits for the guard has one of the next.
            drop(under_way);
            Ok::<_, Infallible>(course.answered(answer))
        })
    });
    let mut builder = http1::Builder::new();
    builder
        .half_close(true)
        .max_header_size(course.limits.head_bytes)
        .header_read_timeout(None);
    // As many as it takes by itself have room on its stack; any number that it is told costs each request an array.
    if course.limits.headers != HYPERS_HEADERS {
        builder.max_headers(course.limits.headers);
    }
    let mut connection = builder.serve_connection(stream, service);
    let mut armed = course.deadline();
    let mut timer = pin!(course.shard.sleep_until(armed));
    let spoken = poll_fn(|cx| {
        // An error is the client's own: it left, or hyper has answered it.
        if connection.poll_without_shutdown(cx).is_ready() {
            return Poll::Ready(true);
        }
        loop {
            // A timer that fires too early is set anew; so most requests set none.
            let deadline = course.deadline();
            if deadline < armed {
                armed = deadline;
                timer.set(course.shard.sleep_until(armed));
            }
            ready!(timer.as_mut().poll(cx));
            if deadline <= course.now() {
                return Poll::Ready(false);
            }
            armed = deadline;
            timer.set(course.shard.sleep_until(armed));
        }
    })
    .await;
    spoken.then(|| {
        let parts = connection.into_parts();
        // hyper's buffer is 8 KiB, of which an empty part would hold on to all.
        let read = Bytes::copy_from_slice(&parts.read_buf);
        (parts.io.stream, read)
    })
}

/// Ends a connection in such a way that the client sees its answer, though it may still be sending.
async fn hang_up<P: Platform>(mut stream: P::Stream, shard: &Shard<P>) {
    if poll_fn(|cx| Pin::new(&mut stream).poll_close(cx))
        .await
        .is_ok()
    {
        let discarded = discard(&mut stream, DISCARD_MAX);
        let late = shard.sleep_until(shard.time().plus(DISCARD_MS));
        smol::future::or(
            async {
                discarded.await;
            },
            late,
        )
        .await;
    }
}

/// A connection whose incoming bytes are seen by the scan first.
struct Scanned<P: Platform> {
    stream: P::Stream,
    course: Rc<Course<P>>,
}

thread_local! {
    /// What all connections of a thread read into, one after the other: hyper's own buffer would have to be zeroed for each read.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into());
}

impl<P: Platform> Read for Scanned<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        BUFFER.with_borrow_mut(|buffer| {
            let room = into.remaining().min(READ_MAX);
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            let bytes = buffer.get_mut(..read).unwrap_or_default();
            self.course.read(bytes);
            into.put_slice(bytes);
            Poll::Ready(Ok(()))
        })
    }
}

impl<P: Platform> Write for Scanned<P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
