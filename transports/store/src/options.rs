//! Every bound and choice of a store.

use std::time::Duration;

/// When a commit is answered.
///
/// ```
/// assert_eq!(fanfare_store::Durability::default(), fanfare_store::Durability::Immediate);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is safe: it survives the end of the process and the loss of power.
    #[default]
    Immediate,
    /// When the operating system has it: it survives the end of the process. The fsync follows at once, so a loss of power
    /// takes what the fsync under way had not reached, and never part of a batch.
    Relaxed,
}

/// Every bound and choice, with defaults that suit a server.
///
/// ```
/// use fanfare_store::{Durability, Options};
/// let options = Options { durability: Durability::Relaxed, ..Options::default() };
/// assert_eq!(options.group_batches, 1_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// When a commit is answered.
    pub durability: Durability,
    /// Whether a file that is not there is made. Its directory must be there.
    pub create: bool,
    /// Whether every page is verified when the file is opened, not only after a crash. Without it, damage of the file is
    /// found when a damaged row is read, and what damage makes unreachable is not found.
    pub verify: bool,
    /// A group is committed when its batches have so many bytes.
    pub group_bytes: usize,
    /// A group is committed when it has so many batches.
    pub group_batches: usize,
    /// A group is committed when its oldest batch has waited so long. A store that was idle for so long waits for nothing.
    pub group_wait: Duration,
    /// Most bytes of batches that wait; also the largest batch. The default takes 1 MiB in 101 rows and more.
    pub queue_bytes: usize,
    /// Most batches that wait.
    pub queue_batches: usize,
    /// Most reads that wait, and most in one call.
    pub queue_reads: usize,
    /// Threads that read.
    pub read_threads: usize,
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Length of a new file's log, in bytes, from 8 KiB to 2 GiB. What half of it holds is brought to the tables at once, and
    /// is in memory twice at most.
    pub log_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            create: true,
            verify: true,
            group_bytes: 256 << 10,
            group_batches: 1_000,
            group_wait: Duration::from_millis(2),
            queue_bytes: 128 << 20,
            queue_batches: 65_536,
            queue_reads: 16_384,
            read_threads: 2,
            cache_bytes: 64 << 20,
            log_bytes: 16 << 20,
        }
    }
}
