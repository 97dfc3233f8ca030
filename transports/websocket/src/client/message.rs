//! What a server says, typed.

use std::collections::BTreeMap;

use fanfare_core::{Epoch, EventId, EventType, Payload, RoomId, Seq};
use serde::Deserialize;

/// One text frame of the server.
///
/// ```
/// use fanfare_websocket::client::Message;
/// let frame = r#"{"type":"chat:message","id":"a","at":"2026-11-23T08:17:00.123Z","rooms":{"user:7":41},"data":{"text":"hi"}}"#;
/// let Message::Event(event) = Message::parse(frame)? else { panic!() };
/// assert_eq!(event.rooms[&"user:7".parse()?].number(), 41);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Something that was published.
    Event(Event),
    /// Something that the server says about itself.
    System(System),
}

/// An event as a receiver gets it.
///
/// ```
/// # use fanfare_websocket::client::Event;
/// fn badge(event: &Event) -> Option<u64> {
///     event.unread
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// What kind of event it is.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Its id.
    pub id: EventId,
    /// When the server took it: RFC 3339, UTC, milliseconds.
    pub at: String,
    /// The rooms through which it came, with its number in each. Empty for a bus event without a room.
    #[serde(default)]
    pub rooms: BTreeMap<RoomId, Seq>,
    /// `user:7` where a client sent it.
    #[serde(default)]
    pub from: Option<String>,
    /// True where it is not kept; its numbers are then the rooms' heads.
    #[serde(default)]
    pub ephemeral: bool,
    /// The user's unread notifications after it.
    #[serde(default)]
    pub unread: Option<u64>,
    /// Its content.
    #[serde(default)]
    pub data: Payload,
    /// The frame as it came.
    #[serde(skip)]
    pub text: String,
}

/// What the server says about itself.
///
/// ```
/// use fanfare_websocket::client::{Message, Notice};
/// let frame = r#"{"type":"system:expiring","data":{"in_ms":60000}}"#;
/// let Message::System(system) = Message::parse(frame)? else { panic!() };
/// assert!(matches!(system.notice, Notice::Expiring { in_ms: 60_000 }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// What it says.
    pub notice: Notice,
    /// The frame as it came.
    pub text: String,
}

/// The kinds of system messages.
///
/// ```
/// # use fanfare_websocket::client::Notice;
/// fn ends(notice: &Notice) -> bool {
///     matches!(notice, Notice::Goodbye(_))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The first message.
    Welcome(Welcome),
    /// A room was joined.
    Joined(Joined),
    /// A room was left.
    Left(Left),
    /// Events are missing.
    Gap(Gap),
    /// The answer to a message that had a `ref`, or that could not be understood.
    Reply(Reply),
    /// The token is about to run out.
    Expiring {
        /// Milliseconds until then.
        in_ms: u64,
    },
    /// The server is about to close the connection.
    Goodbye(Goodbye),
    /// A kind that this client does not know; it may be ignored.
    Other,
}

/// `system:welcome`.
///
/// ```
/// # use fanfare_websocket::client::Welcome;
/// fn whose(welcome: &Welcome) -> &str {
///     welcome.user.as_deref().unwrap_or("a back end")
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Welcome {
    /// The connection's id, for the server's logs.
    #[serde(default)]
    pub conn: Option<String>,
    /// `user:7`; absent on the bus.
    #[serde(default)]
    pub user: Option<String>,
    /// The device that the client named.
    #[serde(default)]
    pub device: Option<String>,
    /// How often the server pings, in milliseconds.
    #[serde(default)]
    pub heartbeat_ms: Option<u64>,
    /// The longest message that it takes.
    #[serde(default)]
    pub max_message_bytes: Option<u64>,
    /// The rooms that the connection is in.
    #[serde(default)]
    pub rooms: BTreeMap<RoomId, Head>,
    /// What its user has not read; absent on the bus.
    #[serde(default)]
    pub inbox: Option<Inbox>,
}

/// `inbox` of `system:welcome`.
///
/// ```
/// # use fanfare_websocket::client::Welcome;
/// fn badge(welcome: &Welcome) -> u64 {
///     welcome.inbox.as_ref().map_or(0, |inbox| inbox.unread)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Inbox {
    /// Notifications that the user has not read.
    pub unread: u64,
}

