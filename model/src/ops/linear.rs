//! `x weight + bias`, bias and product in one.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch};
use burn::tensor::Tensor;

use super::plain::Plain;
use super::{Fused, Kernels, Optional};

/// `x weight + bias`: `[rows, inputs] -> [rows, outputs]`, the weight `[inputs, outputs]`, the bias
/// `[outputs]`.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let bias = Optional::of(bias);
    let output = <Dispatch as Fused>::fused_linear(x.into_dispatch(), weight.into_dispatch(), bias);
    Tensor::from_dispatch(output)
}

pub(crate) fn forward<B: Backend>(
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    let output = Plain::<B>(x).matmul(Plain(weight));
    match bias {
        Some(bias) => {
            let bias = Plain(bias).reshape([1, output.columns()]);
            (output + bias).0
        }
        None => output.0,
    }
}

pub(crate) fn onto<B: Kernels>(
    residual: FloatTensor<B>,
    x: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    B::float_add(residual, B::linear_forward(x, weight, bias))
}

/// `grad weightᵀ`
pub(crate) fn input_backward<B: Backend>(
    weight: FloatTensor<B>,
    grad: FloatTensor<B>,
) -> FloatTensor<B> {
    Plain::<B>(grad).matmul(Plain(weight).t()).0
}

/// `xᵀ grad` and the sum of `grad` over rows, each where it is `wanted`.
pub(crate) fn parameters_backward<B: Backend>(
    x: FloatTensor<B>,
    grad: FloatTensor<B>,
    wanted: [bool; 2],
) -> [Option<FloatTensor<B>>; 2] {
    let (x, grad) = (Plain::<B>(x), Plain(grad));
    let of_weight = wanted[0].then(|| x.t().matmul(grad.clone()).0);
    let of_bias = wanted[1].then(|| {
        let outputs = grad.columns();
        grad.sum(0).reshape([outputs]).0
    });
    [of_weight, of_bias]
}

/// With `N` parents: input, weight and, of three, bias.
#[derive(Debug)]
pub(super) struct LinearBackward;

impl<B: Kernels, const N: usize> Backward<B, N> for LinearBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, weight) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let wanted = |parent: usize| ops.parents.get(parent).is_some_and(Option::is_some);
        // The input's last: its gradient may lie where the input did.
        let [of_weight, of_bias] =
            B::linear_parameters_backward(x, grad.clone(), [wanted(1), wanted(2)]);
        let of_x = wanted(0).then(|| B::linear_input_backward(weight, grad));
        register!(B, ops.parents, [of_x, of_weight, of_bias], grads);
    }
}
