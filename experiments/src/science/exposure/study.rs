//! A study of free running: walks along the data and free walks from the same prompts, and what follows from them.

use std::sync::atomic::AtomicBool;

use foretoken_datasets::world::TokenOracle;
use foretoken_model::{Sampler, Transformer};

use super::accumulate::{Treatment, accumulated, alive, by_step, lengths, per_step};
use super::predictor::{Exact, Model, ModelOracle, Oracle, Predictor};
use super::record::{DataRecord, Method, OracleRecord, SmoothedRecord, StrategyRecord};
use super::repetition::{Repetition, Text, repetition};
use super::sequences::Sequences;
use super::strategy::Strategy;
use super::support::support;
use super::walk::{Trace, Walk};
use crate::Error;
use crate::engine::memory::refuse_generating;
use crate::science::bootstrap::Bootstrap;

/// Settings of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Ways of choosing tokens.
    pub strategies: Vec<Strategy>,
    /// Weights of the uniform distribution with which an exact oracle is smoothed.
    pub smoothing: [f64; 2],
    /// Number of sequences that are continued at once. It does not change the result, but for rounding.
    pub batch: usize,
    /// Draws of the bootstrap over sequences.
    pub draws: usize,
    /// Seed of the draws of tokens, and of the bootstrap.
    pub seed: u64,
}

/// Oracle that a model is compared with.
pub enum Judge<'j> {
    /// The exact oracle of a world, at the start of a document, and the name of the world.
    Exact(Box<TokenOracle>, String),
    /// Another model with the same tokenizer, and its description.
    Model(&'j Transformer, String),
}

/// A model and its judge, on sequences of the data.
pub struct Study<'s> {
    /// The model.
    pub model: &'s Transformer,
    /// Oracle that the model is compared with.
    pub judge: Judge<'s>,
    /// The data.
    pub sequences: &'s Sequences,
    /// Settings.
    pub settings: Settings,
}

/// Numbers of a study, without the conditions that it does not know.
pub(super) struct Results {
    pub(super) on_data: DataRecord,
    pub(super) strategies: Vec<StrategyRecord>,
}

impl Study<'_> {
    /// Returns how the study measures.
    pub fn method(&self) -> Method {
        let length = self.sequences.length();
        Method {
            oracle: match &self.judge {
                Judge::Exact(_, world) => OracleRecord::Exact {
                    world: world.clone(),
                },
                Judge::Model(_, model) => OracleRecord::Model {
                    model: model.clone(),
                },
            },
            data: self.sequences.origin.clone(),
            sequences: self.sequences.count(),
            prompt: self.sequences.prompt,
            length,
            context: self.model.config().context,
            by_document: self.sequences.end.is_some(),
            smoothing: self.settings.smoothing,
            seed: self.settings.seed,
            draws: self.settings.draws,
            lengths: lengths(length),
        }
    }

    /// Returns the largest number of tokens that all walks draw.
    pub fn tokens(&self) -> usize {
        let walks = self.settings.strategies.len() + 1;
        walks * self.sequences.count() * self.sequences.length()
    }

    /// Walks along the data and with every strategy. `progress` is called with the number of tokens after each step.
    ///
    /// # Errors
    ///
    /// Returns an error if the machine's memory cannot hold a batch, a model fails, the data leave the support of the
    /// oracle, or `interrupt` is set.
    pub fn run(
        &self,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<(DataRecord, Vec<StrategyRecord>), Error> {
        let batch = self.settings.batch.min(self.sequences.count());
        let length = self.sequences.prompt + self.sequences.length();
        let models = [Some(self.model), self.judge.model()];
        for model in models.into_iter().flatten() {
            refuse_generating("--batch", model.config(), batch, length, &model.device())?;
        }
        let mut predictor = Model::new(self.model);
        let mut oracle: Box<dyn Oracle + '_> = match &self.judge {
            Judge::Exact(oracle, _) => Box::new(Exact::new((**oracle).clone())),
            Judge::Model(model, _) => Box::new(ModelOracle(Model::new(model))),
        };
        let results = measure(
            &mut predictor,
            &mut *oracle,
            self.judge.model().is_none(),
            self.sequences,
            &self.settings,
            interrupt,
            progress,
        )?;
        Ok((results.on_data, results.strategies))
    }
}

