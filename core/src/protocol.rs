//! The wire: what a client may say, and what the server says about itself. `docs/protocol.md` is its description.

use crate::bus::{EventBus, Read};
use crate::close::{CloseCode, Retry};
use crate::error::Error;
use crate::event::{Draft, Retention};
use crate::frame::Frame;
use crate::ids::{DeviceId, Epoch, EventId, EventType, Key, Position, RoomId, Seq};
use crate::payload::{Payload, check_depth};
use crate::room_log::Gap;
use crate::tasks::Snapshot;
use crate::time::Wall;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// Longest `ref` that is a text, in bytes.
const REF_BYTES_MAX: usize = 64;

/// Most ids that one `read` may name.
const READ_IDS_MAX: usize = 100;

/// What a client chose to know the reply by: a number or a short text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Ref {
    Number(serde_json::Number),
    Text(String),
}

/// A bearer token on its way to be checked. Its debug form does not show it.
///
/// ```
/// use fanfare_core::Token;
/// let token = Token::new("secret".into());
/// assert_eq!(token.expose(), "secret");
/// assert!(!format!("{token:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Takes a text as a token.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for who checks it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Auth {
        token: Token,
    },
    Join {
        room: RoomId,
        since: Option<Position>,
    },
    Leave {
        room: RoomId,
    },
    Send {
        room: RoomId,
        draft: Draft,
    },
    /// This device has everything in the user's room up to `seq`, in `epoch` where that is said.
    Ack {
        epoch: Option<Epoch>,
        seq: Seq,
    },
    /// The user has read these, in `epoch` where that is said.
    Read {
        epoch: Option<Epoch>,
        read: Read,
    },
    Ping,
}

/// A client's message: what it asks for, and the `ref` of its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) reference: Option<Ref>,
    pub(crate) op: Result<Op, Error>,
}

/// Every field of every op. What an op needs is checked after its name is known.
#[derive(Deserialize)]
struct Fields {
    op: String,
    token: Option<Token>,
    room: Option<RoomId>,
    since: Option<Position>,
    #[serde(rename = "type")]
    kind: Option<EventType>,
    data: Option<Payload>,
    id: Option<EventId>,
    ephemeral: Option<bool>,
    key: Option<Key>,
    epoch: Option<Epoch>,
    seq: Option<Seq>,
    up_to: Option<Seq>,
    ids: Option<Vec<EventId>>,
}

/// The one field that is wanted also of a message that can't be understood.
#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "ref")]
    reference: Option<Ref>,
}

impl Message {
    /// Reads a message. One that can't be understood still has its `ref`, where that can be.
    pub(crate) fn parse(text: &str) -> Self {
        if let Err(error) = check_depth(text) {
            return Self {
                reference: None,
                op: Err(error),
            };
        }
        // Serde would also take the fields in a list, by their order.
        if text.trim_ascii_start().starts_with('[') {
            let what = "the message has to be a JSON object, such as {\"op\":\"ping\",\"ref\":1}";
            return Self {
                reference: None,
                op: Err(Error::BadRequest(what.into())),
            };
        }
        let reference = match serde_json::from_str::<Reference>(text) {
            Ok(Reference { reference }) => reference,
            Err(error) => {
                return Self {
                    reference: None,
                    op: Err(bad_json(&error)),
                };
            }
        };
        if let Some(Ref::Text(long)) = &reference
            && long.len() > REF_BYTES_MAX
        {
            return Self {
                reference: None,
                op: Err(Error::TooLarge {
                    what: "`ref`",
                    size: long.len(),
                    unit: "bytes",
                    limit: REF_BYTES_MAX,
                }),
            };
        }
        let op = serde_json::from_str(text)
            .map_err(|error| bad_json(&error))
            .and_then(Op::from_fields);
        Self { reference, op }
    }
}

fn bad_json(error: &serde_json::Error) -> Error {
    let what = "the message can't be understood as {\"op\":…,\"ref\":…}";
    Error::unreadable(what, error)
}

