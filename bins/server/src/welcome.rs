//! What a start says on standard output: with `--dev` everything that is needed to try Fanfare out.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::Path;

use fanfare_core::TaskId;

use crate::secrets::Secrets;

/// The users whose tokens are printed.
pub(crate) const USERS: [u64; 2] = [7, 8];

/// The text of `--dev`, of which each command can be copied as it is, and again.
pub(crate) struct Welcome<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) secrets: &'a Secrets,
    /// Of [`USERS`], in their order.
    pub(crate) tokens: [String; 2],
    /// A task that nobody has heard of.
    pub(crate) task: TaskId,
    pub(crate) started: Started,
    /// The folder in which everything is kept; none where it is in memory.
    pub(crate) data: Option<&'a Path>,
}

/// How the server was started, and so how the command line can be.
#[derive(Clone, Copy)]
pub(crate) enum Started {
    /// From its source, by Cargo: there need not be a `fanfare` on the path.
    ByCargo,
    Installed,
}

impl Started {
    /// Cargo tells what it runs which package that is of.
    pub(crate) fn find() -> Self {
        match std::env::var_os("CARGO_PKG_NAME") {
            Some(package) if package == env!("CARGO_PKG_NAME") => Self::ByCargo,
            Some(_) | None => Self::Installed,
        }
    }

    const fn terminal(self) -> &'static str {
        match self {
            Self::ByCargo => "In another terminal, in the same folder, first:",
            Self::Installed => "In another terminal, first:",
        }
    }

    /// In the profile of the server, so that what both need is built once.
    pub(crate) const fn fanfare(self) -> &'static str {
        match self {
            Self::ByCargo if cfg!(debug_assertions) => "cargo run -p fanfare --",
            Self::ByCargo => "cargo run --release -p fanfare --",
            Self::Installed => "fanfare",
        }
    }
}

impl Display for Welcome<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            secrets,
            tokens: [seven, eight],
            task,
            started,
            data,
        } = self;
        let kept = match data {
            Some(folder) => {
                let folder = folder.display().to_string();
                let word = quoted(&folder);
                format!(
                    "What is published is kept in {folder}; once it has ended, `rm -r {word}` begins anew."
                )
            }
            None => "What is published is kept in memory: the next start begins anew.".to_owned(),
        };
        let [token_secret, api_key] =
            [&secrets.token_secret, &secrets.api_key].map(|secret| quoted(secret));
        write!(
            f,
            r#"Fanfare {version}, to try out: for this machine only, with secrets that are new at each start.

  http://{address}/

That page shows what comes. {terminal}

  export FANFARE_URL=http://{address} FANFARE_API_KEY={api_key}
  export FANFARE_TOKEN_SECRET={token_secret}

Then any of these, as often as you like. Run a command as a task of user 7:

  {fanfare} exec --user 7 -- sh -c 'for n in 25 50 75 100; do sleep 1; echo "$n%"; done'

Send user 7 a notification, by a command or by HTTP:

  {fanfare} publish user:7 user:notification '{{"text":"hello"}}'
  curl "$FANFARE_URL/v1/users/7/events" \
    -H "Authorization: Bearer $FANFARE_API_KEY" -H 'Content-Type: application/json' \
    -d '{{"type":"user:notification","data":{{"text":"hello"}}}}'

Follow what user 7 gets, or all that happens to tasks:

  {fanfare} tail user:7
  {fanfare} tail --bus 'task:*'

Write into the chat of a task, which http://{address}/#user=7&task={task} shows:

  curl "$FANFARE_URL/v1/tasks/{task}/events" \
    -H "Authorization: Bearer $FANFARE_API_KEY" -H 'Content-Type: application/json' \
    -d '{{"type":"chat:message","users":[7],"data":{{"text":"hello"}}}}'

A client of your own opens one of these, with ?token= and a token that is good for 12 hours and all tasks:

  ws://{address}/v1/user/notifications
  ws://{address}/v1/tasks/{task}/chat

  user 7  {seven}
  user 8  {eight}

{kept}
Ctrl-C ends it.
"#,
            version = env!("CARGO_PKG_VERSION"),
            terminal = started.terminal(),
            fanfare = started.fanfare(),
        )
    }
}

/// A word of a shell's line that means `text`.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=:@%,".contains(&byte);
    if text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
