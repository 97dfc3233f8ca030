//! One TCP connection while it speaks HTTP/1.1: hyper reads and writes, deadlines are kept, and a request that may
//! become a WebSocket goes to the shard with every byte that came behind it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;
use bytes::Bytes;
use fanfare_core::Open;
use futures::io::{AsyncRead, AsyncWrite};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use smol_hyper::rt::FuturesIo;

use crate::connection::discard;
use crate::head::HeadScan;
use crate::upgrade::Handshake;
use crate::{ListenerLimits, Shard, Tcp};

/// Bytes that a client may still be sending while it is answered and closed, so that it sees the answer.
const DISCARD_MAX: usize = 16 << 20;

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
    Head(Instant),
    Request(Instant),
    Idle(Instant),
}

/// What the stream sees, the service decides and the deadline goes by.
struct Course {
    scan: RefCell<HeadScan>,
    phase: Cell<Phase>,
    open: Cell<Option<Open>>,
    limits: ListenerLimits,
}

impl Course {
    fn new(limits: ListenerLimits) -> Self {
        Self {
            scan: RefCell::new(HeadScan::new()),
            // The first head is waited for from the beginning.
            phase: Cell::new(Phase::Head(Instant::now())),
            open: Cell::new(None),
            limits,
        }
    }

    fn deadline(&self) -> Instant {
        let (since, ms) = match self.phase.get() {
            Phase::Head(since) => (since, self.limits.head_ms),
            Phase::Request(since) => (since, self.limits.request_ms),
            Phase::Idle(since) => (since, self.limits.idle_ms),
        };
        since + Duration::from_millis(ms)
    }

    /// Bytes came.
    fn read(&self, bytes: &mut [u8]) {
        let mut scan = self.scan.borrow_mut();
        let completed = scan.feed(bytes);
        match self.phase.get() {
            Phase::Head(_) | Phase::Idle(_) if completed => {
                self.phase.set(Phase::Request(Instant::now()));
            }
            Phase::Idle(_) if scan.is_within() => self.phase.set(Phase::Head(Instant::now())),
            Phase::Head(_) | Phase::Idle(_) | Phase::Request(_) => {}
        }
    }

    /// The service has an answer.
    fn answered(&self, answer: Answer) -> Response<Body> {
        let scan = self.scan.borrow();
        let now = Instant::now();
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
pub(crate) async fn serve<R: Respond>(
    tcp: Tcp,
    shard: Shard,
    respond: Rc<R>,
    limits: ListenerLimits,
) {
    let course = Rc::new(Course::new(limits));
    let stream = Scanned {
        tcp,
        course: Rc::clone(&course),
    };
    // On the heap: of a connection that became a WebSocket nothing of this remains.
    let Some((tcp, read)) = Box::pin(speak(stream, &course, &shard, respond)).await else {
        return;
    };
    match course.open.take() {
        Some(open) => shard.accept(tcp, read, open),
        None => hang_up(tcp).await,
    }
}

/// Lets hyper speak. The connection with what was read of it and not used, unless a deadline passed.
async fn speak<R: Respond>(
    stream: Scanned,
    course: &Rc<Course>,
    shard: &Shard,
    respond: Rc<R>,
) -> Option<(Tcp, Bytes)> {
    let service = service_fn(|request| {
        let respond = Rc::clone(&respond);
        let course = Rc::clone(course);
        let under_way = shard.begin_request();
        course.phase.set(Phase::Request(Instant::now()));
        Box::pin(async move {
            let answer = respond.respond(request).await;
            // In this turn hyper writes the answer; who waits for the guard has one of the next.
            drop(under_way);
            Ok::<_, Infallible>(course.answered(answer))
        })
    });
    let mut connection = http1::Builder::new()
        .half_close(true)
        .max_headers(course.limits.headers)
        .max_header_size(course.limits.head_bytes)
        .header_read_timeout(None)
        .serve_connection(FuturesIo::new(stream), service);
    let mut deadline = course.deadline();
    let mut timer = Timer::at(deadline);
    let spoken = poll_fn(|cx| {
        // An error is the client's own: it left, or hyper has answered it.
        if connection.poll_without_shutdown(cx).is_ready() {
            return Poll::Ready(true);
        }
        if deadline != course.deadline() {
            deadline = course.deadline();
            timer.set_at(deadline);
        }
        Pin::new(&mut timer).poll(cx).map(|_| false)
    })
    .await;
    spoken.then(|| {
        let parts = connection.into_parts();
        (parts.io.into_inner().tcp, parts.read_buf)
    })
}

/// Ends a connection in such a way that the client sees its answer, though it may still be sending.
async fn hang_up(mut tcp: Tcp) {
    if poll_fn(|cx| Pin::new(&mut tcp).poll_close(cx))
        .await
        .is_ok()
    {
        let discarded = discard(&mut tcp, DISCARD_MAX);
        smol::future::or(
            async {
                discarded.await;
            },
            async {
                Timer::after(Duration::from_secs(5)).await;
            },
        )
        .await;
    }
}

/// A TCP connection whose incoming bytes are seen by the scan first.
struct Scanned {
    tcp: Tcp,
    course: Rc<Course>,
}

impl AsyncRead for Scanned {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = std::task::ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
        self.course.read(buffer.get_mut(..read).unwrap_or_default());
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Scanned {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_close(cx)
    }
}
