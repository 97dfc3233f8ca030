//! A plan: the world, and what happens in it when. It is drawn before the run and is all that a run needs.

use std::path::{Path, PathBuf};

use fanfare_core::Limits;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::Wrong;
use crate::disk::{DiskFault, Keeping, Loss};
use crate::garble::Garble;
use crate::place::line;

/// The format that this version reads and writes. It rises with every change that an older version would misread.
pub(crate) const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// First, so that another format is told before what it would make of the rest.
    pub(crate) format: u32,
    /// For what is drawn while it runs: latencies, where bytes are cut, clients' waits, the hub's own.
    pub(crate) seed: u64,
    pub(crate) world: Setting,
    /// In the order of their times.
    pub(crate) steps: Vec<Timed>,
}

/// Who and what there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setting {
    /// Milliseconds in which faults happen. Then everything heals, and what is owed has to come.
    pub(crate) faults_ms: u64,
    pub(crate) tasks: u32,
    pub(crate) publishers: u32,
    pub(crate) devices: Vec<Device>,
    pub(crate) network: Network,
    pub(crate) limits: Bounds,
    /// Whether devices are connected without bytes: frames come as they leave the hub.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) direct: bool,
    /// Threads beside the hub's that serve connections over byte streams.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) outlets: u8,
    /// Where the server keeps what it is told; none: in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) store: Option<Keeping>,
    /// Back ends that listen to the bus.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) listeners: Vec<Listener>,
    /// Whether the server ends in order and starts again when all is well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) rolls: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(crate) const fn is_false(it: &bool) -> bool {
    !*it
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(it: &u8) -> bool {
    *it == 0
}

/// What of a server outlives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    Memory,
    Immediate,
    Relaxed,
}

impl Setting {
    pub(crate) fn keeps(&self) -> Keeps {
        match &self.store {
            None => Keeps::Memory,
            Some(store) if store.relaxed => Keeps::Relaxed,
            Some(_) => Keeps::Immediate,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) user: u64,
    /// One that has none gets what is new only.
    pub(crate) name: Option<String>,
    pub(crate) endpoint: Endpoint,
    /// Whether it never reads again after the faults' end. All others must not notice.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) given_up: bool,
    /// Whether its client is the one that ships, where there are bytes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) shipped: bool,
}

impl Device {
    /// The task whose chat it opens.
    pub(crate) const fn task(&self) -> Option<u32> {
        match self.endpoint {
            Endpoint::Chat { task } => Some(task),
            Endpoint::Notifications {} => None,
        }
    }
}

/// A back end that listens to the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listener {
    /// Milliseconds from one frame that it reads to the next, while there are faults.
    pub(crate) every_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Endpoint {
    Chat { task: u32 },
    Notifications {},
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) latency_ms: [u64; 2],
    pub(crate) bytes_per_ms: u64,
    pub(crate) window_bytes: usize,
    pub(crate) chopped: bool,
}

impl Network {
    /// As good as it gets.
    pub(crate) const CALM: Self = Self {
        latency_ms: [1, 5],
        bytes_per_ms: 1 << 20,
        window_bytes: 64 << 10,
        chopped: false,
    };
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bounds {
    pub(crate) task_log_events: usize,
    pub(crate) user_log_events: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) log_bytes: usize,
    #[serde(default = "rooms")]
    pub(crate) rooms_per_connection: usize,
    #[serde(default = "inbox_bytes")]
    pub(crate) inbox_bytes: usize,
}

fn rooms() -> usize {
    Limits::default().rooms_per_connection
}

fn inbox_bytes() -> usize {
    Limits::default().inbox_bytes
}

impl Default for Bounds {
    /// The server's own.
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            task_log_events: limits.task_log_events,
            user_log_events: limits.user_log_events,
            outbox_bytes: limits.outbox_bytes,
            log_bytes: limits.log_bytes,
            rooms_per_connection: limits.rooms_per_connection,
            inbox_bytes: limits.inbox_bytes,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "ReadTimed")]
pub(crate) struct Timed {
    /// Milliseconds from the beginning.
    pub(crate) at_ms: u64,
    pub(crate) step: Step,
}

