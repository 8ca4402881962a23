//! Windows → a batch: read and weighted on the host, copied to a device as tensors.

use std::slice;

use burn::{
    Tensor,
    tensor::{Device, Int, TensorData},
};

use crate::{DataError, LossWeights, Split, windows::Window};

/// Rows of inputs, and the token that follows each of them.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Token ids, `[batch, context]`, in the integer type of the device.
    pub inputs: Tensor<2, Int>,
    /// The ids one token further on, `[batch, context]`.
    pub targets: Tensor<2, Int>,
    /// `[batch, context]`: how much a target counts, 0 where it does not. `None` means that all
    /// count once.
    pub weights: Option<Tensor<2>>,
    /// How many targets count: those of a weight larger than 0.
    pub target_tokens: usize,
    /// How many bytes of text the targets that count stand for.
    pub target_bytes: usize,
    /// The sum of the weights of all targets; 0 where none counts.
    pub target_weight: f64,
    /// The number of the first row, counted over all steps of a run: no two batches of a run share it.
    pub first_row: usize,
}

/// A batch that no device has yet.
#[derive(Debug)]
pub(crate) struct HostBatch {
    shape: [usize; 2],
    inputs: Vec<i32>,
    targets: Vec<i32>,
    /// Empty where all targets count once.
    weights: Vec<f32>,
    target_tokens: usize,
    target_bytes: usize,
    target_weight: f64,
    first_row: usize,
}

/// Where a row is read.
pub(crate) struct Row<'a> {
    pub(crate) split: &'a Split,
    pub(crate) weights: &'a LossWeights,
    pub(crate) window: Window,
}

impl HostBatch {
    /// Reads `size` rows, of which the first has the number `first_row`.
    pub(crate) fn read<'a>(
        context: usize,
        size: usize,
        first_row: usize,
        rows: impl Iterator<Item = Row<'a>>,
    ) -> Result<Self, DataError> {
        let mut batch = Self {
            shape: [0, context],
            inputs: Vec::with_capacity(size * context),
            targets: Vec::with_capacity(size * context),
            weights: vec![0.; size * context],
            target_tokens: 0,
            target_bytes: 0,
            target_weight: 0.,
            first_row,
        };
        let mut ids = vec![0; context + 1];
        for (number, row) in rows.take(size).enumerate() {
            let (split, window) = (row.split, row.window);
            split.read(window.offset, &mut ids)?;
            // Burn has no unsigned default; no vocabulary comes near 2^31. Where the integers of
            // the device are wider, `from_data` widens them.
            batch
                .inputs
                .extend(ids[..context].iter().map(|&id| id as i32));
            batch.targets.extend(ids[1..].iter().map(|&id| id as i32));
            batch.shape[0] += 1;

            let weights = &mut batch.weights[number * context..][window.counted.clone()];
            let first_target = window.offset + 1 + window.counted.start;
            row.weights.read(first_target, weights)?;
            for (id, &weight) in ids[1..][window.counted].iter().zip(&*weights) {
                if weight > 0. {
                    batch.target_tokens += 1;
                    batch.target_bytes += split.bytes_of(slice::from_ref(id));
                }
                batch.target_weight += f64::from(weight);
            }
        }
        batch.weights.truncate(batch.targets.len());
        if batch.weights.iter().all(|&weight| weight == 1.) {
            batch.weights.clear();
        }
        Ok(batch)
    }

    /// Copies the batch to a device.
    pub(crate) fn into_tensors(self, device: &Device) -> TokenBatch {
        let shape = self.shape;
        let weights = (!self.weights.is_empty())
            .then(|| Tensor::from_data(TensorData::new(self.weights, shape), device));
        TokenBatch {
            inputs: Tensor::from_data(TensorData::new(self.inputs, shape), device),
            targets: Tensor::from_data(TensorData::new(self.targets, shape), device),
            weights,
            target_tokens: self.target_tokens,
            target_bytes: self.target_bytes,
            target_weight: self.target_weight,
            first_row: self.first_row,
        }
    }
}
