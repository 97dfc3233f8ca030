//! `store compact`.

use std::path::Path;

use clap::Args;

use super::progress::Bar;
use super::{Failure, conclude, size};

/// Gives the space in the file that is not used back to the system
///
/// Everything is checked first. A server uses such space again by itself, so this is for a store that was much larger once.
#[derive(Debug, Args)]
#[command(after_help = super::AFTER_HELP)]
pub(crate) struct Compact {}

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let bar = Bar::new("checking, then compacting");
    let compacted = fanfare_store::compact(file, &mut bar.report())?;
    drop(bar);
    let (before, after) = (size(compacted.before), size(compacted.after));
    conclude(format_args!("{}: {after}, before {before}", file.display()));
    Ok(())
}
