//! Linear layers, and their product with few rows, which generation spends its time on.

use burn::backend::Dispatch;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module::linear;

use crate::ops;
use crate::watch::{Operation, Pass};

/// `x weight + bias`: `[rows, inputs] -> [rows, outputs]`, the weight `[inputs, outputs]`.
///
/// With few rows on Flex, where no gradient is asked for, it is a product of our own, which reads the weight once and gives
/// each row the same bits whichever rows are beside it. Flex's own takes two to four times as long there.
pub(crate) fn product(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    pass: Pass<'_>,
) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(product) = ops::few_rows(&x, &weight, bias.as_ref()) {
        return product;
    }
    match pass.is_fused() {
        true => ops::linear(x, weight, bias),
        false => linear(x, weight, bias),
    }
}

/// [`forward`] as an operation of this name.
pub(crate) fn watched(layer: &Linear, name: &str, pass: Pass<'_>, x: Tensor<2>) -> Tensor<2> {
    pass.operation(name, Operation::Linear, [x], |[x]| forward(layer, x, pass))
}

/// [`product`] with the layer's parameters.
pub(crate) fn forward(layer: &Linear, x: Tensor<2>, pass: Pass<'_>) -> Tensor<2> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    product(x, layer.weight.val(), bias, pass)
}

/// As a fused operation takes them.
pub(crate) fn parameters(layer: &Linear) -> ops::Layer<Dispatch> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    ops::Layer::of(layer.weight.val(), bias)
}
