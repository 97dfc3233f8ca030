//! Names of things: each its own type, each parsed strictly, so that one can't be taken for another.

mod position;

pub use position::{Position, Seq, parse_since};

use crate::error::Error;
use crate::text::decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// A task: a UUID, written hyphenated and in lower case.
///
/// ```
/// use fanfare_core::TaskId;
/// let task: TaskId = "550e8400-e29b-41d4-a716-446655440000".parse()?;
/// assert_eq!(task.to_string(), "550e8400-e29b-41d4-a716-446655440000");
/// assert!("550E8400-E29B-41D4-A716-446655440000".parse::<TaskId>().is_err());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(Uuid);

impl TaskId {
    /// The task of this UUID.
    #[must_use]
    pub const fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for TaskId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const EXPECTED: &str = "a hyphenated lower-case UUID";
        let uuid =
            Uuid::try_parse(text).map_err(|_| Error::malformed("task id", text, EXPECTED))?;
        // `Uuid` also takes upper case, braces, `urn:` and no hyphens; two texts for one task would be two rooms.
        let mut buffer = Uuid::encode_buffer();
        if uuid.hyphenated().encode_lower(&mut buffer) != text {
            return Err(Error::malformed("task id", text, EXPECTED));
        }
        Ok(Self(uuid))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// A user: a whole number of 64 bits, decimal without sign or leading zero.
///
/// ```
/// use fanfare_core::UserId;
/// assert_eq!("7".parse::<UserId>()?, UserId::new(7));
/// assert!("07".parse::<UserId>().is_err());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(u64);

impl UserId {
    /// The user of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl FromStr for UserId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const EXPECTED: &str =
            "a decimal number from 0 to 18446744073709551615 without sign or leading zero";
        let canonical = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'));
        canonical
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| Error::malformed("user id", text, EXPECTED))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A room: who watches a task, or everything of one user.
///
/// ```
/// use fanfare_core::{RoomId, UserId};
/// assert_eq!("user:7".parse::<RoomId>()?, RoomId::User(UserId::new(7)));
/// assert!("task:7".parse::<RoomId>().is_err());
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoomId {
    /// `task:{uuid}`
    Task(TaskId),
    /// `user:{int}`
    User(UserId),
}

impl Hash for RoomId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // In one piece: rooms are looked up several times a publish. Tasks and users differ in how many bytes they have.
        match self {
            Self::Task(task) => state.write_u128(task.0.as_u128()),
            Self::User(user) => state.write_u64(user.0),
        }
    }
}

impl From<TaskId> for RoomId {
    fn from(task: TaskId) -> Self {
        Self::Task(task)
    }
}

impl From<UserId> for RoomId {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl FromStr for RoomId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("task", id)) => id.parse().map(Self::Task),
            Some(("user", id)) => id.parse().map(Self::User),
            _ => Err(Error::malformed("room", text, "task:{uuid} or user:{int}")),
        }
    }
}

impl RoomId {
    /// Appends its text.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Task(task) => {
                out.extend_from_slice(b"task:");
                let mut buffer = Uuid::encode_buffer();
                let text = task.0.as_hyphenated().encode_lower(&mut buffer);
                out.extend_from_slice(text.as_bytes());
            }
            Self::User(user) => {
                out.extend_from_slice(b"user:");
                decimal(out, user.0);
            }
        }
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => write!(f, "task:{task}"),
            Self::User(user) => write!(f, "user:{user}"),
        }
    }
}

/// A connection of one hub. A number is never used again, so a late input can't reach a later connection.
///
/// ```
/// use fanfare_core::{Endpoint, Hub, Limits, Now, Open};
/// let mut hub = Hub::new(Limits::default(), [0; 32]);
/// let open = || Open::new(Endpoint::Notifications);
/// assert_ne!(hub.open(Now::default(), open()), hub.open(Now::default(), open()));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

