//! `fanfare-sim`: the server that ships, its network and its clients in one seeded, deterministic simulation.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    reason = "of JSON, where what is absent is null"
)]

mod apart;
mod bunch;
mod check;
mod coverage;
mod determinism;
mod device;
mod direct;
mod disk;
mod fault;
mod garble;
mod generate;
mod history;
mod link;
mod listener;
mod machine;
mod meter;
mod mutants;
mod names;
mod net;
mod oracle;
mod outlets;
mod outside;
mod panics;
mod picture;
mod place;
mod plan;
mod presence;
mod publisher;
mod replay;
mod run;
mod shipped;
mod shrink;
mod storage;
mod story;
mod tally;
mod tap;
mod trace;
mod verdict;
mod wire;
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs Fanfare's server with simulated clients, networks and clocks, and judges what they see.
#[derive(Debug, Parser)]
#[command(version, after_help = verdict::EXIT_CODES)]
struct Args {
    /// The fault that is planted in the server
    #[cfg(fanfare_mutants)]
    #[arg(long, global = true, value_name = "MUTANT", value_parser = mutants::named)]
    plant: Option<fanfare_core::mutants::Mutant>,
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Runs the worlds of these seeds, and stops at the first that fails
    Run(run::Run),
    /// Runs the worlds of these seeds twice here and once in another process, and compares them step by step
    Determinism(determinism::Determinism),
    /// Runs a plan
    Replay(replay::Replay),
    /// Prints the plan of a seed, each step with what comes of it
    Plan {
        /// The seed
        seed: u64,
    },
    /// Judges the real program over loopback TCP, with broken lines and `kill -9`, at the pace of the clock
    Outside(outside::Outside),
    /// Looks for the shortest plan that fails as this one does
    Shrink(shrink::Shrink),
    /// Plants deliberate faults in the server, and says which oracle finds each
    Mutants(mutants::Mutants),
}

fn main() -> ExitCode {
    let args = Args::parse();
    panics::keep();
    #[cfg(fanfare_mutants)]
    fanfare_core::mutants::plant(args.plant);
    match args.command {
        Subcommands::Run(args) => run::run(&args),
        Subcommands::Determinism(args) => determinism::run(&args),
        Subcommands::Replay(args) => replay::run(&args),
        Subcommands::Plan { seed } => {
            let plan = generate::generate(seed);
            print(&plan.to_json(&story::tell(&plan).0))
        }
        Subcommands::Outside(args) => outside::run(&args),
        Subcommands::Shrink(args) => shrink::run(&args),
        Subcommands::Mutants(args) => mutants::run(&args),
    }
}

/// What is to be kept, to standard output: a file that lacks its end is said.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let mut out = std::io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "fanfare-sim: it can't be written: {error}"
            );
            ExitCode::from(verdict::USAGE)
        }
    }
}

/// A line to standard output, which may be closed.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
