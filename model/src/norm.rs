//! Normalisation over the last dimension: LayerNorm or RMSNorm.

use burn::backend::Dispatch;
use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;

use crate::config::Norm;
use crate::ops;
use crate::watch::{Operation, Pass};

/// `gamma · normalised(x) + beta`; [`Norm`] says what normalised means.
#[derive(Module, Debug)]
pub(crate) struct Normalization {
    /// The gain, as wide as what is normalised.
    pub(crate) gamma: Param<Tensor<1>>,
    pub(crate) beta: Option<Param<Tensor<1>>>,
    #[module(skip)]
    pub(crate) norm: Norm,
    pub(crate) epsilon: f64,
}

impl Normalization {
    /// [`forward`](Self::forward) as an operation of this name.
    pub(crate) fn watched(&self, name: &str, pass: Pass<'_>, x: Tensor<2>) -> Tensor<2> {
        pass.operation(name, Operation::Norm, [x], |[x]| match pass.is_fused() {
            true => self.fused(x),
            false => self.forward(x),
        })
    }

    /// [`forward`](Self::forward) as one operation.
    fn fused(&self, x: Tensor<2>) -> Tensor<2> {
        ops::norm(x, self.gamma.val(), self.beta(), self.rule())
    }

    /// As a fused operation takes them.
    pub(crate) fn parameters(&self) -> ops::NormParameters<Dispatch> {
        ops::NormParameters::of(self.gamma.val(), self.beta(), self.rule())
    }

    fn beta(&self) -> Option<Tensor<1>> {
        self.beta.as_ref().map(Param::val)
    }

    fn rule(&self) -> ops::Rule {
        ops::Rule {
            norm: self.norm,
            epsilon: self.epsilon,
        }
    }

    /// `[.., width] -> [.., width]`; in half precision computed in f32 and rounded once.
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let computed = ops::at_least_f32(dtype);
        let (x, gamma) = (x.cast(computed), self.gamma.val().cast(computed));
        let output = match self.norm {
            Norm::Layer => {
                let beta = self.beta().map(|beta| beta.cast(computed));
                layer_norm(x, gamma, beta, self.epsilon)
            }
            // Not Burn's RmsNorm, which computes in f32 even where `x` is f64.
            Norm::Rms => {
                let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
                x / (mean_square + self.epsilon).sqrt() * gamma.unsqueeze()
            }
        };
        output.cast(dtype)
    }
}
