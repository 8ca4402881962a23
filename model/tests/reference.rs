//! The network against a reference in f64: logits, losses, and the gradient of every parameter.
#![allow(clippy::unwrap_used)] // a test may panic

mod common;
#[path = "common/devices.rs"]
mod devices;
#[path = "common/parameters.rs"]
mod parameters;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use common::{Reference, Weights};
use foretoken_model::{
    Activation, ModelConfig, Norm, Pass, PortableModel, PortableReader, Positions, RotaryScaling,
    Transformer,
};
use parameters::read;

/// Odd sizes, so that no transposed or misaligned read goes unseen; every choice made in each way.
fn configs() -> [ModelConfig; 8] {
    let gpt2 = ModelConfig::new(7, 5, 2, 3, 9).with_hidden(11);
    let llama = ModelConfig::llama(7, 5, 2, 4, 2, 24).with_hidden(11);
    // Of the three rotations one is kept, one slowed fully, and one in part.
    let scaling = RotaryScaling {
        factor: 4.0,
        low_frequency_factor: 0.5,
        high_frequency_factor: 2.0,
        original_context: 30,
    };
    [
        gpt2.clone(),
        gpt2.clone()
            .with_bias(false)
            .with_tied_head(false)
            .with_activation(Activation::Gelu),
        ModelConfig::new(11, 6, 1, 1, 5).with_norm_epsilon(1e-2),
        llama.clone(),
        ModelConfig {
            rotary_theta: 100.0,
            rotary_scaling: Some(scaling),
            kv_heads: 1,
            tied_head: true,
            bias: true,
            ..llama.clone()
        },
        ModelConfig {
            head_width: Some(2),
            qk_norm: true,
            window: Some(3),
            ..llama
        },
        ModelConfig {
            qk_norm: true,
            window: Some(2),
            positions: Positions::None,
            activation: Activation::Relu2,
            logit_cap: Some(1.5),
            ..gpt2.clone()
        },
        ModelConfig {
            norm: Norm::Rms,
            kv_heads: 1,
            ..gpt2
        },
    ]
}

/// Rows of (inputs, targets); the first has a repeated token, so that embedding gradients must add up.
const ROWS: [([usize; 5], [usize; 5]); 2] = [
    ([3, 1, 3, 6, 0], [1, 3, 6, 0, 2]),
    ([2, 5, 4, 4, 1], [5, 4, 4, 1, 6]),
];

/// Gives every parameter values of the size they have in a trained model, in the precision `dtype`.
/// As initialised, biases and gains are 0 and 1 and the logits nearly alike: most mistakes would not show.
struct Disturb {
    dtype: DType,
    count: usize,
}

impl ModuleMapper for Disturb {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let shape = tensor.shape();
            let values: Vec<f32> = (0..shape.num_elements())
                .map(|_| {
                    self.count += 1;
                    // As f32, so that both precisions start from the same values.
                    (0.7 * (self.count as f64 * 1.618).sin() + 0.1) as f32
                })
                .collect();
            Tensor::from_data(
                TensorData::new(values, shape),
                (&tensor.device(), self.dtype),
            )
        })
    }
}

fn model(config: &ModelConfig, device: &Device, dtype: DType) -> Transformer {
    let model = config.init(0, device).unwrap();
    model.map(&mut Disturb { dtype, count: 0 }).train()
}

/// Every backend with those of `precisions` that it has. A driver that compiles its kernels does so for each shape anew:
/// there one, and of the configurations every fourth.
fn runs<const N: usize>(
    config: usize,
    precisions: [(DType, f64); N],
) -> impl Iterator<Item = (String, Device, DType, f64)> {
    let runs = devices::devices()
        .into_iter()
        .flat_map(move |(name, device)| {
            precisions.map(|(dtype, tolerance)| (name, device.clone(), dtype, tolerance))
        });
    runs.filter(move |(name, device, dtype, _)| match *name {
        "wgpu" => *dtype == DType::F32 && config % 4 == 3,
        _ => device.supports_dtype(*dtype),
    })
    .map(|(name, device, dtype, tolerance)| (format!("{name} {dtype:?}"), device, dtype, tolerance))
}

