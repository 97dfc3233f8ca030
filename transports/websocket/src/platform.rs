//! What a shard takes from the world: byte streams and clocks. The real ones are here, a simulator brings its own.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanfare_core::{ConnId, Effect, Input, Now, Open, OutletOrder, Pull, Time, Wall};
use futures::io::{AsyncRead, AsyncWrite};

use smol::LocalExecutor;

use crate::listener::{Tcp, TcpParcel};
use crate::reactor::Reactor;

/// The world around a [`Shard`](crate::Shard).
///
/// Everything that a shard does follows from these and from its hub's seed, so one that repeats makes a shard
/// that repeats.
///
/// ```
/// use fanfare_websocket::{Native, Platform};
/// let native = Native::new()?;
/// assert!(native.now().time <= native.now().time);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait Platform: 'static {
    /// A connection's bytes. `poll_close` has to end the writing side only.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    /// A stream on its way to another thread of the program.
    type Parcel: 'static;

    /// Lets go of a stream, so that another thread may take it in.
    fn send_off(&self, stream: Self::Stream) -> Self::Parcel;

    /// Takes in a stream that another thread sent off.
    ///
    /// # Errors
    /// Where this one can't hear of it.
    fn take_in(&self, parcel: Self::Parcel) -> io::Result<Self::Stream>;

    /// The time. `time` and `wall` never go back.
    fn now(&self) -> Now;

    /// The time of [`Platform::now`] alone, for whom the wall clock need not be read.
    fn time(&self) -> Time {
        self.now().time
    }

    /// Ends when [`Platform::now`] has reached `at`.
    fn sleep_until(&self, at: Time) -> impl Future<Output = ()>;

    /// Comes before a shard takes what another thread has for it: at once, but in a simulation, where it may take its time.
    fn crossing(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

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
    /// What the hub has an outlet do.
    Order(&'p OutletOrder),
    /// An effect.
    Effect(&'p Effect),
    /// What a connection is written next.
    Pull(ConnId, &'p Pull),
    /// All that waited for a connection was written to it at once.
    Ride(ConnId, &'p [u8]),
}

/// TCP and the machine's own clocks, on one thread: the one that [blocks on](Self::block_on) it. A clone is another handle to
/// the same one.
///
/// ```
/// use fanfare_websocket::Native;
/// let native = Native::new()?;
/// let executor = smol::LocalExecutor::new();
/// assert_eq!(native.block_on(&executor, async { 7 }), 7);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Native {
    start: Instant,
    wall_ms: Rc<Cell<u64>>,
    reactor: Reactor,
}

/// When time began for a [`Native`].
///
/// ```
/// fn crosses_threads<T: Send>() {}
/// crosses_threads::<fanfare_websocket::Clock>();
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Native").finish_non_exhaustive()
    }
}

impl Native {
    /// A clock that begins now, and what hears of sockets.
    ///
    /// # Errors
    /// Where the process has no file descriptor left.
    pub fn new() -> io::Result<Self> {
        Self::with_clock(Clock(Instant::now()))
    }

    /// Its clock, for others that are to say the same time.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        Clock(self.start)
    }

    /// The same by the clock of another one, in its thread.
    ///
    /// # Errors
    /// Where the process has no file descriptor left.
    pub fn with_clock(Clock(start): Clock) -> io::Result<Self> {
        Ok(Self {
            start,
            wall_ms: Rc::default(),
            reactor: Reactor::new()?,
        })
    }

    /// Runs `executor`, with the sockets and timers of this platform, until `future` is done. They rest while nobody
    /// does so.
    ///
    /// # Panics
    /// Where the system tells of no socket any more, which it does not do by itself.
    pub fn block_on<T>(&self, executor: &LocalExecutor<'_>, future: impl Future<Output = T>) -> T {
        self.reactor.block_on(executor, future)
    }

    pub(crate) const fn reactor(&self) -> &Reactor {
        &self.reactor
    }
}

impl Platform for Native {
    type Stream = Tcp;
    type Parcel = TcpParcel;

    fn send_off(&self, stream: Tcp) -> TcpParcel {
        stream.into()
    }

    fn take_in(&self, parcel: TcpParcel) -> io::Result<Tcp> {
        parcel.register(&self.reactor)
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        // The system's clock may be set back; what events bear must not be.
        let wall_ms = millis(wall.unwrap_or_default()).max(self.wall_ms.get());
        self.wall_ms.set(wall_ms);
        Now {
            time: self.time(),
            wall: Wall::from_unix_millis(wall_ms),
        }
    }

    fn time(&self) -> Time {
        Time::from_millis(millis(self.start.elapsed()))
    }

    async fn sleep_until(&self, at: Time) {
        match self
            .start
            .checked_add(Duration::from_millis(at.as_millis()))
        {
            Some(at) => self.reactor.sleep_until(at).await,
            None => pending().await,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
