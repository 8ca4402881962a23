//! The sections of an experiment file, with their defaults.

use std::path::{Path, PathBuf};

use foretoken_datasets::world::WorldConfig;
use foretoken_datasets::{Corpus, Format, Manifest, Subset};
use foretoken_model::{Activation, ModelConfig, Norm, Objective, Positions, RotaryScaling};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::spelling::nearest;

/// The section `[data]`, with exactly one of `path`, `world` and `mixture`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSection {
    /// A folder written by `foretoken data build`; a folder of nanoGPT's or llm.c's `.bin` files; or
    /// text (a file, a folder or a glob), which is built into a cache on first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// For text: `byte`, `char` (the default), `bpe:VOCAB` or the path of a `tokenizer.json`. For `.bin`
    /// files: the `tokenizer.json` that they were made with. A built folder has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// Bytes of an id in `.bin` files without a header, 2 or 4. Required if both are possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_bytes: Option<usize>,
    /// The format of all text files. Defaults to that of their extensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The field of JSON, or the column of CSV, TSV and Parquet, that contains the text.
    #[serde(default = "DataSection::default_text_field")]
    pub text_field: String,
    /// The share of a text that is for validation.
    #[serde(default = "DataSection::default_valid")]
    pub valid: f64,
    /// The choice and order of training windows.
    #[serde(default)]
    pub windows: WindowKind,
    /// The loss weights of training targets.
    #[serde(default, skip_serializing_if = "LossWeight::is_one")]
    pub loss_weight: LossWeight,
    /// The documents of the training text that are trained on, if not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<SubsetSection>,
    /// The synthetic world, whose entropy is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world: Option<WorldConfig>,
    /// Several datasets with one tokenizer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mixture: Vec<MixtureEntry>,
}

impl DataSection {
    /// Default tokenizer of text.
    pub const DEFAULT_TOKENIZER: &str = "char";

    /// Returns the section of a folder of tokens. `tokenizer` is the file of the tokenizer, for `.bin` files without one.
    ///
    /// # Errors
    ///
    /// Returns an error if `path` is not a folder of tokens, or a path is not UTF-8.
    pub fn of_tokens(path: &Path, tokenizer: Option<&Path>) -> Result<Self, Error> {
        let refuse = |message: &str| Error::Experiment {
            origin: path.display().to_string(),
            message: message.into(),
        };
        if !Corpus::is_tokens(path)? {
            return Err(refuse(
                "is not a folder of tokens, which foretoken data build writes, nor an experiment file; give text as TEXT",
            ));
        }
        let text = |path: &Path| path.to_str().map(String::from);
        let Some(folder) = text(path) else {
            return Err(refuse("its path is not UTF-8; rename it"));
        };
        let built = path.join(Manifest::FILE).exists();
        Ok(Self {
            path: Some(folder),
            tokenizer: tokenizer.filter(|_| !built).and_then(text),
            id_bytes: None,
            format: None,
            text_field: Self::default_text_field(),
            valid: Self::default_valid(),
            windows: WindowKind::default(),
            loss_weight: LossWeight::default(),
            subset: None,
            world: None,
            mixture: Vec::new(),
        })
    }

    /// Returns whether any source is a folder written by `foretoken data build`, which has its own tokenizer.
    pub(crate) fn is_built(&self) -> bool {
        let paths = self.mixture.iter().map(|entry| &entry.path);
        paths
            .chain(&self.path)
            .any(|path| Path::new(path).join(Manifest::FILE).exists())
    }

    fn default_text_field() -> String {
        "text".into()
    }

    fn default_valid() -> f64 {
        0.1
    }
}

/// The table `data.subset`: a choice of documents by a seeded hash of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubsetSection {
    /// The share of the documents that is trained on.
    #[serde(default = "SubsetSection::default_share")]
    pub share: f64,
    /// The seed of the choice.
    #[serde(default)]
    pub seed: u64,
}

impl SubsetSection {
    /// Returns the choice.
    pub fn subset(self) -> Subset {
        let Self { share, seed } = self;
        Subset { share, seed }
    }

    fn default_share() -> f64 {
        0.5
    }
}

