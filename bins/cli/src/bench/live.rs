//! The line that tells how far a run is, while there is somebody to see it.

use std::io::{IsTerminal, Write, stderr};

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
            let _ = write!(stderr(), "\r\x1b[K{}", line());
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
