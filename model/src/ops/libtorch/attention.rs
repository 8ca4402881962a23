//! Attention by ATen's flash kernel for CPUs, forward and backward, on views of queries, keys and values.
//!
//! The kernel knows grouped queries, and of masks the causal one. With a window it gets some queries at a time, the keys
//! that they see, and a mask.

use tch::{Kind, Tensor};

use super::at_least_f32;
use crate::ops::Heads;

/// The fewest and the most queries that a window's mask is for.
const QUERIES: [usize; 2] = [256, 1024];

/// Queries, keys and values or their gradients, `[batch, heads or kv_heads, length, head_width]` each.
struct Parts([Tensor; 3]);

impl Parts {
    /// Views of `[batch * length, (heads + 2 kv_heads) head_width]`.
    fn of(qkv: &Tensor, heads: Heads) -> Self {
        let Heads {
            heads: all,
            kv_heads,
            ..
        } = heads;
        let parts = by_head(qkv, all + 2 * kv_heads, heads);
        let part = |first: usize, count: usize| parts.narrow(1, first as i64, count as i64);
        Self([
            part(0, all),
            part(all, kv_heads),
            part(all + kv_heads, kv_heads),
        ])
    }

    /// What a block looks at.
    fn seen(&self, block: &Block) -> Self {
        let [queries, keys, values] = &self.0;
        Self([block.queries(queries), block.keys(keys), block.keys(values)])
    }

    /// The output and, `[batch, heads, length]`, the logarithms of totals.
    fn forward(&self, mask: Option<&Tensor>) -> (Tensor, Tensor) {
        let [queries, keys, values] = &self.0;
        Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            queries,
            keys,
            values,
            0.0,
            mask.is_none(),
            mask,
            None,
        )
    }

    /// Gradients, given output, logarithms of totals and the gradient of the output.
    fn backward(&self, [output, log_total, grad]: [&Tensor; 3], mask: Option<&Tensor>) -> Self {
        let [queries, keys, values] = &self.0;
        let (of_queries, of_keys, of_values) =
            Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
                grad,
                queries,
                keys,
                values,
                output,
                log_total,
                0.0,
                mask.is_none(),
                mask,
                None,
            );
        Self([of_queries, of_keys, of_values])
    }
}

/// `[batch * length, count head_width]` seen as `[batch, count, length, head_width]`.
fn by_head(matrix: &Tensor, count: usize, heads: Heads) -> Tensor {
    let sizes = [heads.batch, heads.length, count].map(|size| size as i64);
    let width = matrix.size()[1] / sizes[2];
    let parts = matrix.view([sizes[0], sizes[1], sizes[2], width]);
    parts.transpose(1, 2)
}

/// The reverse, of what lies as a matrix does.
fn by_row(parts: &Tensor, heads: Heads) -> Tensor {
    let rows = (heads.batch * heads.length) as i64;
    parts.transpose(1, 2).reshape([rows, -1])
}

/// The output and, `[batch, heads, length]`, the logarithms of totals.
pub(super) fn forward(qkv: &Tensor, heads: Heads) -> (Tensor, Tensor) {
    let qkv = qkv.contiguous();
    let parts = Parts::of(&qkv, heads);
    match narrow_window(heads) {
        Some(window) => windowed(&parts, heads, window),
        None => {
            let (output, log_total) = parts.forward(None);
            let mut output = by_row(&output, heads);
            let _ = output.g_add_(&nothing(&qkv, heads));
            (output, log_total)
        }
    }
}

/// 0 for each row of `qkv`, `[batch * length, 1]`; NaN for one that holds what is no number, and for those after it in its
/// sequence. Without a mask, the kernel gives 0 to a query of which no score is a number.
fn nothing(qkv: &Tensor, heads: Heads) -> Tensor {
    let [batch, length] = [heads.batch, heads.length].map(|size| size as i64);
    let zeros = qkv.sum_dim_intlist(1, false, at_least_f32(qkv.kind())) * 0.0;
    let zeros = zeros.view([batch, length]).cumsum(1, None);
    zeros.view([batch * length, 1])
}

/// The window, where it hides more than the causal mask does.
pub(super) fn narrow_window(heads: Heads) -> Option<usize> {
    heads.window.filter(|window| *window < heads.length)
}

