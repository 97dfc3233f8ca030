//! How fast a client may speak, and how often it may be wrong.

use crate::limits::Limits;
use crate::time::Time;
use std::collections::VecDeque;

const MINUTE_MS: u64 = 60_000;
/// What one message costs, in thousandths.
const MESSAGE: u64 = 1_000;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Refuse,
    Close,
}

/// A token bucket (`messages_per_second`, `messages_burst`), and the times of the last errors.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Thousandths of messages that may still come.
    credit: u64,
    at: Time,
    /// Messages refused since the bucket was last at rest.
    refused: u32,
    errors: VecDeque<Time>,
}

impl Rate {
    pub(crate) fn new(now: Time, limits: &Limits) -> Self {
        Self {
            credit: u64::from(limits.messages_burst) * MESSAGE,
            at: now,
            refused: 0,
            errors: VecDeque::new(),
        }
    }

    /// Counts one message or ping.
    pub(crate) fn message(&mut self, now: Time, limits: &Limits) -> Verdict {
        let full = u64::from(limits.messages_burst) * MESSAGE;
        // Thousandths a millisecond are messages a second.
        let earned = now
            .since(self.at)
            .saturating_mul(u64::from(limits.messages_per_second));
        self.credit = self.credit.saturating_add(earned).min(full);
        self.at = now;
        if self.credit * 2 >= full {
            self.refused = 0;
        }
        if self.credit >= MESSAGE {
            self.credit -= MESSAGE;
            return Verdict::Pass;
        }
        self.refused += 1;
        if self.refused > limits.errors_per_minute {
            Verdict::Close
        } else {
            Verdict::Refuse
        }
    }

    /// Counts a message that was refused for what it says; whether the client is to be closed.
    pub(crate) fn error(&mut self, now: Time, limits: &Limits) -> bool {
        while self
            .errors
            .front()
            .is_some_and(|first| now.since(*first) >= MINUTE_MS)
        {
            self.errors.pop_front();
        }
        self.errors.push_back(now);
        self.errors.len() >= limits.errors_per_minute as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_some_are_refused_then_the_client_is_closed() {
        let limits = Limits::default();
        let mut rate = Rate::new(Time::default(), &limits);
        let mut verdicts = |count: usize, at: u64| {
            (0..count)
                .map(|_| rate.message(Time::from_millis(at), &limits))
                .collect::<Vec<_>>()
        };
        assert_eq!(verdicts(100, 0), [Verdict::Pass; 100]);
        assert_eq!(verdicts(20, 0), [Verdict::Refuse; 20]);
        assert_eq!(verdicts(1, 19), [Verdict::Close]);
        assert_eq!(
            verdicts(2, 40),
            [Verdict::Pass, Verdict::Pass].map(|pass| pass)
        );
        // One a 20 ms is what the rate allows for ever.
        assert!((3..1_000).all(|step| verdicts(1, step * 20) == [Verdict::Pass]));
    }

    #[test]
    fn the_twentieth_error_in_a_minute_closes_and_old_ones_do_not_count() {
        let limits = Limits::default();
        let mut rate = Rate::new(Time::default(), &limits);
        for at in (0..19).chain(60_000..60_001) {
            assert!(!rate.error(Time::from_millis(at), &limits), "{at}");
        }
        assert!(rate.error(Time::from_millis(60_000), &limits));
    }
}
