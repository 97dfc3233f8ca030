//! Accepts TCP connections, as many as come at once, and goes on whatever an accept says.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::io::{AsyncRead, AsyncWrite};
use futures::task::AtomicWaker;
use smol::future::yield_now;
use socket2::{Domain, Protocol, Socket, Type};

use crate::http::{self, Respond};
use crate::reactor::{Direction, Io, Reactor};
use crate::{Error, Shard};

/// Connections that may wait to be accepted: what a thousand clients that come at once need, with room.
const BACKLOG: i32 = 4_096;
/// Connections accepted before others have their turn.
const ACCEPTS_MAX: usize = 64;
/// Milliseconds to wait where the process or the system has no file descriptor left.
const EXHAUSTED_MS: u64 = 50;

/// How much a listener takes from its clients.
///
/// ```
/// use fanfare_websocket::ListenerLimits;
/// let limits = ListenerLimits { connections: 100, ..ListenerLimits::default() };
/// assert_eq!(limits.head_ms, 5_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    /// TCP connections open at once, HTTP and WebSockets together; more wait to be accepted.
    pub connections: usize,
    /// Bytes of a request's line and headers, at least 8,192; more are answered by 431.
    pub head_bytes: usize,
    /// Headers of a request; more are answered by 431.
    pub headers: usize,
    /// Milliseconds in which a request's head has to be complete, from its first byte; for the first request of a
    /// connection, from when it was accepted.
    pub head_ms: u64,
    /// Milliseconds from a request's head to its answer, the body's arrival included.
    pub request_ms: u64,
    /// Milliseconds for which a connection may wait for its next request, and take its answer.
    pub idle_ms: u64,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            head_bytes: 16 << 10,
            headers: 100,
            head_ms: 5_000,
            request_ms: 60_000,
            idle_ms: 60_000,
        }
    }
}

/// A bound socket.
///
/// ```no_run
/// # use fanfare_websocket::{Listener, ListenerLimits, Respond, Shard};
/// # async fn run(shard: Shard, api: impl Respond) -> Result<(), fanfare_websocket::Error> {
/// let listener = Listener::bind("127.0.0.1:8080".parse().unwrap(), ListenerLimits::default())?;
/// listener.serve(shard, api).unwrap().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    limits: ListenerLimits,
}

impl Listener {
    /// Binds `address`, with port 0 for any free one, and lets clients queue from now on.
    ///
    /// # Errors
    /// [`Error::Bind`], for instance where another program has the port.
    pub fn bind(address: SocketAddr, limits: ListenerLimits) -> Result<Self, Error> {
        let bound = || -> io::Result<Self> {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let socket = TcpListener::from(socket);
            let address = socket.local_addr()?;
            Ok(Self {
                socket,
                address,
                limits,
            })
        };
        bound().map_err(|source| Error::Bind { address, source })
    }

    /// The address bound, with the port that was chosen.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients on the shard's executor until the future is dropped; connections then go on without it.
    ///
    /// # Errors
    /// Where the system would not tell of clients that come.
    pub fn serve<R: Respond>(
        self,
        shard: Shard,
        respond: R,
    ) -> io::Result<impl Future<Output = ()>> {
        let socket = shard.platform().reactor().register(self.socket)?;
        Ok(serve(socket, self.limits, shard, Rc::new(respond)))
    }
}

async fn serve<R: Respond>(
    socket: Io<TcpListener>,
    limits: ListenerLimits,
    shard: Shard,
    respond: Rc<R>,
) {
    let gate = Arc::new(Gate::default());
    let mut accepted = 0;
    loop {
        gate.wait_below(limits.connections).await;
        match accept(&socket, shard.platform().reactor(), &gate).await {
            Ok(tcp) => {
                shard.count(|counters| counters.accepted += 1);
                shard.spawn(http::serve(tcp, shard.clone(), Rc::clone(&respond), limits));
                accepted += 1;
                if accepted % ACCEPTS_MAX == 0 {
                    yield_now().await;
                }
            }
            Err(error) => {
                shard.count(|counters| counters.accept_errors += 1);
                if let Some(times) = shard.admit_line("accept") {
                    tracing::warn!(%error, times, "connections can't be accepted; trying again");
                }
                // Of a client that left before its turn nothing remains; the rest passes, if at all, with time.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    let again = shard.time().plus(EXHAUSTED_MS);
                    shard.sleep_until(again).await;
                }
            }
        }
    }
}

async fn accept(socket: &Io<TcpListener>, reactor: &Reactor, gate: &Arc<Gate>) -> io::Result<Tcp> {
    let accept = |socket: &TcpListener| socket.accept();
    let (stream, _) = socket.ready(Direction::Read, accept).await?;
    stream.set_nonblocking(true)?;
    // A frame is written whole: nothing is gained by waiting for more.
    stream.set_nodelay(true)?;
    Ok(Tcp {
        stream: reactor.register(stream)?,
        permit: Permit::new(gate),
    })
}

/// Counts the open connections of a listener.
#[derive(Debug, Default)]
struct Gate {
    open: AtomicUsize,
    waiting: AtomicWaker,
}

impl Gate {
    async fn wait_below(&self, limit: usize) {
        poll_fn(|cx| {
            if self.open.load(Ordering::Acquire) < limit {
                return Poll::Ready(());
            }
            self.waiting.register(cx.waker());
            // One that went just before would not wake.
            if self.open.load(Ordering::Acquire) < limit {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}

/// One open connection of a [`Gate`], in any thread.
#[derive(Debug)]
struct Permit(Arc<Gate>);

impl Permit {
    fn new(gate: &Arc<Gate>) -> Self {
        gate.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(gate))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.waiting.wake();
    }
}

/// A client's TCP connection. Closing it as an [`AsyncWrite`] ends its writing side: what was written arrives.
///
/// ```no_run
/// # async fn hang_up(mut tcp: fanfare_websocket::Tcp) -> std::io::Result<()> {
/// futures::AsyncWriteExt::close(&mut tcp).await
/// # }
/// ```
pub struct Tcp {
    stream: Io<TcpStream>,
    permit: Permit,
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tcp").field(self.stream.get_ref()).finish()
    }
}

/// A client's TCP connection on its way to another thread.
///
/// ```
/// fn crosses_threads<T: Send>() {}
/// crosses_threads::<fanfare_websocket::TcpParcel>();
/// ```
#[derive(Debug)]
pub struct TcpParcel {
    stream: TcpStream,
    permit: Permit,
}

impl TcpParcel {
    pub(crate) fn register(self, reactor: &Reactor) -> io::Result<Tcp> {
        Ok(Tcp {
            stream: reactor.register(self.stream)?,
            permit: self.permit,
        })
    }
}

impl From<Tcp> for TcpParcel {
    fn from(tcp: Tcp) -> Self {
        Self {
            stream: tcp.stream.into_inner(),
            permit: tcp.permit,
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let room = buffer.len();
        let read = |mut stream: &TcpStream| stream.read(buffer);
        self.stream.poll_bytes(cx, Direction::Read, room, read)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = buffers.iter().map(|buffer| buffer.len()).sum();
        let read = |mut stream: &TcpStream| stream.read_vectored(buffers);
        self.stream.poll_bytes(cx, Direction::Read, room, read)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = |mut stream: &TcpStream| stream.write(bytes);
        self.stream
            .poll_bytes(cx, Direction::Write, bytes.len(), write)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        let write = |mut stream: &TcpStream| stream.write_vectored(slices);
        self.stream.poll_bytes(cx, Direction::Write, bytes, write)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}
