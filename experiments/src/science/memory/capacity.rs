//! Capacity: how many bits of random text a model can hold (Morris et al. 2025, <https://arxiv.org/abs/2505.24832>).
//!
//! A text that a known process has drawn has −log₂ P bits, and nothing that is true of other texts of the process makes it
//! cheaper than that. What a model saves on its training text beyond this floor it has memorised: Σ (−log₂ P + log₂ p) over the
//! documents, with p the model's probabilities. Morris et al. call it unintended memorisation; the exact process stands here
//! in the place of their reference.
//!
//! The larger the text, the more a model holds, until its capacity is reached. So the capacity of a model is the most that
//! it holds of any of the texts it was trained on, if this text was too large for it, and if more training would add
//! little. Otherwise the most that it holds is a lower bound.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::Monitor;
use foretoken_datasets::world::{Stream, WorldCorpus};
use foretoken_model::Transformer;
use serde::Serialize;

use super::documents::nats;
use super::sample::Texts;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::data::Data;
use crate::experiment::WindowKind;
use crate::record::checkpoint::Checkpoints;
use crate::record::data::data_of;
use crate::record::result::RunResult;
use crate::record::run::RunDirectory;
use crate::record::source::{Checkpoint, Source};
use crate::science::check;
use crate::science::evaluate::{ContextPolicy, Encoder, Estimate, Text};
use crate::{Error, Experiment};

/// Share of a text that a model must not hold for the text to be too large for it.
const OVERFLOW: f64 = 0.1;

/// Bits of its training text that a run has memorised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Memorised {
    /// The run directory.
    pub run: String,
    /// Parameters of the model.
    pub parameters: usize,
    /// Documents of the training text.
    pub documents: usize,
    /// Information of the training text, −log₂ P, in bits.
    pub text_bits: f64,
    /// Optimizer steps.
    pub steps: usize,
    /// How often training has read its text, on average.
    pub epochs: f64,
    /// Memorised bits, with an interval over documents; `None` without documents.
    pub bits: Option<Estimate>,
    /// Memorised bits at a checkpoint about halfway, if the run has one.
    pub halfway: Option<Halfway>,
}

/// Bits that a run had memorised at an earlier checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Halfway {
    /// Optimizer steps before the checkpoint.
    pub step: usize,
    /// Memorised bits.
    pub bits: f64,
}

impl Memorised {
    /// Returns whether the text was too large for the model: a tenth of it or more is not memorised.
    pub fn overflows(&self) -> bool {
        let bits = self.bits.map_or(0.0, |bits| bits.value);
        bits <= (1.0 - OVERFLOW) * self.text_bits
    }

    /// Returns the share of the memorised bits that came after the checkpoint halfway.
    pub fn late_share(&self) -> Option<f64> {
        let bits = self.bits?.value;
        let halfway = self.halfway?;
        (bits > 0.0).then(|| 1.0 - halfway.bits / bits)
    }
}

/// How runs are measured.
#[derive(Debug, Clone, Copy)]
pub struct CapacitySettings {
    /// Backend that computes.
    pub backend: Backend,
    /// Precision of the weights.
    pub precision: Precision,
    /// Number of documents that are computed at once. It does not change the result.
    pub batch: usize,
    /// Checkpoint that is measured.
    pub checkpoint: Checkpoint,
}

/// The training text of a run whose capacity can be measured.
struct TrainingText {
    data: Data,
    text: Text,
    /// −log₂ P of each document, in bits.
    information: Vec<f64>,
    /// Token that ends a document.
    end: u32,
}

impl TrainingText {
    /// Loads the text of an experiment.
    fn load(
        experiment: &Experiment,
        load: impl FnOnce() -> Result<Data, Error>,
        refused: &dyn Fn(&str) -> Error,
        interrupt: &AtomicBool,
    ) -> Result<Self, Error> {
        if experiment.data.windows != WindowKind::Documents {
            return Err(refused(
                "is not trained on documents by themselves, so that its context does not begin where they do; set \
                 data.windows = \"documents\"",
            ));
        }
        if experiment.data.subset.is_some() {
            return Err(refused(
                "is trained on a subset of its documents; measure runs without data.subset",
            ));
        }
        let no_world = || {
            refused(
                "is not trained on a world, so that the information of its text is not known; set data.world",
            )
        };
        if experiment.data.world.is_none() {
            return Err(no_world());
        }
        let data = load()?;
        let (Some(corpus), [train]) = (&data.world, &data.train[..]) else {
            return Err(no_world());
        };
        let Some(end) = corpus.end()? else {
            return Err(refused("has documents without an end in its vocabulary"));
        };
        let encoder = Encoder::new(&data.tokenizer, vec![], ContextPolicy::Documents);
        let text = encoder.split_at("training text", &train.split, end, interrupt)?;
        Ok(Self {
            information: information(corpus, &text),
            text,
            end,
            data,
        })
    }

