//! Virtual time: both clocks of the core, moved by the world only.

use fanfare_core::{Now, Time, Wall};

/// The wall clock's time at the beginning of every world: 2026-01-01, 00:00 UTC.
const BEGINNING_MS: u64 = 1_767_225_600_000;

#[derive(Debug)]
pub(crate) struct Clock {
    time: Time,
    /// What the wall clock shows, as far as it was not set since `set_at`.
    wall: Wall,
    set_at: Time,
}

impl Clock {
    pub(crate) const fn new() -> Self {
        Self {
            time: Time::from_millis(0),
            wall: Wall::from_unix_millis(BEGINNING_MS),
            set_at: Time::from_millis(0),
        }
    }

    pub(crate) const fn now(&self) -> Now {
        let wall = self.wall.as_unix_millis() + self.time.since(self.set_at);
        Now {
            time: self.time,
            wall: Wall::from_unix_millis(wall),
        }
    }

    /// Moves to `time`; never back.
    pub(crate) fn advance_to(&mut self, time: Time) {
        self.time = self.time.max(time);
    }

    /// Sets the wall clock, as an administrator or NTP may, also back. The monotonic one goes on.
    pub(crate) const fn set_wall(&mut self, wall: Wall) {
        self.wall = wall;
        self.set_at = self.time;
    }
}
