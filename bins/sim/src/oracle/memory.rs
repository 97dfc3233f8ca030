//! How much memory all of it takes: by what the server counts, and by what the process has allocated for this world.

use fanfare_core::Held;

use crate::plan::Bounds;

/// Bytes that an outbox takes above its bound for what the server says about itself, and one frame of any length.
const OUTBOX_MORE: usize = (64 << 10) + (16 << 10);
/// Bytes of one event, of any length that a plan has.
const EVENT: usize = 8 << 10;
/// Bytes of a connection, at both ends and between, beside what waits in its outbox and in its line.
const CONNECTION: usize = 32 << 10;
/// Bytes of a request that a back end has not sent yet.
const REQUEST: usize = 4 << 10;
/// Bytes of everything else, beside what there was in the beginning: requests under way, ids, inboxes, what actors know.
const REST: usize = 4 << 20;
/// Bytes by which each time that all have come and left may leave more than the one before.
const QUIET: i64 = 512;
/// The same for each device: hash tables grow in one round or in another, by where the seeds of this process put their rows.
const TABLES: i64 = 160;
/// And for each thread: its two queues hold what passes in blocks of 31, of which one more may have been begun.
const QUEUES: i64 = 16 << 10;
/// Times that do not count yet: not all had come before, and tables were small.
const WARM: usize = 1;

/// What is held at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// By the server; nothing, while there is none.
    pub(crate) held: Held,
    /// Connections that the hub does not know: those of HTTP, and those whose handshake is under way.
    pub(crate) others: usize,
    /// Requests that back ends have not sent yet.
    pub(crate) waiting: usize,
    /// Bytes in all lines.
    pub(crate) lines: usize,
    /// Bytes that the store may have.
    pub(crate) store: usize,
    /// Bytes that were allocated for the world and not given back, by the allocator's count; without those of its disk.
    pub(crate) bytes: i64,
}

/// Outboxes and logs keep their bounds at every step, and so does what is allocated. When all have left, nothing is left
/// of them: what is allocated does not grow each time.
#[derive(Debug, Clone)]
pub(crate) struct BoundedMemory {
    limits: Bounds,
    devices: usize,
    outlets: u8,
    /// In the beginning.
    begun: Option<i64>,
    /// By turns: what was allocated when all had left.
    quiet: Vec<i64>,
    /// Bytes that the store may have taken meanwhile.
    store: usize,
}

impl BoundedMemory {
    pub(crate) const NAME: &str = "bounded_memory";

    pub(crate) const fn new(limits: Bounds, devices: usize, outlets: u8) -> Self {
        Self {
            limits,
            devices,
            outlets,
            begun: None,
            quiet: Vec::new(),
            store: 0,
        }
    }

    /// At any moment.
    pub(crate) fn weigh(&mut self, sample: &Sample) -> Result<(), String> {
        let Sample {
            held,
            others,
            waiting,
            lines,
            store,
            bytes,
        } = *sample;
        let outbox = self.limits.outbox_bytes + OUTBOX_MORE;
        if held.outbox_bytes_max > outbox {
            let waits = held.outbox_bytes_max;
            return Err(format!(
                "{waits} bytes wait for one connection, whose bound is {}",
                self.limits.outbox_bytes
            ));
        }
        if held.log_bytes > self.limits.log_bytes + EVENT {
            return Err(format!(
                "the logs have {} bytes, and their bound is {}",
                held.log_bytes, self.limits.log_bytes
            ));
        }
        let connections = held.connections + others + self.devices;
        // A frame that waits in several outboxes is there once; an event's bytes are those on the wire too.
        let begun = *self.begun.get_or_insert(bytes);
        let most = REST
            + store
            + connections * CONNECTION
            + waiting * REQUEST
            + 2 * (held.outbox_bytes + held.log_bytes + lines);
        if bytes - begun > i64::try_from(most).unwrap_or(i64::MAX) {
            return Err(format!(
                "{bytes} bytes are allocated, {begun} were in the beginning, and what is held explains {most}"
            ));
        }
        Ok(())
    }

    /// When all have left, and had time to be forgotten.
    pub(crate) fn quiet(&mut self, sample: &Sample) -> Result<(), String> {
        let Sample {
            held, store, bytes, ..
        } = *sample;
        self.store = store;
        if (held.connections, held.outbox_bytes) != (0, 0) {
            return Err(format!(
                "all have left, and {} connections with {} bytes are left",
                held.connections, held.outbox_bytes
            ));
        }
        self.quiet.push(bytes);
        Ok(())
    }

    /// After all of these moments. A table that has grown once stays so; what is left behind grows each time.
    pub(crate) fn end(&self) -> Result<(), String> {
        let store = i64::try_from(self.store).unwrap_or(i64::MAX);
        let quiet = QUIET + TABLES * i64::try_from(self.devices).unwrap_or(i64::MAX / TABLES);
        let quiet = quiet + QUEUES * i64::from(self.outlets);
        let before = self.quiet.iter().skip(WARM);
        let grows = before.clone().zip(before.skip(1));
        match grows.map(|(before, after)| after - before).min() {
            Some(least) if least > quiet + store => Err(format!(
                "each time that all have left, {least} bytes more are left at least: {:?}",
                self.quiet
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_complains_of_what_is_over_a_bound_and_of_what_is_not_given_back() {
        let limits = Bounds {
            outbox_bytes: 4_000,
            log_bytes: 40_000,
            ..Bounds::default()
        };
        let fine = Sample {
            held: Held {
                connections: 2,
                outbox_bytes: 8_000,
                outbox_bytes_max: 4_000,
                log_bytes: 40_000,
            },
            others: 1,
            waiting: 1,
            lines: 100,
            store: 0,
            bytes: 1 << 20,
        };
        let mut oracle = BoundedMemory::new(limits, 2, 0);
        assert_eq!(oracle.weigh(&fine), Ok(()));
        type Change = fn(&mut Sample);
        let cases: [(&str, Change); 3] = [
            ("wait for one connection", |it| {
                it.held.outbox_bytes_max = 90_000
            }),
            ("the logs have", |it| it.held.log_bytes = 60_000),
            ("are allocated", |it| it.bytes = 1 << 30),
        ];
        for (words, change) in cases {
            let mut sample = fine;
            change(&mut sample);
            let complaint = oracle.weigh(&sample).unwrap_err();
            assert!(complaint.contains(words), "{words}: {complaint}");
        }
        for (what, weighed) in [
            (Ok(()), [0, 90_000, 90_000, 90_400]),
            (Ok(()), [0, 90_000, 190_000, 190_000]),
            (Ok(()), [0, 90_000, 90_000, 190_000]),
            (Err("20000 bytes more"), [0, 90_000, 110_000, 135_000]),
        ] {
            let mut oracle = oracle.clone();
            for bytes in weighed {
                let quiet = Sample {
                    bytes,
                    ..Sample::default()
                };
                assert_eq!(oracle.quiet(&quiet), Ok(()));
            }
            match (what, oracle.end()) {
                (Err(words), Err(complaint)) => assert!(complaint.contains(words), "{complaint}"),
                (what, ended) => assert_eq!(what.is_ok(), ended.is_ok(), "{weighed:?}"),
            }
        }
        let complaint = oracle.quiet(&fine).unwrap_err();
        assert!(complaint.contains("2 connections"), "{complaint}");
    }
}
