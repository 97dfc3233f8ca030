//! An event as a line for people.

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};

use clap::builder::styling::{AnsiColor, Style};
use fanfare_websocket::client::{Event, Message};
use rustix::termios::tcgetwinsize;
use serde::Deserialize;

/// Characters of a line where the terminal does not say its width.
const WIDTH: usize = 160;
/// Fewer than this are not worth showing, however narrow the terminal.
const DATA_CHARS_MIN: usize = 24;

pub(super) struct Pretty {
    colour: bool,
    width: Option<usize>,
}

impl Pretty {
    /// Colours on a terminal, unless NO_COLOR is set or it can't.
    pub(super) fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            colour: stdout().is_terminal() && !set("NO_COLOR") && !dumb,
            width: None,
        }
    }

    pub(super) fn line(&self, message: &Message) -> String {
        match message {
            Message::Event(event) => self.event(event),
            Message::System(system) => self.paint(Style::new().dimmed(), &printable(&system.text)),
        }
    }

    fn event(&self, event: &Event) -> String {
        // `2026-11-23T08:17:00.123Z`: the day is today for who watches.
        let time = event.at.get(11..23).unwrap_or(&event.at);
        let kind = event.kind.as_str();
        let rooms: Vec<_> = event
            .rooms
            .iter()
            .map(|(room, seq)| format!("{room}#{seq}"))
            .collect();
        let rooms = if rooms.is_empty() {
            "bus".to_owned()
        } else {
            rooms.join(" ")
        };
        let mut rest = rooms;
        if let Some(from) = &event.from {
            let _ = write!(rest, "  from {from}");
        }
        let kind_column = format!("{kind:<15}");
        let head = time.chars().count() + kind_column.len() + rest.chars().count() + 5;
        let room_for = self.columns().saturating_sub(head).max(DATA_CHARS_MIN);
        let data = cut(&printable(&gist(event)), room_for);
        let time = self.paint(Style::new().dimmed(), &printable(time));
        let kind = self.paint(style(kind), &kind_column);
        format!("{time}  {kind} {}  {data}", printable(&rest))
            .trim_end()
            .to_owned()
    }

    /// Asked for each line: a window may have been resized.
    fn columns(&self) -> usize {
        let ours = || {
            tcgetwinsize(stdout())
                .ok()
                .map(|size| usize::from(size.ws_col))
                .filter(|columns| *columns > 0)
        };
        self.width.or_else(ours).unwrap_or(WIDTH)
    }

    fn paint(&self, style: Style, text: &str) -> String {
        if self.colour {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }
}

fn style(kind: &str) -> Style {
    let colour = match kind {
        "task:completed" => AnsiColor::Green,
        "task:failed" | "task:deleted" => AnsiColor::Red,
        "task:cancelled" => AnsiColor::Yellow,
        kind if kind.starts_with("task:") => AnsiColor::Cyan,
        kind if kind.starts_with("chat:") => AnsiColor::Magenta,
        _ => AnsiColor::Blue,
    };
    colour.on_default().bold()
}

/// What matters of an event's data: of a program's output the last line, of anything else all of it.
fn gist(event: &Event) -> String {
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        lines: Vec<Line>,
        partial: Option<Line>,
        progress: Option<f64>,
        #[serde(default)]
        dropped: u64,
    }
    #[derive(Deserialize)]
    struct Line {
        text: String,
    }
    let json = event.data.as_str();
    if event.kind.as_str() != "task:status" {
        return json.to_owned();
    }
    let Ok(status) = serde_json::from_str::<Status>(json) else {
        return json.to_owned();
    };
    let Some(line) = status.lines.last().or(status.partial.as_ref()) else {
        return json.to_owned();
    };
    let mut gist = status.progress.map_or_else(String::new, |progress| {
        format!("{:>3.0}%  ", progress * 100.0)
    });
    gist.push_str(line.text.trim_end());
    let more = status.lines.len().saturating_sub(1);
    if more > 0 {
        let _ = write!(gist, "  (+{more} lines)");
    }
    if status.dropped > 0 {
        let _ = write!(gist, "  ({} lines dropped)", status.dropped);
    }
    gist
}

/// Text of others has no control over this terminal: neither by control characters nor by turning the reading direction.
fn printable(text: &str) -> String {
    let harmless = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(harmless).collect()
}

fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(chars.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, rooms: &str, data: &str, colour: bool) -> String {
        let text = format!(
            r#"{{"type":"{kind}","id":"a","at":"2026-11-23T08:17:00.123Z","rooms":{rooms},"data":{data}}}"#
        );
        Pretty {
            colour,
            width: Some(100),
        }
        .line(&Message::parse(&text).unwrap())
    }

    #[test]
    fn an_event_is_one_line_that_a_person_can_read() {
        let cases = [
            (
                "user:notification",
                r#"{"user:7":41}"#,
                r#"{"text":"hi"}"#,
                r#"08:17:00.123  user:notification user:7#41  {"text":"hi"}"#,
            ),
            (
                "metrics:tick",
                "{}",
                "1",
                "08:17:00.123  metrics:tick    bus  1",
            ),
            (
                "task:status",
                r#"{"user:7":41}"#,
                r#"{"status":"running","progress":0.42,"lines":[{"stream":"stdout","text":"one"},{"stream":"stdout","text":"two"}]}"#,
                "08:17:00.123  task:status     user:7#41   42%  two  (+1 lines)",
            ),
            (
                "task:status",
                r#"{"user:7":41}"#,
                r#"{"status":"running","partial":{"stream":"stdout","text":"Continue?"},"dropped":3}"#,
                "08:17:00.123  task:status     user:7#41  Continue?  (3 lines dropped)",
            ),
            (
                "task:status",
                r#"{"user:7":41}"#,
                r#"{"step":2}"#,
                r#"08:17:00.123  task:status     user:7#41  {"step":2}"#,
            ),
        ];
        for (kind, rooms, data, expected) in cases {
            assert_eq!(line(kind, rooms, data, false), expected);
        }
    }

    #[test]
    fn colours_are_there_only_where_wanted_and_data_is_cut_to_the_window() {
        assert!(
            line("task:failed", "{}", "1", true).contains("\x1b[1m\x1b[31mtask:failed    \x1b[0m")
        );
        let long = format!("\"{}\"", "é".repeat(500));
        let shown = line("chat:message", "{}", &long, false);
        assert_eq!(shown.chars().count(), 100);
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let shown = line("chat:message", "{}", "\"a\u{9b}31m\u{7f}\u{202e}b\"", false);
        assert!(
            shown.ends_with("\"a\u{fffd}31m\u{fffd}\u{fffd}b\""),
            "{shown:?}"
        );
        let data = r#"{"lines":[{"text":"\u001b[31mred"}]}"#;
        assert!(!line("task:status", "{}", data, false).contains('\x1b'));
    }
}
