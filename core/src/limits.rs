//! Every bound that a hub keeps, with its default.

/// How much of everything there may be. The defaults are those of `docs/protocol.md`.
///
/// ```
/// use fanfare_core::Limits;
/// let limits = Limits { rooms_per_connection: 8, ..Limits::default() };
/// assert_eq!(limits.heartbeat_ms, 25_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest message of a client, bytes.
    pub message_bytes: usize,
    /// Largest `data` of a publish, bytes.
    pub data_bytes: usize,
    /// Rooms that one connection may be in.
    pub rooms_per_connection: usize,
    /// Connections that one user may have.
    pub connections_per_user: usize,
    /// Bytes that may wait to be sent to one connection.
    pub outbox_bytes: usize,
    /// Events that a task's room keeps.
    pub task_log_events: usize,
    /// Milliseconds for which a task's room keeps an event.
    pub task_log_ms: u64,
    /// Events that a user's room keeps.
    pub user_log_events: usize,
    /// Milliseconds for which a user's room keeps an event.
    pub user_log_ms: u64,
    /// Bytes of all logs in memory; beyond, the rooms idle longest are forgotten.
    pub log_bytes: usize,
    /// Bytes of all task snapshots; beyond, the tasks idle longest are forgotten.
    pub snapshot_bytes: usize,
    /// Devices of a user whose cursors are kept; the one idle longest goes first.
    pub devices_per_user: usize,
    /// Milliseconds for which a device's cursor is kept that was not used.
    pub device_ms: u64,
    /// Bytes of all inboxes (what is unread, and cursors); beyond, those of the users idle longest are forgotten.
    pub inbox_bytes: usize,
    /// Ids of events that are remembered, so that a retry is known.
    pub ids: usize,
    /// Milliseconds for which an id is remembered.
    pub ids_ms: u64,
    /// Messages that a client may send in a second, in the long run.
    pub messages_per_second: u32,
    /// Messages that a client may send at once.
    pub messages_burst: u32,
    /// Refused messages in a minute after which a client is closed.
    pub errors_per_minute: u32,
    /// Milliseconds without a word from a client after which it is pinged.
    pub heartbeat_ms: u64,
    /// Milliseconds that it then has to answer.
    pub pong_ms: u64,
    /// Milliseconds that a client has to send its token.
    pub auth_ms: u64,
    /// Milliseconds before a token's end at which its client is told.
    pub expiring_ms: u64,
    /// Milliseconds for which something may wait for a client that takes nothing.
    pub stall_ms: u64,
    /// Milliseconds in which a client that is being closed has to take its last frames.
    pub close_ms: u64,
    /// Milliseconds over which the clients of a draining server are told to come back.
    pub drain_spread_ms: u64,
    /// Subscribers of the bus.
    pub subscriptions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
        Self {
            message_bytes: 64 << 10,
            data_bytes: 1 << 20,
            rooms_per_connection: 128,
            connections_per_user: 32,
            outbox_bytes: 1 << 20,
            task_log_events: 1_000,
            task_log_ms: DAY_MS,
            user_log_events: 10_000,
            user_log_ms: 30 * DAY_MS,
            log_bytes: 256 << 20,
            snapshot_bytes: 64 << 20,
            devices_per_user: 32,
            device_ms: 30 * DAY_MS,
            inbox_bytes: 64 << 20,
            ids: 1_000_000,
            ids_ms: DAY_MS,
            messages_per_second: 50,
            messages_burst: 100,
            errors_per_minute: 20,
            heartbeat_ms: 25_000,
            pong_ms: 10_000,
            auth_ms: 10_000,
            expiring_ms: 60_000,
            stall_ms: 30_000,
            close_ms: 5_000,
            drain_spread_ms: 5_000,
            subscriptions: 1_024,
        }
    }
}
