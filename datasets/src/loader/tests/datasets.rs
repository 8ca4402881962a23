//! Tests of loaders with every window order, with weights, and with mixtures.

use std::{fs, slice, thread};

use proptest::prelude::*;

use super::*;
use crate::{DocumentIndex, TokenWeights};

/// Creates a source of each order, with texts of different lengths; token 4 ends a document.
fn each_source() -> Vec<TrainSource> {
    let split = |tokens| {
        let ids = (0..tokens).map(|place| (place * 5 % 23) as u32).collect();
        let lengths = (0..23).map(|id| 1 + id / 22).collect();
        Split::from_ids(ids, lengths)
    };
    let documents = DocumentIndex::scan(&split(700), 4).unwrap();
    let orders = [
        WindowOrder::Epoch,
        WindowOrder::Random,
        WindowOrder::Documents(documents),
    ];
    let sizes = [900, 800, 700];
    let source = |(order, tokens)| TrainSource {
        order,
        ..TrainSource::new(format!("text of {tokens}"), split(tokens))
    };
    orders.into_iter().zip(sizes).map(source).collect()
}

fn loader_of(datasets: &[TrainSource]) -> WindowLoader {
    let config = TrainLoaderConfig {
        context: 16,
        batch: 6,
        accumulation: 2,
        steps: 25,
        seed: 5,
    };
    config.init(datasets, &Device::flex()).unwrap()
}

/// Creates a loader of each order, and one of a mixture of all with different weights.
fn each_loader() -> Vec<WindowLoader> {
    let sources = each_source();
    let mut loaders: Vec<_> = sources
        .iter()
        .map(|source| loader_of(slice::from_ref(source)))
        .collect();
    let weights = [
        LossWeights::Constant(0.5),
        LossWeights::default(),
        LossWeights::Constant(2.),
    ];
    let weighted = |(source, loss_weights)| TrainSource {
        loss_weights,
        weight: 2.5,
        ..source
    };
    let mixed: Vec<_> = sources.into_iter().zip(weights).map(weighted).collect();
    loaders.push(loader_of(&mixed));
    loaders
}

/// Inputs, targets and weights of a row.
type RowValues = (Vec<i64>, Vec<i64>, Vec<f32>);

/// Returns the values of all rows of a batch.
fn values(batch: &TokenBatch) -> Vec<RowValues> {
    let (inputs, targets) = (ids(&batch.inputs), ids(&batch.targets));
    let count = batch.inputs.dims().iter().product();
    let weights: Vec<f32> = match &batch.weights {
        Some(weights) => weights.to_data().iter().collect(),
        None => vec![1.; count],
    };
    let rows = inputs.into_iter().zip(targets).zip(weights.chunks(16));
    rows.map(|((inputs, targets), weights)| (inputs, targets, weights.to_vec()))
        .collect()
}

fn all_values(loader: &dyn DataLoader<TokenBatch>) -> Vec<RowValues> {
    let batches = loader.iter().map(Result::unwrap);
    batches.flat_map(|batch| values(&batch)).collect()
}

#[test]
fn reading_ahead_gives_the_same_batches_as_direct_reads() {
    let loaders = each_loader()
        .into_iter()
        .chain([eval(4, None), eval(3, Some(5))]);
    for loader in loaders {
        let mut next = 0;
        for batch in loader.iter().map(Result::unwrap) {
            let items = next..loader.num_items().min(next + loader.reader.batch);
            next = items.end;
            let direct = loader
                .reader
                .read(items)
                .unwrap()
                .into_tensors(&loader.device);
            assert_eq!(values(&batch), values(&direct));
            assert_eq!(batch.target_tokens, direct.target_tokens);
            assert_eq!(batch.target_bytes, direct.target_bytes);
            assert_eq!(batch.target_weight, direct.target_weight);
        }
        assert_eq!(next, loader.num_items());
    }
}

