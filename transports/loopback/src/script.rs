//! What a script has done so far, for the message of one that fails.

use fanfare_core::Time;
use std::collections::VecDeque;
use std::fmt;

/// Lines that are kept: a long script's end matters more than its beginning.
const LINES_MAX: usize = 60;

#[derive(Debug, Default)]
pub(crate) struct Script {
    lines: VecDeque<(Time, String)>,
    left_out: usize,
}

impl Script {
    pub(crate) fn note(&mut self, time: Time, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
            self.left_out += 1;
        }
        self.lines.push_back((time, line));
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.left_out > 0 {
            writeln!(f, "    … {} lines before", self.left_out)?;
        }
        for (time, line) in &self.lines {
            writeln!(f, "    {} {line}", seconds(*time))?;
        }
        Ok(())
    }
}

/// `12.345 s`, for people.
pub(crate) fn seconds(time: Time) -> String {
    let millis = time.as_millis();
    format!("{:>4}.{:03} s", millis / 1_000, millis % 1_000)
}
