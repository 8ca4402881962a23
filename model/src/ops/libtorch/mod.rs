//! libtorch: ATen's fused kernels and their backwards; where it or `tch` has none, few passes and in place.
//!
//! This file says what goes where and who holds it; the others compute, on ATen's own tensors. ATen's autograd has no
//! part in it: no tensor of Burn's asks for a gradient there.
//!
//! A large tensor that is made anew costs more, in page faults, than what is computed in it. So results go where an
//! input lies that nobody else holds: in a backward pass that is most of what comes in.

use burn::backend::libtorch::TchTensor;
use burn::backend::{LibTorch, TensorMetadata};
use tch::{Device, Kind, Tensor};

use super::cross_entropy::{Losses, Of, Rows};
use super::{AdamW, Head, Heads, Kernels, Rule, Turn};
use crate::config::{Activation, Norm};

use cross_entropy::{Told, Work};
use product::product;

mod activation;
mod attention;
mod cross_entropy;
mod norm;
mod operators;
mod pieces;
mod product;
mod rotary;

/// A place for a result of this shape and type: the tensor's own where nobody else holds it.
fn room(tensor: &TchTensor) -> TchTensor {
    match tensor.can_mut() {
        true => tensor.clone(),
        false => TchTensor::new(tensor.tensor.empty_like()),
    }
}

/// The tensor, or a copy where somebody else holds it: to be changed.
fn own(tensor: TchTensor) -> TchTensor {
    match tensor.can_mut() {
        true => tensor,
        false => {
            let mut copy = tensor.tensor.empty_like();
            copy.copy_(&tensor.tensor);
            TchTensor::new(copy)
        }
    }
}

/// The same, by rows.
fn own_rows(tensor: TchTensor) -> TchTensor {
    match tensor.tensor.is_contiguous() {
        true => own(tensor),
        false => TchTensor::new(tensor.tensor.contiguous()),
    }
}

/// What sums are computed in.
fn at_least_f32(kind: Kind) -> Kind {
    match kind {
        Kind::Half | Kind::BFloat16 => Kind::Float,
        kind => kind,
    }
}

fn on_cpu(tensor: &TchTensor) -> bool {
    tensor.tensor.device() == Device::Cpu
}

/// Whether the flash kernel is there for this; of nothing at all it divides by zero.
fn flashes(qkv: &TchTensor) -> bool {
    on_cpu(qkv) && qkv.tensor.numel() > 0
}

fn work(rows: &Rows<LibTorch>, rule: Head) -> Work {
    let held = rule.rows(&rows.head.shape(), rows.count());
    let weights = rows.weights.clone().into_option();
    let weights = weights.as_ref().map(|weights| &weights.tensor);
    let given = [&rows.hidden, &rows.head, &rows.targets].map(|of| &of.tensor);
    Work::new(given, weights, rule, held)
}

fn losses([loss, nats, correct, log_total]: Told, rows: &Rows<LibTorch>) -> Losses<LibTorch> {
    Losses {
        loss: TchTensor::new(loss),
        nats: TchTensor::new(nats),
        correct: TchTensor::new(correct.to_kind(rows.targets.tensor.kind())),
        log_total: TchTensor::new(log_total),
    }
}

impl Kernels for LibTorch {
    /// ATen has no kernel that gives an activation with its derivative.
    const KEEPS_ACTIVATIONS: bool = true;

    fn linear_forward(x: TchTensor, weight: TchTensor, bias: Option<TchTensor>) -> TchTensor {
        let bias = bias.as_ref().map(|bias| &bias.tensor);
        TchTensor::new(product(&x.tensor, &weight.tensor, bias, None))
    }

    fn linear_onto(
        residual: TchTensor,
        x: TchTensor,
        weight: TchTensor,
        bias: Option<TchTensor>,
    ) -> TchTensor {
        let bias = bias.as_ref().map(|bias| &bias.tensor);
        let residual = Some(&residual.tensor);
        TchTensor::new(product(&x.tensor, &weight.tensor, bias, residual))
    }

