//! How long the hot pieces take, per transfer or look-up.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_micro::{KINDS, piece};

fn pieces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pieces");
    for (kind, _) in KINDS {
        for batch in [1, 100, 8190] {
            let name = format!("{kind}-{batch}");
            let mut piece = piece(&name).expect("a piece");
            group.throughput(Throughput::Elements(piece.batch as u64));
            group.bench_function(name, |bencher| bencher.iter(|| piece.run()));
        }
    }
    group.finish();
}

criterion_group!(benches, pieces);
criterion_main!(benches);
