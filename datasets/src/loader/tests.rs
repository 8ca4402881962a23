mod datasets;

use burn::{Tensor, tensor::Int};

use super::*;
use crate::{Corpus, TokenizerSpec};

/// Creates a corpus of 1000 characters of 1 and 2 bytes, 900 of them for training; ids repeat every 23.
fn corpus() -> Corpus {
    let alphabet = "abcdefghijklmnopqrstuvé";
    let text: String = alphabet.chars().cycle().take(1000).collect();
    let cut = text.char_indices().nth(900).unwrap().0;
    Corpus::from_text(&text[..cut], &text[cut..], &TokenizerSpec::Char).unwrap()
}

fn train(batch: usize, accumulation: usize) -> WindowLoader {
    let config = TrainLoaderConfig {
        context: 16,
        batch,
        accumulation,
        steps: 10,
        seed: 5,
    };
    let source = TrainSource::new("text", corpus().train);
    config.init(&[source], &Device::flex()).unwrap()
}

fn eval(batch: usize, windows: Option<usize>) -> WindowLoader {
    let config = EvalLoaderConfig {
        context: 16,
        batch,
        windows,
    };
    config.init(&corpus().valid, &Device::flex()).unwrap()
}

fn ids(tensor: &Tensor<2, Int>) -> Vec<Vec<i64>> {
    let ids: Vec<i64> = tensor.to_data().iter().collect();
    ids.chunks(tensor.dims()[1]).map(<[i64]>::to_vec).collect()
}

/// Returns the inputs of all rows that a loader yields.
fn rows(loader: &dyn DataLoader<TokenBatch>) -> Vec<Vec<i64>> {
    loader
        .iter()
        .flat_map(|batch| ids(&batch.unwrap().inputs))
        .collect()
}

#[test]
fn rows_are_windows_and_targets_are_shifted_by_one() {
    let (corpus, loader) = (corpus(), train(6, 2));
    let tokens = corpus.train.tokens();
    let windows = Windows::new(&WindowOrder::Epoch, tokens, 16, 12, 5).unwrap();
    let slice = |from: usize| -> Vec<i64> {
        corpus
            .train
            .to_vec(from..from + 16)
            .unwrap()
            .iter()
            .map(|&id| i64::from(id))
            .collect()
    };
    let batches: Vec<TokenBatch> = loader.iter().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 20);
    for (i, batch) in batches.iter().enumerate() {
        assert_eq!(batch.inputs.dims(), [6, 16]);
        assert!(batch.weights.is_none());
        let (inputs, targets) = (ids(&batch.inputs), ids(&batch.targets));
        for row in 0..6 {
            let offset = windows.window(i / 2, i % 2 * 6 + row).offset;
            assert_eq!(inputs[row], slice(offset));
            assert_eq!(targets[row], slice(offset + 1));
        }
        // The last letter of the alphabet is the only one of two bytes.
        let two_bytes = targets.iter().flatten().filter(|&&id| id == 22).count();
        assert_eq!(batch.target_tokens, 6 * 16);
        assert_eq!(batch.target_bytes, 6 * 16 + two_bytes);
        assert_eq!(batch.target_weight, 96.);
    }
}

#[test]
fn accumulation_reads_the_same_rows_as_one_large_batch() {
    assert_eq!(rows(&train(8, 4)), rows(&train(32, 1)));
}

#[test]
fn slices_read_the_same_rows_as_one_run() {
    let loader = train(8, 4);
    let whole = rows(&loader);
    assert_eq!(whole.len(), loader.num_items());
    assert_eq!(rows(&loader), whole, "iterating again");
    let (first, rest) = (loader.slice(0, 3 * 32), loader.slice(3 * 32, 10 * 32));
    assert_eq!([rows(&*first), rows(&*rest)].concat(), whole);
    assert_eq!(rows(&*rest.slice(32, 64)), whole[128..160]);
    let bounds: Vec<usize> = (0..=7).map(|worker| worker * whole.len() / 7).collect();
    let dealt = bounds
        .windows(2)
        .flat_map(|b| rows(&*loader.slice(b[0], b[1])));
    assert_eq!(dealt.collect::<Vec<_>>(), whole);
    assert_eq!(rows(&*loader.to_device(&Device::flex())), whole);
}

