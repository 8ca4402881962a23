//! An experiment: one TOML file that a colleague can rerun, its defaults, its overrides, its errors.

use std::path::Path;

use foretoken_datasets::world::WorldConfig;
use foretoken_model::{Gelu, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::backend::Backend;
use crate::optimizer::OptimizerConfig;
use crate::spelling::nearest;

/// The experiment that `foretoken` runs when none is named: the synthetic world.
const EMBEDDED: &str = include_str!("../configs/world.toml");

/// Everything that decides a run, apart from the bytes of the data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// What run directories are named after; by default the file's stem.
    #[serde(default)]
    pub name: String,
    /// Where the text comes from and how it becomes tokens.
    pub data: DataSection,
    /// The shape of the transformer.
    pub model: ModelSection,
    /// How long and on what windows it trains.
    pub train: TrainSection,
    /// AdamW, its schedule and clipping.
    #[serde(default)]
    pub optimizer: OptimizerConfig,
    /// Where it runs.
    #[serde(default)]
    pub backend: BackendSection,
}

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

impl Experiment {
    /// The embedded experiment with overrides (`key=value`, as `--set` takes them).
    ///
    /// # Errors
    ///
    /// When an override names no known key or has a value of the wrong kind.
    pub fn embedded(overrides: &[String]) -> Result<Self, Error> {
        Self::parse(EMBEDDED, "world.toml (embedded)", "world", overrides)
    }

    /// The experiment in `path` with overrides.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not TOML, or has unknown, missing or contradictory keys.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, Error> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::Experiment {
            origin: origin.clone(),
            message: match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "no such experiment file; `foretoken train` without one runs the embedded experiment".into()
                }
                _ => error.to_string(),
            },
        })?;
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        Self::parse(&text, &origin, &stem, overrides)
    }

    fn parse(text: &str, origin: &str, name: &str, overrides: &[String]) -> Result<Self, Error> {
        let in_file = |message: String| Error::Experiment {
            origin: origin.into(),
            message,
        };
        // The file alone first: its errors carry line numbers, and are not an override's fault.
        let mut experiment: Self =
            toml::from_str(text).map_err(|error| in_file(explain(&error, text)))?;
        let mut table: toml::Table =
            toml::from_str(text).map_err(|error| in_file(explain(&error, text)))?;
        for assignment in overrides {
            let in_override = |message: String| Error::Experiment {
                origin: format!("--set {assignment}"),
                message,
            };
            assign(&mut table, assignment).map_err(in_override)?;
            experiment = table
                .clone()
                .try_into()
                .map_err(|error: toml::de::Error| in_override(explain(&error, "")))?;
        }
        if experiment.name.is_empty() {
            experiment.name = name.into();
        }
        experiment
            .validate()
            .map_err(|(key, message)| in_file(format!("{key}: {message}")))?;
        Ok(experiment)
    }

    /// Checks what no single key can check; errors name the key.
    fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.name.contains(['/', '\\']) || self.name.starts_with('.') {
            return Err(("name", format!("{:?} cannot name a directory", self.name)));
        }
        let given: Vec<&str> = [
            ("data.path", self.data.path.is_some()),
            ("data.world", self.data.world.is_some()),
            ("data.mixture", !self.data.mixture.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        match given[..] {
            [] => {
                return Err((
                    "data",
                    "name text or tokens with data.path, or several with [[data.mixture]], or add a \
                     [data.world] table for the synthetic world"
                        .into(),
                ));
            }
            [_] => {}
            [..] => {
                return Err((
                    "data",
                    format!("{} exclude each other", given.join(" and ")),
                ));
            }
        }
        if !(self.data.valid > 0.0 && self.data.valid < 1.0) {
            return Err((
                "data.valid",
                "must be a share above 0 and below 1, such as 0.1".into(),
            ));
        }
        for (key, value) in [
            ("train.steps", self.train.steps),
            ("train.batch", self.train.batch),
            ("train.accumulation", self.train.accumulation),
            ("train.eval_every", self.train.eval_every),
        ] {
            if value == 0 {
                return Err((key, "must be at least 1".into()));
            }
        }
        self.optimizer.validate()
    }

    /// The resolved file: every key spelt out, fit to rerun.
    pub fn to_toml(&self) -> String {
        // Serialising plain structs of numbers and strings cannot fail.
        toml::to_string_pretty(self).expect("an experiment is always TOML")
    }

    /// The keys whose values differ between two experiments, as `key: ours, theirs`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let flatten = |experiment: &Self| {
            let mut leaves = Vec::new();
            if let Ok(table) = toml::Table::try_from(experiment) {
                flatten("", &toml::Value::Table(table), &mut leaves);
            }
            leaves
        };
        let (ours, theirs) = (flatten(self), flatten(other));
        let find = |leaves: &[(String, String)], key: &str| {
            leaves
                .iter()
                .find(|(name, _)| name == key)
                .map_or("unset".to_string(), |(_, value)| value.clone())
        };
        let mut keys: Vec<_> = ours.iter().chain(&theirs).map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter()
            .filter_map(|key| {
                let (a, b) = (find(&ours, key), find(&theirs, key));
                (a != b).then(|| format!("{key} ({a} here, {b} there)"))
            })
            .collect()
    }
}

