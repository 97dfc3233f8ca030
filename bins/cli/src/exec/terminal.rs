//! The terminal on our side: whether there is one, its size, and its raw mode.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd};

use pty_process::Size;
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};

/// What the command gets for its standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wiring {
    /// A terminal of its own, so that it colours and draws as usual.
    Pty {
        /// Our keyboard goes there; otherwise our standard input is the command's.
        keyboard: bool,
        /// Standard error goes there too; otherwise through a pipe, as it is redirected here.
        stderr: bool,
    },
    /// Pipes for its output, our standard input as it is.
    Pipes {
        /// Whether the command may have a process group of its own. In the foreground of a terminal it must not:
        /// it could not read from the terminal, and the terminal's Ctrl-C would not reach it.
        own_group: bool,
    },
}

impl Wiring {
    /// `pty`: the user's wish; otherwise a pty where standard output is a terminal.
    pub(crate) fn choose(pty: Option<bool>) -> Self {
        if pty.unwrap_or_else(|| stdout().is_terminal()) {
            let keyboard = stdin().is_terminal() && in_foreground(stdin().as_fd());
            Self::Pty {
                keyboard,
                stderr: stderr().is_terminal() || !stdout().is_terminal(),
            }
        } else {
            let terminal = std::fs::File::open("/dev/tty");
            Self::Pipes {
                own_group: !terminal.is_ok_and(|terminal| in_foreground(terminal.as_fd())),
            }
        }
    }
}

/// Whether we are the terminal's foreground job; only that may change its mode and read from it.
fn in_foreground(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}

/// The size of our terminal, or of a classic one where there is none.
pub(crate) fn size() -> Size {
    match tcgetwinsize(stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            Size::new_with_pixel(size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel)
        }
        _ => Size::new(24, 80),
    }
}

/// Our terminal in raw mode, until this is dropped: every key goes to the command's own terminal, which makes of it
/// what that is set to.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    pub(crate) fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}
