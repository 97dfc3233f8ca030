//! The programs that are measured: built beside this one, each on the core that it is to have.

use std::env::var;
use std::process::Command;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::Outcome;

/// A command that runs `name`, which was built beside this program, on the core that the variable says, if it says one.
pub(crate) fn pinned(name: &str, variable: &str) -> Outcome<Command> {
    let program = std::env::current_exe()?.with_file_name(name);
    if !program.exists() {
        let path = program.display();
        return Err(format!("there is no {path}: build it first, as this one was").into());
    }
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