fn flatten(prefix: &str, value: &toml::Value, leaves: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() {
                    key.clone()
                } else {
                    format!("{prefix}.{key}")
                };
                flatten(&path, value, leaves);
            }
        }
        leaf => leaves.push((prefix.to_string(), leaf.to_string())),
    }
}

/// Puts `a.b=value` into the table. The value is TOML; what is not TOML is taken as a string, so
/// that `data.path=text.txt` needs no quotes.
fn assign(table: &mut toml::Table, assignment: &str) -> Result<(), String> {
    let (path, text) = assignment
        .split_once('=')
        .ok_or("expected key=value, such as train.steps=500")?;
    let value = toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.into()));
    let mut keys: Vec<&str> = path.trim().split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut table = table;
    for key in keys {
        table = table
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("{key} is not a table"))?;
    }
    table.insert(last.into(), value);
    Ok(())
}

/// One line out of a TOML or schema error: the line number where there is one, and for an unknown
/// key the nearest known one.
fn explain(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let place = error
        .span()
        .filter(|_| !text.is_empty())
        .map(|span| {
            format!(
                "line {}: ",
                text[..span.start.min(text.len())].matches('\n').count() + 1
            )
        })
        .unwrap_or_default();
    // serde says: unknown field `x`, expected one of `a`, `b` (or: expected `a`).
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, [unknown, known @ ..]) = (message.starts_with("unknown field"), &quoted[..]) {
        return format!(
            "{place}unknown key `{unknown}`{}",
            nearest(unknown, known.iter().copied())
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_else(|| format!("; known keys here: {}", known.join(", ")))
        );
    }
    format!(
        "{place}{}",
        message
            .replace('\n', "; ")
            .replace("missing field", "missing key")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(overrides: &[&str]) -> String {
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        Experiment::embedded(&overrides).unwrap_err().to_string()
    }

    #[test]
    fn unknown_keys_name_the_nearest_known_one() {
        assert_eq!(
            message(&["train.stpes=5"]),
            "--set train.stpes=5: unknown key `stpes`; did you mean `steps`?"
        );
        assert_eq!(
            message(&["optimiser.beta_1=0.9"]),
            "--set optimiser.beta_1=0.9: unknown key `optimiser`; did you mean `optimizer`?"
        );
        let text = EMBEDDED.replace("layers", "layer");
        let error = Experiment::parse(&text, "my.toml", "my", &[]).unwrap_err();
        let line = text
            .lines()
            .position(|line| line.contains("layer"))
            .unwrap()
            + 1;
        assert_eq!(
            error.to_string(),
            format!("my.toml: line {line}: unknown key `layer`; did you mean `layers`?")
        );
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn overrides_change_values_and_nothing_else() {
        let plain = Experiment::embedded(&[]).unwrap();
        let changed =
            Experiment::embedded(&["train.steps=7".into(), "optimizer.warmup=3".into()]).unwrap();
        assert_eq!(changed.train.steps, 7);
        let differences = plain.differences(&changed);
        assert_eq!(differences.len(), 2, "{differences:?}");
        assert!(differences[1].starts_with("train.steps ("));
        assert!(plain.differences(&plain).is_empty());
    }

    #[test]
    fn strings_need_no_quotes() {
        let overrides = ["data.tokenizer=byte".to_string()];
        assert_eq!(
            Experiment::embedded(&overrides).unwrap().data.tokenizer,
            Some("byte".into())
        );
    }

    #[test]
    fn wrong_kinds_and_shapes_are_refused() {
        assert!(message(&["train.steps=many"]).contains("invalid type: string \"many\""));
        assert!(message(&["train.steps"]).contains("expected key=value"));
        assert!(message(&["train.steps=0"]).contains("train.steps: must be at least 1"));
        assert!(message(&["data.path=a.txt"]).contains("exclude each other"));
        assert!(message(&["backend.name=flx"]).contains("flex"));
        assert!(message(&["name=../x"]).contains("cannot name a directory"));
    }

    #[test]
    fn the_resolved_file_reads_back_as_the_same_experiment() {
        let experiment = Experiment::embedded(&["train.seed=11".into()]).unwrap();
        let again = Experiment::parse(&experiment.to_toml(), "x", "other", &[]).unwrap();
        assert_eq!(again, experiment);
    }

    #[test]
    fn shipped_configs_are_valid() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/configs")).unwrap() {
            let path = entry.unwrap().path();
            let experiment = Experiment::load(&path, &[]).unwrap();
            experiment.model.config(65).unwrap();
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", key in "[a-z.=]{0,20}") {
            let _ = Experiment::parse(&text, "x", "x", &[]);
            let _ = Experiment::embedded(&[key]);
        }
    }
}
