//! LayerNorm (Ba, Kiros & Hinton 2016, <https://arxiv.org/abs/1607.06450>) and RMSNorm (Zhang & Sennrich 2019,
//! <https://arxiv.org/abs/1910.07467>) over rows.
//!
//! `y = gamma · x̂ + beta` with `x̂ = (x - m) / s`; `m` is the row's mean, of RMSNorm 0, and
//! `s = √(mean((x - m)²) + epsilon)`. Backward, with `g = grad · gamma`:
//! `dx = (g - mean(g) - x̂ · mean(g · x̂)) / s`, of RMSNorm without `mean(g)`.
//!
//! In half precision all of it is computed in f32, and results are rounded once: in f16 the square of 256 is infinite.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch};
use burn::tensor::Tensor;

use super::plain::Plain;
use super::{Fused, Kernels, Optional};
use crate::config::Norm;

/// Which norm.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub(crate) norm: Norm,
    pub(crate) epsilon: f64,
}

/// Normalises rows: `[rows, width] -> [rows, width]`, gain and bias `[width]`.
pub(crate) fn norm(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    rule: Rule,
) -> Tensor<2> {
    let beta = Optional::of(beta);
    let output =
        <Dispatch as Fused>::fused_norm(x.into_dispatch(), gamma.into_dispatch(), beta, rule);
    Tensor::from_dispatch(output)
}

/// `x̂` and `s`.
fn normalised<B: Backend>(x: Plain<B>, rule: Rule) -> (Plain<B>, Plain<B>) {
    let centred = match rule.norm {
        Norm::Layer => x.clone() - x.mean(1),
        Norm::Rms => x,
    };
    let square = centred.clone() * centred.clone();
    let scale = (square.mean(1) + rule.epsilon).sqrt();
    (centred / scale.clone(), scale)
}

pub(crate) fn forward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: Option<FloatTensor<B>>,
    rule: Rule,
) -> FloatTensor<B> {
    let x = Plain::<B>(x);
    let (row, dtype) = ([1, x.columns()], x.dtype());
    let parameter = |of| Plain::<B>(of).at_least_f32().reshape(row);
    let output = normalised(x.at_least_f32(), rule).0 * parameter(gamma);
    let output = match beta {
        Some(beta) => output + parameter(beta),
        None => output,
    };
    output.cast(dtype).0
}

/// Gradients of the input, added to `onto`, of the gain and of the bias, each where it is `wanted`.
pub(crate) fn backward<B: Backend>(
    x: FloatTensor<B>,
    gamma: FloatTensor<B>,
    grad: FloatTensor<B>,
    onto: Option<FloatTensor<B>>,
    rule: Rule,
    wanted: [bool; 3],
) -> [Option<FloatTensor<B>>; 3] {
    let (x, gamma) = (Plain::<B>(x), Plain::<B>(gamma));
    let (width, dtype, of_parameters) = (x.columns(), x.dtype(), gamma.dtype());
    let grad = Plain::<B>(grad).at_least_f32();
    let (normal, scale) = normalised(x.at_least_f32(), rule);
    let sum_of_rows = |rows: Plain<B>| rows.sum(0).reshape([width]).cast(of_parameters).0;
    let of_gamma = wanted[1].then(|| sum_of_rows(grad.clone() * normal.clone()));
    let of_beta = wanted[2].then(|| sum_of_rows(grad.clone()));
    let of_x = wanted[0].then(|| {
        let grad = grad * gamma.at_least_f32().reshape([1, width]);
        let along = normal.clone() * (grad.clone() * normal).mean(1);
        let across = match rule.norm {
            Norm::Layer => grad.clone() - grad.mean(1),
            Norm::Rms => grad,
        };
        let of_x = (across - along) / scale;
        let of_x = match onto {
            Some(onto) => Plain(onto).at_least_f32() + of_x,
            None => of_x,
        };
        of_x.cast(dtype).0
    });
    [of_x, of_gamma, of_beta]
}

/// With `N` parents: input, gain and, of three, bias.
#[derive(Debug)]
pub(super) struct NormBackward;

impl<B: Kernels, const N: usize> Backward<B, N> for NormBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, Rule);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, gamma, rule) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let wanted = |parent: usize| ops.parents.get(parent).is_some_and(Option::is_some);
        let wanted = [wanted(0), wanted(1), wanted(2)];
        let of = B::norm_backward(x, gamma, grad, None, rule, wanted);
        register!(B, ops.parents, of, grads);
    }
}
