//! The head and the loss in one, without logits of more than a few rows at a time (Wijmans et al. 2024,
//! <https://arxiv.org/abs/2411.09009>; Hsu et al. 2024, <https://arxiv.org/abs/2410.10989>).
//!
//! For a row `h` with target `t` of `V` tokens: `z = head h`, with a cap `z = cap · tanh(head h / cap)`;
//! `L = ln Σ exp(z_v)`, `nats = L - z_t`. What is optimised is `weight` times
//! `(1 - s) (L - z_t) + s (L - mean(z)) + c L²`, with label smoothing `s` and z-loss `c`, whose gradient is
//! `dz_v = weight · dloss · ((1 + 2 c L) exp(z_v - L) - (1 - s) [v = t] - s / V)`, times `1 - (z_v / cap)²` with a cap.
//! A row whose target is negative is ignored: its loss, its nats and its gradient are 0. A target that is no token, `V` or
//! more, is a caller's mistake, which no backend reads memory for and none has to wait for: its row's loss, nats and
//! gradient are NaN.
//!
//! Where a backend can, the forward pass already makes the gradients that all rows have when `dloss` is 1: the mean
//! and the sum of a batch need no others, and the logits are computed once. Any other `dloss` computes them again.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, TensorMetadata};
use burn::tensor::{IndexingUpdateOp, Int, Shape, Slice, Tensor};

use super::plain::Plain;
use super::{Fused, Kernels, Optional};
use crate::loss::Objective;

/// Logits that are held at once.
pub(crate) const LOGITS: usize = 1 << 25;

/// The hyperbolic tangent of this and of all beyond is 1 in f64 too, and WGSL lets that of much more overflow.
pub(crate) const FAR: f64 = 20.0;

/// `cap · tanh(logits / cap)`, in Burn's own operations.
pub(crate) fn capped<const D: usize>(logits: Tensor<D>, cap: f64) -> Tensor<D> {
    (logits / cap).clamp(-FAR, FAR).tanh() * cap
}

/// How logits come about, and what is made of them.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Whether the head is `[vocab_size, width]`, as a token embedding, rather than `[width, vocab_size]`.
    pub(crate) by_token: bool,
    /// Soft cap of logits.
    pub(crate) cap: Option<f64>,
    /// What is optimised.
    pub(crate) objective: Objective,
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

/// What is given.
#[derive(Debug, Clone, ExtensionType)]
pub struct Rows<B: Backend> {
    /// `[rows, width]`
    pub(crate) hidden: FloatTensor<B>,
    /// `[vocab_size, width]` or `[width, vocab_size]`.
    pub(crate) head: FloatTensor<B>,
    /// `[rows]`
    pub(crate) targets: IntTensor<B>,
    /// How much each row counts, `[rows]`, where not all count 1; no gradient.
    #[extension_type]
    pub(crate) weights: Optional<B>,
}

/// What is told about each row, `[rows]`; in f32 at least.
#[derive(Debug, Clone, ExtensionType)]
pub struct Losses<B: Backend> {
    /// What is optimised, times the row's weight.
    pub(crate) loss: FloatTensor<B>,
    /// `-ln p(target)`; no gradient.
    pub(crate) nats: FloatTensor<B>,
    /// 1 where the target is the most probable token, else 0; no gradient.
    pub(crate) correct: IntTensor<B>,
    /// `ln Σ exp(z)`; no gradient.
    pub(crate) log_total: FloatTensor<B>,
}

/// Gradients of hidden rows and of the head.
pub(crate) type Of<B> = [FloatTensor<B>; 2];

impl Rows<Dispatch> {
    /// Rows of `hidden`, `[rows, width]`, with their targets, `[rows]`, and weights, `[rows]`.
    pub(super) fn of(
        hidden: Tensor<2>,
        head: Tensor<2>,
        targets: Tensor<1, Int>,
        weights: Option<Tensor<1>>,
    ) -> Self {
        Self {
            hidden: hidden.into_dispatch(),
            head: head.into_dispatch(),
            targets: targets.into_dispatch(),
            weights: Optional::of(weights),
        }
    }
}

impl<B: Backend> Rows<B> {
    /// Their number.
    pub(crate) fn count(&self) -> usize {
        self.hidden.shape()[0]
    }
}

