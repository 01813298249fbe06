//! How fast a value is sealed and opened, by its size.

use std::hint::black_box;

use credstash::{DataKey, Digest, Secret, Suite, WrappedKey, open, seal};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A password, a private key, and about the largest value that a row can hold.
const SIZES: [usize; 3] = [64, 4 * 1024, 300 * 1024];

const SUITE: Suite = Suite::CtrHmac(Digest::Sha256);

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for size in SIZES {
        let key = DataKey::new((0..64).collect());
        let wrapped = WrappedKey::new(vec![0; 216]);
        let secret = Secret::new(vec![b'x'; size]);
        let sealed = seal(SUITE, &key, wrapped.clone(), &secret).expect("a whole key");
        group.throughput(Throughput::Bytes(size.try_into().expect("a small number")));
        group.bench_function(BenchmarkId::new("seal", size), |bencher| {
            bencher.iter(|| seal(SUITE, &key, wrapped.clone(), black_box(&secret)));
        });
        group.bench_function(BenchmarkId::new("open", size), |bencher| {
            bencher.iter(|| open(black_box(&sealed), &key));
        });
    }
    group.finish();
}

criterion_group!(benches, envelope);
criterion_main!(benches);
