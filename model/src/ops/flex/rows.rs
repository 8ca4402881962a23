//! Sums over rows, in blocks that do not depend on how many threads there are.

use burn::backend::flex::FlexTensor;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

use super::math::sum;
use super::matrix::{GRAIN, contiguous, elements, ids, own, tensor};
use crate::vectors::vectorized;

/// Rows that are added up one after the other; their sums are then added up in order.
const BLOCK: usize = 64;

/// `SUMS` sums over rows at once: `add(row, sums)` adds a row to each.
pub(super) fn sums<const SUMS: usize>(
    rows: usize,
    width: usize,
    add: impl Fn(usize, &mut [Vec<f32>; SUMS]) + Sync,
) -> [Vec<f32>; SUMS] {
    let nothing = || std::array::from_fn(|_| vec![0.0; width]);
    let blocks: Vec<[Vec<f32>; SUMS]> = (0..rows.div_ceil(BLOCK))
        .into_par_iter()
        .with_max_len(1)
        .map(|block| {
            let mut sums = nothing();
            vectorized(
                #[inline(always)]
                || {
                    for row in block * BLOCK..rows.min((block + 1) * BLOCK) {
                        add(row, &mut sums);
                    }
                },
            );
            sums
        })
        .collect();
    let mut totals = nothing();
    for block in blocks {
        for (total, sum) in totals.iter_mut().zip(block) {
            total
                .iter_mut()
                .zip(sum)
                .for_each(|(total, sum)| *total += sum);
        }
    }
    totals
}

/// The sum of all rows, `[width]`.
pub(super) fn sum_of_rows(elements: &[f32], width: usize) -> FlexTensor {
    let rows = elements.len() / width.max(1);
    let [total] = sums(
        rows,
        width,
        #[inline(always)]
        |row, [total]: &mut [Vec<f32>; 1]| {
            let row = &elements[row * width..][..width];
            total.iter_mut().zip(row).for_each(|(total, x)| *total += x);
        },
    );
    tensor(total, [width])
}

/// Adds each row of `grad` to the row of `sum` that its id names.
pub(super) fn added(sum: FlexTensor, of: &FlexTensor, grad: FlexTensor) -> FlexTensor {
    let (mut sum, grad) = (own(sum), contiguous(grad));
    let [_, width]: [usize; 2] = sum.layout().shape().dims();
    let rows = sum.storage_mut::<f32>();
    for (id, grad) in ids(of).into_iter().zip(elements(&grad).chunks_exact(width)) {
        let row = usize::try_from(id).expect("an id is not negative") * width;
        let row = &mut rows[row..row + width];
        row.iter_mut().zip(grad).for_each(|(sum, x)| *sum += x);
    }
    sum
}

/// `Σ x²`, `[1]`: of blocks in f32, of their sums in f64.
pub(super) fn sum_of_squares(x: FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    let squares = |block: &[f32]| {
        vectorized(
            #[inline(always)]
            || sum([block], |[x]| x * x),
        )
    };
    let blocks: Vec<f32> = elements(&x).par_chunks(GRAIN).map(squares).collect();
    let total: f64 = blocks.into_iter().map(f64::from).sum();
    tensor(vec![total as f32], [1])
}
