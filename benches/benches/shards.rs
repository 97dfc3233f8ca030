//! One room whose members are spread over shards: each a thread with a sink, one of them the hub's own. What two do in the time of one.
//!
//! The sink is `/dev/null`, by one `write` for what would be one of a socket: a system call each, without the network's part.

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

/// Publishes between two waits for all shards.
const ROUND: usize = 64;

enum Work {
    Order(OutletOrder),
    /// Everything is to be taken by now.
    Round,
}

struct Shards {
    hub: Hub,
    sink: File,
    outlets: Vec<Sender<Work>>,
    taken: Receiver<usize>,
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
        };
        for (user, shard) in (0..members).zip((0..shards).cycle()) {
            let claims = Claims::new(UserId::new(user), 1_900_000_000, TaskGrant::All);
            let open = Open {
                principal: Principal::new(claims, NOW.wall).ok(),
                ..Open::new(Endpoint::Task(task()))
            };
            all.hub.open_at(NOW, shard, open);
        }
        all.round();
        all
    }

    fn publish(&mut self, draft: &Draft) {
        let published = self.hub.at(NOW).publish_to_task(task(), &[], draft.clone());
        debug_assert!(published.is_ok(), "{published:?}");
        self.send();
    }

    fn send(&mut self) {
        while let Some((outlet, order)) = self.hub.poll_order() {
            if let Some(thread) = outlet.checked_sub(1).and_then(|at| self.outlets.get(at)) {
                // One that ended has panicked, which fails the whole.
                let _ = thread.send(Work::Order(order));
            }
        }
    }

    /// Waits until every shard has taken all; how many frames that were.
    fn round(&mut self) -> usize {
        self.send();
        for outlet in &self.outlets {
            let _ = outlet.send(Work::Round);
        }
        let own = flush_hub(&mut self.hub, &mut self.sink);
        let others = self.outlets.iter().filter_map(|_| self.taken.recv().ok());
        own + others.sum::<usize>()
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

fn serve(work: &Receiver<Work>, done: &Sender<usize>) {
    let (mut outlet, mut sink) = (Outlet::new(Limits::default()), sink());
    let (mut ready, mut frames): (Vec<ConnId>, usize) = (Vec::new(), 0);
    while let Ok(next) = work.recv() {
        match next {
            Work::Order(order) => {
                outlet.obey(NOW, order);
                continue;
            }
            Work::Round => {}
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
    for (members, round) in [(1_000, 1), (1_000, ROUND), (100_000, 1)] {
        for shards in [1, 2] {
            let mut all = Shards::new(members, shards);
            group.throughput(Throughput::Elements(members * round as u64));
            let name = format!("{members} members, {round} at once");
            group.bench_function(BenchmarkId::new(name, shards), |bencher| {
                bencher.iter(|| {
                    for _ in 0..round {
                        all.publish(&message);
                    }
                    assert_eq!(all.round() as u64, members * round as u64);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, shards);
criterion_main!(benches);
