//! What a run came to: for people, or as one JSON object.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::tally::Tally;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) target: String,
    pub(crate) ended: Ended,
    pub(crate) connections: Connections,
    pub(crate) rooms: u32,
    pub(crate) in_flight: u16,
    pub(crate) rate: Option<f64>,
    pub(crate) size: u32,
    /// From the first publish until the last delivery.
    pub(crate) seconds: f64,
    pub(crate) publishes: Publishes,
    pub(crate) deliveries: u64,
    pub(crate) deliveries_per_second: f64,
    pub(crate) latency_ms: Option<Percentiles>,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
    pub(crate) unexpected: u64,
    pub(crate) gaps: u64,
    pub(crate) server: Option<Server>,
    /// Why nothing is said of the server's CPU and memory.
    pub(crate) server_unknown: Option<String>,
    pub(crate) bench_cpu_us_per_delivery: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Done,
    Interrupted,
    ServerGone,
}

#[derive(Debug, Serialize)]
pub(crate) struct Connections {
    pub(crate) asked: u32,
    pub(crate) opened: u32,
    /// Of those that were opened, without being asked to.
    pub(crate) closed: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    pub(crate) failures: Vec<Kind>,
    pub(crate) closures: Vec<Kind>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Publishes {
    pub(crate) answered: u64,
    pub(crate) errors: u64,
    /// Due and not sent when the time was over.
    pub(crate) unsent: u64,
    /// Answered, and not everywhere for so long that they no longer counted as under way.
    pub(crate) stalled: u64,
    pub(crate) failures: Vec<Kind>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Kind {
    pub(crate) words: String,
    pub(crate) count: u64,
}

pub(crate) fn kinds(tally: &Tally) -> Vec<Kind> {
    let kind = |(words, count): (&str, u64)| Kind {
        words: words.to_owned(),
        count,
    };
    tally.kinds().map(kind).collect()
}

#[derive(Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    /// None where there are too few for it.
    pub(crate) p99: Option<f64>,
    pub(crate) p99_9: Option<f64>,
    pub(crate) max: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Server {
    pub(crate) pids: Vec<u32>,
    pub(crate) name: String,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    pub(crate) cpu_user_us_per_delivery: Option<f64>,
    pub(crate) cpu_system_us_per_delivery: Option<f64>,
    pub(crate) cpu_us_per_connection: Option<f64>,
    /// Before the connections, with them, and at the end.
    pub(crate) resident_kib: [u64; 3],
    pub(crate) resident_kib_per_connection: Option<f64>,
}

impl Report {
    /// Whether all came that was promised.
    pub(crate) const fn is_clean(&self) -> bool {
        self.lost == 0
            && self.doubled == 0
            && self.out_of_order == 0
            && self.unexpected == 0
            && self.publishes.errors == 0
            && self.connections.failed == 0
            && self.connections.closed == 0
            && !matches!(self.ended, Ended::ServerGone)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines(f);
        let all = &self.connections;
        lines.line("target", &self.target)?;
        lines.line(
            "connections",
            &format!(
                "{} of {} in {:.2} s, in {}",
                all.opened,
                all.asked,
                all.seconds,
                plural(self.rooms.into(), "room")
            ),
        )?;
        lines.kinds(&all.failures)?;
        lines.some("closed", all.closed, &all.closures)?;
        let publishes = &self.publishes;
        let pace = self.rate.map_or_else(
            || format!("{} under way", self.in_flight),
            |rate| format!("{rate} a second"),
        );
        lines.line(
            "publishes",
            &format!(
                "{} answered, of {} bytes, {pace}",
                publishes.answered, self.size
            ),
        )?;
        lines.some("publish errors", publishes.errors, &publishes.failures)?;
        if publishes.unsent > 0 {
            let words = format!(
                "{}: due, but the server was behind; the latency is too good",
                publishes.unsent
            );
            lines.line("not sent", &words)?;
        }
        if publishes.stalled > 0 {
            let words = format!(
                "{}: answered, and not everywhere 5 s later",
                publishes.stalled
            );
            lines.line("stalled", &words)?;
        }
        lines.line(
            "deliveries",
            &format!(
                "{} in {:.2} s, {:.0} a second",
                self.deliveries, self.seconds, self.deliveries_per_second
            ),
        )?;
        if let Some(Percentiles {
            p50,
            p99,
            p99_9,
            max,
        }) = &self.latency_ms
        {
            let tail = |it: &Option<f64>| it.map_or("–".to_owned(), |ms| format!("{ms:.2}"));
            let (p99, p99_9) = (tail(p99), tail(p99_9));
            let words = format!("p50 {p50:.2}, p99 {p99}, p99.9 {p99_9}, max {max:.2} ms");
            lines.line("latency", &words)?;
        }
        lines.line(
            "wrong",
            &format!(
                "{} lost, {} doubled, {} out of order, {} unexpected",
                self.lost, self.doubled, self.out_of_order, self.unexpected
            ),
        )?;
        if self.gaps > 0 {
            let words = format!(
                "{} told by the server as missing",
                plural(self.gaps, "delivery")
            );
            lines.line("gaps", &words.replace("deliverys", "deliveries"))?;
        }
        if let Some(server) = &self.server {
            self.server(&mut lines, server)?;
        }
        if let Some(why) = &self.server_unknown {
            lines.line("server", &format!("CPU and memory unknown: {why}"))?;
        }
        if let Some(cpu) = self.bench_cpu_us_per_delivery {
            lines.line("bench itself", &format!("{cpu:.2} µs of CPU a delivery"))?;
        }
        match self.ended {
            Ended::Done => Ok(()),
            Ended::Interrupted => lines.line("ended", "early, as asked"),
            Ended::ServerGone => lines.line("ended", "early: no connection that reads is left"),
        }
    }
}

impl Report {
    fn server(&self, lines: &mut Lines<'_, '_>, server: &Server) -> fmt::Result {
        let pids: Vec<_> = server.pids.iter().map(ToString::to_string).collect();
        let who = format!("{}, process {}", server.name, pids.join(", "));
        lines.line("server", &who)?;
        if let Some(each) = server.cpu_us_per_connection {
            lines.line("  opening", &format!("{each:.0} µs of CPU a connection"))?;
        }
        if let (Some(all), Some(user), Some(system)) = (
            server.cpu_us_per_delivery,
            server.cpu_user_us_per_delivery,
            server.cpu_system_us_per_delivery,
        ) {
            let words = format!("{all:.2} µs a delivery: {user:.2} user, {system:.2} system");
            lines.line("  CPU", &words)?;
        }
        let [before, connected, end] = server.resident_kib;
        let mut words = format!("{before} KiB, with the connections {connected}, at the end {end}");
        if let Some(each) = server.resident_kib_per_connection {
            let _ = write!(words, "; {each:.2} KiB a connection");
        }
        lines.line("  memory", &words)
    }
}

struct Lines<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Lines<'_, '_> {
    fn line(&mut self, name: &str, words: &str) -> fmt::Result {
        writeln!(self.0, "{name:<15} {words}")
    }

    /// A count, where there is one, and what it is made of.
    fn some(&mut self, name: &str, count: u64, kinds: &[Kind]) -> fmt::Result {
        if count == 0 {
            return Ok(());
        }
        self.line(name, &count.to_string())?;
        self.kinds(kinds)
    }

    fn kinds(&mut self, kinds: &[Kind]) -> fmt::Result {
        for Kind { words, count } in kinds {
            self.line("", &format!("{count} × {words}"))?;
        }
        Ok(())
    }
}

fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
