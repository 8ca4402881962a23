//! The whole network: embed, blocks, final norm, head.

use burn::module::{Module, Param};
use burn::nn::{Embedding, Linear};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::block::Block;
use crate::cache::KvCache;
use crate::config::{ModelConfig, Positions};
use crate::init::Initializer;
use crate::linear;
use crate::loss::{Objective, Targets, TokenLoss, TokenScores};
use crate::norm::Normalization;
use crate::ops;
use crate::positions::{Placement, Sight};
use crate::watch::{Operation, Pass};

/// A decoder-only transformer; [`ModelConfig::init`] makes one.
///
/// Token ids must be below the vocabulary's size: what an embedding does with others is the backend's
/// affair.
#[derive(Module, Debug)]
pub struct Transformer {
    token_embedding: Embedding,
    /// `None` unless positions are learned.
    position_embedding: Option<Embedding>,
    blocks: Vec<Block>,
    final_norm: Normalization,
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
            position_embedding: (config.positions == Positions::Learned)
                .then(|| init.embedding("position_embedding", config.context)),
            blocks: (0..config.layers)
                .map(|layer| Block::new(config, &init.child(&format!("blocks.{layer}"))))
                .collect(),
            final_norm: init.width_norm("final_norm"),
            head: (!config.tied_head)
                .then(|| init.linear_without_bias("head", config.width, config.vocab_size)),
            config: config.clone(),
        }
    }

    /// The shape this model was made with.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The same weights for a context that is at most as long, as nanoGPT's `crop_block_size`, and with this
    /// share of dropout.
    ///
    /// # Panics
    /// When the context is longer than the model's.
    pub fn adapted(mut self, context: usize, dropout: f64) -> Self {
        assert!(
            context <= self.config.context,
            "a context cannot be made longer"
        );
        if let Some(embedding) = &mut self.position_embedding
            && context < self.config.context
        {
            let weight = embedding.weight.val();
            let trained = weight.is_require_grad();
            let shorter = weight.narrow(0, 0, context).detach();
            let shorter = shorter.set_require_grad(trained);
            embedding.weight = Param::initialized(embedding.weight.id, shorter);
        }
        self.config.context = context;
        self.config.dropout = dropout;
        self
    }

    /// The device that holds the weights, and on which tokens are expected.
    pub fn device(&self) -> Device {
        self.token_embedding.weight.lazy_device()
    }

    /// Rows of token ids, all of one length, as this model takes them: `[batch, length]`, on its device.
    ///
    /// # Panics
    /// When there is no row, or they differ in length.
    pub fn tokens(&self, rows: &[&[u32]]) -> Tensor<2, Int> {
        let ids: Vec<i64> = rows.concat().into_iter().map(i64::from).collect();
        let data = TensorData::new(ids, [rows.len(), rows[0].len()]);
        Tensor::from_data(data, &self.device())
    }

    /// The precision of the weights.
    pub(crate) fn dtype(&self) -> DType {
        self.token_embedding.weight.val().dtype()
    }

    /// What the model knows after each token: `[batch, length] -> [batch, length, width]`, normalised.
    ///
    /// Position `t` depends on tokens `0..=t` alone.
    ///
    /// # Panics
    /// When `length` is 0 or more than the model's context.
    pub fn hidden(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.forward(tokens, None, Pass::default())
    }

    /// Reads `tokens`, which continue the sequences that `cache` holds, and adds them to the cache, which must have room for
    /// them. Returns what the model knows after the last of them, normalised: `[batch, 1, width]`.
    pub(crate) fn extend(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Tensor<3> {
        self.forward(tokens, Some(cache), Pass::default())
    }

    /// Hidden states of all positions or, with a cache, of the last one: `[batch, length or 1, width]`.
    fn forward(
        &self,
        tokens: Tensor<2, Int>,
        mut cache: Option<&mut KvCache>,
        pass: Pass<'_>,
    ) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let seen = cache.as_ref().map_or(0, |cache| cache.seen);
        let padding = cache.as_ref().map_or(vec![], |cache| cache.padding.clone());
        let placement = Placement {
            batch,
            seen,
            length,
            padding: &padding,
        };
        let (context, width) = (self.config.context, self.config.width);
        assert!(
            seen + length <= context,
            "{} tokens do not fit a context of {context}",
            seen + length
        );

        let embed = |[]: [Tensor<3>; 0]| match pass.is_fused() {
            true => {
                let table = self.token_embedding.weight.val();
                let rows = ops::embedding(table, tokens.reshape([batch * length]));
                rows.reshape([batch, length, width])
            }
            false => self.token_embedding.forward(tokens),
        };
        let mut x = pass.operation("token_embedding", Operation::Embedding, [], embed);
        if let Some(embedding) = &self.position_embedding {
            let add = |[x]: [Tensor<3>; 1]| x + positions(embedding, &placement);
            x = pass.operation("position_embedding", Operation::Positions, [x], add);
        }
        let x = pass.drop(x, self.config.dropout);
        // Attention is one operation where its scores are nobody's affair: all of them are new, and none dropped.
        let fused = pass.is_fused()
            && cache.is_none()
            && padding.is_empty()
            && pass.dropout_at(self.config.dropout).is_none();
        let sight = Sight::new(&self.config, &placement, fused, &x.device(), x.dtype());
        // All positions are rows of one matrix from here on: only attention looks across them, and one
        // large product is faster than one per sequence.
        let mut x = x.reshape([batch * length, width]);
        let returned = if cache.is_some() { 1 } else { length };
        for (layer, block) in self.blocks.iter().enumerate() {
            let cache = cache.as_deref_mut();
            let cache = cache.map(|cache| (&mut cache.layers[layer], seen));
            // Later tokens need the keys and values of every position, but no output of the last block.
            let is_last = layer + 1 == self.blocks.len();
            let positions = if is_last { returned } else { length };
            x = block.forward(x, &sight, cache, positions, pass.in_block(layer));
        }
        if let Some(cache) = cache {
            cache.seen += length;
        }
        let x = self.final_norm.watched("final_norm", pass, x);
        x.reshape([batch, returned, width])
    }

    /// Unnormalised log-probabilities of the token that follows each token:
    /// `[batch, length] -> [batch, length, vocab_size]`.
    ///
    /// # Panics
    /// When `length` is 0 or more than the model's context.
    pub fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.logits_in(Pass::default(), tokens)
    }

    /// As [`logits`](Self::logits), in a pass of training, a plain one or one that is watched.
    ///
    /// # Panics
    /// When `length` is 0 or more than the model's context.
    pub fn logits_in(&self, pass: Pass<'_>, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.unembed(self.forward(tokens, None, pass), pass)
    }

    /// Computes the logits of the last `positions` of each row: `[batch, length] -> [batch, positions, vocab_size]`. The
    /// pass reads all positions; only the head leaves the others out.
    ///
    /// # Panics
    ///
    /// Panics if `length` is more than the model's context, or `positions` is 0 or more than `length`.
    pub fn last_logits_in(
        &self,
        pass: Pass<'_>,
        tokens: Tensor<2, Int>,
        positions: usize,
    ) -> Tensor<3> {
        self.last_logits(self.forward(tokens, None, pass), positions, pass)
    }

    /// The [head](Self::unembed) of the last positions:
    /// `[batch, length, width] -> [batch, positions, vocab_size]`.
    pub(crate) fn last_logits(
        &self,
        hidden: Tensor<3>,
        positions: usize,
        pass: Pass<'_>,
    ) -> Tensor<3> {
        let [_, length, _] = hidden.dims();
        self.unembed(hidden.narrow(1, length - positions, positions), pass)
    }

    /// How well the model predicts `targets`, each from the `inputs` up to its own position; both are
    /// `[batch, length]`, and `targets` are usually the inputs' successors.
    ///
    /// # Panics
    /// When the shapes differ, or `length` is 0 or more than the model's context.
    pub fn next_token_loss(&self, inputs: Tensor<2, Int>, targets: Tensor<2, Int>) -> TokenLoss {
        self.next_token_loss_in(Pass::default(), inputs, targets)
    }

    /// As [`next_token_loss`](Self::next_token_loss), in a pass of training, a plain one or one that is watched, and of
    /// targets that may count differently.
    ///
    /// # Panics
    /// When the shapes differ, or `length` is 0 or more than the model's context.
    pub fn next_token_loss_in(
        &self,
        pass: Pass<'_>,
        inputs: Tensor<2, Int>,
        targets: impl Into<Targets>,
    ) -> TokenLoss {
        let targets = targets.into();
        let hidden = self.forward(inputs, None, pass);
        let objective = pass.objective();
        if pass.is_fused() {
            let (head, rule) = self.fused_head(objective);
            return TokenLoss::through(head, rule, hidden, targets);
        }
        let logits = self.unembed(hidden, pass);
        let exact = objective == Objective::default() && targets.weights.is_none();
        let kept = (!exact).then(|| logits.clone());
        let mut correct = None;
        let nats = pass.operation("loss", Operation::Loss, [logits], |[logits]| {
            let loss = TokenLoss::from_logits(logits, targets.ids.clone());
            correct = Some(loss.correct);
            // Without an objective of its own it is the nats, with their gradient.
            loss.loss.unsqueeze_dim::<3>(2)
        });
        let correct = correct.expect("the loss is computed");
        let loss = TokenLoss::exact(nats.squeeze_dim(2), correct);
        match kept {
            Some(logits) => loss.toward(objective, logits, targets),
            None => loss,
        }
    }

    /// Scores `targets`, each predicted from the `inputs` up to its own position; both are `[batch, length]`. No gradient,
    /// and no logits of more than some rows at a time.
    ///
    /// # Panics
    /// When the shapes differ, or `length` is 0 or more than the model's context.
    pub fn token_scores(&self, inputs: Tensor<2, Int>, targets: Tensor<2, Int>) -> TokenScores {
        let hidden = self.hidden(inputs);
        let [batch, length, width] = hidden.dims();
        let (rows, shape) = (batch * length, [batch, length]);
        let (head, rule) = self.fused_head(Objective::default());
        let (nats, top_nats, rank) = ops::token_scores(
            hidden.reshape([rows, width]),
            head,
            targets.reshape([rows]),
            rule,
        );
        TokenScores {
            nats: nats.reshape(shape),
            top_nats: top_nats.reshape(shape),
            rank: rank.reshape(shape),
        }
    }

    /// Computes logits from [hidden](Self::hidden) vectors, or from some positions of them:
    /// `[batch, length, width] -> [batch, length, vocab_size]`. Logits of a large vocabulary that do not fit into memory
    /// at once can be computed part by part.
    ///
    /// # Panics
    ///
    /// Panics if `width` is not the model's.
    pub fn logits_from_hidden(&self, hidden: Tensor<3>) -> Tensor<3> {
        self.unembed(hidden, Pass::default())
    }

    /// The head as fused operations take it.
    fn fused_head(&self, objective: Objective) -> (Tensor<2>, ops::Head) {
        let (head, by_token) = match &self.head {
            Some(head) => (head.weight.val(), false),
            None => (self.token_embedding.weight.val(), true),
        };
        let rule = ops::Head {
            by_token,
            cap: self.config.logit_cap,
            objective,
        };
        (head, rule)
    }

    /// The head: `[batch, length, width] -> [batch, length, vocab_size]`.
    pub(crate) fn unembed(&self, hidden: Tensor<3>, pass: Pass<'_>) -> Tensor<3> {
        let [batch, length, width] = hidden.dims();
        let rows = hidden.reshape([batch * length, width]);
        let head = |[rows]: [Tensor<2>; 1]| match &self.head {
            Some(head) => linear::forward(head, rows, pass),
            None => {
                let weight = self.token_embedding.weight.val().transpose();
                linear::product(rows, weight, None, pass)
            }
        };
        let mut logits = pass.operation("head", Operation::Linear, [rows], head);
        if let Some(cap) = self.config.logit_cap {
            let capped = |[logits]: [Tensor<2>; 1]| ops::capped(logits, cap);
            logits = pass.operation("logit_cap", Operation::LogitCap, [logits], capped);
        }
        logits.reshape([batch, length, self.config.vocab_size])
    }
}

/// The vectors of the positions that `placement` computes, `[1 or batch, length, width]`.
fn positions(embedding: &Embedding, placement: &Placement<'_>) -> Tensor<3> {
    let Placement { seen, length, .. } = *placement;
    if placement.padding.is_empty() {
        let positions = embedding.weight.val().narrow(0, seen, length);
        return positions.unsqueeze();
    }
    let positions = placement.positions().concat();
    let ids: Vec<i64> = positions.into_iter().map(|id| id as i64).collect();
    let data = TensorData::new(ids, [placement.batch, length]);
    embedding.forward(Tensor::from_data(data, &embedding.weight.device()))
}
