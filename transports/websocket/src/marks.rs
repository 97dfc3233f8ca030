//! Marks at rare branches, for the simulation; as in the core, which collects them.

/// Says that a branch was reached, where the feature `marks` is on.
#[cfg(feature = "marks")]
macro_rules! sim_reached {
    ($mark:literal) => {
        fanfare_core::marks::reached($mark)
    };
}

#[cfg(not(feature = "marks"))]
macro_rules! sim_reached {
    ($mark:literal) => {};
}

pub(crate) use sim_reached;
