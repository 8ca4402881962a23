//! AdamW as the field trains transformers with it: decay on matrices only, one norm over all
//! gradients, linear warm-up into a cosine.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::{
    AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, ModuleOptimizer, Optimizer,
    OptimizerRecord, RecordState, StateSink, StateSource, join_path,
};
use burn::tensor::{DType, Device, Tensor};
use burn_pack::{Reader, Writer};
use foretoken_model::ops::{AdamW, adamw, precision_of_statistics, sum_of_squares};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::engine::records::{self, Handle};

/// `[optimizer]`: defaults are those of GPT-3 and nanoGPT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Peak learning rate, reached at the end of warm-up.
    pub learning_rate: f64,
    /// Learning rate of the last step.
    pub min_learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay on parameters of rank 2 and more (Loshchilov & Hutter 2019).
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 leaves gradients as they are.
    pub clip: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            min_learning_rate: 1e-4,
            warmup: 100,
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip: 1.0,
        }
    }
}

impl OptimizerConfig {
    /// Names the first key whose value makes no sense, and why.
    pub(crate) fn validate(&self) -> Result<(), (&'static str, String)> {
        let non_negative = [
            ("optimizer.learning_rate", self.learning_rate),
            ("optimizer.min_learning_rate", self.min_learning_rate),
            ("optimizer.epsilon", self.epsilon),
            ("optimizer.weight_decay", self.weight_decay),
            ("optimizer.clip", self.clip),
        ];
        for (key, value) in non_negative {
            // In f32 too, which most models are trained in.
            if !(value as f32).is_finite() || value < 0.0 {
                return Err((
                    key,
                    format!("{value} must be a number that is not negative"),
                ));
            }
        }
        for (key, value) in [
            ("optimizer.beta_1", self.beta_1),
            ("optimizer.beta_2", self.beta_2),
        ] {
            if !(0.0..1.0).contains(&value) {
                return Err((key, format!("{value} must be at least 0 and below 1")));
            }
        }
        if self.min_learning_rate > self.learning_rate {
            return Err((
                "optimizer.min_learning_rate",
                format!(
                    "{} is above optimizer.learning_rate, {}",
                    self.min_learning_rate, self.learning_rate
                ),
            ));
        }
        Ok(())
    }

    /// AdamW with decay on matrices and none on biases and norms, as one operation or as Burn's own, which is many.
    pub fn init(&self, fused: bool) -> ScaledAdamW {
        let scale = Scale::default();
        let rule = DecayMatrices {
            config: self.clone(),
            fused,
            scale: scale.clone(),
        };
        ScaledAdamW {
            burn: rule.into(),
            scale,
        }
    }

    /// Learning rate of `step`, counted from 0, in a run of `steps`: rises linearly over `warmup` steps, then follows
    /// half a cosine from `learning_rate` to `min_learning_rate`, which the last step has (Loshchilov & Hutter 2017).
    /// A run of no more than `warmup` + 1 steps ends while the rate still rises.
    pub fn learning_rate_at(&self, step: usize, steps: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / (self.warmup as f64 + 1.0);
        }
        let falling = steps.saturating_sub(self.warmup).saturating_sub(1).max(1);
        let progress = (step - self.warmup) as f64 / falling as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
        self.min_learning_rate + cosine * (self.learning_rate - self.min_learning_rate)
    }
}

/// AdamW over a whole module, which multiplies all gradients of an update by one scalar as it reads them.
///
/// Weights and moments change in place where nobody else holds them.
pub struct ScaledAdamW {
    /// Keeps and records the moments of every parameter.
    burn: ModuleOptimizer,
    scale: Scale,
}

impl ScaledAdamW {
    /// A module after an update with its gradients times `scale`, `[1]`.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: impl Into<ModuleLearningRate>,
        module: M,
        gradients: GradientsParams,
        scale: Tensor<1>,
    ) -> M {
        // Burn hands a rule one parameter at a time, with its gradient and its moments and nothing else.
        *self.scale.lock() = Some(scale);
        let module = self.burn.step(learning_rate, module, gradients);
        *self.scale.lock() = None;
        module
    }

    /// The moments, as Burn records its own AdamW's.
    pub fn to_record(&self) -> OptimizerRecord {
        self.burn.to_record()
    }

    /// Writes the moments as [`to_record`](Self::to_record) has them, a tensor at a time.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
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

    /// Replaces the moments by those of a record, on `device`, which is that of the weights.
    pub fn load_record(self, record: OptimizerRecord, device: &Device) -> Self {
        READ_TO.set(Some(device.clone().inner()));
        let burn = self.burn.load_record(record);
        READ_TO.set(None);
        Self { burn, ..self }
    }

    /// As burn-train's learner has it. It shares the moments, which are copied in an update as long as it lives.
    pub(crate) fn of_burn(&self) -> ModuleOptimizer {
        self.burn.clone()
    }
}