    fn linear_input_backward(weight: TchTensor, grad: TchTensor) -> TchTensor {
        TchTensor::new(product(
            &grad.tensor,
            &weight.tensor.transpose(0, 1),
            None,
            None,
        ))
    }

    fn linear_parameters_backward(
        x: TchTensor,
        grad: TchTensor,
        wanted: [bool; 2],
    ) -> [Option<TchTensor>; 2] {
        let grad = &grad.tensor;
        [
            wanted[0].then(|| TchTensor::new(x.tensor.transpose(0, 1).mm(grad))),
            wanted[1].then(|| TchTensor::new(grad.sum_dim_intlist(0, false, None))),
        ]
    }

    fn norm_forward(
        x: TchTensor,
        gamma: TchTensor,
        beta: Option<TchTensor>,
        rule: Rule,
    ) -> TchTensor {
        let (gamma, beta) = (&gamma.tensor, beta.as_ref().map(|beta| &beta.tensor));
        match rule.norm {
            Norm::Layer => TchTensor::new(norm::layer(&x.tensor, gamma, beta, rule.epsilon)),
            Norm::Rms => {
                let y = room(&x);
                norm::rms(&x.tensor, gamma, beta, rule.epsilon, &y.tensor);
                y
            }
        }
    }

    fn norm_backward(
        x: TchTensor,
        gamma: TchTensor,
        grad: TchTensor,
        onto: Option<TchTensor>,
        rule: Rule,
        wanted: [bool; 3],
    ) -> [Option<TchTensor>; 3] {
        let given = [&x, &gamma, &grad].map(|of| &of.tensor);
        let [of_x, of_gamma, of_beta] = match rule.norm {
            Norm::Layer => {
                let of = norm::layer_backward(given, rule.epsilon, wanted);
                of.map(|of| of.map(TchTensor::new))
            }
            Norm::Rms => {
                let of_x = wanted[0].then(|| room(&grad));
                let [of_gamma, of_beta] = norm::backward(
                    given,
                    rule.epsilon,
                    [wanted[1], wanted[2]],
                    of_x.as_ref().map(|of_x| &of_x.tensor),
                );
                let [of_gamma, of_beta] = [of_gamma, of_beta].map(|of| of.map(TchTensor::new));
                [of_x, of_gamma, of_beta]
            }
        };
        let of_x = match (of_x, onto) {
            (Some(of_x), Some(onto)) => {
                let mut sum = own(onto);
                let _ = sum.tensor.g_add_(&of_x.tensor);
                Some(sum)
            }
            (of_x, _) => of_x,
        };
        [of_x, of_gamma, of_beta]
    }

    fn activation_forward(x: TchTensor, activation: Activation) -> TchTensor {
        let mut y = room(&x);
        activation::forward(&x.tensor, activation, &mut y.tensor);
        y
    }

    fn activation_backward(x: TchTensor, grad: TchTensor, activation: Activation) -> TchTensor {
        let mut of_x = room(&x);
        activation::backward(&x.tensor, &grad.tensor, activation, &mut of_x.tensor);
        of_x
    }

    fn swiglu_forward(gate: TchTensor, up: TchTensor) -> TchTensor {
        let mut y = room(&gate);
        activation::swiglu_forward(&gate.tensor, &up.tensor, &mut y.tensor);
        y
    }

    fn swiglu_backward(gate: TchTensor, up: TchTensor, grad: TchTensor) -> [TchTensor; 2] {
        let (mut of_gate, mut of_up) = (room(&up), room(&gate));
        activation::swiglu_backward(
            [&gate, &up, &grad].map(|of| &of.tensor),
            [&mut of_gate.tensor, &mut of_up.tensor],
        );
        [of_gate, of_up]
    }

    fn rotate(qkv: TchTensor, rotation: [TchTensor; 2], heads: Heads, turn: Turn) -> TchTensor {
        let qkv = own(qkv);
        rotary::rotate(
            &qkv.tensor,
            rotation.each_ref().map(|of| &of.tensor),
            heads,
            turn,
        );
        qkv
    }

