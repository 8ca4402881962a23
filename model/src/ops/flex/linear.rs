//! Products with weights: the bias is there before the product is added to it.

use burn::backend::flex::FlexTensor;
use gemm::Parallelism;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

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

pub(super) fn backward(
    x: &FlexTensor,
    weight: &FlexTensor,
    grad: &FlexTensor,
    wanted: [bool; 3],
) -> [Option<FlexTensor>; 3] {
    let (x, weight, by_row) = (Matrix::of(x), Matrix::of(weight), Matrix::of(grad));
    [
        wanted[0].then(|| multiplied(by_row, weight.t())),
        wanted[1].then(|| multiplied(x.t(), by_row)),
        wanted[2].then(|| sum_of_rows(elements(grad), by_row.columns)),
    ]
}
