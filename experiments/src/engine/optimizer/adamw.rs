//! AdamW for transformers: it decays only matrices, and scales gradients as it reads them, so that clipping by their
//! global norm is part of the update.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{
    AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, ModuleOptimizer,
    Optimizer as Rule, OptimizerRecord, RecordState, StateSink, StateSource, join_path,
};
use burn::tensor::{Device, Tensor};
use burn_pack::{Reader, Writer};
use foretoken_model::ops::{AdamW, adamw, precision_of_statistics};

use super::{LanguageModel, Optimizer};
use crate::Error;
use crate::engine::records::{self, Handle};
use crate::experiment::OptimizerConfig;

/// AdamW for a module, which multiplies all gradients of an update by one scalar as it reads them.
///
/// Weights and moments change in place unless a clone shares them.
pub struct ScaledAdamW {
    /// Burn's optimizer, which holds and records the moments of every parameter.
    burn: ModuleOptimizer,
    scale: Scale,
}

impl ScaledAdamW {
    /// Returns AdamW with decay of matrices, but not of biases and norms: one operation per parameter if `fused`, or
    /// else Burn's own operations.
    pub fn new(config: &OptimizerConfig, fused: bool) -> Self {
        let scale = Scale::default();
        let rule = DecayMatrices {
            config: config.clone(),
            fused,
            scale: scale.clone(),
        };
        Self {
            burn: rule.into(),
            scale,
        }
    }

    /// Returns the module after an update with its gradients times `scale`, `[1]`.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: impl Into<ModuleLearningRate>,
        module: M,
        gradients: GradientsParams,
        scale: Tensor<1>,
    ) -> M {
        // Burn passes a rule only one parameter with its gradient and moments, so the scale is passed in a shared cell.
        *self.scale.lock() = Some(scale);
        let module = self.burn.step(learning_rate, module, gradients);
        *self.scale.lock() = None;
        module
    }
}

impl Optimizer for ScaledAdamW {
    fn update(
        &mut self,
        learning_rate: ModuleLearningRate,
        model: LanguageModel,
        gradients: GradientsParams,
        scale: Tensor<1>,
    ) -> LanguageModel {
        self.step(learning_rate, model, gradients, scale)
    }

    fn to_record(&self) -> OptimizerRecord {
        self.burn.to_record()
    }

    fn load_record(&mut self, record: OptimizerRecord, device: &Device) {
        READ_TO.set(Some(device.clone().inner()));
        self.burn = self.burn.clone().load_record(record);
        READ_TO.set(None);
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        HANDLES.set(Some(Vec::new()));
        let without_tensors = self.to_record().into_bytes();
        let tensors = HANDLES.take().unwrap_or_default();
        let pack = without_tensors
            .map_err(|error| error.to_string())
            .and_then(|bytes| Reader::from_bytes(bytes).map_err(|error| error.to_string()))
            .map_err(|error| Error::Training(format!("{}: {error}", path.display())))?;
        let mut writer = Writer::new(tensors);
        for (name, scalar) in pack.scalars() {
            writer = writer.with_scalar(name, *scalar);
        }
        for (name, text) in pack.metadata() {
            writer = writer.with_metadata(name, text);
        }
        records::write(writer, path)
    }
}

/// Scale of the update under way.
#[derive(Clone, Default)]
struct Scale(Arc<Mutex<Option<Tensor<1>>>>);

impl Scale {
    fn lock(&self) -> MutexGuard<'_, Option<Tensor<1>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rule of AdamW that decays parameters of rank 2 or more. The rank does not depend on names or identifiers, so a
/// resumed process groups parameters in the same way.
#[derive(Clone)]
struct DecayMatrices {
    config: OptimizerConfig,
    fused: bool,
    /// Factor of gradients; `None` means 1.
    scale: Scale,
}

impl Rule for DecayMatrices {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        learning_rate: f64,
        weights: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let config = &self.config;
        let weight_decay = if D >= 2 { config.weight_decay } else { 0.0 };
        let scale = self.scale.lock().clone();
        let scale = scale.unwrap_or_else(|| Tensor::ones([1], &gradient.device()));
        let (dtype, computed) = (weights.dtype(), precision_of_statistics(weights.dtype()));
        if !self.fused {
            let (weights, gradient) = (weights.cast(computed), gradient.cast(computed));
            let scale = scale.cast(computed).reshape([1; D]);
            let state = state.map(|state| state.0);
            let (weights, state) = AdamWConfig::new()
                .with_beta_1(config.beta_1 as f32)
                .with_beta_2(config.beta_2 as f32)
                .with_epsilon(config.epsilon as f32)
                .with_weight_decay(weight_decay as f32)
                .build()
                .step(learning_rate, weights, gradient.mul(scale), state);
            return (weights.cast(dtype), state.map(Moments));
        }
        let (time, moments) = match state {
            Some(Moments(AdamWState { momentum })) => {
                (momentum.time, [momentum.moment_1, momentum.moment_2])
            }
            None => {
                let zeros = || Tensor::zeros(weights.dims(), (&weights.device(), computed));
                (0, [zeros(), zeros()])
            }
        };
        let time = time + 1;
        let update = AdamW {
            learning_rate,
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            epsilon: config.epsilon,
            weight_decay,
            time,
        };
        let (weights, [first, second]) = adamw(weights, gradient, moments, scale, update);
        (weights, Some(Moments::new(time, first, second)))
    }

