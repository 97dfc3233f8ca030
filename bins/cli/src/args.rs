//! The command line: every command and flag, with its help.

#[cfg(target_os = "linux")]
mod bench;

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::error::{ContextKind, ContextValue};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use fanfare_core::{
    DeviceId, EventId, Key, Pattern, Position, RoomId, TaskId, UserId, parse_since,
};
use fanfare_websocket::client::{Secret, Server};

use crate::error::Error;
#[cfg(target_os = "linux")]
pub(crate) use bench::Bench;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER: &str = "\
Exit status: 0 done; 1 failed; 2 wrong usage or configuration; 3 refused by the server; 4 the server can't be \
reached. `exec` ends with the status of its command: 128 + N where signal N ended it, 126 where it can't be executed, \
127 where it isn't found.

Environment: FANFARE_URL, FANFARE_API_KEY, FANFARE_TOKEN, FANFARE_TOKEN_SECRET; NO_COLOR.

A first try, against `fanfare-server --dev` with the lines that it prints:
  fanfare exec -- ping -c 5 127.0.0.1
  fanfare tail --bus '*'
  fanfare publish user:7 user:notification '{\"text\":\"hello\"}'";

const SERVER: &str = "http://127.0.0.1:8080";

/// Publish events to a Fanfare server, watch them come, run programs as tasks, and measure the server.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, after_help = AFTER, styles = STYLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What was typed, or what is wrong with it. A secret is not shown, whatever is wrong with it.
    pub(crate) fn understand(
        words: impl IntoIterator<Item: Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        Self::try_parse_from(words).map_err(|mut error| {
            let argument = error
                .get(ContextKind::InvalidArg)
                .map(ToString::to_string)
                .unwrap_or_default();
            if ["--api-key", "--token"]
                .iter()
                .any(|secret| argument.starts_with(secret))
            {
                let hidden = ContextValue::String("***".to_owned());
                error.insert(ContextKind::InvalidValue, hidden);
            }
            error
        })
    }
}

/// Where the server is, and what opens it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Connection {
    /// The server's address
    #[arg(long, global = true, env = "FANFARE_URL", default_value = SERVER, value_name = "URL",
          value_parser = server, value_hint = ValueHint::Url, hide_env_values = true)]
    pub(crate) url: Server,
    /// The API key, for publish, exec, bench and tail --bus. Better given by the environment: others can see a command line
    #[arg(long, global = true, env = "FANFARE_API_KEY", value_name = "KEY", value_parser = secret, hide_env_values = true)]
    pub(crate) api_key: Option<Secret>,
    /// A user's token, for tail of a task or a user, and for bench
    #[arg(long, global = true, env = "FANFARE_TOKEN", value_name = "JWT", value_parser = secret, hide_env_values = true)]
    pub(crate) token: Option<Secret>,
    /// The secret that tokens are signed with, for the command token, and for tail and bench to make their own
    #[arg(long, global = true, env = "FANFARE_TOKEN_SECRET", value_name = "SECRET", value_parser = secret, hide_env_values = true)]
    pub(crate) token_secret: Option<Secret>,
}

impl Connection {
    /// The key or token, where one was given.
    pub(crate) fn given(secret: Option<&Secret>) -> Option<&Secret> {
        secret.filter(|secret| !secret.expose().is_empty())
    }

    /// The API key.
    pub(crate) fn key(&self) -> Result<&Secret, Error> {
        Self::given(self.api_key.as_ref()).ok_or(Error::Missing {
            name: "FANFARE_API_KEY",
            what: "the key with which back ends publish; `fanfare-server --dev` prints one",
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Token(Token),
    Publish(Publish),
    Tail(Tail),
    History(History),
    Inbox(Inbox),
    Exec(Exec),
    #[cfg(target_os = "linux")]
    Bench(Box<Bench>),
    Completions(Completions),
}

/// Make a token for a user's clients
///
/// Signed with FANFARE_TOKEN_SECRET (HS256). Only the token is printed, so that it can be put where it is needed.
#[derive(Debug, Args)]
#[command(
    override_usage = "fanfare token [OPTIONS] --user <ID>",
    after_help = "\
Examples:
  fanfare token --user 7 --tasks '*'
  FANFARE_TOKEN=$(fanfare token --user 7 --tasks 550e8400-e29b-41d4-a716-446655440000 --expires 1h) fanfare tail user:7"
)]
pub(crate) struct Token {
    /// Whose token
    #[arg(long, value_name = "ID")]
    pub(crate) user: UserId,
    /// A task that the token may join, or '*' for all; may be given several times, or with commas
    #[arg(long, value_name = "TASK|*", value_delimiter = ',', value_parser = task_or_all)]
    pub(crate) tasks: Vec<String>,
    /// An event type that the token may send ('chat:*', 'chat:message'); may be given several times. Default: the server's
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    pub(crate) send: Vec<Pattern>,
    /// When it expires: a number with s, m, h or d
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = duration)]
    pub(crate) expires: Duration,
    /// The issuer, where the server is configured to check it
    #[arg(long, value_name = "TEXT")]
    pub(crate) iss: Option<String>,
    /// The audience, where the server is configured to check it
    #[arg(long, value_name = "TEXT")]
    pub(crate) aud: Option<String>,
}

