//! Optimizers. A new one needs a file in this folder, a name in [`OptimizerName`] and an arm of [`optimizer`].

mod adamw;

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, OptimizerRecord};
use burn::tensor::{DType, Device, Tensor};
use foretoken_model::ops::sum_of_squares;

use super::language_model::LanguageModel;
use crate::Error;
use crate::experiment::{OptimizerConfig, OptimizerName};

pub use adamw::ScaledAdamW;

/// An optimizer of a language model, with its state.
pub trait Optimizer: Send {
    /// Returns the model after an update with its gradients times `scale`, `[1]`. Weights and state change in place
    /// unless another clone holds them.
    fn update(
        &mut self,
        learning_rate: ModuleLearningRate,
        model: LanguageModel,
        gradients: GradientsParams,
        scale: Tensor<1>,
    ) -> LanguageModel;

    /// Returns the state as Burn's record.
    fn to_record(&self) -> OptimizerRecord;

    /// Replaces the state by a record, on `device`, which must be the device of the weights.
    fn load_record(&mut self, record: OptimizerRecord, device: &Device);

    /// Writes the [record](Self::to_record) of the state to a file, one tensor at a time.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written, or the device fails.
    fn write(&self, path: &Path) -> Result<(), Error>;
}

/// Returns the optimizer that an experiment names: one operation per parameter if `fused`, or else Burn's own
/// operations.
pub fn optimizer(config: &OptimizerConfig, fused: bool) -> Box<dyn Optimizer> {
    match config.name {
        OptimizerName::AdamW => Box::new(ScaledAdamW::new(config, fused)),
    }
}

/// Computes the Euclidean norm over all gradients of a module, `[1]`, on the device, with fused operations or Burn's
/// own.
pub fn gradient_norm<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    fused: bool,
    device: &Device,
) -> Tensor<1> {
    struct SumOfSquares<'a> {
        gradients: &'a GradientsParams,
        fused: bool,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for SumOfSquares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                if self.fused {
                    self.sums.push(sum_of_squares(gradient));
                    return;
                }
                // Half precision cannot hold a sum of so many squares.
                let gradient = match gradient.dtype() {
                    DType::F16 | DType::BF16 => gradient.cast(DType::F32),
                    _ => gradient,
                };
                self.sums.push(gradient.square().sum());
            }
        }
    }
    let mut visitor = SumOfSquares {
        gradients,
        fused,
        sums: Vec::new(),
    };
    module.visit(&mut visitor);
    match visitor.sums.is_empty() {
        true => Tensor::zeros([1], device),
        false => Tensor::cat(visitor.sums, 0).sum().sqrt(),
    }
}
