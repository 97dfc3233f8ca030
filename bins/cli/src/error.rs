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
    /// What `bench` can't measure, with the exit status.
    #[error("{words}")]
    Bench { status: u8, words: String },
    /// Nobody reads what is printed any more (`| head`): the end, but no mistake.
    #[error("nobody reads the output")]
    BrokenPipe,
}

impl Error {
    /// The exit status; the list is in `--help`.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Bench { status, .. } => *status,
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

    /// The words for people: what is wrong, and where it is known, what to do.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Client(error) => words(error),
            Self::Usage(_)
            | Self::Missing { .. }
            | Self::System { .. }
            | Self::Bench { .. }
            | Self::BrokenPipe => self.to_string(),
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

/// The same for an error of the client.
pub(crate) fn words(error: &client::Error) -> String {
    match advice(error) {
        Some(advice) => format!("{error}\n  {advice}"),
        None => error.to_string(),
    }
}

fn advice(error: &client::Error) -> Option<&'static str> {
    const TOKEN: &str = "FANFARE_TOKEN must be signed with the server's secret, and FANFARE_TOKEN_SECRET be that secret";
    const EXPIRED: &str = "`fanfare token` makes a new one";
    const FOREIGN: &str =
        "is FANFARE_URL, or --url, the address of a Fanfare server, without a path?";
    let code = match error {
        client::Error::Unreachable { .. } | client::Error::TimedOut { .. } => {
            return Some("does the server run, and is FANFARE_URL, or --url, its address?");
        }
        client::Error::Foreign { .. } => return Some(FOREIGN),
        client::Error::Closed { code: 4500, .. } => "bad_token",
        client::Error::Closed { code: 4507, .. } => "forbidden",
        client::Error::Refused(problem) => &problem.code,
        client::Error::Address { .. }
        | client::Error::Closed { .. }
        | client::Error::Unsendable(_) => return None,
    };
    match code {
        "bad_api_key" | "unauthenticated" => {
            Some("FANFARE_API_KEY, or --api-key, must be the key that the server was started with")
        }
        "bad_token" => Some(TOKEN),
        "token_expired" => Some(EXPIRED),
        "forbidden" => Some(
            "which tasks a token may join is said as it is made: `fanfare token --user ID --tasks TASK`",
        ),
        // No Fanfare server answers so to what we ask.
        "" | "not_found" | "method_not_allowed" => Some(FOREIGN),
        _ => None,
    }
}
