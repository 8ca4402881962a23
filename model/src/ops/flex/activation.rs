//! Activations: an element is read once and written once.

use std::f64::consts::FRAC_2_PI;
use std::mem::MaybeUninit;

use burn::backend::flex::FlexTensor;

use super::math::{map, map_2, map_3, sigmoid};
use super::matrix::{GRAIN, contiguous, elements, made_by_blocks};
use crate::config::Activation;
use crate::ops::activation::CUBIC;

/// `2 √(2/π)`, and as much of the cubic term.
fn inner() -> [f32; 2] {
    let scale = 2.0 * FRAC_2_PI.sqrt();
    [scale, CUBIC * scale].map(|number| number as f32)
}

/// Far beyond where a sigmoid is 0 or 1: what is cut off there never meets an infinity.
const FAR: f32 = 60.0;

#[inline(always)]
fn near(x: f32) -> f32 {
    let x = if x > FAR { FAR } else { x };
    if x < -FAR { -FAR } else { x }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let s = sigmoid(x);
    s + near(x) * (s - s * s)
}

#[inline(always)]
fn positive(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `None` where Flex has no fast path.
pub(super) fn forward(x: FlexTensor, activation: Activation) -> Option<FlexTensor> {
    let [linear, cubic] = inner();
    match activation {
        Activation::Gelu => None,
        Activation::GeluTanh => {
            let gelu = |x: f32| x * sigmoid((x * x * cubic + linear) * x);
            Some(by_element(
                [x],
                #[inline(always)]
                |to, [x]| map(to, x, gelu),
            ))
        }
        Activation::SwiGlu => Some(by_element(
            [x],
            #[inline(always)]
            |to, [x]| map(to, x, silu),
        )),
        Activation::Relu2 => {
            let square = |x| positive(x) * positive(x);
            Some(by_element(
                [x],
                #[inline(always)]
                |to, [x]| map(to, x, square),
            ))
        }
    }
}

/// `None` where Flex has no fast path.
pub(super) fn backward(
    x: FlexTensor,
    grad: FlexTensor,
    activation: Activation,
) -> Option<FlexTensor> {
    let [linear, cubic] = inner();
    match activation {
        Activation::Gelu => None,
        Activation::GeluTanh => {
            let of = |x: f32, grad: f32| {
                let s = sigmoid((x * x * cubic + linear) * x);
                let x = near(x);
                let inner = x * x * (3.0 * cubic) + linear;
                (s + x * inner * (s - s * s)) * grad
            };
            Some(by_element(
                [x, grad],
                #[inline(always)]
                |to, [x, grad]| map_2(to, x, grad, of),
            ))
        }
        Activation::SwiGlu => {
            let of = |x: f32, grad: f32| silu_slope(x) * grad;
            Some(by_element(
                [x, grad],
                #[inline(always)]
                |to, [x, grad]| map_2(to, x, grad, of),
            ))
        }
        Activation::Relu2 => {
            let of = |x: f32, grad: f32| 2.0 * positive(x) * grad;
            Some(by_element(
                [x, grad],
                #[inline(always)]
                |to, [x, grad]| map_2(to, x, grad, of),
            ))
        }
    }
}

pub(super) fn swiglu_forward(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let of = |gate, up| silu(gate) * up;
    by_element(
        [gate, up],
        #[inline(always)]
        |to, [gate, up]| map_2(to, gate, up, of),
    )
}

pub(super) fn swiglu_backward(
    gate: FlexTensor,
    up: FlexTensor,
    grad: FlexTensor,
) -> [FlexTensor; 2] {
    let of = |gate, up: f32, grad: f32| silu_slope(gate) * up * grad;
    let inputs = [gate.clone(), up, grad.clone()];
    let of_gate = by_element(
        inputs,
        #[inline(always)]
        |to, [gate, up, grad]| map_3(to, gate, up, grad, of),
    );
    let of = |gate, grad: f32| silu(gate) * grad;
    let of_up = by_element(
        [gate, grad],
        #[inline(always)]
        |to, [gate, grad]| map_2(to, gate, grad, of),
    );
    [of_gate, of_up]
}

/// What `write` makes, some elements at a time, of matrices of one shape: all of them.
fn by_element<const N: usize>(
    inputs: [FlexTensor; N],
    write: impl Fn(&mut [MaybeUninit<f32>], [&[f32]; N]) + Sync,
) -> FlexTensor {
    let shape: [usize; 2] = inputs[0].layout().shape().dims();
    let inputs = inputs.map(contiguous);
    let inputs = inputs.each_ref().map(elements);
    // SAFETY: each element is written.
    unsafe {
        made_by_blocks(
            shape,
            GRAIN,
            #[inline(always)]
            |start, output| {
                let count = output.len();
                write(output, inputs.map(|input| &input[start..][..count]));
            },
        )
    }
}
