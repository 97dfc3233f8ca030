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
    /// Outlets beside the hub's own, as of other threads; connections go to one after the other.
    pub outlets: u8,
    /// Milliseconds that whatever passes between the hub and an outlet is on its way; drawn anew for each. Where that is none,
    /// which of several passes first is drawn.
    pub crossing_ms: RangeInclusive<u64>,
    /// The store that the hub's log is in; with none it is in memory.
    pub store: Option<StoreSettings>,
}

/// How the pretended store of a world does.
///
/// ```
/// use fanfare_loopback::{Settings, StoreSettings, World, draft, user};
/// let store = StoreSettings { commit_ms: 5..=5, ..StoreSettings::default() };
/// let mut world = World::with(Settings { store: Some(store), ..Settings::default() });
/// world.publish_to_user(user(7), draft("note:added", 1));
/// # assert!(world.now().time.as_millis() <= 10);
/// ```
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Milliseconds from a commit to its answer; drawn anew for each.
    pub commit_ms: RangeInclusive<u64>,
    /// Milliseconds from a read to its answer; drawn anew for each, so that they overtake each other.
    pub fetch_ms: RangeInclusive<u64>,
    /// Whether a client's messages are handed to the hub although it is busy with the last one.
    pub reads_ahead: bool,
}

impl Default for StoreSettings {
    /// All that is asked of it is done at once.
    fn default() -> Self {
        Self {
            commit_ms: 0..=0,
            fetch_ms: 0..=0,
            reads_ahead: false,
        }
    }
}

impl Default for Settings {
    /// Seed 1, the hub's default bounds, and no latency; a log in memory, or in a store where the environment has
    /// `FANFARE_LOOPBACK_STORE`; one outlet, or two more where it has `FANFARE_LOOPBACK_OUTLETS`: so the same scripts run over all.
    fn default() -> Self {
        Self {
            seed: 1,
            limits: Limits::default(),
            latency_ms: 0..=0,
            outlets: std::env::var_os("FANFARE_LOOPBACK_OUTLETS").map_or(0, |_| 2),
            crossing_ms: 0..=0,
            store: std::env::var_os("FANFARE_LOOPBACK_STORE").map(|_| StoreSettings::default()),
        }
    }
}
