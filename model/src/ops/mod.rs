//! Operations that Burn runs as many kernels and that we run as one.
//!
//! Each has a file that holds what it computes, that as a plain composition of Burn's operations, forward and
//! backward, and its step of autodiff. [`Kernels`] are what a backend may bring of its own, with the plain
//! compositions where it does not; Flex, libtorch and CubeCL have a folder each. [`Fused`] is what the network calls.

#![allow(
    deprecated,
    reason = "NdArray and libtorch are offered for as long as Burn has them"
)]

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Device, Tensor};

use crate::config::Activation;

/// Hands gradients to those parents that want one.
macro_rules! register {
    ($backend:ty, $parents:expr, $of:expr, $grads:expr) => {
        for (parent, of) in $parents.into_iter().zip($of) {
            if let (Some(parent), Some(of)) = (parent, of) {
                $grads.register::<$backend>(parent.id, of);
            }
        }
    };
}

mod activation;
mod adamw;
mod attention;
mod attention_sublayer;
mod cross_entropy;
#[cfg(feature = "cube")]
mod cube;
mod embedding;
mod feed_forward_sublayer;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "libtorch")]
mod libtorch;
mod linear;
mod norm;
mod parameters;
mod plain;
mod rotary;
mod square;
#[cfg(test)]
mod tests;
mod token_scores;

pub(crate) use activation::{activate, swiglu};
pub use adamw::{AdamW, adamw, precision_of_statistics};
pub(crate) use attention::{Heads, attention};
pub(crate) use attention_sublayer::{AttentionSublayer, Rotation};
pub(crate) use cross_entropy::{Head, LOGITS, capped, cross_entropy};
pub(crate) use embedding::embedding;
pub(crate) use feed_forward_sublayer::{FeedForwardSublayer, Gate};
#[cfg(feature = "flex")]
pub(crate) use flex::{cached_attention, few_rows};
pub(crate) use linear::linear;
pub(crate) use norm::{Rule, norm};
pub(crate) use parameters::{Layer, NormParameters};
pub(crate) use plain::at_least_f32;
pub use square::sum_of_squares;
pub(crate) use token_scores::token_scores;

use attention_sublayer::AttentionSublayerBackward;
use cross_entropy::{CrossEntropyBackward, Losses, Of, Rows};
use feed_forward_sublayer::FeedForwardSublayerBackward;
use parameters::{Keep, Nodes};
use rotary::Turn;
use token_scores::Scores;

/// What a backend computes an operation and its gradient with.
///
/// Matrices are `[rows, columns]`. Gradients come for what is wanted of an operation's inputs, in their order.
pub trait Kernels: Backend {
    /// Whether activations are kept for the backward pass rather than computed again, where that costs more than memory.
    const KEEPS_ACTIVATIONS: bool = false;

