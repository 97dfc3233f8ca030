//! `fanfare bench`: what a server does under many connections, and what that costs it.
//!
//! `target` is what is measured, `run` the one loop: `crowd` are the connections, `senders` publish as `pace` says,
//! `ledger` knows what each connection had. Nothing is allocated for a delivery, and none of it is parsed.

mod address;
mod answer;
#[cfg(test)]
mod cost;
mod crowd;
mod frames;
mod latency;
mod ledger;
mod live;
mod mark;
mod order;
mod pace;
mod poll;
mod process;
mod recent;
mod report;
mod run;
mod senders;
mod sockets;
mod tally;
mod target;
mod template;

use std::io::{Write, stdout};

use fanfare_websocket::client::{self, Problem};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;

use crate::args::{Bench, Connection};
use crate::error::Error;
use ledger::Ledger;
use pace::Pace;
use process::Usage;
use report::{Connections, Percentiles, Publishes, Report, Server, kinds};
use run::Run;
use target::Target;

pub(crate) const CONNECTIONS_MAX: u32 = 1_000_000;
pub(crate) const ROOMS_MAX: u32 = 1_000_000;
pub(crate) const IN_FLIGHT_MAX: u16 = 1_024;
/// Less than what Fanfare takes by default.
pub(crate) const SIZE_MAX: u32 = 1_000_000;
const _: () = assert!(ROOMS_MAX <= mark::ROOMS_MAX);

/// Files that are open beside sockets.
const FILES: u64 = 32;
/// What numbers may take, and what requests may.
const MEMORY_MAX: u64 = 1 << 30;

/// Whether all was as it should be.
pub(crate) fn run(args: &Bench, connection: &Connection) -> Result<bool, Error> {
    let target = Target::new(args, connection)?;
    let in_flight = args
        .in_flight
        .unwrap_or_else(|| if args.rate.is_some() { 64 } else { 1 });
    check_bounds(args, &target, in_flight)?;
    let sockets = target.sockets.reach()?;
    let publishes = if target.publishes == target.sockets {
        sockets
    } else {
        target.publishes.reach()?
    };
    let mut run = Run::new(args, &target, in_flight, (sockets, publishes))?;
    run.connect()?;
    if !args.duration.is_zero() {
        run.publish(Pace::new(args.rate, args.publishes, args.duration))?;
    }
    let report = report(args, in_flight, &target, run);
    let text = if args.json {
        serde_json::to_string(&report).map_err(|error| Error::Usage(error.to_string()))? + "\n"
    } else {
        report.to_string()
    };
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::printing)?;
    Ok(report.is_clean())
}

/// All that is asked has to be possible before anything is sent.
fn check_bounds(args: &Bench, target: &Target, in_flight: u16) -> Result<(), Error> {
    let (connections, rooms) = (args.connections, args.rooms);
    if rooms > connections {
        return Err(Error::Usage(format!(
            "--rooms {rooms} is more than --connections {connections}: some would be empty"
        )));
    }
    if args.stalled >= connections {
        return Err(Error::Usage(format!(
            "--stalled {} is not less than --connections {connections}: nobody would read",
            args.stalled
        )));
    }
    let numbers = Ledger::bytes(target.is_fanfare(), connections, rooms, in_flight);
    let requests = u64::from(in_flight) * u64::from(args.size);
    // What came of a message that is not whole.
    let rests = u64::from(connections) * u64::from(args.size);
    for (bytes, what) in [
        (rests, "--size times --connections"),
        (numbers, "--connections times --in-flight"),
        (requests, "--size times --in-flight"),
    ] {
        if bytes > MEMORY_MAX {
            return Err(Error::Usage(format!(
                "{what} would take {} MiB of memory, more than 1,024",
                bytes >> 20
            )));
        }
    }
    if process::usage(&args.pid).is_none() {
        return Err(Error::Usage(format!(
            "--pid: there is no such process, of {:?}",
            args.pid
        )));
    }
    let needed = u64::from(connections) + u64::from(in_flight) + FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        let enough = limit.maximum.is_none_or(|maximum| maximum >= needed);
        if !enough || setrlimit(Resource::Nofile, raised).is_err() {
            return Err(Error::Usage(format!(
                "{connections} connections need {needed} open files, and this process may have {}\n  \
                 raise the limit first, as root: ulimit -n {needed}",
                limit.maximum.or(limit.current).unwrap_or_default()
            )));
        }
    }
    Ok(())
}

