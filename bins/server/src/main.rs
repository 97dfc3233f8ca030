//! `fanfare-server`: broadcasts events to WebSocket clients, and takes them from back ends by HTTP. Of a server that does
//! not run, `fanfare-server store` looks after the data.
#![forbid(unsafe_code)]

mod assets;
mod data;
#[cfg(test)]
mod documentation;
mod logs;
mod open_files;
mod relaxed;
mod run;
mod secrets;
mod settings;
mod shards;
mod signals;
mod sources;
mod storage;
mod store;
mod welcome;

use std::fmt::Display;
use std::process::ExitCode;

use crate::run::Failure;
use crate::sources::Stop;

/// Exit code where settings are wrong or missing.
const WRONG_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    // Where even this fails, such a write ends the process.
    let _held = signals::outlive_the_limit_of_files();
    let sources = match sources::read(std::env::args_os(), std::env::vars_os()) {
        Ok(sources) => sources,
        Err(Stop::Arguments(error)) => error.exit(),
        Err(Stop::Wrong(errors)) => return complain(&errors, WRONG_SETTINGS),
        Err(Stop::Store(maintenance)) => {
            let done = store::run(&maintenance);
            return done.map_or_else(|error| complain(&[error], 1), |()| ExitCode::SUCCESS);
        }
    };
    match run::run(&sources) {
        Ok(code) => code,
        Err(Failure::Settings(errors)) => complain(&errors, WRONG_SETTINGS),
        Err(Failure::Start(error)) => complain(&[error], 1),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "there may be no log yet, and a person has to read it"
)]
fn complain<E: Display>(errors: &[E], code: u8) -> ExitCode {
    for error in errors {
        eprintln!("fanfare-server: {error}");
    }
    ExitCode::from(code)
}
