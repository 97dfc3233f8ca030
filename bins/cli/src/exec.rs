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

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_signal::{Signal, Signals};
use fanfare_core::TaskId;
use fanfare_websocket::client::{Api, fresh_id};
use futures::StreamExt;
use rustix::process::Signal as Number;
use serde_json::json;

use crate::args::{Connection, Exec};
use crate::error::Error;
use child::{Child, End, not_started, signal_name};
use deliver::Delivery;
use feed::{Feed, Left};
use notes::Notes;
use pump::Shared;
use secrets::Secrets;
use terminal::{Raw, Wiring};

/// How long output may still come after the command ended, from processes that it left behind.
const AFTERMATH: Duration = Duration::from_secs(1);

/// The signals that ask a command to end.
const ENDS: [(Signal, &str, Number); 4] = [
    (Signal::Int, "SIGINT", Number::INT),
    (Signal::Term, "SIGTERM", Number::TERM),
    (Signal::Hup, "SIGHUP", Number::HUP),
    (Signal::Quit, "SIGQUIT", Number::QUIT),
];

/// What can happen while the command runs.
enum Happening {
    Ended,
    Signal(Signal),
    /// The key was typed of which the command's terminal makes SIGINT.
    Interrupted,
    /// Something was typed after it: the command did not end by it.
    TypedOn,
}

pub(crate) async fn run(args: Exec, connection: &Connection) -> Result<u8, Error> {
    let key = connection.key()?.clone();
    let task = match args.task {
        Some(task) => task,
        None => fresh_task(),
    };
    let notes = Notes::new(args.quiet);
    notes.say(&format!("task {task}"));
    let user = args
        .user
        .first()
        .map_or_else(String::new, |user| format!("user={user}&"));
    notes.say(&format!(
        "watch it with `fanfare tail task:{task}` or at {}/#{user}task={task}",
        connection.url
    ));
    let (shared, news) = Shared::new(Feed::new(fresh_id().to_string()), Secrets::of(connection));
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
    let mut signals = catch()?;
    let started = Instant::now();
    let status = match Child::spawn(&args.command, Wiring::choose(pty), task) {
        Ok((child, outputs)) => {
            shared.with(|feed| feed.say("task:started", &json!({ "task": task })));
            let (end, asked) = watch(child, outputs, &shared, &notes, &mut signals).await?;
            tell(&shared, task, end, asked, started.elapsed());
            end.status()
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

/// The signals that end a command, or tell of a new window size. One that was ignored when we started stays so: that
/// is how `nohup` works.
fn catch() -> Result<Signals, Error> {
    let ignored = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        });
    let ignored = ignored.unwrap_or(0);
    let caught = ENDS
        .into_iter()
        .map(|(signal, ..)| signal)
        .filter(|signal| ignored >> (*signal as u32 - 1) & 1 == 0)
        .chain([Signal::Winch]);
    Signals::new(caught).map_err(|source| Error::System {
        what: "can't catch signals",
        source,
    })
}

/// Carries the command through to its end. Gives how it ended, and the signal by which it was first asked to.
async fn watch(
    child: Child,
    outputs: Vec<(feed::Stream, child::Output)>,
    shared: &Arc<Shared>,
    notes: &Notes,
    signals: &mut Signals,
) -> Result<(End, Option<&'static str>), Error> {
    let system = |source: io::Error| Error::System {
        what: "can't run the command",
        source,
    };
    let (done, all_done) = async_channel::bounded::<()>(1);
    for (stream, output) in outputs {
        pump::output(output, stream, Arc::clone(shared), done.clone());
    }
    drop(done);
    let (tell, happenings) = async_channel::bounded(64);
    let mut raw = None;
    let mut keyboard = None;
    if let Some(pty) = child.keyboard() {
        raw = Raw::enter();
        notes.set_raw(raw.is_some());
        keyboard = Some(pump::keyboard(Arc::clone(pty), tell.clone()).map_err(system)?);
    }
    let wait = child.waiter();
    std::thread::spawn(move || {
        wait();
        let _ = tell.send_blocking(Happening::Ended);
    });

    let mut asked = None;
    loop {
        let signal = async {
            signals
                .next()
                .await
                .and_then(Result::ok)
                .map(Happening::Signal)
        };
        let other = async { happenings.recv().await.ok() };
        match smol::future::or(other, signal).await {
            Some(Happening::Signal(Signal::Winch)) => child.resize(),
            Some(Happening::Signal(signal)) => ask(&child, signal, &mut asked),
            Some(Happening::Interrupted) if asked.is_some() => child.signal(Number::KILL),
            Some(Happening::Interrupted) => asked = Some("SIGINT"),
            Some(Happening::TypedOn) => asked = None,
            Some(Happening::Ended) | None => break,
        }
    }
    smol::future::or(
        async {
            let _ = all_done.recv().await;
        },
        async {
            async_io::Timer::after(AFTERMATH).await;
        },
    )
    .await;
    drop(keyboard);
    drop(raw);
    notes.set_raw(false);
    Ok((child.reap().map_err(system)?, asked))
}

/// Hands on a signal; the second time there is no asking.
fn ask(child: &Child, signal: Signal, asked: &mut Option<&'static str>) {
    let Some((_, name, number)) = ENDS.into_iter().find(|(known, ..)| *known == signal) else {
        return;
    };
    if asked.is_some() {
        child.signal(Number::KILL);
        return;
    }
    *asked = Some(name);
    // What a key of the terminal made reached the command together with us.
    if !(child.shares_our_group() && matches!(signal, Signal::Int | Signal::Quit)) {
        child.signal(number);
    }
}

/// The last event of the task.
fn tell(shared: &Shared, task: TaskId, end: End, asked: Option<&str>, took: Duration) {
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
    let given_up = async {
        let asked = async { while let Some(Ok(Signal::Winch)) = signals.next().await {} };
        smol::future::or(asked, async {
            async_io::Timer::after(limit).await;
        })
        .await;
    };
    smol::future::or(delivery, given_up).await;
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
