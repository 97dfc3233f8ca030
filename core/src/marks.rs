//! Marks at rare branches, for the simulation: a run that came to none of them proved little.
//!
//! Every crate of the server sets its marks with [`sim_reached!`](crate::sim_reached), and all are collected here.

#[cfg(feature = "marks")]
mod collected {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    /// More than there are.
    const ROOM: usize = 256;

    thread_local! {
        static REACHED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    /// A branch was reached. After the first [`take`] this allocates nothing: what is allocated is weighed.
    pub fn reached(mark: &'static str) {
        REACHED.with_borrow_mut(|reached| {
            if let Err(at) = reached.binary_search(&mark) {
                reached.insert(at, mark);
            }
        });
    }

    /// The marks that this thread has reached since the last call.
    #[must_use]
    pub fn take() -> BTreeSet<&'static str> {
        let reached = REACHED.replace(Vec::with_capacity(ROOM));
        reached.into_iter().collect()
    }
}

#[cfg(feature = "marks")]
pub use collected::{reached, take};

/// Says that a branch was reached, or that something holds there. Only with the feature `marks`, which `fanfare-sim` turns
/// on where it counts them and no shipped build has: without it this is nothing.
#[cfg(feature = "marks")]
#[macro_export]
macro_rules! sim_reached {
    ($mark:literal) => {
        $crate::marks::reached($mark)
    };
    ($mark:literal, $holds:expr) => {
        if $holds {
            $crate::marks::reached($mark);
        }
    };
}

/// Nothing, without the feature `marks`.
#[cfg(not(feature = "marks"))]
#[doc(hidden)]
#[macro_export]
macro_rules! sim_reached {
    ($mark:literal $(, $holds:expr)?) => {};
}
