//! The wall clock of a simulated machine. The other clock of the core, which always goes on, is the queue of what is to
//! happen.

use fanfare_core::{Time, Wall};

/// The wall clock of a simulated machine: it may be wrong, drift, and be set, also back.
///
/// ```
/// use fanfare_core::Time;
/// use fanfare_loopback::WallClock;
/// let [noon, later] = [43_200_000, 46_800_000].map(Time::from_millis);
/// let right = WallClock::default();
/// assert_eq!(right.at(noon).to_string(), "2026-01-01T12:00:00.000Z");
/// let slow = WallClock::wrong(noon, -1_000, -500);
/// assert_eq!(slow.at(later).to_string(), "2026-01-01T12:59:58.500Z");
/// let set = WallClock::set(noon, right.at(later));
/// assert_eq!(set.ahead_ms(later), 3_600_000);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct WallClock {
    ahead_ms: i64,
    /// Milliseconds an hour, since then.
    drift_ms: i64,
    since: Time,
}

impl WallClock {
    /// What a right one shows when a world begins: 2026-01-01, 00:00 UTC.
    pub const BEGINNING: Wall = Wall::from_unix_millis(1_767_225_600_000);

    /// One that is so far ahead from now on, and goes wrong by so many milliseconds an hour.
    #[must_use]
    pub const fn wrong(now: Time, ahead_ms: i64, drift_ms: i64) -> Self {
        Self {
            ahead_ms,
            drift_ms,
            since: now,
        }
    }

    /// One that shows `wall` now.
    #[must_use]
    pub fn set(now: Time, wall: Wall) -> Self {
        let right = Self::default().at(now).as_unix_millis();
        let ahead_ms = wall.as_unix_millis().wrapping_sub(right).cast_signed();
        Self::wrong(now, ahead_ms, 0)
    }

    /// Milliseconds by which it is ahead of a right one.
    #[must_use]
    pub fn ahead_ms(&self, now: Time) -> i64 {
        let passed = i64::try_from(now.since(self.since)).unwrap_or(i64::MAX);
        self.ahead_ms + passed.saturating_mul(self.drift_ms) / 3_600_000
    }

    /// What it shows at this time.
    #[must_use]
    pub fn at(&self, now: Time) -> Wall {
        let right = Self::BEGINNING.as_unix_millis() + now.as_millis();
        Wall::from_unix_millis(right.saturating_add_signed(self.ahead_ms(now)))
    }
}
