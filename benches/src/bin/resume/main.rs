//! Many clients come back at once, each with events that it missed: how long until all have all, what memory that takes, and
//! how long live events are delayed meanwhile.
//!
//! `resume [DIR] [CLIENTS] [MISSED] [CASE]...` starts the server that was built beside it, publishes MISSED events (100) for each of CLIENTS
//! (10,000), lets all connect at once with their positions, and checks that each gets what it missed, once and in order. There are four
//! cases: all missed the same room, or each its own; from memory, or from a store in a folder of its own in DIR, whose server was started
//! again since (`shared-memory`, `shared-store`, `own-memory`, `own-store`; without a CASE, all). In each also as many clients that missed nothing, which is what connecting alone costs. An event is published 200 times a
//! second meanwhile, to another room with one subscriber, on a thread that goes first. `LOAD_SERVER_CPU` and `LOAD_READER_CPU` pin server and
//! clients apart.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

mod clients;
mod live;

use std::thread;
use std::time::{Duration, Instant};

use fanfare_benches::{
    Http, Outcome, Server, argument, arguments, fill, in_folder, pin, raise_open_files,
};
use fanfare_core::TaskId;
use rustix::process::{getpriority_process, setpriority_process};
use uuid::Uuid;

use crate::clients::Clients;
use crate::live::during;

/// How long live events are measured with nothing beside them.
const IDLE: Duration = Duration::from_secs(1);
/// How much nicer the thread that reads all clients is: live events are not to wait for it.
const NICER: i32 = 10;

/// Which room's events the clients missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rooms {
    /// One task's, all of them.
    Shared,
    /// Each its user's own.
    Own,
}

impl Rooms {
    /// The name of the room that this client is in.
    fn name(self, client: u64) -> String {
        match self {
            Self::Shared => "task:550e8400-e29b-41d4-a716-446655440000".to_owned(),
            Self::Own => format!("user:{client}"),
        }
    }
}

fn main() -> Outcome<()> {
    raise_open_files()?;
    pin("LOAD_READER_CPU")?;
    let (clients, missed) = (argument(1, 10_000)?, argument(2, 100)?);
    if clients == 0 || missed == 0 {
        return Err("CLIENTS and MISSED must be at least 1".into());
    }
    let wanted = arguments(3);
    in_folder(0, |dir| {
        let data = dir.to_str().ok_or("DIR has to be UTF-8")?;
        let memory = ["--memory", "--log-bytes", "2GiB"];
        let cases = [
            ("shared-memory", Rooms::Shared, memory.as_slice()),
            ("shared-store", Rooms::Shared, &["--data", data]),
            ("own-memory", Rooms::Own, &memory),
            ("own-store", Rooms::Own, &["--data", data]),
        ];
        cases.iter().try_for_each(|(name, rooms, arguments)| {
            if !wanted.is_empty() && !wanted.iter().any(|word| word == name) {
                return Ok(());
            }
            println!("{name}");
            measure(*rooms, arguments, clients, missed)?;
            // Rooms that have the same names begin anew.
            Ok(std::fs::remove_dir_all(dir).and_then(|()| std::fs::create_dir(dir))?)
        })
    })
}

fn measure(rooms: Rooms, arguments: &[&str], clients: u64, missed: u64) -> Outcome<()> {
    let in_memory = arguments.contains(&"--memory");
    let mut server = Server::start(arguments)?;
    let count = if rooms == Rooms::Own { clients } else { 1 };
    let filled = fill(server.address, missed * count, count, |room| {
        rooms.name(room)
    })?;
    println!(
        "  filled: events={} s={:.1}",
        missed * count,
        filled.took.as_secs_f64()
    );
    if !in_memory {
        server.stop()?;
        server = Server::start(arguments)?;
    }

    let nice = getpriority_process(None)?;
    let task = |number| TaskId::new(Uuid::from_u128(number));
    let ((), idle) = during(&server, task(1), || {
        thread::sleep(IDLE);
        Ok(())
    })?;
    println!("  idle: live {idle}");
    for (number, since) in [(2, Some(filled.epoch.as_str())), (3, None)] {
        // Who reads the store is not to find what the clients before left in memory.
        if since.is_none() && !in_memory {
            server.stop()?;
            server = Server::start(arguments)?;
        }
        server.forget_peak()?;
        let (before, cpu) = (server.resident_kib()?, server.cpu_s()?);
        let ((all, welcomed, caught_up, after), live) = during(&server, task(number), || {
            setpriority_process(None, nice + NICER)?;
            let began = Instant::now();
            let mut all = Clients::connect(&server, rooms, clients, since)?;
            let welcomed = began.elapsed();
            if since.is_some() {
                all.catch_up(missed)?;
            }
            let took = began.elapsed();
            Ok((all, welcomed, took, server.resident_kib()?))
        })?;
        println!(
            "  {}: welcomed_s={:.2} s={:.2} server_cpu_s={:.2} resident_mib={}..{} peak_mib={} live {live}",
            if since.is_some() { "resume" } else { "connect" },
            welcomed.as_secs_f64(),
            caught_up.as_secs_f64(),
            server.cpu_s()? - cpu,
            before >> 10,
            after >> 10,
            server.peak_kib()? >> 10,
        );
        setpriority_process(None, nice)?;
        drop(all);
        // What they leave is seen to before the next ones come.
        let mut http = Http::connect(server.address)?;
        while http.number("/metrics", "\nfanfare_connections ")? > 0 {
            thread::yield_now();
        }
    }
    server.stop()
}
