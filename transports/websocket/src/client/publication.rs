//! A publish as the HTTP API takes it, and what it answers.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_core::{Epoch, EventId, Publish, Retention, RoomId, Seq, Target, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The server's answer to a publish.
///
/// ```
/// use fanfare_websocket::client::Receipt;
/// let answer = r#"{"id":"a","duplicate":false,"rooms":{"user:7":{"epoch":"k3J9","seq":42,"connected":2}}}"#;
/// let receipt: Receipt = serde_json::from_str(answer)?;
/// assert_eq!(receipt.rooms[&"user:7".parse()?].connected, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The event's id: the publisher's, or the server's.
    pub id: EventId,
    /// True where the same publish was taken before; the rest is the first one's answer.
    pub duplicate: bool,
    /// The rooms that have it.
    pub rooms: BTreeMap<RoomId, RoomReceipt>,
}

/// Where an event stands in a room.
///
/// ```
/// # use fanfare_websocket::client::RoomReceipt;
/// fn was_seen(room: &RoomReceipt) -> bool {
///     room.connected > 0
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomReceipt {
    /// The room's epoch.
    pub epoch: Epoch,
    /// The event's number in it.
    pub seq: Seq,
    /// Connections that were in the room.
    pub connected: u64,
}

/// A new event id (UUIDv7), to be kept for every retry of the same event.
///
/// ```
/// use fanfare_websocket::client::fresh_id;
/// assert_ne!(fresh_id(), fresh_id());
/// ```
#[must_use]
pub fn fresh_id() -> EventId {
    let uuid = fresh_uuid().to_string();
    uuid.parse()
        .unwrap_or_else(|_| unreachable!("a UUID is an event id"))
}

/// A UUIDv7 of now.
fn fresh_uuid() -> uuid::Uuid {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut random = [0; 10];
    if getrandom::fill(&mut random).is_err() {
        // A system without entropy still gives ids that differ.
        random.fill_with(|| fastrand::u8(..));
    }
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a EventId>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    users: &'a [UserId],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    ephemeral: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify: Option<bool>,
    data: &'a RawValue,
}

/// The path and the body of a publish.
pub(crate) fn request(publish: &Publish) -> Result<(String, Vec<u8>), serde_json::Error> {
    let draft = &publish.draft;
    let (path, users) = match &publish.target {
        Target::Task { task, users } => (format!("/v1/tasks/{task}/events"), users.as_slice()),
        Target::User(user) => (format!("/v1/users/{user}/events"), [].as_slice()),
        Target::Bus => ("/v1/events".to_owned(), [].as_slice()),
    };
    let (ephemeral, key) = match &draft.retention {
        Retention::Kept => (false, None),
        Retention::Ephemeral { key } => (true, key.as_ref().map(|key| key.as_str())),
    };
    let body = Body {
        kind: draft.kind.as_str(),
        id: draft.id.as_ref(),
        users,
        ephemeral,
        key,
        notify: draft.notify,
        data: serde_json::from_str(draft.data.as_str())?,
    };
    Ok((path, serde_json::to_vec(&body)?))
}

#[cfg(test)]
mod tests {
    use fanfare_core::{Draft, Payload};

    use super::*;

    #[test]
    fn a_publish_becomes_the_request_of_its_target() {
        let task: fanfare_core::TaskId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
        let draft = || {
            Draft::new(
                "task:status".parse().unwrap(),
                Payload::parse(r#"{"n":1e400}"#).unwrap(),
            )
        };
        let cases = [
            (
                Publish {
                    target: Target::Task {
                        task,
                        users: vec![UserId::new(7)],
                    },
                    draft: draft(),
                },
                "/v1/tasks/550e8400-e29b-41d4-a716-446655440000/events",
                r#"{"type":"task:status","users":["7"],"data":{"n":1e400}}"#,
            ),
            (
                Publish {
                    target: Target::User(UserId::new(u64::MAX)),
                    draft: draft()
                        .with_id("a".parse().unwrap())
                        .ephemeral(Some("k".parse().unwrap())),
                },
                "/v1/users/18446744073709551615/events",
                r#"{"type":"task:status","id":"a","ephemeral":true,"key":"k","data":{"n":1e400}}"#,
            ),
            (
                Publish {
                    target: Target::Bus,
                    draft: Draft {
                        notify: Some(false),
                        ..draft()
                    },
                },
                "/v1/events",
                r#"{"type":"task:status","notify":false,"data":{"n":1e400}}"#,
            ),
        ];
        for (publish, path, body) in cases {
            let (got_path, got_body) = request(&publish).unwrap();
            assert_eq!(
                (got_path.as_str(), str::from_utf8(&got_body).unwrap()),
                (path, body)
            );
        }
    }
}
