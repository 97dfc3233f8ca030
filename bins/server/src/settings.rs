//! The one table of settings: flag, environment variable, TOML key, help and documentation all come from its rows.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use fanfare_core::Limits;
use fanfare_store::Durability;
use fanfare_websocket::{ListenerLimits, Origins, SocketLimits};
use tracing_subscriber::EnvFilter;

/// What the names of environment variables begin with.
pub(crate) const PREFIX: &str = "FANFARE_";

/// The setting that only a flag or the environment can give.
pub(crate) const CONFIG: &str = "config";

/// The setting that `--memory` contradicts.
pub(crate) const DATA: &str = "data";

/// Fewest bytes of a request's head that can be a limit.
const HEAD_BYTES_MIN: usize = 8 << 10;

/// Most bytes of a publish that is kept: a row of the store has 16 MiB at most, and the event has more than its data.
const PUBLISH_BYTES_MAX: usize = 8 << 20;

/// Everything that can be set, as the server uses it.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) listen: Listen,
    pub(crate) config: Option<PathBuf>,
    pub(crate) dev: bool,
    /// None for as many as there are cores.
    pub(crate) shards: Option<u8>,
    pub(crate) data: PathBuf,
    pub(crate) memory: bool,
    pub(crate) durability: Durability,
    pub(crate) drain_timeout_ms: u64,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) token_secret_file: Option<PathBuf>,
    pub(crate) api_key_file: Option<PathBuf>,
    pub(crate) token_issuer: Option<String>,
    pub(crate) token_audience: Option<String>,
    pub(crate) allowed_origins: Origins,
    pub(crate) batch_bytes: usize,
    pub(crate) publish_timeout_ms: u64,
    pub(crate) listener: ListenerLimits,
    pub(crate) socket: SocketLimits,
    pub(crate) limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen {
                text: "127.0.0.1:8080".to_owned(),
                address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            },
            config: None,
            dev: false,
            shards: None,
            data: PathBuf::from("./fanfare-data"),
            memory: false,
            durability: Durability::Immediate,
            drain_timeout_ms: 10_000,
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            token_secret_file: None,
            api_key_file: None,
            token_issuer: None,
            token_audience: None,
            allowed_origins: Origins::any(),
            batch_bytes: 8 << 20,
            publish_timeout_ms: 10_000,
            listener: ListenerLimits::default(),
            socket: SocketLimits::default(),
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// What can't be together, or not at all, though each value by itself is well-formed. `data` is the spelling in which
    /// a folder for the data was named, where it was.
    pub(crate) fn contradictions(&self, data: Option<&str>) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(data) = data.filter(|_| self.memory) {
            found.push(format!(
                "--memory keeps nothing, and {data} says where to keep it: leave one of them out"
            ));
        }
        if !self.memory && self.limits.data_bytes > PUBLISH_BYTES_MAX {
            found.push(format!(
                "publish-bytes is above {}, which is the most that the store keeps as one event: lower it, or keep \
                 nothing by --memory",
                size_text(PUBLISH_BYTES_MAX)
            ));
        }
        if self.dev && !self.listen.address.ip().is_loopback() {
            found.push(format!(
                "--dev hands out tokens to whoever asks, so it listens on loopback only, not on {}: leave --listen \
                 out, or leave --dev out and set the secrets",
                self.listen.text
            ));
        }
        if self.listener.head_bytes < HEAD_BYTES_MIN {
            let least = size_text(HEAD_BYTES_MIN);
            found.push(format!(
                "head-bytes is below {least}, which browsers' requests may need"
            ));
        }
        found
    }
}

/// An address to listen on, with the text that named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    text: String,
    pub(crate) address: SocketAddr,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text where standard error is a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// A heading of `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Server,
    Store,
    Access,
    Limits,
}

impl Group {
    /// In the order of `--help`.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 4] = [Self::Server, Self::Store, Self::Access, Self::Limits];

    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Store => "What is kept",
            Self::Access => "Who may",
            Self::Limits => "Limits",
        }
    }
}

