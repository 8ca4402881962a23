//! One residual block, normalised before its layers (Xiong et al. 2020, <https://arxiv.org/abs/2002.04745>).

use burn::module::Module;
use burn::tensor::Tensor;

use crate::attention::CausalSelfAttention;
use crate::cache::LayerCache;
use crate::config::ModelConfig;
use crate::dropout::Dropping;
use crate::feed_forward::FeedForward;
use crate::init::Initializer;
use crate::norm::Normalization;
use crate::positions::Sight;

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

    /// `[batch * length, width] -> [batch * length, width]`; `cache` as in [`CausalSelfAttention::forward`].
    pub(crate) fn forward(
        &self,
        x: Tensor<2>,
        sight: &Sight,
        cache: Option<(&mut LayerCache, usize)>,
        dropping: Dropping<'_>,
    ) -> Tensor<2> {
        let normed = self.attention_norm.forward(x.clone());
        let mixed = self.attention.forward(normed, sight, cache, dropping);
        let x = x + dropping.apply(mixed);
        let normed = self.feed_forward_norm.forward(x.clone());
        x + dropping.apply(self.feed_forward.forward(normed))
    }
}
