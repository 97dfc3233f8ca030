//! One event to its frame, header and all.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{NOW, message};
use fanfare_core::{EventBus, Limits, UserId};

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for bytes in [256, 4_096, 65_536] {
        let mut bus = EventBus::new(&Limits::default(), [7; 32]);
        let published = bus.publish_to_user(NOW, UserId::new(7), message(bytes));
        let Some(entry) = published.ok().and_then(|published| published.entry) else {
            return;
        };
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| entry.encode_all());
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
