//! Models as commands take them: a run directory, a model written by `foretoken import`, or a Hugging Face folder.
//! Opening one reads no weights.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use burn::module::Module;
use burn::tensor::Device;
use foretoken_datasets::Tokenizer;
use foretoken_datasets::world::END;
use foretoken_model::{Export, ModelConfig, ModelError, Pretrained, Transformer, WeightType};

use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::language_model::LanguageModel;
use crate::engine::memory::refuse_loading;
use crate::engine::parameters::in_precision;
use crate::experiment::WindowKind;
use crate::record::checkpoint::Checkpoints;
use crate::record::run::RunDirectory;
use crate::{Advice, Error, Experiment};

/// A choice among the checkpoints of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checkpoint {
    /// The checkpoint with the lowest validation loss.
    #[default]
    Best,
    /// The latest checkpoint.
    Last,
    /// The checkpoint at this step.
    Step(usize),
}

impl FromStr for Checkpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("best", _) => Ok(Self::Best),
            ("last", _) => Ok(Self::Last),
            (_, Ok(step)) => Ok(Self::Step(step)),
            _ => Err("expected best, last, or a step number".into()),
        }
    }
}

/// A model that can be loaded.
pub struct Source {
    path: PathBuf,
    kind: Kind,
    config: ModelConfig,
    tokenizer: Option<Tokenizer>,
}

enum Kind {
    Run {
        checkpoints: Checkpoints,
        step: usize,
        /// The reason for this step, in words.
        reason: &'static str,
        /// Token that precedes each document in training; `None` unless windows are those of documents.
        document_start: Option<u32>,
    },
    Pretrained(Box<Pretrained>),
}

impl Source {
    /// Opens the model at `path`, and the given checkpoint if it is a run. `tokenizer` replaces the model's own.
    ///
    /// # Errors
    ///
    /// Returns an error if the model or the checkpoint does not exist or is damaged.
    pub fn open(
        path: &Path,
        checkpoint: Checkpoint,
        tokenizer: Option<&Path>,
    ) -> Result<Self, Error> {
        let given = tokenizer.map(Tokenizer::load).transpose()?;
        if path.join("experiment.toml").is_file() {
            return Self::open_run(path, checkpoint, given);
        }
        let pretrained = Pretrained::open(path).map_err(|error| match error {
            ModelError::NotAModel { .. } => not_a_model(path),
            error => error.into(),
        })?;
        if checkpoint != Checkpoint::Best {
            let message = "is not a run, so that it has no checkpoints to choose from";
            return Err(Error::run_directory(path, message).advised(Advice {
                flag: "--checkpoint",
                with_flag: "leave out --checkpoint",
                without_flag: "name the directory of a run",
            }));
        }
        let own = pretrained.tokenizer();
        let tokenizer = choose_tokenizer(given, own.as_deref())?;
        Ok(Self {
            path: path.into(),
            config: pretrained.config().clone(),
            kind: Kind::Pretrained(Box::new(pretrained)),
            tokenizer,
        })
    }

    fn open_run(
        path: &Path,
        checkpoint: Checkpoint,
        given: Option<Tokenizer>,
    ) -> Result<Self, Error> {
        let run = RunDirectory::open(path)?;
        let own = path.join("tokenizer.json");
        let tokenizer = choose_tokenizer(given, own.is_file().then_some(&*own))?;
        let tokens = tokenizer.as_ref().map_or(1, Tokenizer::vocab_size);
        let experiment = run.experiment()?;
        let config = experiment.model.config(tokens, None)?;
        let document_start = match (experiment.data.windows, &tokenizer) {
            (WindowKind::Documents, Some(tokenizer)) => document_end(&experiment, tokenizer),
            _ => None,
        };
        let checkpoints = Checkpoints::new(run.checkpoints());
        let (step, reason) = choose(&checkpoints, checkpoint, path)?;
        Ok(Self {
            path: path.into(),
            kind: Kind::Run {
                checkpoints,
                step,
                reason,
                document_start,
            },
            config,
            tokenizer,
        })
    }

    /// Returns the model's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Describes the model in words: its path, and the checkpoint of a run.
    pub fn description(&self) -> String {
        let path = self.path.display();
        match &self.kind {
            Kind::Run { step, reason, .. } => format!("{path}, step {step}{reason}"),
            Kind::Pretrained(_) => path.to_string(),
        }
    }

    /// Returns the optimizer steps before the checkpoint; `None` unless the model is a run.
    pub fn step(&self) -> Option<usize> {
        match &self.kind {
            Kind::Run { step, .. } => Some(*step),
            Kind::Pretrained(_) => None,
        }
    }

