//! One residual block, normalised before its layers (Xiong et al. 2020, <https://arxiv.org/abs/2002.04745>).

use burn::module::Module;
use burn::tensor::Tensor;

use crate::attention::CausalSelfAttention;
use crate::cache::LayerCache;
use crate::config::ModelConfig;
use crate::feed_forward::FeedForward;
use crate::init::Initializer;
use crate::norm::Normalization;
use crate::positions::Sight;
use crate::watch::{Operation, Pass};

/// `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
pub(crate) struct Block {
    attention_norm: Normalization,
    attention: CausalSelfAttention,
    feed_forward_norm: Normalization,
    feed_forward: FeedForward,
}

impl Block {
    pub(crate) fn new(config: &ModelConfig, init: &Initializer<'_>) -> Self {
        Self {
            attention_norm: init.width_norm("attention_norm"),
            attention: CausalSelfAttention::new(config, &init.child("attention")),
            feed_forward_norm: init.width_norm("feed_forward_norm"),
            feed_forward: FeedForward::new(config, &init.child("feed_forward")),
        }
    }

    /// Computes the last `positions` of each sequence: `[batch * length, width] -> [batch * positions, width]`. With a
    /// `cache`, as in [`CausalSelfAttention::forward`], `positions` may be less than `length`.
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        sight: &Sight,
        cache: Option<(&mut LayerCache, usize)>,
        positions: usize,
        pass: Pass<'_>,
    ) -> Tensor<2> {
        let x = match self.attention.fused(&self.attention_norm, sight) {
            Some((sublayer, heads)) => sublayer.apply(x, heads),
            None => {
                let normed = self
                    .attention_norm
                    .watched("attention_norm", pass, x.clone());
                let mixed = self
                    .attention
                    .forward(normed, sight, cache, positions, pass);
                let x = last_positions(x, sight, positions);
                residual("attention_residual", pass, sight.dropout, x, mixed)
            }
        };
        if sight.fused {
            return self.feed_forward.fused(&self.feed_forward_norm, x);
        }
        let normed = self
            .feed_forward_norm
            .watched("feed_forward_norm", pass, x.clone());
        let fed = self.feed_forward.forward(normed, pass);
        residual("feed_forward_residual", pass, sight.dropout, x, fed)
    }
}

/// The last `positions` of each sequence: `[batch * length, width] -> [batch * positions, width]`.
fn last_positions(x: Tensor<2>, sight: &Sight, positions: usize) -> Tensor<2> {
    if positions == sight.length {
        return x;
    }
    let [_, width] = x.dims();
    let x = x.reshape([sight.batch, sight.length, width]);
    let x = x.narrow(1, sight.length - positions, positions);
    x.reshape([sight.batch * positions, width])
}

/// `x + y`, some of `y` dropped in training.
fn residual(name: &str, pass: Pass<'_>, rate: f64, x: Tensor<2>, y: Tensor<2>) -> Tensor<2> {
    pass.operation(name, Operation::Residual, [x, y], |[x, y]| {
        x + pass.drop(y, rate)
    })
}
