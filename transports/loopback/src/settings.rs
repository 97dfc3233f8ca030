//! What a world is made of.

use fanfare_core::Limits;
use std::ops::RangeInclusive;

/// What is drawn or chosen before a world begins.
///
/// ```
/// use fanfare_core::Limits;
/// use fanfare_loopback::{Settings, World};
/// let limits = Limits { task_log_events: 5, ..Limits::default() };
/// let world = World::with(Settings { limits, latency_ms: 1..=200, ..Settings::default() });
/// assert_eq!(world.now().time.as_millis(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Settings {
    /// Everything random comes from it.
    pub seed: u64,
    /// The hub's bounds.
    pub limits: Limits,
    /// Milliseconds that whatever a client sends or is sent is on its way; drawn anew for each.
    pub latency_ms: RangeInclusive<u64>,
}

impl Default for Settings {
    /// Seed 1, the hub's default bounds, and no latency.
    fn default() -> Self {
        Self {
            seed: 1,
            limits: Limits::default(),
            latency_ms: 0..=0,
        }
    }
}