/// The scale of the update under way.
#[derive(Clone, Default)]
struct Scale(Arc<Mutex<Option<Tensor<1>>>>);

impl Scale {
    fn lock(&self) -> MutexGuard<'_, Option<Tensor<1>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// AdamW with two decays, chosen by the parameter's rank. The rank decides, not a list of names or
/// identifiers, so a resumed process cannot group parameters otherwise.
#[derive(Clone)]
struct DecayMatrices {
    config: OptimizerConfig,
    fused: bool,
    /// Nothing leaves gradients as they are.
    scale: Scale,
}

impl Optimizer for DecayMatrices {
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

/// AdamW's state, read back in the precision that it is computed in, f32 at least; Burn reads it in the device's default
/// one. Checkpoints of older versions hold it in the weights' own.
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
    /// The moments of a record under way that are to be read when they are written, and not before. Burn asks each
    /// parameter's state for numbers, and hands it nothing by which it could tell.
    static HANDLES: RefCell<Option<Vec<burn_pack::Tensor>>> = const { RefCell::new(None) };

    /// Device that the moments of a record are read to. Burn itself takes the default device of the build, which may be
    /// a GPU that is not used, has no driver or does not compute in their precision.
    static READ_TO: RefCell<Option<Device>> = const { RefCell::new(None) };
}

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let momentum = &self.0.momentum;
        let deferred = HANDLES.with_borrow_mut(|handles| {
            let (Some(handles), Ok(id)) = (handles, prefix.parse()) else {
                return false;
            };
            // Names as Burn writes them.
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
        // Names as Burn writes them.
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

/// The schedule as a learner steps it: a pure function of the step it stands at.
#[derive(Clone)]
pub(crate) struct WarmupCosine {
    pub(crate) config: OptimizerConfig,
    pub(crate) steps: usize,
    pub(crate) next: usize,
}

impl LrScheduler for WarmupCosine {
    fn step(&mut self) -> f64 {
        let rate = self.config.learning_rate_at(self.next, self.steps);
        self.next += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("next", self.next as u64)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(next) = record.scalar::<u64>("next") {
            self.next = next as usize;
        }
    }
}

/// Euclidean norm over all gradients of a module, as one scalar on the device: shape `[1]`. Its sums are fused
/// operations, or Burn's own.
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
                // Half precision loses a sum of so many squares.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::step::mean_and_clip;
    use burn::tensor::TensorData;

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            warmup: 10,
            ..Default::default()
        }
    }

    #[test]
    fn schedule_rises_peaks_and_ends_where_it_should() {
        let config = config();
        let rate = |step| config.learning_rate_at(step, 110);
        assert!((rate(0) - 1e-3 / 11.0).abs() < 1e-15);
        assert!((0..10).all(|step| rate(step) < rate(step + 1)));
        assert!((rate(10) - 1e-3).abs() < 1e-15);
        assert!((10..109).all(|step| rate(step) > rate(step + 1)));
        // Between the two steps in the middle of the 99 that fall.
        let middle = 0.5 * (rate(59) + rate(60));
        assert!((middle - (1e-4 + 0.5 * 9e-4)).abs() < 1e-12, "{middle}");
        assert!((rate(109) - 1e-4).abs() < 1e-15, "the last step");
        assert!((rate(500) - 1e-4).abs() < 1e-15, "stays at the minimum");
        // As short as a schedule can be that falls: one step at the peak, one at the minimum.
        let short = [10, 11].map(|step| config.learning_rate_at(step, 12));
        assert!((short[0] - 1e-3).abs() < 1e-15 && (short[1] - 1e-4).abs() < 1e-15);
        let endless = OptimizerConfig {
            warmup: usize::MAX,
            ..config.clone()
        };
        assert!(endless.learning_rate_at(0, 10) > 0.0);
        // Shorter runs end while the rate rises.
        for steps in 1..=11 {
            assert_eq!(config.learning_rate_at(steps - 1, steps), rate(steps - 1));
        }
    }

