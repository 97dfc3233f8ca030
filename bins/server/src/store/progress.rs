//! How far a task is, for a person who waits.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use fanfare_store::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A task that is done within this shows nothing.
const LONG: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// Before the first row and after the last one nothing says how far it is.
const UNKNOWN: &str = "{spinner} {msg} {elapsed}";
const KNOWN: &str = "{spinner} {msg} {bar:30} {percent}% of {len} rows, {eta} left";

/// On standard error, if that is a terminal and the task takes long. Gone when it is dropped.
pub(super) struct Bar {
    bar: ProgressBar,
    /// Dropped with the bar, which ends the wait for a task that takes long.
    _waits: Option<mpsc::Sender<()>>,
}

impl Bar {
    pub(super) fn new(doing: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(style(UNKNOWN))
            .with_message(doing);
        let waits = stderr().is_terminal().then(|| {
            let (waits, ended) = mpsc::channel();
            let bar = bar.clone();
            thread::spawn(move || {
                if ended.recv_timeout(LONG) == Err(RecvTimeoutError::Timeout) {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(TICK);
                }
            });
            waits
        });
        Self { bar, _waits: waits }
    }

    /// What a task is to call after each part.
    pub(super) fn report(&self) -> impl FnMut(Progress) {
        let mut known = false;
        move |Progress { done, total }| {
            if known != (done < total) {
                known = !known;
                self.bar
                    .set_style(style(if known { KNOWN } else { UNKNOWN }));
            }
            self.bar.set_length(total);
            self.bar.set_position(done);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