    fn to_device<const D: usize>(state: Moments<D>, device: &Device) -> Moments<D> {
        Moments(AdamWState::new(state.0.momentum.to_device(device)))
    }
}

/// State of AdamW, which is read in its own precision of at least f32; Burn would read it in the device's default
/// precision. Checkpoints of older versions hold it in the precision of the weights.
#[derive(Clone)]
struct Moments<const D: usize>(AdamWState<D>);

impl<const D: usize> Moments<D> {
    fn new(time: usize, first: Tensor<D>, second: Tensor<D>) -> Self {
        Self(AdamWState::new(AdaptiveMomentumState::new(
            time, first, second,
        )))
    }
}

thread_local! {
    /// Moments of the record under way, which are read only when they are written. They are global because Burn's
    /// interface of records has no argument for them.
    static HANDLES: RefCell<Option<Vec<burn_pack::Tensor>>> = const { RefCell::new(None) };

    /// Device to which the moments of a record are read. Burn itself uses the default device of the build, which can be
    /// a GPU that is not used, has no driver or does not support their precision.
    static READ_TO: RefCell<Option<Device>> = const { RefCell::new(None) };
}

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let momentum = &self.0.momentum;
        let deferred = HANDLES.with_borrow_mut(|handles| {
            let (Some(handles), Ok(id)) = (handles, prefix.parse()) else {
                return false;
            };
            // The names must match Burn's records.
            let prefix = join_path(prefix, "momentum");
            for (name, moment) in [
                ("moment_1", &momentum.moment_1),
                ("moment_2", &momentum.moment_2),
            ] {
                let handle = Handle::new(moment.clone());
                handles.push(handle.deferred(&join_path(&prefix, name), id));
            }
            out.push_scalar(&prefix, "time", momentum.time.into());
            true
        });
        if !deferred {
            self.0.state_flatten(prefix, out);
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        // The names must match Burn's records.
        let prefix = join_path(prefix, "momentum");
        let time = src.take_scalar(&prefix, "time")?.try_into().ok()?;
        let device = READ_TO.with_borrow(|read_to| read_to.clone().unwrap_or(device.clone()));
        let mut moment = |name| {
            let data = src.take_tensor(&prefix, name)?;
            let dtype = precision_of_statistics(data.dtype());
            Some(Tensor::from_data(data, (&device, dtype)))
        };
        Some(Self::new(time, moment("moment_1")?, moment("moment_2")?))
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::{DType, TensorData};

    use super::*;
    use crate::engine::optimizer::gradient_norm;
    use crate::engine::step::mean_and_clip;

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            warmup: 10,
            ..Default::default()
        }
    }

    /// Reference implementation of AdamW in f64, as in its paper.
    struct Reference {
        m: f64,
        v: f64,
        steps: i32,
    }

    impl Reference {
        fn new() -> Self {
            Self {
                m: 0.0,
                v: 0.0,
                steps: 0,
            }
        }

        fn step(&mut self, config: &OptimizerConfig, decay: f64, lr: f64, w: f64, g: f64) -> f64 {
            self.steps += 1;
            self.m = config.beta_1 * self.m + (1.0 - config.beta_1) * g;
            self.v = config.beta_2 * self.v + (1.0 - config.beta_2) * g * g;
            let m = self.m / (1.0 - config.beta_1.powi(self.steps));
            let v = self.v / (1.0 - config.beta_2.powi(self.steps));
            w - lr * decay * w - lr * m / (v.sqrt() + config.epsilon)
        }
    }

    /// A matrix and a vector with one weight each.
    type Weights = (Param<Tensor<2>>, Param<Tensor<1>>);

    fn device() -> Device {
        crate::backend::Backend::default_backend().device().unwrap()
    }

    fn weights() -> Weights {
        let device = device().autodiff();
        (
            Param::from_data([[0.7f32]], &device),
            Param::from_data([0.7f32], &device),
        )
    }

    /// Returns the gradient of a step for optimizers and references.
    fn gradient(step: usize) -> f64 {
        ((step as f64) * 0.7).sin() + 0.1
    }

    fn gradients(weights: &Weights, values: [f64; 2]) -> GradientsParams {
        let [matrix, vector] = values.map(|value| value as f32);
        let mut gradients = GradientsParams::new();
        gradients.register(weights.0.id, Tensor::<2>::from_data([[matrix]], &device()));
        gradients.register(weights.1.id, Tensor::<1>::from_data([vector], &device()));
        gradients
    }

    fn scalar(value: f64) -> Tensor<1> {
        Tensor::from_data([value as f32], &device())
    }

    fn values(weights: &Weights) -> [f64; 2] {
        let read = |data: TensorData| data.iter::<f64>().next().unwrap();
        [
            read(weights.0.val().into_data()),
            read(weights.1.val().into_data()),
        ]
    }

    #[test]
    fn adamw_follows_its_f64_reference_and_decays_matrices_only() {
        let config = OptimizerConfig {
            weight_decay: 0.3,
            ..config()
        };
        for fused in [true, false] {
            let (mut optimizer, mut weights) = (ScaledAdamW::new(&config, fused), weights());
            let mut expected = [0.7f64; 2];
            let mut references = [Reference::new(), Reference::new()];
            for step in 0..200 {
                let gradient = gradient(step);
                let lr = 1e-2 * (1.0 - step as f64 / 250.0);
                let given = gradients(&weights, [2.0 * gradient; 2]);
                weights = optimizer.step(lr, weights, given, scalar(0.5));
                for (index, decay) in [0.3, 0.0].into_iter().enumerate() {
                    let w = &mut expected[index];
                    *w = references[index].step(&config, decay, lr, *w, gradient);
                }
            }
            // The error of 200 updates of at most 1e-2, each rounded to f32, is 200 × 2⁻²⁴ relative, plus that of the
            // bias corrections 1 − βᵗ, which Burn computes in f32; 1e-4 leaves a factor of ten.
            for (actual, expected) in values(&weights).into_iter().zip(expected) {
                assert!((actual - expected).abs() < 1e-4, "{actual} and {expected}");
            }
            assert!(
                (expected[0] - expected[1]).abs() > 0.01,
                "the decay is visible"
            );
        }
    }

    #[test]
    fn clipping_within_an_update_is_clipping_before_it() {
        let config = config();
        // Some means of the sums over four micro-batches are clipped, and some are not.
        let (mean, clip) = (0.25, 0.2);
        let (mut optimizer, mut weights) = (ScaledAdamW::new(&config, true), weights());
        let mut expected = [0.7f64; 2];
        let mut references = [Reference::new(), Reference::new()];
        let mut clipped = 0;
        for step in 0..20 {
            let sums = [gradient(step), -0.5 * gradient(step + 3)];
            let given = gradients(&weights, sums);
            let norm = gradient_norm(&weights, &given, true, &device()).mul_scalar(mean);
            let scale = mean_and_clip(&norm, mean, clip);
            weights = optimizer.step(1e-2, weights, given, scale);

            let norm = mean * sums[0].hypot(sums[1]);
            let factor = (clip / (norm + 1e-6)).min(1.0);
            clipped += usize::from(factor < 1.0);
            for (index, decay) in [config.weight_decay, 0.0].into_iter().enumerate() {
                let (w, g) = (&mut expected[index], factor * mean * sums[index]);
                *w = references[index].step(&config, decay, 1e-2, *w, g);
            }
        }
        assert!((1..20).contains(&clipped), "{clipped}");
        for (actual, expected) in values(&weights).into_iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-5, "{actual} and {expected}");
        }
    }

    /// Returns the weights after the updates of the given steps.
    fn after(
        mut step: impl FnMut(Weights, GradientsParams) -> Weights,
        mut weights: Weights,
        steps: std::ops::Range<usize>,
    ) -> Weights {
        for number in steps {
            let given = gradients(&weights, [gradient(number); 2]);
            weights = step(weights, given);
        }
        weights
    }

    #[test]
    fn a_restored_optimizer_continues_with_the_same_bits() {
        for fused in [true, false] {
            let step = |optimizer: &mut ScaledAdamW, weights, given| {
                optimizer.step(1e-2, weights, given, scalar(0.3))
            };
            let mut whole = ScaledAdamW::new(&config(), fused);
            let middle = after(|w, g| step(&mut whole, w, g), weights(), 0..5);
            let bytes = whole.to_record().into_bytes().unwrap();
            let record = OptimizerRecord::from_bytes(bytes).unwrap();
            let mut restored = ScaledAdamW::new(&config(), fused);
            restored.load_record(record, &device());
            let mut fresh = ScaledAdamW::new(&config(), fused);

            let end = after(|w, g| step(&mut whole, w, g), middle.clone(), 5..9);
            let again = after(|w, g| step(&mut restored, w, g), middle.clone(), 5..9);
            let other = after(|w, g| step(&mut fresh, w, g), middle, 5..9);
            assert_eq!(values(&end), values(&again));
            assert_ne!(values(&end), values(&other), "moments matter");
        }
    }

    #[test]
    fn moments_are_written_as_burn_records_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("optimizer.bpk");
        for fused in [true, false] {
            let mut optimizer = ScaledAdamW::new(&config(), fused);
            let before = optimizer.to_record().into_bytes().unwrap();
            optimizer.write(&path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), before[..], "without moments");
            after(
                |w, g| optimizer.step(1e-2, w, g, scalar(0.3)),
                weights(),
                0..3,
            );
            optimizer.write(&path).unwrap();
            let expected = optimizer.to_record().into_bytes().unwrap();
            assert!(expected.len() > before.len());
            assert_eq!(std::fs::read(&path).unwrap(), expected[..]);
        }
    }

    #[test]
    fn records_are_those_of_burns_own_adamw() {
        let rate = 1e-2;
        let OptimizerConfig {
            beta_1,
            beta_2,
            epsilon,
            ..
        } = config();
        // Decay is 0, because Burn's AdamW decays all parameters or none.
        let config = OptimizerConfig {
            weight_decay: 0.0,
            ..config()
        };
        let burn = || {
            AdamWConfig::new()
                .with_beta_1(beta_1 as f32)
                .with_beta_2(beta_2 as f32)
                .with_epsilon(epsilon as f32)
                .with_weight_decay(0.0)
                .init()
        };
        let pass = |record: OptimizerRecord| {
            OptimizerRecord::from_bytes(record.into_bytes().unwrap()).unwrap()
        };
        let (mut ours, mut theirs) = (ScaledAdamW::new(&config, true), burn());
        let middle = after(|w, g| ours.step(rate, w, g, scalar(1.0)), weights(), 0..5);
        let other_middle = after(|w, g| theirs.step(rate, w, g), weights(), 0..5);
        // Each optimizer continues from the state of the other.
        let mut ours_then = burn().load_record(pass(ours.to_record()));
        let mut theirs_then = ScaledAdamW::new(&config, true);
        theirs_then.load_record(pass(theirs.to_record()), &device());
        let one = |optimizer: &mut ScaledAdamW, w, g| optimizer.step(rate, w, g, scalar(1.0));
        let expected = after(|w, g| one(&mut ours, w, g), middle.clone(), 5..9);
        let by_burn = after(|w, g| ours_then.step(rate, w, g), middle, 5..9);
        let by_us = after(|w, g| one(&mut theirs_then, w, g), other_middle, 5..9);
        for found in [by_burn, by_us] {
            for (a, b) in values(&found).into_iter().zip(values(&expected)) {
                assert!((a - b).abs() < 1e-6, "{a} and {b}");
            }
        }
    }

    #[test]
    fn moments_of_half_precision_are_kept_and_restored_in_f32() {
        for dtype in [DType::BF16, DType::F16] {
            for fused in [true, false] {
                let device = device();
                let half = |weights: Weights| {
                    let weight = weights.0.map(|weight| weight.detach().cast(dtype));
                    (weight, weights.1.map(|weight| weight.detach().cast(dtype)))
                };
                let step = |optimizer: &mut ScaledAdamW, weights: Weights, number: usize| {
                    let mut gradients = GradientsParams::new();
                    // The square of the gradient is 0 in f16.
                    let value = 1e-4 * gradient(number);
                    let tensor = Tensor::<2>::from_data([[value]], (&device, dtype));
                    gradients.register(weights.0.id, tensor);
                    optimizer.step(1e-2, weights, gradients, scalar(0.3))
                };
                let mut whole = ScaledAdamW::new(&config(), fused);
                let mut weights = half(self::weights());
                for number in 0..3 {
                    weights = step(&mut whole, weights, number);
                }
                let bytes = whole.to_record().into_bytes().unwrap();
                let record = OptimizerRecord::from_bytes(bytes).unwrap();
                let mut restored = ScaledAdamW::new(&config(), fused);
                restored.load_record(record, &device);
                let end = step(&mut whole, weights.clone(), 3);
                let again = step(&mut restored, weights.clone(), 3);
                assert_eq!(end.0.val().dtype(), dtype);
                assert_eq!(values(&end), values(&again), "{dtype:?} fused {fused}");
                // Adam's steps do not depend on the size of gradients.
                let moved = values(&half(self::weights()))[0] - values(&end)[0];
                assert!(
                    (0.02..0.06).contains(&moved),
                    "{dtype:?} fused {fused}: {moved}"
                );
            }
        }
    }
}
