//! Log lines to standard error: text for a person at a terminal, JSON for a program.
//!
//! Only Fanfare's own lines, whatever the filter says: libraries log the messages that they carry, tokens and payloads
//! among them. What comes by the `log` crate (tungstenite's, for one) is not even listened to.

use std::ffi::OsStr;
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
    let colours = terminal && wants_colours(std::env::var_os("NO_COLOR").as_deref());
    let lines = fmt::layer().with_writer(stderr).with_ansi(colours);
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

/// By <https://no-color.org>: not where `NO_COLOR` says anything at all.
fn wants_colours(no_color: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sets_no_color_gets_none() {
        for (no_color, wanted) in [(None, true), (Some(""), true), (Some("1"), false)] {
            assert_eq!(
                wants_colours(no_color.map(OsStr::new)),
                wanted,
                "{no_color:?}"
            );
        }
    }
}
