//! How fast the embedded store is read through the library, by the number of credentials in it.

use credstash::{Context, Draft, LocalKey, Name, Select, Sqlite, Vault};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const SIZES: [usize; 2] = [100, 10_000];

fn name(index: usize) -> Name {
    Name::new(format!("svc.secret-{index:06}")).expect("a name")
}

/// A store in `folder` with so many credentials.
async fn filled(folder: &tempfile::TempDir, size: usize) -> Vault {
    let store = Sqlite::open_or_create(&folder.path().join("credentials.db")).expect("a store");
    let vault = Vault::new(store, LocalKey::read_or_create(&folder.path().join("key")).expect("a key"));
    for index in 0..size {
        vault.put(Draft::next(name(index), "correct horse battery staple".into())).await.expect("stored");
    }
    vault
}

fn local(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (latest, context) = (Select::Latest, Context::new());
    let mut group = criterion.benchmark_group("local");
    for size in SIZES {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let vault = runtime.block_on(filled(&folder, size));
        let mut index = 0;
        let mut next_name = || {
            index = (index + 7919) % size;
            name(index)
        };
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("get", size), |bencher| {
            let get = |name| runtime.block_on(vault.get(&name, &latest, &context)).expect("it is there");
            bencher.iter_batched(&mut next_name, get, BatchSize::SmallInput);
        });
        group.throughput(Throughput::Elements(size.try_into().expect("a small number")));
        group.sample_size(10);
        group.bench_function(BenchmarkId::new("get_all", size), |bencher| {
            bencher.iter(|| runtime.block_on(vault.get_all(None, &latest, &context, &|_| {})).expect("all are there"));
        });
    }
    group.finish();
}

criterion_group!(benches, local);
criterion_main!(benches);
