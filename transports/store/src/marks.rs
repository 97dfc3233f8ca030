//! Marks at rare branches, for the simulation: a run that came to none of them proved little.
//!
//! With the feature `marks`, which `fanfare-sim` turns on where it counts them and no shipped build has, each tells that it
//! was reached. Without it `sim_reached!` is nothing.

#[cfg(feature = "marks")]
mod collected {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static REACHED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// A branch was reached.
    pub(crate) fn reached(mark: &'static str) {
        REACHED.with_borrow_mut(|reached| reached.insert(mark));
    }

    /// The marks that this thread has reached since the last call.
    #[must_use]
    pub fn take() -> BTreeSet<&'static str> {
        REACHED.take()
    }
}

#[cfg(feature = "marks")]
pub(crate) use collected::reached;
#[cfg(feature = "marks")]
pub use collected::take;

/// Says that a branch was reached, where the feature `marks` is on.
#[cfg(feature = "marks")]
macro_rules! sim_reached {
    ($mark:literal) => {
        $crate::marks::reached($mark)
    };
}

#[cfg(not(feature = "marks"))]
macro_rules! sim_reached {
    ($mark:literal) => {};
}

pub(crate) use sim_reached;
