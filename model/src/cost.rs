//! What a model costs, told from its configuration alone: parameters by part, and memory. Floating-point
//! operations are [`ModelConfig::flops_per_token`].

use serde::{Deserialize, Serialize};

use crate::config::{Activation, ModelConfig, Positions};
use crate::ops::LOGITS;

/// Bytes of an f32, in which weights, activations and caches are kept.
const F32: u64 = 4;

/// A part of the network, by what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Token ids, and positions where they are learned, to vectors.
    Embeddings,
    /// Queries, keys, values and what is written back.
    Attention,
    /// Position by position.
    FeedForward,
    /// Gains and biases of all norms.
    Norms,
    /// Vectors to logits; nothing where it is the token embedding transposed.
    Head,
}

impl Part {
    /// Every part, in the order in which a token passes them.
    pub const ALL: [Self; 5] = [
        Self::Embeddings,
        Self::Attention,
        Self::FeedForward,
        Self::Norms,
        Self::Head,
    ];

    /// The part that a parameter belongs to, given its path in the module tree.
    pub fn of(path: &str) -> Self {
        let names: Vec<&str> = path.split('.').collect();
        let module = names.iter().rev().nth(1).copied().unwrap_or_default();
        match names[0] {
            _ if module.ends_with("norm") => Self::Norms,
            "head" => Self::Head,
            "blocks" if names.contains(&"attention") => Self::Attention,
            "blocks" => Self::FeedForward,
            _ => Self::Embeddings,
        }
    }
}

/// Bytes that a training step needs in f32, at its peak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingMemory {
    /// The parameters.
    pub weights: u64,
    /// As many again.
    pub gradients: u64,
    /// AdamW's running means of gradients and of their squares.
    pub moments: u64,
    /// What the forward pass leaves for the backward pass, and what that needs at once to begin with.
    pub activations: u64,
}

impl TrainingMemory {
    /// All of it.
    pub fn total(&self) -> u64 {
        let parts = [self.gradients, self.moments, self.activations];
        parts.into_iter().fold(self.weights, u64::saturating_add)
    }
}

/// Bytes that generation needs in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationMemory {
    /// The parameters.
    pub weights: u64,
    /// Keys and values of the tokens seen.
    pub cache: u64,
}

impl GenerationMemory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.cache)
    }
}

