//! Causal attention without its scores (Dao et al. 2022, <https://arxiv.org/abs/2205.14135>).
//!
//! For the query at position `t` of a sequence: `out = Σ p_j v_j`, `p = softmax_j(q · k_j / √head_width)`, over
//! the positions `j <= t` and, in a window, `j > t - window`. Kept for the backward pass are the inputs, the
//! output and, per query, the logarithm of the softmax's denominator, from which `p` is had again:
//! `dv_j = Σ_t p_tj do_t`, `ds_tj = p_tj (do_t · v_j - do_t · out_t) / √head_width`,
//! `dq_t = Σ_j ds_tj k_j`, `dk_j = Σ_t ds_tj q_t`.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata};
use burn::tensor::{Tensor, TensorData};

use super::plain::{Plain, at_least_f32};
use super::{Fused, Kernels};

/// What rows and columns of queries, keys and values mean.
///
/// Rows are positions, sequence by sequence. The columns of `qkv` are the heads of all queries, then of all keys,
/// then of all values: `[batch * length, (heads + 2 kv_heads) head_width]`. Query head `h` looks at
/// the keys of head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub(crate) batch: usize,
    pub(crate) length: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// How many positions a query sees, its own among them; all up to its own where there is no window.
    pub(crate) window: Option<usize>,
}

impl Heads {
    /// Columns of one head, given those of `qkv`.
    pub(crate) fn head_width(&self, columns: usize) -> usize {
        columns / (self.heads + 2 * self.kv_heads)
    }

    /// Positions that the query at `position` sees.
    pub(crate) fn seen(&self, position: usize) -> std::ops::Range<usize> {
        let first = self
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window));
        first..position + 1
    }
}

/// `[batch * length, (heads + 2 kv_heads) head_width] -> [batch * length, heads head_width]`.
pub(crate) fn attention(qkv: Tensor<2>, heads: Heads) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as Fused>::fused_attention(
        qkv.into_dispatch(),
        heads,
    ))
}

/// Queries of one query tile, keys and values that it may see, and what hides some of those.
struct Tile<B: Backend> {
    /// `[batch, kv_heads, group * rows, head_width]`
    queries: Plain<B>,
    /// `[batch, kv_heads, columns, head_width]`
    keys: Plain<B>,
    values: Plain<B>,
    /// Added to scores: `[1, 1, 1, rows, columns]`; in f32 at least, since in f16 there is no number low enough.
    mask: Plain<B>,
    start: usize,
    rows: usize,
    first: usize,
    columns: usize,
}

/// Queries that a plain composition works on at once: what bounds its memory.
const ROWS: usize = 256;

/// Low enough that its exponential is exactly 0; not minus infinity, on which WGSL leaves arithmetic to the driver.
const HIDDEN: f64 = -1e9;

/// The tiles of `qkv`.
fn tiles<B: Backend>(qkv: FloatTensor<B>, heads: Heads) -> impl Iterator<Item = Tile<B>> {
    let Heads {
        batch,
        length,
        heads: all,
        kv_heads,
        ..
    } = heads;
    let (device, dtype) = (qkv.device(), qkv.dtype());
    let group = all / kv_heads;
    let qkv = Plain::<B>(qkv);
    let width = heads.head_width(qkv.columns());
    let qkv = qkv
        .reshape([batch, length, all + 2 * kv_heads, width])
        .swap(1, 2);
    (0..length).step_by(ROWS).map(move |start| {
        let rows = ROWS.min(length - start);
        let first = heads.seen(start).start;
        let columns = start + rows - first;
        let hidden = (start..start + rows).flat_map(|row| {
            let seen = heads.seen(row);
            (first..first + columns).map(move |column| match seen.contains(&column) {
                true => 0.0,
                false => HIDDEN,
            })
        });
        let mask = TensorData::new(hidden.collect::<Vec<f64>>(), [1, 1, 1, rows, columns]);
        let mask = B::float_from_data(mask.convert_dtype(at_least_f32(dtype)), &device);
        let part =
            |head, heads, start, rows| qkv.clone().narrow(1, head, heads).narrow(2, start, rows);
        Tile {
            queries: part(0, all, start, rows).reshape([batch, kv_heads, group * rows, width]),
            keys: part(all, kv_heads, first, columns),
            values: part(all + kv_heads, kv_heads, first, columns),
            mask: Plain(mask),
            start,
            rows,
            first,
            columns,
        }
    })
}

impl<B: Backend> Tile<B> {
    fn width(&self) -> usize {
        self.queries.columns()
    }

    /// `[batch, kv_heads, group * rows, columns]`, products and all in f32 at least: half precision does not tell the
    /// exponentials of large numbers apart, and a product may be beyond f16.
    fn scores(&self) -> Plain<B> {
        let scale = (self.width() as f64).powf(-0.5);
        let [batch, kv_heads, rows, _] = self.queries.dims();
        let [queries, keys] = [&self.queries, &self.keys].map(|of| of.clone().at_least_f32());
        let scores = (queries * scale).matmul(keys.t());
        let group = rows / self.rows;
        let scores = scores.reshape([batch, kv_heads, group, self.rows, self.columns]);
        let scores = scores + self.mask.clone();
        scores.reshape([batch, kv_heads, rows, self.columns])
    }

