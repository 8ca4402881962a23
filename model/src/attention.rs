//! Causal self-attention (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>): multi-head,
//! grouped-query or multi-query.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::cache::LayerCache;
use crate::config::{ModelConfig, Norm};
use crate::dropout::Dropping;
use crate::init::Initializer;
use crate::linear;
use crate::norm::Normalization;
use crate::positions::{Sight, rotate};

/// Every position mixes in what it finds at the positions up to its own.
#[derive(Module, Debug)]
pub(crate) struct CausalSelfAttention {
    /// All heads' queries, then all keys, then all values, in one product:
    /// `[width, (heads + 2 kv_heads) head_width]`.
    qkv: Linear,
    query_norm: Option<Normalization>,
    key_norm: Option<Normalization>,
    /// Writes to the residual stream, `[heads head_width, width]`.
    output: Linear,
    heads: usize,
    kv_heads: usize,
}

impl CausalSelfAttention {
    pub(crate) fn new(config: &ModelConfig, init: &Initializer<'_>) -> Self {
        let (width, head_width) = (config.width, config.head_width());
        let head_norm = |name| {
            let norm = || init.norm(name, head_width, Norm::Rms, false);
            config.qk_norm.then(norm)
        };
        Self {
            qkv: init.linear("qkv", width, config.qkv_width()),
            query_norm: head_norm("query_norm"),
            key_norm: head_norm("key_norm"),
            output: init.residual_linear("output", config.heads * head_width, width),
            heads: config.heads,
            kv_heads: config.kv_heads,
        }
    }

    /// `[batch * length, width] -> [batch * length, width]`; `cache` holds what lies before, and how many
    /// columns of it.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        sight: &Sight,
        cache: Option<(&mut LayerCache, usize)>,
        dropping: Dropping<'_>,
    ) -> Tensor<2> {
        let [rows, _] = x.dims();
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let (batch, length) = (sight.batch, sight.length);

        // Heads before slicing: the three slices are then views, which products read where they lie.
        let qkv = linear::forward(&self.qkv, x);
        let head_width = qkv.dims()[1] / (heads + 2 * kv_heads);
        let qkv = qkv
            .reshape([batch, length, heads + 2 * kv_heads, head_width])
            .swap_dims(1, 2); // [batch, heads + 2 kv_heads, length, head_width]
        let turned = |x: Tensor<4>, norm: &Option<Normalization>| {
            let x = match norm {
                Some(norm) => norm.forward(x),
                None => x,
            };
            match &sight.rotation {
                Some(rotation) => rotate(x, rotation.clone()),
                None => x,
            }
        };
        let queries = turned(qkv.clone().narrow(1, 0, heads), &self.query_norm);
        let keys = turned(qkv.clone().narrow(1, heads, kv_heads), &self.key_norm);
        let values = qkv.narrow(1, heads + kv_heads, kv_heads);
        let [keys, values] = match cache {
            Some((cache, seen)) => cache.extend(seen, keys, values),
            None => [keys, values],
        };

        let queries = queries * (head_width as f64).powf(-0.5);
        // Heads that share keys and values become rows of one product.
        let group = heads / kv_heads;
        let grouped = |x: Tensor<4>| match group {
            1 => x,
            _ => {
                let [.., columns] = x.dims();
                x.reshape([batch, kv_heads, group * length, columns])
            }
        };
        let ungrouped = |x: Tensor<4>| match group {
            1 => x,
            _ => {
                let [.., columns] = x.dims();
                x.reshape([batch, heads, length, columns])
            }
        };
        let scores = ungrouped(grouped(queries).matmul(keys.swap_dims(2, 3)));
        let scores = match &sight.mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        }; // [batch, heads, length, seen + length]

        // Softmax, its division left until after the product, where fewer elements are left to divide.
        // The maximum only keeps the exponentials in range and cancels out: it needs no gradient.
        let maximum = scores.clone().detach().max_dim(3);
        let weights = (scores - maximum).exp();
        let total = weights.clone().sum_dim(3);
        let weights = dropping.apply(weights);
        let mixed = ungrouped(grouped(weights).matmul(values)) / total; // [batch, heads, length, head_width]

        let mixed = mixed.swap_dims(1, 2).reshape([rows, heads * head_width]);
        linear::forward(&self.output, mixed)
    }
}
