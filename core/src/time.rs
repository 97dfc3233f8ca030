//! Instants as the core knows them: numbers that the driver hands in.

use jiff::tz::Offset;
use serde::{Serialize, Serializer};
use std::fmt;

/// The form of a moment's text.
const TEXT: &[u8; 24] = b"0000-00-00T00:00:00.000Z";

/// A monotonic instant: milliseconds since a moment that the driver chose. Never goes back.
///
/// ```
/// use fanfare_core::Time;
/// assert_eq!(Time::from_millis(5).plus(10).as_millis(), 15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The instant `millis` milliseconds after the driver's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the driver's start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant, `millis` milliseconds later; the last instant there is, where that would overflow.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this instant; 0 where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment of the wall clock: milliseconds since the Unix epoch, UTC.
///
/// Shown and serialised as RFC 3339 with milliseconds, as `at` on the wire.
///
/// ```
/// use fanfare_core::Wall;
/// assert_eq!(Wall::from_unix_millis(1_763_885_820_123).to_string(), "2025-11-23T08:17:00.123Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(u64);

impl Wall {
    /// The last moment of the year 9999, beyond which RFC 3339 has no text.
    const MAX_MILLIS: u64 = 253_402_207_200_000;

    /// The moment `millis` milliseconds after the Unix epoch; the end of the year 9999 at the latest.
    #[must_use]
    pub const fn from_unix_millis(millis: u64) -> Self {
        if millis > Self::MAX_MILLIS {
            return Self(Self::MAX_MILLIS);
        }
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_unix_millis(self) -> u64 {
        self.0
    }

    /// This moment, `millis` milliseconds later; the end of the year 9999 at the latest.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self::from_unix_millis(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; 0 where `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Wall {
    /// Its text.
    fn text(self) -> [u8; TEXT.len()] {
        let timestamp = i64::try_from(self.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        let at = Offset::UTC.to_datetime(timestamp);
        let mut text = *TEXT;
        // From 1970 on nothing of it is negative.
        let mut part = |place, digits, number: i16| {
            let mut left = number.unsigned_abs();
            for digit in text.iter_mut().skip(place).take(digits).rev() {
                // Below 10.
                *digit += u8::try_from(left % 10).unwrap_or_default();
                left /= 10;
            }
        };
        part(0, 4, at.year());
        part(5, 2, at.month().into());
        part(8, 2, at.day().into());
        part(11, 2, at.hour().into());
        part(14, 2, at.minute().into());
        part(17, 2, at.second().into());
        part(20, 3, at.millisecond());
        text
    }

    /// Appends its text.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text());
    }
}

impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl Serialize for Wall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// When an input happened, by both clocks of the driver.
///
/// ```
/// use fanfare_core::{Now, Time, Wall};
/// let now = Now { time: Time::from_millis(1), wall: Wall::from_unix_millis(1_700_000_000_000) };
/// assert!(now.time < now.time.plus(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Decides deadlines.
    pub time: Time,
    /// Dates events and judges tokens.
    pub wall: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_prints_three_digits_also_for_whole_seconds_and_the_farthest_future() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20.000Z"),
            (951_782_400_009, "2000-02-29T00:00:00.009Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-30T22:00:00.000Z"),
        ] {
            assert_eq!(Wall::from_unix_millis(millis).to_string(), text, "{millis}");
        }
        for millis in (0..Wall::MAX_MILLIS).step_by(123_456_789_012) {
            let timestamp = jiff::Timestamp::from_millisecond(millis as i64).unwrap();
            let wall = Wall::from_unix_millis(millis);
            assert_eq!(wall.to_string(), format!("{timestamp:.3}"), "{millis}");
        }
    }
}
