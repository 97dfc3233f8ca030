//! What could be seen from outside: all that the oracles know.

use std::fmt;

use fanfare_core::Time;
use serde_json::Value;

/// A connection of a device, counted from the world's begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Conn {
    pub(crate) device: usize,
    pub(crate) number: u64,
}

/// A room's position as a client holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) seq: u64,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Milliseconds since the Unix epoch.
    pub(crate) ends_ms: u64,
    /// The rooms of the tasks that it names; none are all.
    pub(crate) tasks: Option<Vec<String>>,
}

/// What a client that ships tells its user.
#[derive(Debug, Clone)]
pub(crate) enum Tells {
    /// A new one was made, to begin at these positions.
    Begins(Vec<(String, Place)>),
    Message(Value),
    /// Its connection is lost, or it did not come back; it tries again after so many milliseconds.
    Lost(u64),
    /// It is no more.
    Ends,
}

/// What a back end that listens to the bus sees.
#[derive(Debug, Clone)]
pub(crate) enum Hears {
    /// It is connected.
    Begins,
    Frame(Value),
    /// It is not connected any more.
    Ends,
}

#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// A client is about to show a token: in the message of this reference, or in the handshake.
    Shows {
        conn: Conn,
        reference: String,
        token: Rights,
    },
    /// A handshake succeeded, with these positions.
    Opened {
        conn: Conn,
        user: u64,
        /// Of the device.
        name: Option<String>,
        since: Vec<(String, Place)>,
    },
    /// It failed with this status.
    Refused {
        device: usize,
        status: u16,
    },
    /// A text came.
    Received {
        conn: Conn,
        frame: Value,
    },
    /// Something came that is not what the protocol has: over a connection, or as an answer to a back end.
    Garbled {
        conn: Option<Conn>,
        what: String,
    },
    /// A client is about to send a text.
    Said {
        conn: Conn,
        text: String,
    },
    /// A client that ships tells its user something.
    Client {
        device: usize,
        tells: Tells,
    },
    /// Of a back end that listens to the bus.
    Bus {
        listener: usize,
        hears: Hears,
    },
    /// The connection is over for the client: by a close frame with this code, or without one.
    Closed {
        conn: Conn,
        code: Option<u16>,
    },
    /// A client is about to go.
    Leaves {
        conn: Conn,
    },
    /// A back end is about to send a request: the first time, or again.
    Publishing {
        number: u64,
        path: String,
        body: Value,
    },
    /// It has the answer.
    Published {
        number: u64,
        status: u16,
        body: Value,
    },
    /// It has none, and will not ask again.
    Unanswered {
        number: u64,
    },
    /// A back end disconnects a user.
    Disconnecting {
        user: u64,
    },
    /// What was found at the end: a room's log, or an inbox.
    Found {
        path: String,
        body: Value,
    },
    /// A server begins: nothing of the one before is there.
    Started,
    Crashed,
    /// And its machine lost power.
    PowerLost,
    /// It could not start, for this reason.
    Unstarted {
        why: String,
    },
    /// What the server had kept is gone: its disk was damaged, and it has an empty one.
    DiskRenewed,
    Drains,
    /// It is about to end. `in_time`: nobody was left before its deadline.
    Drained {
        in_time: bool,
    },
    /// The server's wall clock is so far ahead of the world's, or behind it, from now on.
    Clock {
        ahead_ms: i64,
    },
    /// A fault takes effect, of a device's or of all.
    Fault {
        name: &'static str,
        device: Option<usize>,
    },
    /// From now on there are no faults, but those of the devices that are given up: these never end.
    Healed {
        given_up: Vec<usize>,
    },
}

