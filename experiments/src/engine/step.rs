//! One optimizer step: forward and backward over the micro-batches, the mean, the clip, the update.
//!
//! Training and comparing both take their steps here, so that what is compared is what trains.

use burn::data::dataset::DatasetError;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use foretoken_datasets::TokenBatch;
use foretoken_model::ops::{among_threads, precision_of_statistics};

use crate::Error;
use crate::engine::learner::{Learner, places};
use crate::engine::optimizer::gradient_norm;
use crate::engine::totals::{StepOutput, Totals};

/// What forward and backward passes over a step's micro-batches give.
pub(crate) struct Gradients {
    /// Sums over micro-batches.
    pub(crate) sums: GradientsParams,
    /// What a sum is multiplied with to be the gradient of the loss.
    pub(crate) mean: f64,
    outputs: Vec<StepOutput>,
}

/// Forward and backward over a step's micro-batches; `step` is only told in errors.
pub(crate) fn gradients(
    learner: &Learner,
    batches: impl Iterator<Item = Result<TokenBatch, DatasetError>>,
    step: usize,
) -> Result<Gradients, Error> {
    let mut accumulator = GradientsAccumulator::new();
    let mut outputs = Vec::new();
    let mut batch_places = 0.0;
    for batch in batches {
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        batch_places = places(&batch);
        let output = learner.train_step(batch);
        accumulator.accumulate(learner.model(), widened(learner.model(), output.grads));
        outputs.push(output.item);
    }
    let weight: f64 = outputs.iter().map(StepOutput::weight).sum();
    if weight <= 0.0 {
        return Err(Error::Training(format!(
            "no target of step {step} counts: all of their weights are 0"
        )));
    }
    Ok(Gradients {
        sums: accumulator.grads(),
        mean: batch_places / weight,
        outputs,
    })
}

/// Gradients in f32 at least: in half precision the sum over many micro-batches would stand still.
fn widened<M: Module>(module: &M, gradients: GradientsParams) -> GradientsParams {
    struct Widen {
        from: GradientsParams,
        to: GradientsParams,
    }
    impl ModuleVisitor for Widen {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.from.remove::<D>(param.id) {
                let dtype = precision_of_statistics(gradient.dtype());
                self.to.register(param.id, gradient.cast(dtype));
            }
        }
    }
    let mut widen = Widen {
        from: gradients,
        to: GradientsParams::new(),
    };
    module.visit(&mut widen);
    widen.to
}

/// A whole step as training takes it: its totals, and the gradient's global norm before clipping.
#[doc(hidden)]
pub fn take_step(
    learner: &mut Learner,
    batches: impl Iterator<Item = Result<TokenBatch, DatasetError>>,
    step: usize,
    clip: f64,
    device: &Device,
) -> Result<(Totals, f64), Error> {
    gradients(learner, batches, step)?.apply(learner, clip, device)
}

impl Gradients {
    /// The step's totals, where the gradients are not applied.
    pub(crate) fn into_totals(self) -> Result<Totals, Error> {
        totals(self.outputs)
    }

    /// Clips, updates the weights and waits for the device; the step's totals, and the gradient's global norm
    /// before clipping.
    pub(crate) fn apply(
        self,
        learner: &mut Learner,
        clip: f64,
        device: &Device,
    ) -> Result<(Totals, f64), Error> {
        let norm = update(learner, self.sums, self.mean, clip, device);
        let totals = totals(self.outputs)?;
        let norm = norm.try_into_scalar::<f64>().map_err(Error::device)?;
        device.sync().map_err(Error::device)?;
        Ok((totals, norm))
    }
}

/// Takes the mean of gradient sums, clips, and updates the weights; the mean's global norm before clipping,
/// `[1]`.
pub(crate) fn update(
    learner: &mut Learner,
    sums: GradientsParams,
    mean: f64,
    clip: f64,
    device: &Device,
) -> Tensor<1> {
    let model = learner.model();
    let (norm, sums) = among_threads(device, move || {
        let norm = gradient_norm(model, &sums, model.fused, device);
        (norm.mul_scalar(mean), sums)
    });
    learner.update(sums, mean_and_clip(&norm, mean, clip));
    norm
}

/// Waits for the device.
fn totals(outputs: Vec<StepOutput>) -> Result<Totals, Error> {
    let mut totals = Totals::default();
    for output in outputs {
        totals += output.read().map_err(Error::device)?;
    }
    Ok(totals)
}

/// What sums of gradients are multiplied with to be the mean, clipped by its global `norm`; both are `[1]`.
///
/// The clip is PyTorch's `clip_grad_norm_`: min(1, clip / (norm + 1e-6)).
pub(crate) fn mean_and_clip(norm: &Tensor<1>, mean: f64, clip: f64) -> Tensor<1> {
    match clip > 0.0 {
        true => norm
            .clone()
            .add_scalar(1e-6)
            .recip()
            .mul_scalar(clip)
            .clamp_max(1.0)
            .mul_scalar(mean),
        false => norm.full_like(mean),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;

    #[test]
    fn gradients_of_many_micro_batches_add_up_in_half_precision() {
        let device = crate::backend::Backend::default_backend().device().unwrap();
        for dtype in [DType::BF16, DType::F16] {
            let ones = || Tensor::<1>::ones([2], (&device, dtype));
            let weights: Param<Tensor<1>> = Param::from_tensor(ones());
            let mut accumulator = GradientsAccumulator::new();
            for _ in 0..3000 {
                let mut gradients = GradientsParams::new();
                gradients.register(weights.id, ones());
                accumulator.accumulate(&weights, widened(&weights, gradients));
            }
            let sum = accumulator.grads().get::<1>(weights.id).unwrap();
            // In bf16 it stays at 256, in f16 at 2048.
            let sum: Vec<f64> = sum.try_into_vec_as().unwrap();
            assert_eq!(sum, [3000.0; 2], "{dtype:?}");
        }
    }
}
