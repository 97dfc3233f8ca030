//! Why a command failed, and the exit status that says so.

use std::io;

use fanfare_websocket::client;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something has to be given that was not.
    #[error("{name} is not set: {what}")]
    Missing {
        name: &'static str,
        what: &'static str,
    },
    /// The command line asks for what can't be.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
    /// Nobody reads what is printed any more (`| head`): the end, but no mistake.
    #[error("nobody reads the output")]
    BrokenPipe,
}

impl Error {
    /// The exit status; the list is in `--help`.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::System { .. } => 1,
            Self::Missing { .. } | Self::Usage(_) => 2,
            Self::Client(error) => match error {
                client::Error::Address { .. } => 2,
                client::Error::Refused(problem) if !matches!(problem.status, 502..=504) => 3,
                client::Error::Closed { .. } => 3,
                client::Error::Refused(_)
                | client::Error::Unreachable { .. }
                | client::Error::TimedOut { .. } => 4,
                client::Error::Foreign { .. } | client::Error::Unsendable(_) => 1,
            },
        }
    }

    /// An error of writing to standard output.
    pub(crate) fn printing(source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::System {
                what: "can't print",
                source,
            }
        }
    }
}
