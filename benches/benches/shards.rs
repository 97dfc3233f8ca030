//! One room whose members are spread over shards: each a thread with a sink, one of them the hub's own. What two do in the time of one.
//!
//! What the hub has for a shard goes there at the end of a turn, as it does in the server, and the hub takes its next turn while the
//! other thread still writes. The sink is `/dev/null`, by one `write` for what would be one of a socket: a system call each, without
//! the network's part.

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{NOW, message};
use fanfare_core::{
    Claims, ConnId, Draft, Effect, Endpoint, Hub, Limits, Open, Outlet, OutletOrder, Principal,
    Pull, TaskGrant, TaskId, UserId,
};

/// Publishes of a turn.
const PUBLISHES: usize = 64;
/// Turns of the hub that a shard may be behind, above which it is waited for.
const BEHIND_MAX: usize = 4;

struct Shards {
    hub: Hub,
    sink: File,
    outlets: Vec<Sender<Vec<OutletOrder>>>,
    taken: Receiver<usize>,
    /// Orders of a turn that were sent, and not said to be done.
    under_way: usize,
    /// Frames that were written.
    frames: usize,
}

impl Shards {
    fn new(members: u64, shards: u8) -> Self {
        let (done, taken) = channel();
        let begin = |_| {
            let (sender, work) = channel();
            let done = done.clone();
            thread::spawn(move || serve(&work, &done));
            sender
        };
        let mut all = Self {
            hub: Hub::new(Limits::default(), [7; 32]),
            sink: sink(),
            outlets: (1..shards).map(begin).collect(),
            taken,
            under_way: 0,
            frames: 0,
        };
        for (user, shard) in (0..members).zip((0..shards).cycle()) {
            let claims = Claims::new(UserId::new(user), 1_900_000_000, TaskGrant::All);
            let open = Open {
                principal: Principal::new(claims, NOW.wall).ok(),
                ..Open::new(Endpoint::Task(task()))
            };
            all.hub.open_at(NOW, shard, open);
        }
        all.turn();
        all.settle(0);
        all.frames = 0;
        all
    }

    fn publish(&mut self, draft: &Draft) {
        let published = self.hub.at(NOW).publish_to_task(task(), &[], draft.clone());
        debug_assert!(published.is_ok(), "{published:?}");
    }

    /// Ends the hub's turn: everybody writes what it is for.
    fn turn(&mut self) {
        let mut orders: Vec<Vec<OutletOrder>> = self.outlets.iter().map(|_| Vec::new()).collect();
        while let Some((outlet, order)) = self.hub.poll_order() {
            if let Some(orders) = outlet.checked_sub(1).and_then(|at| orders.get_mut(at)) {
                orders.push(order);
            }
        }
        for (outlet, orders) in self.outlets.iter().zip(orders) {
            // One that ended has panicked, which fails the whole.
            let _ = outlet.send(orders);
            self.under_way += 1;
        }
        self.frames += flush_hub(&mut self.hub, &mut self.sink);
        self.settle(BEHIND_MAX * self.outlets.len());
    }

    /// Waits until no more than `most` are under way.
    fn settle(&mut self, most: usize) {
        while self.under_way > most
            && let Ok(frames) = self.taken.recv()
        {
            self.frames += frames;
            self.under_way -= 1;
        }
    }
}

fn task() -> TaskId {
    TaskId::new(uuid::Uuid::from_u128(1))
}

#[expect(clippy::panic, reason = "without its sink there is nothing to measure")]
fn sink() -> File {
    let opened = File::options().write(true).open("/dev/null");
    opened.unwrap_or_else(|error| panic!("/dev/null can't be written: {error}"))
}

fn write(sink: &mut File, bytes: &[u8]) {
    let written = sink.write_all(bytes);
    assert!(written.is_ok(), "{written:?}");
}

fn flush_hub(hub: &mut Hub, sink: &mut File) -> usize {
    let mut ready: Vec<ConnId> = Vec::new();
    while let Some(effect) = hub.poll() {
        if let Effect::Ready(conn) = effect {
            ready.push(conn);
        }
    }
    let mut frames = 0;
    for conn in ready {
        if let Some((bytes, all)) = hub.ride(conn) {
            write(sink, bytes);
            frames += usize::try_from(all).unwrap_or(usize::MAX);
            hub.rode(conn);
            continue;
        }
        while let Pull::Frame(frame) = hub.pull(NOW, conn) {
            write(sink, frame.wire());
            frames += 1;
        }
    }
    frames
}

fn serve(work: &Receiver<Vec<OutletOrder>>, done: &Sender<usize>) {
    let (mut outlet, mut sink) = (Outlet::new(Limits::default()), sink());
    let (mut ready, mut frames): (Vec<ConnId>, usize) = (Vec::new(), 0);
    while let Ok(orders) = work.recv() {
        for order in orders {
            outlet.obey(NOW, order);
        }
        while let Some(effect) = outlet.poll() {
            if let Effect::Ready(conn) = effect {
                ready.push(conn);
            }
        }
        for conn in ready.drain(..) {
            if let Some((bytes, all)) = outlet.ride(conn) {
                write(&mut sink, bytes);
                frames += usize::try_from(all).unwrap_or(usize::MAX);
                outlet.rode(conn);
                continue;
            }
            while let Pull::Frame(frame) = outlet.pull(NOW, conn) {
                write(&mut sink, frame.wire());
                frames += 1;
            }
        }
        if done.send(std::mem::take(&mut frames)).is_err() {
            return;
        }
    }
}

fn shards(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("shards");
    let message = message(256);
    for (members, publishes) in [(1_000, 1), (1_000, PUBLISHES), (100_000, 1)] {
        for shards in [1, 2] {
            let mut all = Shards::new(members, shards);
            group.throughput(Throughput::Elements(members * publishes as u64));
            let name = format!("{members} members, {publishes} a turn");
            let mut published = 0;
            group.bench_function(BenchmarkId::new(name, shards), |bencher| {
                bencher.iter(|| {
                    for _ in 0..publishes {
                        all.publish(&message);
                    }
                    all.turn();
                    published += publishes as u64;
                });
            });
            all.settle(0);
            assert_eq!(all.frames as u64, published * members, "nobody is left out");
        }
    }
    group.finish();
}

criterion_group!(benches, shards);
criterion_main!(benches);
