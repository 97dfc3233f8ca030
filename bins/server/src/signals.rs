//! The signals that end the server (the first one drains, a second one ends it at once), and one that must not.

use std::io;

use async_signal::{Signal, Signals};
use futures::StreamExt;

/// As long as this is held, a write beyond the limit on the size of files fails, as on a full disk. The system would else end
/// the process by SIGXFSZ.
///
/// # Errors
/// What the system says.
pub(crate) fn outlive_the_limit_of_files() -> io::Result<Signals> {
    Signals::new([Signal::Xfsz])
}

/// SIGINT and SIGTERM, as they come.
pub(crate) struct Endings(Signals);

/// A signal that asks the server to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Interrupt,
    Terminate,
}

impl Endings {
    /// Watches for both from now on.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn watch() -> io::Result<Self> {
        Signals::new([Signal::Int, Signal::Term]).map(Self)
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Ending {
        loop {
            match self.0.next().await {
                Some(Ok(Signal::Int)) => return Ending::Interrupt,
                Some(Ok(Signal::Term)) => return Ending::Terminate,
                Some(Ok(_) | Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

impl Ending {
    /// The exit code of a program that this signal ends: 128 and its number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}
