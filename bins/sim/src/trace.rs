//! What nodes saw, a line each, as people read it.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "what has no words of its own is told as it is"
)]

use serde_json::Value;

use crate::history::{Hears, Observation, Seen};
use crate::machine::BEGINNING;
use crate::names::{Names, seconds};

/// A line: when, who, in which direction, what, and where it is in its rooms.
pub(crate) fn line(names: &Names, it: &Observation) -> String {
    let time = seconds(it.time.as_millis());
    format!("t={time}s {}", names.shorten(&words(names, &it.seen)))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn words(names: &Names, seen: &Seen) -> String {
    match seen {
        Seen::Opened { conn, since, .. } => {
            let since = since
                .iter()
                .map(|(room, at)| format!(" {room}@{}:{}", at.epoch, at.seq));
            let since: String = since.collect();
            let from = if since.is_empty() {
                " without a position"
            } else {
                " from"
            };
            format!("{} opens{from}{since}", names.conn(*conn))
        }
        Seen::Refused { device, status } => {
            format!("{} is refused: {status}", names.device(*device))
        }
        Seen::Received { conn, frame } => format!("{} <- {}", names.conn(*conn), received(frame)),
        Seen::Bus {
            listener,
            hears: Hears::Frame(frame),
        } => format!("back end {listener} on the bus <- {}", received(frame)),
        Seen::Garbled { conn, what } => {
            let who = conn.map_or_else(|| "a back end".to_owned(), |conn| names.conn(conn));
            format!("{who} <- what is none of the protocol: {what}")
        }
        Seen::Said { conn, text } => format!("{} -> {}", names.conn(*conn), said(text)),
        Seen::Closed {
            conn,
            code: Some(code),
        } => format!("{} is closed: {code}", names.conn(*conn)),
        Seen::Closed { conn, code: None } => format!("{} is lost", names.conn(*conn)),
        Seen::Leaves { conn } => format!("{} leaves", names.conn(*conn)),
        Seen::Publishing { number, path, body } => {
            let (kind, id) = (word(body, "type"), word(body, "id"));
            let ephemeral = if body["ephemeral"] == true {
                " ephemeral"
            } else {
                ""
            };
            let id = if id.is_empty() {
                String::new()
            } else {
                format!(" as {id}")
            };
            format!("publish {number} -> POST {path}:{ephemeral} {kind}{id}")
        }
        Seen::Published {
            number,
            status,
            body,
        } => {
            let rooms = body["rooms"].as_object().into_iter().flatten();
            let rooms: String = rooms
                .map(|(room, at)| format!(" {room}@{}:{}", word(at, "epoch"), at["seq"]))
                .collect();
            let again = if body["duplicate"] == true {
                " was there"
            } else {
                ""
            };
            let code = word(body, "code");
            format!("publish {number} <- {status}{again}{rooms} {code}")
                .trim_end()
                .to_owned()
        }
        Seen::Found { path, body } => {
            let events = body["events"].as_array().into_iter().flatten();
            let room = word(body, "room");
            let events =
                events.map(|event| format!(" {}:{}", event["rooms"][room], word(event, "id")));
            let (events, epoch): (String, _) = (events.collect(), word(body, "epoch"));
            format!("GET {path} <- {room}@{epoch}:{}{events}", body["seq"])
        }
        Seen::Shows { conn, token, .. } => {
            let tasks = token
                .tasks
                .as_ref()
                .map_or_else(|| "all tasks".to_owned(), |tasks| tasks.join(" "));
            let ends = token.ends_ms.saturating_sub(BEGINNING.as_unix_millis());
            let ends = seconds(ends);
            format!(
                "{} shows a token for {tasks}, until t={ends}s",
                names.conn(*conn)
            )
        }
        Seen::Fault {
            name,
            device: Some(device),
        } => format!("fault: {name} of {}", names.device(*device)),
        Seen::Healed { given_up } => {
            let of: Vec<&str> = given_up.iter().map(|it| names.device(*it)).collect();
            let of = of.join(", ");
            let but = if of.is_empty() {
                String::new()
            } else {
                format!(", but those of {of}")
            };
            format!("all faults end{but}")
        }
        other => Observation {
            time: fanfare_core::Time::default(),
            seen: other.clone(),
        }
        .to_string()
        .split_once(' ')
        .map_or_else(String::new, |(_, words)| words.to_owned()),
    }
}

fn word<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// A frame: its type, and what of it changes where its receiver stands.
pub(crate) fn received(frame: &Value) -> String {
    let data = &frame["data"];
    match word(frame, "type") {
        "system:welcome" => {
            let rooms = data["rooms"].as_object().into_iter().flatten();
            let rooms: String = rooms
                .map(|(room, at)| format!(" {}", place(room, at)))
                .collect();
            format!("welcome{rooms}")
        }
        "system:joined" => format!("joined {}", place(word(data, "room"), data)),
        "system:left" => format!("left {}: {}", word(data, "room"), word(data, "reason")),
        "system:gap" => {
            let (room, epoch) = (word(data, "room"), word(data, "epoch"));
            let reason = word(data, "reason");
            format!(
                "gap {room}@{epoch}: {} to {} are missing: {reason}",
                data["from"], data["to"]
            )
        }
        "system:reply" if data["ok"] == true => {
            let seq = data["seq"].as_u64().map(|seq| format!(", at {seq}"));
            format!("reply to {}: ok{}", data["ref"], seq.unwrap_or_default())
        }
        "system:reply" => format!("reply to {}: {}", data["ref"], word(&data["error"], "code")),
        kind if kind.starts_with("system:") => {
            format!("{} {data}", kind.trim_start_matches("system:"))
        }
        kind => {
            let rooms = frame["rooms"].as_object().into_iter().flatten();
            let rooms: Vec<String> = rooms
                .map(|(room, seq)| {
                    if frame["ephemeral"] == true {
                        room.clone()
                    } else {
                        format!("{room}:{seq}")
                    }
                })
                .collect();
            let passing = if frame["ephemeral"] == true {
                "ephemeral "
            } else {
                ""
            };
            let unread = frame["unread"]
                .as_u64()
                .map(|unread| format!(", {unread} unread"));
            let id = word(frame, "id");
            let id = if id.is_empty() {
                String::new()
            } else {
                format!(", {id}")
            };
            let rooms = rooms.join(" ");
            format!("{passing}{kind} {rooms}{id}{}", unread.unwrap_or_default())
        }
    }
}

fn place(room: &str, at: &Value) -> String {
    let recovered = match at["recovered"].as_bool() {
        Some(true) => ", the rest follows",
        Some(false) => ", not all of the rest is there",
        None => "",
    };
    format!("{room}@{}:{}{recovered}", word(at, "epoch"), at["seq"])
}

/// A client's message: its op with the fields, or the text where it is none.
pub(crate) fn said(text: &str) -> String {
    let op: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(fields) = op.as_object().filter(|_| op["op"].is_string()) else {
        return format!("{text:?}");
    };
    let fields = fields
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "op" | "data"));
    let fields: String = fields
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!(" {name}={text}"),
            None => format!(" {name}={value}"),
        })
        .collect();
    format!("{}{fields}", word(&op, "op"))
}
