//! Measures how long a training loop waits for a batch: without other work, and with work between two batches, during
//! which the next one is read.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foretoken_benches::usable_backends;
use foretoken_datasets::{
    Corpus, DocumentIndex, TokenizerSpec, TrainLoaderConfig, TrainSource, WindowLoader, WindowOrder,
};

/// Context of the `baby` experiment: nanoGPT's character-level model.
const CONTEXT: usize = 256;
const BATCH: usize = 16;
const VOCABULARY: usize = 65;

/// Duration of the work between two batches, which is less than a step of that model on a GPU.
const WORK: Duration = Duration::from_millis(2);

/// Returns the cases: names and datasets.
fn cases() -> Vec<(&'static str, Vec<TrainSource>)> {
    let text: String = ('\u{20}'..)
        .take(VOCABULARY)
        .cycle()
        .take(1_100_000)
        .collect();
    let split = Corpus::from_text(&text, "", &TokenizerSpec::Char)
        .expect("a text of known characters")
        .train;
    let documents = DocumentIndex::scan(&split, 0).expect("tokens in memory");
    let source = |order| TrainSource {
        order,
        ..TrainSource::new("text", split.clone())
    };
    vec![
        ("epoch", vec![source(WindowOrder::Epoch)]),
        ("random", vec![source(WindowOrder::Random)]),
        ("documents", vec![source(WindowOrder::Documents(documents))]),
        ("mixture", vec![source(WindowOrder::Epoch); 2]),
    ]
}

fn loader(datasets: &[TrainSource], device: &Device) -> WindowLoader {
    let config = TrainLoaderConfig {
        context: CONTEXT,
        batch: BATCH,
        accumulation: 1,
        // More steps than the bench reads.
        steps: 1 << 40,
        seed: 1,
    };
    config
        .init(datasets, device)
        .expect("the text is long enough")
}

/// Works without sleeping, like a training loop.
fn work() {
    let started = Instant::now();
    while started.elapsed() < WORK {
        std::hint::spin_loop();
    }
}

fn wait_for_a_batch(criterion: &mut Criterion) {
    for backend in usable_backends() {
        let device = backend.device().expect("usable");
        let mut group = criterion.benchmark_group(format!("batch/{backend}"));
        group.throughput(Throughput::Elements((BATCH * CONTEXT) as u64));
        for (name, datasets) in cases() {
            let loader = loader(&datasets, &device);
            let mut batches = loader.iter();
            let mut next = || {
                let batch = batches
                    .next()
                    .expect("there are more steps than the bench reads");
                black_box(batch.expect("tokens in memory"));
                device.sync().expect("a device that works");
            };
            group.bench_function(format!("{name}, no work between"), |bencher| {
                bencher.iter(&mut next);
            });
            group.bench_function(format!("{name}, 2 ms of work between"), |bencher| {
                bencher.iter_custom(|count| {
                    let mut waited = Duration::ZERO;
                    for _ in 0..count {
                        work();
                        let started = Instant::now();
                        next();
                        waited += started.elapsed();
                    }
                    waited
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, wait_for_a_batch);
criterion_main!(benches);
