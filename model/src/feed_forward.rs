//! The feed-forward layer of a block, position by position.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

use crate::config::{Activation, ModelConfig};
use crate::init::Initializer;
use crate::linear;
use crate::norm::Normalization;
use crate::ops;
use crate::watch::{Operation, Pass};

/// `down(activation(up(x)))` or, gated, `down(silu(gate(x)) · up(x))`.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    /// `[width, hidden]`; only SwiGLU has it.
    gate: Option<Linear>,
    /// `[width, hidden]`.
    up: Linear,
    /// Writes to the residual stream, `[hidden, width]`.
    down: Linear,
    #[module(skip)]
    activation: Activation,
}

impl FeedForward {
    pub(crate) fn new(config: &ModelConfig, init: &Initializer<'_>) -> Self {
        let (width, hidden) = (config.width, config.hidden);
        let gated = config.activation == Activation::SwiGlu;
        Self {
            gate: gated.then(|| init.linear("gate", width, hidden)),
            up: init.linear("up", width, hidden),
            down: init.residual_linear("down", hidden, width),
            activation: config.activation,
        }
    }

    /// `x + forward(norm(x))` as one operation.
    pub(crate) fn fused(&self, norm: &Normalization, x: Tensor<2>) -> Tensor<2> {
        let sublayer = ops::FeedForwardSublayer {
            norm: norm.parameters(),
            up: linear::parameters(&self.up),
            down: linear::parameters(&self.down),
            gate: match &self.gate {
                Some(gate) => ops::Gate::Layer(linear::parameters(gate)),
                None => ops::Gate::None,
            },
        };
        sublayer.apply(x, self.activation)
    }

    /// `[rows, width] -> [rows, width]`.
    pub(crate) fn forward(&self, x: Tensor<2>, pass: Pass<'_>) -> Tensor<2> {
        let name = "feed_forward.activation";
        let inner = match &self.gate {
            Some(gate) => {
                let gate = linear::watched(gate, "feed_forward.gate", pass, x.clone());
                let up = linear::watched(&self.up, "feed_forward.up", pass, x);
                pass.operation(
                    name,
                    Operation::Activation,
                    [gate, up],
                    |[gate, up]| match pass.is_fused() {
                        true => ops::swiglu(gate, up),
                        false => self.activation.forward(gate) * up,
                    },
                )
            }
            None => {
                let up = linear::watched(&self.up, "feed_forward.up", pass, x);
                pass.operation(name, Operation::Activation, [up], |[up]| {
                    match pass.is_fused() {
                        true => ops::activate(up, self.activation),
                        false => self.activation.forward(up),
                    }
                })
            }
        };
        linear::watched(&self.down, "feed_forward.down", pass, inner)
    }
}

impl Activation {
    /// Element by element; of SwiGLU, what is done to the gate.
    pub(crate) fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            // Not Burn's `gelu`: where a backend brings no derivative of its own, as wgpu and NdArray
            // do not, it differentiates the other approximation.
            Activation::Gelu => ((x.clone() * FRAC_1_SQRT_2).erf() + 1.0) * x * 0.5,
            // x/2 (1 + tanh y) = x / (1 + exp(-2 y)), a third of the time that tanh takes on a CPU.
            // Where the exponent is cut off the quotient is 0 already, to f32's precision; left to grow,
            // it would make the derivative 0 times infinity.
            Activation::GeluTanh => {
                let scale = -2.0 * FRAC_2_PI.sqrt();
                let square = x.clone() * x.clone();
                let exponent = (square * (0.044715 * scale) + scale) * x.clone();
                x / (exponent.clamp_max(60.0).exp() + 1.0)
            }
            // silu(x) = x / (1 + exp(-x)), cut off for the same reason.
            Activation::SwiGlu => x.clone() / ((-x).clamp_max(60.0).exp() + 1.0),
            Activation::Relu2 => {
                let x = relu(x);
                x.clone() * x
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Value and derivative at one number.
    fn at(activation: Activation, x: f32) -> (f64, f64) {
        let x = Tensor::<1>::from_data([x], &Device::default().autodiff()).require_grad();
        let y = activation.forward(x.clone());
        let gradients = y.clone().sum().backward();
        let slope = x.grad(&gradients).unwrap();
        (y.into_scalar(), slope.into_scalar())
    }

    #[test]
    fn is_finite_far_from_zero() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::SwiGlu] {
            for x in [50.0, 1e4, 1e8] {
                let linear = (f64::from(x), 1.0);
                assert_eq!(at(activation, x), linear, "{activation:?} at {x}");
                let (value, slope) = at(activation, -x);
                assert!(value.abs() < 1e-15, "{activation:?} at -{x}: {value}");
                assert!(slope.abs() < 1e-15, "{activation:?} at -{x}: {slope}");
            }
        }
        for (x, expected) in [(1e4, (1e8, 2e4)), (0.0, (0.0, 0.0)), (-1e4, (0.0, 0.0))] {
            assert_eq!(at(Activation::Relu2, x), expected);
        }
    }
}
