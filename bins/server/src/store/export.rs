//! `store export`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use fanfare_store::Error;

use super::Failure;
use super::progress::Bar;

/// Writes everything as lines of JSON, which `import` makes a store of
///
/// The store is not changed. What was exported is said on standard error.
#[derive(Debug, Args)]
#[command(after_help = super::AFTER_HELP)]
pub(crate) struct Export {
    /// File to make, which must not be there; - is standard output
    #[arg(value_name = "FILE", default_value = "-")]
    to: PathBuf,
}

impl Export {
    pub(super) fn run(&self, store: &Path) -> Result<(), Failure> {
        let rows = if self.to == Path::new("-") {
            match lines(store, &mut io::stdout().lock(), "standard output") {
                // Nobody reads any more (`| head`): the end, but no mistake.
                Err(Failure::Stream {
                    source: Error::Output(error),
                    ..
                }) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                done => done?,
            }
        } else {
            to_file(store, &self.to)?
        };
        let _ = writeln!(io::stderr(), "{}: {rows} rows exported", store.display());
        Ok(())
    }
}

/// A file that is whole, or none.
fn to_file(store: &Path, path: &Path) -> Result<u64, Failure> {
    let failed = |source| Failure::System {
        of: path.display().to_string(),
        doing: "make the file of the export",
        source,
    };
    // What people were told is nobody else's to read.
    let mut made = OpenOptions::new();
    let made = made.write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(failed)?;
    let done = lines(store, &mut &file, &path.display().to_string())
        .and_then(|rows| File::sync_all(&file).map(|()| rows).map_err(failed));
    if done.is_err() {
        // Half an export must not look like one. That it is left is the smaller failure.
        let _ = fs::remove_file(path);
    }
    done
}

fn lines(store: &Path, output: &mut dyn Write, name: &str) -> Result<u64, Failure> {
    let bar = Bar::new("exporting");
    let mut output = BufWriter::with_capacity(256 << 10, output);
    let rows = fanfare_store::export(store, &mut output, &mut bar.report());
    // What an error left in the buffer is not written when it is dropped.
    let _ = output.into_parts();
    rows.map_err(|source| Failure::new(source, name))
}
