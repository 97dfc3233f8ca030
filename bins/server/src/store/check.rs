//! `store check`.

use std::path::Path;

use clap::Args;

use super::progress::Bar;
use super::{Failure, conclude, size};

/// Reads everything, and says whether it is as it was written
///
/// Nothing is changed. Of a server that was killed, or lost its power, what its next start will find is checked.
#[derive(Debug, Args)]
#[command(after_help = super::AFTER_HELP)]
pub(crate) struct Check {}

pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let bar = Bar::new("checking");
    let checked = fanfare_store::check(file, &mut bar.report())?;
    drop(bar);
    let rows: u64 = checked.rows.iter().map(|(_, rows)| rows).sum();
    let tables = checked.rows.iter().filter(|(_, rows)| *rows > 0);
    let tables: Vec<String> = tables
        .map(|(table, rows)| format!("{table} {rows}"))
        .collect();
    let tables = match tables.as_slice() {
        [] => String::new(),
        tables => format!(" ({})", tables.join(", ")),
    };
    let bytes = size(checked.bytes);
    conclude(format_args!(
        "{}: good, {rows} rows{tables}, {bytes}",
        file.display()
    ));
    Ok(())
}
