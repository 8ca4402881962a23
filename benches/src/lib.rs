//! Criterion benches of foretoken; see `benches/`. This library holds only what they share.

use foretoken::backend::Backend;

/// The shape of nanoGPT's character-level model for a CPU: vocabulary 65, context 64, batch 12,
/// 4 layers, 4 heads, width 128.
pub const CHAR: Shape = Shape {
    name: "char",
    vocab_size: 65,
    context: 64,
    batch: 12,
    layers: 4,
    heads: 4,
    width: 128,
};

/// A model and the batch it is trained on.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What reports call it.
    pub name: &'static str,
    /// Tokens in the vocabulary.
    pub vocab_size: usize,
    /// Tokens per window.
    pub context: usize,
    /// Windows per step.
    pub batch: usize,
    /// Residual blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the residual stream.
    pub width: usize,
}

/// Every compiled-in backend that has a device here.
pub fn usable_backends() -> Vec<Backend> {
    Backend::ALL
        .into_iter()
        .filter(|backend| backend.device().is_ok())
        .collect()
}
