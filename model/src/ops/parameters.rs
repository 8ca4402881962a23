//! What the parts of a sublayer are computed with, and how autodiff gets to know it.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType};
use burn::tensor::Tensor;

use super::{Kernels, Optional, Rule};

/// Of `x weight + bias`.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) struct Layer<B: Backend> {
    weight: FloatTensor<B>,
    #[extension_type]
    bias: Optional<B>,
}

/// Of a norm.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) struct NormParameters<B: Backend> {
    gamma: FloatTensor<B>,
    #[extension_type]
    beta: Optional<B>,
    rule: Rule,
}

impl Layer<Dispatch> {
    pub(crate) fn of(weight: Tensor<2>, bias: Option<Tensor<1>>) -> Self {
        Self {
            weight: weight.into_dispatch(),
            bias: Optional::of(bias),
        }
    }
}

impl NormParameters<Dispatch> {
    pub(crate) fn of(gamma: Tensor<1>, beta: Option<Tensor<1>>, rule: Rule) -> Self {
        Self {
            gamma: gamma.into_dispatch(),
            beta: Optional::of(beta),
            rule,
        }
    }
}

/// Whether a forward pass is asked for what the backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// There will be one.
    All,
    /// There will be none.
    Nothing,
}

impl Keep {
    /// The tensor, where it is kept.
    pub(super) fn of<T: Clone>(self, tensor: &T) -> Option<T> {
        (self == Self::All).then(|| tensor.clone())
    }
}

impl<B: Kernels> Layer<B> {
    pub(super) fn forward(self, x: FloatTensor<B>) -> FloatTensor<B> {
        B::linear_forward(x, self.weight, self.bias.into_option())
    }

    /// Added to `residual`.
    pub(super) fn onto(self, residual: FloatTensor<B>, x: FloatTensor<B>) -> FloatTensor<B> {
        B::linear_onto(residual, x, self.weight, self.bias.into_option())
    }

    /// The gradient of the input.
    pub(super) fn input_backward(self, grad: FloatTensor<B>) -> FloatTensor<B> {
        B::linear_input_backward(self.weight, grad)
    }
}

impl<B: Kernels> NormParameters<B> {
    pub(super) fn forward(self, x: FloatTensor<B>) -> FloatTensor<B> {
        B::norm_forward(x, self.gamma, self.beta.into_option(), self.rule)
    }

    /// Gradients of the input, added to `onto`, of gain and bias.
    pub(super) fn backward(
        self,
        x: FloatTensor<B>,
        grad: FloatTensor<B>,
        onto: FloatTensor<B>,
        wanted: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        B::norm_backward(x, self.gamma, grad, Some(onto), self.rule, wanted)
    }
}

/// A tensor as autodiff has it.
type Tracked<B> = FloatTensor<Autodiff<B>>;

/// The parents of a step, in order; some of them may not be there.
pub(super) struct Nodes(Vec<NodeGuard>);

impl Nodes {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes a tensor as the next parent; what it is without autodiff.
    pub(super) fn of<B: Backend>(&mut self, tensor: Tracked<B>) -> FloatTensor<B> {
        let (tensor, node) = tensor.into_parts();
        self.0.push(node);
        tensor
    }

    /// In place of the next parent one that asks for no gradient.
    pub(super) fn none<B: Backend>(&mut self, like: &FloatTensor<B>) {
        self.of::<B>(Tracked::<B>::new(like.clone()));
    }

    /// All `N` of them.
    pub(super) fn all<const N: usize>(self) -> [NodeGuard; N] {
        let count = self.0.len();
        let nodes = self.0.try_into();
        nodes.unwrap_or_else(|_| panic!("a step of {N} parents has {count}"))
    }
}

impl<B: Kernels, C: CheckpointStrategy> Optional<Autodiff<B, C>> {
    fn inner(self, nodes: &mut Nodes, like: &FloatTensor<B>) -> Optional<B> {
        match self {
            Self::Some(tensor) => Optional::Some(nodes.of::<B>(tensor)),
            Self::None => {
                nodes.none::<B>(like);
                Optional::None
            }
        }
    }
}

impl<B: Kernels, C: CheckpointStrategy> Layer<Autodiff<B, C>> {
    /// Two parents.
    pub(super) fn inner(self, nodes: &mut Nodes, like: &FloatTensor<B>) -> Layer<B> {
        Layer {
            weight: nodes.of::<B>(self.weight),
            bias: self.bias.inner(nodes, like),
        }
    }
}

impl<B: Kernels, C: CheckpointStrategy> NormParameters<Autodiff<B, C>> {
    /// Two parents.
    pub(super) fn inner(self, nodes: &mut Nodes, like: &FloatTensor<B>) -> NormParameters<B> {
        NormParameters {
            gamma: nodes.of::<B>(self.gamma),
            beta: self.beta.inner(nodes, like),
            rule: self.rule,
        }
    }
}
