//! Attention tile by tile: the scores of some queries with some keys are in cache from the product that makes them to the
//! one that uses them up, and nothing above the diagonal is computed but what shares a tile with it.

use std::mem::MaybeUninit;
use std::ops::Range;

use burn::backend::flex::FlexTensor;
use gemm::Parallelism;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::math::{add_weighted, exp, exp_in_place, largest, sum};
use super::matrix::{GRAIN, Matrix, Shared, contiguous, elements, made, product_into};
use super::row_product::dots;
use crate::ops::Heads;
use crate::vectors::vectorized;

/// Queries of a tile.
const QUERIES: usize = 64;

/// Keys of a tile.
const KEYS: usize = 256;

/// Where heads lie in `qkv`, and in what attention makes of it.
#[derive(Clone, Copy)]
struct Layout<'a> {
    qkv: &'a [f32],
    heads: Heads,
    /// Of one head.
    width: usize,
    /// Columns of `qkv`.
    columns: usize,
}

/// Some queries of one head, and the keys that they see.
struct Tile {
    start: usize,
    rows: usize,
    first: usize,
    keys: usize,
}

impl<'a> Layout<'a> {
    fn new(qkv: &'a FlexTensor, heads: Heads) -> Self {
        let [_, columns] = qkv.layout().shape().dims();
        Self {
            qkv: elements(qkv),
            heads,
            width: heads.head_width(columns),
            columns,
        }
    }

    /// Columns of the output.
    fn output_columns(&self) -> usize {
        self.heads.heads * self.width
    }

    /// The column that head `part` of queries, keys and values begins with.
    fn column(&self, part: usize) -> usize {
        part * self.width
    }

    /// `count` positions of head `part` of queries, keys and values.
    fn part(&self, batch: usize, part: usize, start: usize, count: usize) -> Matrix<'a> {
        let row = batch * self.heads.length + start;
        let data = &self.qkv[row * self.columns + self.column(part)..];
        Matrix::new(data, [count, self.width], [self.columns, 1])
    }

    fn queries(&self, batch: usize, head: usize, tile: &Tile) -> Matrix<'a> {
        self.part(batch, head, tile.start, tile.rows)
    }

    fn keys(&self, batch: usize, kv_head: usize, tile: &Tile) -> Matrix<'a> {
        self.part(batch, self.heads.heads + kv_head, tile.first, tile.keys)
    }

    fn values(&self, batch: usize, kv_head: usize, tile: &Tile) -> Matrix<'a> {
        let part = self.heads.heads + self.heads.kv_heads + kv_head;
        self.part(batch, part, tile.first, tile.keys)
    }

    /// Rows of `[batch * length, heads head_width]` that belong to the queries of a tile.
    fn output(&self, of: &'a [f32], batch: usize, head: usize, tile: &Tile) -> Matrix<'a> {
        let columns = self.output_columns();
        let start = (batch * self.heads.length + tile.start) * columns + self.column(head);
        Matrix::new(&of[start..], [tile.rows, self.width], [columns, 1])
    }

    fn scale(&self) -> f32 {
        (self.width as f64).powf(-0.5) as f32
    }

    fn group(&self) -> usize {
        self.heads.heads / self.heads.kv_heads
    }

    /// `count` queries of one head, and all keys and values they look at.
    fn sources(
        self,
        batch: usize,
        head: usize,
        start: usize,
        count: usize,
    ) -> Sources<'a, impl Fn(usize) -> Range<usize>> {
        let kv_head = self.heads.heads + head / self.group();
        let length = self.heads.length;
        Sources {
            queries: self.part(batch, head, start, count),
            keys: self.part(batch, kv_head, 0, length),
            values: self.part(batch, kv_head + self.heads.kv_heads, 0, length),
            seen: move |row| self.heads.seen(start + row),
            scale: self.scale(),
        }
    }

    /// The tiles of the queries from `start`, in the order of their keys.
    fn tiles(&self, start: usize) -> impl Iterator<Item = Tile> + use<> {
        let rows = QUERIES.min(self.heads.length - start);
        let first = self.heads.seen(start).start;
        let end = start + rows;
        (first..end).step_by(KEYS).map(move |first| Tile {
            start,
            rows,
            first,
            keys: KEYS.min(end - first),
        })
    }

    /// Keys of a tile that its query `row` sees, counted from the tile's first.
    #[inline(always)]
    fn seen(&self, tile: &Tile, row: usize) -> std::ops::Range<usize> {
        let seen = self.heads.seen(tile.start + row);
        let within = |position: usize| position.saturating_sub(tile.first).min(tile.keys);
        within(seen.start)..within(seen.end)
    }
}

