//! What a start says on standard output: with `--dev` everything that is needed to try Fanfare out.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use crate::secrets::Secrets;

/// A task for the printed commands: any UUID does.
const TASK: &str = "550e8400-e29b-41d4-a716-446655440000";

/// The users whose tokens are printed.
pub(crate) const USERS: [u64; 2] = [7, 8];

/// The text of `--dev`, of which each command can be copied as it is.
pub(crate) struct Welcome<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) secrets: &'a Secrets,
    /// Of [`USERS`], in their order.
    pub(crate) tokens: [String; 2],
}

impl Display for Welcome<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let url = format!("http://{}", self.address);
        let socket = format!("ws://{}", self.address);
        writeln!(
            f,
            "Fanfare {}, to try out: it listens on this machine only,",
            env!("CARGO_PKG_VERSION")
        )?;
        writeln!(f, "and its secrets are new at each start.\n")?;
        writeln!(f, "  Page   {url}/\n")?;
        writeln!(f, "In another terminal, first:\n")?;
        writeln!(
            f,
            "  export FANFARE_URL={url} FANFARE_API_KEY={}",
            self.secrets.api_key
        )?;
        writeln!(
            f,
            "  export FANFARE_TOKEN_SECRET={}\n",
            self.secrets.token_secret
        )?;
        writeln!(
            f,
            "then run any command as a task of user 7, and see it on the page:\n"
        )?;
        writeln!(f, "  fanfare exec --user 7 -- ping -c 5 127.0.0.1\n")?;
        writeln!(f, "or from the source, where `fanfare` is not installed:\n")?;
        writeln!(
            f,
            "  cargo run --release -p fanfare -- exec --user 7 -- ping -c 5 127.0.0.1\n"
        )?;
        writeln!(
            f,
            "Follow what user 7 gets, all that happens to tasks, or send user 7 a notification:\n"
        )?;
        writeln!(f, "  fanfare tail user:7")?;
        writeln!(f, "  fanfare tail --bus 'task:*'")?;
        writeln!(
            f,
            "  fanfare publish user:7 user:notification '{{\"text\":\"hello\"}}'\n"
        )?;
        writeln!(f, "The same without `fanfare`, by HTTP:\n")?;
        writeln!(f, "  curl {url}/v1/tasks/{TASK}/events \\")?;
        writeln!(
            f,
            "    -H \"Authorization: Bearer $FANFARE_API_KEY\" -H 'Content-Type: application/json' \\"
        )?;
        writeln!(
            f,
            "    -d '{{\"type\":\"task:created\",\"users\":[7],\"data\":{{\"name\":\"demo\"}}}}'\n"
        )?;
        writeln!(
            f,
            "Tokens for clients of your own, good for 12 hours and for all tasks:\n"
        )?;
        for (user, token) in USERS.iter().zip(&self.tokens) {
            writeln!(f, "  user {user}   {token}")?;
        }
        writeln!(f, "\n  {socket}/v1/user/notifications?token=...")?;
        writeln!(f, "  {socket}/v1/tasks/{TASK}/chat?token=...\n")?;
        writeln!(f, "Ctrl-C ends it.")
    }
}