    /// Rows of this tile: `[batch * length, heads head_width]` as `[batch, kv_heads, group * rows, head_width]`.
    fn rows_of(&self, matrix: Plain<B>, heads: Heads) -> Plain<B> {
        let Heads {
            batch,
            length,
            heads: all,
            kv_heads,
            ..
        } = heads;
        let width = matrix.columns() / all;
        matrix
            .reshape([batch, length, all, width])
            .swap(1, 2)
            .narrow(2, self.start, self.rows)
            .reshape([batch, kv_heads, all / kv_heads * self.rows, width])
    }
}

/// The output, and per query the logarithm of the softmax's denominator, `[batch, heads, length]`, in f32 at least.
pub(crate) fn forward<B: Backend>(
    qkv: FloatTensor<B>,
    heads: Heads,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let Heads {
        batch,
        length,
        heads: all,
        ..
    } = heads;
    let mut outputs = Vec::new();
    let mut log_totals = Vec::new();
    for tile in tiles::<B>(qkv, heads) {
        let scores = tile.scores();
        let maximum = scores.clone().max(3);
        let weights = (scores - maximum.clone()).exp();
        let total = weights.clone().sum(3);
        let dtype = tile.values.dtype();
        let mixed = match weights.dtype() == dtype {
            true => weights.matmul(tile.values.clone()) / total.clone(),
            // Divided before: a sum of values that is not yet a mean may be beyond what f16 holds.
            false => (weights / total.clone())
                .cast(dtype)
                .matmul(tile.values.clone()),
        };
        outputs.push(mixed.reshape([batch, all, tile.rows, tile.width()]));
        log_totals.push((maximum + total.log()).reshape([batch, all, tile.rows]));
    }
    let output = Plain::cat(outputs, 2);
    let width = output.columns();
    let output = output.swap(1, 2).reshape([batch * length, all * width]);
    (output.0, Plain::cat(log_totals, 2).0)
}

/// The gradient of `qkv`, laid out as it is.
pub(crate) fn backward<B: Backend>(
    qkv: FloatTensor<B>,
    output: FloatTensor<B>,
    log_total: FloatTensor<B>,
    grad: FloatTensor<B>,
    heads: Heads,
) -> FloatTensor<B> {
    let Heads {
        batch,
        length,
        heads: all,
        kv_heads,
        ..
    } = heads;
    let (device, dtype) = (qkv.device(), qkv.dtype());
    let (output, log_total, grad) = (Plain::<B>(output), Plain::<B>(log_total), Plain::<B>(grad));
    let mut of_queries = Vec::new();
    let mut of_keys_and_values: Option<[Plain<B>; 2]> = None;
    for tile in tiles::<B>(qkv, heads) {
        let (rows, width) = (tile.rows, tile.width());
        let scale = (width as f64).powf(-0.5);
        let queries = all / kv_heads * rows;
        let grad = tile.rows_of(grad.clone(), heads);
        let output = tile.rows_of(output.clone(), heads);
        let along = (grad.clone().at_least_f32() * output.at_least_f32()).sum(3);
        let log_total = log_total.clone().narrow(2, tile.start, rows);
        let log_total = log_total.reshape([batch, kv_heads, queries, 1]);
        let weights = (tile.scores() - log_total).exp();
        let of_values = weights.clone().cast(dtype).t().matmul(grad.clone());
        let of_weights = grad.matmul(tile.values.clone().t()).at_least_f32();
        let of_scores = (weights * (of_weights - along) * scale).cast(dtype);
        let of_tile = of_scores.clone().matmul(tile.keys.clone());
        of_queries.push(of_tile.reshape([batch, all, rows, width]));
        let of_keys = of_scores.t().matmul(tile.queries.clone());
        // Keys that this tile does not see get nothing from it.
        let nothing = |count: usize| {
            let shape = [batch, kv_heads, count, width].into();
            Plain::<B>(B::float_zeros(shape, &device, dtype.into()))
        };
        let whole = |part: Plain<B>| {
            let after = length - tile.first - tile.columns;
            let mut parts = Vec::new();
            if tile.first > 0 {
                parts.push(nothing(tile.first));
            }
            parts.push(part);
            if after > 0 {
                parts.push(nothing(after));
            }
            Plain::cat(parts, 2)
        };
        let of = [of_keys, of_values].map(whole);
        of_keys_and_values = Some(match of_keys_and_values {
            Some([keys, values]) => {
                let [more_keys, more_values] = of;
                [keys + more_keys, values + more_values]
            }
            None => of,
        });
    }
    let mut parts = vec![Plain::cat(of_queries, 2)];
    parts.extend(of_keys_and_values.into_iter().flatten());
    let all_parts = Plain::cat(parts, 1);
    let columns = (all + 2 * kv_heads) * all_parts.columns();
    all_parts.swap(1, 2).reshape([batch * length, columns]).0
}

#[derive(Debug)]
pub(super) struct AttentionBackward;

impl<B: Kernels> Backward<B, 1> for AttentionBackward {
    /// Input, output, logarithms of totals.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, Heads);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (qkv, output, log_total, heads) = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let of = B::attention_backward(qkv, output, log_total, grad, heads);
        register!(B, ops.parents, [Some(of)], grads);
    }
}
