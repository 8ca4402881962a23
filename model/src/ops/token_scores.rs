//! How a row of hidden values ranks its target among all tokens, for evaluation; no gradient.
//!
//! For a row `h` with target `t` of `V` tokens: `z = head h`, with a cap `z = cap · tanh(head h / cap)`;
//! `nats = ln Σ exp(z_v) - z_t` as in [`cross_entropy`](super::cross_entropy), `top_nats = ln Σ exp(z_v) - max z`, and
//! `rank = 1 + |{v : z_v > z_t}| + |{v < t : z_v = z_t}|`, so that the most probable token has rank 1, and of equally
//! probable tokens the one with the lower id comes first.
//!
//! A row whose target is negative is ignored: its nats are 0 and its other scores undefined. A target of `V` or more is
//! a caller's mistake: its nats are NaN.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata};
use burn::tensor::{Int, Shape, Tensor};

use super::Fused;
use super::cross_entropy::{Chunk, Head, Rows, bool_dtype, chunks};
use super::plain::Plain;

/// Scores of targets, `[rows]`; floats are in f32 at least.
#[derive(Debug, Clone, ExtensionType)]
pub struct Scores<B: Backend> {
    /// `-ln p(target)`.
    pub(crate) nats: FloatTensor<B>,
    /// `-ln p` of the most probable token.
    pub(crate) top_nats: FloatTensor<B>,
    /// Rank of the target, from 1.
    pub(crate) rank: IntTensor<B>,
}

/// Scores the target of each row of `hidden`: `[rows, width]` and `[rows]` to nats, nats of the most probable token, and
/// rank, each `[rows]`.
pub(crate) fn token_scores(
    hidden: Tensor<2>,
    head: Tensor<2>,
    targets: Tensor<1, Int>,
    rule: Head,
) -> (Tensor<1>, Tensor<1>, Tensor<1, Int>) {
    let rows = Rows::of(hidden, head, targets, None);
    let scores = <Dispatch as Fused>::fused_token_scores(rows, rule);
    (
        Tensor::from_dispatch(scores.nats),
        Tensor::from_dispatch(scores.top_nats),
        Tensor::from_dispatch(scores.rank),
    )
}

impl<B: Backend> Chunk<B> {
    fn scores(&self) -> Scores<B> {
        let [rows, vocabulary] = self.logits.dims();
        let bools = bool_dtype::<B>(&self.logits.0);
        let ids = self.tokens.dtype().into();
        let logits = || self.logits.0.clone();
        let maximum = self.logits.clone().max(1);
        let target = B::float_gather(1, logits(), self.tokens.clone());
        let total = (self.logits.clone() - maximum.clone()).exp().sum(1).log();
        // In this order: the two large numbers cancel before the small one is added.
        let nats = ((maximum - Plain(target.clone())) + total.clone()) * self.counts.clone();

        let above = B::float_greater(logits(), target.clone(), bools);
        let equal = B::float_equal(logits(), target, bools);
        let every = B::int_arange(0..vocabulary as i64, &self.logits.0.device(), ids);
        let every = B::int_reshape(every, Shape::new([1, vocabulary]));
        let lower = B::int_lower(every, self.tokens.clone(), bools);
        let before = B::bool_or(above, B::bool_and(equal, lower));
        let before = B::int_sum_dim(B::bool_into_int(before, ids), 1);
        let rank = B::int_add_scalar(before, 1.into());
        Scores {
            nats: nats.reshape([rows]).0,
            top_nats: total.reshape([rows]).0,
            rank: B::int_reshape(rank, Shape::new([rows])),
        }
    }
}

pub(crate) fn forward<B: Backend>(rows: Rows<B>, rule: Head) -> Scores<B> {
    let chunks: Vec<Scores<B>> = chunks::<B>(rows, rule)
        .map(|(_, chunk)| chunk.scores())
        .collect();
    let floats =
        |of: fn(&Scores<B>) -> FloatTensor<B>| B::float_cat(chunks.iter().map(of).collect(), 0);
    Scores {
        nats: floats(|chunk| chunk.nats.clone()),
        top_nats: floats(|chunk| chunk.top_nats.clone()),
        rank: B::int_cat(chunks.iter().map(|chunk| chunk.rank.clone()).collect(), 0),
    }
}
