//! The network: who connects to the server over which line, and what everybody saw.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use fanfare_core::Time;
use fanfare_loopback::{Conditions, Direction, Line, Stream, Timeline};

use crate::history::{Observation, Seen};
use crate::machine::Server;
use crate::plan::{Fault, Network};
use crate::tally::Counts;

/// What all nodes of a world share.
pub(crate) struct Net {
    pub(crate) timeline: Timeline,
    /// While it runs.
    pub(crate) server: RefCell<Option<Server>>,
    network: RefCell<Network>,
    /// The last line of each device.
    lines: RefCell<BTreeMap<usize, Line>>,
    random: RefCell<fastrand::Rng>,
    seen: RefCell<Vec<Observation>>,
    faults: RefCell<Counts>,
}

impl Net {
    pub(crate) fn new(network: Network, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            timeline: Timeline::default(),
            server: RefCell::new(None),
            network: RefCell::new(network),
            lines: RefCell::default(),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            seen: RefCell::default(),
            faults: RefCell::default(),
        })
    }

    pub(crate) fn now(&self) -> Time {
        self.timeline.now()
    }

    pub(crate) async fn sleep_ms(&self, millis: u64) {
        self.timeline.sleep_until(self.now().plus(millis)).await;
    }

    /// Ends `work` with [`io::ErrorKind::TimedOut`] after so many milliseconds.
    pub(crate) async fn within<T>(
        &self,
        millis: u64,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let late = async {
            self.sleep_ms(millis).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        smol::future::or(work, late).await
    }

    /// A number below `most`.
    pub(crate) fn draw(&self, most: u64) -> u64 {
        self.random.borrow_mut().u64(..most.max(1))
    }

    pub(crate) fn observe(&self, seen: Seen) {
        let time = self.now();
        self.seen.borrow_mut().push(Observation { time, seen });
    }

    pub(crate) fn take_seen(&self) -> Vec<Observation> {
        std::mem::take(&mut *self.seen.borrow_mut())
    }

    fn conditions(&self) -> Conditions {
        let network = self.network.borrow();
        let [from, to] = network.latency_ms;
        Conditions {
            latency_ms: from..=to.max(from),
            bytes_per_ms: network.bytes_per_ms,
            window_bytes: network.window_bytes.max(1),
            chopped: network.chopped,
        }
    }

    /// Connects to the server; a device's line can be broken later.
    pub(crate) async fn connect(&self, device: Option<usize>) -> io::Result<Stream> {
        let conditions = self.conditions();
        let (from, to) = (*conditions.latency_ms.start(), *conditions.latency_ms.end());
        self.sleep_ms(from + self.draw(to - from + 1)).await;
        let seed = self.draw(u64::MAX);
        let (ours, theirs, line) = Line::open(&self.timeline, conditions, seed);
        match &*self.server.borrow() {
            Some(server) => server.accept(theirs),
            None => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
        if let Some(device) = device {
            self.lines.borrow_mut().insert(device, line);
        }
        Ok(ours)
    }

    /// Breaks a device's line.
    pub(crate) fn break_line(&self, device: usize, how: Fault) {
        let Some(line) = self.lines.borrow().get(&device).cloned() else {
            return;
        };
        let direction = |up| if up { Direction::Up } else { Direction::Down };
        match how {
            Fault::Reset {} => {
                self.fault("reset", Some(device));
                line.cut();
            }
            Fault::BlackHole {} => {
                self.fault("black_hole", Some(device));
                line.swallow(Direction::Up);
                line.swallow(Direction::Down);
            }
            Fault::OneWay { up } => {
                self.fault("one_way", Some(device));
                line.swallow(direction(up));
            }
            Fault::Stall { up, for_ms } => {
                self.fault("stall", Some(device));
                line.stall(direction(up));
                let until = self.now().plus(for_ms);
                self.timeline.at(until, move || line.go_on(direction(up)));
            }
        }
    }

    /// All lines are so from now on.
    pub(crate) fn weather(&self, network: Network) {
        *self.network.borrow_mut() = network;
        let conditions = self.conditions();
        for line in self.lines.borrow().values() {
            line.set(&conditions);
        }
    }

    /// A fault took effect, on one device or on all.
    fn fault(&self, name: &'static str, device: Option<usize>) {
        self.faults.borrow_mut().add(name, 1);
        self.observe(Seen::Fault { name, device });
    }

    /// A fault took effect, of which this is the name.
    pub(crate) fn count_fault(&self, name: &'static str) {
        self.fault(name, None);
    }

    pub(crate) fn faults(&self) -> Counts {
        self.faults.borrow().clone()
    }
}
