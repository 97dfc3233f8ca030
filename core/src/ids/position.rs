//! How far somebody got: numbers of events, and positions in a numbering.

use super::{Epoch, RoomId, UserId};
use crate::error::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;

/// The number of an event in its room, from 1. 0 stands for "before the first".
///
/// ```
/// use fanfare_core::Seq;
/// assert_eq!(Seq::ZERO.next().number(), 1);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Seq(u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);
    /// The last number that every JSON reader holds exactly: 2^53 - 1.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The seq of this number.
    ///
    /// # Errors
    /// [`Error::Malformed`] from 2^53 on.
    pub fn new(number: u64) -> Result<Self, Error> {
        if number > Self::MAX.0 {
            return Err(Error::malformed(
                "seq",
                &number.to_string(),
                "a whole number below 2^53",
            ));
        }
        Ok(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after. Stays at [`Seq::MAX`], which nine million years of a thousand events a second do not reach.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(if self.0 < Self::MAX.0 {
            self.0 + 1
        } else {
            self.0
        })
    }

    /// The one before; [`Seq::ZERO`] before itself.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// How far somebody got in a room.
///
/// ```
/// use fanfare_core::Position;
/// let position: Position = "k3J9:17".parse()?;
/// assert_eq!(position.seq.number(), 17);
/// assert_eq!(position.to_string(), "k3J9:17");
/// # Ok::<(), fanfare_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// In which numbering.
    pub epoch: Epoch,
    /// Up to and with this event.
    pub seq: Seq,
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const EXPECTED: &str = "{epoch}:{seq}";
        let malformed = || Error::malformed("position", text, EXPECTED);
        let (epoch, seq) = text.split_once(':').ok_or_else(malformed)?;
        let number: UserId = seq.parse().map_err(|_| malformed())?;
        Ok(Self {
            epoch: epoch.parse().map_err(|_| malformed())?,
            seq: Seq::new(number.number())?,
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

/// Reads `since` of a URL: `{room}@{epoch}:{seq}`, separated by commas. An empty text names no room.
///
/// # Errors
/// [`Error::Malformed`] for a text of another form, [`Error::BadRequest`] where a room stands twice.
///
/// ```
/// let since = fanfare_core::parse_since("user:7@k3J9:17")?;
/// assert_eq!(since.len(), 1);
/// # Ok::<(), fanfare_core::Error>(())
/// ```
pub fn parse_since(text: &str) -> Result<Vec<(RoomId, Position)>, Error> {
    let mut since: Vec<(RoomId, Position)> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (room, position) = part.split_once('@').ok_or_else(|| {
            Error::malformed("since", part, "{room}@{epoch}:{seq}, separated by commas")
        })?;
        let room = room.parse()?;
        if since.iter().any(|(known, _)| *known == room) {
            return Err(Error::BadRequest(format!("since names {room} twice")));
        }
        since.push((room, position.parse()?));
    }
    Ok(since)
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "550e8400-e29b-41d4-a716-446655440000";

    #[test]
    fn since_names_several_rooms_and_refuses_what_it_cannot_read() {
        let text = format!("task:{UUID}@k3J9:17,user:7@k3J9:0");
        assert_eq!(parse_since(&text).unwrap().len(), 2);
        assert_eq!(parse_since("").unwrap(), []);
        for text in [
            "user:7",
            "user:7@k3J9",
            "user:7@k3J9:",
            "user:7@:1",
            "user:7@k3J9:-1",
            "user:7@k3J9:01",
            "user:7@k3J9:9007199254740992",
            "user:7@a:1,",
            "user:7@a:1,user:7@a:2",
        ] {
            assert_eq!(
                parse_since(text).unwrap_err().code(),
                "bad_request",
                "{text}"
            );
        }
    }
}