fn need<T>(field: Option<T>, op: &str, name: &str) -> Result<T, Error> {
    field.ok_or_else(|| Error::BadRequest(format!("`{op}` needs `{name}`")))
}

impl Op {
    fn from_fields(fields: Fields) -> Result<Self, Error> {
        let room = fields.room;
        match fields.op.as_str() {
            "auth" => Ok(Self::Auth {
                token: need(fields.token, "auth", "token")?,
            }),
            "join" => Ok(Self::Join {
                room: need(room, "join", "room")?,
                since: fields.since,
            }),
            "leave" => Ok(Self::Leave {
                room: need(room, "leave", "room")?,
            }),
            "send" => {
                let retention = match (fields.ephemeral.unwrap_or_default(), fields.key) {
                    (true, key) => Retention::Ephemeral { key },
                    (false, None) => Retention::Kept,
                    (false, Some(_)) => {
                        return Err(Error::BadRequest(
                            "`key` goes with `\"ephemeral\":true`".into(),
                        ));
                    }
                };
                Ok(Self::Send {
                    room: need(room, "send", "room")?,
                    draft: Draft {
                        kind: need(fields.kind, "send", "type")?,
                        data: fields.data.unwrap_or_default(),
                        id: fields.id,
                        retention,
                        notify: None,
                    },
                })
            }
            "ack" => Ok(Self::Ack {
                epoch: fields.epoch,
                seq: need(fields.seq, "ack", "seq")?,
            }),
            "read" => match (fields.up_to, fields.ids) {
                (Some(seq), None) => Ok(Self::Read {
                    epoch: fields.epoch,
                    read: Read::UpTo(seq),
                }),
                (None, Some(ids)) if ids.len() > READ_IDS_MAX => Err(Error::TooLarge {
                    what: "`ids`",
                    size: ids.len(),
                    unit: "entries",
                    limit: READ_IDS_MAX,
                }),
                (None, Some(ids)) => Ok(Self::Read {
                    epoch: fields.epoch,
                    read: Read::Ids(ids),
                }),
                (None, None) | (Some(_), Some(_)) => Err(Error::BadRequest(
                    "`read` needs `up_to` or `ids`, one of them".into(),
                )),
            },
            "ping" => Ok(Self::Ping),
            other => Err(Error::malformed(
                "op",
                other,
                "auth, join, leave, send, ack, read or ping",
            )),
        }
    }
}

/// Where a connection stands in a room: one of `rooms` in `system:welcome`, and the body of `system:joined`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Standing {
    pub(crate) epoch: Epoch,
    pub(crate) seq: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Snapshot>,
}

/// `system:welcome`
#[derive(Debug, Serialize)]
pub(crate) struct Welcome<'a> {
    pub(crate) conn: String,
    pub(crate) user: RoomId,
    pub(crate) device: Option<&'a DeviceId>,
    pub(crate) heartbeat_ms: u64,
    pub(crate) max_message_bytes: usize,
    pub(crate) expires_at: Wall,
    pub(crate) rooms: BTreeMap<RoomId, Standing>,
    pub(crate) inbox: Inbox,
}

/// `inbox` of `system:welcome`
#[derive(Debug, Serialize)]
pub(crate) struct Inbox {
    pub(crate) unread: usize,
}

/// `system:welcome` of a back end on the bus.
#[derive(Debug, Serialize)]
pub(crate) struct BusWelcome {
    pub(crate) conn: String,
    pub(crate) heartbeat_ms: u64,
    pub(crate) max_message_bytes: usize,
    #[serde(serialize_with = "texts")]
    pub(crate) types: Vec<crate::ids::Pattern>,
}

fn texts<T: ToString, S: Serializer>(items: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(items.iter().map(ToString::to_string))
}

/// Why a connection is no longer in a room: `reason` of `system:left`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LeftReason {
    /// It asked to.
    Asked,
    /// The task was deleted.
    Deleted,
    /// Its new token does not name the task.
    Forbidden,
}

/// What a reply bears beside `ref` and `ok`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Returned {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) duplicate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) room: Option<RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Wall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unread: Option<usize>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    r#type: &'a str,
    data: T,
}

