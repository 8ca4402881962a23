//! Mistakes made on purpose in one entrant: how a comparison is shown to find them.

use std::sync::Arc;

use foretoken_datasets::TokenBatch;
use foretoken_model::{ModelConfig, Transformer, Watch};

use crate::optimizer::OptimizerConfig;
use crate::setup::Setup;

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
        } = self;
        model.is_none()
            && weights.is_none()
            && optimizer.is_none()
            && batch.is_none()
            && watch.is_none()
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