impl<B: Kernels, C: CheckpointStrategy> Rows<Autodiff<B, C>> {
    /// Without autodiff, and the parents of the step: hidden rows and head.
    pub(super) fn inner(self) -> (Rows<B>, [NodeGuard; 2]) {
        let ((hidden, of_hidden), (head, of_head)) =
            (self.hidden.into_parts(), self.head.into_parts());
        let rows = Rows {
            hidden,
            head,
            targets: self.targets,
            weights: match self.weights {
                Optional::Some(weights) => Optional::Some(weights.into_primitive()),
                Optional::None => Optional::None,
            },
        };
        (rows, [of_hidden, of_head])
    }
}

/// How well each row of `hidden`, `[rows, width]`, predicts its target, `[rows]`, through `head`: loss, nats, and whether
/// the target is the most probable token.
pub(crate) fn cross_entropy(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Option<Tensor<1>>,
    rule: Head,
) -> (Tensor<1>, Tensor<1>, Tensor<1, Int>) {
    let rows = Rows::of(hidden, head, targets, weights);
    let losses = <Dispatch as Fused>::fused_cross_entropy(rows, rule);
    (
        Tensor::from_dispatch(losses.loss),
        Tensor::from_dispatch(losses.nats),
        Tensor::from_dispatch(losses.correct),
    )
}

/// Some rows: their logits, as the loss takes them, and what else is needed of them.
pub(super) struct Chunk<B: Backend> {
    hidden: Plain<B>,
    /// `[vocab_size, width]` or `[width, vocab_size]`.
    head: Plain<B>,
    rule: Head,
    /// `[rows, vocab_size]`; in f32 at least.
    pub(super) logits: Plain<B>,
    /// `[rows, 1]`
    targets: IntTensor<B>,
    /// The same; where that is no token, any.
    pub(super) tokens: IntTensor<B>,
    /// `[rows, 1]`: 1, of an ignored target 0, and NaN of one that is no token.
    pub(super) counts: Plain<B>,
    /// `[rows, 1]`, where not all count 1.
    weights: Option<Plain<B>>,
}

pub(super) fn chunks<B: Backend>(
    rows: Rows<B>,
    rule: Head,
) -> impl Iterator<Item = (usize, Chunk<B>)> {
    let all = rows.count();
    let held = rule.rows(&rows.head.shape(), all);
    let (hidden, head) = (Plain::<B>(rows.hidden), Plain::<B>(rows.head));
    let (targets, weights) = (rows.targets, rows.weights.into_option().map(Plain::<B>));
    (0..all).step_by(held).map(move |start| {
        let rows = held.min(all - start);
        let hidden = hidden.clone().narrow(0, start, rows);
        let across = match rule.by_token {
            true => head.clone().t(),
            false => head.clone(),
        };
        let logits = hidden.clone().matmul(across).at_least_f32();
        let logits = match rule.cap {
            Some(cap) => (logits / cap).at_most(FAR).at_least(-FAR).tanh() * cap,
            None => logits,
        };
        let part = B::int_slice(targets.clone(), &[Slice::from(start..start + rows)]);
        let targets = B::int_reshape(part, Shape::new([rows, 1]));
        let last = logits.columns() as i64 - 1;
        let tokens = B::int_clamp(targets.clone(), 0.into(), last.into());
        let bools = bool_dtype::<B>(&logits.0);
        let counted = B::int_greater_equal_elem(targets.clone(), 0.into(), bools);
        let counts = B::bool_into_float(counted, logits.dtype().into());
        let beyond = B::int_greater_elem(targets.clone(), last.into(), bools);
        let counts = Plain(B::float_mask_fill(counts, beyond, f64::NAN.into()));
        let weights = weights.clone().map(|weights| {
            let weights = weights.narrow(0, start, rows).reshape([rows, 1]);
            weights.cast(logits.dtype())
        });
        let chunk = Chunk {
            hidden,
            head: head.clone(),
            rule,
            logits,
            targets,
            tokens,
            counts,
            weights,
        };
        (start, chunk)
    })
}