/// A step in a file, where its story may stand beside it: for people, and of no meaning here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadTimed {
    at_ms: u64,
    step: Step,
    #[serde(default, rename = "story")]
    _story: Option<IgnoredAny>,
}

impl From<ReadTimed> for Timed {
    fn from(read: ReadTimed) -> Self {
        let ReadTimed { at_ms, step, .. } = read;
        Self { at_ms, step }
    }
}

/// What happens. Numbers of devices, tasks and publishers count from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Step {
    /// A device connects, and comes back by itself from now on.
    Connect {
        device: usize,
        with: Since,
    },
    /// A device goes, in order or without a word, and stays away.
    Leave {
        device: usize,
        in_order: bool,
    },
    Join {
        device: usize,
        task: u32,
        with: Since,
    },
    Part {
        device: usize,
        task: u32,
    },
    /// So many events behind the last one that it has of its user's room; beyond it, where that is below zero.
    Ack {
        device: usize,
        behind: i64,
    },
    Read {
        device: usize,
        behind: i64,
    },
    Send {
        device: usize,
        task: u32,
        ephemeral: bool,
    },
    /// What the device's tokens name from now on, and for how long; where it is connected, it shows such a one at once.
    Token {
        device: usize,
        token: Token,
    },
    /// It shows a token of another user.
    OtherToken {
        device: usize,
    },
    /// A text that no client should send.
    Babble {
        device: usize,
        text: String,
    },
    /// It breaks the WebSocket protocol, where it is connected over bytes.
    Garble {
        device: usize,
        how: Garble,
    },
    /// So many messages at once.
    Chatter {
        device: usize,
        count: u32,
    },
    StopReading {
        device: usize,
    },
    ResumeReading {
        device: usize,
    },
    /// A frame in so many milliseconds, until it reads again.
    ReadSlowly {
        device: usize,
        every_ms: u64,
    },
    /// For so long nothing of it runs, as on a phone in a pocket. Then it goes on as if nothing had been.
    Background {
        device: usize,
        for_ms: u64,
    },
    /// It ends its side of the line, and goes on reading.
    HalfClose {
        device: usize,
    },
    /// Everybody drops their connections and is back at once.
    Storm {},
    Publish {
        publisher: usize,
        to: Target,
        kind: Kind,
        bytes: usize,
        /// Whether it bears an id of its own, and is tried again until it is answered.
        insists: bool,
        /// Whether it is gone before it could have an answer.
        #[serde(default, skip_serializing_if = "is_false")]
        dies: bool,
        /// Whether it counts as a notification, where it says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        notify: Option<bool>,
    },
    /// The publisher's last publish that insisted, once more; with other content, where it lies.
    Repeat {
        publisher: usize,
        lies: bool,
    },
    Disconnect {
        user: u64,
    },
    /// The device's line breaks in this way; a new one is whole.
    Break {
        device: usize,
        how: Fault,
    },
    /// What clogged goes on.
    Unclog {
        device: usize,
    },
    /// All lines are so from now on.
    Weather {
        network: Network,
    },
    /// The server's process ends, at once.
    Crash {},
    /// The machine of the server loses power.
    PowerCut {
        loses: Loss,
    },
    /// The disk of a durable server goes wrong.
    BadDisk {
        how: DiskFault,
    },
    /// The server does nothing for so long.
    Pause {
        for_ms: u64,
    },
    /// The server has no file descriptor for a new connection for so long: these wait.
    NoDescriptors {
        for_ms: u64,
    },
    /// The server's wall clock is so far ahead from now on, and goes wrong by so many milliseconds an hour.
    Clock {
        ahead_ms: i64,
        drift_ms: i64,
    },
    /// An orderly end, with a new start behind it.
    Drain {},
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) for_ms: u64,
    /// None names all tasks.
    pub(crate) tasks: Option<Vec<u32>>,
}