impl Seen {
    /// The device that it is of.
    pub(crate) const fn device(&self) -> Option<usize> {
        match self {
            Self::Opened { conn, .. }
            | Self::Received { conn, .. }
            | Self::Said { conn, .. }
            | Self::Closed { conn, .. }
            | Self::Shows { conn, .. }
            | Self::Leaves { conn } => Some(conn.device),
            Self::Refused { device, .. } | Self::Client { device, .. } => Some(*device),
            Self::Garbled { conn, .. } => match conn {
                Some(conn) => Some(conn.device),
                None => None,
            },
            Self::Fault { device, .. } => *device,
            Self::Publishing { .. }
            | Self::Published { .. }
            | Self::Unanswered { .. }
            | Self::Disconnecting { .. }
            | Self::Bus { .. }
            | Self::Found { .. }
            | Self::Started
            | Self::Crashed
            | Self::PowerLost
            | Self::Unstarted { .. }
            | Self::DiskRenewed
            | Self::Drains
            | Self::Drained { .. }
            | Self::Clock { .. }
            | Self::Healed { .. } => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) time: Time,
    pub(crate) seen: Seen,
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.time.as_millis();
        write!(f, "t={}.{:03}s ", millis / 1_000, millis % 1_000)?;
        match &self.seen {
            Seen::Opened {
                conn, user, since, ..
            } => {
                let since: Vec<String> = since
                    .iter()
                    .map(|(room, at)| format!("{room}@{}:{}", at.epoch, at.seq))
                    .collect();
                write!(f, "{conn} of user {user} opens {}", since.join(","))
            }
            Seen::Client { device, tells } => match tells {
                Tells::Begins(since) => {
                    let since = since.iter();
                    let since = since.map(|(room, at)| format!(" {room}@{}:{}", at.epoch, at.seq));
                    let since: String = since.collect();
                    write!(f, "the client of device {device} begins{since}")
                }
                Tells::Message(frame) => {
                    write!(f, "the client of device {device} hands on {frame}")
                }
                Tells::Lost(wait) => {
                    write!(
                        f,
                        "the client of device {device} lost its connection, and waits {wait} ms"
                    )
                }
                Tells::Ends => write!(f, "the client of device {device} ends"),
            },
            Seen::Bus { listener, hears } => match hears {
                Hears::Begins => write!(f, "back end {listener} listens to the bus"),
                Hears::Frame(frame) => write!(f, "back end {listener} on the bus <- {frame}"),
                Hears::Ends => write!(f, "back end {listener} is off the bus"),
            },
            Seen::Refused { device, status } => write!(f, "device {device} is refused: {status}"),
            Seen::Received { conn, frame } => write!(f, "{conn} <- {frame}"),
            Seen::Garbled {
                conn: Some(conn),
                what,
            } => write!(f, "{conn} <- garbled: {what}"),
            Seen::Garbled { conn: None, what } => write!(f, "a back end <- garbled: {what}"),
            Seen::Said { conn, text } => write!(f, "{conn} -> {text}"),
            Seen::Closed {
                conn,
                code: Some(code),
            } => write!(f, "{conn} is closed: {code}"),
            Seen::Closed { conn, code: None } => write!(f, "{conn} is lost"),
            Seen::Leaves { conn } => write!(f, "{conn} leaves"),
            Seen::Publishing { number, path, body } => {
                write!(f, "publish {number}: POST {path} {body}")
            }
            Seen::Published {
                number,
                status,
                body,
            } => {
                write!(f, "publish {number}: {status} {body}")
            }
            Seen::Unanswered { number } => write!(f, "publish {number}: no answer"),
            Seen::Disconnecting { user } => write!(f, "user {user} is disconnected"),
            Seen::Found { path, body } => write!(f, "GET {path}: {body}"),
            Seen::Started => f.write_str("the server starts"),
            Seen::Crashed => f.write_str("the server crashes"),
            Seen::PowerLost => f.write_str("the power of the server's machine is lost"),
            Seen::Unstarted { why } => write!(f, "the server does not start: {why}"),
            Seen::DiskRenewed => f.write_str("the server has an empty disk"),
            Seen::Drains => f.write_str("the server drains"),
            Seen::Drained { in_time } => {
                let left = if *in_time {
                    "nobody is left"
                } else {
                    "some are left"
                };
                write!(f, "the server has drained: {left}")
            }
            Seen::Clock { ahead_ms } => {
                write!(f, "the server's wall clock is {ahead_ms} ms ahead")
            }
            Seen::Fault { name, device: None } => write!(f, "fault: {name}"),
            Seen::Fault {
                name,
                device: Some(device),
            } => write!(f, "fault: {name} of device {device}"),
            Seen::Healed { given_up } => {
                write!(f, "all faults end, but of these devices: {given_up:?}")
            }
            Seen::Shows {
                conn,
                reference,
                token,
            } => {
                let ends = token.ends_ms;
                write!(f, "{conn} shows a token until {ends} ({reference})")?;
                match &token.tasks {
                    Some(tasks) => write!(f, " for {}", tasks.join(",")),
                    None => write!(f, " for all tasks"),
                }
            }
        }
    }
}

impl fmt::Display for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {}, connection {}", self.device, self.number)
    }
}