/// `target ← [target +] scale · a b`, on this thread.
fn into(target: &mut [f32], add: bool, a: Matrix<'_>, b: Matrix<'_>, scale: f32) {
    product_into(target, add, a, b, scale, Parallelism::None);
}

/// `scores ← scale · queries keysᵀ`, on this thread. One query takes dot products, which a product of matrices would first
/// copy its keys for.
fn score(scores: &mut [f32], queries: Matrix<'_>, keys: Matrix<'_>, scale: f32) {
    if queries.rows > 1 || !queries.has_contiguous_rows() || !keys.has_contiguous_rows() {
        return into(scores, false, queries, keys.t(), scale);
    }
    dots(scores, queries.row(0), keys.t());
    scores.iter_mut().for_each(|score| *score *= scale);
}

/// `mixed ← [mixed +] weights values`, on this thread.
fn mix(mixed: &mut [f32], add: bool, weights: Matrix<'_>, values: Matrix<'_>) {
    if weights.rows > 1 || !values.has_contiguous_rows() {
        return into(mixed, add, weights, values, 1.0);
    }
    let mixed = &mut mixed[..values.columns];
    if !add {
        mixed.fill(0.0);
    }
    let weights = weights.row(0);
    vectorized(
        #[inline(always)]
        || add_weighted(mixed, weights, |number| values.row(number)),
    );
}

/// Some queries of one head, `[rows, head_width]`, and what they look at.
struct Sources<'a, F> {
    queries: Matrix<'a>,
    /// `[keys, head_width]`
    keys: Matrix<'a>,
    /// `[keys, head_width]`
    values: Matrix<'a>,
    /// Keys that a query sees. Neither end is before that of the query before it.
    seen: F,
    scale: f32,
}

/// Attention of queries `[batch, heads, length, head_width]` over keys and values `[batch, kv_heads, keys, head_width]`:
/// `[batch * length, heads head_width]`. `seen(sequence, row)` are the keys that a query sees; neither end is before that of
/// the query before it.
pub(super) fn cached(
    queries: &FlexTensor,
    keys: &FlexTensor,
    values: &FlexTensor,
    seen: impl Fn(usize, usize) -> Range<usize> + Sync + Send,
) -> FlexTensor {
    let [batch, heads, length, width]: [usize; 4] = queries.layout().shape().dims();
    let [_, kv_heads, ..]: [usize; 4] = keys.layout().shape().dims();
    let blocks = length.div_ceil(QUERIES);
    let scale = (width as f64).powf(-0.5) as f32;
    let [.., all, _]: [usize; 4] = keys.layout().shape().dims();
    // A head of one query is less than a thread is worth.
    let together = GRAIN.div_ceil((QUERIES.min(length) * all * width).max(1));
    let write = |output: &mut [MaybeUninit<f32>]| {
        let output = Shared::new(output);
        let tasks = (0..batch * heads * blocks).into_par_iter();
        let tasks = tasks.with_min_len(together).with_max_len(together);
        tasks.for_each_init(Queries::new, |state, task| {
            let (of, start) = (task / blocks, task % blocks * QUERIES);
            let (sequence, head) = (of / heads, of % heads);
            let kv_head = head / (heads / kv_heads);
            let count = QUERIES.min(length - start);
            state.attend(&Sources {
                queries: Matrix::of_head(queries, sequence, head).rows_from(start, count),
                keys: Matrix::of_head(keys, sequence, kv_head),
                values: Matrix::of_head(values, sequence, kv_head),
                seen: |row| seen(sequence, start + row),
                scale,
            });
            for row in 0..count {
                let to = ((sequence * length + start + row) * heads + head) * width;
                // SAFETY: no other task has this head of this query.
                state.divided(row, unsafe { output.part(to, width) });
            }
        });
    };
    // SAFETY: every query of every head is in one block.
    unsafe { made([batch * length, heads * width], write) }
}

