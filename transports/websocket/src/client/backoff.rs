//! How long to wait before the next attempt: exponential, with full jitter, so that many clients come back spread out.

use std::time::Duration;

/// The greatest wait of the first attempt.
pub(crate) const FIRST: Duration = Duration::from_millis(500);
/// No wait of this client's own choice is longer.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);

/// The waits of one client: each at most twice the one before, up to 30 s, and anywhere below that.
///
/// ```
/// use fanfare_websocket::client::Backoff;
/// let mut backoff = Backoff::default();
/// assert!(backoff.next(fastrand::f64()).as_millis() <= 500);
/// ```
#[derive(Debug, Default, Clone)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait: anywhere from zero to `FIRST` doubled for each failure before. `random` is in 0..1.
    pub fn next(&mut self, random: f64) -> Duration {
        let most = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        most.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Whether nothing failed since the last reset.
    pub(crate) fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    /// Something succeeded: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_are_spread_from_zero() {
        let mut backoff = Backoff::default();
        let most: Vec<_> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(
            most,
            [
                500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000
            ]
        );
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.5), Duration::from_secs(15));
        backoff.reset();
        assert_eq!(backoff.next(1.0), FIRST);
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.next(1.0), LONGEST);
    }
}
