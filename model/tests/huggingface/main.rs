//! Models from Hugging Face and to it: the same logits, gradients and bytes as in `transformers`; and one
//! line, never a panic, where a file is not what it should be.
//!
//! Two models that `transformers` has made lie in `tests/fixtures`. An ignored test makes more with a `python3` that
//! has `transformers` (`source .ci/env.sh`), and has it read what is exported; `.ci/run` includes this test.
#![allow(clippy::unwrap_used)] // a test may panic

mod bytes;
mod copy;
#[path = "../common/devices.rs"]
mod devices;
mod hostile;
mod mistakes;
#[path = "../common/parameters.rs"]
mod parameters;
mod parity;
mod python;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use foretoken_model::{ModelError, Pretrained, Transformer};
use safetensors::SafeTensors;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// `path` with something appended to its last component.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    path.with_added_extension(suffix)
}

fn load(path: &Path, device: &Device) -> Transformer {
    Pretrained::open(path).unwrap().load(device).unwrap()
}

fn refusal(path: &Path) -> String {
    match Pretrained::open(path) {
        Ok(_) => panic!("{} is not refused", path.display()),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains('\n'), "{line}");
            line
        }
    }
}

fn import(from: &Path, out: &Path) -> Result<(), ModelError> {
    Pretrained::open(from)?.save(out, &mut |_, _| {})
}

/// Token ids and what `transformers` makes of them.
struct Expected {
    /// `[batch, context + 1]`
    tokens: Tensor<2, Int>,
    /// After each of the first `context` tokens: `[batch, context, vocab_size]`.
    logits: Vec<f32>,
    /// After the first token alone: `[batch, 1, vocab_size]`.
    logits_1: Vec<f32>,
}

impl Expected {
    fn read(model: &Path) -> Self {
        let bytes = std::fs::read(beside(model, "expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tokens = file.tensor("tokens").unwrap();
        let ids: Vec<i64> = tokens
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|b| i64::from_le_bytes(*b))
            .collect();
        let floats = |name| -> Vec<f32> {
            let data = file.tensor(name).unwrap().data();
            data.as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect()
        };
        Self {
            tokens: Tensor::from_data(
                TensorData::new(ids, tokens.shape().to_vec()),
                &Device::flex(),
            ),
            logits: floats("logits"),
            logits_1: floats("logits_1"),
        }
    }

    /// Columns `start..start + length` of the tokens.
    fn columns(&self, start: usize, length: usize, device: &Device) -> Tensor<2, Int> {
        let data = self.tokens.clone().narrow(1, start, length).into_data();
        Tensor::from_data(data, device)
    }
}

fn logits(model: &Transformer, tokens: Tensor<2, Int>) -> Vec<f32> {
    model.logits(tokens).try_into_vec_as().unwrap()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    worst(a.iter().zip(b).map(|(a, b)| (a - b).abs()))
}

/// The largest; NaN where there is one, unlike `f32::max`.
fn worst(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(
        0.0,
        |most, v| if most.is_nan() || v <= most { most } else { v },
    )
}
