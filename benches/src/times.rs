//! How long things took.

use std::fmt;
use std::time::Duration;

/// Durations; prints as their number, middle, 99th of a hundred and longest.
///
/// ```
/// use fanfare_benches::Times;
/// use std::time::Duration;
/// let mut times = Times::default();
/// for ms in 1..=200 {
///     times.push(Duration::from_millis(ms));
/// }
/// assert_eq!(times.to_string(), "n=200 p50_ms=101.00 p99_ms=199.00 max_ms=200.00");
/// ```
#[derive(Debug, Default, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    /// One more.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let ms = |at: usize| sorted.get(at).map_or(0.0, |it| it.as_secs_f64() * 1e3);
        write!(
            f,
            "n={} p50_ms={:.2} p99_ms={:.2} max_ms={:.2}",
            sorted.len(),
            ms(sorted.len() / 2),
            ms(sorted.len() * 99 / 100),
            ms(sorted.len().saturating_sub(1)),
        )
    }
}