/// Publish one event
///
/// To a task's room, to a user's, or with --bus to the back ends that listen to the bus. The receipt is printed: a
/// line on a terminal, JSON otherwise.
#[derive(Debug, Args)]
#[command(
    override_usage = "fanfare publish [OPTIONS] <ROOM> [TYPE] <DATA>\n       fanfare publish [OPTIONS] --bus <TYPE> <DATA>",
    after_help = "\
Examples:
  fanfare publish user:7 user:notification '{\"text\":\"Your report is ready\"}'
  fanfare publish task:550e8400-e29b-41d4-a716-446655440000 task:completed '{\"result\":\"ok\"}' --user 7
  generate-report | fanfare publish user:7 report:ready -
  fanfare publish --bus metrics:tick '{\"load\":0.4}' --ephemeral"
)]
pub(crate) struct Publish {
    /// ROOM: task:UUID or user:ID; not with --bus. TYPE: namespace:name; left out, it is user:notification for a user
    /// and chat:message for a task. DATA: JSON, or - to read it from standard input
    #[arg(num_args = 2..=3, required = true, value_names = ["ROOM", "TYPE", "DATA"], allow_negative_numbers = true)]
    pub(crate) words: Vec<String>,
    /// To no room: only subscribers of the bus get it
    #[arg(long)]
    pub(crate) bus: bool,
    /// A user whose room gets a task's event too; may be given several times, or with commas
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "bus")]
    pub(crate) user: Vec<UserId>,
    /// The event's id: the same event published again with it is not doubled
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<EventId>,
    /// Not kept: only who is connected now gets it
    #[arg(long)]
    pub(crate) ephemeral: bool,
    /// Replaces an earlier event of this key that was not sent yet; with --ephemeral
    #[arg(long, value_name = "KEY", requires = "ephemeral")]
    pub(crate) key: Option<Key>,
    /// Count it as a notification, whatever its type
    #[arg(long, conflicts_with = "no_notify")]
    pub(crate) notify: bool,
    /// Don't count it as a notification
    #[arg(long)]
    pub(crate) no_notify: bool,
    /// How long to try again, where the server can't be reached or asks to come back later
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) retry_for: Duration,
}

/// Watch events as they come
///
/// A line for each on a terminal, JSON (the event as it came) a line otherwise. Comes back by itself when the
/// connection is lost, from where it was; Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(override_usage = "fanfare tail [OPTIONS] <ROOM>\n       fanfare tail [OPTIONS] --bus <PATTERN>",
          group = ArgGroup::new("what").required(true).args(["room", "bus"]), after_help = "\
Examples:
  fanfare tail task:550e8400-e29b-41d4-a716-446655440000
  fanfare tail user:7 --count 1
  fanfare tail --bus 'task:*' | jq .data

A task or a user needs FANFARE_TOKEN; with FANFARE_TOKEN_SECRET instead it makes itself a token. The bus needs \
FANFARE_API_KEY.")]
pub(crate) struct Tail {
    /// task:UUID or user:ID
    #[arg(value_name = "ROOM")]
    pub(crate) room: Option<RoomId>,
    /// Every event of these types, of all rooms: 'task:*', 'chat:message', '*'; may be given several times, or with commas
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', num_args = 1)]
    pub(crate) bus: Vec<Pattern>,
    /// Begin after this position: EPOCH:SEQ of the room, or a list ROOM@EPOCH:SEQ,…
    #[arg(long, value_name = "POSITION", value_parser = since, conflicts_with = "bus")]
    pub(crate) since: Option<Since>,
    /// The name of this device: begins after what it has acknowledged
    #[arg(long, value_name = "NAME", conflicts_with = "bus")]
    pub(crate) device: Option<DeviceId>,
    /// Acknowledge for the device what was printed: it is not sent to it again
    #[arg(long, requires = "device")]
    pub(crate) ack: bool,
    /// Stop after this many events
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How to print: auto is pretty on a terminal and json otherwise
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Auto)]
    pub(crate) format: Format,
    /// Show what the server says about itself too (system:…)
    #[arg(long)]
    pub(crate) system: bool,
    /// No notes on standard error
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Print what a room keeps
///
/// The oldest event first. A line for each on a terminal, JSON (the event as it came) a line otherwise.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanfare history task:550e8400-e29b-41d4-a716-446655440000
  fanfare history user:7 --newest --count 10")]
