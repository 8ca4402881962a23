//! Measures the worlds: drawing text, and the exact distribution of every symbol of it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foretoken_datasets::world::{Size, Stream, World, WorldConfig, WorldKind};

const BYTES: usize = 1_000_000;

/// Returns the cases: names and worlds.
fn cases() -> Vec<(&'static str, World)> {
    let of = |kind| WorldConfig {
        kind,
        ..WorldConfig::default()
    };
    let cases = [
        ("grammar", of(WorldKind::Grammar)),
        (
            "grammar × 100",
            WorldConfig {
                scale: Some(100),
                ..of(WorldKind::Grammar)
            },
        ),
        ("facts", of(WorldKind::Facts)),
        (
            "1 M facts",
            WorldConfig {
                facts: Some(1_000_000),
                ..of(WorldKind::Facts)
            },
        ),
        ("chain", of(WorldKind::Markov)),
        (
            "chain of order 4",
            WorldConfig {
                order: Some(4),
                ..of(WorldKind::Markov)
            },
        ),
    ];
    let world = |(name, config)| (name, World::new(&config).expect("a valid configuration"));
    cases.into_iter().map(world).collect()
}

fn draw(c: &mut Criterion) {
    let mut group = c.benchmark_group("draw");
    group
        .throughput(Throughput::Bytes(BYTES as u64))
        .sample_size(10);
    for (name, world) in cases() {
        group.bench_function(name, |b| {
            b.iter(|| world.text(Stream::Train, Size::Bytes(BYTES)));
        });
    }
    group.finish();
}

fn oracle(c: &mut Criterion) {
    let mut group = c.benchmark_group("oracle");
    group.sample_size(10);
    for (name, world) in cases() {
        let text = world.text(Stream::Valid, Size::Bytes(BYTES / 10)).text;
        group.throughput(Throughput::Elements(text.len() as u64));
        group.bench_function(name, |b| {
            let mut oracle = world.oracle();
            b.iter(|| {
                for symbol in text.bytes() {
                    black_box(oracle.distribution());
                    black_box(oracle.advance(symbol));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, draw, oracle);
criterion_main!(benches);