/// Where a room stands as one joins it.
///
/// ```
/// # use fanfare_websocket::client::Welcome;
/// fn all_there(welcome: &Welcome) -> bool {
///     welcome.rooms.values().all(|head| head.recovered != Some(false))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Head {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The number of its last event.
    pub seq: Seq,
    /// Absent where no position was named; true where everything since it comes.
    #[serde(default)]
    pub recovered: Option<bool>,
    /// A task's snapshot.
    #[serde(default)]
    pub state: Option<Payload>,
}

/// `system:joined`.
///
/// ```
/// # use fanfare_websocket::client::Joined;
/// fn missed_nothing(joined: &Joined) -> bool {
///     joined.head.recovered == Some(true)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Joined {
    /// Which room.
    pub room: RoomId,
    /// Where it stands.
    #[serde(flatten)]
    pub head: Head,
}

/// `system:left`.
///
/// ```
/// # use fanfare_websocket::client::Left;
/// fn was_deleted(left: &Left) -> bool {
///     left.reason == "deleted"
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Left {
    /// Which room.
    pub room: RoomId,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// `system:gap`.
///
/// ```
/// # use fanfare_websocket::client::Gap;
/// fn must_reload(gap: &Gap) -> bool {
///     gap.reason == "epoch"
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Gap {
    /// In which room.
    pub room: RoomId,
    /// Its epoch now.
    pub epoch: Epoch,
    /// The first number that is missing.
    #[serde(default)]
    pub from: Option<Seq>,
    /// The last number that is missing. One below `from` where nothing of `epoch` is missing.
    #[serde(default)]
    pub to: Option<Seq>,
    /// `trimmed`, `epoch` or `slow`.
    #[serde(default)]
    pub reason: String,
    /// The user's unread notifications now, where the user's room began anew under a connection.
    #[serde(default)]
    pub unread: Option<u64>,
}

/// `system:reply`.
///
/// ```
/// # use fanfare_websocket::client::Reply;
/// fn code(reply: &Reply) -> &str {
///     reply.error.as_ref().map_or("ok", |error| &error.code)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reply {
    /// The `ref` of the message that is answered: a number or a string.
    #[serde(default, rename = "ref")]
    pub reference: Option<serde_json::Value>,
    /// Whether it was done.
    pub ok: bool,
    /// The id of an event that was sent.
    #[serde(default)]
    pub id: Option<EventId>,
    /// Its number.
    #[serde(default)]
    pub seq: Option<Seq>,
    /// Why it was not done.
    #[serde(default)]
    pub error: Option<ReplyError>,
}

/// Why an op was refused.
///
/// ```
/// # use fanfare_websocket::client::ReplyError;
/// fn say(error: &ReplyError) -> String {
///     format!("{} ({})", error.message, error.code)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReplyError {
    /// The stable word for programs.
    pub code: String,
    /// The sentence for people.
    #[serde(default)]
    pub message: String,
}

/// `system:goodbye`.
///
/// ```
/// # use fanfare_websocket::client::{Goodbye, Retry};
/// fn is_final(goodbye: &Goodbye) -> bool {
///     goodbye.retry == Retry::Never
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Goodbye {
    /// The close code that follows.
    pub code: u16,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// Whether to come back.
    pub retry: Retry,
    /// After which wait, in milliseconds.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// Whether a client that was closed shall come back.
///
/// ```
/// # use fanfare_websocket::client::Retry;
/// assert_eq!(serde_json::from_str::<Retry>(r#""after""#)?, Retry::After);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// At once.
    Now,
    /// After `retry_after_ms`.
    After,
    /// Not as it is.
    Never,
}

