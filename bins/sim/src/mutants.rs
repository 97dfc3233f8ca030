//! `fanfare-sim mutants`: deliberate faults of the server, one after the other, and which oracle finds each.

#[cfg(not(fanfare_mutants))]
mod build;
#[cfg(fanfare_mutants)]
mod table;

use clap::Args;

use crate::run::{Jobs, Seeds};

#[cfg(not(fanfare_mutants))]
pub(crate) use build::run;
#[cfg(fanfare_mutants)]
pub(crate) use table::{named, run};

/// What `mutants` is told.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// The seeds within which each has to be found
    #[arg(long, value_name = "FROM..TO", value_parser = Seeds::parse, default_value = "0..2000")]
    seeds: Seeds,
    #[command(flatten)]
    jobs: Jobs,
    /// Only this one; can be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "few")]
    only: Vec<String>,
    /// Only as many; which, is said by `--turn`
    #[arg(long, value_name = "NUMBER")]
    few: Option<usize>,
    /// With 0, 1, 2 and so on those `--few` are others, until it was the turn of all
    #[arg(long, value_name = "NUMBER", requires = "few", default_value_t = 0)]
    turn: usize,
}
