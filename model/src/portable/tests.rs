use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use sha2::{Digest, Sha256};

use super::*;
use crate::RotaryScaling;
use crate::generate::tests::enlarged;

/// Every choice made in each way, and sizes that fill no panel. Contexts are shorter than the texts.
fn configs() -> [ModelConfig; 7] {
    let gpt2 = ModelConfig::new(37, 12, 2, 3, 21);
    let llama = ModelConfig::llama(37, 12, 2, 4, 2, 24);
    let scaling = RotaryScaling {
        factor: 4.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 2.0,
        original_context: 8,
    };
    [
        gpt2.clone(),
        gpt2.clone()
            .with_bias(false)
            .with_tied_head(false)
            .with_activation(Activation::Gelu),
        ModelConfig {
            norm: Norm::Rms,
            kv_heads: 1,
            activation: Activation::Relu2,
            logit_cap: Some(2.0),
            ..gpt2.clone()
        },
        ModelConfig {
            window: Some(5),
            qk_norm: true,
            positions: Positions::None,
            ..gpt2
        },
        llama.clone(),
        ModelConfig {
            rotary_scaling: Some(scaling),
            head_width: Some(18),
            bias: true,
            tied_head: true,
            ..llama.clone()
        },
        ModelConfig {
            window: Some(9),
            qk_norm: true,
            norm: Norm::Layer,
            ..llama
        },
    ]
}

/// Weights large enough that attention and activations are far from linear.
fn transformer(config: &ModelConfig) -> Transformer {
    enlarged(config.init(5, &Device::default()).unwrap(), 8.0)
}

fn text(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32)
        .map(|i| (i * i * 7 + i * seed + seed) % 37)
        .collect()
}

fn bits(logits: &[f64]) -> Vec<u64> {
    logits.iter().map(|logit| logit.to_bits()).collect()
}

/// Logits after a text that is read at once.
fn fresh(model: &PortableModel, text: &[u32]) -> Vec<f64> {
    PortableReader::new(model)
        .next_logits(&[text.to_vec()], &[true])
        .swap_remove(0)
}

#[test]
fn logits_are_those_of_the_full_pass() {
    for config in configs() {
        let transformer = transformer(&config);
        let model = PortableModel::new(&transformer).unwrap();
        let text = text(config.context, 3);
        let logits = transformer.logits(transformer.tokens(&[&text]));
        let logits: Vec<f32> = logits.try_into_vec_as().unwrap();
        let scale = logits.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
        assert!(scale > 1.0, "{scale}");
        for (end, expected) in (1..).zip(logits.chunks(config.vocab_size)) {
            for (ours, theirs) in fresh(&model, &text[..end]).iter().zip(expected) {
                // Sums of some 60 terms in f32, in some 10 layers one after the other.
                let error = (ours - f64::from(*theirs)).abs() / f64::from(scale);
                assert!(error < 1e-5, "{ours} {theirs} {config:?}");
            }
        }
    }
}

#[test]
fn a_cached_step_has_the_bits_of_a_fresh_read() {
    for config in configs() {
        let model = PortableModel::new(&transformer(&config)).unwrap();
        // Texts of other lengths beside, one of which ends.
        let texts = [text(40, 3), text(33, 8), text(60, 1)];
        let mut reader = PortableReader::new(&model);
        for step in 1..=20 {
            let grown: Vec<Vec<u32>> = texts
                .iter()
                .map(|text| text[..text.len() - 20 + step].to_vec())
                .collect();
            let running = [true, step < 7, true];
            let logits = reader.next_logits(&grown, &running);
            for ((logits, text), running) in logits.iter().zip(&grown).zip(running) {
                match running {
                    true => assert_eq!(bits(logits), bits(&fresh(&model, text)), "{config:?}"),
                    false => assert!(logits.is_empty()),
                }
            }
        }
    }
}

#[test]
fn a_text_longer_than_the_context_is_read_from_its_window() {
    let config = &configs()[0];
    let model = PortableModel::new(&transformer(config)).unwrap();
    let text = text(50, 2);
    for end in [12, 13, 14, 15, 16, 50] {
        // A context of 12 moves on by 6 tokens.
        let start = (end - 12_usize).div_ceil(6) * 6;
        let window = fresh(&model, &text[start..end]);
        assert_eq!(bits(&fresh(&model, &text[..end])), bits(&window));
    }
}

#[test]
fn a_long_text_is_read_in_parts() {
    let config = ModelConfig::new(37, 200, 1, 2, 10);
    let model = PortableModel::new(&transformer(&config)).unwrap();
    let text = text(200, 4);
    let mut reader = PortableReader::new(&model);
    for end in [1, 2, PREFILL, PREFILL + 1, PREFILL + 2, 199, 200] {
        let logits = reader.next_logits(&[text[..end].to_vec()], &[true]);
        assert_eq!(bits(&logits[0]), bits(&fresh(&model, &text[..end])));
    }
}

#[test]
fn threads_and_other_texts_change_no_bit() {
    // Wide enough that one product is work for several threads.
    let config = ModelConfig::llama(37, 24, 1, 8, 4, 256);
    let model = PortableModel::new(&transformer(&config)).unwrap();
    let texts: Vec<Vec<u32>> = (0..11).map(|seed| text(20, seed)).collect();
    let alone: Vec<Vec<u64>> = texts
        .iter()
        .map(|text| bits(&fresh(&model, text)))
        .collect();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.unwrap();
        for rows in [1, 2, 5, 11] {
            let read =
                || PortableReader::new(&model).next_logits(&texts[..rows], &vec![true; rows]);
            let found: Vec<Vec<u64>> = pool.install(read).iter().map(|row| bits(row)).collect();
            assert_eq!(found, alone[..rows], "{threads} threads, {rows} texts");
        }
    }
}

#[test]
fn half_precision_weights_are_taken_as_they_are() {
    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let dtype = self.0;
            param.map(|tensor| tensor.cast(dtype))
        }
    }
    let half = transformer(&configs()[0]).map(&mut Cast(DType::BF16));
    let single = half.clone().map(&mut Cast(DType::F32));
    let [half, single] = [half, single].map(|model| {
        let model = PortableModel::new(&model).unwrap();
        bits(&fresh(&model, &text(9, 1)))
    });
    assert_eq!(half, single);
}

/// The bits on any machine. They change with the computation and with the initialisation alone.
#[test]
fn the_bits_are_pinned() {
    let found = configs().map(|config| {
        let model = PortableModel::new(&transformer(&config)).unwrap();
        let mut hasher = Sha256::new();
        for end in [1, 5, 12, 30] {
            for logit in fresh(&model, &text(end, 6)) {
                hasher.update(logit.to_bits().to_le_bytes());
            }
        }
        format!("{:x}", hasher.finalize())[..16].to_owned()
    });
    let pinned = [
        "50d02c4c7885ac3a",
        "23e392555e6ba52c",
        "04f5bb3c321c0644",
        "4644696f5c7917e8",
        "d627b098892cfc27",
        "e1f773c72ce4decf",
        "538a5f56986d7c96",
    ];
    assert_eq!(found, pinned);
}
