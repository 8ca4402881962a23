//! Measures the parts of a training step in tokens per second: windows, forward, forward with backward.

use std::hint::black_box;

use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foretoken::engine::language_model::LanguageModel;
use foretoken_benches::{CHAR, usable_backends};
use foretoken_datasets::{
    Corpus, TokenBatch, TokenizerSpec, TrainLoaderConfig, TrainSource, WindowLoader,
};

fn loader(device: &Device) -> WindowLoader {
    let text: String = ('\u{20}'..)
        .take(CHAR.vocab_size)
        .cycle()
        .take(100_000)
        .collect();
    let corpus = Corpus::from_text(&text, "", &TokenizerSpec::Char).expect("known characters");
    let config = TrainLoaderConfig {
        context: CHAR.context,
        batch: CHAR.batch,
        accumulation: 1,
        steps: 100,
        seed: 1,
    };
    config
        .init(&[TrainSource::new("text", corpus.train)], device)
        .expect("the text is long enough")
}

fn first(loader: &dyn DataLoader<TokenBatch>) -> TokenBatch {
    let batch = loader.iter().next().expect("there are 100 steps");
    batch.expect("windows are in memory")
}

fn step(criterion: &mut Criterion) {
    for backend in usable_backends() {
        let device = backend.device().expect("usable");
        let transformer = CHAR.model().init(1, &device).expect("a valid shape");
        let model = LanguageModel::new(transformer, 0);
        let mut group = criterion.benchmark_group(format!("{}/{backend}", CHAR.name));
        group.throughput(Throughput::Elements(CHAR.tokens_per_step() as u64));
        group.sample_size(10);

        let windows = loader(&device);
        group.bench_function("windows", |bencher| {
            bencher.iter(|| {
                black_box(first(&windows));
                device.sync()
            });
        });
        group.bench_function("forward", |bencher| {
            bencher.iter(|| {
                black_box(burn::train::InferenceStep::step(&model, first(&windows)));
                device.sync()
            });
        });
        let training = device.clone().autodiff();
        let learner = burn::module::Module::fork(model.clone(), &training);
        let windows = loader(&training);
        group.bench_function("forward and backward", |bencher| {
            bencher.iter(|| {
                black_box(burn::train::TrainStep::step(&learner, first(&windows)));
                device.sync()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
