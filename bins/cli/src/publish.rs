//! `fanfare publish`: one event, and the receipt for it.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Write, stdin, stdout};

use fanfare_core::{Draft, EventType, Payload, Publish, Retention, RoomId, Target};
use fanfare_websocket::client::{Api, Receipt};

use crate::args::{self, Connection};
use crate::error::Error;

/// Bytes that are read from standard input; a server takes less by default.
const STDIN_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Characters shown around the place where JSON is broken.
const EXCERPT_CHARS: usize = 60;

pub(crate) async fn run(args: args::Publish, connection: &Connection) -> Result<(), Error> {
    let retry_for = args.retry_for;
    let publish = understand(args)?;
    let mut api = Api::new(connection.url.clone(), connection.key()?.clone());
    let receipt = api.publish_within(&publish, retry_for).await?;
    let line = if stdout().is_terminal() {
        pretty(&receipt)
    } else {
        serde_json::to_string(&receipt).map_err(|error| Error::Usage(error.to_string()))?
    };
    writeln!(stdout(), "{line}").map_err(Error::printing)
}

/// What the words and flags ask for. All is checked before anything is sent.
fn understand(args: args::Publish) -> Result<Publish, Error> {
    let usage = |error: fanfare_core::Error| Error::Usage(error.to_string());
    let mut words = args.words;
    let data = words.pop().unwrap_or_default();
    let (room, kind): (Option<RoomId>, Option<EventType>) = match (args.bus, words.as_slice()) {
        (true, [kind]) => (None, Some(kind.parse().map_err(usage)?)),
        (true, _) => {
            return Err(Error::Usage(
                "with --bus there is no room: fanfare publish --bus TYPE DATA".to_owned(),
            ));
        }
        (false, [room, kind]) => (
            Some(room.parse().map_err(usage)?),
            Some(kind.parse().map_err(usage)?),
        ),
        (false, [word]) if word.parse::<EventType>().is_ok() && word.parse::<RoomId>().is_err() => {
            return Err(Error::Usage(format!(
                "{word:?} is a type, and no room was given: fanfare publish ROOM {word} DATA, or --bus for no room"
            )));
        }
        (false, [room, ..]) => (Some(room.parse().map_err(usage)?), None),
        (false, []) => (None, None),
    };
    let kind = match (kind, room) {
        (Some(kind), _) => kind,
        (None, Some(RoomId::User(_))) => "user:notification".parse().map_err(usage)?,
        (None, _) => "chat:message".parse().map_err(usage)?,
    };
    let target = match (room, args.user) {
        (Some(RoomId::Task(task)), users) => Target::Task { task, users },
        (room, users) if users.is_empty() => room.into(),
        _ => {
            return Err(Error::Usage(
                "--user goes with a task's room: its event then reaches those users too".to_owned(),
            ));
        }
    };
    let retention = if args.ephemeral {
        Retention::Ephemeral { key: args.key }
    } else {
        Retention::Kept
    };
    let notify = (args.notify || args.no_notify).then_some(args.notify);
    let data = payload(data)?;
    Ok(Publish {
        target,
        draft: Draft {
            id: args.id,
            retention,
            notify,
            ..Draft::new(kind, data)
        },
    })
}

fn payload(word: String) -> Result<Payload, Error> {
    let text = if word == "-" { read_stdin()? } else { word };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        return Err(Error::Usage(broken(&text, &error)));
    }
    Payload::parse(text.trim())
        .map_err(|error| Error::Usage(format!("the data can't be sent: {error}")))
}

