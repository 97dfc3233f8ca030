//! The network: who connects to the server over which line, and what everybody saw.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use fanfare_core::{Open, Time};
use fanfare_loopback::{Conditions, Direction, Line, Stream, Timeline, WallClock};

use crate::direct::{self, Direct};
use crate::history::{Observation, Seen};
use crate::link::Between;
use crate::machine::Server;
use crate::outside::Program;
use crate::plan::{Fault, Network};
use crate::tally::Counts;

/// Whose choice something is that is drawn while a world runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Device(usize),
    BackEnd(usize),
    /// The back end of this number that listens to the bus.
    Listener(usize),
    /// The back end that reads everything at the end.
    Auditor,
}

/// What all nodes of a world share.
pub(crate) struct Net {
    pub(crate) timeline: Timeline,
    /// While it runs.
    pub(crate) server: RefCell<Option<Server>>,
    /// The real program, where that is what is judged.
    pub(crate) outside: Option<Rc<Program>>,
    network: RefCell<Network>,
    /// The last line of each device.
    lines: RefCell<BTreeMap<usize, Between>>,
    /// All lines that somebody holds, and whose they are.
    held: RefCell<Vec<(Node, Line)>>,
    seed: u64,
    /// Each node draws from its own, so that what is taken out of a plan changes little for the others.
    random: RefCell<BTreeMap<Node, fastrand::Rng>>,
    seen: RefCell<Vec<Observation>>,
    faults: RefCell<Counts>,
    /// Of the server's machine.
    pub(crate) wall: Rc<Cell<WallClock>>,
    /// Before this the server's machine does nothing.
    pub(crate) paused_until: Cell<Time>,
    /// Before this it has no file descriptor for a new connection.
    accepts_from: Cell<Time>,
    /// Connections that wait for one.
    waiting: RefCell<Vec<Stream>>,
}

