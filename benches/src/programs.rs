//! The programs that are measured: built beside this one, each on the core that it is to have.

use std::env::var;
use std::path::PathBuf;
use std::process::Command;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Outcome;

/// A program that was built beside this one.
///
/// # Errors
/// Where it was not.
///
/// ```
/// assert!(fanfare_benches::sibling("no-such-program").is_err());
/// ```
pub fn sibling(name: &str) -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    Err(format!(
        "there is no {}: build it first, as this one was",
        path.display()
    )
    .into())
}

/// A command that runs `name` on the core that the variable says, if it says one.
///
/// # Errors
/// As [`sibling`].
///
/// ```
/// assert!(fanfare_benches::pinned("no-such-program", "LOAD_SERVER_CPU").is_err());
/// ```
pub fn pinned(name: &str, variable: &str) -> Outcome<Command> {
    let program = sibling(name)?;
    let Ok(cpu) = var(variable) else {
        return Ok(Command::new(program));
    };
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu]).arg(program);
    Ok(command)
}

/// Keeps this thread, and those that it starts, on the core that the variable says, if it says one.
///
/// # Errors
/// Where it is no core.
///
/// ```
/// fanfare_benches::pin("NO_SUCH_VARIABLE")?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub fn pin(variable: &str) -> Outcome<()> {
    if let Ok(cpu) = var(variable) {
        let mut set = CpuSet::new();
        set.set(cpu.parse()?);
        sched_setaffinity(None, &set)?;
    }
    Ok(())
}
