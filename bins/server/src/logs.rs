//! Log lines to standard error: text for a person at a terminal, JSON for a program.
//!
//! Only Fanfare's own lines, whatever the filter says: libraries log the messages that they carry, tokens and payloads
//! among them. What comes by the `log` crate (tungstenite's, for one) is not even listened to.

use std::io::{IsTerminal, stderr};

use tracing::subscriber::set_global_default;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::settings::LogFormat;

/// What the targets of Fanfare's own crates begin with.
const OWN: &str = "fanfare";

/// Starts logging. `filter` was checked when the settings were read.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let terminal = stderr().is_terminal();
    let lines = fmt::layer().with_writer(stderr).with_ansi(terminal);
    let lines = if format == LogFormat::Text || (format == LogFormat::Auto && terminal) {
        lines.with_target(false).boxed()
    } else {
        let json = lines.json().flatten_event(true);
        json.with_current_span(false).with_span_list(false).boxed()
    };
    let own = filter_fn(|line| line.target().starts_with(OWN));
    let lines = lines.with_filter(own);
    let subscriber = registry().with(EnvFilter::new(filter)).with(lines);
    // Nobody else in this program starts logging.
    let _ = set_global_default(subscriber);
}
