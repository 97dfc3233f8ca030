//! `fanfare`: what a person types. Publish, watch, make tokens, run programs as tasks, measure a server.
#![forbid(unsafe_code)]

mod args;
// By epoll, a timer of the kernel's and /proc.
#[cfg(target_os = "linux")]
mod bench;
mod error;
mod exec;
mod history;
mod inbox;
mod publish;
mod tail;
mod token;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::CommandFactory;

use args::{Cli, Command};
use error::Error;

fn main() -> ExitCode {
    let cli = Cli::understand(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            if !matches!(error, Error::BrokenPipe) {
                let _ = writeln!(stderr(), "fanfare: {}", error.words());
            }
            ExitCode::from(error.status())
        }
    }
}

fn run(cli: Cli) -> Result<u8, Error> {
    let connection = &cli.connection;
    match cli.command {
        Command::Token(args) => token::run(args, connection)?,
        Command::Publish(args) => smol::block_on(publish::run(args, connection))?,
        Command::Tail(args) => smol::block_on(tail::run(args, connection))?,
        Command::History(args) => smol::block_on(history::run(args, connection))?,
        Command::Inbox(args) => smol::block_on(inbox::run(args, connection))?,
        Command::Exec(args) => return smol::block_on(exec::run(args, connection)),
        #[cfg(target_os = "linux")]
        Command::Bench(args) => return Ok(u8::from(!bench::run(&args, connection)?)),
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "fanfare", &mut script);
            stdout().write_all(&script).map_err(Error::printing)?;
        }
    }
    Ok(0)
}
