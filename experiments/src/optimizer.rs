//! AdamW as the field trains transformers with it: decay on matrices only, one norm over all
//! gradients, linear warm-up into a cosine.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::{
    AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, GradientsParams, ModuleOptimizer,
    Optimizer, RecordState, StateSink, StateSource, join_path,
};
use burn::tensor::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::precision::Precision;

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
            if !value.is_finite() || value < 0.0 {
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

    /// Whether AdamW can work in this precision: an epsilon that is 0 there divides 0 by 0.
    pub(crate) fn fits(&self, precision: Precision) -> Result<(), Error> {
        if self.epsilon == 0.0 || self.epsilon >= precision.smallest() {
            return Ok(());
        }
        Err(Error::Experiment {
            origin: "optimizer.epsilon".into(),
            message: format!(
                "{:e} is 0 in {precision}: raise it, or train in another precision",
                self.epsilon
            ),
        })
    }

    /// AdamW with decay on matrices and none on biases and norms.
    pub fn init(&self) -> ModuleOptimizer {
        let adamw = |weight_decay: f64| {
            AdamWConfig::new()
                .with_beta_1(self.beta_1 as f32)
                .with_beta_2(self.beta_2 as f32)
                .with_epsilon(self.epsilon as f32)
                .with_weight_decay(weight_decay as f32)
                .build()
        };
        ModuleOptimizer::from(DecayMatrices {
            matrices: adamw(self.weight_decay),
            vectors: adamw(0.0),
        })
    }

    /// Learning rate of `step`, counted from 0: rises linearly over `warmup` steps, then follows half
    /// a cosine from `learning_rate` to `min_learning_rate` at `steps` (Loshchilov & Hutter 2017).
    pub fn learning_rate_at(&self, step: usize, steps: usize) -> f64 {
        if step < self.warmup {
            return self.learning_rate * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let progress =
            (step - self.warmup) as f64 / (steps.saturating_sub(self.warmup)).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
        self.min_learning_rate + cosine * (self.learning_rate - self.min_learning_rate)
    }
}

/// AdamW with two decays, chosen by the parameter's rank. The rank decides, not a list of names or
/// identifiers, so a resumed process cannot group parameters otherwise.
#[derive(Clone)]
struct DecayMatrices {
    matrices: AdamW,
    vectors: AdamW,
}

impl Optimizer for DecayMatrices {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<D>, Option<Self::State<D>>) {
        let adamw = if D >= 2 {
            &self.matrices
        } else {
            &self.vectors
        };
        let (tensor, state) = adamw.step(lr, tensor, grad, state.map(|state| state.0));
        (tensor, state.map(Moments))
    }

    fn to_device<const D: usize>(state: Self::State<D>, device: &Device) -> Self::State<D> {
        Moments(AdamW::to_device(state.0, device))
    }
}

/// AdamW's state, read back in the precision that it was saved in: Burn reads it in the device's default one.
#[derive(Clone)]
struct Moments<const D: usize>(AdamWState<D>);

impl<const D: usize> RecordState for Moments<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        self.0.state_flatten(prefix, out);
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        // Names as Burn writes them.
        let prefix = join_path(prefix, "momentum");
        let time = src.take_scalar(&prefix, "time")?.try_into().ok()?;
        let mut moment = |name| {
            let data = src.take_tensor(&prefix, name)?;
            let dtype = data.dtype();
            Some(Tensor::from_data(data, (device, dtype)))
        };
        let (moment_1, moment_2) = (moment("moment_1")?, moment("moment_2")?);
        let momentum = AdaptiveMomentumState::new(time, moment_1, moment_2);
        Some(Self(AdamWState::new(momentum)))
    }
}

/// The schedule as burn-train's learner steps it: a pure function of the step it stands at.
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

/// Euclidean norm over all gradients of a module, as one scalar on the device: shape `[1]`.
pub fn gradient_norm<M: Module>(
    module: &M,
    gradients: &GradientsParams,
    device: &Device,
) -> Tensor<1> {
    struct SumOfSquares<'a> {
        gradients: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for SumOfSquares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
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
        sums: Vec::new(),
    };
    module.visit(&mut visitor);
    match visitor.sums.is_empty() {
        true => Tensor::zeros([1], device),
        false => Tensor::cat(visitor.sums, 0).sum().sqrt(),
    }
}

