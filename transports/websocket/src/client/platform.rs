//! What a client takes from the world: a way to the server, time and chance. The real ones are here, a simulator brings its own.

use std::future::Future;
use std::time::{Duration, Instant};

use async_io::Timer;
use futures::io::{AsyncRead, AsyncWrite};

use super::stream::Stream;
use super::{Error, Server};

/// The world around a [`Client`](super::Client). When it connects, waits and gives up follows from this and from what the
/// server says. The key of a handshake and the masks of frames are drawn elsewhere: they change nothing but bytes.
///
/// ```
/// use fanfare_websocket::client::{Native, Platform};
/// let native = Native::default();
/// assert!(native.now() <= native.now());
/// ```
pub trait Platform: 'static {
    /// Bytes to and from the server.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Connects, with TLS where the address wants it.
    fn connect(&self, server: &Server) -> impl Future<Output = Result<Self::Stream, Error>>;

    /// The time since some beginning. Never goes back.
    fn now(&self) -> Duration;

    /// Ends when [`Platform::now`] has reached `at`.
    fn sleep_until(&self, at: Duration) -> impl Future<Output = ()>;

    /// Anything in 0..1.
    fn random(&self) -> f64;
}

/// TCP, TLS, and the machine's own clock.
///
/// ```
/// use fanfare_websocket::client::Native;
/// let native = Native::default();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Native {
    start: Instant,
}

impl Default for Native {
    fn default() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Platform for Native {
    type Stream = Stream;

    async fn connect(&self, server: &Server) -> Result<Stream, Error> {
        Stream::connect(server).await
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep_until(&self, at: Duration) {
        match self.start.checked_add(at) {
            Some(at) => Timer::at(at).await,
            None => Timer::never().await,
        };
    }

    fn random(&self) -> f64 {
        fastrand::f64()
    }
}

/// Connects, in so much time.
pub(crate) async fn reach<P: Platform>(
    platform: &P,
    server: &Server,
    limit: Duration,
) -> Result<P::Stream, Error> {
    let work = platform.connect(server);
    within(platform, server, "accept a connection", limit, work).await
}

/// Ends `work` with [`Error::TimedOut`] where it takes longer than `limit`.
pub(crate) async fn within<T>(
    platform: &impl Platform,
    server: &Server,
    what: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let until = platform.now().saturating_add(limit);
    smol::future::or(work, async {
        platform.sleep_until(until).await;
        Err(Error::TimedOut {
            server: server.to_string(),
            what,
            limit,
        })
    })
    .await
}