/// An entry of `[[data.mixture]]`: one of several datasets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixtureEntry {
    /// The source, as in `data.path`.
    pub path: String,
    /// The weight of the dataset. Its share of the training windows is this over the sum of all weights.
    #[serde(default = "MixtureEntry::default_weight")]
    pub weight: f64,
    /// The loss weights of its training targets.
    #[serde(default, skip_serializing_if = "LossWeight::is_one")]
    pub loss_weight: LossWeight,
}

impl MixtureEntry {
    fn default_weight() -> f64 {
        1.0
    }
}

/// Weights of training targets in the loss, which is the weighted mean over them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LossWeight {
    /// One weight for all targets of a dataset.
    Constant(f32),
    /// A weight for each target: a file of little-endian f32, one for each training token as a target, in order.
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

/// The choice and order of training windows, which are a pure function of (seed, step, row).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowKind {
    /// Each window once per epoch, in a new order for each epoch.
    #[default]
    Epoch,
    /// Windows at independent random offsets.
    Random,
    /// Each window once per epoch. It starts in one document, and targets of the next document have weight 0.
    Documents,
}

/// The section `[model]`: the transformer. A missing key comes from `preset` or `init_from`, or else from GPT-2, except
/// that `context`, `layers`, `heads` and `width` are then required.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// A name from [`ModelConfig::PRESETS`]. Keys given here override those of the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A model whose weights training starts from. Keys given here must agree with it, except that `context` may
    /// be shorter and `dropout` may differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// Longest window that the model reads, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Number of residual blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Number of attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Number of heads of keys and values. Defaults to `heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    /// Width of one head. Defaults to `width / heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Width of the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Width of the feed-forward layer. Defaults to [`Activation::usual_hidden`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Rows of the embedding table. Defaults to the tokenizer's vocabulary, and cannot be less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Whether linear layers and LayerNorms have biases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<bool>,
    /// Whether the output head is the token embedding, transposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied_head: Option<bool>,
    /// The kind of norm: `layer` or `rms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// Constant added to the variance or the mean square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_epsilon: Option<f64>,
    /// The kind of position encoding: `learned`, `rotary` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
    /// Base of rotary positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_theta: Option<f64>,
    /// Whether queries and keys are normalised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_norm: Option<bool>,
    /// Number of tokens that a token attends to. Defaults to all before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// The activation: `gelu-tanh` (the approximation that GPT-2 uses), `gelu`, `swiglu` or `relu2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Soft cap of the logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_cap: Option<f64>,
    /// Share of activations that are dropped in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Llama 3's scaling of rotary positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_scaling: Option<RotaryScaling>,
}

impl ModelSection {
    /// Returns the section with every key of `config`.
    pub fn of(config: &ModelConfig, init_from: Option<PathBuf>) -> Self {
        let config = config.clone();
        Self {
            preset: None,
            init_from,
            context: Some(config.context),
            layers: Some(config.layers),
            heads: Some(config.heads),
            kv_heads: Some(config.kv_heads),
            head_width: config.head_width,
            width: Some(config.width),
            hidden: Some(config.hidden),
            vocab_size: Some(config.vocab_size),
            bias: Some(config.bias),
            tied_head: Some(config.tied_head),
            norm: Some(config.norm),
            norm_epsilon: Some(config.norm_epsilon),
            positions: Some(config.positions),
            rotary_theta: Some(config.rotary_theta),
            qk_norm: Some(config.qk_norm),
            window: config.window,
            activation: Some(config.activation),
            logit_cap: config.logit_cap,
            dropout: Some(config.dropout),
            rotary_scaling: config.rotary_scaling,
        }
    }

