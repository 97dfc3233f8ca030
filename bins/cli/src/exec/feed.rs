//! What a run has to tell the server, in order: that it began, what it printed, how it ended.
//!
//! Pulled by the sender, one event at a time, so nothing queues up behind a slow or absent server but lines: at most
//! [`PENDING_LINES_MAX`] and [`PENDING_BYTES_MAX`], the oldest go first, and the next batch says how many went.
//! Lifecycle events are never dropped. Time is an input.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fanfare_core::TaskId;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::progress::Progress;

/// The least time between two output events, from the one's answer to the other: at most 10 a second. From the answer,
/// so that a slow or retried one never comes to the server close before the next.
pub(crate) const BATCH_GAP: Duration = Duration::from_millis(100);
/// The same after the end, when nobody can gain from waiting. A little more than a 20th of a second, since the server
/// stamps by a clock of its own.
pub(crate) const END_GAP: Duration = Duration::from_millis(55);
/// The least time before an event that has no finished line, only progress or the line as it stands.
pub(crate) const TOUCH_GAP: Duration = Duration::from_millis(250);
/// Lines in one event.
pub(crate) const BATCH_LINES_MAX: usize = 200;
/// Bytes of text in one event; at least one line goes, whatever its length.
pub(crate) const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Lines that wait for the server.
pub(crate) const PENDING_LINES_MAX: usize = 2_000;
/// Bytes of the lines that wait for the server.
pub(crate) const PENDING_BYTES_MAX: usize = 512 * 1024;

const STATUS: &str = "task:status";

/// Where a program wrote a line. Under a terminal both streams are one, called `stdout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    pub(crate) stream: Stream,
    pub(crate) text: String,
}

/// An event to be published, with the id that it keeps however often it is tried.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) data: Box<RawValue>,
    /// Not kept by the server; a later one of this key replaces it.
    pub(crate) key: Option<&'static str>,
}

/// The data of a `task:status`.
#[derive(Serialize)]
struct Status<'a> {
    /// What comes through a user's room names that room only.
    task: TaskId,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<&'a Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    #[serde(skip_serializing_if = "is_zero")]
    dropped: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to the field"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What was never delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) events: usize,
    pub(crate) lines: usize,
}

/// The events of one run.
pub(crate) struct Feed {
    task: TaskId,
    run: String,
    made: u64,
    opening: VecDeque<Event>,
    lines: VecDeque<Line>,
    bytes: usize,
    /// Lines dropped since the last batch.
    dropped: u64,
    progress: Progress,
    partial: Option<Line>,
    /// Progress or the unfinished line changed since the last output event.
    touched: bool,
    ending: Option<Event>,
    ended: bool,
    in_flight: Option<(Event, usize)>,
    /// When the last output event was settled.
    settled_at: Option<Instant>,
}

impl Feed {
    /// `run` begins every event's id, so it must not have been used before; at most 40 of `A-Za-z0-9._:-`.
    pub(crate) fn new(task: TaskId, run: String) -> Self {
        Self {
            task,
            run,
            made: 0,
            opening: VecDeque::new(),
            lines: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            progress: Progress::default(),
            partial: None,
            touched: false,
            ending: None,
            ended: false,
            in_flight: None,
            settled_at: None,
        }
    }

    fn event(
        &mut self,
        kind: &'static str,
        data: &impl Serialize,
        key: Option<&'static str>,
    ) -> Event {
        self.made += 1;
        let data = to_raw_value(data).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Event {
            id: format!("{}:{}", self.run, self.made),
            kind,
            data,
            key,
        }
    }

    /// A lifecycle event of the beginning. The caller makes a handful; they go before everything else.
    pub(crate) fn say(&mut self, kind: &'static str, data: &impl Serialize) {
        let event = self.event(kind, data, None);
        self.opening.push_back(event);
    }

    /// The last event: it goes after every line, the unfinished one included. Nothing that comes later is taken.
    pub(crate) fn end(&mut self, kind: &'static str, data: &impl Serialize) {
        if !self.ended {
            if let Some(Line { stream, text }) = self.partial.take() {
                self.printed(stream, [text], "");
            }
            self.ended = true;
            self.ending = Some(self.event(kind, data, None));
        }
    }