impl Default for Token {
    /// For all tasks, and for a day.
    fn default() -> Self {
        Self {
            for_ms: 24 * 3_600_000,
            tasks: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Since {
    /// Where it was.
    Positions,
    /// Where it was long ago.
    Old,
    /// No position at all.
    Garbage,
    Nothing,
    /// Of another server.
    Foreign,
    /// Beyond the last event.
    Future,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Target {
    Task {
        task: u32,
        users: Vec<u64>,
    },
    User {
        user: u64,
    },
    /// No room: only who listens to the bus gets it.
    Bus {},
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Kind {
    Note {},
    Ephemeral {
        key: Option<u8>,
    },
    /// An event of a task's life.
    Life {
        event: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Fault {
    /// Reset at both ends.
    Reset {},
    /// Nothing arrives any more, and nobody is told.
    BlackHole {},
    /// In one direction only.
    OneWay { up: bool },
    /// Cut when so many more bytes have come, which can be read.
    Cut { up: bool, after_bytes: usize },
    /// Nothing arrives in either direction, until it is unclogged; then all of it at once.
    Clog {},
    /// Nothing arrives for a time, then all of it at once.
    Stall { up: bool, for_ms: u64 },
}

/// What is wrong with a plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{file}: {source}: check the name")]
    Unreadable {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("{file}: can't be written: {source}")]
    Unwritable {
        file: PathBuf,
        source: std::io::Error,
    },
    /// What serde says ends with line and column.
    #[error("{file}: {field}{source}: a plan is as `fanfare-sim run` writes it")]
    Malformed {
        file: PathBuf,
        field: String,
        source: serde_json::Error,
    },
    #[error("{file}: format: {}, line {line}", other_format(*found))]
    Format {
        file: PathBuf,
        found: u32,
        line: usize,
    },
    #[error("{file}: {field}: {what}, line {line}")]
    Wrong {
        file: PathBuf,
        field: String,
        what: String,
        line: usize,
    },
}

fn other_format(found: u32) -> String {
    let age = if found < FORMAT { "older" } else { "newer" };
    format!(
        "is {found}, of {age} versions, and this one reads {FORMAT} alone: run it with the version that wrote it"
    )
}

/// Reads all of a text; an error comes with its field.
fn from_json<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, (String, serde_json::Error)> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize(&mut json);
    let read = read.map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." {
            String::new()
        } else {
            format!("{path}: ")
        };
        (field, error.into_inner())
    })?;
    json.end().map_err(|error| (String::new(), error))?;
    Ok(read)
}

/// The format alone, whatever else there is.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Plan {
    /// Reads a plan from its file.
    pub(crate) fn read(file: PathBuf) -> Result<Self, Error> {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(source) => return Err(Error::Unreadable { file, source }),
        };
        Self::parse(file, &text)
    }

    /// Writes it as [`Plan::read`] takes it, each step with its line of the story.
    pub(crate) fn write(&self, file: &Path, story: &[String]) -> Result<(), Error> {
        let written = std::fs::write(file, self.to_json(story) + "\n");
        written.map_err(|source| Error::Unwritable {
            file: file.to_owned(),
            source,
        })
    }

    /// As it is written to a file.
    pub(crate) fn to_json(&self, story: &[String]) -> String {
        // Numbers, texts, and lists of them: all of it has a JSON form.
        let mut plan = serde_json::to_value(self).unwrap_or_default();
        let steps = plan["steps"].as_array_mut().into_iter().flatten();
        for (step, line) in steps.zip(story) {
            step["story"] = Value::from(line.as_str());
        }
        format!("{plan:#}")
    }

    fn parse(file: PathBuf, text: &str) -> Result<Self, Error> {
        let malformed = |(field, source)| Error::Malformed {
            file: file.clone(),
            field,
            source,
        };
        let head: Head = from_json(text).map_err(malformed)?;
        if head.format != FORMAT {
            return Err(Error::Format {
                file,
                found: head.format,
                line: line(text, "format"),
            });
        }
        let plan: Self = from_json(text).map_err(malformed)?;
        match plan.check() {
            Ok(()) => Ok(plan),
            Err(Wrong { field, what }) => Err(Error::Wrong {
                line: line(text, &field),
                file,
                field,
                what,
            }),
        }
    }
}

