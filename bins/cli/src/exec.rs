//! `fanfare exec`: runs a program as a task.
//!
//! `child` is the process, `pump` carries its output to ours and as `lines` into the `feed`, `deliver` takes the feed
//! to the server. The first three never wait for the last.

mod child;
mod deliver;
mod feed;
mod lines;
mod notes;
mod progress;
mod pump;
mod secrets;
mod terminal;
mod watch;

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_signal::Signals;
use fanfare_core::TaskId;
use fanfare_websocket::client::{Api, fresh_id};
use serde_json::json;

use crate::args::{Connection, Exec};
use crate::error::Error;
use child::{Child, End, not_started, signal_name};
use deliver::Delivery;
use feed::{Feed, Left};
use notes::Notes;
use pump::Shared;
use secrets::Secrets;
use terminal::Wiring;
use watch::{Outcome, watch};

/// How long the delivery may last without a word that it is waited for.
const UNREMARKED: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: Exec, connection: &Connection) -> Result<u8, Error> {
    let key = connection.key()?.clone();
    let task = match args.task {
        Some(task) => task,
        None => fresh_task(),
    };
    let notes = Notes::new(args.quiet);
    let user = args
        .user
        .first()
        .map_or_else(String::new, |user| format!("user={user}&"));
    notes.say(&format!(
        "task {task}, to be seen by\n  fanfare tail task:{task}\n  {}/#{user}task={task}",
        connection.url
    ));
    let (shared, news) = Shared::new(
        Feed::new(task, fresh_id().to_string()),
        Secrets::of(connection),
    );
    let command = shown(&args.command);
    // What comes through a user's room names that room only: so the data says which task it is about.
    let created = match &args.title {
        Some(title) => json!({ "task": task, "title": title }),
        None => {
            let command = shared.mask(command);
            json!({ "task": task, "title": command, "command": command })
        }
    };
    shared.with(|feed| feed.say("task:created", &created));
    let delivery = Delivery {
        api: Api::new(connection.url.clone(), key),
        task,
        users: args.user.clone(),
        shared: Arc::clone(&shared),
        news,
        notes: notes.clone(),
    };
    let delivery = smol::spawn(delivery.run());

    let pty = if args.pty {
        Some(true)
    } else {
        args.no_pty.then_some(false)
    };
    // Caught before the command starts: a signal that comes early finds us ready.
    let mut signals = watch::catch()?;
    let started = Instant::now();
    let status = match Child::spawn(&args.command, Wiring::choose(pty), task) {
        Ok((child, outputs)) => {
            shared.with(|feed| feed.say("task:started", &json!({ "task": task })));
            let outcome = watch(child, outputs, &shared, &notes, &mut signals).await?;
            tell(&shared, task, &outcome, started.elapsed());
            outcome.end.status()
        }
        Err(error) => {
            let (status, words) =
                not_started(args.command.first().unwrap_or(&OsString::new()), &error);
            notes.warn(&words);
            shared.with(|feed| {
                feed.end(
                    "task:failed",
                    &json!({ "task": task, "exit_code": status, "error": shared.mask(words) }),
                )
            });
            status
        }
    };
    linger(delivery, &shared, args.linger, &mut signals, &notes).await;
    Ok(status)
}

fn fresh_task() -> TaskId {
    fresh_id()
        .as_str()
        .parse()
        .unwrap_or_else(|_| unreachable!("a fresh id is a UUID"))
}

/// The command line for people to read, quoted where a shell would need it.
fn shown(words: &[OsString]) -> String {
    let quoted = words.iter().map(|word| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The last event of the task.
fn tell(shared: &Shared, task: TaskId, outcome: &Outcome, took: Duration) {
    let Outcome { end, asked } = *outcome;
    let mut data = serde_json::Map::new();
    data.insert("task".to_owned(), task.to_string().into());
    match end {
        End::Exited(code) => data.insert("exit_code".to_owned(), code.into()),
        End::Killed(signal) => data.insert("signal".to_owned(), signal_name(signal).into()),
    };
    if let Some(signal) = asked {
        data.entry("signal").or_insert_with(|| signal.into());
    }
    data.insert(
        "duration_ms".to_owned(),
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into(),
    );
    let kind = match (asked, end) {
        (Some(_), _) => "task:cancelled",
        (None, End::Exited(0)) => "task:completed",
        (None, _) => "task:failed",
    };
    shared.with(|feed| feed.end(kind, &data));
}

/// Waits for what is not delivered yet; a signal ends the wait. Says what stays behind.
async fn linger(
    delivery: smol::Task<()>,
    shared: &Shared,
    limit: Duration,
    signals: &mut Signals,
    notes: &Notes,
) {
    let asked = async {
        watch::next_end(signals).await;
    };
    let in_vain = async {
        async_io::Timer::after(limit.min(UNREMARKED)).await;
        if limit > UNREMARKED {
            notes.say(
                "the command has ended, its last events wait for the server; Ctrl-C ends the wait",
            );
            async_io::Timer::after(limit - UNREMARKED).await;
        }
    };
    smol::future::or(delivery, smol::future::or(asked, in_vain)).await;
    let Left { events, lines } = shared.with_quietly(|feed| feed.left());
    if (events, lines) != (0, 0) {
        notes.warn(&format!(
            "not delivered: {} and {}",
            count(events, "event"),
            count(lines, "line")
        ));
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_as_it_could_be_typed() {
        let cases: &[(&[&str], &str)] = &[
            (&["cargo", "build", "-p=x"], "cargo build -p=x"),
            (
                &["sh", "-c", "echo it's $HOME"],
                r"sh -c 'echo it'\''s $HOME'",
            ),
            (&["x", "", "a b"], "x '' 'a b'"),
        ];
        for (words, expected) in cases {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            assert_eq!(shown(&words), *expected);
        }
    }
}
