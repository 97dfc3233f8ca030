//! `fanfare tail`: events as they come, until somebody stops it.

mod pretty;

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use async_io::Timer;
use async_signal::{Signal, Signals};
use fanfare_core::{Endpoint, RoomId, Seq, UserId};
use fanfare_websocket::client::{
    self, Access, Client, Event, Gap, Incoming, Message, Notice, Op, Secret, Welcome,
};
use futures::StreamExt;
use serde::Deserialize;

use crate::args::{Connection, Format, Since, Tail};
use crate::error::Error;
use crate::token::Claims;
use pretty::Pretty;

/// How long a token lives that tail makes for itself; each attempt to connect gets a new one.
const OWN_TOKEN: Duration = Duration::from_secs(3_600);

/// How long what was printed waits to be acknowledged, so that many are acknowledged at once.
const ACK_WAIT: Duration = Duration::from_millis(250);

pub(crate) async fn run(args: Tail, connection: &Connection) -> Result<(), Error> {
    let mut signals =
        Signals::new([Signal::Int, Signal::Term, Signal::Hup]).map_err(|source| Error::System {
            what: "can't catch signals",
            source,
        })?;
    let stop = async {
        signals.next().await;
        Ok(())
    };
    smol::future::or(listen(args, connection), stop).await
}

async fn listen(args: Tail, connection: &Connection) -> Result<(), Error> {
    if args.ack && !matches!(args.room, Some(RoomId::User(_))) {
        return Err(Error::Usage(
            "--ack goes with a user's room: fanfare tail user:ID --device NAME --ack".to_owned(),
        ));
    }
    let (endpoint, access) = open(&args, connection)?;
    let mut client = Client::new(connection.url.clone(), endpoint, access);
    if let Some(device) = &args.device {
        client = client.device(device.clone());
    }
    client = match (args.since.clone(), args.room) {
        (Some(Since::Room(position)), Some(room)) => client.since(vec![(room, position)]),
        (Some(Since::Rooms(positions)), _) => client.since(positions),
        _ => client,
    };
    let mut connection = client.connect().await?;
    let printer = Printer::new(args.format, args.quiet);
    let mut acks = Acks::new(args.room.filter(|_| args.ack));
    let mut left = args.count;
    let mut away = false;
    loop {
        let next = async { Some(connection.next().await) };
        let Some(next) = smol::future::or(next, acks.due()).await else {
            acks.send(&mut connection).await;
            continue;
        };
        let message = match next? {
            Incoming::Message(message) => message,
            Incoming::Lost { error, wait } => {
                // Once for each outage: every attempt would fill the screen.
                if !std::mem::replace(&mut away, true) {
                    printer.note(&format!(
                        "{error}; trying again, first in {:.1} s",
                        wait.as_secs_f64()
                    ));
                }
                continue;
            }
        };
        match &message {
            Message::Event(event) => {
                // A task's connection is in its user's room too: that is not what was asked for.
                if args
                    .room
                    .is_some_and(|room| !event.rooms.contains_key(&room))
                {
                    continue;
                }
                printer.print(&message)?;
                left = left.map(|left| left - 1);
                acks.note(event);
                if left == Some(0) {
                    acks.send(&mut connection).await;
                    connection.close().await;
                    return Ok(());
                }
            }
            Message::System(system) => {
                if let Notice::Welcome(welcome) = &system.notice {
                    check_user(args.room, welcome.user.as_deref())?;
                    if std::mem::take(&mut away) {
                        printer.note("connected again");
                    } else {
                        printer.note(&format!("watching {}", watched(&args, welcome)));
                    }
                }
                if let Notice::Gap(gap) = &system.notice {
                    printer.note(&missing(gap));
                    acks.gap(gap);
                }
                if args.system {
                    printer.print(&message)?;
                }
            }
        }
    }
}

/// What is to be acknowledged, gathered: a server takes only so many messages a second.
struct Acks {
    /// The user's room, where it is wanted.
    room: Option<RoomId>,
    waiting: Option<(Seq, Instant)>,
}

impl Acks {
    const fn new(room: Option<RoomId>) -> Self {
        Self {
            room,
            waiting: None,
        }
    }

    fn note(&mut self, event: &Event) {
        let seq = self.room.and_then(|room| event.rooms.get(&room));
        if let Some(seq) = seq.filter(|_| !event.ephemeral) {
            let due = self
                .waiting
                .map_or_else(|| Instant::now() + ACK_WAIT, |(_, due)| due);
            self.waiting = Some((*seq, due));
        }
    }

    /// Numbers from before are not of the epoch that a room has now.
    fn gap(&mut self, gap: &Gap) {
        if Some(gap.room) == self.room && gap.reason == "epoch" {
            self.waiting = None;
        }
    }

    /// Resolves when something is to be sent.
    async fn due<T>(&self) -> Option<T> {
        match self.waiting {
            Some((_, due)) => {
                Timer::at(due).await;
            }
            None => std::future::pending().await,
        }
        None
    }

    /// What can't be sent now is sent again by the server, and acknowledged then.
    async fn send(&mut self, connection: &mut client::Connection) {
        let positions = connection.positions();
        let position = positions
            .into_iter()
            .find(|(room, _)| Some(*room) == self.room);
        if let (Some((seq, _)), Some((_, position))) = (self.waiting.take(), position) {
            let ack = Op::Ack {
                reference: None,
                epoch: position.epoch,
                seq,
            };
            let _ = connection.send(&ack).await;
        }
    }
}