    /// `x weight + bias`.
    fn linear_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        linear::forward::<Self>(x, weight, bias)
    }

    /// `residual + x weight + bias`.
    fn linear_onto(
        residual: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Option<FloatTensor<Self>>,
    ) -> FloatTensor<Self> {
        linear::onto::<Self>(residual, x, weight, bias)
    }

    /// The gradient of the input.
    fn linear_input_backward(
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        linear::input_backward::<Self>(weight, grad)
    }

    /// Gradients of weight and bias.
    fn linear_parameters_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2] {
        linear::parameters_backward::<Self>(x, grad, wanted)
    }

    /// Normalised rows.
    fn norm_forward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: Option<FloatTensor<Self>>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        norm::forward::<Self>(x, gamma, beta, rule)
    }

    /// Gradients of input, gain and bias; that of the input is added to `onto`, in place where nobody else holds it.
    fn norm_backward(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        onto: Option<FloatTensor<Self>>,
        rule: Rule,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<Self>>; 3] {
        norm::backward::<Self>(x, gamma, grad, onto, rule, wanted)
    }

    /// The activation of every element.
    fn activation_forward(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activation::forward::<Self>(x, activation)
    }

    /// The gradient of its input.
    fn activation_backward(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        activation::backward::<Self>(x, grad, activation)
    }

    /// The activation once more, and the gradient of its input: what both have in common is computed once.
    fn activation_again(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> [FloatTensor<Self>; 2] {
        activation::again::<Self>(x, grad, activation)
    }

    /// `silu(gate) · up`.
    fn swiglu_forward(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        activation::swiglu_forward::<Self>(gate, up)
    }

    /// Gradients of gate and up.
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 2] {
        activation::swiglu_backward::<Self>(gate, up, grad)
    }

    /// `silu(gate) · up` once more, and gradients of gate and up.
    fn swiglu_again(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> [FloatTensor<Self>; 3] {
        activation::swiglu_again::<Self>(gate, up, grad)
    }

    /// Queries and keys turned by their angles, or back; in place where nobody else holds `qkv`.
    fn rotate(
        qkv: FloatTensor<Self>,
        rotation: [FloatTensor<Self>; 2],
        heads: Heads,
        turn: Turn,
    ) -> FloatTensor<Self> {
        rotary::rotate::<Self>(qkv, rotation, heads, turn)
    }

    /// The output, and per query, `[batch, heads, length]`, the logarithm of the softmax's denominator.
    fn attention_forward(
        qkv: FloatTensor<Self>,
        heads: Heads,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::forward::<Self>(qkv, heads)
    }

    /// The gradient of `qkv`.
    fn attention_backward(
        qkv: FloatTensor<Self>,
        output: FloatTensor<Self>,
        log_total: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        attention::backward::<Self>(qkv, output, log_total, grad, heads)
    }

    /// The loss of each row.
    fn cross_entropy_forward(rows: Rows<Self>, rule: Head) -> Losses<Self> {
        cross_entropy::forward::<Self>(rows, rule)
    }

    /// The same with the gradients of all rows' sum, where the backend can tell later, by
    /// [`common_value`](Self::common_value), whether they are what is asked for.
    fn cross_entropy_with_gradients(
        _rows: &Rows<Self>,
        _rule: Head,
    ) -> Option<(Losses<Self>, Of<Self>)> {
        None
    }

    /// Gradients of hidden rows and head where that of the rows' losses is `grad`.
    fn cross_entropy_backward(
        rows: Rows<Self>,
        log_total: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: Head,
    ) -> Of<Self> {
        cross_entropy::backward::<Self>(rows, log_total, grad, rule)
    }

    /// Scores of the target of each row. No gradient.
    fn token_scores(rows: Rows<Self>, rule: Head) -> Scores<Self> {
        token_scores::forward::<Self>(rows, rule)
    }

    /// The one value that all elements have, if they have and if finding out is cheap.
    fn common_value(_tensor: &FloatTensor<Self>) -> Option<f64> {
        None
    }

    /// `tensor · factor`, in place where nobody else holds it.
    fn scaled(tensor: FloatTensor<Self>, factor: f64) -> FloatTensor<Self> {
        Self::float_mul_scalar(tensor, factor.into())
    }

    /// Rows of a table.
    fn rows_forward(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        embedding::forward::<Self>(table, ids)
    }

    /// The gradient of a table of so many rows.
    fn rows_backward(
        rows: usize,
        ids: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        embedding::backward::<Self>(rows, ids, grad)
    }

    /// The gradient `sum` of a table and that of rows taken from it; in place where nobody else holds it.
    fn rows_added(
        sum: FloatTensor<Self>,
        ids: IntTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        embedding::added::<Self>(sum, ids, grad)
    }

    /// `Σ x²`, `[1]`; in f32 at least.
    fn sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        square::sum::<Self>(x)
    }

    /// Weights, first and second moments after an update; all of one shape and one precision, f32 or f64.
    fn adamw(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moments: [FloatTensor<Self>; 2],
        scale: FloatTensor<Self>,
        update: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        adamw::update::<Self>(weights, gradient, moments, scale, update)
    }
}

/// Runs `work`, which computes on `device`, where that is fastest: Flex's operations are pieces of work for rayon's
/// threads, which are kept awake as long.
pub fn among_threads<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    if flex::is(device.as_dispatch()) {
        return flex::among(work);
    }
    _ = device;
    work()
}

/// A tensor, or none.
#[derive(Debug, Clone, ExtensionType)]
pub enum Optional<B: Backend> {
    /// There is one.
    Some(FloatTensor<B>),
    /// There is none.
    None,
}

impl Optional<Dispatch> {
    fn of<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        match tensor {
            Some(tensor) => Self::Some(tensor.into_dispatch()),
            None => Self::None,
        }
    }
}

