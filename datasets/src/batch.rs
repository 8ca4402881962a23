//! Turns windows into a batch: rows are read and weighted on the host, then copied to a device as tensors.

use std::slice;

use burn::{
    Tensor,
    tensor::{Device, Int, TensorData},
};

use crate::{DataError, LossWeights, Split, windows::Window};

/// Rows of input tokens, each with the token that follows it as its target.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Token ids, `[batch, context]`, in the integer type of the device.
    pub inputs: Tensor<2, Int>,
    /// Target ids, `[batch, context]`: the token after each input.
    pub targets: Tensor<2, Int>,
    /// Loss weights of the targets, `[batch, context]`. A weight of 0 excludes a target. `None` if every weight is 1.
    pub weights: Option<Tensor<2>>,
    /// Number of targets with a weight larger than 0.
    pub target_tokens: usize,
    /// Bytes of text that the targets with a weight larger than 0 stand for.
    pub target_bytes: usize,
    /// Sum of the weights of all targets.
    pub target_weight: f64,
    /// Index of the first row among all rows of a run; no two batches of a run have the same.
    pub first_row: usize,
}

/// Batch in host memory.
#[derive(Debug)]
pub(crate) struct HostBatch {
    shape: [usize; 2],
    inputs: Vec<i32>,
    targets: Vec<i32>,
    /// Empty if every weight is 1.
    weights: Vec<f32>,
    target_tokens: usize,
    target_bytes: usize,
    target_weight: f64,
    first_row: usize,
}

/// Location of a row.
pub(crate) struct Row<'a> {
    pub(crate) split: &'a Split,
    pub(crate) weights: &'a LossWeights,
    pub(crate) window: Window,
}

impl HostBatch {
    /// Reads `size` rows, the first of which has the index `first_row`.
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
            let in_text = ids.len().min(split.tokens() - window.offset);
            split.read(window.offset, &mut ids[..in_text])?;
            ids[in_text..].fill(0);
            // Burn has no unsigned default, and no vocabulary comes near 2^31. `from_data` widens the integers for a
            // device with wider ones.
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
