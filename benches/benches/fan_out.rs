//! One publish to a room: through the hub and every member's outbox to a sink. The cost of a delivery is to be the same whatever the
//! number of members, and of rooms beside it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fanfare_benches::{Crowd, message};

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan_out");
    let message = message(256);
    for members in [10, 100, 1_000, 10_000, 100_000] {
        let mut crowd = Crowd::new(members);
        group.throughput(Throughput::Elements(members));
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| crowd.publish(&message));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("rooms");
    for rooms in [1, 100, 10_000, 100_000] {
        let mut crowd = Crowd::spread(rooms, 2);
        group.throughput(Throughput::Elements(2));
        group.bench_function(BenchmarkId::from_parameter(rooms), |bencher| {
            bencher.iter(|| crowd.publish(&message));
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
