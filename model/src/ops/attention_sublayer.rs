//! A block's first half in one step of autodiff: `x + output(attention(qkv(norm(x))))`, queries and keys turned where
//! positions are rotary.
//!
//! Kept for the backward pass are `x`, turned queries, keys and values, what they find and the logarithms of the softmax's
//! totals. Normalised rows are computed again. The gradient of `x` is that of the output and the norm's added to it.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType};
use burn::tensor::Tensor;

use super::parameters::{Keep, Nodes};
use super::{Fused, Heads, Kernels, Layer, NormParameters, Turn};

/// What it is computed with.
#[derive(Debug, Clone, ExtensionType)]
pub struct AttentionSublayer<B: Backend> {
    #[extension_type]
    pub(crate) norm: NormParameters<B>,
    /// `[width, (heads + 2 kv_heads) head_width]`
    #[extension_type]
    pub(crate) qkv: Layer<B>,
    /// `[heads head_width, width]`
    #[extension_type]
    pub(crate) output: Layer<B>,
    #[extension_type]
    pub(crate) rotation: Rotation<B>,
}

/// By which angles queries and keys are turned.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) enum Rotation<B: Backend> {
    /// Cosines and sines, `[length, head_width / 2]` each; they have no gradient.
    By(FloatTensor<B>, FloatTensor<B>),
    /// By none.
    None,
}

impl Rotation<Dispatch> {
    pub(crate) fn of(rotation: Option<[Tensor<2>; 2]>) -> Self {
        match rotation.map(|of| of.map(Tensor::into_dispatch)) {
            Some([cosines, sines]) => Self::By(cosines, sines),
            None => Self::None,
        }
    }
}

impl<B: Kernels> Rotation<B> {
    fn apply(self, qkv: FloatTensor<B>, heads: Heads, turn: Turn) -> FloatTensor<B> {
        match self {
            Self::By(cosines, sines) => B::rotate(qkv, [cosines, sines], heads, turn),
            Self::None => qkv,
        }
    }
}

impl AttentionSublayer<Dispatch> {
    /// `[batch * length, width] -> [batch * length, width]`.
    pub(crate) fn apply(self, x: Tensor<2>, heads: Heads) -> Tensor<2> {
        let x = x.into_dispatch();
        Tensor::from_dispatch(<Dispatch as Fused>::fused_attention_sublayer(
            x, self, heads,
        ))
    }
}

/// Queries, keys and values, what they find, and the logarithms of totals.
pub(super) type Kept<B> = [FloatTensor<B>; 3];

impl<B: Kernels> AttentionSublayer<B> {
    /// The output, and what is kept.
    pub(super) fn forward(
        self,
        x: FloatTensor<B>,
        heads: Heads,
        keep: Keep,
    ) -> (FloatTensor<B>, Option<Kept<B>>) {
        let qkv = self.qkv.forward(self.norm.forward(x.clone()));
        let qkv = self.rotation.apply(qkv, heads, Turn::Forward);
        let (mixed, log_total) = B::attention_forward(qkv.clone(), heads);
        let kept = keep.of(&[qkv, mixed.clone(), log_total]);
        (self.output.onto(x, mixed), kept)
    }
}

impl<B: Kernels, C: CheckpointStrategy> AttentionSublayer<Autodiff<B, C>> {
    /// Without autodiff; its parameters are the next six parents.
    pub(super) fn inner(self, nodes: &mut Nodes, like: &FloatTensor<B>) -> AttentionSublayer<B> {
        AttentionSublayer {
            norm: self.norm.inner(nodes, like),
            qkv: self.qkv.inner(nodes, like),
            output: self.output.inner(nodes, like),
            rotation: match self.rotation {
                Rotation::By(cosines, sines) => {
                    Rotation::By(cosines.into_primitive(), sines.into_primitive())
                }
                Rotation::None => Rotation::None,
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct AttentionSublayerBackward;

/// Input, parameters.
const PARENTS: usize = 7;

impl<B: Kernels> Backward<B, PARENTS> for AttentionSublayerBackward {
    type State = (FloatTensor<B>, AttentionSublayer<B>, Option<Kept<B>>, Heads);

    fn backward(self, ops: Ops<Self::State, PARENTS>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, sublayer, kept, heads) = ops.state;
        let [qkv, mixed, log_total] = kept.expect("kept for the backward pass");
        let AttentionSublayer {
            norm,
            qkv: layer,
            output,
            rotation,
        } = sublayer;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let grad = grads.consume::<B>(&ops.node);

        let of_output =
            B::linear_parameters_backward(mixed.clone(), grad.clone(), [wanted[5], wanted[6]]);
        let of_mixed = output.input_backward(grad.clone());
        let of_qkv = B::attention_backward(qkv, mixed, log_total, of_mixed, heads);
        let of_qkv = rotation.apply(of_qkv, heads, Turn::Back);
        let normed = norm.clone().forward(x.clone());
        let of_layer =
            B::linear_parameters_backward(normed, of_qkv.clone(), [wanted[3], wanted[4]]);
        let of_normed = layer.input_backward(of_qkv);
        let of_norm = norm.backward(x, of_normed, grad, [wanted[0], wanted[1], wanted[2]]);

        let of = of_norm.into_iter().chain(of_layer).chain(of_output);
        register!(B, ops.parents, of, grads);
    }
}