impl ModelConfig {
    /// Number of parameters of one part.
    pub fn parameters_of(&self, part: Part) -> usize {
        let tensors = self.tensors().into_iter();
        tensors
            .filter(|(path, _)| Part::of(path) == part)
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Memory of a training step on `batch` windows of `length` tokens, backward pass included.
    ///
    /// Weights, gradients and moments are exact. Activations are counted from what the [fused](crate::ops) operations
    /// keep, with dropout from what Burn's own keep of attention; that of the head's gradient is not among them.
    pub fn training_memory(&self, batch: usize, length: usize) -> TrainingMemory {
        let weights = F32 * self.parameters() as u64;
        TrainingMemory {
            weights,
            gradients: weights,
            moments: 2 * weights,
            activations: (F32 as f64 * self.activations(batch as f64, length as f64)) as u64,
        }
    }

    /// Memory of generating `batch` texts of `length` tokens, prompts included, with a key/value cache.
    pub fn generation_memory(&self, batch: usize, length: usize) -> GenerationMemory {
        let per_token = 2 * self.layers * self.kv_heads * self.head_width();
        let tokens = (batch as u64).saturating_mul(length as u64);
        GenerationMemory {
            weights: F32 * self.parameters() as u64,
            cache: tokens.saturating_mul(F32 * per_token as u64),
        }
    }

    /// Numbers kept for the backward pass, and what else there is at the moment when they are most. Operations that
    /// keep nothing, such as additions, do not appear; neither do numbers of which there are fewer than
    /// `rows · heads`.
    fn activations(&self, batch: f64, length: f64) -> f64 {
        let rows = batch * length;
        let (width, hidden, vocab_size) = (
            self.width as f64,
            self.hidden as f64,
            self.vocab_size as f64,
        );
        let queries = (self.heads * self.head_width()) as f64;
        let keys = (self.kv_heads * self.head_width()) as f64;
        let when = |condition: bool, numbers: f64| if condition { numbers } else { 0.0 };
        let dropout = self.dropout > 0.0;

        // What goes in, which is the residual stream, and what comes out.
        let stream = rows * width;
        let norm = 2.0 * stream;
        // The product of queries, keys and values, and what is mixed in.
        let mixed = rows * (queries + 2.0 * keys) + rows * queries;
        // The product before queries and keys are turned, and those before their gains.
        let heads_normed = rows * (queries + 2.0 * keys) + rows * (queries + keys);
        // What goes into the activation, of SwiGLU two of it.
        let inner = match self.activation {
            Activation::SwiGlu => 2.0 * rows * hidden,
            _ => rows * hidden,
        };
        // Where nothing is dropped, a half is one operation, which computes normalised rows and activations again.
        let attention = match (dropout, self.qk_norm) {
            (true, _) => norm + self.attention_one_by_one(batch, length) + stream,
            (false, true) => norm + mixed + heads_normed,
            (false, false) => stream + mixed,
        };
        let feed_forward = match dropout {
            true => norm + inner + rows * hidden + stream,
            false => stream + inner,
        };
        let kept = self.layers as f64 * (attention + feed_forward);

        // Logits exist with all the rest, the final norm's and the gradient of what they come from. Or, where they are
        // fewer, the last feed-forward half's gradients and its activation.
        let most = (LOGITS as f64 / vocab_size).max(64.0);
        let held = rows / (rows / most).ceil();
        let head = norm + held * vocab_size + stream;
        let last = match dropout {
            true => norm + rows * hidden,
            false => inner + rows * hidden + stream,
        };
        kept + head.max(last) + when(dropout, stream)
    }

    /// The same of attention alone, made of Burn's operations.
    fn attention_one_by_one(&self, batch: f64, length: f64) -> f64 {
        let rows = batch * length;
        let queries = (self.heads * self.head_width()) as f64;
        let keys = (self.kv_heads * self.head_width()) as f64;
        let scores = rows * self.heads as f64 * length;
        let rotary = self.positions == Positions::Rotary;
        let when = |condition: bool, numbers: f64| if condition { numbers } else { 0.0 };
        // The product of all three, scaled queries, what is mixed in before and after it is divided by the sum;
        // scores, their exponentials and what is left out of those.
        rows * (queries + 2.0 * keys) + 3.0 * rows * queries + 3.0 * scores
            // Turned keys.
            + when(rotary, rows * keys)
            // Queries and keys before their gains, and keys after them.
            + when(self.qk_norm, rows * (queries + keys))
            + when(self.qk_norm && !rotary, rows * keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_whole() {
        for name in ModelConfig::PRESETS {
            let config = ModelConfig::preset(name).unwrap();
            let parts = Part::ALL.map(|part| config.parameters_of(part));
            assert_eq!(parts.iter().sum::<usize>(), config.parameters(), "{name}");
        }
    }

    #[test]
    fn parts_are_counted_by_hand() {
        let of = |config: &ModelConfig| Part::ALL.map(|part| config.parameters_of(part));
        let (width, hidden) = (768, 3072);
        let gpt2 = ModelConfig::preset("gpt2").unwrap();
        let expected = [
            (50_257 + 1024) * width,
            12 * (width * 3 * width + 3 * width + width * width + width),
            12 * (2 * width * hidden + hidden + width),
            25 * 2 * width,
            0,
        ];
        assert_eq!(of(&gpt2), expected);

        let llama = ModelConfig {
            qk_norm: true,
            ..ModelConfig::preset("llama-tiny").unwrap()
        };
        // Width 32: 4 heads of 8, 2 of which have keys and values; SwiGLU of width 96.
        let expected = [
            256 * 32,
            2 * (32 * (32 + 2 * 16) + 32 * 32),
            2 * 3 * 32 * 96,
            5 * 32 + 2 * 2 * 8,
            32 * 256,
        ];
        assert_eq!(of(&llama), expected);
    }

    #[test]
    fn generation_keeps_keys_and_values_of_every_token() {
        // GPT-2: 2 · 12 layers · 768 numbers per token; 72 MiB for a whole context.
        let gpt2 = ModelConfig::preset("gpt2").unwrap();
        let memory = gpt2.generation_memory(1, 1024);
        assert_eq!(memory.weights, 4 * 124_439_808);
        assert_eq!(memory.cache, 72 << 20);
        assert_eq!(gpt2.generation_memory(3, 100).cache, 300 * 2 * 12 * 768 * 4);
        // Llama 3: 8 of 32 heads have keys and values, of width 128.
        let llama = ModelConfig::preset("llama-3-8b").unwrap();
        let cache = 8192 * 2 * 32 * 8 * 128 * 4;
        assert_eq!(llama.generation_memory(1, 8192).cache, cache);
    }

    #[test]
    fn training_keeps_four_times_the_weights_and_activations_that_grow_with_the_batch() {
        let gpt2 = ModelConfig::preset("gpt2").unwrap();
        let one = gpt2.training_memory(1, 1024);
        assert_eq!(one.total() - one.activations, 4 * one.weights);
        let eight = gpt2.training_memory(8, 1024);
        // All but the logits, of which only so many are held.
        assert!(eight.activations > 6 * one.activations);
        assert!(eight.activations < 8 * one.activations);
        assert_eq!(eight.weights, one.weights);
        // Twice the length is twice as much: no scores are kept, unless some of them are dropped.
        assert_eq!(
            gpt2.training_memory(4, 512).activations,
            gpt2.training_memory(2, 1024).activations
        );
        let dropout = ModelConfig {
            dropout: 0.1,
            ..gpt2
        };
        assert!(
            dropout.training_memory(1, 512).activations * 2
                < dropout.training_memory(1, 1024).activations
        );
    }
}
