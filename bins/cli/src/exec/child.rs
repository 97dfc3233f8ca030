//! The command as a process: started under a pty or with pipes, signalled as a group, its end as an exit status.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::Arc;

use fanfare_core::TaskId;
use pty_process::blocking::{self, Pty};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use rustix::termios::tcgetpgrp;

use super::feed::Stream;
use super::terminal::{self, Wiring};

/// A running command.
pub(crate) struct Child {
    process: Process,
    pid: Pid,
    wiring: Wiring,
    pty: Option<Arc<Pty>>,
}

/// Where its output comes from.
pub(crate) enum Output {
    Pty(Arc<Pty>),
    Pipe(File),
}

impl Read for Output {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pty(pty) => match (&**pty).read(buf) {
                // What Linux says when the last process has let go of the terminal.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
                other => other,
            },
            Self::Pipe(pipe) => pipe.read(buf),
        }
    }
}

impl Child {
    /// Starts the command. It finds its task's id in `FANFARE_TASK`.
    pub(crate) fn spawn(
        words: &[OsString],
        wiring: Wiring,
        task: TaskId,
    ) -> io::Result<(Self, Vec<(Stream, Output)>)> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments);
        match Self::start(command, wiring, task) {
            // A script that does not name its interpreter. Every shell runs it, so a shell is asked to.
            Err(error) if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", r#"exec "$0" "$@""#]).args(words);
                Self::start(command, wiring, task)
            }
            started => started,
        }
    }

    fn start(
        mut command: Command,
        wiring: Wiring,
        task: TaskId,
    ) -> io::Result<(Self, Vec<(Stream, Output)>)> {
        command.env("FANFARE_TASK", task.to_string());
        match wiring {
            Wiring::Pty { keyboard, stderr } => Self::under_pty(command, wiring, keyboard, stderr),
            Wiring::Pipes { own_group } => {
                if own_group {
                    command.process_group(0);
                }
                let mut process = command
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()?;
                let mut outputs = Vec::new();
                outputs.extend(
                    process
                        .stdout
                        .take()
                        .map(|out| (Stream::Stdout, pipe(out.into()))),
                );
                outputs.extend(
                    process
                        .stderr
                        .take()
                        .map(|err| (Stream::Stderr, pipe(err.into()))),
                );
                Ok((Self::new(process, wiring, None)?, outputs))
            }
        }
    }

    fn under_pty(
        command: Command,
        wiring: Wiring,
        keyboard: bool,
        stderr: bool,
    ) -> io::Result<(Self, Vec<(Stream, Output)>)> {
        let (pty, pts) = blocking::open().map_err(plain)?;
        pty.resize(terminal::size()).map_err(plain)?;
        let mut command = blocking::Command::from(command);
        if !keyboard {
            command = command.stdin(Stdio::inherit());
        }
        if !stderr {
            command = command.stderr(Stdio::piped());
        }
        let mut process = command.spawn(pts).map_err(plain)?;
        let pty = Arc::new(pty);
        let mut outputs = vec![(Stream::Stdout, Output::Pty(Arc::clone(&pty)))];
        outputs.extend(
            process
                .stderr
                .take()
                .map(|err| (Stream::Stderr, pipe(err.into()))),
        );
        Ok((Self::new(process, wiring, Some(pty))?, outputs))
    }

    fn new(process: Process, wiring: Wiring, pty: Option<Arc<Pty>>) -> io::Result<Self> {
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let pid =
            pid.ok_or_else(|| io::Error::other("the system gave the command no process id"))?;
        Ok(Self {
            process,
            pid,
            wiring,
            pty,
        })
    }

    /// The command's terminal, where our keyboard goes to it.
    pub(crate) fn keyboard(&self) -> Option<&Arc<Pty>> {
        self.pty
            .as_ref()
            .filter(|_| matches!(self.wiring, Wiring::Pty { keyboard: true, .. }))
    }

    /// Gives the command's terminal the size that ours has now.
    pub(crate) fn resize(&self) {
        if let Some(pty) = &self.pty {
            // The next change of size comes to the same result.
            let _ = pty.resize(terminal::size());
        }
    }

    /// What blocks a thread until the command has ended, and leaves its exit status for [`reap`](Self::reap): until
    /// then its process id can't be anybody else's, so signals are safe.
    pub(crate) fn waiter(&self) -> impl FnOnce() + Send + 'static {
        let pid = self.pid;
        move || {
            while let Err(Errno::INTR) = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            ) {}
        }
    }

    /// Hands a signal to the command and what it started.
    pub(crate) fn signal(&self, signal: Signal) {
        // One that has ended just now can't be signalled; that is no error.
        let _ = match self.wiring {
            Wiring::Pipes { own_group: false } => kill_process(self.pid, signal),
            Wiring::Pipes { own_group: true } => kill_process_group(self.pid, signal),
            Wiring::Pty { .. } => {
                // A shell with job control has put its foreground job into another group.
                if let Some(job) = self.foreground().filter(|job| *job != self.pid) {
                    let _ = kill_process_group(job, signal);
                }
                kill_process_group(self.pid, signal)
            }
        };
    }

    /// The foreground job of the command's terminal.
    fn foreground(&self) -> Option<Pid> {
        self.pty
            .as_ref()
            .and_then(|pty| tcgetpgrp(pty.as_fd()).ok())
    }

    /// Whether the command itself, and no job of it, is in the foreground of its terminal.
    pub(crate) fn is_in_its_foreground(&self) -> bool {
        self.foreground() == Some(self.pid)
    }

    /// Tells a command under a terminal that the terminal is gone. One that has a pipe notices by itself.
    pub(crate) fn hang_up(&self) {
        if self.pty.is_some() {
            self.signal(Signal::HUP);
        }
    }

    /// Whether the terminal hands Ctrl-C to the command without our doing.
    pub(crate) fn shares_our_group(&self) -> bool {
        self.wiring == (Wiring::Pipes { own_group: false })
    }

    /// The exit status, once the waiter returned.
    pub(crate) fn reap(mut self) -> io::Result<End> {
        self.process.wait().map(End::from)
    }
}

fn pipe(fd: OwnedFd) -> Output {
    Output::Pipe(File::from(fd))
}

fn plain(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(errno) => errno.into(),
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(u8::try_from(code & 0xff).unwrap_or(1)),
            (None, signal) => Self::Killed(signal.unwrap_or(0)),
        }
    }
}

impl End {
    /// The exit status by which a shell would tell it.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => {
                u8::try_from(signal).map_or(255, |signal| signal.saturating_add(128))
            }
        }
    }
}

/// Why a command could not be started: the shell's exit status for it, and the words.
pub(crate) fn not_started(program: &OsStr, error: &io::Error) -> (u8, String) {
    let program = program.to_string_lossy();
    if error.kind() == io::ErrorKind::NotFound {
        (127, format!("{program}: command not found"))
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        (
            126,
            format!("{program}: permission denied; is it executable?"),
        )
    } else {
        (126, format!("{program}: {error}"))
    }
}

/// `SIGTERM` for 15.
pub(crate) fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::try_from(number - 1)
        .ok()
        .and_then(|index| NAMES.get(index));
    name.map_or_else(|| number.to_string(), |name| format!("SIG{name}"))
}