#[test]
fn any_number_of_workers_reads_the_same_rows() {
    for loader in each_loader() {
        let whole = all_values(&loader);
        for workers in [1, 7] {
            let bound = |worker| worker * loader.num_items() / workers;
            let read: Vec<RowValues> = thread::scope(|scope| {
                let handles: Vec<_> = (0..workers)
                    .map(|worker| {
                        let part = loader.slice(bound(worker), bound(worker + 1));
                        scope.spawn(move || all_values(&*part))
                    })
                    .collect();
                handles
                    .into_iter()
                    .flat_map(|handle| handle.join().unwrap())
                    .collect()
            });
            assert_eq!(read, whole);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn resuming_anywhere_reads_the_same_rows_as_one_run(start in 0usize..=300) {
        for loader in each_loader() {
            let whole = all_values(&loader);
            prop_assert_eq!(&all_values(&*loader.slice(start, 300)), &whole[start..]);
        }
    }
}

#[test]
fn mixture_reads_the_rows_of_each_dataset_in_order() {
    let sources = each_source();
    let alone: Vec<_> = sources
        .iter()
        .map(|source| all_values(&loader_of(slice::from_ref(source))))
        .collect();
    let mixture = Mixture::new(&[("", 1.), ("", 1.), ("", 1.)], 5).unwrap();
    let mut read = [0; 3];
    for (row, values) in all_values(&loader_of(&sources)).into_iter().enumerate() {
        let (dataset, _) = mixture.place(row as u64);
        assert_eq!(values, alone[dataset][read[dataset]]);
        read[dataset] += 1;
    }
    assert!(read.iter().all(|&rows| rows > 60), "{read:?}");
}

/// Creates a source of the epoch order with weights in a file.
fn with_weights(weights: &[f32]) -> (tempfile::TempDir, TrainSource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    fs::write(&path, bytes).unwrap();
    let source = TrainSource {
        loss_weights: LossWeights::PerToken(TokenWeights::open(path).unwrap()),
        ..each_source().remove(0)
    };
    (folder, source)
}

#[test]
fn weights_of_one_are_omitted() {
    let plain = loader_of(&each_source()[..1]);
    let (_folder, from_file) = with_weights(&[1.; 900]);
    let constant = TrainSource {
        loss_weights: LossWeights::Constant(1.),
        ..each_source().remove(0)
    };
    for source in [from_file, constant] {
        let loader = loader_of(&[source]);
        for (batch, plain) in loader.iter().zip(plain.iter()) {
            let (batch, plain) = (batch.unwrap(), plain.unwrap());
            assert!(batch.weights.is_none());
            assert_eq!(values(&batch), values(&plain));
            assert_eq!(batch.target_tokens, plain.target_tokens);
            assert_eq!(batch.target_bytes, plain.target_bytes);
            assert_eq!(batch.target_weight, plain.target_weight);
        }
    }
}

#[test]
fn batch_sums_cover_only_targets_that_count() {
    // One of every five tokens does not count.
    let weights: Vec<f32> = (0..900u16)
        .map(|token| f32::from(token % 5) * 0.1 + f32::from(token % 5) / 3e6)
        .collect();
    let (_folder, source) = with_weights(&weights);
    let ids = source.split.to_vec(0..900).unwrap();
    let windows = Windows::new(&WindowOrder::Epoch, 900, 16, 12, 5).unwrap();
    let loader = loader_of(&[source]);
    let mut row = 0;
    for batch in loader.iter().map(Result::unwrap) {
        let (mut sum, mut tokens, mut bytes) = (0f64, 0, 0);
        for (_, _, read) in values(&batch) {
            let first = windows.window(row / 12, row % 12).offset + 1;
            assert_eq!(read, weights[first..first + 16]);
            for target in first..first + 16 {
                sum += f64::from(weights[target]);
                tokens += usize::from(weights[target] > 0.);
                let length = if ids[target] == 22 { 2 } else { 1 };
                bytes += if weights[target] > 0. { length } else { 0 };
            }
            row += 1;
        }
        assert_eq!(batch.target_weight, sum);
        assert_eq!(batch.target_tokens, tokens);
        assert_eq!(batch.target_bytes, bytes);
    }
}

/// Targets of another document do not count, whatever their weight.
#[test]
fn weights_apply_only_within_a_document() {
    let source = TrainSource {
        loss_weights: LossWeights::Constant(0.25),
        ..each_source().remove(2)
    };
    let plain = loader_of(&each_source()[2..]);
    let loader = loader_of(&[source]);
    let mut uncounted = 0;
    for (batch, plain) in loader.iter().zip(plain.iter()) {
        let (batch, plain) = (batch.unwrap(), plain.unwrap());
        assert_eq!(batch.target_tokens, plain.target_tokens);
        assert_eq!(batch.target_weight, 0.25 * plain.target_tokens as f64);
        for (weighted, plain) in values(&batch).iter().zip(values(&plain)) {
            let quarter: Vec<f32> = plain.2.iter().map(|weight| weight * 0.25).collect();
            assert_eq!(weighted.2, quarter);
            uncounted += quarter.iter().filter(|&&weight| weight == 0.).count();
        }
    }
    assert!(uncounted > 0);
}

#[test]
fn invalid_weight_ends_the_batches() {
    let mut weights = vec![1.; 900];
    weights[450] = f32::NAN;
    let (_folder, source) = with_weights(&weights);
    let loader = loader_of(&[source]);
    let mut batches = loader.iter();
    let good = batches.by_ref().take_while(Result::is_ok).count();
    // An epoch has 55 windows and a batch 6 rows, so the weight is read in one of the first ten batches.
    assert!(good < 10);
    assert!(batches.next().is_none());
    let error = loader.iter().find_map(Result::err).unwrap();
    assert!(error.to_string().contains("byte 1800"), "{error}");
}

#[test]
fn errors_of_a_mixture_name_the_dataset() {
    let change = |change: fn(&mut TrainSource)| {
        let mut sources = each_source();
        change(&mut sources[1]);
        sources
    };
    let (_folder, weights) = with_weights(&[1.; 900]);
    let mut other_tokens = each_source();
    other_tokens[1].loss_weights = weights.loss_weights;
    let mut other_documents = each_source();
    let longer = &other_documents[0].split;
    let documents = DocumentIndex::scan(longer, 4).unwrap();
    other_documents[1].order = WindowOrder::Documents(documents);
    for sources in [
        change(|source| source.weight = 0.),
        change(|source| source.loss_weights = LossWeights::Constant(-1.)),
        change(|source| source.split = Split::from_ids(vec![0; 16], [1].into())),
        other_tokens,
        other_documents,
    ] {
        let config = TrainLoaderConfig {
            context: 16,
            batch: 1,
            accumulation: 1,
            steps: 1,
            seed: 0,
        };
        let error = config.init(&sources, &Device::flex()).err().unwrap();
        assert!(error.to_string().starts_with("text of 800: "), "{error}");
        assert!(config.init(&each_source(), &Device::flex()).is_ok());
        assert!(config.init(&[], &Device::flex()).is_err());
    }
}