impl ConnId {
    /// Bits of a generation above which it has the number of its outlet.
    const OUTLET_SHIFT: u32 = 24;

    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    /// The generation that the first connection of a slot has, in this outlet.
    pub(crate) const fn first_generation(outlet: u8) -> u32 {
        (outlet as u32) << Self::OUTLET_SHIFT
    }

    /// The generation that the next connection of this slot has.
    pub(crate) const fn next_generation(self) -> u32 {
        let count = (1 << Self::OUTLET_SHIFT) - 1;
        (self.generation & !count) | (self.generation.wrapping_add(1) & count)
    }

    /// The number of the outlet that serves it: 0 is the hub's own.
    #[must_use]
    pub const fn outlet(self) -> usize {
        (self.generation >> Self::OUTLET_SHIFT) as usize
    }

    pub(crate) const fn number(self) -> u32 {
        self.slot
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }

    /// The place that the connection has among those open now: small and dense, for a table beside the hub's.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.slot, self.generation)
    }
}

/// Whether `text` has 1 to `max` characters, all of them ASCII letters, digits or in `also`.
fn is_word(text: &str, max: usize, also: &[u8]) -> bool {
    (1..=max).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
}

/// A type of checked text that is cheap to clone.
macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self, Error> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Error::malformed($what, text, $expected))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

checked_text!(
    /// A name that a client gives the device it runs on.
    ///
    /// ```
    /// use fanfare_core::DeviceId;
    /// assert_eq!("phone-1".parse::<DeviceId>()?.as_str(), "phone-1");
    /// # Ok::<(), fanfare_core::Error>(())
    /// ```
    DeviceId, "device", "1 to 64 characters of A-Za-z0-9._-", |text| is_word(text, 64, b"._-")
);
checked_text!(
    /// What names an event: the publisher's own word, or a UUIDv7 of the server.
    ///
    /// ```
    /// use fanfare_core::EventId;
    /// assert!("order:17".parse::<EventId>().is_ok());
    /// assert!("order 17".parse::<EventId>().is_err());
    /// ```
    EventId, "event id", "1 to 64 characters of A-Za-z0-9._:-", |text| is_word(text, 64, b"._:-")
);
checked_text!(
    /// Which ephemeral events replace each other while they wait to be sent.
    ///
    /// ```
    /// use fanfare_core::Key;
    /// assert!("progress".parse::<Key>().is_ok());
    /// assert!("".parse::<Key>().is_err());
    /// ```
    Key, "key", "1 to 64 characters of A-Za-z0-9._:-", |text| is_word(text, 64, b"._:-")
);
checked_text!(
    /// One life of a room's numbering: seqs of different epochs can't be compared.
    ///
    /// ```
    /// use fanfare_core::Epoch;
    /// assert!("k3J9".parse::<Epoch>().is_ok());
    /// assert!("k3:J9".parse::<Epoch>().is_err());
    /// ```
    Epoch, "epoch", "1 to 32 characters of A-Za-z0-9_-", |text| is_word(text, 32, b"_-")
);
checked_text!(
    /// What kind of event it is: `namespace:name`, lower case.
    ///
    /// ```
    /// use fanfare_core::EventType;
    /// let kind: EventType = "task:created".parse()?;
    /// assert_eq!(kind.namespace(), "task");
    /// # Ok::<(), fanfare_core::Error>(())
    /// ```
    EventType,
    "event type",
    "namespace:name in lower case (a-z, 0-9, . _ -), at most 64 characters, such as chat:message",
    |text| text.len() <= 64
        && text.split_once(':').is_some_and(|(namespace, name)| is_lower(namespace) && is_lower(name))
);

impl EventId {
    /// The id that a UUID makes.
    pub(crate) fn of_uuid(uuid: Uuid) -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self((&*uuid.as_hyphenated().encode_lower(&mut buffer)).into())
    }
}

/// One half of an event type.
fn is_lower(text: &str) -> bool {
    text.bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
        })
}

impl EventType {
    /// What stands before the colon.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0
            .split_once(':')
            .map_or("", |(namespace, _)| namespace)
    }
}

