//! Causal multi-head self-attention (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor};

use crate::config::ModelConfig;
use crate::init::Initializer;

/// Every position mixes in what it finds at the positions up to its own.
#[derive(Module, Debug)]
pub(crate) struct CausalSelfAttention {
    /// Queries, keys and values of all heads in one product, `[width, 3 width]`.
    qkv: Linear,
    /// Writes to the residual stream, `[width, width]`.
    output: Linear,
    heads: usize,
}

impl CausalSelfAttention {
    pub(crate) fn new(config: &ModelConfig, init: &Initializer<'_>) -> Self {
        let width = config.width;
        Self {
            qkv: init.linear("qkv", width, 3 * width),
            output: init.residual_linear("output", width, width),
            heads: config.heads,
        }
    }

    /// `[batch * length, width] -> [batch * length, width]`, with the [`causal_mask`] of that length.
    pub(crate) fn forward(&self, x: Tensor<2>, mask: Tensor<4>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let [_, _, _, length] = mask.dims();
        let (heads, head_width) = (self.heads, width / self.heads);

        // Heads before slicing: the three slices are then views, which products read where they lie.
        let qkv = self
            .qkv
            .forward(x)
            .reshape([rows / length, length, 3 * heads, head_width])
            .swap_dims(1, 2); // [batch, 3 heads, length, head_width]
        let queries = qkv.clone().narrow(1, 0, heads);
        let keys = qkv.clone().narrow(1, heads, heads);
        let values = qkv.narrow(1, 2 * heads, heads);

        let queries = queries * (head_width as f64).powf(-0.5);
        let scores = queries.matmul(keys.swap_dims(2, 3)) + mask; // [batch, heads, length, length]

        // Softmax, its division left until after the product, where fewer elements are left to divide.
        // The maximum only keeps the exponentials in range and cancels out: it needs no gradient.
        let maximum = scores.clone().detach().max_dim(3);
        let weights = (scores - maximum).exp();
        let total = weights.clone().sum_dim(3);
        let mixed = weights.matmul(values) / total; // [batch, heads, length, head_width]

        self.output
            .forward(mixed.swap_dims(1, 2).reshape([rows, width]))
    }
}

/// What is added to attention scores so that no position sees a later one: 0 on and below the diagonal
/// and, above, a number so low that its exponential is exactly 0. `[1, 1, length, length]`.
pub(crate) fn causal_mask(length: usize, device: &Device, dtype: DType) -> Tensor<4> {
    // Not minus infinity: WGSL leaves it to the driver what arithmetic on infinities gives.
    Tensor::<2>::full([length, length], -1e9, (device, dtype))
        .triu(1)
        .unsqueeze()
}