/// Multiplies every gradient by the same scalar, shape `[1]`, without leaving the device.
pub fn scale_gradients<M: Module>(
    module: &M,
    gradients: GradientsParams,
    factor: &Tensor<1>,
) -> GradientsParams {
    struct Scale<'a> {
        from: GradientsParams,
        to: GradientsParams,
        factor: &'a Tensor<1>,
    }
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.from.remove::<D>(param.id) {
                let factor = self.factor.clone().cast(gradient.dtype());
                let factor = factor.reshape([1; D]);
                self.to.register(param.id, gradient.mul(factor));
            }
        }
    }
    let mut visitor = Scale {
        from: gradients,
        to: GradientsParams::new(),
        factor,
    };
    module.visit(&mut visitor);
    visitor.to
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(
            (rate(60) - (1e-4 + 0.5 * 9e-4)).abs() < 1e-12,
            "half-way down the cosine"
        );
        assert!((rate(110) - 1e-4).abs() < 1e-15);
        assert!((rate(500) - 1e-4).abs() < 1e-15, "stays at the minimum");
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
        fn step(&mut self, config: &OptimizerConfig, decay: f64, lr: f64, w: f64, g: f64) -> f64 {
            self.steps += 1;
            self.m = config.beta_1 * self.m + (1.0 - config.beta_1) * g;
            self.v = config.beta_2 * self.v + (1.0 - config.beta_2) * g * g;
            let m = self.m / (1.0 - config.beta_1.powi(self.steps));
            let v = self.v / (1.0 - config.beta_2.powi(self.steps));
            w - lr * decay * w - lr * m / (v.sqrt() + config.epsilon)
        }
    }

    #[test]
    fn adamw_follows_its_f64_reference_and_decays_matrices_only() {
        let config = OptimizerConfig {
            weight_decay: 0.3,
            ..config()
        };
        let device = crate::backend::Backend::default_backend().device().unwrap();
        let optimizer = DecayMatrices {
            matrices: AdamWConfig::new()
                .with_beta_2(0.95)
                .with_epsilon(1e-8)
                .with_weight_decay(0.3)
                .build(),
            vectors: AdamWConfig::new()
                .with_beta_2(0.95)
                .with_epsilon(1e-8)
                .with_weight_decay(0.0)
                .build(),
        };
        let (mut matrix, mut vector) = (
            Tensor::<2>::from_data([[0.7f32]], &device),
            Tensor::<1>::from_data([0.7f32], &device),
        );
        let (mut matrix_state, mut vector_state) = (None, None);
        let new = || Reference {
            m: 0.0,
            v: 0.0,
            steps: 0,
        };
        let (mut of_matrix, mut of_vector) = (new(), new());
        let (mut w_matrix, mut w_vector) = (0.7f64, 0.7f64);
        for step in 0..200 {
            let gradient = ((step as f64) * 0.7).sin() + 0.1;
            let lr = config.learning_rate_at(step, 200) * 10.0;
            (matrix, matrix_state) = optimizer.step(
                lr,
                matrix,
                Tensor::from_data([[gradient as f32]], &device),
                matrix_state,
            );
            (vector, vector_state) = optimizer.step(
                lr,
                vector,
                Tensor::from_data([gradient as f32], &device),
                vector_state,
            );
            w_matrix = of_matrix.step(&config, 0.3, lr, w_matrix, gradient);
            w_vector = of_vector.step(&config, 0.0, lr, w_vector, gradient);
        }
        let read = |data: TensorData| data.iter::<f64>().next().unwrap();
        // 200 updates of at most 1e-2, each rounded to f32: 200 × 2⁻²⁴ relative, and the bias corrections
        // 1 − βᵗ that Burn takes in f32; 1e-4 leaves a factor of ten.
        assert!((read(matrix.into_data()) - w_matrix).abs() < 1e-4);
        assert!((read(vector.into_data()) - w_vector).abs() < 1e-4);
        assert!((w_matrix - w_vector).abs() > 0.01, "the decay is visible");
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