/// Where a value lives in the configuration, and with that how its text is read and shown.
enum Field {
    Switch(fn(&mut Config) -> &mut bool),
    Filter(fn(&mut Config) -> &mut String),
    Name(fn(&mut Config) -> &mut Option<String>),
    Origins(fn(&mut Config) -> &mut Origins),
    Path(fn(&mut Config) -> &mut Option<PathBuf>),
    Folder(fn(&mut Config) -> &mut PathBuf),
    Durability(fn(&mut Config) -> &mut Durability),
    Listen(fn(&mut Config) -> &mut Listen),
    LogFormat(fn(&mut Config) -> &mut LogFormat),
    Shards(fn(&mut Config) -> &mut Option<u8>),
    /// Milliseconds.
    Time(fn(&mut Config) -> &mut u64),
    Bytes(fn(&mut Config) -> &mut usize),
    Count(fn(&mut Config) -> &mut usize),
    Rate(fn(&mut Config) -> &mut u32),
}

/// A row of the table.
pub(crate) struct Setting {
    /// In the spelling of a flag, without the dashes.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) help: &'static str,
    field: Field,
}

const fn setting(name: &'static str, group: Group, field: Field, help: &'static str) -> Setting {
    Setting {
        name,
        group,
        help,
        field,
    }
}

