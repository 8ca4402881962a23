//! Activations: an element is read once and written once.

use std::f64::consts::FRAC_2_PI;
use std::mem::MaybeUninit;

use burn::backend::flex::FlexTensor;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::math::{map, map_2, map_3, map_again, normal, sigmoid};
use super::matrix::{GRAIN, contiguous, elements, made, made_by_blocks, own};
use crate::config::Activation;
use crate::ops::activation::CUBIC;
use crate::vectors::vectorized;

/// Far beyond where a sigmoid or a distribution is 0 or 1: what is cut off there never meets an infinity.
const FAR: f32 = 60.0;

#[inline(always)]
fn near(x: f32) -> f32 {
    let x = if x > FAR { FAR } else { x };
    if x < -FAR { -FAR } else { x }
}

/// An activation at `x`, and its derivative there.
trait Curve: Copy + Sync {
    fn at(self, x: f32) -> [f32; 2];
}

#[derive(Clone, Copy)]
struct Gelu;

impl Curve for Gelu {
    #[inline(always)]
    fn at(self, x: f32) -> [f32; 2] {
        let [below, density] = normal(x);
        [x * below, below + near(x) * density]
    }
}

/// With `2 √(2/π)`, and as much of the cubic term.
#[derive(Clone, Copy)]
struct GeluTanh {
    linear: f32,
    cubic: f32,
}

impl GeluTanh {
    fn new() -> Self {
        let scale = 2.0 * FRAC_2_PI.sqrt();
        Self {
            linear: scale as f32,
            cubic: (CUBIC * scale) as f32,
        }
    }
}

impl Curve for GeluTanh {
    #[inline(always)]
    fn at(self, x: f32) -> [f32; 2] {
        let Self { linear, cubic } = self;
        let s = sigmoid((x * x * cubic + linear) * x);
        let near = near(x);
        let steepness = near * near * (3.0 * cubic) + linear;
        [x * s, s + near * steepness * (s - s * s)]
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Curve for Silu {
    #[inline(always)]
    fn at(self, x: f32) -> [f32; 2] {
        let s = sigmoid(x);
        [x * s, s + near(x) * (s - s * s)]
    }
}

#[derive(Clone, Copy)]
struct Relu2;

impl Curve for Relu2 {
    #[inline(always)]
    fn at(self, x: f32) -> [f32; 2] {
        // Written so that NaN passes.
        let x = if x < 0.0 { 0.0 } else { x };
        [x * x, 2.0 * x]
    }
}

/// `$of(curve)` with the curve of an activation.
macro_rules! along {
    ($activation:expr, $of:expr) => {
        match $activation {
            Activation::Gelu => $of(Gelu),
            Activation::GeluTanh => $of(GeluTanh::new()),
            Activation::SwiGlu => $of(Silu),
            Activation::Relu2 => $of(Relu2),
        }
    };
}

pub(super) fn forward(x: FlexTensor, activation: Activation) -> FlexTensor {
    fn of(x: FlexTensor, curve: impl Curve) -> FlexTensor {
        by_element(
            [x],
            #[inline(always)]
            |to, [x]| map(to, x, |x| curve.at(x)[0]),
        )
    }
    along!(activation, |curve| of(x, curve))
}

pub(super) fn backward(x: FlexTensor, grad: FlexTensor, activation: Activation) -> FlexTensor {
    fn of(x: FlexTensor, grad: FlexTensor, curve: impl Curve) -> FlexTensor {
        by_element(
            [x, grad],
            #[inline(always)]
            |to, [x, grad]| map_2(to, x, grad, |x, grad| curve.at(x)[1] * grad),
        )
    }
    along!(activation, |curve| of(x, grad, curve))
}

/// The activation, and the gradient of its input, which takes the place of `grad`.
pub(super) fn again(x: FlexTensor, grad: FlexTensor, activation: Activation) -> [FlexTensor; 2] {
    fn of(x: FlexTensor, grad: FlexTensor, curve: impl Curve) -> [FlexTensor; 2] {
        let (x, mut grad) = (contiguous(x), own(grad));
        let shape: [usize; 2] = x.layout().shape().dims();
        let x = elements(&x);
        let write = |output: &mut [MaybeUninit<f32>]| {
            let grad = grad.storage_mut::<f32>().par_chunks_mut(GRAIN);
            let blocks = output.par_chunks_mut(GRAIN).zip(grad);
            let blocks = blocks.zip(x.par_chunks(GRAIN));
            blocks.for_each(|((to, grad), x)| {
                vectorized(
                    #[inline(always)]
                    || {
                        map_again(to, grad, x, |x, grad| {
                            let [y, slope] = curve.at(x);
                            [y, slope * grad]
                        });
                    },
                );
            });
        };
        // SAFETY: every element of every block is written.
        let activated = unsafe { made(shape, write) };
        [activated, grad]
    }
    along!(activation, |curve| of(x, grad, curve))
}

pub(super) fn swiglu_forward(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
    let of = |gate, up: f32| Silu.at(gate)[0] * up;
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
    let of = |gate, up: f32, grad: f32| grad * (Silu.at(gate)[1] * up);
    let inputs = [gate.clone(), up, grad.clone()];
    let of_gate = by_element(
        inputs,
        #[inline(always)]
        |to, [gate, up, grad]| map_3(to, gate, up, grad, of),
    );
    let of = |gate, grad: f32| Silu.at(gate)[0] * grad;
    let of_up = by_element(
        [gate, grad],
        #[inline(always)]
        |to, [gate, grad]| map_2(to, gate, grad, of),
    );
    [of_gate, of_up]
}

/// `silu(gate) · up`, and the gradients of gate and up; the first takes the place of `grad`.
pub(super) fn swiglu_again(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 3] {
    let (gate, up, mut grad) = (contiguous(gate), contiguous(up), own(grad));
    let shape: [usize; 2] = gate.layout().shape().dims();
    let (gate, up) = (elements(&gate), elements(&up));
    let mut of_up = None;
    let write = |product: &mut [MaybeUninit<f32>]| {
        let write = |of_up: &mut [MaybeUninit<f32>]| {
            let grad = grad.storage_mut::<f32>().par_chunks_mut(GRAIN);
            let blocks = product
                .par_chunks_mut(GRAIN)
                .zip(of_up.par_chunks_mut(GRAIN));
            let blocks = blocks.zip(grad);
            let blocks = blocks.zip(gate.par_chunks(GRAIN).zip(up.par_chunks(GRAIN)));
            blocks.for_each(|(((product, of_up), grad), (gate, up))| {
                vectorized(
                    #[inline(always)]
                    || {
                        let outputs = product.iter_mut().zip(of_up).zip(grad);
                        for (outputs, (gate, up)) in outputs.zip(gate.iter().zip(up)) {
                            let ((product, of_up), grad) = outputs;
                            let [y, slope] = Silu.at(*gate);
                            product.write(y * up);
                            of_up.write(y * *grad);
                            *grad *= slope * up;
                        }
                    },
                );
            });
        };
        // SAFETY: every element of every block is written.
        of_up = Some(unsafe { made(shape, write) });
    };
    // SAFETY: as above.
    let product = unsafe { made(shape, write) };
    [product, grad, of_up.expect("made with the product")]
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
