//! The line that tells how far a run is, while there is somebody to see it.

use std::io::{IsTerminal, Write, stderr};

use rustix::termios::tcgetwinsize;

pub(crate) struct Live {
    shown: bool,
    wanted: bool,
}

impl Live {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            shown: false,
            wanted: !quiet && stderr().is_terminal(),
        }
    }

    /// Puts a line in the place of the last one.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if self.wanted {
            self.shown = true;
            // A line that is broken in two could not be put away again.
            let width = tcgetwinsize(stderr()).map_or(80, |size| size.ws_col.max(2));
            let line: String = line().chars().take(usize::from(width) - 1).collect();
            let _ = write!(stderr(), "\r\x1b[K{line}");
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