/// Every setting.
#[rustfmt::skip]
pub(crate) static SETTINGS: &[Setting] = &[
    setting("listen", Group::Server, Field::Listen(|c| &mut c.listen), "Address and port to listen on; port 0 takes a free one"),
    setting(CONFIG, Group::Server, Field::Path(|c| &mut c.config), "TOML file with settings; not a key of that file itself"),
    setting("dev", Group::Server, Field::Switch(|c| &mut c.dev), "For trying out: makes secrets up and prints them, serves the demo page, listens on loopback only"),
    setting("shards", Group::Server, Field::Shards(|c| &mut c.shards), "Threads that serve WebSockets, at most 255; auto: as many as there are cores"),
    setting("drain-timeout", Group::Server, Field::Time(|c| &mut c.drain_timeout_ms), "How long clients may take to leave after SIGINT or SIGTERM"),
    setting("log", Group::Server, Field::Filter(|c| &mut c.log), "What is logged: a level (error, warn, info, debug, trace, off), or `target=level` pairs with commas"),
    setting("log-format", Group::Server, Field::LogFormat(|c| &mut c.log_format), "text, json, or auto: text on a terminal, JSON otherwise; to standard error"),
    setting(DATA, Group::Store, Field::Folder(|c| &mut c.data), "Folder in which everything is kept; it is made where it is missing"),
    setting("memory", Group::Store, Field::Switch(|c| &mut c.memory), "Keeps everything in memory only: a restart begins anew"),
    setting("durability", Group::Store, Field::Durability(|c| &mut c.durability), "When a publish is answered: immediate, when it is on the disk; relaxed, when the system has it, so that a loss of power may take the last ones"),
    setting("token-secret-file", Group::Access, Field::Path(|c| &mut c.token_secret_file), "File that holds the secret which signs clients' tokens, instead of FANFARE_TOKEN_SECRET"),
    setting("api-key-file", Group::Access, Field::Path(|c| &mut c.api_key_file), "File that holds the back ends' key, instead of FANFARE_API_KEY"),
    setting("token-issuer", Group::Access, Field::Name(|c| &mut c.token_issuer), "The `iss` that tokens must have; without it, any or none"),
    setting("token-audience", Group::Access, Field::Name(|c| &mut c.token_audience), "The `aud` that tokens must have; without it, any or none"),
    setting("allowed-origins", Group::Access, Field::Origins(|c| &mut c.allowed_origins), "Origins of web pages that may connect, with commas: https://app.example.com, https://*.example.com, http://localhost:*; without it, any"),
    setting("connections", Group::Limits, Field::Count(|c| &mut c.listener.connections), "TCP connections open at once, HTTP and WebSockets together; more wait"),
    setting("head-bytes", Group::Limits, Field::Bytes(|c| &mut c.listener.head_bytes), "Request line and headers of a request, at least 8KiB; more are answered by 431"),
    setting("headers", Group::Limits, Field::Count(|c| &mut c.listener.headers), "Headers of a request; more are answered by 431"),
    setting("handshake-timeout", Group::Limits, Field::Time(|c| &mut c.listener.head_ms), "Time in which a request's head has to come, from the connection's first moment on"),
    setting("request-timeout", Group::Limits, Field::Time(|c| &mut c.listener.request_ms), "Time from a request's head to its answer"),
    setting("idle-timeout", Group::Limits, Field::Time(|c| &mut c.listener.idle_ms), "Time for which an HTTP connection may wait for its next request"),
    setting("fragments", Group::Limits, Field::Count(|c| &mut c.socket.fragments), "Fragments of a client's message"),
    setting("message-timeout", Group::Limits, Field::Time(|c| &mut c.socket.message_ms), "Time in which a message that a client began has to be complete"),
    setting("linger-timeout", Group::Limits, Field::Time(|c| &mut c.socket.linger_ms), "Time that a client has to close its side after the server's close frame"),
    setting("message-bytes", Group::Limits, Field::Bytes(|c| &mut c.limits.message_bytes), "Largest message of a client"),
    setting("publish-bytes", Group::Limits, Field::Bytes(|c| &mut c.limits.data_bytes), "Largest body of a publish"),
    setting("batch-bytes", Group::Limits, Field::Bytes(|c| &mut c.batch_bytes), "Largest body of a batch of publishes"),
    setting("publish-timeout", Group::Limits, Field::Time(|c| &mut c.publish_timeout_ms), "Time in which the body of a publish has to come"),
    setting("messages-per-second", Group::Limits, Field::Rate(|c| &mut c.limits.messages_per_second), "Messages a second from a client, in the long run"),
    setting("messages-burst", Group::Limits, Field::Rate(|c| &mut c.limits.messages_burst), "Messages from a client at once"),
    setting("errors-per-minute", Group::Limits, Field::Rate(|c| &mut c.limits.errors_per_minute), "Refused messages in a minute after which a client is closed"),
    setting("rooms-per-connection", Group::Limits, Field::Count(|c| &mut c.limits.rooms_per_connection), "Rooms that a connection may be in"),
    setting("connections-per-user", Group::Limits, Field::Count(|c| &mut c.limits.connections_per_user), "Connections that a user may have"),
    setting("subscriptions", Group::Limits, Field::Count(|c| &mut c.limits.subscriptions), "Subscribers of the bus"),
    setting("outbox-bytes", Group::Limits, Field::Bytes(|c| &mut c.limits.outbox_bytes), "What may wait to be sent to a connection"),
    setting("stall-timeout", Group::Limits, Field::Time(|c| &mut c.limits.stall_ms), "Time for which something may wait for a client that takes nothing"),
    setting("task-log-events", Group::Limits, Field::Count(|c| &mut c.limits.task_log_events), "Events that a task's room keeps"),
    setting("task-log-time", Group::Limits, Field::Time(|c| &mut c.limits.task_log_ms), "Time for which a task's room keeps an event"),
    setting("user-log-events", Group::Limits, Field::Count(|c| &mut c.limits.user_log_events), "Events that a user's room keeps"),
    setting("user-log-time", Group::Limits, Field::Time(|c| &mut c.limits.user_log_ms), "Time for which a user's room keeps an event"),
    setting("devices-per-user", Group::Limits, Field::Count(|c| &mut c.limits.devices_per_user), "Devices of a user whose cursors are kept; the one idle longest goes first"),
    setting("device-time", Group::Limits, Field::Time(|c| &mut c.limits.device_ms), "Time for which the cursor of a device is kept that was not used"),
    setting("inbox-bytes", Group::Limits, Field::Bytes(|c| &mut c.limits.inbox_bytes), "All that is unread, and all cursors, in memory; beyond, the users idle longest leave it, and without a store are forgotten"),
    setting("log-bytes", Group::Limits, Field::Bytes(|c| &mut c.limits.log_bytes), "All logs in memory; beyond, the rooms idle longest leave it, and without a store are forgotten"),
    setting("snapshot-bytes", Group::Limits, Field::Bytes(|c| &mut c.limits.snapshot_bytes), "All snapshots of tasks in memory; beyond, the tasks idle longest leave it, and without a store are forgotten"),
    setting("ids", Group::Limits, Field::Count(|c| &mut c.limits.ids), "Ids of events that are remembered, so that a retry is known"),
    setting("ids-time", Group::Limits, Field::Time(|c| &mut c.limits.ids_ms), "Time for which an id is remembered"),
    setting("heartbeat", Group::Limits, Field::Time(|c| &mut c.limits.heartbeat_ms), "Silence of a client after which it is pinged"),
    setting("pong-timeout", Group::Limits, Field::Time(|c| &mut c.limits.pong_ms), "Time that it then has to answer"),
    setting("auth-timeout", Group::Limits, Field::Time(|c| &mut c.limits.auth_ms), "Time that a client without a token has to send one"),
    setting("expiring-notice", Group::Limits, Field::Time(|c| &mut c.limits.expiring_ms), "Time before its token ends at which a client is told"),
    setting("close-timeout", Group::Limits, Field::Time(|c| &mut c.limits.close_ms), "Time that a client which is being closed has to take its last frames"),
    setting("drain-spread", Group::Limits, Field::Time(|c| &mut c.limits.drain_spread_ms), "Time over which the clients of a draining server are told to come back"),
];

