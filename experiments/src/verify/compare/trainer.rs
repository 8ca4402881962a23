//! One run of a comparison, a step at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Bytes, Device, TensorData};
use burn::train::InferenceStep;
use burn_pack::{Reader, Tensor, Writer};
use foretoken_datasets::{TokenBatch, WindowLoader};
use foretoken_model::Transformer;
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Entrant, Tampering};
use crate::Error;
use crate::backend::precision::Precision;
use crate::engine::learner::PARTS;
use crate::engine::learner::{LanguageModel, Learner, WatchedBy};
use crate::engine::memory::refuse_training;
use crate::engine::parameters::{self, Parameters};
use crate::engine::setup::{Setup, in_precision};
use crate::engine::step::{Gradients, gradients, update};
use crate::engine::totals::Totals;

/// What sets a run apart from others of its entrant.
#[derive(Clone, Default)]
pub(crate) struct Variant {
    /// In place of the experiment's.
    pub(crate) seed: Option<u64>,
    /// Moves each initial weight by one unit in the last place, up or down as this number decides.
    pub(crate) nudge: Option<u64>,
    pub(crate) tampering: Tampering,
}

/// A model in training.
pub(crate) struct Trainer {
    setup: Setup,
    device: Device,
    learner: Learner,
    train: WindowLoader,
    variant: Variant,
    step: usize,
}

/// Where a run stands: its checkpoint, in memory.
pub(crate) struct Standing {
    step: usize,
    parts: BTreeMap<String, Vec<u8>>,
}

/// A step that was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Nats per token, before the update.
    pub(crate) loss: f64,
    /// Before clipping.
    pub(crate) gradient_norm: f64,
    /// Training tokens of the step.
    pub(crate) tokens: usize,
    pub(crate) seconds: f64,
    pub(crate) learning_rate: f64,
}

impl Trainer {
    /// A run before its first step.
    pub(crate) fn new(setup: &Setup, entrant: Entrant, variant: Variant) -> Result<Self, Error> {
        let setup = variant.tampering.setup(setup);
        let seed = variant.seed.unwrap_or(setup.experiment.train.seed);
        let device = entrant.name.device_for(entrant.dtype)?;
        let batch = setup.experiment.train.batch;
        refuse_training(&setup.model, batch, entrant.dtype, &device)?;
        let training = device.clone().autodiff();
        let transformer = setup.transformer(seed, &training)?;
        let transformer = variant.tampering.transformer(transformer);
        let transformer = in_precision(transformer, entrant.dtype);
        let transformer = match variant.nudge {
            Some(member) => nudged(transformer, entrant.dtype, member),
            None => transformer,
        };
        let model = LanguageModel {
            watched_by: WatchedBy(variant.tampering.watch.clone()),
            ..LanguageModel::new(transformer, seed).of(&setup.experiment)
        };
        Ok(Self {
            train: setup.train_loader(seed, &training)?,
            learner: setup.learner(model),
            setup,
            device,
            variant,
            step: 0,
        })
    }

    /// A run where another one stands, resumed from its checkpoint as training resumes, after weights and optimizer
    /// state are rounded to this entrant's precision. Without a checkpoint it is a run before its first step.
    pub(crate) fn at(
        setup: &Setup,
        entrant: Entrant,
        variant: Variant,
        standing: Option<&Standing>,
    ) -> Result<Self, Error> {
        let mut trainer = Self::new(setup, entrant, variant)?;
        let Some(standing) = standing else {
            return Ok(trainer);
        };
        trainer.step = standing.step;
        let mut parts = BTreeMap::new();
        for (name, bytes) in &standing.parts {
            let [_, optimizer, _] = PARTS;
            // Moments are kept in f32 at least.
            let precision = match entrant.dtype {
                Precision::BF16 | Precision::F16 if name == optimizer => Precision::F32,
                dtype => dtype,
            };
            parts.insert(name.clone(), rounded(bytes, precision)?);
        }
        trainer.load(parts)?;
        if let Some(member) = trainer.variant.nudge {
            trainer
                .learner
                .change(|transformer| nudged(transformer, entrant.dtype, member));
        }
        trainer.plant_late_mistake(true)?;
        Ok(trainer)
    }

