//! What a durable commit costs, beside `fdatasync` of as many bytes on the same disk in the same run.
//!
//! `store [DIR] [SECONDS]` commits with 1, 64 and 1,000 batches in flight, SECONDS each, in turns with the `fdatasync`s.
//! Then, as a hub does that groups by itself, one commit at a time of 1, 64 and 1,000 publishes.
//! `store open [DIR] [ROWS]` fills a file and opens it: closed, closed without verification, and as a killed process leaves it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "a measuring program prints its figures"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use fanfare_benches::{Outcome, Times, argument, arguments, fdatasyncs, in_folder};
use fanfare_store::{Batch, Durability, KeyRange, Options, Read, Store, Table};
use smol::stream::StreamExt;

/// Rooms that are published to.
const ROOMS: u64 = 1_000;
/// Rows, and bytes of keys and values, of one batch.
const ROWS: u64 = 6;
const BATCH: usize = (9 + 100) + (17 + 400) + (20 + 8) + (36 + 120) + (8 + 36) + (4 + 16);
const ROUNDS: u32 = 3;

fn main() -> Outcome<()> {
    if arguments(0).first().is_some_and(|word| word == "open") {
        let rows = argument(2, 1_000_000)?;
        return in_folder(1, |dir| open(dir, rows));
    }
    let each = Duration::from_secs(argument(1, 5)?);
    in_folder(0, |dir| commits(dir, each).and_then(|()| groups(dir, each)))
}

fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    publish(&mut batch, number);
    batch
}

/// What a publish to a user's room with an id writes, about.
fn publish(batch: &mut Batch, number: u64) {
    let (room, seq) = (number % ROOMS, number.to_be_bytes());
    let key = |parts: &[&[u8]]| parts.concat();
    let room = key(&[b"u", &room.to_be_bytes()]);
    // Publishers' ids are random: a mix of the number, so that runs are alike.
    let id = u128::from(number).wrapping_mul(0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15);
    let id = format!("{id:032x}{:04}", number % 10_000);
    batch
        .put(Table::Rooms, room.clone(), vec![b'r'; 100])
        .put(Table::Entries, key(&[&room, &seq]), vec![b'x'; 400])
        .put(Table::Inboxes, key(&[&room, b"new", &seq]), seq)
        .put(Table::Ids, id.clone(), vec![b'i'; 120])
        .put(Table::IdTimes, key(&[&seq, id.as_bytes()]), [])
        .put(Table::Meta, b"head", [0; 16]);
}

fn commits(dir: &Path, each: Duration) -> Outcome<()> {
    for durability in [Durability::Immediate, Durability::Relaxed] {
        for in_flight in [1, 64, 1_000] {
            let file = dir.join(format!("{durability:?}-{in_flight}"));
            let options = Options {
                durability,
                ..Options::default()
            };
            let store = Store::open(&file, options)?;
            let mut taken = Times::default();
            let (mut number, mut floor, mut wall) = (0, 0.0, Duration::ZERO);
            for _ in 0..ROUNDS {
                wall += smol::block_on(closed_loop(
                    &store,
                    in_flight,
                    each / ROUNDS,
                    &mut number,
                    &mut taken,
                ))?;
                floor += fdatasyncs(&dir.join("floor"), in_flight * BATCH, each / ROUNDS)?
                    / f64::from(ROUNDS);
            }
            store.close()?;
            let rate = taken.len() as f64 / wall.as_secs_f64();
            println!(
                "{durability:?} in_flight={in_flight} commits_per_s={rate:.0} {taken} \
                 fdatasyncs_per_s={floor:.0} ratio_to_one_fdatasync_per_{in_flight}={:.2}",
                rate / (floor * in_flight as f64),
            );
        }
    }
    Ok(())
}

/// One commit at a time, each of a group of publishes.
fn groups(dir: &Path, each: Duration) -> Outcome<()> {
    for group in [1, 64, 1_000] {
        let file = dir.join(format!("group-{group}"));
        let store = Store::open(&file, Options::default())?;
        let mut taken = Times::default();
        let (mut number, mut floor, mut wall) = (0, 0.0, Duration::ZERO);
        for _ in 0..ROUNDS {
            let began = Instant::now();
            while began.elapsed() < each / ROUNDS {
                let mut batch = Batch::new();
                for _ in 0..group {
                    number += 1;
                    publish(&mut batch, number);
                }
                let since = Instant::now();
                smol::block_on(store.commit(batch))?;
                taken.push(since.elapsed());
            }
            wall += began.elapsed();
            floor +=
                fdatasyncs(&dir.join("floor"), group * BATCH, each / ROUNDS)? / f64::from(ROUNDS);
        }
        store.close()?;
        let rate = taken.len() as f64 / wall.as_secs_f64();
        println!(
            "group={group} publishes_per_s={:.0} commits_per_s={rate:.0} {taken} \
             fdatasyncs_per_s={floor:.0} commits_per_fdatasync={:.2}",
            rate * group as f64,
            rate / floor,
        );
    }
    Ok(())
}

/// Keeps so many commits in flight; each that is answered is followed by another.
async fn closed_loop(
    store: &Store,
    in_flight: usize,
    each: Duration,
    number: &mut u64,
    taken: &mut Times,
) -> Outcome<Duration> {
    let began = Instant::now();
    let mut next = || {
        *number += 1;
        let (since, commit) = (Instant::now(), store.commit(batch(*number)));
        async move { commit.await.map(|()| since.elapsed()) }
    };
    let mut waiting: futures::stream::FuturesUnordered<_> =
        (0..in_flight).map(|_| next()).collect();
    while let Some(done) = waiting.next().await {
        taken.push(done?);
        if began.elapsed() < each {
            waiting.push(next());
        }
    }
    Ok(began.elapsed())
}

fn open(dir: &Path, rows: u64) -> Outcome<()> {
    let (file, killed) = (dir.join("store"), dir.join("killed"));
    let store = Store::open(&file, Options::default())?;
    let began = Instant::now();
    for number in 0..rows {
        let commit = store.commit(batch(number));
        // No more than the queue takes.
        if number % 10_000 == 0 {
            smol::block_on(commit)?;
        }
    }
    smol::block_on(store.commit(Batch::new()))?;
    println!(
        "filled batches={rows} rows_a_batch={ROWS} s={:.2}",
        began.elapsed().as_secs_f64()
    );
    std::fs::copy(&file, &killed)?;
    store.close()?;
    let unverified = Options {
        verify: false,
        ..Options::default()
    };
    let cases = [
        ("closed", &file, Options::default()),
        ("closed, not verified", &file, unverified.clone()),
        ("killed", &killed, unverified),
    ];
    for (name, file, options) in cases {
        let began = Instant::now();
        let store = Store::open(file, options)?;
        let opened = began.elapsed();
        let mut read = Read::new(Table::Entries, KeyRange::all());
        let (began, mut found) = (Instant::now(), 0);
        loop {
            let page = smol::block_on(store.read(read.clone()))?;
            found += page.rows.len();
            let Some(next) = page.next else { break };
            read.range = next;
        }
        println!(
            "{name}: bytes={} open_s={:.2} read_rows={found} read_s={:.2}",
            std::fs::metadata(file)?.len(),
            opened.as_secs_f64(),
            began.elapsed().as_secs_f64(),
        );
        store.close()?;
    }
    Ok(())
}
