//! Products of rows and a weight: in f32 on a CPU by oneDNN, which is faster there than what ATen's `mm` calls, for any
//! number of rows.

use tch::{Device, Kind, Tensor};

use super::operators;

/// `x · weight`, on top of `bias` in each row and of `residual`; `[rows, columns]`.
pub(super) fn product(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    residual: Option<&Tensor>,
) -> Tensor {
    let f32 = [x, weight].iter().all(|of| of.kind() == Kind::Float);
    let here = f32 && x.device() == Device::Cpu && x.numel() > 0 && weight.numel() > 0;
    if here && let Some(product) = operators::linear(x, &weight.transpose(0, 1), bias, residual) {
        return product;
    }
    match (bias, residual) {
        (None, None) => x.mm(weight),
        (Some(onto), None) | (None, Some(onto)) => onto.addmm(x, weight),
        (Some(bias), Some(residual)) => (residual + bias).addmm_(x, weight),
    }
}
