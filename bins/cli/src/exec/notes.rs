//! What `fanfare exec` itself has to say, on standard error, beside what the command prints there.

use std::io::{Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone)]
pub(crate) struct Notes {
    quiet: bool,
    /// In raw mode a line feed alone does not go back to the first column.
    raw: Arc<AtomicBool>,
}

impl Notes {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            quiet,
            raw: Arc::new(AtomicBool::new(false)),
        }
    }

    pub(crate) fn set_raw(&self, raw: bool) {
        self.raw.store(raw, Ordering::Relaxed);
    }

    /// Something that is good to know.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// Something that went wrong.
    pub(crate) fn warn(&self, text: &str) {
        let end = if self.raw.load(Ordering::Relaxed) {
            "\r\n"
        } else {
            "\n"
        };
        let line = format!("fanfare: {text}").replace('\n', end) + end;
        // One write, so that it stays in one piece among what the command prints.
        let _ = stderr().write_all(line.as_bytes());
    }
}
