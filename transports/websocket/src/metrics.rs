//! `/metrics`: what the shard and the HTTP API have done, in the text format of Prometheus.
//!
//! No label has a value that a client chooses: rooms, users and paths would make as many series as there are.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::Counters;
use crate::route::Route;

/// What `/metrics` is: the OpenMetrics text that Prometheus reads.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper ends of the buckets of a request's duration, seconds.
const DURATIONS: [f64; 8] = [0.000_5, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    status: u16,
}

/// What the store did not do, and why.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct NotDone {
    operation: &'static str,
    failure: &'static str,
}

/// The series, and the registry that prints them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    /// The one of them that was counted last: most often it is the next one too.
    last: RefCell<Option<(Answered, Counter)>>,
    durations: Histogram,
    shard: ShardSeries,
}

/// Copies of a shard's counters, brought up to date when they are asked for.
#[derive(Debug, Default)]
struct ShardSeries {
    connections: Gauge<i64, AtomicI64>,
    accepted: Counter,
    accept_errors: Counter,
    opened: Counter,
    messages_read: Counter,
    frames_written: Counter,
    bytes_written: Counter,
    writes: Counter,
    writes_blocked: Counter,
    writes_failed: Counter,
    panics: Counter,
    store_writable: Gauge<i64, AtomicI64>,
    commits: Counter,
    fetches: Counter,
    store_failures: Family<NotDone, Counter>,
    publishes_not_stored: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("fanfare");
        let requests = Family::default();
        let durations = Histogram::new(DURATIONS);
        registry.register(
            "http_requests",
            "HTTP requests answered, handshakes among them",
            requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "From a request's head to its answer",
            Unit::Seconds,
            durations.clone(),
        );
        let shard = ShardSeries::default();
        shard.register(&mut registry);
        Self {
            registry,
            requests,
            last: RefCell::default(),
            durations,
            shard,
        }
    }

    /// A request was answered. `route` is `None` where its path is none of ours.
    pub(crate) fn answered(&self, route: Option<Route>, status: StatusCode, duration: Duration) {
        let answered = Answered {
            route: route.map_or("none", Route::name),
            status: status.as_u16(),
        };
        let mut last = self.last.borrow_mut();
        if last.as_ref().is_none_or(|(same, _)| *same != answered) {
            let counter = self.requests.get_or_create(&answered).clone();
            *last = Some((answered, counter));
        }
        if let Some((_, counter)) = &*last {
            counter.inc();
        }
        self.durations.observe(duration.as_secs_f64());
    }

    /// All series as text, with the shard's counters as they are now, and whether its store takes what is published.
    ///
    /// # Errors
    /// None that a `String` has.
    pub(crate) fn text(
        &self,
        counters: &Counters,
        store_writable: bool,
    ) -> Result<String, fmt::Error> {
        self.shard.update(counters);
        self.shard.store_writable.set(store_writable.into());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl ShardSeries {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections",
            "WebSockets open now, those that are closing included",
            self.connections.clone(),
        );
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone())
        };
        counter(
            "tcp_connections_accepted",
            "TCP connections accepted, for HTTP and WebSockets",
            &self.accepted,
        );
        counter(
            "tcp_accept_errors",
            "TCP connections that could not be accepted",
            &self.accept_errors,
        );
        counter("connections_opened", "WebSockets opened", &self.opened);
        counter(
            "messages_read",
            "Messages read from clients, without pings",
            &self.messages_read,
        );
        counter(
            "frames_written",
            "Frames that went out whole, without answers to pings",
            &self.frames_written,
        );
        counter(
            "bytes_written",
            "Bytes that went out to WebSockets",
            &self.bytes_written,
        );
        counter(
            "writes",
            "System calls that were to write to WebSockets",
            &self.writes,
        );
        counter(
            "writes_blocked",
            "Writes that met a full socket",
            &self.writes_blocked,
        );
        counter(
            "writes_failed",
            "Writes to a client that was gone",
            &self.writes_failed,
        );
        counter(
            "panics",
            "Tasks that ended in a panic, of a connection or the store",
            &self.panics,
        );
        counter(
            "store_commits",
            "Commits that the store made",
            &self.commits,
        );
        counter(
            "store_reads",
            "Reads that the store answered",
            &self.fetches,
        );
        counter(
            "publishes_not_stored",
            "Publishes refused since the store did not keep them",
            &self.publishes_not_stored,
        );
        registry.register(
            "store_failures",
            "Commits and reads that failed, or had no space",
            self.store_failures.clone(),
        );
        registry.register(
            "store_writable",
            "Whether the store takes what is published: 1, or 0",
            self.store_writable.clone(),
        );
    }

    fn update(&self, now: &Counters) {
        let open = now.opened.saturating_sub(now.closed);
        self.connections
            .set(i64::try_from(open).unwrap_or(i64::MAX));
        let failures = |operation, failure| {
            let failures = self
                .store_failures
                .get_or_create(&NotDone { operation, failure });
            failures.clone()
        };
        for (counter, value) in [
            (&failures("commit", "full"), now.commits_full),
            (&failures("commit", "failed"), now.commits_failed),
            (&failures("read", "failed"), now.fetches_failed),
            (&self.commits, now.commits),
            (&self.fetches, now.fetches),
            (&self.publishes_not_stored, now.publishes_not_stored),
            (&self.accepted, now.accepted),
            (&self.accept_errors, now.accept_errors),
            (&self.opened, now.opened),
            (&self.messages_read, now.messages_read),
            (&self.frames_written, now.frames_written),
            (&self.bytes_written, now.bytes_written),
            (&self.writes, now.writes),
            (&self.writes_blocked, now.writes_blocked),
            (&self.writes_failed, now.writes_failed),
            (&self.panics, now.panics),
        ] {
            let inner: &AtomicU64 = counter.inner();
            inner.store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::To;

    #[test]
    fn what_happened_is_told_without_naming_anybody() {
        let metrics = Metrics::new();
        metrics.answered(
            Some(Route::Publish(To::Task)),
            StatusCode::OK,
            Duration::from_millis(2),
        );
        metrics.answered(
            Some(Route::Publish(To::Task)),
            StatusCode::OK,
            Duration::from_millis(2),
        );
        metrics.answered(None, StatusCode::NOT_FOUND, Duration::ZERO);
        metrics.answered(
            Some(Route::Publish(To::Task)),
            StatusCode::GONE,
            Duration::ZERO,
        );
        metrics.answered(
            Some(Route::Publish(To::Task)),
            StatusCode::OK,
            Duration::ZERO,
        );
        let counters = Counters {
            opened: 5,
            closed: 2,
            frames_written: 7,
            commits: 3,
            commits_full: 1,
            commits_failed: 2,
            fetches_failed: 4,
            publishes_not_stored: 6,
            ..Counters::default()
        };
        let text = metrics.text(&counters, false).unwrap();
        for line in [
            "fanfare_http_requests_total{route=\"task_events\",status=\"200\"} 3",
            "fanfare_http_requests_total{route=\"task_events\",status=\"410\"} 1",
            "fanfare_http_requests_total{route=\"none\",status=\"404\"} 1",
            "fanfare_http_request_duration_seconds_count 5",
            "fanfare_connections 3",
            "fanfare_connections_opened_total 5",
            "fanfare_frames_written_total 7",
            "fanfare_store_commits_total 3",
            "fanfare_store_failures_total{operation=\"commit\",failure=\"full\"} 1",
            "fanfare_store_failures_total{operation=\"commit\",failure=\"failed\"} 2",
            "fanfare_store_failures_total{operation=\"read\",failure=\"failed\"} 4",
            "fanfare_publishes_not_stored_total 6",
            "fanfare_store_writable 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
