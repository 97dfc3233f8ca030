//! The flags of `fanfare bench`.

use std::time::Duration;

use clap::{Args, ValueHint};

use super::duration;
use crate::bench::{CONNECTIONS_MAX, IN_FLIGHT_MAX, ROOMS_MAX, SIZE_MAX};

/// Measure a server under many connections
///
/// Connects to rooms of its own, publishes to them, one room after the other, and tells how many deliveries a second there
/// were, how long they took, what was lost, and what it cost a server that runs on this machine. Ctrl-C ends it early.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanfare bench --connections 1000
  fanfare bench --connections 2000 --rooms 1000 --in-flight 64 --json
  fanfare bench --connections 1000 --rate 50
  fanfare bench --raw 'ws://127.0.0.1:9001/rooms/{room}' --publish-url 'http://127.0.0.1:9001/rooms/{room}'

Needs FANFARE_API_KEY, and FANFARE_TOKEN_SECRET or FANFARE_TOKEN; with --raw neither. Every figure is explained in \
docs/benchmarks.md. Exit status 1 where something was lost, doubled, out of order, refused or closed.")]
pub(crate) struct Bench {
    /// Connections, each of a user of its own
    #[arg(long, short, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    pub(crate) connections: u32,
    /// Rooms, over which the connections are spread evenly: tasks, made for this run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROOMS_MAX)))]
    pub(crate) rooms: u32,
    /// Publishes under way at once: each waits until one before it was answered and is everywhere. With --rate, how many
    /// may wait for their answers. Default: 1, with --rate 64
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(IN_FLIGHT_MAX)))]
    pub(crate) in_flight: Option<u16>,
    /// Publishes a second, on time whatever the server does; without it, as many as --in-flight lets through
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Bytes of a publish's data
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(..=i64::from(SIZE_MAX)))]
    pub(crate) size: u32,
    /// How long to publish
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Stop after this many publishes, at most 4294967295
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) publishes: Option<u32>,
    /// Handshakes under way at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) connecting: u32,
    /// So many of the connections, the last ones, read nothing once they are open. What they do not get is not lost; see what
    /// it does to the others
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) stalled: u32,
    /// The server's process, whose CPU and memory are told; without it, whoever listens at its address on this machine.
    /// Several with commas
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// One JSON object on standard output, instead of lines
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress on standard error
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Any WebSocket server instead of Fanfare: the URL of a connection, with {room} and {connection}, two numbers from 0
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, requires = "publish_url")]
    pub(crate) raw: Option<String>,
    /// A header of each handshake, with the same places; may be given several times
    #[arg(long, value_name = "HEADER", requires = "raw")]
    pub(crate) connect_header: Vec<String>,
    /// The URL of a publish, with {room}
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, requires = "raw")]
    pub(crate) publish_url: Option<String>,
    /// The method of a publish
    #[arg(long, value_name = "METHOD", default_value = "POST", requires = "raw")]
    pub(crate) publish_method: String,
    /// A header of each publish, with {room}; may be given several times
    #[arg(long, value_name = "HEADER", requires = "raw")]
    pub(crate) publish_header: Vec<String>,
    /// The body of a publish: {data} is what the connections have to get, letters, digits and hyphens; {room} its room
    #[arg(long, value_name = "TEXT", default_value = "{data}", requires = "raw")]
    pub(crate) publish_body: String,
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate: f64 = text.parse().map_err(|_| "it is no number")?;
    if (0.001..=1_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("it is not from 0.001 to 1000000")
    }
}