/// Why nothing can be measured: what the server said first.
fn refused(target: &Target, refusal: Option<&(u16, Vec<u8>)>, words: &str) -> Error {
    #[derive(Default, Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        detail: String,
    }
    match refusal {
        Some((status, body)) if target.is_fanfare() => {
            let said: Said = serde_json::from_slice(body).unwrap_or_default();
            let detail = if said.detail.is_empty() {
                crowd::answer_words(*status, body)
            } else {
                tally::shown(&said.detail)
            };
            Error::Client(client::Error::Refused(Problem {
                status: *status,
                code: tally::shown(&said.code),
                detail,
                retry_after: None,
                members: serde_json::Map::new(),
            }))
        }
        Some((status, body)) => Error::Bench {
            status: 3,
            words: format!("refused: {}", crowd::answer_words(*status, body)),
        },
        None => Error::Bench {
            status: 1,
            words: format!("the first connection was not opened: {words}"),
        },
    }
}

fn report(args: &Bench, in_flight: u16, target: &Target, run: Run<'_>) -> Report {
    let counts = &run.ledger.counts;
    let deliveries = counts.deliveries;
    let each = |sum: f64| (deliveries > 0).then(|| sum / deliveries as f64);
    let crowd = &run.crowd;
    let latency = &run.ledger.latency;
    let ms = |nanoseconds| nanoseconds as f64 / 1e6;
    let closed = crowd.closures.total();
    let opened = u32::try_from(u64::from(crowd.open) + closed).unwrap_or(u32::MAX);
    let server = server(&run, opened);
    let cpu = |usage: [Option<Usage>; 2]| match usage {
        [Some(before), Some(after)] => {
            each(after.user + after.system - before.user - before.system)
        }
        _ => None,
    };
    Report {
        target: format!(
            "{} at http://{}",
            if target.is_fanfare() {
                "Fanfare"
            } else {
                "raw"
            },
            target.sockets.0
        ),
        ended: run.ended,
        connections: Connections {
            asked: args.connections,
            opened,
            closed,
            failed: crowd.failures.total(),
            seconds: run.connect_seconds,
            failures: kinds(&crowd.failures),
            closures: kinds(&crowd.closures),
        },
        rooms: args.rooms,
        in_flight,
        rate: args.rate,
        size: args.size,
        seconds: run.seconds,
        publishes: Publishes {
            answered: run.senders.answered,
            errors: run.senders.failures.total(),
            unsent: run.unsent,
            stalled: run.stalled,
            failures: kinds(&run.senders.failures),
        },
        deliveries,
        deliveries_per_second: if deliveries > 0 {
            deliveries as f64 / run.seconds
        } else {
            0.0
        },
        latency_ms: (deliveries > 0).then(|| Percentiles {
            p50: ms(latency.permille(500)),
            p99: latency.tail(990).map(ms),
            p99_9: latency.tail(999).map(ms),
            max: ms(latency.max()),
        }),
        lost: counts.lost,
        doubled: counts.doubled,
        out_of_order: counts.out_of_order,
        unexpected: counts.unexpected,
        gaps: counts.gaps,
        server_unknown: server.is_none().then(|| why_unknown(&run)),
        server,
        bench_cpu_us_per_delivery: cpu(run.own),
    }
}

fn server(run: &Run<'_>, opened: u32) -> Option<Server> {
    let [before, connected, end] = run.usage;
    let (before, connected) = (before?, connected?);
    // Nothing was published, or it has ended meanwhile.
    let end = if run.seconds > 0.0 { end? } else { connected };
    let deliveries = run.ledger.counts.deliveries;
    let each = |sum: f64| (deliveries > 0).then(|| sum / deliveries as f64);
    let (user, system) = (end.user - connected.user, end.system - connected.system);
    let opening = connected.user + connected.system - before.user - before.system;
    let grown = connected.resident_kib.saturating_sub(before.resident_kib);
    Some(Server {
        name: process::name(*run.pids.first()?),
        pids: run.pids.clone(),
        cpu_us_per_delivery: each(user + system),
        cpu_user_us_per_delivery: each(user),
        cpu_system_us_per_delivery: each(system),
        cpu_us_per_connection: (opened > 0).then(|| opening / f64::from(opened)),
        resident_kib: [before, connected, end].map(|usage| usage.resident_kib),
        resident_kib_per_connection: (opened > 0).then(|| grown as f64 / f64::from(opened)),
    })
}

fn why_unknown(run: &Run<'_>) -> String {
    if !run.pids.is_empty() {
        "its process has ended".to_owned()
    } else if run.is_local {
        "no process that this user may look at listens at its address; --pid says which it is"
            .to_owned()
    } else {
        "the server is not on this machine".to_owned()
    }
}
