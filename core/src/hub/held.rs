//! How much a hub holds.

use super::Hub;

/// What a hub holds in memory, in the bytes by which its bounds count.
///
/// ```
/// use fanfare_core::{Held, Hub, Limits};
/// let hub = Hub::new(Limits::default(), [0; 32]);
/// assert_eq!(hub.held(), Held::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Connections, those that are being closed too.
    pub connections: usize,
    /// Bytes that wait in the outboxes of all connections.
    pub outbox_bytes: usize,
    /// Bytes in the fullest of them.
    pub outbox_bytes_max: usize,
    /// Bytes of events.
    pub log_bytes: usize,
}

impl Hub {
    /// What it holds, of connections those of its own thread. O(connections).
    #[must_use]
    pub fn held(&self) -> Held {
        Held {
            log_bytes: self.bus.log_bytes(),
            ..self.outlet.held()
        }
    }
}
