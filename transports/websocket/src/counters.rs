//! What a shard has done so far, in numbers.

/// Counts since a shard began; all of them only rise.
///
/// ```
/// use fanfare_websocket::Counters;
/// assert_eq!(Counters::default().frames_written, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// TCP connections accepted.
    pub accepted: u64,
    /// Accepts that failed.
    pub accept_errors: u64,
    /// WebSockets opened.
    pub opened: u64,
    /// WebSockets of which nothing is left.
    pub closed: u64,
    /// Messages read from clients.
    pub messages_read: u64,
    /// Frames handed to the system in whole, of all kinds but answers to pings and closes.
    pub frames_written: u64,
    /// Bytes that the system took.
    pub bytes_written: u64,
    /// Writes asked of the system.
    pub writes: u64,
    /// Writes of which the system took a part or nothing: the client's socket was full.
    pub writes_blocked: u64,
    /// Writes that failed: the client was gone.
    pub writes_failed: u64,
    /// Tasks of a connection that ended in a panic.
    pub panics: u64,
    /// Commits that the storage made.
    pub commits: u64,
    /// Commits that it had no space for.
    pub commits_full: u64,
    /// Commits that failed.
    pub commits_failed: u64,
    /// Reads that the storage answered.
    pub fetches: u64,
    /// Reads that failed.
    pub fetches_failed: u64,
    /// Publishes of back ends that were refused since the storage did not keep them.
    pub publishes_not_stored: u64,
}

impl Counters {
    /// Both together.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            accept_errors: self.accept_errors + other.accept_errors,
            opened: self.opened + other.opened,
            closed: self.closed + other.closed,
            messages_read: self.messages_read + other.messages_read,
            frames_written: self.frames_written + other.frames_written,
            bytes_written: self.bytes_written + other.bytes_written,
            writes: self.writes + other.writes,
            writes_blocked: self.writes_blocked + other.writes_blocked,
            writes_failed: self.writes_failed + other.writes_failed,
            panics: self.panics + other.panics,
            commits: self.commits + other.commits,
            commits_full: self.commits_full + other.commits_full,
            commits_failed: self.commits_failed + other.commits_failed,
            fetches: self.fetches + other.fetches,
            fetches_failed: self.fetches_failed + other.fetches_failed,
            publishes_not_stored: self.publishes_not_stored + other.publishes_not_stored,
        }
    }
}
