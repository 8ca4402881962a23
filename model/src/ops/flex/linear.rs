//! Products with weights: the bias is there before the product is added to it.

use std::mem::MaybeUninit;

use burn::backend::flex::FlexTensor;
use gemm::Parallelism;

use super::math::{map, map_2};
use super::matrix::{Matrix, contiguous, elements, made_by_rows, multiplied, product_into};
use super::rows::sum_of_rows;

pub(super) fn forward(x: &FlexTensor, weight: &FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let (x, weight) = (Matrix::of(x), Matrix::of(weight));
    let Some(bias) = bias.map(contiguous) else {
        return multiplied(x, weight);
    };
    let bias = elements(&bias);
    // SAFETY: a row is as wide as the bias.
    unsafe {
        added(
            x,
            weight,
            #[inline(always)]
            |_, row| map(row, bias, |bias| bias),
        )
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
    // SAFETY: a row is as wide as the residual's and the bias.
    unsafe {
        added(
            x,
            weight,
            #[inline(always)]
            |number, row| {
                let residual = &residual[number * outputs..][..outputs];
                match bias {
                    Some(bias) => map_2(row, residual, bias, |x, bias| x + bias),
                    None => map(row, residual, |x| x),
                }
            },
        )
    }
}

/// `x weight` added to rows that `write(number, row)` writes.
///
/// # Safety
/// `write` writes every element.
unsafe fn added(
    x: Matrix<'_>,
    weight: Matrix<'_>,
    write: impl Fn(usize, &mut [MaybeUninit<f32>]) + Sync,
) -> FlexTensor {
    // SAFETY: the caller's promise.
    let mut sum = unsafe { made_by_rows([x.rows, weight.columns], write) };
    let target = sum.storage_mut::<f32>();
    product_into(target, true, x, weight, 1.0, Parallelism::Rayon(0));
    sum
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