impl Net {
    pub(crate) fn new(network: Network, seed: u64, outside: Option<Rc<Program>>) -> Rc<Self> {
        Rc::new(Self {
            outside,
            timeline: Timeline::default(),
            server: RefCell::new(None),
            network: RefCell::new(network),
            lines: RefCell::default(),
            held: RefCell::default(),
            seed,
            random: RefCell::default(),
            seen: RefCell::default(),
            faults: RefCell::default(),
            wall: Rc::default(),
            paused_until: Cell::default(),
            accepts_from: Cell::default(),
            waiting: RefCell::default(),
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
                Node::Listener(number) => (4, number),
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

    /// A way to the server takes its time.
    async fn way(&self, node: Node) {
        let latency = self.conditions().latency_ms;
        let (from, to) = (*latency.start(), *latency.end());
        self.sleep_ms(from + self.draw(node, to - from + 1)).await;
    }

    /// Connects to the server; a device's line can be broken later.
    pub(crate) async fn connect(&self, node: Node) -> io::Result<Stream> {
        self.way(node).await;
        // The weather may have changed meanwhile.
        let conditions = self.conditions();
        let seed = self.draw(node, u64::MAX);
        let (ours, theirs, line) = Line::open(&self.timeline, conditions, seed);
        if let Some(program) = &self.outside {
            if !program.accept(theirs) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            self.keep_line(node, line);
            return Ok(ours);
        }
        match &*self.server.borrow() {
            Some(_) if self.now() < self.accepts_from.get() => {
                self.waiting.borrow_mut().push(theirs);
            }
            Some(server) if server.accepts() => server.accept(theirs),
            _ => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
        self.keep_line(node, line);
        Ok(ours)
    }

    fn keep_line(&self, node: Node, line: Line) {
        let mut held = self.held.borrow_mut();
        held.retain(|(_, line)| line.is_held());
        held.push((node, line.clone()));
        if let Node::Device(device) = node {
            let line = Between::Bytes(line);
            self.lines.borrow_mut().insert(device, line);
        }
    }

    /// Milliseconds by which the clock that tokens are judged by is ahead of this world's.
    pub(crate) fn ahead_ms(&self) -> u64 {
        let program = self.outside.as_ref();
        program.map_or(0, |program| program.ahead_ms())
    }

    /// Connects a device without bytes; the connection can be broken later. A refusal has the status that HTTP would have.
    pub(crate) async fn connect_directly(
        &self,
        device: usize,
        open: Open,
        token: &str,
    ) -> io::Result<Result<Direct, u16>> {
        self.way(Node::Device(device)).await;
        let accepts = self.accepts_from.get().max(self.paused_until.get());
        self.timeline.sleep_until(accepts).await;
        let server = self.server.borrow();
        let Some(server) = &*server else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let (direct, line, said, frames) = direct::open(self.conditions().window_bytes);
        if let Err(status) = server.accept_directly(open, token, said, frames) {
            return Ok(Err(status));
        }
        let line = Between::Direct(line);
        self.lines.borrow_mut().insert(device, line);
        Ok(Ok(direct))
    }

    /// Breaks a device's line.
    pub(crate) fn break_line(&self, device: usize, how: Fault) {
        let Some(line) = self.lines.borrow().get(&device).cloned() else {
            return;
        };
        let direction = |up| if up { Direction::Up } else { Direction::Down };
        match how {
            Fault::Reset {} => line.cut(),
            Fault::BlackHole {} => {
                line.swallow(Direction::Up);
                line.swallow(Direction::Down);
            }
            Fault::OneWay { up } => line.swallow(direction(up)),
            Fault::Cut { up, after_bytes } => line.cut_after(direction(up), after_bytes),
            Fault::Clog {} => {
                line.stall(Direction::Up);
                line.stall(Direction::Down);
            }
            Fault::Stall { up, for_ms } => {
                line.stall(direction(up));
                let until = self.now().plus(for_ms);
                self.timeline.at(until, move || line.go_on(direction(up)));
            }
        }
    }

    /// Bytes in the lines of all devices.
    pub(crate) fn line_bytes(&self) -> usize {
        self.lines.borrow().values().map(Between::held).sum()
    }

    /// Lines that somebody holds: of devices, and of others.
    pub(crate) fn lines_held(&self) -> (usize, usize) {
        let held = self.held.borrow();
        let held = held.iter().filter(|(_, line)| line.is_held());
        let (devices, others): (Vec<_>, Vec<_>) =
            held.partition(|(node, _)| matches!(node, Node::Device(_)));
        (devices.len(), others.len())
    }

    /// What clogged or stalled goes on.
    pub(crate) fn unclog(&self, device: usize) {
        if let Some(line) = self.lines.borrow().get(&device) {
            line.go_on(Direction::Up);
            line.go_on(Direction::Down);
        }
    }

    /// What will be a fault of this device's line is none.
    pub(crate) fn heal_line(&self, device: usize) {
        self.unclog(device);
        if let Some(line) = self.lines.borrow().get(&device) {
            line.spare();
        }
    }

    /// The server does nothing for so long, and nobody is told.
    pub(crate) fn pause(&self, for_ms: u64) {
        let until = self.now().plus(for_ms).max(self.paused_until.get());
        self.paused_until.set(until);
        // Its work goes on then.
        self.timeline.at(until, || ());
    }

    /// New connections wait for so long.
    pub(crate) fn accept_nobody(self: &Rc<Self>, for_ms: u64) {
        let until = self.now().plus(for_ms).max(self.accepts_from.get());
        self.accepts_from.set(until);
        let net = Rc::downgrade(self);
        self.timeline.at(until, move || {
            if let Some(net) = net.upgrade() {
                net.accept_waiting();
            }
        });
    }

    fn accept_waiting(&self) {
        let server = self.server.borrow();
        if let Some(server) = server.as_ref()
            && self.now() >= self.accepts_from.get()
        {
            for stream in self.waiting.take() {
                server.accept(stream);
            }
        }
    }

    /// The server is gone, and a new one has what it needs.
    pub(crate) fn renew_machine(&self) {
        self.paused_until.take();
        self.accepts_from.take();
        self.waiting.take();
    }

    /// All faults of the server's machine end.
    pub(crate) fn heal_machine(&self) {
        self.paused_until.take();
        self.accepts_from.take();
        self.accept_waiting();
        self.set_clock(0, 0);
    }

    /// The wall clock of the server's machine.
    pub(crate) fn set_clock(&self, ahead_ms: i64, drift_ms: i64) {
        self.wall
            .set(WallClock::wrong(self.now(), ahead_ms, drift_ms));
        self.observe(Seen::Clock { ahead_ms });
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
    pub(crate) fn fault(&self, name: &'static str, device: Option<usize>) {
        self.faults.borrow_mut().add(name, 1);
        self.observe(Seen::Fault { name, device });
    }

    pub(crate) fn faults(&self) -> Counts {
        self.faults.borrow().clone()
    }
}
