//! The sections of an experiment file, with their defaults.

use std::path::{Path, PathBuf};

use foretoken_datasets::world::WorldConfig;
use foretoken_datasets::{Format, Manifest};
use foretoken_model::{Activation, ModelConfig, Norm, Objective, Positions, RotaryScaling};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::spelling::nearest;

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
    /// Bytes of an id in `.bin` files without a header, 2 or 4. It has to be stated where both are possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_bytes: Option<usize>,
    /// The format of all files of text, by default the one that their extensions say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The field of JSON, or the column of CSV, TSV and Parquet, that holds the text.
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

    /// Whether any of it is a folder that `foretoken data build` has written, with its tokenizer.
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

/// `[model]`: the transformer. Every key is optional: what is not given comes from `preset` or `init_from` and,
/// without these, is as in GPT-2, but that `context`, `layers`, `heads` and `width` have to be given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// A name from [`ModelConfig::PRESETS`], whose keys hold unless they are given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A model whose weights training starts from. Keys given here must agree with it, but that `context` may
    /// be shorter and `dropout` is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// Longest window the model reads, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<usize>,
    /// Number of residual blocks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Attention heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Heads that have keys and values of their own; by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    /// Width of one head; by default `width / heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_width: Option<usize>,
    /// Width of the residual stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Width of the feed-forward layer; by default [`Activation::usual_hidden`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Rows of the embedding table; by default the tokenizer's vocabulary, never less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Whether linear layers and LayerNorms have biases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bias: Option<bool>,
    /// Whether the output head is the token embedding, transposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied_head: Option<bool>,
    /// `layer` or `rms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// Added to the variance or the mean square.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_epsilon: Option<f64>,
    /// `learned`, `rotary` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Positions>,
    /// Of rotary positions: their base.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_theta: Option<f64>,
    /// Whether queries and keys are normalised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qk_norm: Option<bool>,
    /// How many tokens a token attends to; by default all before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// `gelu-tanh` (the approximation GPT-2 uses), `gelu`, `swiglu` or `relu2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Soft cap of the logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logit_cap: Option<f64>,
    /// Share of activations left out in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Of rotary positions: Llama 3's stretching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotary_scaling: Option<RotaryScaling>,
}

impl ModelSection {
    /// The section that spells out `config`.
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

