//! A block's second half in one step of autodiff: `x + down(activation(up(norm(x))))` or, gated,
//! `x + down(silu(gate(norm(x))) · up(norm(x)))`.
//!
//! Kept for the backward pass are `x` and what goes into the activation. Normalised rows are computed again, and so is the
//! activation together with its derivative, unless the backend [keeps](Kernels::KEEPS_ACTIVATIONS) it. The gradient of `x`
//! is that of the output and the norm's added to it.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType};
use burn::tensor::Tensor;

use super::parameters::{Keep, Nodes};
use super::{Fused, Kernels, Layer, NormParameters};
use crate::config::Activation;

/// What it is computed with.
#[derive(Debug, Clone, ExtensionType)]
pub struct FeedForwardSublayer<B: Backend> {
    #[extension_type]
    pub(crate) norm: NormParameters<B>,
    /// `[width, hidden]`
    #[extension_type]
    pub(crate) up: Layer<B>,
    /// `[hidden, width]`
    #[extension_type]
    pub(crate) down: Layer<B>,
    #[extension_type]
    pub(crate) gate: Gate<B>,
}

/// What goes through SwiGLU's sigmoid.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) enum Gate<B: Backend> {
    /// `[width, hidden]`
    Layer(#[extension_type] Layer<B>),
    /// There is none.
    None,
}

impl FeedForwardSublayer<Dispatch> {
    /// `[rows, width] -> [rows, width]`.
    pub(crate) fn apply(self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        let x = x.into_dispatch();
        let output = <Dispatch as Fused>::fused_feed_forward_sublayer(x, self, activation);
        Tensor::from_dispatch(output)
    }
}

/// What went into the activation, and through the gate; what came out, where that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept<B: Backend> {
    up: FloatTensor<B>,
    gate: Option<FloatTensor<B>>,
    inner: Option<FloatTensor<B>>,
}

impl<B: Kernels> FeedForwardSublayer<B> {
    /// The output, and what is kept.
    pub(super) fn forward(
        self,
        x: FloatTensor<B>,
        activation: Activation,
        keep: Keep,
    ) -> (FloatTensor<B>, Option<Kept<B>>) {
        let normed = self.norm.forward(x.clone());
        let (inner, kept) = match self.gate {
            Gate::Layer(gate) => {
                let gate = gate.forward(normed.clone());
                let up = self.up.forward(normed);
                let kept = keep.of(&(up.clone(), Some(gate.clone())));
                (B::swiglu_forward(gate, up), kept)
            }
            Gate::None => {
                let up = self.up.forward(normed);
                let kept = keep.of(&up).map(|up| (up, None));
                (B::activation_forward(up, activation), kept)
            }
        };
        let kept = kept.map(|(up, gate)| {
            let inner = B::KEEPS_ACTIVATIONS.then(|| inner.clone());
            Kept { up, gate, inner }
        });
        (self.down.onto(x, inner), kept)
    }
}

impl<B: Kernels, C: CheckpointStrategy> FeedForwardSublayer<Autodiff<B, C>> {
    /// Without autodiff; its parameters are the next eight parents.
    pub(super) fn inner(self, nodes: &mut Nodes, like: &FloatTensor<B>) -> FeedForwardSublayer<B> {
        FeedForwardSublayer {
            norm: self.norm.inner(nodes, like),
            up: self.up.inner(nodes, like),
            down: self.down.inner(nodes, like),
            gate: match self.gate {
                Gate::Layer(gate) => Gate::Layer(gate.inner(nodes, like)),
                Gate::None => {
                    nodes.none::<B>(like);
                    nodes.none::<B>(like);
                    Gate::None
                }
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct FeedForwardSublayerBackward;

/// Input, parameters.
const PARENTS: usize = 9;

impl<B: Kernels> Backward<B, PARENTS> for FeedForwardSublayerBackward {
    type State = (
        FloatTensor<B>,
        FeedForwardSublayer<B>,
        Option<Kept<B>>,
        Activation,
    );

    fn backward(self, ops: Ops<Self::State, PARENTS>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, sublayer, kept, activation) = ops.state;
        let Kept { up, gate, inner } = kept.expect("kept for the backward pass");
        let FeedForwardSublayer {
            norm,
            up: up_layer,
            down,
            gate: gate_layer,
        } = sublayer;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let grad = grads.consume::<B>(&ops.node);

        let of_inner = down.input_backward(grad.clone());
        let (inner, of_up, of_gate) = match (inner, gate) {
            (Some(inner), Some(gate)) => {
                let [of_gate, of_up] = B::swiglu_backward(gate, up, of_inner);
                (inner, of_up, Some(of_gate))
            }
            (Some(inner), None) => {
                let of_up = B::activation_backward(up, of_inner, activation);
                (inner, of_up, None)
            }
            (None, Some(gate)) => {
                let [inner, of_gate, of_up] = B::swiglu_again(gate, up, of_inner);
                (inner, of_up, Some(of_gate))
            }
            (None, None) => {
                let [inner, of_up] = B::activation_again(up, of_inner, activation);
                (inner, of_up, None)
            }
        };
        let of_down = B::linear_parameters_backward(inner, grad.clone(), [wanted[5], wanted[6]]);
        let normed = norm.clone().forward(x.clone());
        let of_up_layer =
            B::linear_parameters_backward(normed.clone(), of_up.clone(), [wanted[3], wanted[4]]);
        let of_normed = up_layer.input_backward(of_up);
        let (of_normed, of_gate_layer) = match (gate_layer, of_gate) {
            (Gate::Layer(layer), Some(of_gate)) => {
                let wanted = [wanted[7], wanted[8]];
                let of_layer = B::linear_parameters_backward(normed, of_gate.clone(), wanted);
                let of_normed = B::float_add(of_normed, layer.input_backward(of_gate));
                (of_normed, of_layer)
            }
            _ => (of_normed, [None, None]),
        };
        let of_norm = norm.backward(x, of_normed, grad, [wanted[0], wanted[1], wanted[2]]);

        let of = of_norm.into_iter().chain(of_up_layer);
        let of = of.chain(of_down).chain(of_gate_layer);
        register!(B, ops.parents, of, grads);
    }
}