pub(super) fn forward(qkv: FlexTensor, heads: Heads) -> (FlexTensor, FlexTensor) {
    let qkv = contiguous(qkv);
    let layout = Layout::new(&qkv, heads);
    let Heads {
        batch,
        length,
        heads: all,
        ..
    } = heads;
    let columns = layout.output_columns();
    let blocks = length.div_ceil(QUERIES);
    let mut log_totals = None;
    let write = |output: &mut [MaybeUninit<f32>]| {
        let output = Shared::new(output);
        let write = |log_totals: &mut [MaybeUninit<f32>]| {
            let log_totals = Shared::new(log_totals);
            let tasks = (0..batch * all * blocks).into_par_iter().with_max_len(1);
            tasks.for_each_init(Queries::new, |queries, task| {
                let (of, start) = (task / blocks, task % blocks * QUERIES);
                let (sequence, head) = (of / all, of % all);
                let count = QUERIES.min(length - start);
                queries.attend(&layout.sources(sequence, head, start, count));
                // SAFETY: no other task has this head of these queries.
                let log_totals = unsafe { log_totals.part(of * length + start, count) };
                for (row, log_total) in log_totals.iter_mut().enumerate() {
                    let position = sequence * length + start + row;
                    let to = position * columns + layout.column(head);
                    // SAFETY: as above.
                    queries.divided(row, unsafe { output.part(to, layout.width) });
                    log_total.write(queries.log_total(row));
                }
            });
        };
        // SAFETY: every query of every head is in one block.
        log_totals = Some(unsafe { made([batch, all, length], write) });
    };
    // SAFETY: as above.
    let output = unsafe { made([batch * length, columns], write) };
    (output, log_totals.expect("made with the output"))
}

/// What is known about a block of queries while their keys pass by.
struct Queries {
    scores: Vec<f32>,
    /// `Σ e^(score - maximum) value`, per query.
    mixed: Vec<f32>,
    maxima: [f32; QUERIES],
    /// `Σ e^(score - maximum)`
    totals: [f32; QUERIES],
}

impl Queries {
    fn new() -> Self {
        Self {
            scores: Vec::new(),
            mixed: Vec::new(),
            maxima: [0.0; QUERIES],
            totals: [0.0; QUERIES],
        }
    }

    fn attend(&mut self, of: &Sources<'_, impl Fn(usize) -> Range<usize>>) {
        let (rows, width) = (of.queries.rows, of.queries.columns);
        self.mixed.resize(rows * width, 0.0);
        let (first, end) = ((of.seen)(0).start, (of.seen)(rows - 1).end);
        let most = rows * KEYS.min(end.saturating_sub(first));
        if self.scores.len() < most {
            self.scores.resize(most, 0.0);
        }
        if first >= end {
            // What sees nothing finds nothing.
            self.totals[..rows].fill(0.0);
        }
        for (number, first) in (first..end).step_by(KEYS).enumerate() {
            let count = KEYS.min(end - first);
            let within = |position: usize| position.saturating_sub(first).min(count);
            let scores = &mut self.scores[..rows * count];
            let keys = of.keys.rows_from(first, count);
            score(scores, of.queries, keys, of.scale);
            vectorized(
                #[inline(always)]
                || {
                    for (row, scores) in scores.chunks_exact_mut(count).enumerate() {
                        let seen = (of.seen)(row);
                        let seen = within(seen.start)..within(seen.end);
                        let before = match number {
                            0 => f32::NEG_INFINITY,
                            _ => self.maxima[row],
                        };
                        let here = largest(&scores[seen.clone()]);
                        let maximum = if here > before { here } else { before };
                        // 0 before the first key that is seen.
                        let kept = match before == f32::NEG_INFINITY {
                            true => 0.0,
                            false => exp(before - maximum),
                        };
                        scores[..seen.start].fill(0.0);
                        scores[seen.end..].fill(0.0);
                        let total = match seen.is_empty() {
                            true => 0.0,
                            false => exp_in_place(&mut scores[seen], maximum),
                        };
                        self.maxima[row] = maximum;
                        self.totals[row] = match number {
                            0 => total,
                            _ => self.totals[row] * kept + total,
                        };
                        if number > 0 {
                            let mixed = &mut self.mixed[row * width..][..width];
                            mixed.iter_mut().for_each(|x| *x *= kept);
                        }
                    }
                },
            );
            let scores = Matrix::dense(scores, rows, count);
            let values = of.values.rows_from(first, count);
            mix(&mut self.mixed, number > 0, scores, values);
        }
    }

