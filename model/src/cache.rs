//! The keys and values of tokens already seen, kept so that a new token costs one row and not all of them.

use burn::tensor::{DType, Device, Tensor};

use crate::config::ModelConfig;

/// Keys and values of every layer, for a batch of sequences that are continued together.
pub(crate) struct KvCache {
    pub(crate) layers: Vec<LayerCache>,
    /// As in [`Placement`](crate::positions::Placement).
    pub(crate) padding: Vec<usize>,
    /// Columns filled.
    pub(crate) seen: usize,
    /// Columns there is room for.
    pub(crate) capacity: usize,
}

impl KvCache {
    /// An empty cache with room for `capacity` columns.
    pub(crate) fn new(
        config: &ModelConfig,
        batch: usize,
        capacity: usize,
        padding: Vec<usize>,
        (device, dtype): (&Device, DType),
    ) -> Self {
        let shape = [batch, config.kv_heads, capacity, config.head_width()];
        let empty = || Some(Tensor::zeros(shape, (device, dtype)));
        let layer = || LayerCache {
            keys: empty(),
            values: empty(),
        };
        Self {
            layers: (0..config.layers).map(|_| layer()).collect(),
            padding,
            seen: 0,
            capacity,
        }
    }
}

/// Keys and values of one layer, each `[batch, kv_heads, capacity, head_width]`.
pub(crate) struct LayerCache {
    // `Some` except while a new row is written: a tensor with one owner is written in place.
    keys: Option<Tensor<4>>,
    values: Option<Tensor<4>>,
}

impl LayerCache {
    /// Writes new columns behind the `seen` ones, and returns all filled ones.
    pub(crate) fn extend(
        &mut self,
        seen: usize,
        keys: Tensor<4>,
        values: Tensor<4>,
    ) -> [Tensor<4>; 2] {
        [(&mut self.keys, keys), (&mut self.values, values)].map(|(kept, new)| {
            let [batch, heads, length, width] = new.dims();
            let place = [0..batch, 0..heads, seen..seen + length, 0..width];
            let all = kept.take().map(|kept| kept.slice_assign(place, new));
            let filled = all.clone().map(|all| all.narrow(2, 0, seen + length));
            *kept = all;
            // `kept` is `None` nowhere else.
            filled.expect("a cache between two tokens is whole")
        })
    }
}
