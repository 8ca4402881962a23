//! Windows → tensors, one batch after the other.

use std::ops::Range;

use burn::{
    Tensor,
    data::{
        dataloader::{DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    tensor::{Device, Int, TensorData},
};

use crate::{Split, windows::Window};

/// Rows of inputs, and the token that follows each of them.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Token ids, `[batch, context]`, in the integer type of the device.
    pub inputs: Tensor<2, Int>,
    /// The ids one token further on, `[batch, context]`.
    pub targets: Tensor<2, Int>,
    /// `[batch, context]`: 1 where a target counts, 0 where it does not. `None` means that all
    /// count.
    pub weights: Option<Tensor<2>>,
    /// How many targets count.
    pub target_tokens: usize,
    /// How many bytes of text the targets that count stand for.
    pub target_bytes: usize,
}

impl TokenBatch {
    /// Copies windows of a split to a device.
    pub(crate) fn new(split: &Split, context: usize, windows: &[Window], device: &Device) -> Self {
        let shape = [windows.len(), context];
        let mut inputs = Vec::with_capacity(windows.len() * context);
        let mut targets = Vec::with_capacity(windows.len() * context);
        let (mut target_tokens, mut target_bytes) = (0, 0);
        for window in windows {
            let ids = &split.ids()[window.offset..][..context + 1];
            // Burn has no unsigned default; no vocabulary comes near 2^31. Where the integers of
            // the device are wider, `from_data` widens them.
            inputs.extend(ids[..context].iter().map(|&id| id as i32));
            targets.extend(ids[1..].iter().map(|&id| id as i32));
            let counted = &ids[1 + window.skip..];
            target_tokens += counted.len();
            target_bytes += split.bytes_of(counted);
        }
        let weights = windows.iter().any(|window| window.skip > 0).then(|| {
            let weights: Vec<f32> = windows
                .iter()
                .flat_map(|w| (0..context).map(|place| if place < w.skip { 0. } else { 1. }))
                .collect();
            Tensor::from_data(TensorData::new(weights, shape), device)
        });
        Self {
            inputs: Tensor::from_data(TensorData::new(inputs, shape), device),
            targets: Tensor::from_data(TensorData::new(targets, shape), device),
            weights,
            target_tokens,
            target_bytes,
        }
    }
}

/// Items read in order, a batch at a time.
pub(crate) struct Batches<F> {
    items: Range<usize>,
    next: usize,
    batch: usize,
    read: F,
}

impl<F> Batches<F> {
    pub(crate) fn new(items: Range<usize>, batch: usize, read: F) -> Self {
        Self {
            next: items.start,
            items,
            batch,
            read,
        }
    }
}

impl<F: Fn(Range<usize>) -> TokenBatch> Iterator for Batches<F> {
    type Item = Result<TokenBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next;
        self.next = self.items.end.min(start + self.batch);
        (start < self.next).then(|| Ok((self.read)(start..self.next)))
    }
}

impl<F: Fn(Range<usize>) -> TokenBatch> DataLoaderIterator<TokenBatch> for Batches<F> {
    fn progress(&self) -> Progress {
        let done = self.next - self.items.start;
        Progress::new(done, self.items.len(), Some("windows".into()))
    }
}