    #[test]
    fn a_schedule_restored_from_its_record_goes_on_where_it_stood() {
        let mut schedule = WarmupCosine {
            config: config(),
            steps: 50,
            next: 0,
        };
        for _ in 0..17 {
            schedule.step();
        }
        let mut restored = WarmupCosine {
            config: config(),
            steps: 50,
            next: 0,
        };
        restored.load_record(schedule.to_record());
        assert_eq!(restored.step(), schedule.step());
    }

    /// AdamW as its paper writes it, in f64.
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

    /// A matrix and a vector, of one weight each.
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

    /// The same numbers for both optimizers and their references.
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
            let (mut optimizer, mut weights) = (config.init(fused), weights());
            let mut expected = [0.7f64; 2];
            let mut references = [Reference::new(), Reference::new()];
            for step in 0..200 {
                let gradient = gradient(step);
                let lr = config.learning_rate_at(step, 200) * 10.0;
                let given = gradients(&weights, [2.0 * gradient; 2]);
                weights = optimizer.step(lr, weights, given, scalar(0.5));
                for (index, decay) in [0.3, 0.0].into_iter().enumerate() {
                    let w = &mut expected[index];
                    *w = references[index].step(&config, decay, lr, *w, gradient);
                }
            }
            // 200 updates of at most 1e-2, each rounded to f32: 200 × 2⁻²⁴ relative, and the bias corrections
            // 1 − βᵗ that Burn takes in f32; 1e-4 leaves a factor of ten.
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
        // Sums over four micro-batches, of which some means are clipped and some are not.
        let (mean, clip) = (0.25, 0.2);
        let (mut optimizer, mut weights) = (config.init(true), weights());
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

    /// Weights after the updates of some steps.
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
    fn a_restored_optimizer_goes_on_with_the_same_bits() {
        for fused in [true, false] {
            let step = |optimizer: &mut ScaledAdamW, weights, given| {
                optimizer.step(1e-2, weights, given, scalar(0.3))
            };
            let mut whole = config().init(fused);
            let middle = after(|w, g| step(&mut whole, w, g), weights(), 0..5);
            let bytes = whole.to_record().into_bytes().unwrap();
            let record = OptimizerRecord::from_bytes(bytes).unwrap();
            let mut restored = config().init(fused).load_record(record, &device());
            let mut fresh = config().init(fused);

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
            let mut optimizer = config().init(fused);
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
        // Without decay, which Burn's has for all parameters or for none.
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
        let (mut ours, mut theirs) = (config.init(true), burn());
        let middle = after(|w, g| ours.step(rate, w, g, scalar(1.0)), weights(), 0..5);
        let other_middle = after(|w, g| theirs.step(rate, w, g), weights(), 0..5);
        // Each goes on where the other stood.
        let mut ours_then = burn().load_record(pass(ours.to_record()));
        let theirs_then = config.init(true);
        let mut theirs_then = theirs_then.load_record(pass(theirs.to_record()), &device());
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
                    // In f16 its square is 0.
                    let value = 1e-4 * gradient(number);
                    let tensor = Tensor::<2>::from_data([[value]], (&device, dtype));
                    gradients.register(weights.0.id, tensor);
                    optimizer.step(1e-2, weights, gradients, scalar(0.3))
                };
                let mut whole = config().init(fused);
                let mut weights = half(self::weights());
                for number in 0..3 {
                    weights = step(&mut whole, weights, number);
                }
                let bytes = whole.to_record().into_bytes().unwrap();
                let record = OptimizerRecord::from_bytes(bytes).unwrap();
                let mut restored = config().init(fused).load_record(record, &device);
                let end = step(&mut whole, weights.clone(), 3);
                let again = step(&mut restored, weights.clone(), 3);
                assert_eq!(end.0.val().dtype(), dtype);
                assert_eq!(values(&end), values(&again), "{dtype:?} fused {fused}");
                // About a step each, whatever the size of gradients.
                let moved = values(&half(self::weights()))[0] - values(&end)[0];
                assert!(
                    (0.02..0.06).contains(&moved),
                    "{dtype:?} fused {fused}: {moved}"
                );
            }
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let key = |config: OptimizerConfig| config.validate().unwrap_err().0;
        assert_eq!(
            key(OptimizerConfig {
                learning_rate: f64::NAN,
                ..config()
            }),
            "optimizer.learning_rate"
        );
        assert_eq!(
            key(OptimizerConfig {
                beta_2: 1.0,
                ..config()
            }),
            "optimizer.beta_2"
        );
        assert_eq!(
            key(OptimizerConfig {
                min_learning_rate: 1.0,
                ..config()
            }),
            "optimizer.min_learning_rate"
        );
        assert!(config().validate().is_ok());
    }
}
