//! `fanfare history`: what a room keeps, page after page.

use fanfare_core::RoomId;
use fanfare_websocket::client::{Api, Message};

use crate::args::{self, Connection};
use crate::error::Error;
use crate::tail::Printer;

/// Most events of a page.
const PAGE: u64 = 1_000;

pub(crate) async fn run(args: args::History, connection: &Connection) -> Result<(), Error> {
    let mut api = Api::new(connection.url.clone(), connection.key()?.clone());
    let printer = Printer::new(args.format, false);
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut next = Some(first(&args, left.min(PAGE)));
    while let Some(path) = next.take().filter(|_| left > 0) {
        let page = api.history(&path).await?;
        for event in page.events {
            if left == 0 {
                break;
            }
            left -= 1;
            printer.print(&Message::parse(event.as_str()).map_err(|error| {
                Error::Usage(format!("an event of the answer can't be read: {error}"))
            })?)?;
        }
        next = page.next;
    }
    Ok(())
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
