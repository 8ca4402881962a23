//! AdamW (Loshchilov & Hutter 2019, <https://arxiv.org/abs/1711.05101>), all of an update in one pass.
//!
//! With `g` the gradient times the scale: `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`,
//! `w ← (1 - lr · decay) w - lr · m̂ / (√v̂ + epsilon)`, where `m̂ = m / (1 - β₁ᵗ)` and `v̂ = v / (1 - β₂ᵗ)`.
//!
//! Weights in half precision are updated in f32, and their moments are kept in f32: in bf16 `1 - lr · decay` and
//! `β₂ = 0.999` are 1, and in f16 `g²` is 0 for a gradient below 2e-4. What half precision still costs is the rounding of
//! the new weight: a change of less than half a unit in its last place is lost (in bf16 0.2 to 0.4 % of the weight), as
//! long as there is neither a copy of the weights in f32 nor stochastic rounding, and there is neither here.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch};
use burn::tensor::{DType, Tensor};

use super::Fused;
use super::plain::{Plain, at_least_f32};

/// The numbers of an update.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// The learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// The update's number, counted from 1.
    pub time: usize,
}

impl AdamW {
    /// `1 - βᵗ`, of both.
    pub(crate) fn corrections(&self) -> [f64; 2] {
        let time = i32::try_from(self.time).unwrap_or(i32::MAX);
        [self.beta_1, self.beta_2].map(|beta| 1.0 - beta.powi(time))
    }

    /// What a kernel in f32 computes with.
    #[cfg(any(feature = "flex", feature = "cube"))]
    pub(crate) fn factors(&self) -> Factors {
        let [first_correction, second_correction] = self.corrections();
        Factors {
            beta_1: self.beta_1 as f32,
            rest_1: (1.0 - self.beta_1) as f32,
            beta_2: self.beta_2 as f32,
            rest_2: (1.0 - self.beta_2) as f32,
            rate: (self.learning_rate / first_correction) as f32,
            second_factor: (1.0 / second_correction) as f32,
            epsilon: self.epsilon as f32,
            kept: (1.0 - self.learning_rate * self.weight_decay) as f32,
        }
    }
}

/// The numbers of an update in f32, what does not change from weight to weight computed before.
#[cfg(any(feature = "flex", feature = "cube"))]
#[derive(Clone, Copy)]
pub(crate) struct Factors {
    pub(crate) beta_1: f32,
    /// `1 - β₁`
    pub(crate) rest_1: f32,
    pub(crate) beta_2: f32,
    /// `1 - β₂`
    pub(crate) rest_2: f32,
    /// The learning rate over the first moment's correction.
    pub(crate) rate: f32,
    /// What the second moment's correction multiplies it with.
    pub(crate) second_factor: f32,
    pub(crate) epsilon: f32,
    /// What weight decay leaves of a weight.
    pub(crate) kept: f32,
}

/// The precision in which sums and moments of tensors of this one are kept, and weights updated: f32 at least.
pub fn precision_of_statistics(weights: DType) -> DType {
    at_least_f32(weights)
}

/// The weights and their first and second moments after an update with `gradient` times `scale`, `[1]`.
///
/// Weights keep their precision. The update is computed, and moments are returned, in
/// [that of statistics](precision_of_statistics), whatever the arguments are in. Where they are held by nobody else,
/// moments are changed in place, and so are weights that are not in half precision.
///
/// # Panics
/// When gradient or moments have another shape than the weights, when the scale is not one number, or when
/// [`AdamW::time`] is 0.
pub fn adamw<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
    scale: Tensor<1>,
    update: AdamW,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let shape = weights.dims();
    let others = [&gradient, &moments[0], &moments[1]].map(Tensor::dims);
    assert!(
        others == [shape; 3],
        "weights are {shape:?}, their gradient {:?} and their moments {:?} and {:?}",
        others[0],
        others[1],
        others[2],
    );
    assert_eq!(scale.dims(), [1], "the scale is one number");
    assert!(update.time > 0, "updates are counted from 1");
    let dtype = weights.dtype();
    let computed = precision_of_statistics(dtype);
    let [weights, gradient] = [weights, gradient].map(|of| of.cast(computed));
    let moments = moments.map(|of| of.cast(computed));
    let scale = scale.cast(computed);
    let [first, second] = moments.map(Tensor::into_dispatch);
    let (weights, gradient) = (weights.into_dispatch(), gradient.into_dispatch());
    let scale = scale.into_dispatch();
    let (weights, first, second) =
        <Dispatch as Fused>::fused_adamw(weights, gradient, first, second, scale, update);
    let moments = [first, second].map(Tensor::from_dispatch);
    let weights: Tensor<D> = Tensor::from_dispatch(weights);
    (weights.cast(dtype), moments)
}

pub(crate) fn update<B: Backend>(
    weights: FloatTensor<B>,
    gradient: FloatTensor<B>,
    moments: [FloatTensor<B>; 2],
    scale: FloatTensor<B>,
    update: AdamW,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (weights, gradient, scale) = (Plain::<B>(weights), Plain::<B>(gradient), Plain::<B>(scale));
    let [first, second] = moments.map(Plain::<B>);
    let shape = weights.shape();
    let scale = scale.shaped(vec![1; shape.num_dims()].into());
    let gradient = gradient * scale;
    let [first_correction, second_correction] = update.corrections();
    let first = first * update.beta_1 + gradient.clone() * (1.0 - update.beta_1);
    let second = second * update.beta_2 + gradient.clone() * gradient * (1.0 - update.beta_2);
    let root = (second.clone() / second_correction).sqrt() + update.epsilon;
    let step = first.clone() / root * (update.learning_rate / first_correction);
    let kept = 1.0 - update.learning_rate * update.weight_decay;
    ((weights * kept - step).0, first.0, second.0)
}