fn tokens(rows: &[&[usize]], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = rows.concat().into_iter().map(|id| id as i64).collect();
    Tensor::from_data(TensorData::new(ids, [rows.len(), rows[0].len()]), device)
}

#[track_caller]
fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    // Relative to the largest: a sum that cancels is as inaccurate as its terms.
    let scale = expected.iter().fold(1e-3, |m: f64, e| m.max(e.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let error = (a - e).abs() / scale;
        assert!(error <= tolerance, "{what}[{i}]: {a} instead of {e}");
    }
}

/// Fused operations, and Burn's own.
fn passes() -> [(&'static str, Pass<'static>); 2] {
    [
        ("fused", Pass::default()),
        ("plain", Pass::default().plain()),
    ]
}

/// Sums of some hundred terms: f64 rounds them to about 1e-14, f32 to about 1e-5 after two blocks.
const FORWARD: [(DType, f64); 2] = [(DType::F64, 1e-12), (DType::F32, 2e-5)];
/// A central difference with step 1e-5 is itself wrong by some 1e-10 (truncation) and 1e-11 (rounding),
/// relative to derivatives of size 1.
const BACKWARD: [(DType, f64); 2] = [(DType::F64, 1e-7), (DType::F32, 1e-4)];

#[test]
fn logits_and_losses_match_the_reference() {
    for (number, config) in configs().into_iter().enumerate() {
        for (who, device, dtype, tolerance) in runs(number, FORWARD) {
            let model = model(&config, &device, dtype);
            let weights = read(&model, None);
            let reference = Reference {
                config: &config,
                weights: &weights,
            };
            let lengths: &[usize] = if who.starts_with("wgpu") {
                &[5]
            } else {
                &[1, 2, 5]
            };
            for &length in lengths {
                let inputs: Vec<&[usize]> = ROWS.iter().map(|row| &row.0[..length]).collect();
                let targets: Vec<&[usize]> = ROWS.iter().map(|row| &row.1[..length]).collect();
                let expected: Vec<f64> = inputs
                    .iter()
                    .flat_map(|row| reference.logits(row).concat())
                    .collect();
                for (what, pass) in passes() {
                    let logits = model.logits_in(pass, tokens(&inputs, &model.device()));
                    assert_eq!(logits.dims(), [2, length, config.vocab_size]);
                    let logits: Vec<f64> = logits.try_into_vec_as().unwrap();
                    assert_close(
                        &logits,
                        &expected,
                        tolerance,
                        &format!("{who} {what} logits"),
                    );
                }

                let expected: Vec<f64> = inputs
                    .iter()
                    .zip(&targets)
                    .flat_map(|(inputs, targets)| reference.nats(inputs, targets))
                    .collect();
                let expected_mean = expected.iter().sum::<f64>() / expected.len() as f64;
                for (what, pass) in passes() {
                    let [inputs, targets] =
                        [&inputs, &targets].map(|rows| tokens(rows, &model.device()));
                    let loss = model.next_token_loss_in(pass, inputs, targets);
                    assert_eq!(loss.nats.dims(), [2, length]);
                    let mean: f64 = loss.mean().into_scalar();
                    let nats: Vec<f64> = loss.nats.try_into_vec_as().unwrap();
                    assert_close(&nats, &expected, tolerance, &format!("{who} {what} nats"));
                    assert_close(
                        &[mean],
                        &[expected_mean],
                        tolerance,
                        &format!("{who} {what} mean"),
                    );
                }
            }
        }
    }
}