impl<B: Backend> Chunk<B> {
    fn losses(&self) -> Losses<B> {
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
        let target = B::float_gather(1, self.logits.0.clone(), self.tokens.clone());
        let target = Plain::<B>(target);
        let total = (self.logits.clone() - maximum.clone()).exp().sum(1).log();
        // In this order: the two large numbers cancel before the small one is added.
        let below = |number: Plain<B>| (maximum.clone() - number) + total.clone();
        let nats = below(target) * self.counts.clone();
        let log_total = maximum.clone() + total.clone();
        let mut loss = nats.clone();
        let Objective {
            label_smoothing: smoothing,
            z_loss,
        } = self.rule.objective;
        if smoothing > 0.0 {
            let even = below(self.logits.clone().mean(1)) * self.counts.clone();
            loss = loss * (1.0 - smoothing) + even * smoothing;
        }
        if z_loss > 0.0 {
            let square = log_total.clone() * log_total.clone() * self.counts.clone();
            loss = loss + square * z_loss;
        }
        if let Some(weights) = &self.weights {
            loss = loss * weights.clone();
        }
        Losses {
            loss: loss.reshape([rows]).0,
            nats: nats.reshape([rows]).0,
            correct: B::int_reshape(correct, Shape::new([rows])),
            log_total: log_total.reshape([rows]).0,
        }
    }

    /// Gradients of these rows and of the head, given the rows' totals and the gradient of their losses, `[rows, 1]`.
    fn gradients(self, log_total: Plain<B>, grad: Plain<B>) -> [Plain<B>; 2] {
        let grad = grad * self.counts.clone();
        let grad = match &self.weights {
            Some(weights) => grad * weights.clone(),
            None => grad,
        };
        let Objective {
            label_smoothing: smoothing,
            z_loss,
        } = self.rule.objective;
        let factor = match z_loss > 0.0 {
            true => (log_total.clone() * (2.0 * z_loss) + 1.0) * grad.clone(),
            false => grad.clone(),
        };
        let mut of_logits = (self.logits.clone() - log_total).exp() * factor;
        if smoothing > 0.0 {
            let [_, vocabulary] = of_logits.dims();
            of_logits = of_logits - grad.clone() * (smoothing / vocabulary as f64);
        }
        let of_logits = Plain::<B>(B::float_scatter(
            1,
            of_logits.0,
            self.tokens,
            (grad * (smoothing - 1.0)).0,
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
pub(super) fn bool_dtype<B: Backend>(tensor: &FloatTensor<B>) -> burn::tensor::BoolDType {
    burn::backend::get_or_init_device_settings::<B>(&tensor.device()).bool_dtype
}

pub(crate) fn forward<B: Backend>(rows: Rows<B>, rule: Head) -> Losses<B> {
    let chunks = chunks::<B>(rows, rule).map(|(_, chunk)| chunk.losses());
    let chunks: Vec<Losses<B>> = chunks.collect();
    let all =
        |of: fn(&Losses<B>) -> FloatTensor<B>| B::float_cat(chunks.iter().map(of).collect(), 0);
    Losses {
        loss: all(|chunk| chunk.loss.clone()),
        nats: all(|chunk| chunk.nats.clone()),
        correct: B::int_cat(
            chunks.iter().map(|chunk| chunk.correct.clone()).collect(),
            0,
        ),
        log_total: all(|chunk| chunk.log_total.clone()),
    }
}

/// Gradients where that of the losses is `grad`, `[rows]`.
pub(crate) fn backward<B: Backend>(
    rows: Rows<B>,
    log_total: FloatTensor<B>,
    grad: FloatTensor<B>,
    rule: Head,
) -> Of<B> {
    let (log_total, grad) = (Plain::<B>(log_total), Plain::<B>(grad));
    let mut of_hidden = Vec::new();
    let mut of_head: Option<Plain<B>> = None;
    for (start, chunk) in chunks::<B>(rows, rule) {
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

#[derive(Debug)]
pub(super) struct CrossEntropyBackward;

impl<B: Kernels> Backward<B, 2> for CrossEntropyBackward {
    /// The rows, logarithms of totals, and gradients of unit losses where the forward pass has made them.
    type State = (Rows<B>, FloatTensor<B>, Head, Option<Of<B>>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (rows, log_total, rule, made) = ops.state;
        let of = match made.and_then(|of| Some((of, B::common_value(&grad)?))) {
            Some((of, value)) => of.map(|of| B::scaled(of, value)),
            None => B::cross_entropy_backward(rows, log_total, grad, rule),
        };
        register!(B, ops.parents, of.map(Some), grads);
    }
}