    /// Returns the configuration that this section's keys override, if no model is given to start from: the preset, or
    /// GPT-2 in the given size. Errors name the key.
    pub(crate) fn base(&self) -> Result<ModelConfig, (&'static str, String)> {
        if let Some(name) = &self.preset {
            return ModelConfig::preset(name).ok_or_else(|| {
                let advice = match nearest(name, ModelConfig::PRESETS) {
                    Some(nearest) => format!("did you mean {nearest:?}?"),
                    None => format!("the presets are {}", ModelConfig::PRESETS.join(", ")),
                };
                (
                    "model.preset",
                    format!("no preset is called {name:?}; {advice}"),
                )
            });
        }
        let missing = |key: &'static str| {
            let message = "is missing; set it, or name a model.preset such as \"gpt2\"";
            (key, message.to_string())
        };
        Ok(ModelConfig::new(
            self.vocab_size.unwrap_or(1),
            self.context.ok_or_else(|| missing("model.context"))?,
            self.layers.ok_or_else(|| missing("model.layers"))?,
            self.heads.ok_or_else(|| missing("model.heads"))?,
            self.width.ok_or_else(|| missing("model.width"))?,
        ))
    }

    /// Returns the model's configuration for a tokenizer with `tokens` entries. `given` is the model to start from, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// Returns an error if keys are missing or contradict each other or the given model, or if `vocab_size` is smaller
    /// than the tokenizer's vocabulary.
    pub fn config(&self, tokens: usize, given: Option<&ModelConfig>) -> Result<ModelConfig, Error> {
        let refused = |key: &str, message: String| Error::Experiment {
            origin: key.into(),
            message,
        };
        if let (Some(_), Some(_)) = (&self.preset, &self.init_from) {
            let message =
                "the model to start from already has an architecture; leave out model.preset";
            return Err(refused("model.init_from", message.into()));
        }
        let base = match given {
            Some(given) => given.clone(),
            None => ModelConfig {
                vocab_size: self.vocab_size.unwrap_or(tokens),
                ..self
                    .base()
                    .map_err(|(key, message)| refused(key, message))?
            },
        };
        let config = self.override_keys(base);
        config
            .validate()
            .map_err(|error| refused("[model]", error.to_string()))?;
        if let Some(given) = given {
            disagreement(&config, given)
                .map_or(Ok(()), |(key, message)| Err(refused(&key, message)))?;
        }
        if config.vocab_size < tokens {
            let message = format!(
                "{} is less than the tokenizer's vocabulary of {tokens}; raise it or remove the key",
                config.vocab_size
            );
            return Err(refused("model.vocab_size", message));
        }
        Ok(config)
    }

    /// Returns `base` with the keys given here, and with keys that depend on them.
    fn override_keys(&self, base: ModelConfig) -> ModelConfig {
        let heads = self.heads.unwrap_or(base.heads);
        let width = self.width.unwrap_or(base.width);
        let activation = self.activation.unwrap_or(base.activation);
        let same_heads = heads == base.heads;
        let same_hidden = width == base.width && activation == base.activation;
        let usual_hidden = activation.usual_hidden(width);
        ModelConfig {
            vocab_size: self.vocab_size.unwrap_or(base.vocab_size),
            context: self.context.unwrap_or(base.context),
            layers: self.layers.unwrap_or(base.layers),
            heads,
            kv_heads: self
                .kv_heads
                .unwrap_or(if same_heads { base.kv_heads } else { heads }),
            head_width: self.head_width.or(base.head_width),
            width,
            hidden: self.hidden.unwrap_or(if same_hidden {
                base.hidden
            } else {
                usual_hidden
            }),
            bias: self.bias.unwrap_or(base.bias),
            tied_head: self.tied_head.unwrap_or(base.tied_head),
            norm: self.norm.unwrap_or(base.norm),
            norm_epsilon: self.norm_epsilon.unwrap_or(base.norm_epsilon),
            positions: self.positions.unwrap_or(base.positions),
            rotary_theta: self.rotary_theta.unwrap_or(base.rotary_theta),
            // Scaling belongs to rotary positions, so a preset's is dropped with them.
            rotary_scaling: self.rotary_scaling.or(base
                .rotary_scaling
                .filter(|_| self.positions.is_none_or(|p| p == Positions::Rotary))),
            qk_norm: self.qk_norm.unwrap_or(base.qk_norm),
            window: self.window.or(base.window),
            activation,
            logit_cap: self.logit_cap.or(base.logit_cap),
            dropout: self.dropout.unwrap_or(base.dropout),
        }
    }
}