#[test]
fn portable_logits_match_the_reference() {
    for config in configs() {
        let model = model(&config, &Device::flex(), DType::F32);
        let weights = read(&model, None);
        let reference = Reference {
            config: &config,
            weights: &weights,
        };
        let portable = PortableModel::new(&model).unwrap();
        for (inputs, _) in ROWS {
            let mut reader = PortableReader::new(&portable);
            for (end, expected) in (1..).zip(reference.logits(&inputs)) {
                let text = inputs[..end].iter().map(|token| *token as u32).collect();
                let logits = reader.next_logits(&[text], &[true]).swap_remove(0);
                assert_close(&logits, &expected, FORWARD[0].1, &format!("{config:?}"));
            }
        }
    }
}

#[test]
fn gradients_of_every_parameter_match_finite_differences() {
    const STEP: f64 = 1e-5;
    let inputs = ROWS.each_ref().map(|row| &row.0[..]);
    let targets = ROWS.each_ref().map(|row| &row.1[..]);
    for (number, config) in configs().into_iter().enumerate() {
        // Values that every precision has, so that those of f32 are those of f64.
        let weights = read(&model(&config, &Device::flex(), DType::F64), None);
        assert_eq!(
            weights.values().map(Vec::len).sum::<usize>(),
            config.parameters()
        );
        let mean = |weights: &Weights| {
            let reference = Reference {
                config: &config,
                weights,
            };
            let nats: f64 = ROWS
                .iter()
                .flat_map(|(inputs, targets)| reference.nats(inputs, targets))
                .sum();
            nats / 10.0
        };
        let mut moved = weights.clone();
        let mut expected = Weights::new();
        for (path, values) in &weights {
            let differences = (0..values.len()).map(|i| {
                let mut at = |offset: f64| {
                    moved.get_mut(path).unwrap()[i] = values[i] + offset;
                    mean(&moved)
                };
                let difference = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                at(0.0);
                difference
            });
            expected.insert(path.clone(), differences.collect());
        }

        for (who, device, dtype, tolerance) in runs(number, BACKWARD) {
            let model = model(&config, &device, dtype);
            let device = model.device();
            for (what, pass) in passes() {
                let (inputs, targets) = (tokens(&inputs, &device), tokens(&targets, &device));
                let loss = model.next_token_loss_in(pass, inputs, targets);
                let gradients: Weights = read(&model, Some(&loss.mean().backward()));
                assert_eq!(gradients.len(), expected.len());
                for (path, expected) in &expected {
                    assert_close(
                        &gradients[path],
                        expected,
                        tolerance,
                        &format!("{who} {what} {path}"),
                    );
                }
            }
        }
    }
}

#[test]
fn a_token_changes_no_logit_before_it() {
    let config = ModelConfig::new(13, 9, 2, 2, 6);
    for (name, device) in devices::devices() {
        if name != "wgpu" {
            changes_no_logit_before_it(&model(&config, &device, DType::F32));
        }
    }
}

fn changes_no_logit_before_it(model: &Transformer) {
    let bits = |tokens: Tensor<2, Int>| -> Vec<u32> {
        let logits: Vec<f32> = model.logits(tokens).try_into_vec_as().unwrap();
        logits.into_iter().map(f32::to_bits).collect()
    };
    let text = [4, 0, 7, 7, 12, 1, 3, 9, 5];
    let before = bits(tokens(&[&text], &model.device()));
    for position in 0..text.len() {
        let mut changed = text;
        changed[position] = (changed[position] + 6) % 13;
        let after = bits(tokens(&[&changed], &model.device()));
        let logits = |bits: &[u32]| bits.chunks(13).map(<[u32]>::to_vec).collect::<Vec<_>>();
        for (t, (before, after)) in logits(&before).iter().zip(logits(&after)).enumerate() {
            // And the logits from there on do change: the token is not simply ignored.
            assert_eq!(
                *before == after,
                t < position,
                "token {position}, logits {t}"
            );
        }
    }
}

#[test]
#[should_panic(expected = "6 tokens do not fit a context of 5")]
fn a_sequence_longer_than_the_context_panics() {
    let model = model(
        &ModelConfig::new(7, 5, 1, 1, 4),
        &Device::flex(),
        DType::F32,
    );
    model.logits(tokens(&[&[0, 1, 2, 3, 4, 5]], &model.device()));
}
