//! The whole network: embed, blocks, final norm, head.

use burn::module::Module;
use burn::nn::{Embedding, LayerNorm, Linear};
use burn::tensor::module::linear;
use burn::tensor::{Device, Int, Tensor};

use crate::attention::causal_mask;
use crate::block::Block;
use crate::config::ModelConfig;
use crate::init::Initializer;
use crate::loss::TokenLoss;

/// A decoder-only transformer; [`ModelConfig::init`] makes one.
///
/// Token ids must be below the vocabulary's size: what an embedding does with others is the backend's
/// affair.
#[derive(Module, Debug)]
pub struct Transformer {
    token_embedding: Embedding,
    position_embedding: Embedding,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    /// `None` where the head is the token embedding transposed.
    head: Option<Linear>,
    #[module(skip)]
    config: ModelConfig,
}

impl Transformer {
    /// `config` is valid.
    pub(crate) fn new(config: &ModelConfig, seed: u64, device: &Device) -> Self {
        let init = Initializer::new(config, seed, device);
        Self {
            token_embedding: init.embedding("token_embedding", config.vocab_size),
            position_embedding: init.embedding("position_embedding", config.context),
            blocks: (0..config.layers)
                .map(|layer| Block::new(config, &init.child(&format!("blocks.{layer}"))))
                .collect(),
            final_norm: init.layer_norm("final_norm"),
            head: (!config.tied_head)
                .then(|| init.linear_without_bias("head", config.width, config.vocab_size)),
            config: config.clone(),
        }
    }

    /// The shape this model was made with.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device that holds the weights, and on which tokens are expected.
    pub fn device(&self) -> Device {
        self.token_embedding.weight.lazy_device()
    }

    /// What the model knows after each token: `[batch, length] -> [batch, length, width]`, normalised.
    ///
    /// Position `t` depends on tokens `0..=t` alone.
    ///
    /// # Panics
    /// When `length` is 0 or more than the model's context.
    pub fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let context = self.config.context;
        assert!(
            length <= context,
            "{length} tokens do not fit a context of {context}"
        );
        let positions = self.position_embedding.weight.val().narrow(0, 0, length);
        let x = self.token_embedding.forward(tokens) + positions.unsqueeze();
        let mask = causal_mask(length, &x.device(), x.dtype());
        // All positions are rows of one matrix from here on: only attention looks across them, and one
        // large product is faster than one per sequence.
        let width = self.config.width;
        let mut x = x.reshape([batch * length, width]);
        for block in &self.blocks {
            x = block.forward(x, mask.clone());
        }
        self.final_norm.forward(x).reshape([batch, length, width])
    }

    /// Unnormalised log-probabilities of the token that follows each token:
    /// `[batch, length] -> [batch, length, vocab_size]`.
    ///
    /// # Panics
    /// When `length` is 0 or more than the model's context.
    pub fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.unembed(self.hidden(tokens))
    }

    /// How well the model predicts `targets`, each from the `inputs` up to its own position; both are
    /// `[batch, length]`, and `targets` are usually the inputs' successors.
    ///
    /// # Panics
    /// When the shapes differ, or `length` is 0 or more than the model's context.
    pub fn next_token_loss(&self, inputs: Tensor<2, Int>, targets: Tensor<2, Int>) -> TokenLoss {
        TokenLoss::from_logits(self.logits(inputs), targets)
    }

    /// The head: `[batch, length, width] -> [batch, length, vocab_size]`.
    pub(crate) fn unembed(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = hidden.dims();
        let rows = hidden.reshape([batch * length, width]);
        let logits = match &self.head {
            Some(head) => head.forward(rows),
            None => linear(rows, self.token_embedding.weight.val().transpose(), None),
        };
        logits.reshape([batch, length, self.config.vocab_size])
    }
}
