//! AdamW (Loshchilov & Hutter 2019, <https://arxiv.org/abs/1711.05101>), all of an update in one pass.
//!
//! With `g` the gradient times the scale: `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`,
//! `w ← (1 - lr · decay) w - lr · m̂ / (√v̂ + epsilon)`, where `m̂ = m / (1 - β₁ᵗ)` and `v̂ = v / (1 - β₂ᵗ)`.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch};
use burn::tensor::Tensor;

use super::Fused;
use super::plain::Plain;

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

/// The weights and their first and second moments after an update with `gradient` times `scale`, `[1]`.
///
/// Where they are held by nobody else, weights and moments are changed in place.
pub fn adamw<const D: usize>(
    weights: Tensor<D>,
    gradient: Tensor<D>,
    moments: [Tensor<D>; 2],
    scale: Tensor<1>,
    update: AdamW,
) -> (Tensor<D>, [Tensor<D>; 2]) {
    let [first, second] = moments.map(Tensor::into_dispatch);
    let (weights, gradient) = (weights.into_dispatch(), gradient.into_dispatch());
    let scale = scale.into_dispatch();
    let (weights, first, second) =
        <Dispatch as Fused>::fused_adamw(weights, gradient, first, second, scale, update);
    let moments = [first, second].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(weights), moments)
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
    let scale = scale
        .cast(gradient.dtype())
        .shaped(vec![1; shape.num_dims()].into());
    let gradient = gradient * scale;
    let [first_correction, second_correction] = update.corrections();
    let first = first * update.beta_1 + gradient.clone() * (1.0 - update.beta_1);
    let second = second * update.beta_2 + gradient.clone() * gradient * (1.0 - update.beta_2);
    let root = (second.clone() / second_correction).sqrt() + update.epsilon;
    // Divided first: times the learning rate alone, a moment may be 0 in half precision.
    let step = first.clone() / root * (update.learning_rate / first_correction);
    let kept = 1.0 - update.learning_rate * update.weight_decay;
    ((weights * kept - step).0, first.0, second.0)
}