/// Which event types are meant: one, all of a namespace (`task:*`), or all (`*`).
///
/// ```
/// use fanfare_core::Pattern;
/// let pattern: Pattern = "task:*".parse()?;
/// assert!(pattern.matches(&"task:created".parse()?));
/// assert!(!pattern.matches(&"chat:message".parse()?));
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// `*`
    Any,
    /// `namespace:*`
    Namespace(Arc<str>),
    /// `namespace:name`
    Exact(EventType),
}

impl Pattern {
    /// Whether `kind` is meant. O(length of the pattern).
    #[must_use]
    pub fn matches(&self, kind: &EventType) -> bool {
        match self {
            Self::Any => true,
            Self::Namespace(namespace) => kind.namespace() == &**namespace,
            Self::Exact(exact) => exact == kind,
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "*" {
            return Ok(Self::Any);
        }
        match text.strip_suffix(":*") {
            Some(namespace) if namespace.len() <= 62 && is_lower(namespace) => {
                Ok(Self::Namespace(namespace.into()))
            }
            Some(_) => Err(Error::malformed(
                "pattern",
                text,
                "*, namespace:* or namespace:name",
            )),
            None => text.parse().map(Self::Exact),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Namespace(namespace) => write!(f, "{namespace}:*"),
            Self::Exact(kind) => kind.fmt(f),
        }
    }
}

/// Reads a `T` out of a string, of which no copy is made.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = Error>> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! as_text {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    )*};
}
as_text!(TaskId UserId RoomId DeviceId EventId Key Epoch EventType);

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

    #[test]
    fn rooms_are_parsed_strictly_and_print_as_they_were_written() {
        for text in [
            format!("task:{UUID}"),
            "user:0".into(),
            "user:7".into(),
            "user:18446744073709551615".into(),
        ] {
            let room = text.parse::<RoomId>().unwrap();
            assert_eq!(room.to_string(), text);
            let mut written = b"x".to_vec();
            room.write(&mut written);
            assert_eq!(written, format!("x{text}").into_bytes());
        }
        for text in [
            "".to_owned(),
            ":".into(),
            "user".into(),
            "user:".into(),
            "user:-1".into(),
            "user:+1".into(),
            "user:07".into(),
            "user: 7".into(),
            "user:7 ".into(),
            "user:18446744073709551616".into(),
            "user:٧".into(),
            format!("user:{UUID}"),
            "task:7".into(),
            format!("task:{}", UUID.to_uppercase()),
            format!("task:{{{UUID}}}"),
            format!("task:{}", UUID.replace('-', "")),
            format!("task:urn:uuid:{UUID}"),
            format!("Task:{UUID}"),
            format!("task:{UUID}:"),
        ] {
            let error = text.parse::<RoomId>().unwrap_err();
            assert_eq!(error.code(), "bad_request", "{text}");
            assert!(error.to_string().contains("expected"), "{text}: {error}");
        }
    }

    #[test]
    fn event_types_have_one_colon_and_lower_case_halves() {
        for text in ["a:b", "task:created", "chat:message.v2", "my-app:x_1"] {
            assert_eq!(text.parse::<EventType>().unwrap().as_str(), text);
        }
        let long = format!("a:{}", "b".repeat(63));
        for text in [
            "", "a", "a:", ":b", "A:b", "a:B", "a:b:c", "1a:b", "a b:c", "a:*", &long,
        ] {
            assert!(text.parse::<EventType>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_exactly_what_they_name() {
        for (pattern, kind, matches) in [
            ("*", "a:b", true),
            ("a:*", "a:b", true),
            ("a:*", "ab:c", false),
            ("a:b", "a:b", true),
            ("a:b", "a:bc", false),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(
                parsed.matches(&kind.parse().unwrap()),
                matches,
                "{pattern} {kind}"
            );
            assert_eq!(parsed.to_string(), pattern);
        }
        for text in ["", "a", ":*", "a:b*", "*:b", "**", "A:*"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn errors_repeat_only_the_beginning_of_what_was_sent() {
        let error = "x".repeat(1 << 20).parse::<RoomId>().unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
