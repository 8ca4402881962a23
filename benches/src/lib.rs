//! Code shared by the Criterion benches of foretoken (`benches/`) and by the race of its training step against PyTorch
//! (`src/race.rs`).

use foretoken::backend::Backend;
use foretoken_model::ModelConfig;
use serde::Serialize;

/// Shape of nanoGPT's character-level model for a CPU: vocabulary 65, context 64, batch 12, 4 layers, 4 heads, width
/// 128.
pub const CHAR: Shape = Shape {
    name: "char",
    vocab_size: 65,
    context: 64,
    batch: 12,
    layers: 4,
    heads: 4,
    width: 128,
};

/// Shape of nanoGPT's character-level model: vocabulary 65, context 256, 6 layers, 6 heads, width 384, and a quarter of
/// its batch.
pub const BABY: Shape = Shape {
    name: "baby",
    vocab_size: 65,
    context: 256,
    batch: 16,
    layers: 6,
    heads: 6,
    width: 384,
};

/// Shape of a small model with the vocabulary of GPT-2, rounded up to a multiple of 64. The head costs more than all
/// other layers.
pub const VOCAB: Shape = Shape {
    name: "vocab",
    vocab_size: 50_304,
    context: 256,
    batch: 4,
    layers: 6,
    heads: 8,
    width: 512,
};

/// Sizes of a model and of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Name in reports.
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

impl Shape {
    /// All shapes, from the cheapest.
    pub const ALL: [Self; 3] = [CHAR, BABY, VOCAB];

    /// Returns the configuration of a GPT-2 of this shape.
    pub fn model(&self) -> ModelConfig {
        ModelConfig::new(
            self.vocab_size,
            self.context,
            self.layers,
            self.heads,
            self.width,
        )
    }

    /// Returns the number of targets in a step.
    pub fn tokens_per_step(&self) -> usize {
        self.batch * self.context
    }
}

/// Returns the compiled-in backends that have a device on this machine.
pub fn usable_backends() -> Vec<Backend> {
    Backend::ALL
        .into_iter()
        .filter(|backend| backend.device().is_ok())
        .collect()
}
