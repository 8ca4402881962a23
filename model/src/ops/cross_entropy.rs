//! The head and the loss in one, without logits of more than a few rows at a time (Wijmans et al. 2024,
//! <https://arxiv.org/abs/2411.09009>; Hsu et al. 2024, <https://arxiv.org/abs/2410.10989>).
//!
//! For a row `h` with target `t`: `z = head h`, with a cap `z = cap · tanh(head h / cap)`;
//! `nats = ln Σ exp(z_v) - z_t`, and `dz_v = dnats (exp(z_v - ln Σ exp(z)) - [v = t])`, times `1 - (z_v / cap)²` with
//! a cap. A row whose target is negative is ignored: its loss and its gradient are 0.
//!
//! Where a backend can, the forward pass already makes the gradients that all rows have when `dnats` is 1: the mean
//! and the sum of a batch need no others, and the logits are computed once. Any other `dnats` computes them again.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, Int, Shape, Slice, Tensor};

use super::plain::Plain;
use super::{Fused, Kernels};
use crate::loss::TokenLoss;

/// Logits that are held at once.
pub(crate) const LOGITS: usize = 1 << 24;

/// How logits come about.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Whether the head is `[vocab_size, width]`, as a token embedding, rather than `[width, vocab_size]`.
    pub(crate) by_token: bool,
    /// Soft cap of logits.
    pub(crate) cap: Option<f64>,
}

impl Head {
    /// The size of the vocabulary.
    pub(crate) fn vocabulary(self, head: &Shape) -> usize {
        head[if self.by_token { 0 } else { 1 }]
    }

    /// How many of `all` rows have their logits at once: of as many as there may be, in equal parts. Each part has the
    /// whole head packed anew for its products.
    pub(crate) fn rows(self, head: &Shape, all: usize) -> usize {
        let most = (LOGITS / self.vocabulary(head)).max(64);
        all.div_ceil(all.div_ceil(most).max(1)).max(1)
    }
}

/// What is told about each row, `[rows]`.
#[derive(Debug, Clone, ExtensionType)]
pub struct Losses<B: Backend> {
    /// `-ln p(target)`; in f32 at least.
    pub(crate) nats: FloatTensor<B>,
    /// 1 where the target is the most probable token, else 0; no gradient.
    pub(crate) correct: IntTensor<B>,
    /// `ln Σ exp(z)`; no gradient.
    pub(crate) log_total: FloatTensor<B>,
}

/// Gradients of hidden rows and of the head.
pub(crate) type Of<B> = [FloatTensor<B>; 2];

/// How well each row of `hidden`, `[rows, width]`, predicts its target, `[rows]`, through `head`.
pub(crate) fn cross_entropy(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    rule: Head,
) -> (Tensor<1>, Tensor<1, Int>) {
    let (hidden, head) = (hidden.into_dispatch(), head.into_dispatch());
    let losses =
        <Dispatch as Fused>::fused_cross_entropy(hidden, head, targets.into_dispatch(), rule);
    (
        Tensor::from_dispatch(losses.nats),
        Tensor::from_dispatch(losses.correct),
    )
}

/// Some rows: their logits, as the loss takes them, and what else is needed of them.
struct Chunk<B: Backend> {
    hidden: Plain<B>,
    /// `[vocab_size, width]` or `[width, vocab_size]`.
    head: Plain<B>,
    rule: Head,
    /// `[rows, vocab_size]`; in f32 at least.
    logits: Plain<B>,
    /// `[rows, 1]`, none of them negative.
    targets: IntTensor<B>,
    /// `[rows, 1]`, 0 where a target is ignored, else 1.
    counts: Plain<B>,
}

fn chunks<B: Backend>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
    rule: Head,
) -> impl Iterator<Item = (usize, Chunk<B>)> {
    let all = hidden.shape()[0];
    let held = rule.rows(&head.shape(), all);
    let (hidden, head) = (Plain::<B>(hidden), Plain::<B>(head));
    (0..all).step_by(held).map(move |start| {
        let rows = held.min(all - start);
        let hidden = hidden.clone().narrow(0, start, rows);
        let across = match rule.by_token {
            true => head.clone().t(),
            false => head.clone(),
        };
        let logits = hidden.clone().matmul(across);
        let logits = match rule.cap {
            // Beyond 20 it is 1 in f64 too, and WGSL lets a tangent of much more overflow.
            Some(cap) => (logits / cap).at_most(20.0).at_least(-20.0).tanh() * cap,
            None => logits,
        }
        .at_least_f32();
        let part = B::int_slice(targets.clone(), &[Slice::from(start..start + rows)]);
        let targets = B::int_reshape(part, Shape::new([rows, 1]));
        let clamped = B::int_clamp_min(targets.clone(), 0.into());
        // 0 where the target is what it was, 1 or more where it was negative.
        let ignored = B::int_clamp_max(B::int_sub(clamped.clone(), targets), 1.into());
        let ignored = Plain::<B>(B::int_into_float(ignored, logits.dtype().into()));
        let chunk = Chunk {
            hidden,
            head: head.clone(),
            rule,
            logits,
            targets: clamped,
            counts: ignored * -1.0 + 1.0,
        };
        (start, chunk)
    })
}

