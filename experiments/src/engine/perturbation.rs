//! Deliberate deviations of a session from its experiment, for tests that a comparison finds mistakes.

use std::fmt;
use std::sync::Arc;

use foretoken_datasets::TokenBatch;
use foretoken_model::{ModelConfig, Transformer, Watch};

use super::learner::Learner;
use super::setup::Setup;
use crate::Error;
use crate::experiment::OptimizerConfig;

/// Moments at which [`Perturbation::carried`] is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A step is about to be taken.
    BeforeStep,
    /// A checkpoint was loaded.
    Loaded,
}

/// Function that changes the state which a session carries between steps, given the number of steps taken.
pub type Carried =
    Arc<dyn Fn(Moment, usize, &mut Setup, &mut Learner) -> Result<(), Error> + Send + Sync>;

/// Deviations of one session from its experiment. The default changes nothing.
#[derive(Clone, Default)]
pub struct Perturbation {
    /// Changes the configuration of the model, but not the shapes of its weights.
    pub model: Option<fn(&mut ModelConfig)>,
    /// Changes weights after their initialisation, on the session's device.
    pub weights: Option<fn(Transformer) -> Transformer>,
    /// Changes settings of the optimizer.
    pub optimizer: Option<fn(&mut OptimizerConfig)>,
    /// Changes training batches.
    pub batch: Option<fn(TokenBatch) -> TokenBatch>,
    /// Changes operations, forward or backward.
    pub watch: Option<Arc<dyn Watch>>,
    /// Changes optimizer, schedule or settings during a run.
    pub carried: Option<Carried>,
    /// Changes tokens before they are read into a cache, so that its entries are wrong.
    pub cached: Option<fn(&mut [u32])>,
}

impl Perturbation {
    /// Returns whether there is no deviation.
    pub fn is_none(&self) -> bool {
        let Self {
            model,
            weights,
            optimizer,
            batch,
            watch,
            carried,
            cached,
        } = self;
        model.is_none()
            && weights.is_none()
            && optimizer.is_none()
            && batch.is_none()
            && watch.is_none()
            && carried.is_none()
            && cached.is_none()
    }

    /// Returns the setup with the changed model and optimizer.
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

    pub(crate) fn watch(&self) -> Option<&dyn Watch> {
        self.watch.as_deref()
    }

    pub(crate) fn transformer(&self, transformer: Transformer) -> Transformer {
        match self.weights {
            Some(change) => change(transformer),
            None => transformer,
        }
    }

    pub(crate) fn batch(&self, batch: TokenBatch) -> TokenBatch {
        match self.batch {
            Some(change) => change(batch),
            None => batch,
        }
    }
}

impl fmt::Debug for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "none" } else { "some" })
    }
}
