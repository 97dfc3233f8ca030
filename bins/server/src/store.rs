//! `fanfare-server store`: what is done to the data of a server that does not run.

mod check;
mod compact;
mod export;
mod import;
mod new_epochs;
mod progress;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Subcommand};
use fanfare_store::Error;

use crate::data::STORE_FILE;
use crate::settings::Config;

/// What names the folder where no flag does.
const FOLDER_VARIABLE: &str = "FANFARE_DATA";

/// Exit codes, for `--help`.
const AFTER_HELP: &str = "\
Exit codes:
  0    done, and the store is good
  1    the store is damaged, open in another process or not there, or something failed
  2    wrong usage";

/// What was asked for.
#[derive(Debug, Args)]
#[command(
    about = "Looks after the data of a server that does not run: check, export, import, compact, new-epochs",
    after_help = AFTER_HELP
)]
pub(crate) struct Maintenance {
    /// Folder in which the server keeps everything; else FANFARE_DATA names it [default: ./fanfare-data]
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
#[command(subcommand_required = true)]
enum Task {
    Check(check::Check),
    Export(export::Export),
    Import(import::Import),
    Compact(compact::Compact),
    NewEpochs(new_epochs::NewEpochs),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("no randomness from the system: {0}")]
    Random(#[from] getrandom::Error),
    /// Of what is not the store.
    #[error("{of}: {source}")]
    Stream { of: String, source: Error },
    #[error("{of}: can't {doing}: {source}")]
    System {
        of: String,
        doing: &'static str,
        source: io::Error,
    },
}

impl Failure {
    /// An error of the store, or of `stream`, which it read or wrote.
    fn new(source: Error, stream: &str) -> Self {
        if matches!(
            source,
            Error::Output(_) | Error::Input(_) | Error::BadImport { .. }
        ) {
            let of = stream.to_owned();
            return Self::Stream { of, source };
        }
        Self::Store(source)
    }
}

/// The part of the command line that is the store's.
pub(crate) fn command() -> clap::Command {
    Maintenance::augment_args(clap::Command::new("store"))
}

/// Does it.
///
/// # Errors
/// [`Failure`], with what to do.
pub(crate) fn run(maintenance: &Maintenance) -> Result<(), Failure> {
    // An empty variable is an unset one, as for the server.
    let named = maintenance.data.clone().or_else(|| {
        let variable = std::env::var_os(FOLDER_VARIABLE);
        variable.filter(|name| !name.is_empty()).map(PathBuf::from)
    });
    let folder = named.unwrap_or_else(|| Config::default().data);
    let file = folder.join(STORE_FILE);
    match &maintenance.task {
        Task::Check(_) => check::run(&file),
        Task::Export(export) => export.run(&file),
        Task::Import(import) => import.run(&file),
        Task::Compact(_) => compact::run(&file),
        Task::NewEpochs(_) => new_epochs::run(&file),
    }
}

/// Prints the last line of a task.
fn conclude(result: impl Display) {
    // Nobody may be reading; it is done all the same.
    let _ = writeln!(io::stdout(), "{result}");
}

/// A size as people read it.
fn size(bytes: u64) -> impl Display {
    ByteSize::b(bytes).display().iec()
}