impl Judge<'_> {
    fn model(&self) -> Option<&Transformer> {
        match self {
            Self::Exact(..) => None,
            Self::Model(model, _) => Some(model),
        }
    }
}

/// Measures a predictor against an oracle, which excludes texts if it `is_exact`.
pub(super) fn measure(
    predictor: &mut dyn Predictor,
    oracle: &mut dyn Oracle,
    is_exact: bool,
    sequences: &Sequences,
    settings: &Settings,
    interrupt: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Results, Error> {
    let bootstrap = Bootstrap {
        draws: settings.draws,
        seed: settings.seed,
    };
    let prompts = sequences.prompts();
    let walk = Walk {
        length: sequences.length(),
        end: sequences.end,
        weights: settings.smoothing,
        batch: settings.batch,
        interrupt,
    };
    let data = along_data(&walk, predictor, oracle, sequences, progress)?;
    if data.iter().any(|trace| !trace.leaves.is_empty()) {
        return Err(Error::Evaluation(
            "the data have a token that the oracle excludes, which is an error of the oracle"
                .into(),
        ));
    }
    let lengths = lengths(walk.length);
    let treatments = [Treatment::Smoothed(0), Treatment::Smoothed(1)];
    let on_data = DataRecord {
        alive: alive(&lengths, &data),
        per_step: per_step(bootstrap, &lengths, &data, Treatment::Possible),
        smoothed_per_step: treatments
            .map(|treatment| per_step(bootstrap, &lengths, &data, treatment)),
        by_step: by_step(&data, walk.length),
        repetition: written(bootstrap, &data),
        predicted: predicted(bootstrap, &data),
    };
    let mut strategies = Vec::new();
    for strategy in &settings.strategies {
        let mut samplers = (0..prompts.len())
            .map(|number| Sampler::nth(strategy.sampling.clone(), settings.seed, number))
            .collect::<Result<Vec<_>, _>>()?;
        let mut choose = |number: usize, text: &[u32], logits: &[f32]| {
            Ok(samplers[number].sample(logits, text)?)
        };
        let free = walk.run(predictor, oracle, &prompts, &mut choose, progress)?;
        let accumulated = |treatment| accumulated(bootstrap, &lengths, &free, &data, treatment);
        let smoothed = |index: usize| SmoothedRecord {
            weight: settings.smoothing[index],
            accumulated: accumulated(treatments[index]),
        };
        strategies.push(StrategyRecord {
            strategy: strategy.clone(),
            accumulated: accumulated(Treatment::Possible),
            by_step: by_step(&free, walk.length),
            never_left: is_exact.then(|| accumulated(Treatment::NeverLeft)),
            smoothed: is_exact.then(|| [smoothed(0), smoothed(1)]),
            support: sequences
                .border
                .filter(|_| is_exact)
                .map(|border| support(bootstrap, &lengths, &free, &data, border)),
            repetition: written(bootstrap, &free),
        });
    }
    Ok(Results {
        on_data,
        strategies,
    })
}

/// Walks along the data: each token is that of the sequence.
fn along_data(
    walk: &Walk<'_>,
    predictor: &mut dyn Predictor,
    oracle: &mut dyn Oracle,
    sequences: &Sequences,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Trace>, Error> {
    let mut next = |number: usize, text: &[u32], _: &[f32]| Ok(sequences.rows[number][text.len()]);
    walk.run(predictor, oracle, &sequences.prompts(), &mut next, progress)
}

/// Measures the repetition of the tokens after each prompt.
fn written(bootstrap: Bootstrap, traces: &[Trace]) -> Repetition {
    let texts: Vec<Text<'_>> = traces
        .iter()
        .map(|trace| Text {
            tokens: &trace.tokens,
            first: trace.prompt,
            written: trace.continuation(),
        })
        .collect();
    repetition(bootstrap, &texts)
}

/// Measures the repetition of the tokens that the model ranks first, in the text that they follow.
fn predicted(bootstrap: Bootstrap, traces: &[Trace]) -> Repetition {
    let texts: Vec<Text<'_>> = traces
        .iter()
        .map(|trace| Text {
            tokens: &trace.tokens,
            first: trace.prompt,
            written: &trace.best,
        })
        .collect();
    repetition(bootstrap, &texts)
}
