//! Capacity: how many bits of random text a model can hold (Morris et al. 2025, <https://arxiv.org/abs/2505.24832>).
//!
//! A text that a known process has drawn has −log₂ P bits, and nothing that is true of other texts of the process makes it
//! cheaper than that. What a model saves on its training text beyond this floor it has memorised: Σ (−log₂ P + log₂ p) over the
//! documents, with p the model's probabilities. Morris et al. call it unintended memorisation; the exact process stands here
//! in the place of their reference.
//!
//! The larger the text, the more a model holds, until its capacity is reached. So the capacity of a model is the most that
//! it holds of any of the texts it was trained on, if one of them was too large for it.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::Monitor;
use foretoken_datasets::world::{Stream, WorldCorpus};
use foretoken_model::Transformer;
use serde::Serialize;

use super::sample::Texts;
use crate::Error;
use crate::backend::Backend;
use crate::backend::precision::Precision;
use crate::engine::data::Data;
use crate::experiment::WindowKind;
use crate::record::checkpoint::Checkpoints;
use crate::record::result::RunResult;
use crate::record::run::RunDirectory;
use crate::record::source::{Checkpoint, Source};
use crate::science::evaluate::{
    BatchLimit, ContextPolicy, Encoder, Estimate, Settings, Text, score_padded,
};

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
    /// Memorised bits at the checkpoint that is nearest to half of the steps, if the run has one.
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
}

impl CapacitySettings {
    /// Measures what a run has memorised, at its last checkpoint and halfway; `None` if the run is not finished.
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
        let refused = |message: &str| Error::RunDirectory {
            path: path.into(),
            message: message.into(),
        };
        let run = RunDirectory::open(path)?;
        let experiment = run.experiment()?;
        if RunResult::read(&run)?.is_none() {
            return Ok(None);
        }
        if experiment.data.windows != WindowKind::Documents {
            return Err(refused(
                "was not trained on documents by themselves, so that its context does not begin where they do; set \
                 data.windows = \"documents\"",
            ));
        }
        if experiment.data.subset.is_some() {
            return Err(refused(
                "was trained on a subset of its documents; measure runs without data.subset",
            ));
        }
        let data = Data::load(&experiment.data, monitor)?;
        let (Some(corpus), [train]) = (&data.world, &data.train[..]) else {
            return Err(refused(
                "was not trained on a world, so that the information of its text is not known; set data.world",
            ));
        };
        let source = Source::open(path, Checkpoint::Last, None)?;
        let Some(end) = corpus.end()? else {
            return Err(refused("has documents without an end in its vocabulary"));
        };
        let context = source.config().context;
        let encoder = Encoder::new(&data.tokenizer, vec![], ContextPolicy::Documents);
        let text = encoder.split_at("training text", &train.split, end, interrupt)?;
        if text
            .segments
            .iter()
            .any(|segment| segment.ids.len() > context + 1)
        {
            return Err(refused(
                "has documents that are longer than its context, which cuts them; raise model.context",
            ));
        }
        let step = source.step().unwrap_or(0);
        let texts = Texts {
            data: &data,
            experiment: &experiment,
            border: Some(end),
            context,
            step,
        };
        let information = information(corpus, &text);
        let held = |source: &Source| -> Result<Option<Estimate>, Error> {
            let model =
                source.load_in(&self.backend.device_for(self.precision)?, self.precision)?;
            self.memorised(&model, &text, &information, context, interrupt)
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
        context: usize,
        interrupt: &AtomicBool,
    ) -> Result<Option<Estimate>, Error> {
        let settings = Settings {
            context,
            policy: ContextPolicy::Documents,
            batch: self.batch,
        };
        let limit = (1, BatchLimit::Windows(self.batch));
        let scores = score_padded(model, text, &settings, limit, interrupt, &mut |_| {})?;
        let saved = scores.iter().zip(information).map(|(scores, information)| {
            let nats: f64 = scores.iter().map(|score| f64::from(score.nats)).sum();
            information - nats / std::f64::consts::LN_2
        });
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

/// Returns the checkpoint that is nearest to half of the steps, and before the last one.
fn halfway(checkpoints: &[usize], last: usize) -> Option<usize> {
    let earlier = checkpoints
        .iter()
        .copied()
        .filter(|step| *step < last && *step > 0);
    earlier.min_by_key(|step| (2 * step).abs_diff(last))
}

/// Capacity of the models of a size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
    /// Parameters of the model.
    pub parameters: usize,
    /// The run that holds most.
    pub run: String,
    /// Bits that it holds.
    pub bits: Estimate,
    /// Bits that it holds for each parameter.
    pub per_parameter: Estimate,
    /// Whether a text was too large for a model of this size. If not, its capacity may be larger.
    pub is_reached: bool,
}

/// Capacities of models of several sizes, with what they have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacities {
    /// The sizes, ascending.
    pub models: Vec<Capacity>,
    /// Mean of the bits per parameter over the sizes whose capacity is reached.
    pub per_parameter: Option<Estimate>,
    /// Slope of the line of least squares through parameters and capacities of these sizes, in bits per parameter.
    pub slope: Option<Estimate>,
}