fn windowed(parts: &Parts, heads: Heads, window: usize) -> (Tensor, Tensor) {
    let queries = &parts.0[0];
    let columns = heads.heads as i64 * queries.size()[3];
    let rows = (heads.batch * heads.length) as i64;
    let output = Tensor::empty([rows, columns], (queries.kind(), queries.device()));
    let output_by_head = by_head(&output, heads.heads, heads);
    let mut log_totals = Vec::new();
    for block in Block::all(heads, window) {
        let mask = block.mask(window, queries);
        let (of_block, log_total) = parts.seen(&block).forward(Some(&mask));
        block.queries(&output_by_head).copy_(&of_block);
        log_totals.push(log_total);
    }
    (output, Tensor::cat(&log_totals, 2))
}

/// The gradient of `qkv` into `into`, which may be `qkv` where there is no narrow window.
pub(super) fn backward(
    qkv: &Tensor,
    [output, log_total, grad]: [&Tensor; 3],
    heads: Heads,
    into: &mut Tensor,
) {
    let parts = Parts::of(&qkv.contiguous(), heads);
    let (output, grad) = (output.contiguous(), grad.contiguous());
    let [output, grad] = [output, grad].map(|rows| by_head(&rows, heads.heads, heads));
    let given = [&output, log_total, &grad];
    match narrow_window(heads) {
        Some(window) => windowed_backward(&parts, given, heads, window, into),
        None => {
            let of = parts.backward(given, None).0.map(|of| by_row(&of, heads));
            let _ = Tensor::cat_out(into, &of, 1);
        }
    }
}

fn windowed_backward(
    parts: &Parts,
    given: [&Tensor; 3],
    heads: Heads,
    window: usize,
    into: &mut Tensor,
) {
    let _ = into.zero_();
    let of_parts = Parts::of(into, heads);
    for block in Block::all(heads, window) {
        let mask = block.mask(window, &parts.0[0]);
        let [output, log_total, grad] = given.map(|of| block.queries(of));
        let seen = parts.seen(&block);
        let Parts(of) = seen.backward([&output, &log_total, &grad], Some(&mask));
        let Parts([mut queries, mut keys, mut values]) = of_parts.seen(&block);
        queries.copy_(&of[0]);
        let _ = keys.g_add_(&of[1]);
        let _ = values.g_add_(&of[2]);
    }
}

/// Queries of which each sees a window of keys, and the keys that one of them sees at least.
struct Block {
    start: i64,
    rows: i64,
    first: i64,
    columns: i64,
}

impl Block {
    /// The blocks of all queries.
    fn all(heads: Heads, window: usize) -> impl Iterator<Item = Self> {
        let [fewest, most] = QUERIES;
        let held = window.clamp(fewest, most);
        (0..heads.length).step_by(held).map(move |start| {
            let rows = held.min(heads.length - start);
            let first = heads.seen(start).start;
            let [start, rows, first, columns] =
                [start, rows, first, start + rows - first].map(|number| number as i64);
            Self {
                start,
                rows,
                first,
                columns,
            }
        })
    }

    fn queries(&self, of: &Tensor) -> Tensor {
        of.narrow(2, self.start, self.rows)
    }

    fn keys(&self, of: &Tensor) -> Tensor {
        of.narrow(2, self.first, self.columns)
    }

    /// What is added to scores, `[rows, columns]`: 0 where a query sees a key, else minus infinity; of the type of
    /// queries.
    fn mask(&self, window: usize, queries: &Tensor) -> Tensor {
        let from = |start: i64, count: i64| {
            Tensor::arange_start(start, start + count, (Kind::Int64, queries.device()))
        };
        let keys = from(self.first, self.columns).unsqueeze(0);
        let ahead = keys - from(self.start, self.rows).unsqueeze(1);
        let hidden = ahead.gt(0).logical_or(&ahead.le(-(window as i64)));
        let mut mask = queries.new_zeros(
            [self.rows, self.columns],
            (queries.kind(), queries.device()),
        );
        let _ = mask.masked_fill_(&hidden, f64::NEG_INFINITY);
        mask
    }
}