fn frame<T: Serialize>(kind: &str, data: &T) -> Frame {
    Frame::build(256, |out| {
        serde_json::to_writer(out, &Envelope { r#type: kind, data }).map_err(Into::into)
    })
}

pub(crate) fn welcome(welcome: &Welcome<'_>) -> Frame {
    frame("system:welcome", welcome)
}

pub(crate) fn bus_welcome(welcome: &BusWelcome) -> Frame {
    frame("system:welcome", welcome)
}

pub(crate) fn joined(room: RoomId, standing: &Standing) -> Frame {
    #[derive(Serialize)]
    struct Joined<'a> {
        room: RoomId,
        #[serde(flatten)]
        standing: &'a Standing,
    }
    frame("system:joined", &Joined { room, standing })
}

pub(crate) fn left(room: RoomId, reason: LeftReason) -> Frame {
    #[derive(Serialize)]
    struct Left {
        room: RoomId,
        reason: LeftReason,
    }
    frame("system:left", &Left { room, reason })
}

pub(crate) fn gap(room: RoomId, gap: &Gap) -> Frame {
    gap_with(room, gap, None)
}

/// A gap, with what its user has unread now.
pub(crate) fn gap_with(room: RoomId, gap: &Gap, unread: Option<usize>) -> Frame {
    #[derive(Serialize)]
    struct GapOf<'a> {
        room: RoomId,
        #[serde(flatten)]
        gap: &'a Gap,
        #[serde(skip_serializing_if = "Option::is_none")]
        unread: Option<usize>,
    }
    frame("system:gap", &GapOf { room, gap, unread })
}

/// The room begins anew: what connections that are in it are told, a user's with what is unread now.
pub(crate) fn begins_anew(bus: &EventBus, room: RoomId) -> (Gap, Frame) {
    let gap = bus.unknown_position(room);
    let unread = match room {
        RoomId::User(user) => Some(bus.unread(user)),
        RoomId::Task(_) => None,
    };
    let frame = gap_with(room, &gap, unread);
    (gap, frame)
}

/// The reply to a message. A refusal is said also where the message had no `ref`.
pub(crate) fn reply(reference: Option<&Ref>, result: &Result<Returned, Error>) -> Frame {
    #[derive(Serialize)]
    struct Refusal {
        code: &'static str,
        message: String,
    }
    #[derive(Serialize)]
    struct Reply<'a> {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Ref>,
        ok: bool,
        #[serde(flatten)]
        returned: Option<&'a Returned>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Refusal>,
    }
    let error = result.as_ref().err().map(|error| Refusal {
        code: error.code(),
        message: error.to_string(),
    });
    let reply = Reply {
        reference,
        ok: result.is_ok(),
        returned: result.as_ref().ok(),
        error,
    };
    frame("system:reply", &reply)
}

pub(crate) fn expiring(in_ms: u64) -> Frame {
    #[derive(Serialize)]
    struct Expiring {
        in_ms: u64,
    }
    frame("system:expiring", &Expiring { in_ms })
}