/// Returns the first key of `config` with which a model of `given` cannot be trained, and the reason.
fn disagreement(config: &ModelConfig, given: &ModelConfig) -> Option<(String, String)> {
    if config.context > given.context {
        let message = format!(
            "is {}, more than the {} of the model to start from; lower it or remove the key",
            config.context, given.context
        );
        return Some(("model.context".into(), message));
    }
    let table = |config: &ModelConfig| {
        let comparable = ModelConfig {
            context: given.context,
            dropout: given.dropout,
            ..config.clone()
        };
        toml::Table::try_from(comparable).unwrap_or_default()
    };
    let (ours, theirs) = (table(config), table(given));
    let value = |table: &toml::Table, key: &str| {
        table
            .get(key)
            .map_or("unset".to_string(), toml::Value::to_string)
    };
    let differs = |key: &&String| ours.get(*key) != theirs.get(*key);
    let key = ours.keys().chain(theirs.keys()).find(differs)?;
    let message = format!(
        "is {} here and {} in the model to start from; leave out the key",
        value(&ours, key),
        value(&theirs, key)
    );
    Some((format!("model.{key}"), message))
}

/// The section `[train]`: steps, batches, evaluations and objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSection {
    /// The seed of the initial weights, the order of windows and the sample.
    #[serde(default)]
    pub seed: u64,
    /// Number of optimizer steps.
    pub steps: usize,
    /// Number of windows per micro-batch.
    pub batch: usize,
    /// Number of micro-batches per step; the gradient is their mean.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// Number of steps between evaluations, each followed by a checkpoint.
    pub eval_every: usize,
    /// Number of validation windows per evaluation, spread evenly and the same each time; 0 reads the whole
    /// split.
    #[serde(default)]
    pub eval_windows: usize,
    /// Number of validation windows for the figures at the end; 0 reads the whole split.
    #[serde(default, skip_serializing_if = "is_zero_count")]
    pub final_eval_windows: usize,
    /// Checkpoints that are kept besides the last and the best one: those of steps such as `[1000, 2000]`, or of every
    /// `N` steps.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
    /// Number of evaluations in a row without a better validation loss after which training stops; 0 never stops.
    #[serde(default)]
    pub early_stop: usize,
    /// Number of tokens to generate at the end.
    #[serde(default = "TrainSection::default_sample_tokens")]
    pub sample_tokens: usize,
    /// The value of [`Objective::label_smoothing`], which is optimised but not part of the reported loss.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    /// The value of [`Objective::z_loss`], which is optimised but not part of the reported loss.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub z_loss: f64,
}

/// Steps whose checkpoints are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected steps as in [1000, 2000], or a number N for every N steps"
)]
pub enum Keep {
    /// Every step that is a multiple of this number.
    Every(usize),
    /// These steps.
    Steps(Vec<usize>),
}

impl Default for Keep {
    fn default() -> Self {
        Self::Steps(Vec::new())
    }
}

impl Keep {
    /// Returns whether the checkpoint of `step` is kept.
    pub fn contains(&self, step: usize) -> bool {
        match self {
            Self::Every(period) => step > 0 && step.is_multiple_of(*period),
            Self::Steps(steps) => steps.contains(&step),
        }
    }