#[test]
fn progress_counts_windows() {
    let loader = train(8, 4).slice(32, 52);
    let mut iterator = loader.iter();
    let mut seen = vec![];
    while iterator.next().is_some() {
        seen.push(iterator.progress().items_processed);
    }
    assert_eq!(seen, [8, 16, 20]);
    assert!(iterator.progress().is_completed());
    assert!(iterator.next().is_none());
}

#[test]
fn evaluation_is_exact_over_the_whole_split() {
    let split = corpus().valid;
    // The 99 targets are six full windows, and a seventh in which 3 targets count.
    for batch in [1, 4, 7, 64] {
        let mut counted = vec![];
        let (mut tokens, mut bytes) = (0, 0);
        for batch in eval(batch, None).iter().map(Result::unwrap) {
            let targets = ids(&batch.targets).concat();
            let weights: Vec<f32> = match &batch.weights {
                Some(weights) => weights.to_data().iter().collect(),
                None => vec![1.; targets.len()],
            };
            let here = targets
                .iter()
                .zip(&weights)
                .filter(|(_, w)| **w == 1.)
                .map(|(t, _)| *t);
            counted.extend(here.map(|id| id as u32));
            assert!(weights.iter().all(|&weight| weight == 0. || weight == 1.));
            assert_eq!(batch.target_weight, batch.target_tokens as f64);
            tokens += batch.target_tokens;
            bytes += batch.target_bytes;
        }
        let expected = split.to_vec(1..100).unwrap();
        assert_eq!(counted, expected);
        assert_eq!((tokens, bytes), (99, split.bytes_of(&expected)));
    }
}

#[test]
fn evaluation_batches_have_one_shape() {
    for (batch, expected) in [(4, vec![[4, 16]; 2]), (64, vec![[7, 16]])] {
        let loader = eval(batch, None);
        assert_eq!(loader.num_items(), 7);
        let shapes: Vec<_> = loader.iter().map(|b| b.unwrap().inputs.dims()).collect();
        assert_eq!(shapes, expected);
    }
}

#[test]
fn some_evaluation_windows_are_spread_over_the_split() {
    let all = rows(&eval(1, None));
    let some = rows(&eval(1, Some(3)));
    assert_eq!(some, [&all[0], &all[2], &all[4]].map(Clone::clone));
    assert_eq!(rows(&eval(1, Some(100))), all);
    assert_eq!(rows(&*eval(1, Some(3)).slice(1, 3)), some[1..]);
}

#[test]
fn ids_have_the_integer_type_of_the_device() {
    let device = Device::flex();
    let batch = train(8, 1).iter().next().unwrap().unwrap();
    assert_eq!(batch.inputs.dtype(), device.settings().int_dtype.into());
}

#[test]
fn split_shorter_than_a_window_is_an_error() {
    let split = corpus().valid;
    let config = EvalLoaderConfig {
        context: 100,
        batch: 1,
        windows: None,
    };
    let error = config.init(&split, &Device::flex()).err().unwrap();
    assert!(matches!(
        error,
        DataError::TooShort {
            tokens: 100,
            needed: 101,
            ..
        }
    ));
}

#[test]
fn run_with_overflowing_token_count_is_refused() {
    let config = TrainLoaderConfig {
        context: 16,
        batch: 8,
        accumulation: 4,
        steps: 10,
        seed: 5,
    };
    let refused = |config: TrainLoaderConfig| {
        let source = TrainSource::new("text", corpus().train);
        let error = config.init(&[source], &Device::flex()).err();
        matches!(error, Some(DataError::TooManyRows { .. }))
    };
    for huge in [usize::MAX, usize::MAX / 2, usize::MAX / 64] {
        for sizes in [[huge, 8, 4], [10, huge, 4], [10, 8, huge]] {
            let [steps, batch, accumulation] = sizes;
            let config = TrainLoaderConfig {
                steps,
                batch,
                accumulation,
                ..config.clone()
            };
            assert!(refused(config), "{sizes:?}");
        }
    }
    assert!(!refused(config));
}