/// The last frame before a close. `retry_after_ms` counts where the code says to come back after a wait.
pub(crate) fn goodbye(code: CloseCode, retry_after_ms: u64) -> Frame {
    #[derive(Serialize)]
    struct Goodbye {
        code: u16,
        reason: &'static str,
        retry: Retry,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    }
    let goodbye = Goodbye {
        code: code.number(),
        reason: code.reason(),
        retry: code.retry(),
        retry_after_ms: (code.retry() == Retry::After).then_some(retry_after_ms),
    };
    frame("system:goodbye", &goodbye)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_that_is_too_long_is_told_its_own_length() {
        let text = format!(r#"{{"op":"ping","ref":"{}"}}"#, "x".repeat(65));
        let error = Message::parse(&text).op.unwrap_err();
        assert!(error.to_string().contains("`ref` has 65 bytes,"), "{error}");
    }

    #[test]
    fn a_message_that_cannot_be_understood_still_has_its_ref() {
        let deep = format!(
            r#"{{"op":"ping","ref":1,"data":{}1{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        let long = format!(r#"{{"op":"ping","ref":"{}"}}"#, "x".repeat(65));
        for (text, reference) in [
            ("", None),
            ("{", None),
            ("[]", None),
            ("\"ping\"", None),
            (r#"{"op":"ping","ref":{}}"#, None),
            (r#"{"op":"ping","ref":1e400}"#, None),
            (r#"{"ref":1}"#, Some("1")),
            (r#"{"op":"fly","ref":2}"#, Some("2")),
            (r#"{"op":5,"ref":3}"#, Some("3")),
            (r#"{"op":"join","ref":"a"}"#, Some("\"a\"")),
            (r#"{"op":"join","room":"user:x","ref":4}"#, Some("4")),
            (
                r#"{"op":"join","room":"user:7","since":"k:1","ref":5}"#,
                Some("5"),
            ),
            (
                r#"{"op":"join","room":"user:7","since":{"epoch":"k","seq":-1},"ref":6}"#,
                Some("6"),
            ),
            (r#"{"op":"ping","op":"ping","ref":7}"#, Some("7")),
            (r#"{"op":"auth","token":5,"ref":8}"#, Some("8")),
            (
                r#"{"op":"send","room":"user:7","data":1,"ref":9}"#,
                Some("9"),
            ),
            (
                r#"{"op":"send","room":"user:7","type":"a:b","key":"k","ref":10}"#,
                Some("10"),
            ),
            (&deep, None),
            (&long, None),
        ] {
            let message = Message::parse(text);
            assert!(message.op.is_err(), "{text}");
            let written = message
                .reference
                .map(|it| serde_json::to_string(&it).unwrap());
            assert_eq!(written.as_deref(), reference, "{text}");
        }
    }

    #[test]
    fn messages_are_read_as_documented() {
        let op = |text: &str| Message::parse(text).op.unwrap();
        assert_eq!(op(r#"{"op":"ping"}"#), Op::Ping);
        let Op::Join {
            since: Some(since), ..
        } = op(
            r#"{"op":"join","room":"task:550e8400-e29b-41d4-a716-446655440000","since":{"epoch":"k","seq":3}}"#,
        )
        else {
            panic!()
        };
        assert_eq!(since.to_string(), "k:3");
        let Op::Send { draft, .. } = op(
            r#"{"op":"send","room":"user:7","type":"chat:typing","ephemeral":true,"key":"t","data":{"a":1}}"#,
        ) else {
            panic!()
        };
        assert_eq!(
            draft.retention,
            Retention::Ephemeral {
                key: "t".parse().ok()
            }
        );
        assert_eq!(draft.data.as_str(), r#"{"a":1}"#);
        let nulls = r#"{"op":"send","room":"user:7","type":"a:b","data":null,"id":null,"ephemeral":null,"key":null,"ref":null}"#;
        let none = r#"{"op":"send","room":"user:7","type":"a:b"}"#;
        assert_eq!(Message::parse(nulls), Message::parse(none));
    }

    #[test]
    fn what_the_server_says_has_the_form_of_protocol_md() {
        let ok = reply(
            Some(&Ref::Number(1.into())),
            &Ok(Returned {
                seq: Seq::new(19).ok(),
                ..Returned::default()
            }),
        );
        assert_eq!(
            ok.text(),
            r#"{"type":"system:reply","data":{"ref":1,"ok":true,"seq":19}}"#
        );
        let refused = reply(None, &Err(Error::Draining));
        assert!(refused.text().starts_with(
            r#"{"type":"system:reply","data":{"ok":false,"error":{"code":"draining","#
        ));
        assert_eq!(
            goodbye(CloseCode::DRAINING, 5).text(),
            r#"{"type":"system:goodbye","data":{"code":4001,"reason":"draining","retry":"after","retry_after_ms":5}}"#
        );
        assert_eq!(
            goodbye(CloseCode::BAD_TOKEN, 5).text(),
            r#"{"type":"system:goodbye","data":{"code":4500,"reason":"bad token","retry":"never"}}"#
        );
    }
}