    /// Returns whether both are the same weights: the same checkpoint of a run, or the same folder.
    pub fn has_same_weights(&self, other: &Self) -> bool {
        let path = |source: &Self| source.path.canonicalize().ok();
        path(self) == path(other) && self.step() == other.step()
    }

    /// Returns the model's tokenizer.
    ///
    /// # Errors
    ///
    /// Returns an error if there is none, or if it has more tokens than the model.
    pub fn tokenizer(&self) -> Result<&Tokenizer, Error> {
        let refused = |message: String| Error::run_directory(&self.path, message);
        let Some(tokenizer) = &self.tokenizer else {
            return Err(refused("has no tokenizer.json".into()).advised(Advice {
                flag: "--tokenizer",
                with_flag: "name one with --tokenizer FILE",
                without_flag: "put the file that it was trained with into this folder",
            }));
        };
        match (tokenizer.vocab_size(), self.config.vocab_size) {
            (tokens, known) if tokens > known => {
                let message =
                    format!("has {known} token ids, fewer than the {tokens} of the tokenizer");
                Err(refused(message).advised(Advice {
                    flag: "--tokenizer",
                    with_flag: "name the model's own with --tokenizer FILE",
                    without_flag: "put the tokenizer.json that it was trained with into this folder",
                }))
            }
            _ => Ok(tokenizer),
        }
    }

    /// Returns the path of the model.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the model's tokenizer, if it has one.
    pub(crate) fn own_tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Returns the file of the model's own tokenizer.
    pub fn tokenizer_file(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Run { .. } => {
                Some(self.path.join("tokenizer.json")).filter(|path| path.is_file())
            }
            Kind::Pretrained(model) => model.tokenizer(),
        }
    }

    /// Returns the token ids that precede every text in the model's training data.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer fails.
    pub fn start_of_text(&self) -> Result<Vec<u32>, Error> {
        match &self.kind {
            // Otherwise training here adds no token before a text, whatever the tokenizer's file says.
            Kind::Run { document_start, .. } => Ok(document_start.iter().copied().collect()),
            Kind::Pretrained(_) => Ok(self.tokenizer()?.start_of_text()?),
        }
    }

    /// Returns the token ids of a prompt, with special tokens by their names. An empty prompt becomes the tokens that
    /// precede every text, or else the token that ends one.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer does not know a character, or the prompt is empty and the tokenizer has no
    /// such token.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut ids = self.tokenizer()?.encode_with_special_tokens(text)?;
        let start = self.start_of_text()?;
        if !ids.starts_with(&start) {
            ids.splice(0..0, start);
        }
        if ids.is_empty() {
            ids.extend(self.end_of_text().first());
        }
        match ids.is_empty() {
            true => Err(Error::Experiment {
                origin: "the prompt".into(),
                message:
                    "give some text: it is empty, and the tokenizer has no token that starts or ends a text"
                        .into(),
            }),
            false => Ok(ids),
        }
    }

    /// Returns the token ids that end a text.
    pub fn end_of_text(&self) -> Vec<u32> {
        let of_tokenizer = || self.tokenizer.as_ref().and_then(Tokenizer::end_of_text);
        match &self.kind {
            Kind::Pretrained(model) if !model.end_of_text().is_empty() => {
                model.end_of_text().to_vec()
            }
            Kind::Run {
                document_start: Some(token),
                ..
            } => vec![*token],
            _ => of_tokenizer().into_iter().collect(),
        }
    }

    /// Loads the model on `device`, with weights rounded to `precision`, which it computes in.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`load`](Self::load).
    pub fn load_in(&self, device: &Device, precision: Precision) -> Result<Transformer, Error> {
        Ok(in_precision(self.load(device)?, precision))
    }

    /// Loads the model on `device`, in the precision of its file.
    ///
    /// # Errors
    ///
    /// Returns an error if the machine's memory cannot hold the weights, or if they are damaged or do not match the
    /// model's configuration.
    pub fn load(&self, device: &Device) -> Result<Transformer, Error> {
        refuse_loading(&self.path.display().to_string(), &self.config, device)?;
        let (checkpoints, step) = match &self.kind {
            Kind::Pretrained(model) => return Ok(model.load(device)?),
            Kind::Run {
                checkpoints, step, ..
            } => (checkpoints, *step),
        };
        let record = checkpoints.weights(step)?;
        let model = LanguageModel::new(self.config.init(0, device)?, 0);
        let model = model
            .try_load_record(record)
            .map_err(|error| Error::checkpoint(checkpoints.path(step), error.to_string()))?;
        Ok(model.transformer)
    }

    /// Writes the model as a Hugging Face folder, with weights of their own type or another. `progress` is called with
    /// the number of bytes done and their total.
    ///
    /// # Errors
    ///
    /// Returns an error if `out` is not empty or cannot be written, Hugging Face has no class for the architecture, a
    /// weight is too large for `f16`, or the weights are damaged.
    pub fn export(
        &self,
        out: &Path,
        weight_type: Option<WeightType>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        if let Kind::Pretrained(model) = &self.kind {
            return Ok(model.export(out, weight_type, progress)?);
        }
        let tokenizer = self.tokenizer_file();
        let export = Export {
            weight_type: weight_type.unwrap_or(WeightType::F32),
            tokenizer: tokenizer.as_deref(),
            end_of_text: self.end_of_text().first().copied(),
        };
        let device = Backend::default_backend().device()?;
        Ok(export.write(&self.load(&device)?, out)?)
    }
}

