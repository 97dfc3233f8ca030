//! When the next publish is due.

use std::time::Duration;

/// How long after the end what was due before it is still sent, in nanoseconds.
const BACKLOG: u64 = 10_000_000_000;

pub(crate) struct Pace {
    /// Nanoseconds between two; none where each waits for the one before.
    interval: Option<f64>,
    limit: u64,
    duration: u64,
    began: u64,
    sent: u64,
    /// When somebody asked to end.
    stopped: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// One was due at this time, which is not in the future.
    Due(u64),
    /// One will be.
    At(u64),
    Over,
}

impl Pace {
    pub(crate) fn new(rate: Option<f64>, limit: Option<u32>, duration: Duration) -> Self {
        Self {
            interval: rate.map(|rate| 1e9 / rate),
            // A mark has no higher numbers.
            limit: limit.unwrap_or(u32::MAX).into(),
            duration: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            began: 0,
            sent: 0,
            stopped: None,
        }
    }

    /// Whether a publish is under way until it is everywhere, not only until it is answered.
    pub(crate) const fn waits_for_all(&self) -> bool {
        self.interval.is_none()
    }

    pub(crate) const fn begin(&mut self, now: u64) {
        self.began = now;
    }

    pub(crate) fn next(&mut self, now: u64, stop: bool) -> Next {
        if stop && self.stopped.is_none() {
            self.stopped = Some(now);
        }
        let end = self.began.saturating_add(self.duration);
        let due = self.due(now);
        if self.stopped.is_some() || self.sent >= self.limit || due >= end {
            Next::Over
        } else if due > now {
            Next::At(due)
        } else if now > end.saturating_add(BACKLOG) {
            Next::Over
        } else {
            Next::Due(due)
        }
    }

    pub(crate) const fn sent(&mut self) {
        self.sent += 1;
    }

    /// How many were due and were not sent.
    pub(crate) fn unsent(&self, now: u64) -> u64 {
        let Some(interval) = self.interval else {
            return 0;
        };
        let end = self.began.saturating_add(self.duration);
        let passed = end
            .min(self.stopped.unwrap_or(now))
            .saturating_sub(self.began);
        // The first is due at once.
        let due = whole((passed as f64 / interval).ceil()).min(self.limit);
        due.saturating_sub(self.sent)
    }

    fn due(&self, now: u64) -> u64 {
        self.interval.map_or(now, |interval| {
            self.began
                .saturating_add(whole(self.sent as f64 * interval))
        })
    }
}

fn whole(number: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative, and what is too large becomes the largest"
    )]
    let whole = number as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_a_rate_each_is_due_on_time_whatever_became_of_those_before() {
        let mut pace = Pace::new(Some(4.0), None, Duration::from_secs(1));
        let s = 1_000_000_000;
        pace.begin(10 * s);
        assert_eq!(pace.next(10 * s, false), Next::Due(10 * s));
        pace.sent();
        assert_eq!(pace.next(10 * s, false), Next::At(10 * s + s / 4));
        // Late: the next ones were due then all the same.
        for quarter in 1..4 {
            assert_eq!(
                pace.next(12 * s, false),
                Next::Due(10 * s + quarter * s / 4)
            );
            assert_eq!(pace.unsent(12 * s), 4 - quarter);
            pace.sent();
        }
        assert_eq!(pace.next(12 * s, false), Next::Over);
        assert_eq!(pace.unsent(12 * s), 0);
    }

    #[test]
    fn a_backlog_ends_and_so_does_who_is_asked_to() {
        let s = 1_000_000_000;
        let mut pace = Pace::new(Some(1.0), None, Duration::from_secs(5));
        pace.begin(0);
        assert_eq!(pace.next(15 * s, false), Next::Due(0));
        assert_eq!(pace.next(15 * s + 1, false), Next::Over);
        assert_eq!(pace.unsent(15 * s + 1), 5);
        assert_eq!(pace.next(2 * s, true), Next::Over);
        assert_eq!(pace.unsent(16 * s), 2);
    }

    #[test]
    fn without_a_rate_one_is_due_at_once_until_the_time_or_the_number_is_over() {
        let mut pace = Pace::new(None, Some(2), Duration::from_nanos(100));
        pace.begin(0);
        assert_eq!(pace.next(99, false), Next::Due(99));
        assert_eq!(pace.next(100, false), Next::Over);
        pace.sent();
        pace.sent();
        assert_eq!(pace.next(1, false), Next::Over);
        assert_eq!(pace.unsent(100), 0);
        let mut endless = Pace::new(None, None, Duration::MAX);
        endless.sent = u64::from(u32::MAX) - 1;
        assert_eq!(endless.next(1, false), Next::Due(1));
        endless.sent();
        assert_eq!(endless.next(1, false), Next::Over);
    }
}
