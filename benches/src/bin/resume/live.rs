//! What live events suffer: one room with one subscriber, to which an event is published at a fixed rate.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fanfare_benches::{Message, Outcome, Server, Sockets, Times, number_after, request};
use fanfare_core::TaskId;

const PERIOD: Duration = Duration::from_millis(5);
const SUBSCRIBER: u64 = u64::MAX;
/// Connections that the publisher has from the start, as a back end has. One that it opens while thousands connect may be
/// dropped by the system, whose queue of those is full, and is tried again by TCP after a second.
const PUBLISHERS: usize = 256;

/// Does something while live events are published to a task of which nothing was heard, and measures how long each of them takes, from the moment at which it was to
/// be published until the subscriber has it.
pub(crate) fn during<T>(
    server: &Server,
    task: TaskId,
    something: impl FnOnce() -> Outcome<T>,
) -> Outcome<(T, Times)> {
    let (ready, is_ready) = channel();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let live = scope.spawn(|| live(server, task, &ready, &stop));
        // Where it ended before that, joining it says why.
        let done = is_ready.recv().map_err(Into::into);
        let done = done.and_then(|()| something());
        stop.store(true, Ordering::Relaxed);
        let times = live.join().map_err(|_| "the live publisher panicked")??;
        Ok((done?, times))
    })
}

fn live(server: &Server, task: TaskId, ready: &Sender<()>, stop: &AtomicBool) -> Outcome<Times> {
    let room = format!("\"task:{task}\":");
    let mut sockets = Sockets::new()?;
    let path = format!("/v1/tasks/{task}/chat");
    let subscriber = sockets.open(server, &path, &server.token(SUBSCRIBER))?;
    let (mut welcome, mut times) = (false, Times::default());
    while !welcome {
        sockets.turn(None, |_, message| {
            welcome |= matches!(message, Message::Text(_));
            Ok(())
        })?;
    }
    // Those on which no answer is waited for: an answer that is late must not hold up the next publish. They take turns, since
    // one that says nothing for long is closed.
    let mut free = VecDeque::new();
    for _ in 0..PUBLISHERS {
        free.push_back(sockets.connect(server.address)?);
    }
    ready.send(())?;

    let line = format!("POST /v1/tasks/{task}/events");
    let (began, mut sent, mut answered, mut seen) = (Instant::now(), 0_u32, 0, 0);
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        if stopped && answered == sent && seen == sent {
            return Ok(times);
        }
        let due = began + PERIOD * sent;
        if !stopped && due <= Instant::now() {
            let publisher = match free.pop_front() {
                Some(publisher) => publisher,
                None => sockets.connect(server.address)?,
            };
            let body = format!(
                r#"{{"type":"chat:message","id":"{task}.{sent}","data":{{"text":"{:0200}"}}}}"#,
                0
            );
            let body = Some(("application/json", body.as_bytes()));
            sockets.send(publisher, &request(server.address, &line, body))?;
            sent += 1;
            continue;
        }
        let wait = if stopped {
            PERIOD
        } else {
            due.saturating_duration_since(Instant::now())
        };
        sockets.turn(Some(wait), |number, message| {
            match message {
                Message::Answer { status: 200, .. } => {
                    answered += 1;
                    free.push_back(number);
                }
                Message::Text(event) if number == subscriber => {
                    let seq = number_after(event, room.as_bytes());
                    if seq != Some(u64::from(seen) + 1) {
                        let event = String::from_utf8_lossy(event);
                        return Err(format!("live, after event {seen}: {event}").into());
                    }
                    times.push((began + PERIOD * seen).elapsed());
                    seen += 1;
                }
                other @ (Message::Answer { .. } | Message::Text(_) | Message::Ping) => {
                    return Err(format!("live: {other:?}").into());
                }
            }
            Ok(())
        })?;
    }
}
