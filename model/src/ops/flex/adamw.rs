//! AdamW in place: each number is read once and written once.

use burn::backend::flex::FlexTensor;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::matrix::{GRAIN, contiguous, elements, own};
use crate::ops::AdamW;
use crate::ops::adamw::Factors;
use crate::vectors::vectorized;

pub(super) fn update(
    weights: FlexTensor,
    gradient: FlexTensor,
    moments: [FlexTensor; 2],
    scale: FlexTensor,
    update: AdamW,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let mut weights = own(weights);
    let [mut first, mut second] = moments.map(own);
    let (gradient, scale) = (contiguous(gradient), contiguous(scale));
    let (gradient, scale) = (elements(&gradient), elements(&scale)[0]);
    let Factors {
        beta_1,
        rest_1,
        beta_2,
        rest_2,
        rate,
        second_factor,
        epsilon,
        kept,
    } = update.factors();

    let blocks = weights.storage_mut::<f32>().par_chunks_mut(GRAIN);
    let blocks = blocks
        .zip(first.storage_mut::<f32>().par_chunks_mut(GRAIN))
        .zip(second.storage_mut::<f32>().par_chunks_mut(GRAIN))
        .zip(gradient.par_chunks(GRAIN));
    blocks.for_each(|(((weights, first), second), gradient)| {
        vectorized(
            #[inline(always)]
            || {
                let count = weights.len();
                let (first, second) = (&mut first[..count], &mut second[..count]);
                let gradient = &gradient[..count];
                for i in 0..count {
                    let g = gradient[i] * scale;
                    first[i] = first[i] * beta_1 + g * rest_1;
                    second[i] = second[i] * beta_2 + g * g * rest_2;
                    let root = (second[i] * second_factor).sqrt() + epsilon;
                    weights[i] = weights[i] * kept - first[i] * rate / root;
                }
            },
        );
    });
    (weights, first, second)
}
