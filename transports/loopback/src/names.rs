//! Short words for what scripts are about.

use fanfare_core::{Draft, Payload, TaskId, UserId};
use serde::Serialize;

/// The user of this number.
///
/// ```
/// assert_eq!(fanfare_loopback::user(7).to_string(), "7");
/// ```
#[must_use]
pub const fn user(number: u64) -> UserId {
    UserId::new(number)
}

/// A task that a script knows by a number.
///
/// ```
/// assert_ne!(fanfare_loopback::task(1), fanfare_loopback::task(2));
/// ```
#[must_use]
#[expect(clippy::expect_used, reason = "eight hex digits make it a UUID")]
pub fn task(number: u32) -> TaskId {
    format!("{number:08x}-0000-4000-8000-000000000000")
        .parse()
        .expect("a UUID")
}

/// A kept event without an id of its own.
///
/// # Panics
/// Where `kind` is no type or `data` has no JSON form: a script that is wrong has to be mended.
///
/// ```
/// let draft = fanfare_loopback::draft("chat:message", "hi");
/// assert_eq!(draft.data.as_str(), r#""hi""#);
/// ```
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "documented: a script that is wrong has to be mended"
)]
pub fn draft(kind: &str, data: impl Serialize) -> Draft {
    let kind = kind.parse().expect("an event type");
    Draft::new(
        kind,
        Payload::from_value(&data).expect("data has a JSON form"),
    )
}