fn read_stdin() -> Result<String, Error> {
    let mut text = String::new();
    let read = stdin()
        .lock()
        .take(STDIN_BYTES_MAX + 1)
        .read_to_string(&mut text);
    let length = read.map_err(|source| Error::System {
        what: "can't read the data from standard input",
        source,
    })?;
    if length as u64 > STDIN_BYTES_MAX {
        return Err(Error::Usage(format!(
            "the data on standard input is over {STDIN_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

/// Says what is wrong and shows where.
fn broken(text: &str, error: &serde_json::Error) -> String {
    let mut message = format!("the data is no JSON: {error}");
    let Some(line) = text.lines().nth(error.line().saturating_sub(1)) else {
        return message;
    };
    // serde_json counts bytes from 1; at the end of the input it points behind the last one.
    let at = (0..=error.column().saturating_sub(1).min(line.len()))
        .rev()
        .find(|at| line.is_char_boundary(*at))
        .unwrap_or(0);
    let (before, after) = line.split_at(at);
    let shown: Vec<char> = before.chars().rev().take(EXCERPT_CHARS / 2).collect();
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let before: String = shown.iter().rev().copied().map(printable).collect();
    let after: String = after
        .chars()
        .take(EXCERPT_CHARS / 2)
        .map(printable)
        .collect();
    let _ = write!(
        message,
        "\n  {before}{after}\n  {:>width$}",
        '^',
        width = shown.len() + 1
    );
    message
}

fn pretty(receipt: &Receipt) -> String {
    let mut line = format!(
        "{} {}",
        if receipt.duplicate {
            "was published before:"
        } else {
            "published"
        },
        receipt.id
    );
    for (room, at) in &receipt.rooms {
        let _ = write!(line, "  {room} #{} ({} connected)", at.seq, at.connected);
    }
    line
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    const TASK: &str = "task:550e8400-e29b-41d4-a716-446655440000";

    fn publish(words: &[&str]) -> Result<Publish, String> {
        let words = ["fanfare", "publish"].iter().chain(words);
        let Command::Publish(args) = Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command
        else {
            panic!("another command");
        };
        understand(args).map_err(|error| error.to_string())
    }

    #[test]
    fn words_and_flags_become_a_publish() {
        let got = publish(&["user:7", "user:notification", r#"{"text":"smoke"}"#]).unwrap();
        assert_eq!(got.target, Target::User("7".parse().unwrap()));
        assert_eq!(got.draft.data.as_str(), r#"{"text":"smoke"}"#);
        assert_eq!((got.draft.notify, got.draft.id), (None, None));

        let got = publish(&[
            TASK,
            "task:status",
            "{}",
            "--user",
            "7,8",
            "--user",
            "9",
            "--ephemeral",
            "--key",
            "p",
            "--no-notify",
        ])
        .unwrap();
        let Target::Task { users, .. } = got.target else {
            panic!("no task")
        };
        assert_eq!(users.len(), 3);
        assert_eq!(
            got.draft.retention,
            Retention::Ephemeral {
                key: Some("p".parse().unwrap())
            }
        );
        assert_eq!(got.draft.notify, Some(false));

        assert_eq!(
            publish(&["--bus", "metrics:tick", "-1"]).unwrap().target,
            Target::Bus
        );
        assert_eq!(
            publish(&["user:7", "1"]).unwrap().draft.kind.as_str(),
            "user:notification"
        );
        assert_eq!(
            publish(&[TASK, "1"]).unwrap().draft.kind.as_str(),
            "chat:message"
        );
    }

    #[test]
    fn a_mistake_is_told_before_anything_is_sent() {
        let cases: &[(&[&str], &str)] = &[
            (&["user:07", "a:b", "1"], "07"),
            (&["room:7", "a:b", "1"], "task:{uuid}"),
            (&["user:7", "nope", "1"], "namespace:name"),
            (&["chat:message", "1"], "no room was given"),
            (&["--bus", "user:7", "a:b", "1"], "there is no room"),
            (
                &["user:7", "a:b", "1", "--user", "8"],
                "--user goes with a task's room",
            ),
            (&["user:7", "a:b", "1", "--key", "k"], "--ephemeral"),
            (&["user:7", "a:b", "1", "--id", "a b"], "event id"),
            (&["user:7", "a:b", r#"{"a":1,}"#], "line 1 column 8"),
            (&["user:7", "a:b", ""], "no JSON"),
            (&["user:7", "a:b", "{'a':1}"], "key must be a string"),
        ];
        for (words, expected) in cases {
            let error = publish(words).expect_err(&format!("{words:?}"));
            assert!(error.contains(expected), "{words:?}: {error}");
        }
    }

    #[test]
    fn the_place_of_a_json_mistake_is_shown() {
        let text = r#"{"text":"grüße" "x":1}"#;
        let error = serde_json::from_str::<serde::de::IgnoredAny>(text).unwrap_err();
        let shown = broken(text, &error);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[1], format!("  {text}"));
        let caret = lines[2].chars().count() - 1;
        assert_eq!(
            lines[1].chars().skip(caret).collect::<String>(),
            r#""x":1}"#
        );
        let text = format!("[{}", "1,".repeat(1_000));
        let error = serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap_err();
        assert!(broken(&text, &error).len() < 300);
    }
}
