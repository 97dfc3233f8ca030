//! What can go wrong for a client, and whether trying again can help.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Deserialize;

/// An answer that is no success, as RFC 9457 tells it.
///
/// ```
/// # use fanfare_websocket::client::Error;
/// fn may_come_back(error: &Error) -> bool {
///     matches!(error, Error::Refused(problem) if problem.status == 503)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable word for programs, such as `lifecycle`; empty where the answer had none.
    pub code: String,
    /// The sentence for people.
    pub detail: String,
    /// The `Retry-After` that came with it.
    pub retry_after: Option<Duration>,
    /// The other members of the problem.
    pub members: serde_json::Map<String, serde_json::Value>,
}

impl Problem {
    /// Reads an answer's body; whatever it is, something can be said.
    pub(crate) fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(default)]
            code: String,
            title: Option<String>,
            detail: Option<String>,
            #[serde(flatten)]
            members: serde_json::Map<String, serde_json::Value>,
        }
        let wire = serde_json::from_slice::<Wire>(body).ok();
        let (code, said, members) = wire.map_or_else(Default::default, |wire| {
            (
                wire.code,
                wire.detail.or(wire.title).unwrap_or_default(),
                wire.members,
            )
        });
        let detail = if said.is_empty() {
            http::StatusCode::from_u16(status)
                .ok()
                .and_then(|status| status.canonical_reason())
                .unwrap_or("the server gave no reason")
                .to_owned()
        } else {
            said
        };
        Self {
            status,
            code,
            detail,
            retry_after,
            members,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (HTTP {}", self.detail, self.status)?;
        if !self.code.is_empty() {
            write!(f, ", {}", self.code)?;
        }
        f.write_str(")")
    }
}

/// Why a client got no answer, or not the one it wanted.
///
/// ```
/// use fanfare_websocket::client::{Error, Server};
/// let error = "localhost".parse::<Server>().unwrap_err();
/// assert!(!error.is_temporary());
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address can't be used.
    #[error("the server's address is not usable: {why}")]
    Address {
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no connection to the server, or it broke.
    #[error("can't reach {server}: {source}")]
    Unreachable {
        /// The server's address.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server did not do something in time.
    #[error("{server} did not {what} within {} s", limit.as_secs())]
    TimedOut {
        /// The server's address.
        server: String,
        /// What it did not do.
        what: &'static str,
        /// The time that it had.
        limit: Duration,
    },
    /// The server answered a request, or the opening of a WebSocket, with an error.
    #[error("{0}")]
    Refused(Problem),
    /// The server closed the connection.
    #[error("the server closed the connection: {reason} (code {code})")]
    Closed {
        /// The WebSocket close code; 1006 where the connection ended without one.
        code: u16,
        /// The server's words, or what the code means.
        reason: String,
        /// Whether coming back as before can help.
        again: bool,
    },
    /// What came is not what a Fanfare server says.
    #[error("{server} does not speak as a Fanfare server does: {what}")]
    Foreign {
        /// The server's address.
        server: String,
        /// What was seen.
        what: String,
    },
    /// What was to be sent can't be.
    #[error("not sent: {0}")]
    Unsendable(String),
}

impl Error {
    /// Whether the same attempt may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused(problem) => matches!(
                problem.status,
                408 | 425 | 429 | 500 | 502 | 503 | 504 | 507
            ),
            Self::Closed { again, .. } => *again,
            Self::Address { .. } | Self::Foreign { .. } | Self::Unsendable(_) => false,
        }
    }

    /// The wait that the server asked for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(problem) => problem.retry_after,
            Self::Address { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Closed { .. }
            | Self::Foreign { .. }
            | Self::Unsendable(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_gives_words_a_code_where_there_is_one_and_never_a_panic() {
        let problem = br#"{"type":"about:blank","title":"Conflict","status":409,"detail":"task x is completed","code":"lifecycle","state":"completed"}"#;
        let read = Problem::read(409, None, problem);
        assert_eq!(
            read.to_string(),
            "task x is completed (HTTP 409, lifecycle)"
        );
        assert_eq!(read.members["state"], "completed");
        let cases: &[(u16, &[u8], &str)] = &[
            (409, br#"{"title":"Conflict"}"#, "Conflict (HTTP 409)"),
            (502, b"<html>Bad gateway</html>", "Bad Gateway (HTTP 502)"),
            (599, b"", "the server gave no reason (HTTP 599)"),
            (400, br#"{"code":7}"#, "Bad Request (HTTP 400)"),
            (400, b"[]", "Bad Request (HTTP 400)"),
            (400, &[0xff, 0x00], "Bad Request (HTTP 400)"),
        ];
        for (status, body, words) in cases {
            assert_eq!(Problem::read(*status, None, body).to_string(), *words);
        }
    }
}