    /// Writes the output of a query; 0 where it sees no key.
    fn divided(&self, row: usize, to: &mut [MaybeUninit<f32>]) {
        let total = self.totals[row];
        let mixed = &self.mixed[row * to.len()..];
        for (to, mixed) in to.iter_mut().zip(mixed) {
            to.write(if total == 0.0 { 0.0 } else { mixed / total });
        }
    }

    fn log_total(&self, row: usize) -> f32 {
        self.maxima[row] + self.totals[row].ln()
    }
}

pub(super) fn backward(
    qkv: FlexTensor,
    output: FlexTensor,
    log_total: FlexTensor,
    grad: FlexTensor,
    heads: Heads,
) -> FlexTensor {
    let [qkv, output, log_total, grad] = [qkv, output, log_total, grad].map(contiguous);
    let layout = Layout::new(&qkv, heads);
    let given = Given {
        output: elements(&output),
        log_total: elements(&log_total),
        grad: elements(&grad),
    };
    let Heads {
        batch,
        length,
        kv_heads,
        ..
    } = heads;
    let write = |of_qkv: &mut [MaybeUninit<f32>]| {
        let of_qkv = Shared::new(of_qkv);
        let tasks = (0..batch * kv_heads).into_par_iter().with_max_len(1);
        tasks.for_each_init(Tiles::default, |tiles, task| {
            // SAFETY: each head of keys and values, and the queries that look at them, are one task's.
            unsafe { tiles.head(layout, given, task / kv_heads, task % kv_heads, of_qkv) }
        });
    };
    // SAFETY: those are all heads.
    unsafe { made([batch * length, layout.columns], write) }
}

/// What the backward pass is given besides the input.
#[derive(Clone, Copy)]
struct Given<'a> {
    output: &'a [f32],
    log_total: &'a [f32],
    grad: &'a [f32],
}

/// Buffers of the backward pass.
#[derive(Default)]
struct Tiles {
    /// Probabilities of a tile.
    weights: Vec<f32>,
    /// Gradients of its scores.
    of_scores: Vec<f32>,
    of_queries: Vec<f32>,
    /// Of one head, `[length, head_width]`.
    of_keys: Vec<f32>,
    of_values: Vec<f32>,
}

impl Tiles {
    /// Gradients of one head of keys and values, and of the queries that look at them.
    ///
    /// # Safety
    /// Nobody else writes to these heads of `of_qkv`.
    unsafe fn head(
        &mut self,
        layout: Layout<'_>,
        given: Given<'_>,
        batch: usize,
        kv_head: usize,
        of_qkv: Shared,
    ) {
        let (length, width) = (layout.heads.length, layout.width);
        self.weights.resize(QUERIES * KEYS, 0.0);
        self.of_scores.resize(QUERIES * KEYS, 0.0);
        self.of_queries.resize(QUERIES * width, 0.0);
        for of in [&mut self.of_keys, &mut self.of_values] {
            of.clear();
            of.resize(length * width, 0.0);
        }
        for head in kv_head * layout.group()..(kv_head + 1) * layout.group() {
            for start in (0..length).step_by(QUERIES) {
                self.queries(layout, given, batch, head, start);
                let rows = QUERIES.min(length - start);
                let from = &self.of_queries[..rows * width];
                // SAFETY: the caller's promise.
                unsafe { put(layout, from, batch, head, start, of_qkv) };
            }
        }
        let keys = layout.heads.heads + kv_head;
        let values = keys + layout.heads.kv_heads;
        // SAFETY: the caller's promise.
        unsafe {
            put(layout, &self.of_keys, batch, keys, 0, of_qkv);
            put(layout, &self.of_values, batch, values, 0, of_qkv);
        }
    }