    /// Returns whether every named step can have a checkpoint.
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Every(period) => *period > 0,
            Self::Steps(steps) => !steps.contains(&0),
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero_count(count: &usize) -> bool {
    *count == 0
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

fn one() -> usize {
    1
}

impl TrainSection {
    fn default_sample_tokens() -> usize {
        300
    }

    /// Returns the terms that training adds to the negative log-likelihood.
    pub fn objective(&self) -> Objective {
        Objective {
            label_smoothing: self.label_smoothing,
            z_loss: self.z_loss,
        }
    }
}

/// The section `[backend]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSection {
    /// The backend, as listed by `foretoken backends`.
    #[serde(default = "Backend::default_backend")]
    pub name: Backend,
    /// The precision of weights, activations, gradients and optimizer state: `f32`, `f64`, `bf16` or `f16`.
    #[serde(default)]
    pub dtype: Precision,
    /// Whether training and evaluation use the fused operations of [`foretoken_model::ops`] instead of Burn's own
    /// operations. The numbers differ by rounding.
    #[serde(default = "BackendSection::default_fused")]
    pub fused: bool,
}

impl BackendSection {
    /// Returns the default of `fused`.
    pub(crate) fn default_fused() -> bool {
        true
    }
}

impl Default for BackendSection {
    fn default() -> Self {
        Self {
            name: Backend::default_backend(),
            dtype: Precision::default(),
            fused: Self::default_fused(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(toml: &str) -> ModelSection {
        toml::from_str(toml).unwrap()
    }

    fn config(toml: &str) -> ModelConfig {
        section(toml).config(65, None).unwrap()
    }

    fn refusal(toml: &str, given: Option<&ModelConfig>) -> String {
        section(toml).config(65, given).unwrap_err().to_string()
    }

    const SMALL: &str = "context = 8\nlayers = 2\nheads = 4\nwidth = 32\n";

    #[test]
    fn missing_keys_are_as_in_gpt2() {
        assert_eq!(config(SMALL), ModelConfig::new(65, 8, 2, 4, 32));
        let llama = format!(
            "{SMALL}kv_heads = 2\nnorm = \"rms\"\npositions = \"rotary\"\n\
             activation = \"swiglu\"\nbias = false\ntied_head = false\n"
        );
        assert_eq!(config(&llama), ModelConfig::llama(65, 8, 2, 4, 2, 32));
    }

    #[test]
    fn keys_and_the_tokenizer_override_a_preset() {
        let llama = ModelConfig::preset("llama-3.2-1b").unwrap();
        let preset = |keys: &str| config(&format!("preset = \"llama-3.2-1b\"\n{keys}"));
        let vocab = |vocab_size, config: &ModelConfig| ModelConfig {
            vocab_size,
            ..config.clone()
        };
        assert_eq!(preset(""), vocab(65, &llama));
        assert_eq!(preset("vocab_size = 128256"), llama);
        assert_eq!(preset("context = 512").rotary_scaling, llama.rotary_scaling);
        // Dependent keys follow.
        assert_eq!(preset("heads = 4").kv_heads, 4);
        assert_eq!(preset("width = 64").hidden, 192);
        assert_eq!(preset("activation = \"relu2\"").hidden, 4 * 2048);
        assert_eq!(preset("positions = \"none\"").rotary_scaling, None);
    }

    #[test]
    fn a_section_with_every_key_is_the_same_model() {
        for name in ModelConfig::PRESETS {
            let config = ModelConfig::preset(name).unwrap();
            let section = ModelSection::of(&config, None);
            assert_eq!(section.config(1, None).unwrap(), config);
            let text = toml::to_string(&section).unwrap();
            assert_eq!(self::section(&text), section);
        }
    }

    #[test]
    fn keys_that_contradict_the_model_to_start_from_are_refused() {
        let given = ModelConfig::llama(65, 8, 2, 4, 2, 32);
        let section = section("init_from = \"m\"\ncontext = 4\ndropout = 0.2\nheads = 4");
        let expected = ModelConfig {
            context: 4,
            dropout: 0.2,
            ..given.clone()
        };
        assert_eq!(section.config(65, Some(&given)).unwrap(), expected);
        for (keys, message) in [
            (
                "layers = 3",
                "model.layers: is 3 here and 2 in the model to start from; leave out the key",
            ),
            (
                "context = 9",
                "model.context: is 9, more than the 8 of the model to start from; lower it or remove the key",
            ),
            (
                "window = 2",
                "model.window: is 2 here and unset in the model to start from; leave out the key",
            ),
        ] {
            let keys = format!("init_from = \"m\"\n{keys}");
            assert_eq!(refusal(&keys, Some(&given)), message);
        }
        assert_eq!(
            refusal("init_from = \"m\"\npreset = \"gpt2\"", Some(&given)),
            "model.init_from: the model to start from already has an architecture; leave out model.preset"
        );
    }

    #[test]
    fn missing_and_impossible_values_are_named() {
        assert_eq!(
            refusal("context = 8", None),
            "model.layers: is missing; set it, or name a model.preset such as \"gpt2\""
        );
        assert_eq!(
            refusal("preset = \"gtp2\"", None),
            "model.preset: no preset is called \"gtp2\"; did you mean \"gpt2\"?"
        );
        assert_eq!(
            refusal(&format!("{SMALL}kv_heads = 3"), None),
            "[model]: heads 4 is not divisible by kv_heads 3"
        );
        assert_eq!(
            refusal(&format!("{SMALL}vocab_size = 64"), None),
            "model.vocab_size: 64 is less than the tokenizer's vocabulary of 65; raise it or remove the key"
        );
    }
}