impl Step {
    /// The device, the task and the publisher that it names.
    pub(crate) const fn names(&self) -> (Option<usize>, Option<u32>, Option<usize>) {
        match self {
            Self::Join { device, task, .. }
            | Self::Part { device, task }
            | Self::Send { device, task, .. } => (Some(*device), Some(*task), None),
            Self::Connect { device, .. }
            | Self::Leave { device, .. }
            | Self::Ack { device, .. }
            | Self::Read { device, .. }
            | Self::Babble { device, .. }
            | Self::Garble { device, .. }
            | Self::Chatter { device, .. }
            | Self::StopReading { device }
            | Self::ResumeReading { device }
            | Self::Token { device, .. }
            | Self::OtherToken { device }
            | Self::ReadSlowly { device, .. }
            | Self::Background { device, .. }
            | Self::HalfClose { device }
            | Self::Unclog { device }
            | Self::Break { device, .. } => (Some(*device), None, None),
            Self::Publish { publisher, to, .. } => match to {
                Target::Task { task, .. } => (None, Some(*task), Some(*publisher)),
                Target::User { .. } | Target::Bus {} => (None, None, Some(*publisher)),
            },
            Self::Repeat { publisher, .. } => (None, None, Some(*publisher)),
            Self::Disconnect { .. }
            | Self::Weather { .. }
            | Self::Crash {}
            | Self::PowerCut { .. }
            | Self::BadDisk { .. }
            | Self::Drain {}
            | Self::Storm {}
            | Self::Pause { .. }
            | Self::NoDescriptors { .. }
            | Self::Clock { .. } => (None, None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::generate;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        for seed in 0..50 {
            let plan = generate(seed);
            let plain = serde_json::to_string_pretty(&plan).unwrap();
            let told = plan.to_json(&["once upon a time".to_owned()]);
            assert!(told.contains("once upon a time"));
            for text in [plain, told] {
                assert_eq!(Plan::parse("plan".into(), &text).unwrap(), plan, "{seed}");
            }
        }
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_said_with_its_place() {
        let plan = generate(1);
        let good = serde_json::to_string_pretty(&plan).unwrap();
        let with = |from: &str, to: &str| good.replacen(from, to, 1);
        let step = |step: &str| {
            let mut plan = plan.clone();
            plan.steps.clear();
            let text = serde_json::to_string(&plan).unwrap();
            text.replace(
                "\"steps\":[]",
                &format!("\"steps\":[{{\"at_ms\":0,\"step\":{step}}}]"),
            )
        };
        let cases = [
            (String::new(), "line 1"),
            (with("\"format\": 1", "\"format\": 0"), "of older versions"),
            (with("\"format\": 1", "\"format\": 0"), "wrote it, line 2"),
            (with("\"tasks\": ", "\"tasks\": 9999"), ", line "),
            (with("\"format\": 1", "\"format\": 9"), "of newer versions"),
            (with("\"seed\"", "\"sed\""), "unknown field `sed`"),
            (with("\"seed\": 1", "\"seed\": \"x\""), "plan.json: seed: "),
            (with("\"seed\": 1", "\"seed\": \"x\""), "line 3 column "),
            (format!("{good}x"), "trailing characters"),
            (
                step("{\"explode\":{}}"),
                "steps[0].step: unknown variant `explode`",
            ),
            (
                step("{\"stop_reading\":{\"device\":0,\"x\":1}}"),
                "steps[0].step.stop_reading.x: unknown field `x`",
            ),
            (step("{\"stop_reading\":{}}"), "missing field `device`"),
            (
                step("{\"stop_reading\":{\"device\":999}}"),
                "steps[0].step: there is no device",
            ),
            (
                step("{\"part\":{\"device\":0,\"task\":999}}"),
                "steps[0].step: there is no task",
            ),
            (
                step("{\"repeat\":{\"publisher\":99,\"lies\":true}}"),
                "no publisher",
            ),
        ];
        for (text, words) in cases {
            let error = Plan::parse("plan.json".into(), &text)
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("plan.json: ") && error.contains(words),
                "{error}"
            );
        }
    }
}
