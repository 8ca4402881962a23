//! One optimizer step: forward and backward over the micro-batches, mean, clip and update.
//!
//! Training, comparisons and benches all use this step.

use burn::data::dataset::DatasetError;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use foretoken_datasets::TokenBatch;
use foretoken_model::Watch;
use foretoken_model::ops::{among_threads, precision_of_statistics};

use super::learner::Learner;
use super::optimizer::gradient_norm;
use super::totals::{Sums, Totals};
use crate::Error;

/// Gradients over the micro-batches of a step, before the update.
pub(crate) struct Gradients {
    /// Gradients of the sum over the targets of all micro-batches. They are not divided before the update, because a
    /// mean over many tokens and a large vocabulary underflows in half precision.
    pub(crate) sums: GradientsParams,
    /// Factor from sums to gradients of the loss: 1 / weight of all targets.
    pub(crate) mean: f64,
    batches: Vec<Sums>,
}

/// Runs forward and backward over the micro-batches of a step. `step` is its number, for errors. `watch` observes every
/// operation.
pub(crate) fn gradients(
    learner: &Learner,
    batches: impl Iterator<Item = Result<TokenBatch, DatasetError>>,
    step: usize,
    watch: Option<&dyn Watch>,
) -> Result<Gradients, Error> {
    let model = learner.model();
    let mut accumulator = GradientsAccumulator::new();
    let mut sums = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|error| Error::Training(error.to_string()))?;
        let (gradients, batch_sums) = model.backward(batch, watch);
        accumulator.accumulate(model, widened(model, gradients));
        sums.push(batch_sums);
    }
    let weight: f64 = sums.iter().map(|sums| sums.weight).sum();
    if weight <= 0.0 {
        return Err(Error::Training(format!(
            "every target of step {step} has loss weight 0; check data.loss_weight"
        )));
    }
    Ok(Gradients {
        sums: accumulator.grads(),
        mean: weight.recip(),
        batches: sums,
    })
}

/// Casts gradients to at least f32, because sums over many micro-batches stop growing in half precision.
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

/// Takes a complete step. Returns its totals, and the global norm of the gradient before clipping.
///
/// # Errors
///
/// Returns an error if a batch cannot be read, every target has loss weight 0, or the device fails.
pub fn take_step(
    learner: &mut Learner,
    batches: impl Iterator<Item = Result<TokenBatch, DatasetError>>,
    step: usize,
    clip: f64,
    device: &Device,
) -> Result<(Totals, f64), Error> {
    gradients(learner, batches, step, None)?.apply(learner, clip, device)
}

impl Gradients {
    /// Waits for the device, and returns the totals of the step without an update.
    pub(crate) fn into_totals(self) -> Result<Totals, Error> {
        totals(self.batches)
    }

    /// Clips, updates the weights and waits for the device. Returns the totals of the step, and the global norm of the
    /// gradient before clipping.
    pub(crate) fn apply(
        self,
        learner: &mut Learner,
        clip: f64,
        device: &Device,
    ) -> Result<(Totals, f64), Error> {
        let norm = update(learner, self.sums, self.mean, clip, device);
        let totals = totals(self.batches)?;
        let norm = norm.try_into_scalar::<f64>().map_err(Error::device)?;
        device.sync().map_err(Error::device)?;
        Ok((totals, norm))
    }
}

/// Updates the weights with the clipped mean of gradient sums. Returns the global norm of the mean before clipping,
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

/// Waits for the device, and returns the totals of all batches.
fn totals(batches: Vec<Sums>) -> Result<Totals, Error> {
    let mut totals = Totals::default();
    for sums in batches {
        totals += sums.read().map_err(Error::device)?;
    }
    Ok(totals)
}

/// Returns the factor, `[1]`, from a sum of gradients to their mean, clipped by the mean's global `norm`, `[1]`.
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

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::ModuleMapper;
    use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
    use burn::tensor::DType;
    use foretoken_model::ModelConfig;

    use super::*;
    use crate::backend::Backend;
    use crate::engine::language_model::LanguageModel;
    use crate::engine::language_model::tests::window;
    use crate::engine::optimizer::optimizer;
    use crate::experiment::OptimizerConfig;

    #[test]
    fn gradients_of_many_micro_batches_add_up_in_half_precision() {
        let device = Backend::default_backend().device().unwrap();
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
            // In half precision, the sum would stop at 256 in bf16, and at 2048 in f16.
            let sum: Vec<f64> = sum.try_into_vec_as().unwrap();
            assert_eq!(sum, [3000.0; 2], "{dtype:?}");
        }
    }

    /// Mapper that moves weights out and back, and records their addresses, which change only for shared weights.
    struct Addresses(Vec<*const u8>);

    impl ModuleMapper for Addresses {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, weights, mapper) = param.consume();
            let device = weights.device();
            let data = weights.inner().into_data();
            self.0.push(data.as_bytes().as_ptr());
            let weights = Tensor::from_data(data, &device).require_grad();
            Param::from_mapped_value(id, weights, mapper)
        }
    }

    fn addresses(learner: &mut Learner) -> Vec<*const u8> {
        let mut all = Addresses(Vec::new());
        let model = learner.take_model().map(&mut all);
        learner.put_model(model);
        all.0
    }

    #[test]
    fn steps_change_weights_in_place() {
        let device = Backend::Flex.device().unwrap();
        let training = device.clone().autodiff();
        let transformer = ModelConfig::new(17, 16, 2, 2, 32)
            .init(3, &training)
            .unwrap();
        let mut learner = Learner::new(
            LanguageModel::new(transformer, 0),
            optimizer(&OptimizerConfig::default(), true),
            ModuleLrScheduler::new(1e-2),
        );
        addresses(&mut learner);
        let before = addresses(&mut learner);
        let mut losses = Vec::new();
        for step in 0..3 {
            let batches = [Ok(window(0, &training)), Ok(window(1, &training))];
            let taken = take_step(&mut learner, batches.into_iter(), step, 1.0, &device);
            losses.push(taken.unwrap().0.loss());
        }
        assert!(losses[2] < losses[0], "{losses:?}");
        assert_eq!(addresses(&mut learner), before);

        // An update copies weights that a clone shares.
        let held = learner.model().clone();
        let batches = [Ok(window(0, &training))];
        take_step(&mut learner, batches.into_iter(), 3, 1.0, &device).unwrap();
        drop(held);
        let after = addresses(&mut learner);
        assert!(after.iter().zip(&before).all(|(a, b)| a != b));
    }
}