/// The row with this name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// `drain-timeout` as an environment variable.
pub(crate) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", key(name).to_ascii_uppercase())
}

/// `drain-timeout` as a TOML key.
pub(crate) fn key(name: &str) -> String {
    name.replace('-', "_")
}

impl Setting {
    /// What stands for the value in `--help`; `None` for a switch.
    pub(crate) fn placeholder(&self) -> Option<&'static str> {
        Some(match self.field {
            Field::Switch(_) => return None,
            Field::Filter(_) => "FILTER",
            Field::Name(_) => "NAME",
            Field::Origins(_) => "LIST",
            Field::Path(_) => "PATH",
            Field::Folder(_) => "DIR",
            Field::Durability(_) => "WHEN",
            Field::Listen(_) => "ADDRESS:PORT",
            Field::LogFormat(_) => "FORMAT",
            Field::Time(_) => "TIME",
            Field::Bytes(_) => "SIZE",
            Field::Count(_) | Field::Rate(_) | Field::Shards(_) => "NUMBER",
        })
    }

    /// The default as one would write it; `None` where there is none.
    pub(crate) fn default_text(&self) -> Option<String> {
        let config = &mut Config::default();
        match self.field {
            Field::Switch(_) | Field::Name(_) | Field::Origins(_) | Field::Path(_) => None,
            Field::Filter(at) => Some(at(config).clone()),
            Field::Listen(at) => Some(at(config).text.clone()),
            Field::LogFormat(_) | Field::Shards(_) => Some("auto".to_owned()),
            Field::Folder(at) => Some(at(config).display().to_string()),
            Field::Durability(_) => Some("immediate".to_owned()),
            Field::Time(at) => {
                Some(humantime::format_duration(Duration::from_millis(*at(config))).to_string())
            }
            Field::Bytes(at) => Some(size_text(*at(config))),
            Field::Count(at) => Some(at(config).to_string()),
            Field::Rate(at) => Some(at(config).to_string()),
        }
    }

    /// Reads `text` into the configuration.
    ///
    /// # Errors
    /// What was expected instead.
    pub(crate) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        match self.field {
            Field::Switch(at) => *at(config) = switch(text)?,
            Field::Filter(at) => *at(config) = filter(text)?,
            Field::Name(at) => *at(config) = Some(text.to_owned()),
            Field::Origins(at) => *at(config) = origins(text)?,
            Field::Path(at) => *at(config) = Some(PathBuf::from(text)),
            Field::Folder(at) => *at(config) = folder(text)?,
            Field::Durability(at) => *at(config) = durability(text)?,
            Field::Listen(at) => *at(config) = listen(text)?,
            Field::LogFormat(at) => *at(config) = log_format(text)?,
            Field::Shards(at) => *at(config) = shards(text)?,
            Field::Time(at) => *at(config) = milliseconds(text)?,
            Field::Bytes(at) => *at(config) = size(text)?,
            Field::Count(at) => *at(config) = count(text)?,
            Field::Rate(at) => *at(config) = count(text)?,
        }
        Ok(())
    }
}

fn shards(text: &str) -> Result<Option<u8>, String> {
    if text == "auto" {
        return Ok(None);
    }
    let number = text.parse().ok().filter(|number| *number > 0);
    number
        .map(Some)
        .ok_or_else(|| "expected a number from 1 to 255, or auto".to_owned())
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| "expected true or false".to_owned())
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

