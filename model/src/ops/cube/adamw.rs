//! AdamW in place: each number is read once and written once.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, buffer, for_each, own, whole};
use crate::ops::AdamW;

/// [`Factors`](crate::ops::adamw::Factors), as a unit has them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Numbers {
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
    rate: f32,
    second_factor: f32,
    epsilon: f32,
    kept: f32,
}

#[cube(launch_unchecked)]
fn kernel(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    scale: &[f32],
    numbers: &Numbers,
) {
    let i = ABSOLUTE_POS;
    if i < weights.len() {
        let g = gradient[i] * scale[0];
        let m = first[i] * numbers.beta_1 + g * numbers.rest_1;
        let v = second[i] * numbers.beta_2 + g * g * numbers.rest_2;
        let root = (v * numbers.second_factor).sqrt() + numbers.epsilon;
        first[i] = m;
        second[i] = v;
        weights[i] = weights[i] * numbers.kept - m * numbers.rate / root;
    }
}

pub(super) fn update(
    weights: CubeTensor,
    gradient: CubeTensor,
    moments: [CubeTensor; 2],
    scale: CubeTensor,
    update: AdamW,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let weights = own(weights);
    let [first, second] = moments.map(own);
    let (gradient, scale) = (whole(gradient), whole(scale));
    let factors = update.factors();
    let numbers = NumbersLaunch::new(
        factors.beta_1,
        factors.rest_1,
        factors.beta_2,
        factors.rest_2,
        factors.rate,
        factors.second_factor,
        factors.epsilon,
        factors.kept,
    );
    // SAFETY: weights, moments and gradient have as many elements, and the scale has one.
    unsafe {
        kernel::launch_unchecked(
            &weights.client,
            for_each(&weights, weights.meta.num_elements()),
            CubeDim::new_1d(UNITS),
            buffer(&weights),
            buffer(&first),
            buffer(&second),
            buffer(&gradient),
            buffer(&scale),
            numbers,
        );
    }
    (weights, first, second)
}
