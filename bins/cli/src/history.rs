//! `fanfare history`: what a room keeps, page after page.

use fanfare_core::{Epoch, Position, RoomId, Seq};
use fanfare_websocket::client::{Api, Gap, Message};

use crate::args::{self, Connection};
use crate::error::Error;
use crate::tail::{Printer, missing};

/// Most events of a page.
const PAGE: u64 = 1_000;

pub(crate) async fn run(args: args::History, connection: &Connection) -> Result<(), Error> {
    let mut api = Api::new(connection.url.clone(), connection.key()?.clone());
    let printer = Printer::new(args.format, false);
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut next = Some(first(&args, left.min(PAGE)));
    let mut at = args.since.clone();
    while let Some(path) = next.take().filter(|_| left > 0) {
        let page = api.history(&path).await?;
        let tell = |at: &Option<Position>, seq| {
            if let Some(gap) = at.as_ref().and_then(|at| gap(&args, at, &page.epoch, seq)) {
                printer.note(&missing(&gap));
            }
        };
        if page.events.is_empty() {
            tell(&at, page.first);
        }
        for event in page.events {
            if left == 0 {
                break;
            }
            left -= 1;
            let message = Message::parse(event.as_str()).map_err(|error| {
                Error::Usage(format!("an event of the answer can't be read: {error}"))
            })?;
            if let Some(seq) = seq(&message, args.room) {
                tell(&at, seq);
                let epoch = page.epoch.clone();
                at = Some(Position { epoch, seq });
            }
            printer.print(&message)?;
        }
        next = page.next;
    }
    Ok(())
}

fn seq(message: &Message, room: RoomId) -> Option<Seq> {
    match message {
        Message::Event(event) => event.rooms.get(&room).copied(),
        Message::System(_) => None,
    }
}

/// What is missing between `at` and the event `seq` of `epoch`. Going down, what went meanwhile is at the end.
fn gap(args: &args::History, at: &Position, epoch: &Epoch, seq: Seq) -> Option<Gap> {
    let gap = |from, to, reason: &str| Gap {
        room: args.room,
        epoch: epoch.clone(),
        from,
        to,
        reason: reason.to_owned(),
        unread: None,
    };
    let (from, to) = (at.seq.next(), seq.before());
    if at.epoch != *epoch {
        Some(gap(None, None, "epoch"))
    } else if from <= to && !args.newest {
        Some(gap(Some(from), Some(to), "trimmed"))
    } else {
        None
    }
}

fn first(args: &args::History, limit: u64) -> String {
    let room = match args.room {
        RoomId::Task(task) => format!("/v1/tasks/{task}/events?limit={limit}"),
        RoomId::User(user) => format!("/v1/users/{user}/events?limit={limit}"),
    };
    match &args.since {
        Some(since) => format!("{room}&since={since}"),
        None if args.newest => format!("{room}&order=newest"),
        None => room,
    }
}
