//! Joining and leaving a room that has many members already.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fanfare_benches::{Crowd, NOW};
use fanfare_core::{Input, UserId, UserRooms};

/// The bare rooms: one member out and in again.
fn rooms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join_leave");
    for members in [10, 1_000, 100_000] {
        let mut crowd = Crowd::new(0);
        let mut rooms = UserRooms::new();
        let room = UserId::new(7);
        let conns: Vec<_> = (0..members).map(|user| crowd.open(user)).collect();
        for &conn in &conns {
            rooms.join(room, conn);
        }
        let Some(&first) = conns.first() else { return };
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| rooms.leave(room, first) && rooms.join(room, first));
        });
    }
    group.finish();
}

/// A whole connection: opened, let into two rooms, welcomed, gone.
fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connect_disconnect");
    for members in [10, 1_000, 100_000] {
        let mut crowd = Crowd::new(members);
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| {
                let conn = crowd.open(members);
                crowd.flush();
                crowd.hub().handle(NOW, Input::Closed { conn });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rooms, connections);
criterion_main!(benches);
