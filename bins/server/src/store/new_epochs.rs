//! `store new-epochs`.

use std::path::Path;

use clap::Args;
use fanfare_store::{Options, Store};

use super::{Failure, conclude};
use crate::storage;

/// Begins a new epoch of every room, for a file that was put back
///
/// A copy of an older moment gives numbers a second time. In a new epoch, a client that saw what is lost is told so when it
/// comes back, and takes no event for another. Nothing of the log is changed.
#[derive(Debug, Args)]
#[command(after_help = super::AFTER_HELP)]
pub(crate) struct NewEpochs {}

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let batch = storage::new_epochs()?;
    let options = Options {
        create: false,
        ..Options::default()
    };
    let store = Store::open(file, options)?;
    smol::block_on(store.commit(batch))?;
    store.close()?;
    conclude(format_args!(
        "{}: all rooms begin a new epoch",
        file.display()
    ));
    Ok(())
}
