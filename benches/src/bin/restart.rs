//! How long a server with much data takes to start, after `kill -9` and after SIGTERM, and what memory it has then.
//!
//! `restart [DIR] [EVENTS] [ROOMS]` starts the server that was built beside it, with its data in a folder of its own in DIR,
//! publishes 1,000,000 events in batches to 100,000 users, kills it, and measures three starts each after a kill and after
//! SIGTERM, until `/readyz` says 200. Each time some rooms have to have all their events. `LOAD_SERVER_CPU` pins the server.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::path::Path;
use std::time::Instant;

use fanfare_benches::{Http, Outcome, Server, argument, fill, in_folder, pin};

const STARTS: usize = 3;
/// Rooms that are looked at after each start.
const LOOKED_AT: u64 = 100;

fn main() -> Outcome<()> {
    pin("LOAD_READER_CPU")?;
    let (events, rooms) = (argument(1, 1_000_000)?, argument(2, 100_000)?);
    if rooms == 0 || events < rooms {
        return Err("ROOMS must be at least 1, and EVENTS at least as many".into());
    }
    in_folder(0, |dir| measure(dir, events, rooms))
}

fn measure(dir: &Path, events: u64, rooms: u64) -> Outcome<()> {
    let data = dir.to_str().ok_or("DIR has to be UTF-8")?;
    let arguments = ["--data", data];
    let mut server = Server::start(&arguments)?;
    let filled = fill(server.address, events, rooms, |room| format!("user:{room}"))?;
    let mut bytes = 0;
    for file in std::fs::read_dir(dir)? {
        bytes += file?.metadata()?.len();
    }
    println!(
        "filled events={events} rooms={rooms} events_per_s={:.0} bytes={bytes} resident_kib={}",
        events as f64 / filled.took.as_secs_f64(),
        server.resident_kib()?,
    );
    for ending in ["kill", "term"] {
        for _ in 0..STARTS {
            match ending {
                "kill" => server.kill()?,
                _ => server.stop()?,
            }
            let began = Instant::now();
            server = Server::start(&arguments)?;
            let mut http = Http::connect(server.address)?;
            http.ask("GET /readyz", None)?;
            println!(
                "after={ending} ready_s={:.3} resident_kib={}",
                began.elapsed().as_secs_f64(),
                server.resident_kib()?,
            );
            for at in 0..LOOKED_AT.min(rooms) {
                let room = at * rooms / LOOKED_AT.min(rooms);
                let path = format!("/v1/users/{room}/events?limit=1");
                let kept = http.number(&path, r#""seq":"#)?;
                let published = events / rooms + u64::from(room < events % rooms);
                if kept != published {
                    return Err(format!("user:{room}: {kept} of {published} are kept").into());
                }
            }
        }
    }
    server.stop()
}
