//! Products with weights: the bias is there before the product is added to it.

use burn::backend::flex::FlexTensor;
use gemm::Parallelism;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::math::{map, map_2, vectorized};
use super::matrix::{Matrix, contiguous, elements, made, multiplied, product, rows_of_a_block};
use super::rows::sum_of_rows;

pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let (x, weight) = (Matrix::of(x), Matrix::of(weight));
    let Some(bias) = bias.map(contiguous) else {
        return multiplied(x, weight);
    };
    let bias = elements(&bias);
    let outputs = weight.columns;
    // SAFETY: every row is written, then added to.
    unsafe {
        made([x.rows, outputs], |output| {
            let block = rows_of_a_block(outputs) * outputs;
            output.par_chunks_mut(block).for_each(|rows| {
                for row in rows.chunks_exact_mut(outputs) {
                    row.write_copy_of_slice(bias);
                }
            });
            let target = output.as_mut_ptr().cast();
            product(target, true, x, weight, 1.0, Parallelism::Rayon(0));
        })
    }
}

/// `residual + x weight + bias`
pub(super) fn onto(
    residual: FlexTensor,
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<FlexTensor>,
) -> FlexTensor {
    let (x, weight) = (Matrix::of(x), Matrix::of(weight));
    let (residual, bias) = (contiguous(residual), bias.map(contiguous));
    let (residual, bias) = (elements(&residual), bias.as_ref().map(elements));
    let outputs = weight.columns;
    // SAFETY: every row is written, then added to.
    unsafe {
        made([x.rows, outputs], |output| {
            let block = rows_of_a_block(outputs) * outputs;
            let blocks = output.par_chunks_mut(block).zip(residual.par_chunks(block));
            blocks.for_each(|(rows, residual)| {
                let rows = rows.chunks_exact_mut(outputs);
                vectorized(
                    #[inline(always)]
                    || {
                        for (row, residual) in rows.zip(residual.chunks_exact(outputs)) {
                            match bias {
                                Some(bias) => map_2(row, residual, bias, |x, bias| x + bias),
                                None => map(row, residual, |x| x),
                            }
                        }
                    },
                );
            });
            let target = output.as_mut_ptr().cast();
            product(target, true, x, weight, 1.0, Parallelism::Rayon(0));
        })
    }
}

pub(super) fn input_backward(weight: &FlexTensor, grad: &FlexTensor) -> FlexTensor {
    multiplied(Matrix::of(grad), Matrix::of(weight).t())
}

pub(super) fn parameters_backward(
    x: &FlexTensor,
    grad: &FlexTensor,
    wanted: [bool; 2],
) -> [Option<FlexTensor>; 2] {
    let (x, by_row) = (Matrix::of(x), Matrix::of(grad));
    [
        wanted[0].then(|| multiplied(x.t(), by_row)),
        wanted[1].then(|| sum_of_rows(elements(grad), by_row.columns)),
    ]
}
