//! Sums of squares, of which the norm of all gradients is made.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata};
use burn::tensor::{Shape, Tensor};

use super::Fused;
use super::plain::Plain;

/// `Σ x²` over all elements, in f32 at least: half precision loses a sum of so many. `[1]`, without a gradient.
pub fn sum_of_squares<const D: usize>(x: Tensor<D>) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as Fused>::fused_sum_of_squares(x.into_dispatch()))
}

pub(crate) fn sum<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let count = x.shape().num_elements();
    let x = Plain::<B>(x).shaped(Shape::new([count])).at_least_f32();
    (x.clone() * x).sum(0).0
}
