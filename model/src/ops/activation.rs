//! The feed-forward layer's activations, and SwiGLU's product with them, element by element; in half precision computed
//! in f32 and rounded.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch};
use burn::tensor::Tensor;

use super::plain::Plain;
use super::{Fused, Kernels};
use crate::config::Activation;

/// GELU's cubic term, of its approximation by `tanh` (Hendrycks & Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
pub(crate) const CUBIC: f64 = 0.044715;

/// The activation of every element; the shape is kept.
pub(crate) fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Fused>::fused_activation(
        x.into_dispatch(),
        activation,
    ))
}

/// `silu(gate) · up` (Shazeer 2020, <https://arxiv.org/abs/2002.05202>).
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Fused>::fused_swiglu(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// `1 / (1 + exp(-x))`, its exponent cut off where the quotient is 0 already to f32's precision.
fn sigmoid<B: Backend>(x: Plain<B>) -> Plain<B> {
    let one_more = (x * -1.0).at_most(60.0).exp() + 1.0;
    Plain(B::float_recip(one_more.0))
}

/// `2 √(2/π) (x + CUBIC x³)`: GELU by `tanh` is `x` times the sigmoid of this.
fn twice_inner<B: Backend>(x: Plain<B>) -> Plain<B> {
    let scale = 2.0 * FRAC_2_PI.sqrt();
    (x.clone() * x.clone() * (CUBIC * scale) + scale) * x
}

pub(crate) fn forward<B: Backend>(x: FloatTensor<B>, activation: Activation) -> FloatTensor<B> {
    let x = Plain::<B>(x);
    let dtype = x.dtype();
    let x = x.at_least_f32();
    let output = match activation {
        Activation::Gelu => ((x.clone() * FRAC_1_SQRT_2).erf() + 1.0) * x * 0.5,
        Activation::GeluTanh => x.clone() * sigmoid(twice_inner(x)),
        Activation::SwiGlu => x.clone() * sigmoid(x),
        Activation::Relu2 => {
            let x = x.at_least(0.0);
            x.clone() * x
        }
    };
    output.cast(dtype).0
}

/// `grad` times the activation's derivative at `x`.
pub(crate) fn backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    activation: Activation,
) -> FloatTensor<B> {
    let x = Plain::<B>(x);
    let dtype = x.dtype();
    let x = x.at_least_f32();
    let slope = match activation {
        // Φ(x) + x φ(x)
        Activation::Gelu => {
            // Beyond it the density is 0 in every precision; its square must not overflow.
            let near = x.clone().at_most(60.0).at_least(-60.0);
            let density = (near.clone() * near.clone() * -0.5).exp() / (2.0 * PI).sqrt();
            ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5 + near * density
        }
        // s + x s (1 - s) y', with s the sigmoid of y
        Activation::GeluTanh => {
            let scale = 2.0 * FRAC_2_PI.sqrt();
            let s = sigmoid(twice_inner(x.clone()));
            // Where it matters x is far below this, and beyond it 0 must not meet infinity.
            let near = x.at_most(60.0).at_least(-60.0);
            let inner = near.clone() * near.clone() * (3.0 * CUBIC * scale) + scale;
            s.clone() + near * inner * (s.clone() - s.clone() * s)
        }
        // s + x s (1 - s)
        Activation::SwiGlu => {
            let s = sigmoid(x.clone());
            s.clone() + x.at_most(60.0).at_least(-60.0) * (s.clone() - s.clone() * s)
        }
        Activation::Relu2 => x.at_least(0.0) * 2.0,
    };
    (slope * Plain(grad).at_least_f32()).cast(dtype).0
}

pub(crate) fn swiglu_forward<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
) -> FloatTensor<B> {
    B::float_mul(forward::<B>(gate, Activation::SwiGlu), up)
}

/// Gradients of gate and up.
pub(crate) fn swiglu_backward<B: Backend>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 2] {
    let of_silu = B::float_mul(grad.clone(), up);
    let of_up = B::float_mul(grad, forward::<B>(gate.clone(), Activation::SwiGlu));
    [backward::<B>(gate, of_silu, Activation::SwiGlu), of_up]
}

/// The activation once more, and the gradient of its input.
pub(crate) fn again<B: Kernels>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    activation: Activation,
) -> [FloatTensor<B>; 2] {
    let activated = B::activation_forward(x.clone(), activation);
    [activated, B::activation_backward(x, grad, activation)]
}

/// The product once more, and gradients of gate and up.
pub(crate) fn swiglu_again<B: Kernels>(
    gate: FloatTensor<B>,
    up: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let product = B::swiglu_forward(gate.clone(), up.clone());
    let [of_gate, of_up] = B::swiglu_backward(gate, up, grad);
    [product, of_gate, of_up]
}

#[derive(Debug)]
pub(super) struct ActivationBackward;

impl<B: Kernels> Backward<B, 1> for ActivationBackward {
    type State = (FloatTensor<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, activation) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let of = [Some(B::activation_backward(x, grad, activation))];
        register!(B, ops.parents, of, grads);
    }
}

#[derive(Debug)]
pub(super) struct SwigluBackward;

impl<B: Kernels> Backward<B, 2> for SwigluBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (gate, up) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let of = B::swiglu_backward(gate, up, grad).map(Some);
        register!(B, ops.parents, of, grads);
    }
}
