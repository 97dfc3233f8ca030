//! After a connection ended: come back, and when, or not at all.

use std::time::Duration;

use super::Error;
use super::backoff::Backoff;
use super::message::{Goodbye, Retry};

/// The longest wait that a server's goodbye can ask for; longer ones are cut to it.
const ASKED_MAX: Duration = Duration::from_secs(3_600);

/// How a connection ended.
#[derive(Debug, Default)]
pub(crate) struct End {
    pub(crate) goodbye: Option<Goodbye>,
    /// The close frame's code and reason; `None` where the connection broke without one.
    pub(crate) close: Option<(u16, String)>,
}

impl End {
    /// What to tell the caller. Its `again` is the verdict.
    pub(crate) fn error(&self) -> Error {
        let (code, said) = match (&self.goodbye, &self.close) {
            (Some(goodbye), _) => (goodbye.code, goodbye.reason.as_str()),
            (None, Some((code, reason))) => (*code, reason.as_str()),
            (None, None) => (1006, ""),
        };
        let reason = if said.is_empty() { meaning(code) } else { said };
        let again = self
            .goodbye
            .as_ref()
            .map_or_else(|| comes_back(code), |goodbye| goodbye.retry != Retry::Never);
        Error::Closed {
            code,
            reason: reason.to_owned(),
            again,
        }
    }

    /// The wait before coming back.
    pub(crate) fn wait(&self, backoff: &mut Backoff, random: f64) -> Duration {
        match &self.goodbye {
            // At once, but a server that says so again and again is not hammered.
            Some(goodbye) if goodbye.retry == Retry::Now && backoff.is_fresh() => {
                backoff.next(random);
                Duration::ZERO
            }
            Some(Goodbye {
                retry: Retry::After,
                retry_after_ms: Some(ms),
                ..
            }) => {
                backoff.next(random);
                Duration::from_millis(*ms).min(ASKED_MAX)
            }
            _ => backoff.next(random),
        }
    }
}

/// PROTOCOL.md: 40xx come back, 45xx don't. Of the standard codes, those that complain about what we sent don't heal.
const fn comes_back(code: u16) -> bool {
    !matches!(code, 1002 | 1003 | 1007..=1010 | 4500..=4599)
}

const fn meaning(code: u16) -> &'static str {
    match code {
        1000 => "it was done",
        1001 => "the server is going away",
        1002 => "it saw a protocol error",
        1006 => "no close frame came",
        1009 => "a message was too big",
        1011 => "the server had an internal error",
        1012 => "the server restarts",
        4001 => "the server is draining",
        4005 => "the token expired",
        4008 => "this client read too slowly",
        4012 => "the server heard no heartbeat of this client",
        4013 => "this client sent too many messages",
        4014 => "the server could not read its store",
        4500 => "the token is not valid",
        4501 => "the request was bad",
        4502 => "no token came in time",
        4503 => "the back end disconnected this user",
        4504 => "the user has too many connections",
        4507 => "the token does not allow this",
        4509 => "this client sent too many bad messages",
        _ => "no reason was given",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goodbye(code: u16, retry: Retry, retry_after_ms: Option<u64>) -> End {
        let goodbye = Goodbye {
            code,
            reason: "because".to_owned(),
            retry,
            retry_after_ms,
        };
        End {
            goodbye: Some(goodbye),
            close: None,
        }
    }

    #[test]
    fn a_goodbye_decides_whether_and_when_to_come_back() {
        let mut backoff = Backoff::default();
        let now = goodbye(4005, Retry::Now, None);
        assert_eq!(now.wait(&mut backoff, 1.0), Duration::ZERO);
        assert_eq!(
            now.wait(&mut backoff, 1.0),
            Duration::from_secs(1),
            "the second time in a row with a wait"
        );
        let after = goodbye(4001, Retry::After, Some(1_234));
        assert_eq!(after.wait(&mut backoff, 0.5), Duration::from_millis(1_234));
        let forever = goodbye(4001, Retry::After, Some(u64::MAX));
        assert_eq!(forever.wait(&mut backoff, 0.5), ASKED_MAX);
        assert!(after.error().is_temporary());
        assert!(!goodbye(4001, Retry::Never, None).error().is_temporary());
        assert!(
            goodbye(4001, Retry::Never, None)
                .error()
                .to_string()
                .contains("because (code 4001)")
        );
    }

    #[test]
    fn without_a_goodbye_the_close_code_decides() {
        let cases = [
            (Some(4001), true),
            (Some(4012), true),
            (Some(4014), true),
            (Some(1001), true),
            (Some(1011), true),
            (Some(1000), true),
            (None, true),
            (Some(1002), false),
            (Some(1009), false),
            (Some(4500), false),
            (Some(4507), false),
            (Some(4599), false),
        ];
        for (code, again) in cases {
            let end = End {
                goodbye: None,
                close: code.map(|code| (code, String::new())),
            };
            assert_eq!(end.error().is_temporary(), again, "{code:?}");
        }
    }
}
