//! One residual block, normalised before its layers (Xiong et al. 2020, <https://arxiv.org/abs/2002.04745>).

use burn::module::Module;
use burn::nn::LayerNorm;
use burn::tensor::Tensor;

use crate::attention::CausalSelfAttention;
use crate::config::ModelConfig;
use crate::feed_forward::FeedForward;
use crate::init::Initializer;

/// `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
pub(crate) struct Block {
    attention_norm: LayerNorm,
    attention: CausalSelfAttention,
    feed_forward_norm: LayerNorm,
    feed_forward: FeedForward,
}

impl Block {
    pub(crate) fn new(config: &ModelConfig, init: &Initializer<'_>) -> Self {
        Self {
            attention_norm: init.layer_norm("attention_norm"),
            attention: CausalSelfAttention::new(config, &init.child("attention")),
            feed_forward_norm: init.layer_norm("feed_forward_norm"),
            feed_forward: FeedForward::new(config, &init.child("feed_forward")),
        }
    }

    /// `[batch * length, width] -> [batch * length, width]`, with the causal mask of that length.
    pub(crate) fn forward(&self, x: Tensor<2>, mask: Tensor<4>) -> Tensor<2> {
        let x = x.clone() + self.attention.forward(self.attention_norm.forward(x), mask);
        x.clone() + self.feed_forward.forward(self.feed_forward_norm.forward(x))
    }
}
