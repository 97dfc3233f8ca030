//! An event as a line for people.

use std::fmt::Write as _;
use std::io::{IsTerminal, stdout};

use clap::builder::styling::{AnsiColor, Style};
use fanfare_core::{RoomId, TaskId};
use fanfare_websocket::client::{Event, Message};
use rustix::termios::tcgetwinsize;
use serde::Deserialize;

/// Characters of a line where the terminal does not say its width.
const WIDTH: usize = 160;
/// Characters of the column of types: as many as `user:notification` has.
const KIND: usize = 17;
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
        if let Some(task) = task(event) {
            let _ = write!(rest, "  {task}");
        }
        if let Some(from) = &event.from {
            let _ = write!(rest, "  from {from}");
        }
        let kind_column = format!("{kind:<KIND$}");
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

/// What matters of an event's data: of a program's run a few words, of its output the last line, of anything else all.
fn gist(event: &Event) -> String {
    let json = event.data.as_str();
    let words = match event.kind.as_str() {
        "task:status" => serde_json::from_str(json).ok().and_then(output),
        kind if kind.starts_with("task:") => serde_json::from_str(json).ok().map(run),
        _ => None,
    };
    words.unwrap_or_else(|| json.to_owned())
}

/// What `fanfare exec` says of a run; anything more is somebody else's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    #[serde(rename = "task")]
    _task: String,
    title: Option<String>,
    #[serde(rename = "command")]
    _command: Option<String>,
    error: Option<String>,
    exit_code: Option<u8>,
    signal: Option<String>,
    duration_ms: Option<u32>,
}

fn run(run: Run) -> String {
    let words = [
        run.title,
        run.error,
        run.exit_code.map(|code| format!("exit status {code}")),
        run.signal,
        run.duration_ms
            .map(|ms| format!("after {:.1} s", f64::from(ms) / 1_000.0)),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

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

fn output(status: Status) -> Option<String> {
    let line = status.lines.last().or(status.partial.as_ref())?;
    let mut gist = status.progress.map_or_else(String::new, |progress| {
        format!("{:>3.0}%  ", progress * 100.0)
    });
    gist.push_str(line.text.trim_end());
    let count = |n: u64| format!("{n} line{}", if n == 1 { "" } else { "s" });
    let more = status.lines.len().saturating_sub(1);
    if more > 0 {
        let _ = write!(gist, "  (+{})", count(more as u64));
    }
    if status.dropped > 0 {
        let _ = write!(gist, "  ({} dropped)", count(status.dropped));
    }
    Some(gist)
}

/// The task that an event speaks of, where it came through a user's room alone: the end of its id, which differs most.
fn task(event: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct About {
        task: TaskId,
    }
    let of_a_task = event.kind.as_str().starts_with("task:");
    let named = |room: &RoomId| matches!(room, RoomId::Task(_));
    if !of_a_task || event.rooms.is_empty() || event.rooms.keys().any(named) {
        return None;
    }
    let About { task } = serde_json::from_str(event.data.as_str()).ok()?;
    let id = task.to_string();
    let end = id.get(id.len().saturating_sub(8)..)?;
    Some(format!("task:…{end}"))
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
                "08:17:00.123  metrics:tick      bus  1",
            ),
            (
                "task:status",
                r#"{"user:7":41}"#,
                r#"{"status":"running","progress":0.42,"lines":[{"stream":"stdout","text":"one"},{"stream":"stdout","text":"two"}]}"#,
                "08:17:00.123  task:status       user:7#41   42%  two  (+1 line)",
            ),
            (
                "task:status",
                r#"{"user:7":41}"#,
                r#"{"status":"running","partial":{"stream":"stdout","text":"Continue?"},"dropped":3}"#,
                "08:17:00.123  task:status       user:7#41  Continue?  (3 lines dropped)",
            ),
            (
                "task:created",
                r#"{"user:7":41}"#,
                r#"{"task":"550e8400-e29b-41d4-a716-446655440000","title":"make -j4","command":"make -j4"}"#,
                "08:17:00.123  task:created      user:7#41  task:…55440000  make -j4",
            ),
            (
                "task:started",
                r#"{"task:550e8400-e29b-41d4-a716-446655440000":2}"#,
                r#"{"task":"550e8400-e29b-41d4-a716-446655440000"}"#,
                "08:17:00.123  task:started      task:550e8400-e29b-41d4-a716-446655440000#2",
            ),
            (
                "task:cancelled",
                r#"{"user:7":41}"#,
                r#"{"task":"550e8400-e29b-41d4-a716-446655440000","exit_code":3,"signal":"SIGINT","duration_ms":4010}"#,
                "08:17:00.123  task:cancelled    user:7#41  task:…55440000  exit status 3, SIGINT, after 4.0 s",
            ),
            (
                "task:failed",
                r#"{"user:7":41}"#,
                r#"{"exit_code":3,"by":"somebody else"}"#,
                r#"08:17:00.123  task:failed       user:7#41  {"exit_code":3,"by":"somebody else"}"#,
            ),
            (
                "task:status",
                r#"{"user:7":41}"#,
                r#"{"step":2}"#,
                r#"08:17:00.123  task:status       user:7#41  {"step":2}"#,
            ),
        ];
        for (kind, rooms, data, expected) in cases {
            assert_eq!(line(kind, rooms, data, false), expected);
        }
    }

    #[test]
    fn colours_are_there_only_where_wanted_and_data_is_cut_to_the_window() {
        assert!(
            line("task:failed", "{}", "1", true)
                .contains("\x1b[1m\x1b[31mtask:failed      \x1b[0m")
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
