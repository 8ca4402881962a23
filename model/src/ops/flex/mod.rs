//! Fast paths of Flex in f32; in other precisions the plain compositions run, which makes Flex in f64 a reference
//! that shares nothing with them.
//!
//! Work is cut into pieces that depend on shapes alone, and each piece is computed in one order: however many
//! threads there are, the bits are the same.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{BackendTensor, DispatchDevice, DispatchTensorKind, Flex};
use burn::tensor::{DType, Tensor};

use super::cross_entropy::{Losses, Of, Rows};
use super::token_scores::Scores;
use super::{AdamW, Head, Heads, Kernels, Rule, Turn};
use crate::config::Activation;

mod activation;
mod adamw;
mod attention;
mod cross_entropy;
mod linear;
mod math;
mod matrix;
mod norm;
mod rotary;
mod row_product;
mod rows;
mod threads;
mod token_scores;

pub(super) use threads::among;

pub(super) fn is(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(device) => is(&device.clone().inner()),
        #[allow(unreachable_patterns, reason = "there may be no other backend")]
        _ => false,
    }
}

/// `x weight + bias` in f32 on Flex without autodiff, if `x` has so few rows that a product of our own is faster.
pub(crate) fn few_rows(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<Tensor<2>> {
    let mut product = x.clone().into_dispatch();
    let (x, weight) = (primitive(x)?, primitive(weight)?);
    let bias = match bias {
        Some(bias) => Some(primitive(bias)?),
        None => None,
    };
    let of_rows = row_product::few_rows(&x, &weight, bias)?;
    product.kind = DispatchTensorKind::Flex(BackendTensor::Float(of_rows));
    Some(Tensor::from_dispatch(product))
}

/// What queries `[batch, heads, length, head_width]` find among keys and values `[batch, kv_heads, keys, head_width]`, as
/// `[batch * length, heads head_width]`, in f32 on Flex without autodiff. `seen(sequence, row)` are the keys that a query
/// sees; neither end is before that of the query before it.
pub(crate) fn cached_attention(
    queries: &Tensor<4>,
    keys: &Tensor<4>,
    values: &Tensor<4>,
    seen: impl Fn(usize, usize) -> Range<usize> + Sync + Send,
) -> Option<Tensor<2>> {
    let mut mixed = queries.clone().into_dispatch();
    let (queries, keys, values) = (primitive(queries)?, primitive(keys)?, primitive(values)?);
    let of_queries = attention::cached(&queries, &keys, &values, seen);
    mixed.kind = DispatchTensorKind::Flex(BackendTensor::Float(of_queries));
    Some(Tensor::from_dispatch(mixed))
}

/// Flex's own tensor, if it is one of floats in f32 without autodiff.
fn primitive<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    match tensor.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(tensor)) if f32s(&[&tensor]) => Some(tensor),
        _ => None,
    }
}

