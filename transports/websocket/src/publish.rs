//! The body of a publish: one strict JSON object, read into what the core takes.

use fanfare_core::{
    Draft, Error, EventId, EventType, Key, Payload, Publish, Retention, RoomId, Target, TaskId,
    UserId,
};
use serde::{Deserialize, Deserializer, de};

use crate::problem::Problem;

/// The path that a publish came to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Endpoint {
    /// `/v1/tasks/{id}/events`
    Task(TaskId),
    /// `/v1/users/{id}/events`
    User(UserId),
    /// `/v1/events`
    Bus,
}

/// `null` is as good as nothing: many publishers write all fields that their type has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    r#type: EventType,
    #[serde(default)]
    data: Payload,
    id: Option<EventId>,
    ephemeral: Option<bool>,
    key: Option<Key>,
    notify: Option<bool>,
    users: Option<Vec<User>>,
    room: Option<RoomId>,
}

/// A user as a number or as its decimal text: not every publisher's numbers reach to 64 bits.
struct User(UserId);

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = User;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a user id: a whole number, or a string with one")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<User, E> {
                Ok(User(UserId::new(number)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<User, E> {
                text.parse().map(User).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Reads the body of a publish that came to `endpoint`.
///
/// # Errors
/// A 400 that names the field which is wrong.
pub(crate) fn parse(body: &[u8], endpoint: Endpoint) -> Result<Publish, Problem> {
    // Serde would also take the fields in a list, by their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::bad_request(
            "the body has to be a JSON object, such as {\"type\":\"chat:message\",\"data\":{}}",
        ));
    }
    let body: Body = serde_json::from_slice(body)
        .map_err(|error| Error::unreadable("the body is not what it should be", &error))?;
    let target = target(endpoint, body.users, body.room)?;
    let retention = match (body.ephemeral.unwrap_or_default(), body.key) {
        (true, key) => Retention::Ephemeral { key },
        (false, None) => Retention::Kept,
        (false, Some(_)) => {
            return Err(Problem::bad_request(
                "`key` is for events with \"ephemeral\":true only",
            ));
        }
    };
    let draft = Draft {
        kind: body.r#type,
        data: body.data,
        id: body.id,
        retention,
        notify: body.notify,
    };
    Ok(Publish { target, draft })
}