    /// Refuses documents that do not fit a context.
    fn refuse_longer(&self, context: usize, refused: &dyn Fn(&str) -> Error) -> Result<(), Error> {
        let longest = self.text.segments.iter();
        let longest = longest.map(|segment| segment.ids.len()).max().unwrap_or(0);
        match longest > context + 1 {
            true => Err(refused(&format!(
                "has documents that are longer than its context, which cuts them; raise model.context from {context} to {}",
                longest - 1
            ))),
            false => Ok(()),
        }
    }
}

/// Refuses an experiment whose capacity could not be measured after training.
///
/// # Errors
///
/// Returns what `refused` makes of the reason, or an error if the data cannot be read, or `interrupt` is set.
pub fn refuse_immeasurable(
    experiment: &Experiment,
    refused: &dyn Fn(&str) -> Error,
    monitor: Monitor<'_>,
    interrupt: &AtomicBool,
) -> Result<(), Error> {
    check(interrupt)?;
    let load = || Data::load(&experiment.data, monitor);
    let text = TrainingText::load(experiment, load, refused, interrupt)?;
    let tokens = text.data.tokenizer.vocab_size();
    match experiment.model.config(tokens, None) {
        Ok(config) => text.refuse_longer(config.context, refused),
        // The architecture is that of another model.
        Err(_) => Ok(()),
    }
}

impl CapacitySettings {
    /// Measures what a run has memorised, at a checkpoint and halfway to it; `None` if the run is not finished.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such run, its text is not of a world, it was not trained on documents by themselves
    /// that fit its context, the device fails, or `interrupt` is set.
    pub fn measure(
        &self,
        path: &Path,
        monitor: Monitor<'_>,
        interrupt: &AtomicBool,
    ) -> Result<Option<Memorised>, Error> {
        let refused = |message: &str| Error::run_directory(path, message);
        let run = RunDirectory::open(path)?;
        let experiment = run.experiment()?;
        if RunResult::read(&run)?.is_none() {
            return Ok(None);
        }
        let load = || data_of(&run, &experiment, monitor);
        let training = TrainingText::load(&experiment, load, &refused, interrupt)?;
        let source = Source::open(path, self.checkpoint, None)?;
        let context = source.config().context;
        training.refuse_longer(context, &refused)?;
        let TrainingText {
            data,
            text,
            information,
            end,
        } = training;
        let step = source.step().unwrap_or(0);
        let texts = Texts {
            data: &data,
            experiment: &experiment,
            border: Some(end),
            context,
            step,
        };
        let held = |source: &Source| -> Result<Option<Estimate>, Error> {
            let model =
                source.load_in(&self.backend.device_for(self.precision)?, self.precision)?;
            self.memorised(&model, &text, &information, interrupt)
        };
        let halfway = halfway(&Checkpoints::new(run.checkpoints()).steps(), step);
        Ok(Some(Memorised {
            run: path.display().to_string(),
            parameters: source.config().parameters(),
            documents: text.segments.len(),
            text_bits: information.iter().sum(),
            steps: step,
            epochs: texts.epochs()?,
            bits: held(&source)?,
            halfway: match halfway {
                Some(step) => {
                    let earlier = Source::open(path, Checkpoint::Step(step), None)?;
                    held(&earlier)?.map(|bits| Halfway {
                        step,
                        bits: bits.value,
                    })
                }
                None => None,
            },
        }))
    }

    /// Sums what a model saves on each document, in bits.
    fn memorised(
        &self,
        model: &Transformer,
        text: &Text,
        information: &[f64],
        interrupt: &AtomicBool,
    ) -> Result<Option<Estimate>, Error> {
        let nats = nats(model, text, (1, self.batch), interrupt, &mut |_| {})?;
        let saved = nats.iter().zip(information);
        let saved = saved.map(|(nats, information)| information - nats / std::f64::consts::LN_2);
        let mean = Estimate::of_mean(saved);
        Ok(mean.map(|mean| mean.scaled(information.len() as f64)))
    }
}

/// Returns −log₂ P of each document of the training text, in bits.
fn information(corpus: &WorldCorpus, text: &Text) -> Vec<f64> {
    let documents = 0..text.segments.len() as u64;
    documents
        .map(|index| corpus.world.document(Stream::Train, index).bits)
        .collect()
}

/// Returns the checkpoint that is nearest to half of the steps, from 40 to 60 % of them: one further away would not tell
/// what came in the second half.
fn halfway(checkpoints: &[usize], last: usize) -> Option<usize> {
    let middle = checkpoints
        .iter()
        .copied()
        .filter(|step| (2 * last..=3 * last).contains(&(5 * step)) && *step < last);
    middle.min_by_key(|step| (2 * step).abs_diff(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkpoint_halfway_is_the_nearest_to_the_middle() {
        assert_eq!(halfway(&[100, 400, 600, 1000], 1000), Some(400));
        assert_eq!(halfway(&[390, 610, 1000], 1000), None);
        assert_eq!(halfway(&[0, 1000], 1000), None);
        assert_eq!(halfway(&[], 1000), None);
    }
}
