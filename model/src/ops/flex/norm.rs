//! LayerNorm and RMSNorm: a row is read while it is in cache, and nothing but the result is written.

use burn::backend::flex::FlexTensor;

use super::math::{map_3, sum};
use super::matrix::{Shared, contiguous, elements, made, made_by_rows, own, tensor};
use super::rows::sums;
use crate::config::Norm;
use crate::ops::Rule;

/// What is subtracted from a row, and what it is then multiplied with.
#[inline(always)]
fn statistics(x: &[f32], rule: Rule) -> (f32, f32) {
    let share = 1.0 / x.len() as f32;
    let mean = match rule.norm {
        Norm::Layer => sum([x], |[x]| x) * share,
        Norm::Rms => 0.0,
    };
    let variance = sum([x], |[x]| (x - mean) * (x - mean)) * share;
    (mean, 1.0 / (variance + rule.epsilon as f32).sqrt())
}

pub(super) fn forward(
    x: FlexTensor,
    gamma: FlexTensor,
    beta: Option<FlexTensor>,
    rule: Rule,
) -> FlexTensor {
    let (x, gamma, beta) = (contiguous(x), contiguous(gamma), beta.map(contiguous));
    let shape: [usize; 2] = x.layout().shape().dims();
    let width = shape[1];
    let (x, gamma) = (elements(&x), elements(&gamma));
    let nothing;
    let beta = match &beta {
        Some(beta) => elements(beta),
        None => {
            nothing = vec![0.0; width];
            &nothing
        }
    };
    // SAFETY: each element of each row is written.
    unsafe {
        made_by_rows(
            shape,
            #[inline(always)]
            |row, output| {
                let x = &x[row * width..][..width];
                let (mean, scale) = statistics(x, rule);
                let of = |x, gamma, beta| (x - mean) * scale * gamma + beta;
                map_3(output, x, gamma, beta, of);
            },
        )
    }
}

pub(super) fn backward(
    x: FlexTensor,
    gamma: FlexTensor,
    grad: FlexTensor,
    onto: Option<FlexTensor>,
    rule: Rule,
    wanted: [bool; 3],
) -> [Option<FlexTensor>; 3] {
    let (x, gamma, grad) = (contiguous(x), contiguous(gamma), contiguous(grad));
    let shape: [usize; 2] = x.layout().shape().dims();
    let [rows, width] = shape;
    let (x, gamma, grad) = (elements(&x), elements(&gamma), elements(&grad));
    let share = 1.0 / width as f32;
    let row_of = |row: usize| {
        let rows = row * width..(row + 1) * width;
        (&x[rows.clone()], &grad[rows], gamma)
    };
    let mut parameters = None;
    let mut of_rows = |output: Shared, added: bool| {
        parameters = Some(sums(
            rows,
            width,
            #[inline(always)]
            |row, [of_gamma, of_beta]: &mut [Vec<f32>; 2]| {
                let (x, grad, gamma) = row_of(row);
                let (mean, scale) = statistics(x, rule);
                for ((of, grad), x) in of_gamma.iter_mut().zip(grad).zip(x) {
                    *of += grad * ((x - mean) * scale);
                }
                for (of, grad) in of_beta.iter_mut().zip(grad) {
                    *of += grad;
                }
                let across = match rule.norm {
                    Norm::Layer => sum([grad, gamma], |[grad, gamma]| grad * gamma) * share,
                    Norm::Rms => 0.0,
                };
                let along = |[grad, gamma, x]: [f32; 3]| grad * gamma * ((x - mean) * scale);
                let along = sum([grad, gamma, x], along) * share;
                let of =
                    |grad, gamma, x| (grad * gamma - across - (x - mean) * scale * along) * scale;
                // SAFETY: rows do not overlap.
                let output = unsafe { output.part(row * width, width) };
                match added {
                    true => {
                        // SAFETY: what is added to is there.
                        let output = unsafe { output.assume_init_mut() };
                        let inputs = grad.iter().zip(gamma).zip(x);
                        for (sum, ((grad, gamma), x)) in output.iter_mut().zip(inputs) {
                            *sum += of(*grad, *gamma, *x);
                        }
                    }
                    false => map_3(output, grad, gamma, x, of),
                }
            },
        ));
    };
    let of_x = match onto {
        Some(onto) => {
            let mut onto = own(onto);
            of_rows(Shared::over(onto.storage_mut::<f32>()), true);
            onto
        }
        // SAFETY: each element of each row is written, by the one block that it is in.
        None => unsafe { made(shape, |output| of_rows(Shared::new(output), false)) },
    };
    let [of_gamma, of_beta] = parameters.expect("the sums are made with the rows");
    [
        wanted[0].then_some(of_x),
        wanted[1].then(|| tensor(of_gamma, [width])),
        wanted[2].then(|| tensor(of_beta, [width])),
    ]
}
