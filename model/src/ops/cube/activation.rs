//! Activations and SwiGLU's product, one pass over their elements each.
//!
//! Exponents and factors are cut off where the result is what it tends to; by comparisons, which NaN passes.

use std::f32::consts::FRAC_1_SQRT_2;

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, buffer, for_each, like, whole};
use crate::config::Activation;
use crate::ops::activation::CUBIC;

/// [`Activation`], as a kernel is compiled for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Gelu,
    GeluTanh,
    Silu,
    Relu2,
}

impl From<Activation> for Of {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::SwiGlu => Self::Silu,
            Activation::Relu2 => Self::Relu2,
        }
    }
}

/// `2 √(2/π)`
const TWICE_SCALE: f32 = 2.0 * 0.797_884_6;

/// The cubic term of GELU by `tanh`, times that.
const CUBIC_SCALE: f32 = CUBIC as f32 * TWICE_SCALE;

/// `1 / √(2π)`
const DENSITY: f32 = 0.398_942_3;

/// Between -60 and 60: `exp` of either is beyond f32's precision beside 1, and neither it nor a cube overflows.
#[cube]
fn near(x: f32) -> f32 {
    let below = select(x > 60.0f32, 60.0f32, x);
    select(below < -60.0f32, -60.0f32, below)
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-near(x)).exp())
}

/// `2 √(2/π) (x + CUBIC x³)`: GELU by `tanh` is `x` times the sigmoid of this.
#[cube]
fn twice_inner(x: f32) -> f32 {
    let x = near(x);
    (x * x * CUBIC_SCALE + TWICE_SCALE) * x
}

/// The Gaussian distribution function.
#[cube]
fn distribution(x: f32) -> f32 {
    (Erf::erf(x * FRAC_1_SQRT_2) + 1.0f32) * 0.5f32
}

#[cube]
fn activated(x: f32, #[comptime] of: Of) -> f32 {
    match of {
        Of::Gelu => x * distribution(x),
        Of::GeluTanh => x * sigmoid(twice_inner(x)),
        Of::Silu => x * sigmoid(x),
        Of::Relu2 => select(x < 0.0f32, 0.0f32, x * x),
    }
}

/// The activation's derivative.
#[cube]
fn slope(x: f32, #[comptime] of: Of) -> f32 {
    match of {
        // Φ(x) + x φ(x)
        Of::Gelu => {
            let near = near(x);
            distribution(x) + near * (near * near * -0.5f32).exp() * DENSITY
        }
        // s + x s (1 - s) y', with s the sigmoid of y
        Of::GeluTanh => {
            let near = near(x);
            let s = sigmoid(twice_inner(x));
            s + near * (near * near * (3.0f32 * CUBIC_SCALE) + TWICE_SCALE) * (s - s * s)
        }
        // s + x s (1 - s)
        Of::Silu => {
            let s = sigmoid(x);
            s + near(x) * (s - s * s)
        }
        Of::Relu2 => select(x < 0.0f32, 0.0f32, 2.0f32 * x),
    }
}

#[cube(launch_unchecked)]
fn forward_kernel(x: &[f32], output: &mut [f32], #[comptime] of: Of) {
    let i = ABSOLUTE_POS;
    if i < output.len() {
        output[i] = activated(x[i], of);
    }
}

#[cube(launch_unchecked)]
fn backward_kernel(x: &[f32], grad: &[f32], of_x: &mut [f32], #[comptime] of: Of) {
    let i = ABSOLUTE_POS;
    if i < of_x.len() {
        of_x[i] = slope(x[i], of) * grad[i];
    }
}

#[cube(launch_unchecked)]
fn swiglu_forward_kernel(gate: &[f32], up: &[f32], output: &mut [f32]) {
    let i = ABSOLUTE_POS;
    if i < output.len() {
        output[i] = activated(gate[i], Of::Silu) * up[i];
    }
}

#[cube(launch_unchecked)]
fn swiglu_backward_kernel(
    gate: &[f32],
    up: &[f32],
    grad: &[f32],
    of_gate: &mut [f32],
    of_up: &mut [f32],
) {
    let i = ABSOLUTE_POS;
    if i < of_gate.len() {
        of_gate[i] = slope(gate[i], Of::Silu) * (grad[i] * up[i]);
        of_up[i] = activated(gate[i], Of::Silu) * grad[i];
    }
}

pub(super) fn forward(x: CubeTensor, activation: Activation) -> CubeTensor {
    let x = whole(x);
    let output = like(&x);
    // SAFETY: input and output are alike.
    unsafe {
        forward_kernel::launch_unchecked(
            &x.client,
            for_each(&x, x.meta.num_elements()),
            CubeDim::new_1d(UNITS),
            buffer(&x),
            buffer(&output),
            activation.into(),
        );
    }
    output
}

pub(super) fn backward(x: CubeTensor, grad: CubeTensor, activation: Activation) -> CubeTensor {
    let (x, grad) = (whole(x), whole(grad));
    let of_x = like(&x);
    // SAFETY: input, output and their gradients are alike.
    unsafe {
        backward_kernel::launch_unchecked(
            &x.client,
            for_each(&x, x.meta.num_elements()),
            CubeDim::new_1d(UNITS),
            buffer(&x),
            buffer(&grad),
            buffer(&of_x),
            activation.into(),
        );
    }
    of_x
}

pub(super) fn swiglu_forward(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
    let (gate, up) = (whole(gate), whole(up));
    let output = like(&gate);
    // SAFETY: as in `forward`.
    unsafe {
        swiglu_forward_kernel::launch_unchecked(
            &gate.client,
            for_each(&gate, gate.meta.num_elements()),
            CubeDim::new_1d(UNITS),
            buffer(&gate),
            buffer(&up),
            buffer(&output),
        );
    }
    output
}

pub(super) fn swiglu_backward(
    gate: CubeTensor,
    up: CubeTensor,
    grad: CubeTensor,
) -> [CubeTensor; 2] {
    let [gate, up, grad] = [gate, up, grad].map(whole);
    let (of_gate, of_up) = (like(&gate), like(&gate));
    // SAFETY: as in `backward`.
    unsafe {
        swiglu_backward_kernel::launch_unchecked(
            &gate.client,
            for_each(&gate, gate.meta.num_elements()),
            CubeDim::new_1d(UNITS),
            buffer(&gate),
            buffer(&up),
            buffer(&grad),
            buffer(&of_gate),
            buffer(&of_up),
        );
    }
    [of_gate, of_up]
}