impl<B: Backend> Optional<B> {
    fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Some(tensor) => Some(tensor),
            Self::None => None,
        }
    }
}

/// The operations as the network calls them, on any backend, with gradients where they are asked for.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "libtorch"),
    Cube: cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm", feature = "cubecl-cpu")),
    Fusion: cfg(feature = "wgpu-tuned"),
    Autodiff
)]
#[allow(missing_docs, reason = "Kernels tells what each computes")]
pub trait Fused: Kernels {
    #[fusion(default)]
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
    ) -> FloatTensor<Self> {
        Self::linear_forward(x, weight, bias.into_option())
    }

    #[fusion(default)]
    fn fused_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        #[extension_type] beta: Optional<Self>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        Self::norm_forward(x, gamma, beta.into_option(), rule)
    }

    #[fusion(default)]
    fn fused_activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        Self::activation_forward(x, activation)
    }

    #[fusion(default)]
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::swiglu_forward(gate, up)
    }

    #[fusion(default)]
    fn fused_attention(qkv: FloatTensor<Self>, heads: Heads) -> FloatTensor<Self> {
        Self::attention_forward(qkv, heads).0
    }

    #[fusion(default)]
    fn fused_attention_sublayer(
        x: FloatTensor<Self>,
        #[extension_type] sublayer: AttentionSublayer<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        sublayer.forward(x, heads, Keep::Nothing).0
    }

    #[fusion(default)]
    fn fused_feed_forward_sublayer(
        x: FloatTensor<Self>,
        #[extension_type] sublayer: FeedForwardSublayer<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        sublayer.forward(x, activation, Keep::Nothing).0
    }

    #[fusion(default)]
    fn fused_cross_entropy(#[extension_type] rows: Rows<Self>, rule: Head) -> Losses<Self> {
        Self::cross_entropy_forward(rows, rule)
    }

    /// Has no gradient: evaluation needs none.
    #[fusion(default)]
    fn fused_token_scores(#[extension_type] rows: Rows<Self>, rule: Head) -> Scores<Self> {
        Self::token_scores(rows, rule)
    }

    #[fusion(default)]
    fn fused_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        Self::rows_forward(table, ids)
    }

    /// Has no gradient of its own, as [`fused_adamw`](Self::fused_adamw).
    #[fusion(default)]
    fn fused_sum_of_squares(x: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::sum_of_squares(x)
    }

    /// Has no gradient of its own: optimizers work on tensors without autodiff.
    #[fusion(default)]
    fn fused_adamw(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        update: AdamW,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        Self::adamw(weights, gradient, [first, second], scale, update)
    }
}

#[cfg(feature = "flex")]
impl Fused for burn::backend::Flex {}

#[cfg(feature = "libtorch")]
impl Fused for burn::backend::LibTorch {}

#[cfg(feature = "ndarray")]
mod ndarray {
    use burn::backend::NdArray;

    impl super::Kernels for NdArray {}
    impl super::Fused for NdArray {}
}

impl Kernels for Dispatch {}
impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {}

/// The output of an operation with `N` parents, tracked where one of them is: `state` is made for that alone.
macro_rules! step {
    ($backward:expr, $n:literal, $nodes:expr, $output:expr, $state:expr) => {
        match Backward::<B, $n>::prepare::<C>($backward, $nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish($state, $output),
            OpsKind::UnTracked(prep) => prep.finish($output),
        }
    };
}