fn target(
    endpoint: Endpoint,
    users: Option<Vec<User>>,
    room: Option<RoomId>,
) -> Result<Target, Problem> {
    match (endpoint, users, room) {
        (Endpoint::Task(task), users, None) => {
            let users: Vec<UserId> = users
                .unwrap_or_default()
                .into_iter()
                .map(|User(user)| user)
                .collect();
            if users.len() > fanfare_core::USERS_MAX {
                let most = fanfare_core::USERS_MAX;
                return Err(Problem::bad_request(format!(
                    "`users` has {} entries, and at most {most} are accepted",
                    users.len()
                )));
            }
            Ok(Target::Task { task, users })
        }
        (Endpoint::User(user), None, None) => Ok(Target::User(user)),
        (Endpoint::Bus, None, room) => Ok(Target::from(room)),
        (Endpoint::User(_) | Endpoint::Bus, Some(_), _) => Err(Problem::bad_request(
            "`users` is for POST /v1/tasks/{id}/events only",
        )),
        (Endpoint::Task(_) | Endpoint::User(_), _, Some(_)) => Err(Problem::bad_request(
            "`room` is for POST /v1/events only: here the path names it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: &str = "550e8400-e29b-41d4-a716-446655440000";

    fn task() -> TaskId {
        TASK.parse().unwrap()
    }

    #[test]
    fn every_field_reaches_the_core() {
        let body = br#" {"type":"task:status","users":[7,"18446744073709551615"],"data":{"a": 1},"id":"x:1",
            "ephemeral":true,"key":"progress","notify":false}"#;
        let publish = parse(body, Endpoint::Task(task())).unwrap();
        let users = vec![UserId::new(7), UserId::new(u64::MAX)];
        assert_eq!(
            publish.target,
            Target::Task {
                task: task(),
                users
            }
        );
        assert_eq!(publish.draft.kind.as_str(), "task:status");
        assert_eq!(publish.draft.data.as_str(), r#"{"a": 1}"#);
        assert_eq!(publish.draft.id.unwrap().as_str(), "x:1");
        assert_eq!(
            publish.draft.retention,
            Retention::Ephemeral {
                key: Some("progress".parse().unwrap())
            }
        );
        assert_eq!(publish.draft.notify, Some(false));
    }

    #[test]
    fn data_that_is_not_there_is_null_and_the_event_is_kept() {
        let publish = parse(
            br#"{"type":"chat:message"}"#,
            Endpoint::User(UserId::new(7)),
        )
        .unwrap();
        assert_eq!(publish.target, Target::User(UserId::new(7)));
        assert_eq!(
            (publish.draft.data.as_str(), publish.draft.retention),
            ("null", Retention::Kept)
        );
    }

    #[test]
    fn a_field_that_is_null_is_one_that_is_not_there() {
        let body = br#"{"type":"chat:message","data":null,"id":null,"ephemeral":null,"key":null,"notify":null,
            "users":null,"room":null}"#;
        let without = br#"{"type":"chat:message"}"#;
        for endpoint in [
            Endpoint::Task(task()),
            Endpoint::User(UserId::new(7)),
            Endpoint::Bus,
        ] {
            let (null, absent) = (parse(body, endpoint).unwrap(), parse(without, endpoint));
            assert_eq!(null, absent.unwrap(), "{endpoint:?}");
        }
    }

    #[test]
    fn a_refusal_repeats_no_more_than_a_piece_of_what_was_sent() {
        let long = "é".repeat(3_000);
        for body in [
            format!(r#"{{"type":"a:b","{long}":1}}"#),
            format!(r#"{{"type":"a:b","notify":"{long}"}}"#),
            format!(r#"{{"type":"{long}"}}"#),
            format!(r#"{{"type":"a:b","id":"{long}"}}"#),
        ] {
            let shown = format!("{:?}", parse(body.as_bytes(), Endpoint::Bus).unwrap_err());
            assert!(shown.len() < 1_000, "{body:.40}: {shown}");
        }
    }

    #[test]
    fn a_publish_to_the_bus_names_one_room_or_none() {
        for (body, target) in [
            (r#"{"type":"a:b"}"#.to_owned(), Target::Bus),
            (
                r#"{"type":"a:b","room":"user:7"}"#.to_owned(),
                Target::User(UserId::new(7)),
            ),
            (
                format!(r#"{{"type":"a:b","room":"task:{TASK}"}}"#),
                Target::Task {
                    task: task(),
                    users: Vec::new(),
                },
            ),
        ] {
            assert_eq!(
                parse(body.as_bytes(), Endpoint::Bus).unwrap().target,
                target,
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many = format!(r#"{{"type":"a:b","users":[{}]}}"#, vec!["1"; 101].join(","));
        let deep = format!(r#"{{"type":"a:b","data":{}}}"#, "[".repeat(10_000));
        let closed = format!(
            r#"{{"type":"a:b","data":{}{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        #[rustfmt::skip]
        let rows = [
            (Endpoint::Bus, "", "JSON object"),
            (Endpoint::Bus, "[\"a:b\"]", "JSON object"),
            (Endpoint::Bus, "{", "EOF"),
            (Endpoint::Bus, "{}", "missing field `type`"),
            (Endpoint::Bus, r#"{"type":"a:b"} x"#, "trailing characters"),
            (Endpoint::Bus, r#"{"type":"a:b","typo":1}"#, "unknown field `typo`"),
            (Endpoint::Bus, r#"{"type":"a:b","type":"a:b"}"#, "duplicate field `type`"),
            (Endpoint::Bus, r#"{"type":"Chat"}"#, "namespace:name"),
            (Endpoint::Bus, r#"{"type":7}"#, "expected"),
            (Endpoint::Bus, r#"{"type":"a:b","id":"a b"}"#, "event id"),
            (Endpoint::Bus, r#"{"type":"a:b","room":"room:7"}"#, "task:{uuid}"),
            (Endpoint::Bus, r#"{"type":"a:b","users":[7]}"#, "`users` is for"),
            (Endpoint::Bus, r#"{"type":"a:b","key":"k"}"#, "`key` is for"),
            (Endpoint::Bus, r#"{"type":"a:b","ephemeral":1}"#, "boolean"),
            (Endpoint::User(UserId::new(7)), r#"{"type":"a:b","room":"user:8"}"#, "`room` is for"),
            (Endpoint::Task(task()), r#"{"type":"a:b","users":7}"#, "sequence"),
            (Endpoint::Task(task()), r#"{"type":"a:b","users":[-1]}"#, "a user id"),
            (Endpoint::Task(task()), r#"{"type":"a:b","users":[1.5]}"#, "a user id"),
            (Endpoint::Task(task()), r#"{"type":"a:b","users":["07"]}"#, "user id"),
            (Endpoint::Task(task()), &many, "101 entries"),
            (Endpoint::Bus, &deep, "expected value"),
            (Endpoint::Bus, &closed, "levels"),
        ];
        for (endpoint, body, word) in rows {
            let problem = parse(body.as_bytes(), endpoint).unwrap_err();
            let shown = format!("{problem:?}");
            assert!(
                shown.contains("status: 400") && shown.contains(word),
                "{endpoint:?} {body:.80}: {shown}"
            );
        }
        assert!(
            parse(b"{\"type\":\"a:b\",\"data\":\"\xff\"}", Endpoint::Bus).is_err(),
            "invalid UTF-8"
        );
    }
}