/// Returns the token that ends a document of an experiment's data, if one token does.
fn document_end(experiment: &Experiment, tokenizer: &Tokenizer) -> Option<u32> {
    if experiment.data.world.is_none() {
        return tokenizer.end_of_text();
    }
    match tokenizer
        .encode(char::from(END).encode_utf8(&mut [0]))
        .ok()?[..]
    {
        [end] => Some(end),
        _ => None,
    }
}

/// Returns the given tokenizer, or else the model's own. A given one that maps ids to other tokens than the model's own
/// is refused, because the model's predictions would be shown for the wrong tokens.
fn choose_tokenizer(
    given: Option<Tokenizer>,
    own: Option<&Path>,
) -> Result<Option<Tokenizer>, Error> {
    let own_tokenizer = match (own.map(Tokenizer::load), &given) {
        // A broken file does not matter if another tokenizer replaces it.
        (Some(Err(_)), Some(_)) => None,
        (own, _) => own.transpose()?,
    };
    if let (Some(given), Some(own), Some(of_model)) = (&given, own, &own_tokenizer)
        && let Some(difference) = of_model.difference(given)
    {
        return Err(Error::Experiment {
            origin: "--tokenizer".into(),
            message: format!(
                "is not the model's own, {} ({difference}); leave it out, or remove that file if it is the wrong one",
                own.display()
            ),
        });
    }
    Ok(given.or(own_tokenizer))
}

/// Returns the step of the chosen checkpoint, and the reason for it.
fn choose(
    checkpoints: &Checkpoints,
    checkpoint: Checkpoint,
    run: &Path,
) -> Result<(usize, &'static str), Error> {
    let steps = checkpoints.steps();
    let Some(&last) = steps.last() else {
        return Err(Error::run_directory(
            run,
            "has no checkpoint yet; the first one is written after the first evaluation, after train.eval_every steps",
        ));
    };
    match checkpoint {
        Checkpoint::Last => Ok((last, " (last)")),
        Checkpoint::Best => {
            let best = checkpoints.state(last)?.best.map(|best| best.step);
            match best.filter(|best| steps.contains(best)) {
                Some(best) => Ok((best, " (best)")),
                None => Ok((last, " (last; the best one is gone)")),
            }
        }
        Checkpoint::Step(step) if steps.contains(&step) => Ok((step, "")),
        Checkpoint::Step(step) => {
            let steps: Vec<String> = steps.iter().map(usize::to_string).collect();
            let message = match steps.as_slice() {
                [only] => {
                    format!("has no checkpoint of step {step}; its only one is of step {only}")
                }
                _ => format!(
                    "has no checkpoint of step {step}; its checkpoints are of the steps {}",
                    steps.join(", ")
                ),
            };
            Err(Error::run_directory(run, message))
        }
    }
}

fn not_a_model(path: &Path) -> Error {
    if path.join("checkpoint.json").is_file() {
        let message = "is a checkpoint; to start a run from it, write it with `foretoken export RUN --checkpoint STEP --out \
                       DIR` first";
        return Error::run_directory(path, message).advised(Advice {
            flag: "--checkpoint",
            with_flag: "to use it here, name its run directory, and the step with --checkpoint",
            without_flag: "otherwise name its run directory",
        });
    }
    let message = if path.exists() {
        "is not a model: a run directory contains experiment.toml and checkpoints/, an imported model contains \
         model.json, and a Hugging Face folder contains config.json and .safetensors"
    } else if ModelConfig::preset(&path.to_string_lossy()).is_some() {
        "is a preset without weights: name a run directory, an imported model or a Hugging Face folder"
    } else {
        "there is no such model: name a run directory, an imported model or a Hugging Face folder"
    };
    Error::run_directory(path, message)
}