impl<B: Backend> Chunk<B> {
    fn losses(&self) -> (Plain<B>, IntTensor<B>, Plain<B>) {
        let [rows, _] = self.logits.dims();
        let dtype = self.targets.dtype().into();
        let (maximum, predicted) = B::float_max_dim_with_indices(self.logits.0.clone(), 1, dtype);
        let maximum = Plain::<B>(maximum);
        let correct = B::int_equal(
            predicted,
            self.targets.clone(),
            bool_dtype::<B>(&self.logits.0),
        );
        let correct = B::bool_into_int(correct, dtype);
        let counts = B::float_into_int(self.counts.0.clone(), dtype);
        let correct = B::int_reshape(B::int_mul(correct, counts), Shape::new([rows]));
        let target = Plain::<B>(B::float_gather(
            1,
            self.logits.0.clone(),
            self.targets.clone(),
        ));
        let total = (self.logits.clone() - maximum.clone()).exp().sum(1).log();
        // In this order: the two large numbers cancel before the small one is added.
        let nats = ((maximum.clone() - target) + total.clone()) * self.counts.clone();
        (
            nats.reshape([rows]),
            correct,
            (maximum + total).reshape([rows]),
        )
    }

    /// Gradients of these rows and of the head, given the rows' totals and the gradient of their nats, `[rows, 1]`.
    fn gradients(self, log_total: Plain<B>, grad: Plain<B>) -> [Plain<B>; 2] {
        let grad = grad * self.counts.clone();
        let of_logits = (self.logits.clone() - log_total).exp() * grad.clone();
        let of_logits = Plain::<B>(B::float_scatter(
            1,
            of_logits.0,
            self.targets,
            (grad * -1.0).0,
            IndexingUpdateOp::Add,
        ));
        let of_logits = match self.rule.cap {
            Some(cap) => {
                let share = self.logits / cap;
                let slope = share.clone() * share * -1.0 + 1.0;
                of_logits * slope
            }
            None => of_logits,
        };
        let of_logits = of_logits.cast(self.hidden.dtype());
        match self.rule.by_token {
            true => [
                of_logits.clone().matmul(self.head),
                of_logits.t().matmul(self.hidden),
            ],
            false => [
                of_logits.clone().matmul(self.head.t()),
                self.hidden.t().matmul(of_logits),
            ],
        }
    }
}

/// The type that comparisons give on this tensor's device.
fn bool_dtype<B: Backend>(tensor: &FloatTensor<B>) -> burn::tensor::BoolDType {
    burn::backend::get_or_init_device_settings::<B>(&tensor.device()).bool_dtype
}

pub(crate) fn forward<B: Backend>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
    rule: Head,
) -> Losses<B> {
    let (mut nats, mut correct, mut log_totals) = (Vec::new(), Vec::new(), Vec::new());
    for (_, chunk) in chunks::<B>(hidden, head, targets, rule) {
        let (of_chunk, found, log_total) = chunk.losses();
        nats.push(of_chunk);
        correct.push(found);
        log_totals.push(log_total);
    }
    Losses {
        nats: Plain::cat(nats, 0).0,
        correct: B::int_cat(correct, 0),
        log_total: Plain::cat(log_totals, 0).0,
    }
}

/// Gradients where that of the nats is `grad`, `[rows]`.
pub(crate) fn backward<B: Backend>(
    hidden: FloatTensor<B>,
    head: FloatTensor<B>,
    targets: IntTensor<B>,
    log_total: FloatTensor<B>,
    grad: FloatTensor<B>,
    rule: Head,
) -> Of<B> {
    let (log_total, grad) = (Plain::<B>(log_total), Plain::<B>(grad));
    let mut of_hidden = Vec::new();
    let mut of_head: Option<Plain<B>> = None;
    for (start, chunk) in chunks::<B>(hidden, head, targets, rule) {
        let [rows, _] = chunk.logits.dims();
        let part = |of: &Plain<B>| of.clone().narrow(0, start, rows).reshape([rows, 1]);
        let [of_rows, of_chunk] = chunk.gradients(part(&log_total), part(&grad));
        of_hidden.push(of_rows);
        of_head = Some(match of_head {
            Some(sum) => sum + of_chunk,
            None => of_chunk,
        });
    }
    let of_head = of_head.expect("there is a row");
    [Plain::cat(of_hidden, 0).0, of_head.0]
}

/// What the backward pass needs.
#[derive(Debug, Clone)]
pub(super) struct State<B: Backend> {
    pub(super) hidden: FloatTensor<B>,
    pub(super) head: FloatTensor<B>,
    pub(super) targets: IntTensor<B>,
    pub(super) log_total: FloatTensor<B>,
    pub(super) rule: Head,
    /// The gradients of unit nats, where the forward pass has made them.
    pub(super) made: Option<Of<B>>,
}

#[derive(Debug)]
pub(super) struct CrossEntropyBackward;

impl<B: Kernels> Backward<B, 2> for CrossEntropyBackward {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let State {
            hidden,
            head,
            targets,
            log_total,
            rule,
            made,
        } = ops.state;
        let of = match made.and_then(|of| Some((of, B::common_value(&grad)?))) {
            Some((of, value)) => of.map(|of| B::scaled(of, value)),
            None => B::cross_entropy_backward(hidden, head, targets, log_total, grad, rule),
        };
        register!(B, ops.parents, of.map(Some), grads);
    }
}

impl TokenLoss {
    /// The loss of `hidden`, `[batch, length, width]`, at `targets`, through `head`.
    pub(crate) fn through(
        head: Tensor<2>,
        rule: Head,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
    ) -> Self {
        let [batch, length, width] = hidden.dims();
        let hidden = hidden.reshape([batch * length, width]);
        let targets = targets.reshape([batch * length]);
        let (nats, correct) = cross_entropy(hidden, head, targets, rule);
        Self {
            nats: nats.reshape([batch, length]),
            correct: correct.reshape([batch, length]),
        }
    }
}
