//! `fanfare inbox`: what a user has not read, and how far each of the user's devices got.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write, stdout};

use fanfare_websocket::client::Api;
use serde::Deserialize;
use serde_json::Value;

use crate::args::{self, Connection};
use crate::error::Error;

#[derive(Deserialize)]
struct Inbox {
    room: String,
    seq: u64,
    unread: u64,
    connected: u64,
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct Device {
    device: String,
    cursor: u64,
    seen: String,
    connected: u64,
}

pub(crate) async fn run(args: args::Inbox, connection: &Connection) -> Result<(), Error> {
    let mut api = Api::new(connection.url.clone(), connection.key()?.clone());
    let inbox = api.inbox(args.user).await?;
    let text = if stdout().is_terminal() {
        pretty(&inbox).unwrap_or_else(|_| inbox.to_string())
    } else {
        inbox.to_string()
    };
    writeln!(stdout(), "{text}").map_err(Error::printing)
}

fn pretty(inbox: &Value) -> Result<String, serde_json::Error> {
    let inbox = Inbox::deserialize(inbox)?;
    let mut text = format!(
        "{}: {} unread, last event {}, {} connected",
        inbox.room, inbox.unread, inbox.seq, inbox.connected
    );
    for device in &inbox.devices {
        // Writing into a String can't fail.
        let _ = write!(
            text,
            "\n  {}: has everything up to {}, seen {}, {} connected",
            device.device, device.cursor, device.seen, device.connected
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_is_told_in_words() {
        let inbox = serde_json::json!({
            "room": "user:7", "epoch": "k3", "seq": 42, "unread": 3, "connected": 1,
            "devices": [{"device": "phone", "cursor": 41, "seen": "2026-11-26T02:00:00.000Z", "connected": 1}],
        });
        assert_eq!(
            pretty(&inbox).unwrap(),
            "user:7: 3 unread, last event 42, 1 connected\n  \
             phone: has everything up to 41, seen 2026-11-26T02:00:00.000Z, 1 connected"
        );
    }
}