    /// The checkpoint that training would save now.
    pub(crate) fn standing(&self) -> Result<Standing, Error> {
        Ok(Standing {
            step: self.step,
            parts: self.learner.to_parts()?,
        })
    }

    /// How many steps were taken, which is the number of the next one.
    pub(crate) fn next_step(&self) -> usize {
        self.step
    }

    /// Continues from the parts of a checkpoint.
    fn load(&mut self, parts: BTreeMap<String, Vec<u8>>) -> Result<(), Error> {
        let learner = self.setup.learner(self.learner.model().clone());
        self.learner = learner.load_parts(parts)?;
        Ok(())
    }

    /// Plants a mistake that acts from a later step on, if there is one and this is the step.
    fn plant_late_mistake(&mut self, resumed: bool) -> Result<(), Error> {
        let Some(late) = self.variant.tampering.late else {
            return Ok(());
        };
        let acts = match resumed {
            true => self.step >= late.from,
            false => self.step == late.from,
        };
        if acts {
            late.change_setup(&mut self.setup);
            let fresh = self.setup.learner(self.learner.model().clone());
            let parts = late.changed(self.step, self.learner.to_parts()?, fresh.to_parts()?)?;
            self.load(parts)?;
        }
        Ok(())
    }

    pub(crate) fn transformer(&self) -> Transformer {
        self.learner.model().transformer.clone()
    }

    /// The weights as they are now.
    pub(crate) fn weights(&self) -> Result<Parameters, Error> {
        parameters::weights(&self.learner.model().transformer)
    }

    /// The windows of the step that is next.
    fn windows(&self) -> Arc<dyn DataLoader<TokenBatch>> {
        let settings = &self.setup.experiment.train;
        let rows = settings.batch * settings.accumulation;
        self.train.slice(self.step * rows, (self.step + 1) * rows)
    }

    /// Forward and backward of the step that is next.
    pub(crate) fn gradients(&self) -> Result<Gradients, Error> {
        let windows = self.windows();
        let tampering = &self.variant.tampering;
        let batches = windows
            .iter()
            .map(|batch| batch.map(|batch| tampering.batch(batch)));
        gradients(&self.learner, batches, self.step)
    }

    /// Logits of the step that is next: the first rows of its first micro-batch, `most` elements and no more than
    /// complete a row. Fused operations keep none, so this is a forward pass of its own.
    pub(crate) fn logits(&self, most: usize) -> Result<Vec<f64>, Error> {
        let Some(batch) = self.windows().iter().next() else {
            return Ok(Vec::new());
        };
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        let [sequences, length] = batch.inputs.dims();
        let columns = self.setup.model.vocab_size;
        let rows = most.div_ceil(columns).min(sequences * length);
        let batch = self.variant.tampering.batch(batch);
        let logits = self
            .learner
            .model()
            .logits(batch, rows.div_ceil(length))
            .reshape([-1, columns as i64]);
        let logits = logits.detach().narrow(0, 0, rows);
        logits.try_into_vec_as().map_err(Error::device)
    }

    /// Takes a step with these gradients: the totals before it, and the gradient's norm.
    pub(crate) fn apply(&mut self, gradients: Gradients) -> Result<(Totals, f64), Error> {
        let clip = self.setup.experiment.optimizer.clip;
        let applied = gradients.apply(&mut self.learner, clip, &self.device)?;
        self.step += 1;
        Ok(applied)
    }

    /// Updates the weights with gradients of somebody else's.
    pub(crate) fn update(&mut self, gradients: GradientsParams) -> Result<(), Error> {
        let clip = self.setup.experiment.optimizer.clip;
        update(&mut self.learner, gradients, 1.0, clip, &self.device);
        self.step += 1;
        self.device.sync().map_err(Error::device)
    }

