//! Mistakes made on purpose in one entrant: how a comparison is shown to find them.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::tensor::Bytes;
use burn_pack::{Reader, Scalar, Writer};
use foretoken_datasets::TokenBatch;
use foretoken_model::{ModelConfig, Transformer, Watch};

use crate::Error;
use crate::engine::learner::PARTS;
use crate::engine::optimizer::OptimizerConfig;
use crate::engine::setup::Setup;

/// What one entrant does otherwise than the experiment says. The default changes nothing.
#[doc(hidden)]
#[derive(Clone, Default)]
pub struct Tampering {
    /// Computes with another configuration; the weights keep their shapes.
    pub model: Option<fn(&mut ModelConfig)>,
    /// Changes weights after they were initialised, on the entrant's device.
    pub weights: Option<fn(Transformer) -> Transformer>,
    /// Updates with other settings.
    pub optimizer: Option<fn(&mut OptimizerConfig)>,
    /// Trains on other windows.
    pub batch: Option<fn(TokenBatch) -> TokenBatch>,
    /// Computes operations otherwise, forward or backward.
    pub watch: Option<Arc<dyn Watch>>,
    /// Goes wrong from a later step on.
    pub late: Option<LateMistake>,
}

/// A mistake of what a run carries from step to step.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateMistake {
    /// The first step that is wrong, counted from 0.
    pub from: usize,
    /// What goes wrong.
    pub kind: LateKind,
}

/// What goes wrong late.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateKind {
    /// The learning rate is that of the next step.
    ScheduleOffByOne,
    /// The schedule's step counter overflows and begins again.
    ScheduleOverflow,
    /// The optimizer's step counter overflows and begins again; the moments stay.
    OptimizerOverflow,
    /// Weights do not decay any more.
    WeightDecayLost,
    /// Moments are lost when a run is resumed.
    MomentsReset,
}

impl LateMistake {
    /// Changes the settings of the steps that follow.
    pub(crate) fn change_setup(self, setup: &mut Setup) {
        if self.kind == LateKind::WeightDecayLost {
            setup.experiment.optimizer.weight_decay = 0.0;
        }
    }

    /// The parts of a checkpoint at `step` with the mistake in them; `fresh` are those of a run that begins.
    pub(crate) fn changed(
        self,
        step: usize,
        mut parts: BTreeMap<String, Vec<u8>>,
        mut fresh: BTreeMap<String, Vec<u8>>,
    ) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let failed = |error: String| Error::Training(error);
        let [_, optimizer, schedule] = PARTS;
        let next = match self.kind {
            LateKind::ScheduleOffByOne => Some(step + 1),
            LateKind::ScheduleOverflow => Some(step - self.from),
            _ => None,
        };
        if let Some(next) = next {
            let record = LrSchedulerRecord::new().with_scalar("next", next as u64);
            let bytes = record.into_bytes().map_err(|e| failed(e.to_string()))?;
            parts.insert(schedule.into(), bytes.to_vec());
        }
        if self.kind == LateKind::MomentsReset {
            parts.insert(
                optimizer.into(),
                fresh.remove(optimizer).unwrap_or_default(),
            );
        }
        if self.kind == LateKind::OptimizerOverflow {
            let bytes = parts.remove(optimizer).unwrap_or_default();
            let begun = |bytes: Vec<u8>| -> Result<Vec<u8>, burn_pack::Error> {
                let reader = Reader::from_bytes(Bytes::from_bytes_vec(bytes))?;
                let (metadata, scalars) = (reader.metadata().clone(), reader.scalars().clone());
                let mut writer = Writer::new(reader.into_tensors()?);
                for (key, value) in &metadata {
                    writer = writer.with_metadata(key, value);
                }
                for (key, value) in scalars {
                    let value = match key.ends_with(".time") {
                        true => Scalar::from(step - self.from),
                        false => value,
                    };
                    writer = writer.with_scalar(&key, value);
                }
                Ok(writer.into_bytes()?.to_vec())
            };
            let bytes = begun(bytes).map_err(|e| failed(e.to_string()))?;
            parts.insert(optimizer.into(), bytes);
        }
        Ok(parts)
    }
}

impl Tampering {
    /// Whether this is the default.
    pub(crate) fn changes_nothing(&self) -> bool {
        let Self {
            model,
            weights,
            optimizer,
            batch,
            watch,
            late,
        } = self;
        model.is_none()
            && weights.is_none()
            && optimizer.is_none()
            && batch.is_none()
            && watch.is_none()
            && late.is_none()
    }

    /// The setup as this entrant sees it.
    pub(crate) fn setup(&self, setup: &Setup) -> Setup {
        let mut setup = setup.clone();
        if let Some(change) = self.model {
            change(&mut setup.model);
        }
        if let Some(change) = self.optimizer {
            change(&mut setup.experiment.optimizer);
        }
        setup
    }

    /// The network as this entrant has it.
    pub(crate) fn transformer(&self, transformer: Transformer) -> Transformer {
        match self.weights {
            Some(change) => change(transformer),
            None => transformer,
        }
    }

    /// A batch as this entrant reads it.
    pub(crate) fn batch(&self, batch: TokenBatch) -> TokenBatch {
        match self.batch {
            Some(change) => change(batch),
            None => batch,
        }
    }
}
