//! `store import`.

use std::fs::{DirBuilder, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use fanfare_store::Batch;

use super::progress::Bar;
use super::{Failure, conclude};
use crate::storage;

/// Makes a new store of an export
///
/// Where a store is already, nothing is done. An export that is cut or changed makes no store. All rooms begin a new epoch,
/// since the store that was exported may have given more numbers since: clients that come back are told a gap.
#[derive(Debug, Args)]
#[command(after_help = super::AFTER_HELP)]
pub(crate) struct Import {
    /// File that `export` made; - is standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Let clients resume as before. For a move only: the server had ended when the store was exported, and that store is
    /// never used again
    #[arg(long)]
    keep_epochs: bool,
}

impl Import {
    pub(super) fn run(&self, store: &Path) -> Result<(), Failure> {
        let (name, mut input): (_, Box<dyn BufRead>) = if self.from == Path::new("-") {
            let input = BufReader::with_capacity(256 << 10, io::stdin());
            ("standard input".to_owned(), Box::new(input))
        } else {
            let name = self.from.display().to_string();
            let opened = File::open(&self.from).map_err(|source| Failure::System {
                of: name.clone(),
                doing: "read the file of the export",
                source,
            })?;
            (name, Box::new(BufReader::with_capacity(256 << 10, opened)))
        };
        let last = if self.keep_epochs {
            Batch::new()
        } else {
            storage::new_epochs()?
        };
        make_folder(store)?;
        let bar = Bar::new("importing");
        let rows = fanfare_store::import(store, &mut *input, &last, &mut bar.report());
        drop(bar);
        let rows = rows.map_err(|source| Failure::new(source, &name))?;
        conclude(format_args!("{}: {rows} rows imported", store.display()));
        Ok(())
    }
}

/// As the server does.
fn make_folder(store: &Path) -> Result<(), Failure> {
    let folder = store.parent().unwrap_or(store);
    // What people were told is nobody else's to read.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| Failure::System {
        of: folder.display().to_string(),
        doing: "make the folder for the data",
        source,
    })
}