/// Whom to connect as, and where to.
fn open(args: &Tail, connection: &Connection) -> Result<(Endpoint, Access), Error> {
    let Some(room) = args.room else {
        return Ok((
            Endpoint::Bus(args.bus.clone()),
            Access::Fixed(connection.key()?.clone()),
        ));
    };
    let (endpoint, user, tasks) = match room {
        RoomId::Task(task) => (Endpoint::Task(task), nobody(), vec![task.to_string()]),
        RoomId::User(user) => (Endpoint::Notifications, user, Vec::new()),
    };
    if let Some(token) = Connection::given(connection.token.as_ref()) {
        return Ok((endpoint, Access::Fixed(token.clone())));
    }
    let secret = Connection::given(connection.token_secret.as_ref()).cloned().ok_or(Error::Missing {
        name: "FANFARE_TOKEN",
        what: "a user's token, as `fanfare token` makes it; or set FANFARE_TOKEN_SECRET, and tail makes its own. \
               With FANFARE_API_KEY alone, `fanfare tail --bus '*'` shows every room's events",
    })?;
    let fresh = move || Claims::new(user, tasks.clone(), OWN_TOKEN).sign(&secret);
    // A secret that can't sign is told now.
    fresh()?;
    Ok((
        endpoint,
        Access::Fresh(Box::new(move || {
            fresh().unwrap_or_else(|_| Secret::new(""))
        })),
    ))
}

/// A user for a connection that is only to watch a task: no real one, and hardly another tail's.
fn nobody() -> UserId {
    UserId::new(u64::MAX - u64::from(fastrand::u32(..)))
}

fn check_user(room: Option<RoomId>, user: Option<&str>) -> Result<(), Error> {
    match (room, user) {
        (Some(room @ RoomId::User(_)), Some(user)) if room.to_string() != user => {
            Err(Error::Usage(format!(
                "FANFARE_TOKEN is one of {user}, who doesn't get the events of {room}"
            )))
        }
        _ => Ok(()),
    }
}

/// What is watched, and of a task where it stands: a mistyped id is a room too, in which nothing happens.
fn watched(args: &Tail, welcome: &Welcome) -> String {
    #[derive(Deserialize)]
    struct State {
        status: String,
    }
    let Some(room) = args.room else {
        let patterns: Vec<_> = args.bus.iter().map(ToString::to_string).collect();
        return format!("{} on the bus", patterns.join(", "));
    };
    let state = welcome
        .rooms
        .get(&room)
        .and_then(|head| head.state.as_ref());
    let state = state.and_then(|state| serde_json::from_str::<State>(state.as_str()).ok());
    match state {
        Some(State { status }) if status == "unknown" => {
            format!("{room}; nothing is known of it yet")
        }
        Some(State { status }) => format!("{room}, which is {status}"),
        None => room.to_string(),
    }
}

/// What is said of events that won't come. Of another epoch it is not known how many they were.
pub(crate) fn missing(gap: &Gap) -> String {
    let (room, reason) = (gap.room, &gap.reason);
    match (gap.from, gap.to) {
        (Some(from), Some(to)) if from < to => {
            format!("events {from} to {to} of {room} are missing ({reason})")
        }
        (Some(from), Some(to)) if from == to => {
            format!("event {from} of {room} is missing ({reason})")
        }
        _ => format!("events of {room} may be missing ({reason})"),
    }
}

/// Prints messages as they come: for people, or as JSON.
pub(crate) struct Printer {
    pretty: Option<Pretty>,
    quiet: bool,
}

impl Printer {
    pub(crate) fn new(format: Format, quiet: bool) -> Self {
        let pretty = match format {
            Format::Auto => stdout().is_terminal(),
            Format::Pretty => true,
            Format::Json => false,
        };
        Self {
            pretty: pretty.then(Pretty::of_stdout),
            quiet,
        }
    }

    pub(crate) fn print(&self, message: &Message) -> Result<(), Error> {
        let mut line = self
            .pretty
            .as_ref()
            .map_or_else(|| one_line(message.text()), |pretty| pretty.line(message));
        line.push('\n');
        let mut out = stdout().lock();
        out.write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .map_err(Error::printing)
    }

    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(stderr(), "fanfare: {text}");
        }
    }
}

/// A publisher's JSON comes as it was written, also over several lines; between its words a line break is a space.
fn one_line(text: &str) -> String {
    if text.contains(['\n', '\r']) {
        text.replace(['\n', '\r'], " ")
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_as_far_as_it_is_known() {
        for (range, said) in [
            (
                r#""from":3,"to":7,"#,
                "events 3 to 7 of user:7 are missing (slow)",
            ),
            (r#""from":3,"to":3,"#, "event 3 of user:7 is missing (slow)"),
            (
                r#""from":1,"to":0,"#,
                "events of user:7 may be missing (slow)",
            ),
            ("", "events of user:7 may be missing (slow)"),
        ] {
            let text = format!(
                r#"{{"type":"system:gap","data":{{"room":"user:7","epoch":"k",{range}"reason":"slow"}}}}"#
            );
            let Message::System(system) = Message::parse(&text).unwrap() else {
                panic!("{text}")
            };
            let Notice::Gap(gap) = system.notice else {
                panic!("{text}")
            };
            assert_eq!(missing(&gap), said, "{range}");
        }
    }
}