fn f32s(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

impl Kernels for Flex {
    fn linear_forward(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
        match f32s(&[&x, &weight]) {
            true => linear::forward(&x, &weight, bias),
            false => super::linear::forward::<Self>(x, weight, bias),
        }
    }

    fn linear_onto(
        residual: FlexTensor,
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
    ) -> FlexTensor {
        match f32s(&[&residual, &x, &weight]) {
            true => linear::onto(residual, &x, &weight, bias),
            false => super::linear::onto::<Self>(residual, x, weight, bias),
        }
    }

    fn linear_input_backward(weight: FlexTensor, grad: FlexTensor) -> FlexTensor {
        match f32s(&[&weight, &grad]) {
            true => linear::input_backward(&weight, &grad),
            false => super::linear::input_backward::<Self>(weight, grad),
        }
    }

    fn linear_parameters_backward(
        x: FlexTensor,
        grad: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        match f32s(&[&x, &grad]) {
            true => linear::parameters_backward(&x, &matrix::contiguous(grad), wanted),
            false => super::linear::parameters_backward::<Self>(x, grad, wanted),
        }
    }

    fn norm_forward(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: Option<FlexTensor>,
        rule: Rule,
    ) -> FlexTensor {
        match f32s(&[&x, &gamma]) {
            true => norm::forward(x, gamma, beta, rule),
            false => super::norm::forward::<Self>(x, gamma, beta, rule),
        }
    }

    fn norm_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        grad: FlexTensor,
        onto: Option<FlexTensor>,
        rule: Rule,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        match f32s(&[&x, &gamma, &grad]) && onto.as_ref().is_none_or(|onto| f32s(&[onto])) {
            true => norm::backward(x, gamma, grad, onto, rule, wanted),
            false => super::norm::backward::<Self>(x, gamma, grad, onto, rule, wanted),
        }
    }

    fn activation_forward(x: FlexTensor, activation: Activation) -> FlexTensor {
        match f32s(&[&x]) {
            true => activation::forward(x, activation),
            false => super::activation::forward::<Self>(x, activation),
        }
    }

    fn activation_backward(x: FlexTensor, grad: FlexTensor, activation: Activation) -> FlexTensor {
        match f32s(&[&x, &grad]) {
            true => activation::backward(x, grad, activation),
            false => super::activation::backward::<Self>(x, grad, activation),
        }
    }

    fn activation_again(
        x: FlexTensor,
        grad: FlexTensor,
        activation: Activation,
    ) -> [FlexTensor; 2] {
        match f32s(&[&x, &grad]) {
            true => activation::again(x, grad, activation),
            false => super::activation::again::<Self>(x, grad, activation),
        }
    }

    fn swiglu_forward(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        match f32s(&[&gate, &up]) {
            true => activation::swiglu_forward(gate, up),
            false => super::activation::swiglu_forward::<Self>(gate, up),
        }
    }

    fn swiglu_backward(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 2] {
        match f32s(&[&gate, &up, &grad]) {
            true => activation::swiglu_backward(gate, up, grad),
            false => super::activation::swiglu_backward::<Self>(gate, up, grad),
        }
    }

    fn swiglu_again(gate: FlexTensor, up: FlexTensor, grad: FlexTensor) -> [FlexTensor; 3] {
        match f32s(&[&gate, &up, &grad]) {
            true => activation::swiglu_again(gate, up, grad),
            false => super::activation::swiglu_again::<Self>(gate, up, grad),
        }
    }

    fn rotate(qkv: FlexTensor, rotation: [FlexTensor; 2], heads: Heads, turn: Turn) -> FlexTensor {
        match f32s(&[&qkv, &rotation[0], &rotation[1]]) {
            true => rotary::rotate(qkv, rotation, heads, turn),
            false => super::rotary::rotate::<Self>(qkv, rotation, heads, turn),
        }
    }

    fn attention_forward(qkv: FlexTensor, heads: Heads) -> (FlexTensor, FlexTensor) {
        match f32s(&[&qkv]) {
            true => attention::forward(qkv, heads),
            false => super::attention::forward::<Self>(qkv, heads),
        }
    }

    fn attention_backward(
        qkv: FlexTensor,
        output: FlexTensor,
        log_total: FlexTensor,
        grad: FlexTensor,
        heads: Heads,
    ) -> FlexTensor {
        match f32s(&[&qkv, &output, &log_total, &grad]) {
            true => attention::backward(qkv, output, log_total, grad, heads),
            false => super::attention::backward::<Self>(qkv, output, log_total, grad, heads),
        }
    }

    fn cross_entropy_forward(rows: Rows<Self>, rule: Head) -> Losses<Self> {
        match cross_entropy::fast(&rows) {
            true => cross_entropy::forward(&rows, rule),
            false => super::cross_entropy::forward::<Self>(rows, rule),
        }
    }

    fn cross_entropy_with_gradients(
        rows: &Rows<Self>,
        rule: Head,
    ) -> Option<(Losses<Self>, Of<Self>)> {
        cross_entropy::fast(rows).then(|| cross_entropy::with_gradients(rows, rule))
    }

    fn cross_entropy_backward(
        rows: Rows<Self>,
        log_total: FlexTensor,
        grad: FlexTensor,
        rule: Head,
    ) -> Of<Self> {
        match cross_entropy::fast(&rows) && f32s(&[&grad]) {
            true => cross_entropy::backward(&rows, grad, rule),
            false => super::cross_entropy::backward::<Self>(rows, log_total, grad, rule),
        }
    }

    fn token_scores(rows: Rows<Self>, rule: Head) -> Scores<Self> {
        match cross_entropy::fast(&rows) {
            true => token_scores::forward(&rows, rule),
            false => super::token_scores::forward::<Self>(rows, rule),
        }
    }

    fn common_value(tensor: &FlexTensor) -> Option<f64> {
        f32s(&[tensor])
            .then(|| matrix::common_value(tensor))
            .flatten()
    }

    fn scaled(tensor: FlexTensor, factor: f64) -> FlexTensor {
        match f32s(&[&tensor]) {
            true => matrix::scaled(tensor, factor),
            false => Self::float_mul_scalar(tensor, factor.into()),
        }
    }

    fn rows_added(sum: FlexTensor, ids: FlexTensor, grad: FlexTensor) -> FlexTensor {
        match f32s(&[&sum, &grad]) && matrix::readable(&ids) {
            true => rows::added(sum, &ids, grad),
            false => super::embedding::added::<Self>(sum, ids, grad),
        }
    }

    fn sum_of_squares(x: FlexTensor) -> FlexTensor {
        match f32s(&[&x]) {
            true => rows::sum_of_squares(x),
            false => super::square::sum::<Self>(x),
        }
    }

    fn adamw(
        weights: FlexTensor,
        gradient: FlexTensor,
        moments: [FlexTensor; 2],
        scale: FlexTensor,
        update: AdamW,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        match f32s(&[&weights, &gradient, &moments[0], &moments[1], &scale]) {
            true => adamw::update(weights, gradient, moments, scale, update),
            false => super::adamw::update::<Self>(weights, gradient, moments, scale, update),
        }
    }
}
