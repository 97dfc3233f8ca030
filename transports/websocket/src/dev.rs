//! What only `--dev` serves: tokens for any user, and the tasks heard of last, for the demo page.
//!
//! Handing out tokens to whom asks is safe only while nobody else can ask: the listener is on loopback, and a foreign
//! page in the same browser is kept out by `Host` (a name that was rebound to 127.0.0.1 is not loopback's) and by
//! `Origin`.

use fanfare_core::{Claims, TaskGrant, UserId, Wall};
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName};

use crate::TokenKey;
use crate::problem::{Code, Problem};

/// Seconds for which a token of `--dev` holds: 12 hours.
pub const DEV_TOKEN_S: u64 = 12 * 60 * 60;
/// Most tasks that are listed.
pub(crate) const TASKS_MAX: usize = 50;

/// A token for `user`, for all tasks, for [`DEV_TOKEN_S`] from `now`.
///
/// ```
/// use fanfare_core::{UserId, Wall};
/// use fanfare_websocket::{TokenKey, dev_token};
/// let key = TokenKey::new(b"a secret of thirty-two bytes or more")?;
/// let now = Wall::from_unix_millis(1_700_000_000_000);
/// let token = dev_token(&key, UserId::new(7), now);
/// assert!(key.verify(&token, now).is_ok());
/// # Ok::<(), fanfare_websocket::Error>(())
/// ```
#[must_use]
pub fn dev_token(key: &TokenKey, user: UserId, now: Wall) -> String {
    let exp = now.as_unix_millis() / 1_000 + DEV_TOKEN_S;
    key.issue(&Claims::new(user, exp, TaskGrant::All))
}

/// The user that `?user=` names.
///
/// # Errors
/// 400 where it names none.
pub(crate) fn user(query: Option<&str>) -> Result<UserId, Problem> {
    let mut users = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.strip_prefix("user="));
    match (users.next(), users.next()) {
        (Some(user), None) => Ok(user.parse::<UserId>()?),
        _ => Err(Problem::bad_request("say whose token: /dev/token?user=7")),
    }
}

/// Whether a request comes from this machine's own page or from a program, not from a foreign page.
///
/// # Errors
/// 403.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), Problem> {
    let host = one(headers, &HOST).filter(|host| is_loopback(host));
    let origin = one(headers, &ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    match host {
        Some(host) if !headers.contains_key(ORIGIN) || origin == Some(host) => Ok(()),
        _ => Err(Problem::new(
            Code::Forbidden,
            "only this machine's own page may ask for this: open it by 127.0.0.1 or localhost",
        )),
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    values
        .next()
        .filter(|_| values.next().is_none())?
        .to_str()
        .ok()
}

fn is_loopback(host: &str) -> bool {
    if host.contains('@') {
        return false;
    }
    let host = host
        .parse::<Authority>()
        .ok()
        .map(|authority| authority.host().to_ascii_lowercase());
    host.is_some_and(|host| ["127.0.0.1", "localhost", "[::1]"].contains(&host.as_str()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_foreign_page_gets_nothing() {
        for (host, origin, passes) in [
            (Some("127.0.0.1:8080"), None, true),
            (Some("localhost:8080"), Some("http://localhost:8080"), true),
            (Some("[::1]:8080"), Some("http://[::1]:8080"), true),
            (Some("127.0.0.1:8080"), Some("http://localhost:8080"), false),
            (Some("127.0.0.1:8080"), Some("http://127.0.0.1:9"), false),
            (Some("127.0.0.1:8080"), Some("https://evil.test"), false),
            (Some("127.0.0.1:8080"), Some("null"), false),
            (Some("rebound.evil.test:8080"), None, false),
            (Some("127.0.0.1.evil.test"), None, false),
            (Some("evil.test@127.0.0.1"), None, false),
            (Some("127.0.0.1@evil.test"), None, false),
            (None, None, false),
        ] {
            let pairs = [(HOST, host), (ORIGIN, origin)];
            let headers = pairs
                .into_iter()
                .filter_map(|(name, value)| Some((name, HeaderValue::from_static(value?))));
            assert_eq!(
                check(&headers.collect()).is_ok(),
                passes,
                "{host:?} {origin:?}"
            );
        }
    }

    #[test]
    fn a_token_is_for_exactly_one_user() {
        for (query, number) in [
            (Some("user=7"), Some(7)),
            (Some("tasks=*&user=8"), Some(8)),
            (Some("user=7&user=8"), None),
            (Some("user=x"), None),
            (Some(""), None),
            (None, None),
        ] {
            assert_eq!(user(query).ok().map(UserId::number), number, "{query:?}");
        }
    }
}
