//! Activations and their derivatives by ATen's kernels, squared ReLU by passes in place.

use tch::Tensor;

use crate::config::Activation;

/// ATen's names of exact GELU and of its approximation by `tanh`.
const EXACT: &str = "none";
const TANH: &str = "tanh";

/// The activation of every element of `x`, into `into`; that may be `x`.
pub(super) fn forward(x: &Tensor, activation: Activation, into: &mut Tensor) {
    let _ = match activation {
        Activation::Gelu => x.gelu_out(into, EXACT),
        Activation::GeluTanh => x.gelu_out(into, TANH),
        Activation::SwiGlu => x.silu_out(into),
        Activation::Relu2 => {
            let _ = x.clamp_min_out(into, 0.0);
            into.square_()
        }
    };
}

/// `grad` times the activation's derivative at `x`, into `into`; that may be `x`.
pub(super) fn backward(x: &Tensor, grad: &Tensor, activation: Activation, into: &mut Tensor) {
    let _ = match activation {
        Activation::Gelu => x.gelu_backward_grad_input(into, grad, EXACT),
        Activation::GeluTanh => x.gelu_backward_grad_input(into, grad, TANH),
        Activation::SwiGlu => x.silu_backward_grad_input(into, grad),
        Activation::Relu2 => {
            let _ = x.clamp_min_out(into, 0.0);
            let _ = into.g_mul_(grad);
            into.g_mul_scalar_(2.0)
        }
    };
}

/// `silu(gate) · up` into `into`; that may be `gate`.
pub(super) fn swiglu_forward(gate: &Tensor, up: &Tensor, into: &mut Tensor) {
    let _ = gate.silu_out(into);
    let _ = into.g_mul_(up);
}

/// Gradients of gate and up; the first may go where `up` lies, the second where `gate` lies.
pub(super) fn swiglu_backward([gate, up, grad]: [&Tensor; 3], [of_gate, of_up]: [&mut Tensor; 2]) {
    let _ = grad.mul_out(of_gate, up);
    let _ = gate.silu_backward_grad_input(of_gate, of_gate);
    swiglu_forward(gate, grad, of_up);
}
