//! Causal self-attention (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>): multi-head,
//! grouped-query or multi-query.

use burn::backend::Dispatch;
use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::cache::LayerCache;
use crate::config::{ModelConfig, Norm};
use crate::init::Initializer;
use crate::linear;
use crate::norm::Normalization;
use crate::ops;
use crate::positions::{Sight, rotate};
use crate::watch::{Operation, Pass};

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

    /// `x + forward(norm(x))` as one operation, where it is: of a pass whose attention is, and whose queries and keys are
    /// not normalised.
    pub(crate) fn fused(
        &self,
        norm: &Normalization,
        sight: &Sight,
    ) -> Option<(ops::AttentionSublayer<Dispatch>, ops::Heads)> {
        if !sight.fused || self.query_norm.is_some() {
            return None;
        }
        // One sequence's angles are all others' where nothing is padded.
        let rotation = sight.rotation.clone().map(|of| {
            of.map(|of| {
                let [.., length, half] = of.dims();
                of.reshape([length, half])
            })
        });
        let sublayer = ops::AttentionSublayer {
            norm: norm.parameters(),
            qkv: linear::parameters(&self.qkv),
            output: linear::parameters(&self.output),
            rotation: ops::Rotation::of(rotation),
        };
        Some((sublayer, self.heads(sight)))
    }

    fn heads(&self, sight: &Sight) -> ops::Heads {
        ops::Heads {
            batch: sight.batch,
            length: sight.length,
            heads: self.heads,
            kv_heads: self.kv_heads,
            window: sight.window,
        }
    }

    /// Computes the last `positions` of each sequence: `[batch * length, width] -> [batch * positions, width]`. `cache` holds
    /// what lies before, and how many columns of it; without one, `positions` is `length`.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        sight: &Sight,
        cache: Option<(&mut LayerCache, usize)>,
        positions: usize,
        pass: Pass<'_>,
    ) -> Tensor<2> {
        let qkv = linear::watched(&self.qkv, "attention.qkv", pass, x);
        let mixed = match sight.fused {
            true => self.mixed_at_once(qkv, sight, pass),
            false => self.mixed(qkv, sight, cache, positions, pass),
        };
        linear::watched(&self.output, "attention.output", pass, mixed)
    }

    /// Queries, keys and values of `[batch * length, (heads + 2 kv_heads) head_width]`, the first two normalised and
    /// turned as the model does: `[batch, heads or kv_heads, length, head_width]` each.
    fn parts(&self, qkv: Tensor<2>, sight: &Sight, pass: Pass<'_>) -> [Tensor<4>; 3] {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        // Heads before slicing: the three slices are then views, which products read where they lie.
        let head_width = qkv.dims()[1] / (heads + 2 * kv_heads);
        let qkv = qkv
            .reshape([sight.batch, sight.length, heads + 2 * kv_heads, head_width])
            .swap_dims(1, 2); // [batch, heads + 2 kv_heads, length, head_width]
        let turned = |name: &str, x: Tensor<4>, norm: &Option<Normalization>| {
            if norm.is_none() && sight.rotation.is_none() {
                return x;
            }
            pass.operation(name, Operation::Turn, [x], |[x]| {
                let x = match norm {
                    Some(norm) => norm.forward(x),
                    None => x,
                };
                match &sight.rotation {
                    Some(rotation) => rotate(x, rotation.clone()),
                    None => x,
                }
            })
        };
        let queries = qkv.clone().narrow(1, 0, heads);
        let queries = turned("attention.queries", queries, &self.query_norm);
        let keys = qkv.clone().narrow(1, heads, kv_heads);
        let keys = turned("attention.keys", keys, &self.key_norm);
        let values = qkv.narrow(1, heads + kv_heads, kv_heads);
        [queries, keys, values]
    }

    /// What queries find, `[batch * length, heads head_width]`, by the fused operation.
    fn mixed_at_once(&self, qkv: Tensor<2>, sight: &Sight, pass: Pass<'_>) -> Tensor<2> {
        let shape = qkv.dims();
        let parts = self.parts(qkv, sight, pass);
        let qkv = Tensor::cat(parts.into(), 1).swap_dims(1, 2).reshape(shape);
        ops::attention(qkv, self.heads(sight))
    }

    /// The same by Burn's operations, which know a cache.
    fn mixed(
        &self,
        qkv: Tensor<2>,
        sight: &Sight,
        cache: Option<(&mut LayerCache, usize)>,
        positions: usize,
        pass: Pass<'_>,
    ) -> Tensor<2> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let (batch, first) = (sight.batch, sight.length - positions);
        let [queries, keys, values] = self.parts(qkv, sight, pass);
        let queries = match first {
            0 => queries,
            _ => queries.narrow(2, first, positions),
        };
        let [.., head_width] = queries.dims();
        #[cfg(feature = "flex")]
        let is_cached = cache.is_some();
        let [keys, values] = match cache {
            Some((cache, seen)) => cache.extend(seen, keys, values),
            None => [keys, values],
        };
        #[cfg(feature = "flex")]
        if is_cached && pass.is_fused() {
            let seen = |sequence, row: usize| sight.columns_seen(sequence, first + row);
            if let Some(mixed) = ops::cached_attention(&queries, &keys, &values, seen) {
                return mixed;
            }
        }

        // Heads that share keys and values become rows of one product.
        let group = heads / kv_heads;
        let regrouped = |x: Tensor<4>, heads, rows| match group {
            1 => x,
            _ => {
                let [.., columns] = x.dims();
                x.reshape([batch, heads, rows, columns])
            }
        };
        let grouped = |x| regrouped(x, kv_heads, group * positions);
        let ungrouped = |x| regrouped(x, heads, positions);
        let scores = |[queries, keys]: [Tensor<4>; 2]| {
            let queries = queries * (head_width as f64).powf(-0.5);
            let scores = ungrouped(grouped(queries).matmul(keys.swap_dims(2, 3)));
            match &sight.mask {
                Some(mask) => scores + mask.clone().narrow(2, first, positions),
                None => scores,
            } // [batch, heads, positions, seen + length]
        };
        let inputs = [queries, keys];
        let scores = pass.operation("attention.scores", Operation::Scores, inputs, scores);

        let mix = |[scores, values]: [Tensor<4>; 2]| {
            // Softmax, in f32 at least, its division left until after the product, where fewer elements are left to
            // divide; in half precision before, where the product might not fit.
            // The maximum only keeps the exponentials in range and cancels out: it needs no gradient.
            let dtype = scores.dtype();
            let half = ops::at_least_f32(dtype) != dtype;
            let scores = scores.cast(ops::at_least_f32(dtype));
            let maximum = scores.clone().detach().max_dim(3);
            let weights = (scores - maximum).exp();
            let total = weights.clone().sum_dim(3);
            let weights = pass.drop(weights, sight.dropout);
            // [batch, heads, positions, head_width]
            match half {
                true => ungrouped(grouped((weights / total).cast(dtype)).matmul(values)),
                false => ungrouped(grouped(weights).matmul(values)) / total,
            }
        };
        let inputs = [scores, values];
        let mixed = pass.operation("attention.mix", Operation::Mix, inputs, mix);

        mixed
            .swap_dims(1, 2)
            .reshape([batch * positions, heads * head_width])
    }
}