impl Capacities {
    /// Takes the run that holds most of each size.
    pub fn of(runs: &[Memorised]) -> Self {
        let mut sizes: Vec<usize> = runs.iter().map(|run| run.parameters).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let models: Vec<Capacity> = sizes
            .into_iter()
            .filter_map(|parameters| {
                let of_size = || runs.iter().filter(|run| run.parameters == parameters);
                let held = of_size().filter_map(|run| Some((run, run.bits?)));
                let (run, bits) = held.max_by(|a, b| a.1.value.total_cmp(&b.1.value))?;
                Some(Capacity {
                    parameters,
                    run: run.run.clone(),
                    bits,
                    per_parameter: bits.scaled(1.0 / parameters as f64),
                    is_reached: of_size().any(Memorised::overflows),
                })
            })
            .collect();
        let reached = models.iter().filter(|model| model.is_reached);
        let points: Vec<(f64, f64)> = reached
            .map(|model| (model.parameters as f64, model.bits.value))
            .collect();
        Self {
            per_parameter: Estimate::of_mean(points.iter().map(|(n, bits)| bits / n)),
            slope: Estimate::of_slope(&points),
            models,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(parameters: usize, text_bits: f64, bits: f64) -> Memorised {
        Memorised {
            run: format!("{parameters}-{text_bits}"),
            parameters,
            documents: 10,
            text_bits,
            steps: 100,
            epochs: 9.0,
            bits: Some(Estimate {
                value: bits,
                standard_error: Some(1.0),
                interval: Some([bits - 2.0, bits + 2.0]),
            }),
            halfway: Some(Halfway {
                step: 50,
                bits: 0.75 * bits,
            }),
        }
    }

    #[test]
    fn capacity_is_the_most_of_any_text_if_one_was_too_large() {
        let runs = [
            run(1000, 2000.0, 1990.0),
            run(1000, 8000.0, 3500.0),
            run(1000, 32_000.0, 3300.0),
            run(2000, 32_000.0, 7000.0),
            run(4000, 8000.0, 7900.0),
        ];
        let found = Capacities::of(&runs);
        let of: Vec<_> = found
            .models
            .iter()
            .map(|model| (model.parameters, model.bits.value, model.is_reached))
            .collect();
        assert_eq!(
            of,
            [
                (1000, 3500.0, true),
                (2000, 7000.0, true),
                (4000, 7900.0, false)
            ]
        );
        assert_eq!(found.models[0].run, "1000-8000");
        assert_eq!(found.models[0].per_parameter.value, 3.5);
        // Of the two sizes whose capacity is reached.
        assert_eq!(found.per_parameter.unwrap().value, 3.5);
        assert_eq!(found.slope.unwrap().value, 3.5);
        assert_eq!(found.slope.unwrap().interval, None);
        assert_eq!(runs[0].late_share(), Some(0.25));
        assert!(!runs[0].overflows() && runs[2].overflows());
    }

    #[test]
    fn the_checkpoint_halfway_is_the_nearest_before_the_last() {
        assert_eq!(halfway(&[100, 400, 600, 1000], 1000), Some(400));
        assert_eq!(halfway(&[0, 1000], 1000), None);
        assert_eq!(halfway(&[], 1000), None);
    }
}