fn origins(text: &str) -> Result<Origins, String> {
    let list = text
        .split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty());
    Origins::parse(list).map_err(|error| error.to_string())
}

fn listen(text: &str) -> Result<Listen, String> {
    let expected = "expected ADDRESS:PORT, such as 127.0.0.1:8080, [::]:8080 or localhost:8080";
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| format!("{expected} ({error})"))?;
    let address = addresses.next().ok_or_else(|| expected.to_owned())?;
    Ok(Listen {
        text: text.to_owned(),
        address,
    })
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("expected auto, text or json".to_owned()),
    }
}

fn folder(text: &str) -> Result<PathBuf, String> {
    let folder = (!text.is_empty()).then(|| PathBuf::from(text));
    folder.ok_or_else(|| "expected a folder".to_owned())
}

fn durability(text: &str) -> Result<Durability, String> {
    match text {
        "immediate" => Ok(Durability::Immediate),
        "relaxed" => Ok(Durability::Relaxed),
        _ => Err("expected immediate or relaxed".to_owned()),
    }
}

fn milliseconds(text: &str) -> Result<u64, String> {
    let time = humantime::parse_duration(text).map_err(|error| {
        format!("expected a time with its unit, such as 500ms, 10s, 24h or 30days ({error})")
    })?;
    match u64::try_from(time.as_millis()) {
        Ok(0) => Err("expected at least 1ms".to_owned()),
        Ok(time) => Ok(time),
        Err(_) => Err("too long".to_owned()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|_| {
        "expected a number of bytes, or a size such as 64KiB, 1MiB or 256MiB".to_owned()
    })?;
    match usize::try_from(size.as_u64()) {
        Ok(0) => Err("expected at least 1 byte: nothing here can be switched off".to_owned()),
        Ok(size) => Ok(size),
        Err(_) => Err("too large".to_owned()),
    }
}

fn count<N: FromStr + From<bool> + PartialOrd>(text: &str) -> Result<N, String> {
    match text.parse() {
        Ok(number) if number >= N::from(true) => Ok(number),
        Ok(_) | Err(_) => {
            Err("expected a whole number from 1: nothing here can be switched off".to_owned())
        }
    }
}

/// `1MiB`, exactly; bytes where no unit fits.
fn size_text(bytes: usize) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(
            || bytes.to_string(),
            |(shift, unit)| format!("{}{unit}", bytes >> shift),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_of_the_core_has_exactly_one_setting() {
        let shown = |config: &Config| {
            format!("{:#?}", config.limits)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let before = shown(&Config::default());
        let mut changed = Vec::new();
        for setting in SETTINGS {
            let mut config = Config::default();
            // A time, a size or a number: one of them is what the setting takes.
            if ["77777s", "77777"]
                .iter()
                .any(|text| setting.set(&mut config, text).is_ok())
            {
                let after = shown(&config);
                changed.extend(
                    before
                        .iter()
                        .zip(after)
                        .filter(|(a, b)| *a != b)
                        .map(|(a, _)| a.clone()),
                );
            }
        }
        let mut limits: Vec<_> = before
            .iter()
            .filter(|line| line.ends_with(','))
            .cloned()
            .collect();
        limits.sort();
        changed.sort();
        assert_eq!(changed, limits);
    }

    #[test]
    fn a_default_that_is_set_changes_nothing() {
        let before = format!("{:?}", Config::default());
        for setting in SETTINGS {
            let mut config = Config::default();
            if let Some(text) = setting.default_text() {
                setting
                    .set(&mut config, &text)
                    .unwrap_or_else(|error| panic!("{}: {error}", setting.name));
            }
            assert_eq!(format!("{config:?}"), before, "{}", setting.name);
        }
    }

    #[test]
    fn sizes_and_numbers_are_read_with_their_units_and_never_as_nothing() {
        let bytes = |text: &str| size(text).ok();
        for (text, expected) in [
            ("64KiB", Some(64 << 10)),
            ("1 MiB", Some(1 << 20)),
            ("1MB", Some(1_000_000)),
            ("512", Some(512)),
            ("0", None),
            ("-1", None),
            ("much", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        for (text, expected) in [
            ("1", Some(1_u32)),
            ("0", None),
            ("4294967296", None),
            ("1.5", None),
        ] {
            assert_eq!(count(text).ok(), expected, "{text}");
        }
    }
}