    /// A stream got on: lines that ended, and its last line as it stands.
    pub(crate) fn printed(
        &mut self,
        stream: Stream,
        lines: impl IntoIterator<Item = String>,
        unfinished: &str,
    ) {
        if self.ended {
            return;
        }
        for text in lines {
            self.touched |= self.progress.observe(&text);
            self.bytes += text.len();
            self.lines.push_back(Line { stream, text });
            while self.lines.len() > PENDING_LINES_MAX || self.bytes > PENDING_BYTES_MAX {
                self.bytes -= self.lines.pop_front().map_or(0, |line| line.text.len());
                self.dropped += 1;
            }
        }
        self.touched |= self.progress.observe(unfinished);
        let partial = (!unfinished.trim().is_empty()).then(|| Line {
            stream,
            text: unfinished.to_owned(),
        });
        // The other stream's unfinished line stays; only its own end clears it.
        if partial.is_some()
            || self
                .partial
                .as_ref()
                .is_some_and(|line| line.stream == stream)
        {
            self.touched |= self.partial != partial;
            self.partial = partial;
        }
    }

    /// The event to send now. The same one again until it is [`settled`](Self::settled).
    pub(crate) fn poll(&mut self, now: Instant) -> Option<&Event> {
        if self.in_flight.is_none() {
            self.in_flight = self.next(now);
        }
        self.in_flight.as_ref().map(|(event, _)| event)
    }

    fn next(&mut self, now: Instant) -> Option<(Event, usize)> {
        if let Some(event) = self.opening.pop_front() {
            return Some((event, 0));
        }
        if self.has_output() {
            if self.free_at().is_some_and(|at| at > now) {
                return None;
            }
            return Some(self.batch());
        }
        self.ending.take().map(|event| (event, 0))
    }

    fn batch(&mut self) -> (Event, usize) {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while let Some(line) = self.lines.front() {
            bytes += line.text.len();
            if lines.len() == BATCH_LINES_MAX || (bytes > BATCH_BYTES_MAX && !lines.is_empty()) {
                break;
            }
            lines.extend(self.lines.pop_front());
        }
        self.bytes -= lines.iter().map(|line| line.text.len()).sum::<usize>();
        let count = lines.len();
        // What has no finished line is worth nothing later: the next one replaces it.
        let key = lines.is_empty().then_some("exec");
        self.touched = false;
        let status = Status {
            task: self.task,
            status: "running",
            lines,
            partial: self.partial.as_ref().filter(|_| self.lines.is_empty()),
            progress: self.progress.shown(),
            dropped: std::mem::take(&mut self.dropped),
        };
        let data = to_raw_value(&status).unwrap_or_else(|_| RawValue::NULL.to_owned());
        (self.event(STATUS, &data, key), count)
    }

    fn has_output(&self) -> bool {
        self.touched || !self.lines.is_empty()
    }

    fn free_at(&self) -> Option<Instant> {
        let gap = match (self.ended, self.lines.is_empty()) {
            (true, _) => END_GAP,
            (false, false) => BATCH_GAP,
            (false, true) => TOUCH_GAP,
        };
        self.settled_at.map(|at| at + gap)
    }

    /// The event last polled was taken by the server, or refused for good.
    pub(crate) fn settled(&mut self, now: Instant) {
        let settled = self.in_flight.take();
        if settled.is_some_and(|(event, _)| event.kind == STATUS) {
            self.settled_at = Some(now);
        }
    }

