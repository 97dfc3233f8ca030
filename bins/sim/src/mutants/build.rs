//! Builds this program once more, with the faults in it, and lets that do the work.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::Mutants;
use crate::{say, verdict};

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

pub(crate) fn run(_: &Mutants) -> ExitCode {
    let target = Path::new(SOURCES).join("../../target/mutants");
    let mut flags = env::var_os("RUSTFLAGS").unwrap_or_default();
    flags.push(" --cfg fanfare_mutants");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut build = Command::new(cargo);
    build
        .args(["build", "--release", "--locked", "--package", "fanfare-sim"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(SOURCES)
        .env("RUSTFLAGS", flags);
    let mut table = Command::new(target.join("release/fanfare-sim"));
    table.args(env::args_os().skip(1));
    for mut command in [build, table] {
        let program = command.get_program().to_owned();
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok());
                return ExitCode::from(code.unwrap_or(verdict::USAGE));
            }
            Err(error) => {
                say(&format!("fanfare-sim: {}: {error}", program.display()));
                return ExitCode::from(verdict::USAGE);
            }
        }
    }
    ExitCode::SUCCESS
}