    /// Gradients of a block of queries, and what they add to those of keys and values.
    fn queries(
        &mut self,
        layout: Layout<'_>,
        given: Given<'_>,
        batch: usize,
        head: usize,
        start: usize,
    ) {
        let (width, scale, kv_head) = (layout.width, layout.scale(), head / layout.group());
        let columns = layout.output_columns();
        let log_total = (batch * layout.heads.heads + head) * layout.heads.length;
        let log_total = &given.log_total[log_total..];
        let mut along = [0.0; QUERIES];
        for (row, along) in along
            .iter_mut()
            .enumerate()
            .take(layout.heads.length - start)
        {
            let at = (batch * layout.heads.length + start + row) * columns + layout.column(head);
            let (grad, output) = (&given.grad[at..][..width], &given.output[at..][..width]);
            *along = vectorized(
                #[inline(always)]
                || sum([grad, output], |[g, o]| g * o),
            );
        }
        for (number, tile) in layout.tiles(start).enumerate() {
            let queries = layout.queries(batch, head, &tile);
            let keys = layout.keys(batch, kv_head, &tile);
            let values = layout.values(batch, kv_head, &tile);
            let grad = layout.output(given.grad, batch, head, &tile);
            let weights = &mut self.weights[..tile.rows * tile.keys];
            let of_scores = &mut self.of_scores[..tile.rows * tile.keys];
            into(weights, false, queries, keys.t(), scale);
            into(of_scores, false, grad, values.t(), 1.0);
            vectorized(
                #[inline(always)]
                || {
                    let rows = weights.chunks_exact_mut(tile.keys);
                    let rows = rows.zip(of_scores.chunks_exact_mut(tile.keys)).enumerate();
                    for (row, (weights, of_scores)) in rows {
                        let seen = layout.seen(&tile, row);
                        for hidden in [0..seen.start, seen.end..tile.keys] {
                            weights[hidden.clone()].fill(0.0);
                            of_scores[hidden].fill(0.0);
                        }
                        let (along, log_total) = (along[row], log_total[tile.start + row]);
                        let seen = weights[seen.clone()].iter_mut().zip(&mut of_scores[seen]);
                        for (weight, of_score) in seen {
                            *weight = exp(*weight - log_total);
                            *of_score = *weight * (*of_score - along) * scale;
                        }
                    }
                },
            );
            let weights = Matrix::dense(weights, tile.rows, tile.keys);
            let of_scores = Matrix::dense(of_scores, tile.rows, tile.keys);
            let at = tile.first * width;
            into(&mut self.of_values[at..], true, weights.t(), grad, 1.0);
            into(&mut self.of_keys[at..], true, of_scores.t(), queries, 1.0);
            into(&mut self.of_queries, number > 0, of_scores, keys, 1.0);
        }
    }
}

/// Copies rows of a head to head `part` of queries, keys and values, from position `start` on.
///
/// # Safety
/// Nobody else writes there.
unsafe fn put(
    layout: Layout<'_>,
    from: &[f32],
    batch: usize,
    part: usize,
    start: usize,
    to: Shared,
) {
    for (row, from) in from.chunks_exact(layout.width).enumerate() {
        let position = batch * layout.heads.length + start + row;
        let at = position * layout.columns + layout.column(part);
        // SAFETY: the caller's promise.
        unsafe { to.part(at, layout.width) }.write_copy_of_slice(from);
    }
}
