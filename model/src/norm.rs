//! Normalisation over the last dimension: LayerNorm or RMSNorm.

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
        let beta = self.beta.as_ref().map(Param::val);
        let rule = ops::Rule {
            norm: self.norm,
            epsilon: self.epsilon,
        };
        ops::norm(x, self.gamma.val(), beta, rule)
    }

    /// `[.., width] -> [.., width]`.
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let gamma = self.gamma.val();
        match self.norm {
            Norm::Layer => {
                let beta = self.beta.as_ref().map(Param::val);
                layer_norm(x, gamma, beta, self.epsilon)
            }
            // Not Burn's RmsNorm, which computes in f32 whatever the dtype of `x`.
            Norm::Rms => {
                let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
                x / (mean_square + self.epsilon).sqrt() * gamma.unsqueeze()
            }
        }
    }
}
