//! A real `fanfare-server` under real connections: what a delivery costs it, as a ratio to the floor; what an idle
//! connection holds; how long connecting takes.
//!
//! `load [CONNECTIONS] [PUBLISHES] [IN_FLIGHT]` starts the server that was built beside it, connects that many users to
//! one task's chat, all at once, and publishes over HTTP events with 256 bytes of data, never more than IN_FLIGHT ahead of
//! the slowest connection. Each connection checks that it gets every event, once, in order; one that does not fails
//! the run. With PUBLISHES 0 it only connects. `LOAD_SERVER_CPU` and `LOAD_READER_CPU` pin the two sides apart; `floor`
//! runs before and after, pinned alike.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

mod clients;
mod publisher;

use std::env::var;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use fanfare_benches::{Outcome, Server, argument, pin, pinned, raise_open_files};
use fanfare_core::TaskId;

use crate::clients::Clients;

/// Deliveries of `floor` on each side of the measurement: a second or so.
const FLOOR_DELIVERIES: u64 = 200_000;

fn main() -> Outcome<()> {
    raise_open_files()?;
    let (connections, publishes) = (argument(0, 1_000)?, argument(1, 1_000)?);
    let in_flight = argument(2, 64)?;
    if connections == 0 || in_flight == 0 {
        return Err("CONNECTIONS and IN_FLIGHT must be at least 1".into());
    }
    pin("LOAD_READER_CPU")?;
    let server = Server::start(&["--memory"])?;
    let task: TaskId = "550e8400-e29b-41d4-a716-446655440000".parse()?;

    let resident = server.resident_kib()?;
    let began = Instant::now();
    let mut clients = Clients::connect(&server, task, connections)?;
    println!(
        "connections={connections} connect_s={:.3} resident_kib_per_connection={:.2}",
        began.elapsed().as_secs_f64(),
        (server.resident_kib()?.saturating_sub(resident)) as f64 / connections as f64,
    );
    if publishes == 0 {
        return server.stop();
    }

    let floor_before = floor(connections, in_flight)?;
    let (sender, arrived) = mpsc::channel();
    let before = server.cpu_s()?;
    let began = Instant::now();
    let reader = thread::spawn(move || clients.receive(publishes, &sender));
    publisher::publish(&server, task, publishes, in_flight, &arrived)?;
    reader.join().map_err(|_| "the reader panicked")??;
    let wall = began.elapsed().as_secs_f64();
    let used = server.cpu_s()? - before;
    let floor_after = floor(connections, in_flight)?;

    let deliveries = (connections * publishes) as f64;
    let cost = used * 1e6 / deliveries;
    println!(
        "deliveries={deliveries} in_flight={in_flight} wall_s={wall:.3} deliveries_per_s={:.0} cpu_us_per_delivery={cost:.3} \
         floor_us={floor_before:.3},{floor_after:.3} ratio={:.3}",
        deliveries / wall,
        cost / f64::midpoint(floor_before, floor_after),
    );
    println!(
        "resident_kib={} all delivered, in order, once each",
        server.resident_kib()?
    );
    server.stop()
}

/// Microseconds of CPU for each delivery of `floor`.
fn floor(connections: u64, in_flight: u64) -> Outcome<f64> {
    let mut command = pinned("floor", "LOAD_SERVER_CPU")?;
    if let Ok(cpu) = var("LOAD_READER_CPU") {
        command.env("FLOOR_READER_CPU", cpu);
    }
    let broadcasts = FLOOR_DELIVERIES.div_ceil(connections);
    let output = command
        .args([connections, broadcasts, in_flight].map(|number| number.to_string()))
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let (_, rest) = text
        .split_once("cpu_us_per_delivery=")
        .ok_or("floor printed no figure")?;
    Ok(rest.split(' ').next().unwrap_or_default().parse()?)
}
