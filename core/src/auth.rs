//! What a token says, and what its bearer may do.
//!
//! Signatures are the driver's to check; from the claims on, everything is decided here.

use crate::ids::{EventType, Pattern, TaskId, UserId};
use crate::time::Wall;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most tasks, and most patterns, that a token may name.
const NAMED_MAX: usize = 1_000;

/// Which tasks a token names.
///
/// ```
/// use fanfare_core::TaskGrant;
/// let all: TaskGrant = serde_json::from_str(r#"["*"]"#)?;
/// assert_eq!(all, TaskGrant::All);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskGrant {
    /// `["*"]`
    All,
    /// These only, in their order.
    Only(Vec<TaskId>),
}

impl Default for TaskGrant {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Serialize for TaskGrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.collect_seq(["*"]),
            Self::Only(tasks) => serializer.collect_seq(tasks),
        }
    }
}

impl<'de> Deserialize<'de> for TaskGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = few(deserializer)?;
        if texts.iter().any(|text| text == "*") {
            return Ok(Self::All);
        }
        let mut tasks = texts
            .iter()
            .map(|text| text.parse())
            .collect::<Result<Vec<TaskId>, _>>()
            .map_err(serde::de::Error::custom)?;
        tasks.sort_unstable();
        tasks.dedup();
        Ok(Self::Only(tasks))
    }
}

fn few<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > NAMED_MAX {
        return Err(serde::de::Error::custom(format!(
            "at most {NAMED_MAX} entries are accepted"
        )));
    }
    Ok(texts)
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    few(deserializer)?
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}

fn write_patterns<S: Serializer>(patterns: &[Pattern], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(patterns.iter().map(ToString::to_string))
}

fn chat() -> Vec<Pattern> {
    vec![Pattern::Namespace("chat".into())]
}

/// The claims of a client's token (RFC 7519, section 4.1) that Fanfare knows.
///
/// ```
/// use fanfare_core::{Claims, UserId};
/// let claims: Claims = serde_json::from_str(r#"{"sub":"7","exp":1800000000,"tasks":["*"]}"#)?;
/// assert_eq!(claims.sub, UserId::new(7));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user, as a decimal string.
    pub sub: UserId,
    /// When the token ends: seconds since the Unix epoch.
    pub exp: u64,
    /// When it begins: seconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// The tasks whose rooms its bearer may join; none where the claim is missing.
    #[serde(default)]
    pub tasks: TaskGrant,
    /// The event types that its bearer may send; `chat:*` where the claim is missing.
    #[serde(
        default = "chat",
        deserialize_with = "patterns",
        serialize_with = "write_patterns"
    )]
    pub send: Vec<Pattern>,
}

impl Claims {
    /// Claims of `user` until `exp`, in seconds since the Unix epoch, for `tasks` and for sending `chat:*`.
    #[must_use]
    pub fn new(user: UserId, exp: u64, tasks: TaskGrant) -> Self {
        Self {
            sub: user,
            exp,
            nbf: None,
            tasks,
            send: chat(),
        }
    }
}

/// Why somebody is not who they say, or may not do what they ask.
///
/// ```
/// use fanfare_core::AuthError;
/// assert_eq!(AuthError::Expired.code(), "token_expired");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not a token that this server accepts. Why is not told to who sent it.
    #[error("the token is not valid here")]
    BadToken,
    /// The token has ended.
    #[error("the token has expired: get a new one")]
    Expired,
    /// The token begins later.
    #[error("the token is not valid yet")]
    NotYet,
    /// The token does not name the task.
    #[error("the token does not name this task")]
    TaskNotNamed,
}

impl AuthError {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::BadToken | Self::NotYet => "bad_token",
            Self::Expired => "token_expired",
            Self::TaskNotNamed => "forbidden",
        }
    }
}

/// Who a connection belongs to, and what it may do until when.
///
/// ```
/// use fanfare_core::{AuthError, Claims, Principal, TaskGrant, UserId, Wall};
/// let claims = Claims::new(UserId::new(7), 100, TaskGrant::All);
/// assert!(Principal::new(claims.clone(), Wall::from_unix_millis(99_999)).is_ok());
/// assert_eq!(Principal::new(claims, Wall::from_unix_millis(100_000)), Err(AuthError::Expired));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    user: UserId,
    expires_at: Wall,
    tasks: TaskGrant,
    send: Vec<Pattern>,
}

impl Principal {
    /// The bearer of a token whose signature was found right.
    ///
    /// # Errors
    /// [`AuthError::Expired`] and [`AuthError::NotYet`], to the millisecond.
    pub fn new(claims: Claims, now: Wall) -> Result<Self, AuthError> {
        let seconds = |seconds: u64| Wall::from_unix_millis(seconds.saturating_mul(1_000));
        let expires_at = seconds(claims.exp);
        if now >= expires_at {
            return Err(AuthError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now < seconds(nbf)) {
            return Err(AuthError::NotYet);
        }
        Ok(Self {
            user: claims.sub,
            expires_at,
            tasks: claims.tasks,
            send: claims.send,
        })
    }

    /// The user.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The end of the token.
    #[must_use]
    pub const fn expires_at(&self) -> Wall {
        self.expires_at
    }

    /// Whether the token names `task`. O(log of the named tasks).
    #[must_use]
    pub fn may_join(&self, task: TaskId) -> bool {
        match &self.tasks {
            TaskGrant::All => true,
            TaskGrant::Only(tasks) => tasks.binary_search(&task).is_ok(),
        }
    }

    /// Whether the bearer may send events of this type. Never those of `task:`, `system:` and `inbox:`.
    #[must_use]
    pub fn may_send(&self, kind: &EventType) -> bool {
        !["task", "system", "inbox"].contains(&kind.namespace())
            && self.send.iter().any(|pattern| pattern.matches(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_that_are_not_of_their_type_are_refused() {
        for json in [
            r#"{"sub":7,"exp":1}"#,
            r#"{"sub":"07","exp":1}"#,
            r#"{"sub":"7"}"#,
            r#"{"sub":"7","exp":"1"}"#,
            r#"{"sub":"7","exp":-1}"#,
            r#"{"sub":"7","exp":1e400}"#,
            r#"{"sub":"7","exp":1.5}"#,
            r#"{"sub":"7","exp":1,"tasks":"*"}"#,
            r#"{"sub":"7","exp":1,"tasks":["x"]}"#,
            r#"{"sub":"7","exp":1,"send":["x"]}"#,
        ] {
            assert!(serde_json::from_str::<Claims>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_client_never_sends_what_is_the_back_ends_or_the_servers() {
        let mut claims = Claims::new(UserId::new(7), 1, TaskGrant::All);
        let may_send = |claims: &Claims, kind: &str| {
            let principal = Principal::new(claims.clone(), Wall::default()).unwrap();
            principal.may_send(&kind.parse().unwrap())
        };
        assert!(may_send(&claims, "chat:message"));
        assert!(!may_send(&claims, "note:added"));
        claims.send = vec![Pattern::Any];
        assert!(may_send(&claims, "note:added"));
        for kind in ["task:created", "task:mine", "system:welcome", "inbox:read"] {
            assert!(!may_send(&claims, kind), "{kind}");
        }
    }

    #[test]
    fn claims_survive_a_round_trip() {
        let json = r#"{"sub":"7","exp":5,"nbf":1,"tasks":["550e8400-e29b-41d4-a716-446655440000"],"send":["chat:*"]}"#;
        let claims: Claims = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&claims).unwrap(), json);
    }
}