pub(crate) struct History {
    /// task:UUID or user:ID
    #[arg(value_name = "ROOM")]
    pub(crate) room: RoomId,
    /// Begin after this position, EPOCH:SEQ
    #[arg(long, value_name = "POSITION", conflicts_with = "newest")]
    pub(crate) since: Option<Position>,
    /// The newest event first
    #[arg(long)]
    pub(crate) newest: bool,
    /// Stop after this many events
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// How to print: auto is pretty on a terminal and json otherwise
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Auto)]
    pub(crate) format: Format,
}

/// Show what a user has not read
///
/// And how far each of the user's devices got. Lines on a terminal, JSON otherwise.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fanfare inbox 7")]
pub(crate) struct Inbox {
    /// Whose
    #[arg(value_name = "USER")]
    pub(crate) user: UserId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Auto,
    Pretty,
    Json,
}

/// Where a tail begins.
#[derive(Debug, Clone)]
pub(crate) enum Since {
    Room(Position),
    Rooms(Vec<(RoomId, Position)>),
}

/// Run a command as a task
///
/// Its beginning, its output, the percentages that it prints, and its end are published as events of a task. What it
/// prints is printed here too, unchanged; its exit status is that of this command. It never waits for the server.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanfare exec -- cargo build
  fanfare exec --user 7 --title 'Nightly backup' -- ./backup.sh --password-file /run/secret
  fanfare exec --task 550e8400-e29b-41d4-a716-446655440000 -- make -j4

What it prints is published: whoever may see the task sees it. The values of FANFARE_API_KEY, FANFARE_TOKEN and \
FANFARE_TOKEN_SECRET are replaced by ***. Ctrl-C, SIGTERM, SIGHUP and SIGQUIT reach the command; the third one kills it.")]
pub(crate) struct Exec {
    /// The task's id; a new one otherwise
    #[arg(long, value_name = "ID")]
    pub(crate) task: Option<TaskId>,
    /// A user who is told of it; may be given several times, or with commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) user: Vec<UserId>,
    /// What the task is called; the command line is then not published
    #[arg(long, value_name = "TEXT")]
    pub(crate) title: Option<String>,
    /// Give the command a terminal, whether or not there is one here
    #[arg(long, conflicts_with = "no_pty")]
    pub(crate) pty: bool,
    /// Give the command pipes, though there is a terminal here
    #[arg(long)]
    pub(crate) no_pty: bool,
    /// How long to wait, after the command's end, for events that were not delivered yet
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) linger: Duration,
    /// No notes on standard error, except what failed
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<OsString>,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(
    override_usage = "fanfare completions <SHELL>",
    after_help = "\
Examples:
  fanfare completions bash > ~/.local/share/bash-completion/completions/fanfare
  fanfare completions zsh > ~/.zfunc/_fanfare
  fanfare completions fish > ~/.config/fish/completions/fanfare.fish"
)]
pub(crate) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

fn server(text: &str) -> Result<Server, String> {
    let wrong = |error| format!("{error}; give it as {SERVER}, by --url or FANFARE_URL");
    text.parse().map_err(wrong)
}

/// A key with a line break in it is a mistake to be told here. An empty one is as good as none ([`Connection::given`]).
fn secret(text: &str) -> Result<Secret, &'static str> {
    let text = text.trim();
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err("it has spaces or characters that are no ASCII");
    }
    Ok(Secret::new(text))
}

fn task_or_all(text: &str) -> Result<String, fanfare_core::Error> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    text.parse::<TaskId>().map(|task| task.to_string())
}

fn since(text: &str) -> Result<Since, fanfare_core::Error> {
    if text.contains('@') {
        parse_since(text).map(Since::Rooms)
    } else {
        text.parse().map(Since::Room)
    }
}

