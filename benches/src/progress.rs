//! Which broadcasts have arrived everywhere.

use std::collections::VecDeque;

/// Counts, for each broadcast that some connection still lacks, how many have it.
///
/// ```
/// use fanfare_benches::Progress;
/// let mut progress = Progress::new(2);
/// assert_eq!(progress.arrived(0), 0);
/// assert_eq!(progress.arrived(1), 0);
/// assert_eq!(progress.arrived(0), 1);
/// assert_eq!(progress.arrived(1), 1);
/// ```
#[derive(Debug)]
pub struct Progress {
    connections: usize,
    first: usize,
    counts: VecDeque<usize>,
}

impl Progress {
    /// Nothing has arrived at any of the connections.
    #[must_use]
    pub const fn new(connections: usize) -> Self {
        Self {
            connections,
            first: 0,
            counts: VecDeque::new(),
        }
    }

    /// Broadcast `number`, from 0 on, arrived at one more connection. How many broadcasts became complete by that.
    /// What was complete already counts for nothing.
    pub fn arrived(&mut self, number: usize) -> usize {
        let Some(at) = number.checked_sub(self.first) else {
            return 0;
        };
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        let before = self.first;
        while self.counts.front() == Some(&self.connections) {
            self.counts.pop_front();
            self.first += 1;
        }
        self.first - before
    }
}