    /// When to poll again though nothing new was printed, after a poll that gave nothing.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.free_at().filter(|_| self.has_output())
    }

    /// Whether the last event is known.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether everything up to the last event was settled.
    pub(crate) fn is_finished(&self) -> bool {
        self.ended && self.left() == Left::default()
    }

    /// What was not delivered so far.
    pub(crate) fn left(&self) -> Left {
        let in_flight = self.in_flight.as_ref();
        let dropped = usize::try_from(self.dropped).unwrap_or(usize::MAX);
        let lines = self.lines.len() + dropped + in_flight.map_or(0, |(_, lines)| *lines);
        let others = in_flight.is_some_and(|(_, lines)| *lines == 0);
        Left {
            events: self.opening.len() + usize::from(others) + usize::from(self.ending.is_some()),
            lines,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TASK: &str = "550e8400-e29b-41d4-a716-446655440000";
    const MS: Duration = Duration::from_millis(1);

    fn begun() -> (Feed, Instant) {
        let mut feed = Feed::new(TASK.parse().unwrap(), "run".to_owned());
        feed.say("task:created", &json!({"title": "x"}));
        feed.say("task:started", &json!({}));
        let now = Instant::now();
        for kind in ["task:created", "task:started"] {
            assert_eq!(pull(&mut feed, now).unwrap().0, kind);
        }
        (feed, now)
    }

    fn pull(feed: &mut Feed, now: Instant) -> Option<(&'static str, Value, bool)> {
        let event = feed.poll(now)?;
        let pulled = (
            event.kind,
            serde_json::from_str(event.data.get()).unwrap(),
            event.key.is_some(),
        );
        feed.settled(now);
        Some(pulled)
    }

    fn numbered(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|n| n.to_string()).collect()
    }

    /// Everything that can be pulled, with the time at which it could, as a sender without delay would.
    fn drain(feed: &mut Feed, mut now: Instant) -> Vec<(Instant, &'static str, Value)> {
        let mut all = Vec::new();
        loop {
            if let Some((kind, data, _)) = pull(feed, now) {
                all.push((now, kind, data));
            } else if let Some(at) = feed.next_deadline() {
                now = at;
            } else {
                return all;
            }
        }
    }

    #[test]
    fn a_run_is_told_from_its_creation_to_its_end_in_order() {
        let (mut feed, now) = begun();
        feed.printed(Stream::Stdout, ["half 50%".to_owned()], "");
        feed.printed(Stream::Stderr, ["oh".to_owned()], "");
        feed.end("task:completed", &json!({"exit_code": 0}));
        let all: Vec<_> = drain(&mut feed, now)
            .into_iter()
            .map(|(_, kind, data)| (kind, data))
            .collect();
        let lines =
            json!([{"stream": "stdout", "text": "half 50%"}, {"stream": "stderr", "text": "oh"}]);
        assert_eq!(
            all,
            [
                (
                    "task:status",
                    json!({"task": TASK, "status": "running", "lines": lines, "progress": 0.5})
                ),
                ("task:completed", json!({"exit_code": 0})),
            ]
        );
        assert!(feed.is_finished());
    }

    #[test]
    fn there_are_never_more_than_twenty_output_events_in_a_second() {
        let (mut feed, start) = begun();
        let mut sent = Vec::new();
        for ms in 0..5_000 {
            let now = start + MS * ms;
            feed.printed(
                Stream::Stdout,
                [format!("line {ms}")],
                &format!("{}%", ms % 100),
            );
            sent.extend(pull(&mut feed, now).map(|(_, data, _)| (now, data)));
        }
        feed.end("task:completed", &json!({}));
        let tail = drain(&mut feed, start + MS * 5_000);
        assert_eq!(tail.last().unwrap().1, "task:completed");
        sent.extend(
            tail.into_iter()
                .filter(|(_, kind, _)| *kind == "task:status")
                .map(|(at, _, data)| (at, data)),
        );
        for window in sent.windows(21) {
            assert!(window[20].0 - window[0].0 >= Duration::from_secs(1));
        }
        let lines: Vec<_> = sent
            .iter()
            .flat_map(|(_, data)| data["lines"].as_array().unwrap().clone())
            .collect();
        assert_eq!(lines.len(), 5_001, "every line is sent");
        assert_eq!(lines[4_999]["text"], "line 4999", "the last one too");
        assert_eq!(lines[5_000]["text"], "99%", "and the one without an end");
    }

    #[test]
    fn an_event_is_the_same_until_it_is_settled() {
        let (mut feed, now) = begun();
        feed.printed(Stream::Stdout, ["one".to_owned()], "");
        let first = feed.poll(now).unwrap().clone();
        feed.printed(Stream::Stdout, ["two".to_owned()], "");
        let again = feed.poll(now + MS * 10_000).unwrap().clone();
        assert_eq!(
            (first.id, first.data.get()),
            (again.id.clone(), again.data.get())
        );
        feed.settled(now + MS * 10_000);
        let soon = now + MS * 10_000 + BATCH_GAP;
        assert!(
            feed.poll(soon - MS).is_none(),
            "the gap is from the answer on"
        );
        let next = feed.poll(soon).unwrap();
        assert_ne!(next.id, again.id);
        assert!(next.data.get().contains("two"));
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_lines_go_with_a_said_count() {
        let (mut feed, now) = begun();
        feed.printed(Stream::Stdout, ["first".to_owned()], "");
        feed.poll(now).unwrap();
        feed.printed(Stream::Stdout, numbered(0..10_000), "");
        feed.end("task:completed", &json!({}));
        assert_eq!(
            feed.left(),
            Left {
                events: 1,
                lines: 10_001
            },
            "what was dropped is not delivered either"
        );
        assert_eq!(feed.lines.len(), PENDING_LINES_MAX);
        let all = drain(&mut feed, now);
        assert_eq!(all.len(), 1 + PENDING_LINES_MAX / BATCH_LINES_MAX + 1);
        assert_eq!(all[1].2["dropped"], 8_000);
        assert_eq!(all[1].2["lines"][0]["text"], "8000");
        assert_eq!(all[2].2.get("dropped"), None, "a dropped line is told once");
        assert!(feed.is_finished());
    }

    #[test]
    fn long_lines_are_bounded_in_bytes_while_they_wait_and_in_an_event() {
        let (mut feed, now) = begun();
        let line = "x".repeat(4_000);
        for _ in 0..1_000 {
            feed.printed(Stream::Stdout, [line.clone()], "");
        }
        assert!(feed.bytes <= PENDING_BYTES_MAX);
        feed.end("task:failed", &json!({}));
        let all = drain(&mut feed, now);
        let (last, batches) = all.split_last().unwrap();
        assert_eq!(last.1, "task:failed");
        for (_, _, data) in batches {
            let bytes: usize = data["lines"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line["text"].as_str().unwrap().len())
                .sum();
            assert!(bytes <= BATCH_BYTES_MAX, "{bytes}");
        }
    }

    #[test]
    fn progress_without_a_line_is_ephemeral_and_rarer() {
        let (mut feed, now) = begun();
        feed.printed(Stream::Stdout, [], "10%");
        let (_, data, ephemeral) = pull(&mut feed, now).unwrap();
        assert_eq!(
            data,
            json!({"task": TASK, "status": "running", "progress": 0.1, "partial": {"stream": "stdout", "text": "10%"}})
        );
        assert!(ephemeral);
        feed.printed(Stream::Stdout, [], "20%");
        assert!(feed.poll(now + MS * 249).is_none());
        assert_eq!(feed.next_deadline(), Some(now + TOUCH_GAP));
        assert_eq!(pull(&mut feed, now + TOUCH_GAP).unwrap().1["progress"], 0.2);
        feed.printed(Stream::Stdout, [], "20%");
        assert_eq!(
            feed.next_deadline(),
            None,
            "nothing changed, so nothing is due"
        );
        feed.printed(Stream::Stdout, ["20%".to_owned()], "");
        let (_, data, ephemeral) = pull(&mut feed, now + MS * 1_000).unwrap();
        assert!(!ephemeral, "a finished line is kept");
        assert_eq!(data.get("partial"), None);
    }

    #[test]
    fn after_the_end_nothing_is_taken() {
        let (mut feed, now) = begun();
        feed.end("task:completed", &json!({}));
        feed.end("task:failed", &json!({}));
        feed.printed(Stream::Stdout, ["late".to_owned()], "late");
        let all = drain(&mut feed, now);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].1, "task:completed");
    }

    #[test]
    fn a_line_that_never_ended_is_a_line_when_the_program_has() {
        let (mut feed, now) = begun();
        feed.printed(Stream::Stdout, [], "Continue?");
        pull(&mut feed, now).unwrap();
        feed.end("task:completed", &json!({}));
        let (_, data, ephemeral) = pull(&mut feed, now + END_GAP).unwrap();
        assert_eq!(
            data,
            json!({"task": TASK, "status": "running", "lines": [{"stream": "stdout", "text": "Continue?"}]})
        );
        assert!(!ephemeral, "it is kept");
    }

    #[test]
    fn one_streams_line_does_not_clear_the_unfinished_line_of_the_other() {
        let (mut feed, now) = begun();
        feed.printed(Stream::Stdout, [], "Continue?");
        feed.printed(Stream::Stderr, ["warning".to_owned()], "");
        let (_, data, _) = pull(&mut feed, now).unwrap();
        assert_eq!(data["partial"]["text"], "Continue?");
    }
}
