//! What is allocated in a world: what its parts take from the allocator, less what they give back.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Counts bytes that are allocated in this thread and not given back, while something runs.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: Cell<i64>,
}

impl Meter {
    /// Counts what this takes and gives back.
    pub(crate) fn count<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut result: Option<Result<T, Box<dyn Any + Send>>> = None;
        // The allocator's count has to be left in order.
        let counted = allocation_counter::measure(|| {
            result = Some(catch_unwind(AssertUnwindSafe(work)));
        });
        self.bytes.set(self.bytes.get() + counted.bytes_current);
        match result {
            Some(Ok(result)) => result,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("what is measured is run"),
        }
    }

    /// Leaves out what this takes and gives back.
    pub(crate) fn leave_out<T>(work: impl FnOnce() -> T) -> T {
        let mut result: Option<Result<T, Box<dyn Any + Send>>> = None;
        allocation_counter::opt_out(|| {
            result = Some(catch_unwind(AssertUnwindSafe(work)));
        });
        match result {
            Some(Ok(result)) => result,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("what is left out is run"),
        }
    }

    pub(crate) const fn bytes(&self) -> i64 {
        self.bytes.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_until_it_is_given_back() {
        let meter = Meter::default();
        let kept = meter.count(|| vec![0_u8; 1_000]);
        assert_eq!(meter.bytes(), 1_000);
        let other = meter.count(|| Meter::leave_out(|| vec![0_u8; 500]));
        assert_eq!(meter.bytes(), 1_000);
        meter.count(|| drop(kept));
        assert_eq!(meter.bytes(), 0);
        Meter::leave_out(|| drop(other));
        let panic = catch_unwind(AssertUnwindSafe(|| meter.count(|| panic!("as it may"))));
        assert!(panic.is_err());
        meter.count(|| ());
    }
}