/// `90s`, `15m`, `12h`, `7d`; at most 100 years, so that no date overflows.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "expected a number with s, m, h or d, such as 90s or 12h, up to 36500d";
    let unit = text.chars().next_back().ok_or(WRONG)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(WRONG),
    };
    let number: u64 = text
        .strip_suffix(unit)
        .and_then(|number| number.parse().ok())
        .ok_or(WRONG)?;
    let seconds = number
        .checked_mul(seconds)
        .filter(|seconds| *seconds <= 36_500 * 86_400)
        .ok_or(WRONG)?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_numbers_with_a_unit() {
        let good = [
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("12h", 43_200),
            ("7d", 604_800),
            ("36500d", 3_153_600_000),
        ];
        for (text, seconds) in good {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in [
            "",
            "s",
            "12",
            "-1s",
            "1.5h",
            "12 h",
            "36501d",
            "99999999999999999999d",
            "1w",
            "１h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_secret_is_in_debug_output_or_in_the_help() {
        let words = [
            "fanfare",
            "--api-key",
            "hush-key",
            "--token",
            "hush-jwt",
            "--token-secret",
            "hush-secret",
            "tail",
            "user:7",
        ];
        let cli = Cli::try_parse_from(words).unwrap();
        assert!(!format!("{cli:?}").contains("hush"));
        for secret in ["--api-key", "--token", "--token-secret"] {
            let words = ["fanfare", secret, "hush hush", "tail", "user:7"];
            let error = Cli::understand(words).unwrap_err().render().to_string();
            assert!(!error.contains("hush"), "{error}");
            assert!(error.contains("spaces"), "{error}");
        }
    }

    /// The rows of the table whose first column has this head, in a part of `docs/cli.md`; a row is its cells.
    fn table(part: &str, head: &str) -> Vec<Vec<String>> {
        let rows = part
            .lines()
            .skip_while(|line| !line.starts_with(&format!("| {head} |")))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        // `\|` is a bar within a cell.
        let cells = |row: &str| {
            let row = row.trim_matches('|').replace("\\|", "\u{0}");
            let cells = row.split('|').map(|cell| cell.trim().replace('\u{0}', "|"));
            cells.collect()
        };
        rows.map(cells).collect()
    }

    /// The flag and default of each argument, as a row begins.
    fn defined<'a>(arguments: impl Iterator<Item = &'a clap::Arg>) -> Vec<Vec<String>> {
        arguments
            .filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
            .map(|argument| {
                let values: Vec<_> = argument
                    .get_value_names()
                    .unwrap_or_default()
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let takes = argument.get_action().takes_values() && !values.is_empty();
                let long = argument.get_long().map(|long| format!("--{long}"));
                let words: Vec<_> = long
                    .into_iter()
                    .chain(takes.then(|| values.join(" ")))
                    .collect();
                let mut flag = format!("`{}`", words.join(" "));
                if let Some(short) = argument.get_short() {
                    flag += &format!(", `-{short}`");
                }
                let default = argument
                    .get_default_values()
                    .first()
                    .filter(|_| takes)
                    .map_or_else(String::new, |value| format!("`{}`", value.display()));
                vec![flag, default]
            })
            .collect()
    }

    #[test]
    fn the_document_has_each_flag_and_variable_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        let document = std::fs::read_to_string(path).unwrap();
        let mut cli = Cli::command();
        cli.build();
        let begins = |mut row: Vec<String>| {
            assert!(row.len() == 3 && !row[2].is_empty(), "{row:?}");
            row.truncate(2);
            row
        };
        let globals: Vec<_> = cli.get_arguments().filter(|a| a.is_global_set()).collect();
        let part = document.split("\n## ").nth(1).unwrap();
        let rows: Vec<_> = table(part, "flag").into_iter().map(begins).collect();
        assert_eq!(rows, defined(globals.iter().copied()));

        let mut variables: Vec<_> = globals
            .iter()
            .filter_map(|argument| argument.get_env())
            .map(|name| format!("`{}`", name.display()))
            .collect();
        variables.extend(["`FANFARE_TASK`".to_owned(), "`NO_COLOR`".to_owned()]);
        let rows = table(part, "variable").into_iter();
        assert_eq!(
            rows.map(|row| row[0].clone()).collect::<Vec<_>>(),
            variables
        );

        for command in cli.get_subcommands().filter(|c| c.get_name() != "help") {
            let name = command.get_name();
            let part = document
                .split("\n## ")
                .find(|part| part.starts_with(&format!("fanfare {name}\n")))
                .unwrap_or_else(|| panic!("{name} has no part"));
            let rows = table(part, "flag");
            for argument in command.get_arguments() {
                let values = argument.get_possible_values();
                for value in values
                    .iter()
                    .filter(|_| argument.get_action().takes_values())
                {
                    assert!(
                        part.contains(&format!("`{}`", value.get_name())),
                        "{name}: {value:?}"
                    );
                }
            }
            let mut rows: Vec<_> = rows.into_iter().map(begins).collect();
            let own = command.get_arguments().filter(|a| !a.is_global_set());
            let mut defined = defined(own);
            rows.sort();
            defined.sort();
            assert_eq!(rows, defined, "{name}");
        }
    }
}
