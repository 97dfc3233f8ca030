//! What one connection has had of a row of numbers that should come one after the other.

/// How far back a number that comes late is told from one that comes again.
const WINDOW: u64 = 64;

/// The last number, and which of those before it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    last: u64,
    /// Bit `n`: `last - n` came.
    came: u64,
}

/// What a number is to those before it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Higher than all before it; so many between were left out.
    Ahead { missed: u64 },
    /// It was left out before.
    Late,
    /// It came before.
    Again,
    /// Lower than the last by more than is remembered.
    Old,
}

impl Order {
    /// Nothing came, and nothing up to this number will.
    pub(crate) const fn after(last: u64) -> Self {
        Self {
            last,
            came: u64::MAX,
        }
    }

    pub(crate) const fn last(self) -> u64 {
        self.last
    }

    pub(crate) fn take(&mut self, number: u64) -> Step {
        if let Some(ahead @ 1..) = number.checked_sub(self.last) {
            self.last = number;
            self.came = shift(self.came, ahead) | 1;
            return Step::Ahead { missed: ahead - 1 };
        }
        let back = self.last - number;
        if back >= WINDOW {
            return Step::Old;
        }
        let bit = 1 << back;
        if self.came & bit != 0 {
            return Step::Again;
        }
        self.came |= bit;
        Step::Late
    }

    /// Whether it came, or is so far back that it is as good as that.
    pub(crate) fn has(self, number: u64) -> bool {
        let back = self.last.checked_sub(number);
        back.is_some_and(|back| back >= WINDOW || self.came & 1 << back != 0)
    }

    /// Numbers from one to another will not come. How many were left out before them, and how many of them had not come:
    /// should one come all the same, it comes again.
    pub(crate) fn skip(&mut self, from: u64, to: u64) -> (u64, u64) {
        let missed = from.saturating_sub(1).min(to).saturating_sub(self.last);
        self.came = shift(self.came, missed);
        self.last += missed;
        let told = to.saturating_sub(self.last);
        self.came = !shift(!self.came, told);
        self.last += told;
        (missed, told)
    }
}

fn shift(came: u64, by: u64) -> u64 {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    came.checked_shl(by).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_comes_late_or_comes_again_is_told_apart() {
        let mut order = Order::after(0);
        let steps = [
            (1, Step::Ahead { missed: 0 }),
            (2, Step::Ahead { missed: 0 }),
            (2, Step::Again),
            (5, Step::Ahead { missed: 2 }),
            (4, Step::Late),
            (4, Step::Again),
            (3, Step::Late),
            (1, Step::Again),
            (6, Step::Ahead { missed: 0 }),
            (69, Step::Ahead { missed: 62 }),
            (6, Step::Again),
            (7, Step::Late),
            (5, Step::Old),
            (
                u64::MAX,
                Step::Ahead {
                    missed: u64::MAX - 70,
                },
            ),
            (0, Step::Old),
        ];
        for (number, step) in steps {
            assert_eq!(order.take(number), step, "{number}");
        }
    }

    #[test]
    fn what_was_told_not_to_come_is_not_missed() {
        let mut order = Order::after(10);
        assert_eq!(order.skip(11, 14), (0, 4));
        assert_eq!(order.skip(1, 12), (0, 0));
        assert_eq!(order.take(15), Step::Ahead { missed: 0 });
        assert_eq!(order.take(14), Step::Again);
        assert_eq!(order.take(10), Step::Again);
        // What is missing before them was not told.
        assert_eq!(order.skip(18, 19), (2, 2));
        assert!(order.has(15) && order.has(19) && !order.has(16) && !order.has(20));
        assert_eq!(order.take(16), Step::Late);
        assert!(order.has(16));
    }
}