    fn attention_forward(qkv: TchTensor, heads: Heads) -> (TchTensor, TchTensor) {
        if !flashes(&qkv) {
            return super::attention::forward::<Self>(qkv, heads);
        }
        let (output, log_total) = attention::forward(&qkv.tensor, heads);
        (TchTensor::new(output), TchTensor::new(log_total))
    }

    fn attention_backward(
        qkv: TchTensor,
        output: TchTensor,
        log_total: TchTensor,
        grad: TchTensor,
        heads: Heads,
    ) -> TchTensor {
        if !flashes(&qkv) {
            return super::attention::backward::<Self>(qkv, output, log_total, grad, heads);
        }
        let mut of_qkv = match attention::narrow_window(heads) {
            Some(_) => TchTensor::new(qkv.tensor.empty_like()),
            None => room(&qkv),
        };
        let given = [&output, &log_total, &grad].map(|of| &of.tensor);
        attention::backward(&qkv.tensor, given, heads, &mut of_qkv.tensor);
        of_qkv
    }

    fn cross_entropy_forward(rows: Rows<Self>, rule: Head) -> Losses<Self> {
        losses(work(&rows, rule).losses(), &rows)
    }

    /// On a CPU, where [`common_value`](Kernels::common_value) can be had without waiting for a GPU.
    fn cross_entropy_with_gradients(
        rows: &Rows<Self>,
        rule: Head,
    ) -> Option<(Losses<Self>, Of<Self>)> {
        on_cpu(&rows.hidden).then(|| {
            let (told, of) = work(rows, rule).losses_and_gradients();
            (losses(told, rows), of.map(TchTensor::new))
        })
    }

    fn cross_entropy_backward(
        rows: Rows<Self>,
        log_total: TchTensor,
        grad: TchTensor,
        rule: Head,
    ) -> Of<Self> {
        let of = work(&rows, rule).gradients(&log_total.tensor, &grad.tensor);
        of.map(TchTensor::new)
    }

    fn common_value(tensor: &TchTensor) -> Option<f64> {
        if !on_cpu(tensor) || tensor.tensor.numel() == 0 {
            return None;
        }
        let (least, most) = tensor.tensor.aminmax(None, false);
        let [least, most] = [least, most].map(|of| of.double_value(&[]));
        (least == most).then_some(most)
    }

    fn rows_forward(table: TchTensor, ids: TchTensor) -> TchTensor {
        TchTensor::new(table.tensor.index_select(0, &ids.tensor))
    }

    fn rows_backward(rows: usize, ids: TchTensor, grad: TchTensor) -> TchTensor {
        // ATen adds rows up in their own precision.
        let kind = grad.tensor.kind();
        let (grad, ids) = (grad.tensor.to_kind(at_least_f32(kind)), &ids.tensor);
        let nothing_ignored = -1;
        let sum = Tensor::embedding_dense_backward(&grad, ids, rows as i64, nothing_ignored, false);
        TchTensor::new(sum.to_kind(kind))
    }

    fn sum_of_squares(x: TchTensor) -> TchTensor {
        let kind = at_least_f32(x.tensor.kind());
        let squares = pieces::pieces(&x.tensor)
            .map(|piece| {
                let numbers = piece.of(&x.tensor).to_kind(kind).reshape([-1]);
                match on_cpu(&x) {
                    true => numbers.dot(&numbers),
                    // There a piece is all, of which `dot` takes no more than 2³¹.
                    false => numbers.square().sum(None),
                }
            })
            .reduce(|sum, more| sum + more);
        let nothing = || Tensor::zeros([], (kind, x.tensor.device()));
        TchTensor::new(squares.unwrap_or_else(nothing).reshape([1]))
    }

    fn adamw(
        weights: TchTensor,
        gradient: TchTensor,
        moments: [TchTensor; 2],
        scale: TchTensor,
        update: AdamW,
    ) -> (TchTensor, TchTensor, TchTensor) {
        let [first, second] = moments.map(own_rows);
        let [weights, mut gradient] = [weights, gradient].map(own_rows);
        let _ = gradient.tensor.g_mul_(&scale.tensor);
        let given = [&weights, &gradient, &first, &second].map(|of| &of.tensor);
        operators::adamw(given, update);
        (weights, first, second)
    }
}
