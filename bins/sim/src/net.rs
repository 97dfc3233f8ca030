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

/// Whose choice something is that is drawn while a world runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Device(usize),
    BackEnd(usize),
    /// The back end that reads everything at the end.
    Auditor,
}

/// What all nodes of a world share.
pub(crate) struct Net {
    pub(crate) timeline: Timeline,
    /// While it runs.
    pub(crate) server: RefCell<Option<Server>>,
    network: RefCell<Network>,
    /// The last line of each device.
    lines: RefCell<BTreeMap<usize, Line>>,
    seed: u64,
    /// Each node draws from its own, so that what is taken out of a plan changes little for the others.
    random: RefCell<BTreeMap<Node, fastrand::Rng>>,
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
            seed,
            random: RefCell::default(),
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

    /// A number below `most`, as a node draws it.
    pub(crate) fn draw(&self, node: Node, most: u64) -> u64 {
        let mut random = self.random.borrow_mut();
        let random = random.entry(node).or_insert_with(|| {
            let (kind, number) = match node {
                Node::Device(number) => (1, number),
                Node::BackEnd(number) => (2, number),
                Node::Auditor => (3, 0),
            };
            let own = (kind << 32 | number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            fastrand::Rng::with_seed(self.seed ^ own)
        });
        random.u64(..most.max(1))
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
    pub(crate) async fn connect(&self, node: Node) -> io::Result<Stream> {
        let conditions = self.conditions();
        let (from, to) = (*conditions.latency_ms.start(), *conditions.latency_ms.end());
        self.sleep_ms(from + self.draw(node, to - from + 1)).await;
        let seed = self.draw(node, u64::MAX);
        let (ours, theirs, line) = Line::open(&self.timeline, conditions, seed);
        match &*self.server.borrow() {
            Some(server) => server.accept(theirs),
            None => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
        if let Node::Device(device) = node {
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
