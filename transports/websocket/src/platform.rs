//! What a shard takes from the world: byte streams and clocks. The real ones are here, a simulator brings its own.

use std::cell::Cell;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_io::Timer;
use fanfare_core::{ConnId, Effect, Input, Now, Open, Pull, Time, Wall};
use futures::io::{AsyncRead, AsyncWrite};

use crate::listener::Tcp;

/// The world around a [`Shard`](crate::Shard).
///
/// Everything that a shard does follows from these and from its hub's seed, so one that repeats makes a shard
/// that repeats.
///
/// ```
/// use fanfare_websocket::{Native, Platform};
/// let native = Native::default();
/// assert!(native.now().time <= native.now().time);
/// ```
pub trait Platform: 'static {
    /// A connection's bytes. `poll_close` has to end the writing side only.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// The time. `time` and `wall` never go back.
    fn now(&self) -> Now;

    /// Ends when [`Platform::now`] has reached `at`.
    fn sleep_until(&self, at: Time) -> impl Future<Output = ()>;

    /// Is shown what goes into the hub and what comes out of it, in its order. Nobody looks by default.
    fn watch(&self, _now: Now, _passes: Passes<'_>) {}
}

/// What passes between a shard and its hub. The same in the same order is the same run.
///
/// ```
/// use fanfare_core::Input;
/// use fanfare_websocket::Passes;
/// assert_eq!(format!("{:?}", Passes::Input(&Input::Tick)), "Input(Tick)");
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Passes<'p> {
    /// A handshake succeeded.
    Open(&'p Open),
    /// An input.
    Input(&'p Input),
    /// An effect.
    Effect(&'p Effect),
    /// What a connection is written next.
    Pull(ConnId, &'p Pull),
}

/// TCP and the machine's own clocks.
///
/// ```
/// use fanfare_websocket::Native;
/// let native = Native::default();
/// ```
#[derive(Debug)]
pub struct Native {
    start: Instant,
    wall_ms: Cell<u64>,
}

impl Default for Native {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            wall_ms: Cell::new(0),
        }
    }
}

impl Platform for Native {
    type Stream = Tcp;

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        // The system's clock may be set back; what events bear must not be.
        let wall_ms = millis(wall.unwrap_or_default()).max(self.wall_ms.get());
        self.wall_ms.set(wall_ms);
        Now {
            time: Time::from_millis(millis(self.start.elapsed())),
            wall: Wall::from_unix_millis(wall_ms),
        }
    }

    async fn sleep_until(&self, at: Time) {
        match self
            .start
            .checked_add(Duration::from_millis(at.as_millis()))
        {
            Some(at) => Timer::at(at).await,
            None => Timer::never().await,
        };
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