    /// Takes the next step.
    pub(crate) fn step(&mut self) -> Result<Taken, Error> {
        self.plant_late_mistake(false)?;
        let started = Instant::now();
        let step = self.step;
        let gradients = self.gradients()?;
        let (totals, gradient_norm) = self.apply(gradients)?;
        let seconds = started.elapsed().as_secs_f64();
        let loss = totals.loss();
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(Error::Training(format!(
                "the loss is {loss} and the gradient norm {gradient_norm} at step {step}"
            )));
        }
        Ok(Taken {
            loss,
            gradient_norm,
            tokens: totals.tokens,
            seconds,
            learning_rate: self.learner.learning_rate().base(),
        })
    }

    /// Totals over the experiment's validation windows. `go_on` is asked between batches.
    pub(crate) fn evaluate(&self, go_on: &dyn Fn() -> bool) -> Result<Option<Totals>, Error> {
        let windows = self.setup.experiment.train.eval_windows;
        let loader = self.setup.eval_loader(windows, &self.device)?;
        let model = self.learner.model().valid();
        let mut totals = Totals::default();
        for batch in loader.iter() {
            if !go_on() {
                return Ok(None);
            }
            let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
            totals += InferenceStep::step(&model, batch)
                .read()
                .map_err(Error::device)?;
        }
        Ok(Some(totals))
    }
}

/// A part of a checkpoint with its numbers rounded to another precision.
fn rounded(part: &[u8], precision: Precision) -> Result<Vec<u8>, Error> {
    let failed = |error: burn_pack::Error| Error::Training(error.to_string());
    let reader = Reader::from_bytes(Bytes::from_bytes_vec(part.to_vec())).map_err(failed)?;
    let (metadata, scalars) = (reader.metadata().clone(), reader.scalars().clone());
    let round = |tensor: Tensor| {
        let (name, dtype, shape, id, bytes) = tensor.into_parts()?;
        let data = TensorData::from_bytes(bytes, shape, dtype);
        let data = match dtype.is_float() {
            true => data.convert_dtype(precision.dtype()),
            false => data,
        };
        let (bytes, shape, dtype) = data.into_parts();
        Ok(Tensor::new(name, dtype, shape, id, bytes))
    };
    let tensors = reader.into_tensors().map_err(failed)?;
    let tensors: Result<Vec<_>, _> = tensors.into_iter().map(round).collect();
    let mut writer = Writer::new(tensors.map_err(failed)?);
    for (key, value) in &metadata {
        writer = writer.with_metadata(key, value);
    }
    for (key, value) in &scalars {
        writer = writer.with_scalar(key, *value);
    }
    Ok(writer.into_bytes().map_err(failed)?.to_vec())
}

/// Each weight moved by one unit in the last place of its precision, up or down as `member` decides. Zeros
/// stay: what is next to 0 is not a rounding away.
fn nudged(transformer: Transformer, precision: Precision, member: u64) -> Transformer {
    let mut random = ChaCha8Rng::seed_from_u64(member);
    parameters::changed(transformer, |mut values| {
        for value in &mut values {
            *value = next_to(*value, precision, random.next_u32() & 1 == 0);
        }
        values
    })
}

/// The number of this precision that is next to `value`, away from 0 or towards it.
fn next_to(value: f64, precision: Precision, away: bool) -> f64 {
    if value == 0.0 {
        return value;
    }
    let step16 = |bits: u16| if away { bits + 1 } else { bits - 1 };
    match precision {
        Precision::F64 => {
            let bits = value.to_bits();
            f64::from_bits(if away { bits + 1 } else { bits - 1 })
        }
        Precision::F32 => {
            let bits = (value as f32).to_bits();
            f64::from(f32::from_bits(if away { bits + 1 } else { bits - 1 }))
        }
        Precision::BF16 => bf16::from_bits(step16(bf16::from_f64(value).to_bits())).to_f64(),
        Precision::F16 => f16::from_bits(step16(f16::from_f64(value).to_bits())).to_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_unit_away() {
        for precision in Precision::ALL {
            let u = precision.unit_roundoff();
            assert_eq!(next_to(1.0, precision, true), 1.0 + 2.0 * u);
            assert_eq!(next_to(1.0, precision, false), 1.0 - u);
            assert_eq!(next_to(-1.0, precision, true), -1.0 - 2.0 * u);
            assert_eq!(next_to(0.0, precision, true), 0.0);
        }
    }
}
