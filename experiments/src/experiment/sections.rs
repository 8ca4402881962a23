//! The sections of an experiment file, with their defaults.

use foretoken_datasets::world::WorldConfig;
use foretoken_model::{Gelu, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::backend::Backend;

/// `[data]`: exactly one of `path`, `world` and `mixture`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// A folder that `foretoken data build` has written; a folder of nanoGPT's or llm.c's `.bin` files; or
    /// text (a file, a folder or a glob), which is built into a cache on first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of text: `byte`, `char` (the default), `bpe:VOCAB` or the path of a `tokenizer.json`. Of `.bin`
    /// files: the `tokenizer.json` that they were made with. A built folder has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Of text: the field of JSON Lines, or the column of Parquet.
    #[serde(default = "DataSection::default_text_field")]
    pub text_field: String,
    /// Of text: the share that is for validation.
    #[serde(default = "DataSection::default_valid")]
    pub valid: f64,
    /// Which windows are read, in which order.
    #[serde(default)]
    pub windows: WindowKind,
    /// How much training targets count.
    #[serde(default, skip_serializing_if = "LossWeight::is_one")]
    pub loss_weight: LossWeight,
    /// The synthetic world, whose entropy is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world: Option<WorldConfig>,
    /// Several datasets of one tokenizer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixture: Vec<MixtureEntry>,
}

impl DataSection {
    /// What makes tokens of text where the experiment does not say.
    pub const DEFAULT_TOKENIZER: &str = "char";

    fn default_text_field() -> String {
        "text".into()
    }

    fn default_valid() -> f64 {
        0.1
    }
}

/// `[[data.mixture]]`: one dataset of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureEntry {
    /// As `data.path`.
    pub path: String,
    /// Its share of the training windows is `weight` over the sum of all weights.
    #[serde(default = "MixtureEntry::default_weight")]
    pub weight: f64,
    /// How much its training targets count.
    #[serde(default, skip_serializing_if = "LossWeight::is_one")]
    pub loss_weight: LossWeight,
}

impl MixtureEntry {
    fn default_weight() -> f64 {
        1.0
    }
}

/// How much training targets count in the loss, which is the weighted mean over them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LossWeight {
    /// All targets of a dataset the same.
    Constant(f32),
    /// Each its own: a file of little-endian f32, one for each training token in its place as a target.
    File(String),
}

impl Default for LossWeight {
    fn default() -> Self {
        Self::Constant(1.0)
    }
}

impl LossWeight {
    fn is_one(&self) -> bool {
        *self == Self::default()
    }
}

/// Which training windows are read, in which order: a pure function of (seed, step, row) in each case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// Each window once per epoch, in an order of its own.
    #[default]
    Epoch,
    /// Anywhere, independently.
    Random,
    /// Each starts in one document, and targets of the next do not count; once per epoch.
    Documents,
}

/// `[model]`: a GPT-2 style decoder-only transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Longest window the model reads, in tokens.
    pub context: usize,
    /// Number of residual blocks.
    pub layers: usize,
    /// Attention heads; must divide `width`.
    pub heads: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the feed-forward layer; by default 4 × `width`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Rows of the embedding table; by default the tokenizer's vocabulary, never less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Whether linear layers and norms have biases.
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether the output head is the token embedding, transposed.
    #[serde(default = "yes")]
    pub tied_head: bool,
    /// `tanh` (the approximation GPT-2 uses) or `exact`.
    #[serde(default = "ModelSection::default_gelu")]
    pub gelu: Gelu,
}

fn yes() -> bool {
    true
}

impl ModelSection {
    fn default_gelu() -> Gelu {
        Gelu::Tanh
    }

    /// The model's configuration for a tokenizer with `tokens` entries.
    ///
    /// # Errors
    ///
    /// When `vocab_size` is smaller than the tokenizer's vocabulary, or the shape contradicts itself.
    pub fn config(&self, tokens: usize) -> Result<ModelConfig, Error> {
        let vocab_size = self.vocab_size.unwrap_or(tokens);
        if vocab_size < tokens {
            return Err(Error::Experiment {
                origin: "model.vocab_size".into(),
                message: format!(
                    "{vocab_size} is smaller than the tokenizer's vocabulary of {tokens}; raise it or remove the key"
                ),
            });
        }
        let mut config = ModelConfig::new(
            vocab_size,
            self.context,
            self.layers,
            self.heads,
            self.width,
        )
        .with_bias(self.bias)
        .with_tied_head(self.tied_head)
        .with_gelu(self.gelu);
        if let Some(hidden) = self.hidden {
            config = config.with_hidden(hidden);
        }
        config.validate()?;
        Ok(config)
    }
}

/// `[train]`: how long, on which windows, and when to look up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// Seeds the initial weights, the order of windows and the sample.
    #[serde(default)]
    pub seed: u64,
    /// Optimizer steps.
    pub steps: usize,
    /// Windows per micro-batch.
    pub batch: usize,
    /// Micro-batches per step; the gradient is their mean.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// Steps between evaluations, each followed by a checkpoint.
    pub eval_every: usize,
    /// Validation windows per evaluation, spread evenly and the same each time; 0 reads the whole
    /// split. The figures at the end are always those of the whole split.
    #[serde(default)]
    pub eval_windows: usize,
    /// Stop after this many evaluations in a row without a better validation loss; 0 never stops.
    #[serde(default)]
    pub early_stop: usize,
    /// Tokens of text to generate at the end.
    #[serde(default = "TrainSection::default_sample_tokens")]
    pub sample_tokens: usize,
}

fn one() -> usize {
    1
}

impl TrainSection {
    fn default_sample_tokens() -> usize {
        300
    }
}

/// `[backend]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSection {
    /// A name that `foretoken backends` lists.
    pub name: Backend,
}

impl Default for BackendSection {
    fn default() -> Self {
        Self {
            name: Backend::default_backend(),
        }
    }
}
