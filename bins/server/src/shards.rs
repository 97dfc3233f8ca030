//! The threads beside the first that serve WebSockets.

use std::io;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use fanfare_websocket::{Clock, Native, OutletLink, OutletShard, Shard, SocketLimits};
use smol::LocalExecutor;

/// How many threads serve where that is not said.
pub(crate) fn cores() -> u8 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    u8::try_from(cores).unwrap_or(u8::MAX)
}

/// Threads with a part of a shard's connections each.
pub(crate) struct Outlets(Vec<JoinHandle<()>>);

impl Outlets {
    /// Begins so many.
    ///
    /// # Errors
    /// Where the system has no thread or no file descriptor left.
    pub(crate) fn start(
        shard: &Shard,
        number: u8,
        clock: Clock,
        limits: SocketLimits,
    ) -> io::Result<Self> {
        let mut threads = Vec::new();
        for at in 1..=number {
            let link = shard.add_outlet().map_err(io::Error::other)?;
            let (begun, begins) = mpsc::channel();
            let serve = move || {
                let served = catch_unwind(AssertUnwindSafe(|| serve(link, clock, limits, &begun)));
                if served.is_err() {
                    tracing::error!(
                        "a thread that serves connections panicked: the server can't go on"
                    );
                    abort();
                }
            };
            let name = format!("outlet-{at}");
            threads.push(thread::Builder::new().name(name).spawn(serve)?);
            begins.recv().map_err(io::Error::other)??;
        }
        Ok(Self(threads))
    }

    /// Waits for their ends, once the shard is gone.
    pub(crate) fn join(self) {
        for thread in self.0 {
            // One that panicked has ended the program.
            let _ = thread.join();
        }
    }
}

fn serve(
    link: OutletLink,
    clock: Clock,
    limits: SocketLimits,
    begun: &mpsc::Sender<io::Result<()>>,
) {
    let native = match Native::with_clock(clock) {
        Ok(native) => native,
        Err(error) => return drop(begun.send(Err(error))),
    };
    let executor = Rc::new(LocalExecutor::new());
    let outlet = OutletShard::new(link, native.clone(), limits, &executor);
    // Whoever does not wait for it has given up.
    let _ = begun.send(Ok(()));
    native.block_on(&executor, outlet.ended());
}