    /// The configuration that this section's keys are set in, where no model is given to start from: the
    /// preset's, or GPT-2's in the size that is given. Errors name the key.
    pub(crate) fn base(&self) -> Result<ModelConfig, (&'static str, String)> {
        if let Some(name) = &self.preset {
            return ModelConfig::preset(name).ok_or_else(|| {
                let advice = match nearest(name, ModelConfig::PRESETS) {
                    Some(nearest) => format!("did you mean {nearest:?}?"),
                    None => format!("known are {}", ModelConfig::PRESETS.join(", ")),
                };
                (
                    "model.preset",
                    format!("no preset is called {name:?}; {advice}"),
                )
            });
        }
        let missing = |key: &'static str| {
            let message = "missing; give it, or name a model.preset such as \"gpt2\"";
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

    /// The model's configuration for a tokenizer with `tokens` entries; `given` is the model to start from,
    /// where there is one.
    ///
    /// # Errors
    ///
    /// When keys are missing or contradict each other or the given model, or `vocab_size` is smaller than the
    /// tokenizer's vocabulary.
    pub fn config(&self, tokens: usize, given: Option<&ModelConfig>) -> Result<ModelConfig, Error> {
        let refused = |key: &str, message: String| Error::Experiment {
            origin: key.into(),
            message,
        };
        if let (Some(_), Some(_)) = (&self.preset, &self.init_from) {
            let message = "the model to start from has a shape already; leave out model.preset";
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
        let config = self.over(base);
        config
            .validate()
            .map_err(|error| refused("[model]", error.to_string()))?;
        if let Some(given) = given {
            disagreement(&config, given)
                .map_or(Ok(()), |(key, message)| Err(refused(&key, message)))?;
        }
        if config.vocab_size < tokens {
            let message = format!(
                "{} is smaller than the tokenizer's vocabulary of {tokens}; raise it or remove the key",
                config.vocab_size
            );
            return Err(refused("model.vocab_size", message));
        }
        Ok(config)
    }

    /// `base` with the keys that are given here, and with those that follow from them.
    fn over(&self, base: ModelConfig) -> ModelConfig {
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
            // Scaling belongs to rotary positions: a preset's goes when they do.
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

/// The first key in which `config` is not what a model of `given` can be trained as, and why.
fn disagreement(config: &ModelConfig, given: &ModelConfig) -> Option<(String, String)> {
    if config.context > given.context {
        let message = format!(
            "{} is more than the {} of the model to start from",
            config.context, given.context
        );
        return Some(("model.context".into(), message));
    }
    let table = |config: &ModelConfig| {
        let free = ModelConfig {
            context: given.context,
            dropout: given.dropout,
            ..config.clone()
        };
        toml::Table::try_from(free).unwrap_or_default()
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
        "{} here, {} in the model to start from; leave out the key",
        value(&ours, key),
        value(&theirs, key)
    );
    Some((format!("model.{key}"), message))
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
    /// split.
    #[serde(default)]
    pub eval_windows: usize,
    /// Validation windows that the figures at the end come from; 0 reads the whole split.
    #[serde(default, skip_serializing_if = "is_none")]
    pub final_eval_windows: usize,
    /// Checkpoints that are kept beside the last and the best one: those of the steps `[1000, 2000]`, or of every
    /// `N` steps.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
    /// Stop after this many evaluations in a row without a better validation loss; 0 never stops.
    #[serde(default)]
    pub early_stop: usize,
    /// Tokens of text to generate at the end.
    #[serde(default = "TrainSection::default_sample_tokens")]
    pub sample_tokens: usize,
    /// [`Objective::label_smoothing`]: optimised, not part of the reported loss.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    /// [`Objective::z_loss`]: optimised, not part of the reported loss.
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
    /// Every so many steps.
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
    /// Whether the checkpoint of `step` is kept.
    pub fn contains(&self, step: usize) -> bool {
        match self {
            Self::Every(period) => step > 0 && step.is_multiple_of(*period),
            Self::Steps(steps) => steps.contains(&step),
        }
    }

    /// Whether every step can have a checkpoint.
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

fn is_none(count: &usize) -> bool {
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

    /// What training adds to the negative log-likelihood.
    pub fn objective(&self) -> Objective {
        Objective {
            label_smoothing: self.label_smoothing,
            z_loss: self.z_loss,
        }
    }
}

/// `[backend]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSection {
    /// A name that `foretoken backends` lists.
    #[serde(default = "Backend::default_backend")]
    pub name: Backend,
    /// `f32`, `f64`, `bf16` or `f16`: the precision of weights, activations, gradients and optimizer state.
    #[serde(default)]
    pub dtype: Precision,
    /// Whether training and evaluation run several operations as one where [`foretoken_model::ops`] has it;
    /// where not, all are Burn's own, one by one. The numbers differ by rounding.
    #[serde(default = "BackendSection::default_fused")]
    pub fused: bool,
}

impl BackendSection {
    /// Fused, where nothing is said.
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
    fn what_is_not_given_is_as_in_gpt2() {
        assert_eq!(config(SMALL), ModelConfig::new(65, 8, 2, 4, 32));
        let llama = format!(
            "{SMALL}kv_heads = 2\nnorm = \"rms\"\npositions = \"rotary\"\n\
             activation = \"swiglu\"\nbias = false\ntied_head = false\n"
        );
        assert_eq!(config(&llama), ModelConfig::llama(65, 8, 2, 4, 2, 32));
    }

    #[test]
    fn a_preset_gives_way_to_keys_and_to_the_tokenizer() {
        let llama = ModelConfig::preset("llama-3.2-1b").unwrap();
        let preset = |keys: &str| config(&format!("preset = \"llama-3.2-1b\"\n{keys}"));
        let vocab = |vocab_size, config: &ModelConfig| ModelConfig {
            vocab_size,
            ..config.clone()
        };
        assert_eq!(preset(""), vocab(65, &llama));
        assert_eq!(preset("vocab_size = 128256"), llama);
        assert_eq!(preset("context = 512").rotary_scaling, llama.rotary_scaling);
        // What belongs together moves together.
        assert_eq!(preset("heads = 4").kv_heads, 4);
        assert_eq!(preset("width = 64").hidden, 192);
        assert_eq!(preset("activation = \"relu2\"").hidden, 4 * 2048);
        assert_eq!(preset("positions = \"none\"").rotary_scaling, None);
    }

    #[test]
    fn spelt_out_it_is_the_same_model() {
        for name in ModelConfig::PRESETS {
            let config = ModelConfig::preset(name).unwrap();
            let section = ModelSection::of(&config, None);
            assert_eq!(section.config(1, None).unwrap(), config);
            let text = toml::to_string(&section).unwrap();
            assert_eq!(self::section(&text), section);
        }
    }

    #[test]
    fn a_model_to_start_from_is_not_contradicted() {
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
                "model.layers: 3 here, 2 in the model to start from; leave out the key",
            ),
            (
                "context = 9",
                "model.context: 9 is more than the 8 of the model to start from",
            ),
            (
                "window = 2",
                "model.window: 2 here, unset in the model to start from; leave out the key",
            ),
        ] {
            let keys = format!("init_from = \"m\"\n{keys}");
            assert_eq!(refusal(&keys, Some(&given)), message);
        }
        assert_eq!(
            refusal("init_from = \"m\"\npreset = \"gpt2\"", Some(&given)),
            "model.init_from: the model to start from has a shape already; leave out model.preset"
        );
    }

    #[test]
    fn what_is_missing_or_impossible_is_named() {
        assert_eq!(
            refusal("context = 8", None),
            "model.layers: missing; give it, or name a model.preset such as \"gpt2\""
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
            "model.vocab_size: 64 is smaller than the tokenizer's vocabulary of 65; raise it or remove the key"
        );
    }
}