impl<B: Fused, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn fused_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Optional<Self>,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (weight, of_weight)) = (x.into_parts(), weight.into_parts());
        let state = (x.clone(), weight.clone());
        match bias {
            Optional::Some(bias) => {
                let (bias, of_bias) = bias.into_parts();
                let output = B::linear_forward(x, weight, Some(bias));
                step!(
                    linear::LinearBackward,
                    3,
                    [of_x, of_weight, of_bias],
                    output,
                    state
                )
            }
            Optional::None => {
                let output = B::linear_forward(x, weight, None);
                step!(linear::LinearBackward, 2, [of_x, of_weight], output, state)
            }
        }
    }

    fn fused_norm(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: Optional<Self>,
        rule: Rule,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (gamma, of_gamma)) = (x.into_parts(), gamma.into_parts());
        let state = (x.clone(), gamma.clone(), rule);
        match beta {
            Optional::Some(beta) => {
                let (beta, of_beta) = beta.into_parts();
                let output = B::norm_forward(x, gamma, Some(beta), rule);
                step!(
                    norm::NormBackward,
                    3,
                    [of_x, of_gamma, of_beta],
                    output,
                    state
                )
            }
            Optional::None => {
                let output = B::norm_forward(x, gamma, None, rule);
                step!(norm::NormBackward, 2, [of_x, of_gamma], output, state)
            }
        }
    }

    fn fused_activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        let output = B::activation_forward(x.clone(), activation);
        step!(
            activation::ActivationBackward,
            1,
            [of_x],
            output,
            (x, activation)
        )
    }

    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, of_gate), (up, of_up)) = (gate.into_parts(), up.into_parts());
        let output = B::swiglu_forward(gate.clone(), up.clone());
        step!(
            activation::SwigluBackward,
            2,
            [of_gate, of_up],
            output,
            (gate, up)
        )
    }

    fn fused_attention(qkv: FloatTensor<Self>, heads: Heads) -> FloatTensor<Self> {
        let (qkv, of_qkv) = qkv.into_parts();
        let (output, log_total) = B::attention_forward(qkv.clone(), heads);
        let state = (qkv, output.clone(), log_total, heads);
        step!(attention::AttentionBackward, 1, [of_qkv], output, state)
    }

    fn fused_attention_sublayer(
        x: FloatTensor<Self>,
        sublayer: AttentionSublayer<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        let mut nodes = Nodes::new();
        let x = nodes.of::<B>(x);
        let sublayer = sublayer.inner(&mut nodes, &x);
        let step = Backward::<B, _>::prepare::<C>(AttentionSublayerBackward, nodes.all());
        match step.compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (output, kept) = sublayer.clone().forward(x.clone(), heads, Keep::All);
                step.finish((x, sublayer, kept, heads), output)
            }
            OpsKind::UnTracked(step) => step.finish(sublayer.forward(x, heads, Keep::Nothing).0),
        }
    }

    fn fused_feed_forward_sublayer(
        x: FloatTensor<Self>,
        sublayer: FeedForwardSublayer<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let mut nodes = Nodes::new();
        let x = nodes.of::<B>(x);
        let sublayer = sublayer.inner(&mut nodes, &x);
        let step = Backward::<B, _>::prepare::<C>(FeedForwardSublayerBackward, nodes.all());
        match step.compute_bound().stateful() {
            OpsKind::Tracked(step) => {
                let (output, kept) = sublayer.clone().forward(x.clone(), activation, Keep::All);
                step.finish((x, sublayer, kept, activation), output)
            }
            OpsKind::UnTracked(step) => {
                step.finish(sublayer.forward(x, activation, Keep::Nothing).0)
            }
        }
    }

    fn fused_cross_entropy(rows: Rows<Self>, rule: Head) -> Losses<Self> {
        let untracked = |tensor| <Self as burn::backend::AutodiffBackend>::from_inner(tensor);
        let (rows, nodes) = rows.inner();
        let prepared = Backward::<B, 2>::prepare::<C>(CrossEntropyBackward, nodes);
        let (losses, loss) = match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let ahead = B::cross_entropy_with_gradients(&rows, rule);
                let (losses, made) = match ahead {
                    Some((losses, of)) => (losses, Some(of)),
                    None => (B::cross_entropy_forward(rows.clone(), rule), None),
                };
                let log_total = losses.log_total.clone();
                let loss = prepared.finish((rows, log_total, rule, made), losses.loss.clone());
                (losses, loss)
            }
            OpsKind::UnTracked(prepared) => {
                let losses = B::cross_entropy_forward(rows, rule);
                let loss = prepared.finish(losses.loss.clone());
                (losses, loss)
            }
        };
        Losses {
            loss,
            nats: untracked(losses.nats),
            correct: losses.correct,
            log_total: untracked(losses.log_total),
        }
    }

    fn fused_embedding(table: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let state = (table.clone(), ids.clone());
        let (table, of_table) = table.into_parts();
        let output = B::rows_forward(table, ids);
        step!(embedding::EmbeddingBackward, 1, [of_table], output, state)
    }
}
