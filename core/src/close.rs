//! Why a connection is closed, as a number on the wire and as advice to come back or not.

use serde::Serialize;
use std::fmt;

/// A WebSocket close code that Fanfare sends: RFC 6455, section 7.4, and its own from 4000 on.
///
/// ```
/// use fanfare_core::{CloseCode, Retry};
/// assert_eq!(CloseCode::DRAINING.number(), 4001);
/// assert_eq!(CloseCode::BAD_TOKEN.retry(), Retry::Never);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

/// Whether a client should come back: `retry` of `system:goodbye`.
///
/// ```
/// use fanfare_core::Retry;
/// assert_eq!(serde_json::to_string(&Retry::After)?, r#""after""#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// At once.
    Now,
    /// After the wait that is named.
    After,
    /// Not as it is.
    Never,
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $retry:ident, $reason:literal;)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($number);)*

            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Whether a client should come back.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self.0 {
                    $($number => Retry::$retry,)*
                    _ => Retry::After,
                }
            }

            /// The reason in words, at most 123 bytes (RFC 6455, section 5.5).
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self.0 {
                    $($number => $reason,)*
                    _ => "",
                }
            }
        }
    };
}

close_codes! {
    /// The WebSocket protocol was broken.
    PROTOCOL_ERROR = 1002, Never, "protocol error";
    /// A frame was not text.
    NOT_TEXT = 1003, Never, "only text frames are understood";
    /// A text was not UTF-8.
    NOT_UTF8 = 1007, Never, "text is not UTF-8";
    /// A message in more fragments or with more patience than is given.
    POLICY = 1008, Never, "message in too many pieces or never finished";
    /// A message was over its limit.
    TOO_BIG = 1009, Never, "message too large";
    /// The server is shutting down.
    DRAINING = 4001, After, "draining";
    /// The token ran out.
    TOKEN_EXPIRED = 4005, Now, "token expired";
    /// The client took what was sent too slowly.
    TOO_SLOW = 4008, After, "too slow";
    /// The client did not answer a ping.
    NO_HEARTBEAT = 4012, Now, "no heartbeat";
    /// The client sent more than it may.
    TOO_MANY_MESSAGES = 4013, After, "too many messages";
    /// What it asked for can't be read from the store now.
    UNAVAILABLE = 4014, After, "the store is unavailable";
    /// The token is not valid.
    BAD_TOKEN = 4500, Never, "bad token";
    /// The request can't be served as it is.
    BAD_REQUEST = 4501, Never, "bad request";
    /// No token came in time.
    NO_TOKEN = 4502, Never, "no token in time";
    /// A back end asked for it.
    DISCONNECTED = 4503, Never, "disconnected by the back end";
    /// The user has as many connections as a user may.
    TOO_MANY_CONNECTIONS = 4504, Never, "too many connections";
    /// The token does not allow it.
    NOT_ALLOWED = 4507, Never, "not allowed";
    /// Too many messages had to be refused.
    TOO_MANY_ERRORS = 4509, Never, "too many errors";
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({} {})", self.0, self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_from_4500_on_say_never_and_those_from_4000_on_say_come_back() {
        for code in CloseCode::ALL {
            let never = code.retry() == Retry::Never;
            assert_eq!(never, !(4000..4500).contains(&code.number()), "{code:?}");
            assert!(
                !code.reason().is_empty() && code.reason().len() <= 123,
                "{code:?}"
            );
        }
    }
}
