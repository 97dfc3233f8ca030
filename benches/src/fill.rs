//! A log that is there before the measurement.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::{Http, Outcome, number_after};

/// Lines of one batch.
const BATCH: u64 = 5_000;

/// What [`fill`] did.
#[derive(Debug)]
pub struct Filled {
    /// The rooms' epoch.
    pub epoch: String,
    /// How long it took.
    pub took: Duration,
}

/// Publishes `events` events, in batches, to `rooms` rooms in turn, by their names: the first has numbers 1 to N, as all
/// were empty. Every answer is checked.
///
/// # Errors
/// Where a line is answered by anything but the room's next number.
pub fn fill(
    address: SocketAddr,
    events: u64,
    rooms: u64,
    room: impl Fn(u64) -> String,
) -> Outcome<Filled> {
    let mut http = Http::connect(address)?;
    let began = Instant::now();
    let mut epoch = None;
    let mut next = 0;
    while next < events {
        let batch = next..events.min(next + BATCH);
        let mut body = String::new();
        for number in batch.clone() {
            // The payload's length is that of a short notification.
            writeln!(
                body,
                r#"{{"type":"chat:message","room":"{}","data":{{"n":{number},"text":"{:0100}"}}}}"#,
                room(number % rooms),
                0
            )?;
        }
        let kind = "application/x-ndjson";
        let answers = http.ask("POST /v1/events", Some((kind, body.as_bytes())))?;
        let mut answers = answers.split(|byte| *byte == b'\n');
        for number in batch.clone() {
            let answer = answers.next().unwrap_or_default();
            if number_after(answer, br#""seq":"#) != Some(number / rooms + 1) {
                let answer = String::from_utf8_lossy(answer);
                return Err(format!("event {number} was answered: {answer}").into());
            }
            if epoch.is_none() {
                epoch = Some(epoch_of(answer)?);
            }
        }
        next = batch.end;
    }
    Ok(Filled {
        epoch: epoch.ok_or("nothing was published")?,
        took: began.elapsed(),
    })
}

fn epoch_of(answer: &[u8]) -> Outcome<String> {
    let answer = str::from_utf8(answer)?;
    let (_, rest) = answer.split_once(r#""epoch":""#).ok_or("no epoch")?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}
