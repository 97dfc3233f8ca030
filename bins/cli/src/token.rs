//! `fanfare token`: a signed token for a user's clients.

use std::io::{Write, stdout};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_core::UserId;
use fanfare_websocket::client::Secret;
use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use crate::args::{Connection, Token};
use crate::error::Error;

/// What a token says, as PROTOCOL "Who may" has it.
#[derive(Debug, Serialize)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    pub(crate) iat: u64,
    pub(crate) exp: u64,
    pub(crate) tasks: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) send: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aud: Option<String>,
}

impl Claims {
    /// A token of `user` that joins `tasks` and may send what the server lets by default.
    pub(crate) fn new(user: UserId, tasks: Vec<String>, lifetime: Duration) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let exp = now.saturating_add(lifetime.as_secs());
        Self {
            sub: user.to_string(),
            iat: now,
            exp,
            tasks,
            send: Vec::new(),
            iss: None,
            aud: None,
        }
    }

    pub(crate) fn sign(&self, secret: &Secret) -> Result<Secret, Error> {
        let key = EncodingKey::from_secret(secret.expose().as_bytes());
        jsonwebtoken::encode(&Header::default(), self, &key)
            .map(Secret::new)
            .map_err(|error| Error::Usage(format!("the token can't be signed: {error}")))
    }
}

pub(crate) fn run(args: Token, connection: &Connection) -> Result<(), Error> {
    let secret = Connection::given(connection.token_secret.as_ref()).ok_or(Error::Missing {
        name: "FANFARE_TOKEN_SECRET",
        what: "the secret that the server checks tokens with; `fanfare-server --dev` prints one",
    })?;
    let claims = Claims {
        send: args.send.iter().map(ToString::to_string).collect(),
        iss: args.iss,
        aud: args.aud,
        ..Claims::new(args.user, args.tasks, args.expires)
    };
    let token = claims.sign(secret)?;
    writeln!(stdout(), "{}", token.expose()).map_err(Error::printing)
}