impl Message {
    /// Reads a frame.
    ///
    /// # Errors
    /// Where it is no JSON, or not of the form that its type has.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Wire<'a> {
            #[serde(rename = "type", borrow)]
            kind: std::borrow::Cow<'a, str>,
            #[serde(default, borrow)]
            data: Option<&'a serde_json::value::RawValue>,
        }
        let wire: Wire<'_> = serde_json::from_str(text)?;
        let Some(name) = wire.kind.strip_prefix("system:") else {
            let mut event: Event = serde_json::from_str(text)?;
            text.clone_into(&mut event.text);
            return Ok(Self::Event(event));
        };
        let data = wire.data.map_or("null", |data| data.get());
        let notice = match name {
            "welcome" => Notice::Welcome(serde_json::from_str(data)?),
            "joined" => Notice::Joined(serde_json::from_str(data)?),
            "left" => Notice::Left(serde_json::from_str(data)?),
            "gap" => Notice::Gap(serde_json::from_str(data)?),
            "reply" => Notice::Reply(serde_json::from_str(data)?),
            "goodbye" => Notice::Goodbye(serde_json::from_str(data)?),
            "expiring" => {
                #[derive(Deserialize)]
                struct Expiring {
                    in_ms: u64,
                }
                let Expiring { in_ms } = serde_json::from_str(data)?;
                Notice::Expiring { in_ms }
            }
            _ => Notice::Other,
        };
        Ok(Self::System(System {
            notice,
            text: text.to_owned(),
        }))
    }

    /// The frame as it came: one line of JSON.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Event(event) => &event.text,
            Self::System(system) => &system.text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_frame_is_understood_and_kept_as_it_came() {
        let welcome = r#"{"type":"system:welcome","data":{"conn":"c1","user":"user:7","device":null,"heartbeat_ms":25000,"max_message_bytes":65536,"expires_at":"2026-11-23T08:17:00Z","rooms":{"user:7":{"epoch":"k3J9","seq":41},"task:550e8400-e29b-41d4-a716-446655440000":{"epoch":"k3J9","seq":0,"recovered":true,"state":{"status":"unknown"}}},"inbox":{"unread":3}}}"#;
        let Message::System(System {
            notice: Notice::Welcome(seen),
            text,
        }) = Message::parse(welcome).unwrap()
        else {
            panic!("no welcome");
        };
        assert_eq!(text, welcome);
        assert_eq!(seen.rooms.len(), 2);
        assert_eq!(seen.rooms[&"user:7".parse().unwrap()].recovered, None);
        type Check = fn(&Notice) -> bool;
        let cases: &[(&str, Check)] = &[
            (
                r#"{"type":"system:joined","data":{"room":"user:7","epoch":"e","seq":4,"recovered":false}}"#,
                |n| matches!(n, Notice::Joined(joined) if joined.head.recovered == Some(false)),
            ),
            (
                r#"{"type":"system:gap","data":{"room":"user:7","epoch":"e","from":1,"to":4,"reason":"trimmed"}}"#,
                |n| matches!(n, Notice::Gap(gap) if gap.reason == "trimmed"),
            ),
            (
                r#"{"type":"system:reply","data":{"ref":"a","ok":false,"error":{"code":"gone","message":"m"}}}"#,
                |n| matches!(n, Notice::Reply(reply) if !reply.ok),
            ),
            (
                r#"{"type":"system:goodbye","data":{"code":4001,"reason":"draining","retry":"after","retry_after_ms":900}}"#,
                |n| matches!(n, Notice::Goodbye(bye) if bye.retry == Retry::After && bye.retry_after_ms == Some(900)),
            ),
            (
                r#"{"type":"system:left","data":{"room":"user:7","reason":"deleted"}}"#,
                |n| matches!(n, Notice::Left(_)),
            ),
            (r#"{"type":"system:news","data":{}}"#, |n| {
                *n == Notice::Other
            }),
            (r#"{"type":"system:news"}"#, |n| *n == Notice::Other),
        ];
        for (frame, is_right) in cases {
            match Message::parse(frame) {
                Ok(Message::System(system)) => {
                    assert!(is_right(&system.notice), "{frame}: {:?}", system.notice)
                }
                other => panic!("{frame}: {other:?}"),
            }
        }
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"type":"chat:message"}"#,
            r#"{"type":7}"#,
            r#"{"type":"system:welcome"}"#,
        ] {
            assert!(Message::parse(bad).is_err(), "{bad}");
        }
    }
}
