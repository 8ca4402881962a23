//! The feed-forward layer of a block: two linear layers with GELU between them, position by position.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::config::{Gelu, ModelConfig};
use crate::init::Initializer;

/// `down(gelu(up(x)))`.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    /// `[width, hidden]`.
    up: Linear,
    /// Writes to the residual stream, `[hidden, width]`.
    down: Linear,
    #[module(skip)]
    gelu: Gelu,
}

impl FeedForward {
    pub(crate) fn new(config: &ModelConfig, init: &Initializer<'_>) -> Self {
        let (width, hidden) = (config.width, config.hidden);
        Self {
            up: init.linear("up", width, hidden),
            down: init.residual_linear("down", hidden, width),
            gelu: config.gelu,
        }
    }

    /// `[rows, width] -> [rows, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down.forward(self.gelu.forward(self.up.forward(x)))
    }
}

impl Gelu {
    /// Element by element.
    pub(crate) fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            // Not Burn's `gelu`: where a backend brings no derivative of its own, as wgpu and NdArray
            // do not, it differentiates the other approximation.
            Gelu::Exact => ((x.clone() * FRAC_1_SQRT_2).erf() + 1.0) * x * 0.5,
            // x/2 (1 + tanh y) = x / (1 + exp(-2 y)), a third of the time that tanh takes on a CPU.
            // Where the exponent is cut off the quotient is 0 already, to f32's precision; left to grow,
            // it would make the derivative 0 times infinity.
            Gelu::Tanh => {
                let scale = -2.0 * FRAC_2_PI.sqrt();
                let square = x.clone() * x.clone();
                let exponent = (square * (0.044715 * scale) + scale) * x.clone();
                x / (exponent.clamp_max(60.0).exp() + 1.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Value and derivative, summed over nothing: one number in, two out.
    fn gelu(gelu: Gelu, x: f32) -> (f64, f64) {
        let x = Tensor::<1>::from_data([x], &Device::default().autodiff()).require_grad();
        let y = gelu.forward(x.clone());
        let gradients = y.clone().sum().backward();
        let slope = x.grad(&gradients).unwrap();
        (y.into_scalar(), slope.into_scalar())
    }

    #[test]
    fn is_finite_and_linear_far_from_zero() {
        for kind in [Gelu::Exact, Gelu::Tanh] {
            for x in [10.0, 50.0, 1e4, 1e8] {
                assert_eq!(gelu(kind, x), (f64::from(x), 1.0), "{kind:?} at {x}");
                let (value, slope) = gelu(kind, -x);
                assert!(value.abs() < 1e-15, "{kind:?} at -{x}: {value}");
                assert!(slope.abs() < 1e-15, "{kind:?} at -{x}: {slope}");
            }
        }
    }
}
