//! Log lines to standard error: text for a person at a terminal, JSON for a program.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

/// Starts logging. `filter` was checked when the settings were read.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let filter = EnvFilter::new(filter);
    let terminal = stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(terminal);
    if format == LogFormat::Text || (format == LogFormat::Auto && terminal) {
        lines.with_target(false).init();
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    }
}
