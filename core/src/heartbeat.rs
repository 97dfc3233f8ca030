//! Whether the other side is still there.

use crate::limits::Limits;
use crate::time::Time;

/// One connection's sign of life. A deadline, not a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heartbeat {
    /// Heard at this time.
    Heard(Time),
    /// A ping is to be sent; dead at this time.
    Due(Time),
    /// A ping was sent; dead at this time.
    Sent(Time),
}

/// What a deadline brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing.
    Fine,
    /// A ping is to be sent.
    Ping,
    /// The other side did not answer.
    Dead,
}

impl Heartbeat {
    pub(crate) const fn deadline(self, limits: &Limits) -> Time {
        match self {
            Self::Heard(at) => at.plus(limits.heartbeat_ms),
            Self::Due(until) | Self::Sent(until) => until,
        }
    }

    pub(crate) fn tick(&mut self, now: Time, limits: &Limits) -> Beat {
        if now < self.deadline(limits) {
            return Beat::Fine;
        }
        match self {
            Self::Heard(_) => {
                *self = Self::Due(now.plus(limits.pong_ms));
                Beat::Ping
            }
            Self::Due(_) | Self::Sent(_) if planted!(DeadStayOpen) => {
                *self = Self::Heard(now);
                Beat::Fine
            }
            Self::Due(_) | Self::Sent(_) => Beat::Dead,
        }
    }

    /// Whether a ping goes out now.
    pub(crate) fn take_ping(&mut self, now: Time, limits: &Limits) -> bool {
        let due = matches!(self, Self::Due(_));
        if due {
            *self = Self::Sent(now.plus(limits.pong_ms));
        }
        due
    }

    /// The other side takes what it is sent. The answer to a ping that waits behind a long queue may take its time.
    pub(crate) fn progress(&mut self, now: Time, limits: &Limits) {
        if let Self::Sent(until) = self {
            *until = now.plus(limits.pong_ms);
        }
    }
}
