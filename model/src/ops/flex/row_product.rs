//! Products of rows with a weight, as fast for a few rows as for many.
//!
//! Every sum is one chain of fused multiplications and additions whose order follows from the weight's layout alone, so a
//! row has the same bits whichever rows are multiplied with it, and on any number of threads.
//!
//! A weight with contiguous rows is read where it lies. A tile of sums, some columns of all rows, stays in L1 cache while
//! the weight's rows pass by, four at a time: each of their elements is in a register for all rows of `x`, and the next
//! ones are on their way from memory meanwhile. So a weight is read once for up to [`ROWS`] rows, at the speed of
//! memory for few of them and at that of arithmetic for many. A weight with contiguous columns, such as a head that is
//! the token embedding, takes dot products.

use std::mem::MaybeUninit;
use std::ops::Range;

use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::matrix::{Matrix, Shared, contiguous, elements, made};
use crate::vectors::vectorized;

/// Rows of the weight that are multiplied together.
const QUAD: usize = 4;

/// Vectors of a panel: with a quad's weights and a row's sums, as many as 16 registers hold.
const VECTORS: usize = 3;

/// Rows of `x` that share a pass over the weight, at most and at least.
const ROWS: usize = 64;
const LEAST_ROWS: usize = 16;

/// Sums of a tile: three quarters of 32 KiB.
const TILE: usize = 6144;

/// Columns of a block are a multiple of this, which is one of every panel's width.
const COLUMNS: usize = 48;

/// Columns of a block at most, where few rows leave room for more.
const MOST_COLUMNS: usize = 384;

/// Rows of the weight between those that are multiplied and those that are asked from memory.
const AHEAD: usize = 16;

/// Multiplications below which a second thread does not pay.
const SMALL: usize = 1 << 16;

/// Columns of a task whose weight has contiguous columns.
const DOTS: usize = 96;

/// Rows and columns of dot products that are computed together.
const DOT_ROWS: usize = 4;
const DOT_COLUMNS: usize = 3;

/// `x weight + bias` if `x` has few rows, and none more than read the weight once.
pub(super) fn few_rows(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<FlexTensor>,
) -> Option<FlexTensor> {
    let [rows, inputs]: [usize; 2] = x.layout().shape().dims();
    let weight = Matrix::of(weight);
    if rows > ROWS || inputs == 0 || !weight.strides().contains(&1) {
        return None;
    }
    let x = contiguous(x.clone());
    let bias = bias.map(contiguous);
    let bias = bias.as_ref().map(elements);
    let write = |target: &mut [MaybeUninit<f32>]| row_product(target, elements(&x), weight, bias);
    // SAFETY: a product writes every element.
    Some(unsafe { made([rows, weight.columns], write) })
}

/// Writes `x weight + bias`, `[rows, weight.columns]`, on all threads. The weight has contiguous rows or columns.
fn row_product(
    target: &mut [MaybeUninit<f32>],
    x: &[f32],
    weight: Matrix<'_>,
    bias: Option<&[f32]>,
) {
    if target.is_empty() {
        return;
    }
    let (inputs, outputs) = (weight.rows, weight.columns);
    let rows = target.len() / outputs;
    assert_eq!(target.len(), rows * outputs, "the target has whole rows");
    assert_eq!(x.len(), rows * inputs, "inner sizes of a product");
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    let threads = match rows * inputs * outputs < SMALL {
        true => 1,
        false => rayon::current_num_threads(),
    };
    let product = Product {
        target: Shared::new(target),
        x,
        weight,
        bias,
        rows,
    };
    match weight.strides() {
        [_, 1] => product.by_columns(threads),
        _ => product.by_dots(threads),
    }
}

/// Writes `x weight` on this thread, for one row and a weight with contiguous columns: a dot product for each.
pub(super) fn dots(target: &mut [f32], x: &[f32], weight: Matrix<'_>) {
    assert_eq!(weight.strides()[0], 1, "columns are contiguous");
    assert_eq!([x.len(), target.len()], [weight.rows, weight.columns]);
    let product = Product {
        target: Shared::over(target),
        x,
        weight,
        bias: None,
        rows: 1,
    };
    vectorized(Dots {
        product,
        columns: 0..weight.columns,
    });
}

/// Runs `work` for every number below `count`.
fn for_each(count: usize, threads: usize, work: impl Fn(usize) + Sync + Send) {
    match threads {
        1 => (0..count).for_each(work),
        _ => (0..count).into_par_iter().with_max_len(1).for_each(work),
    }
}

/// `target ← x weight + bias`
#[derive(Clone, Copy)]
struct Product<'a> {
    target: Shared,
    x: &'a [f32],
    weight: Matrix<'a>,
    bias: Option<&'a [f32]>,
    rows: usize,
}

impl Product<'_> {
    fn by_columns(self, threads: usize) {
        let (inputs, outputs) = (self.weight.rows, self.weight.columns);
        let most = (TILE / self.rows).clamp(COLUMNS, MOST_COLUMNS);
        // Enough tasks that threads end together, of fewer rows where there are few columns.
        let tasks = match threads {
            1 => 1,
            _ => 4 * threads,
        };
        let width = outputs.div_ceil(tasks).next_multiple_of(COLUMNS);
        let width = width.min(most / COLUMNS * COLUMNS);
        let parts = outputs.div_ceil(width);
        let blocks = tasks.div_ceil(parts).min(self.rows / LEAST_ROWS).max(1);
        let together = self.rows.div_ceil(blocks);
        let quads = match together {
            1 => None,
            _ => Some(quads(self.x, inputs, together)),
        };
        let x = quads.as_deref().unwrap_or(self.x);
        for_each(self.rows.div_ceil(together) * parts, threads, |task| {
            let (block, part) = (task / parts, task % parts);
            let first = block * together;
            let count = together.min(self.rows - first);
            vectorized(Tile {
                product: self,
                quads: &x[first * inputs..][..count * inputs],
                rows: first..first + count,
                columns: part * width..outputs.min((part + 1) * width),
            });
        });
    }

    fn by_dots(self, threads: usize) {
        let outputs = self.weight.columns;
        for_each(outputs.div_ceil(DOTS), threads, |part| {
            vectorized(Dots {
                product: self,
                columns: part * DOTS..outputs.min((part + 1) * DOTS),
            });
        });
    }
}

/// Rows as tiles read them: of `together` rows at a time the first [`QUAD`] elements of each, the next of each, and so on;
/// what is left of the rows one element at a time.
fn quads(x: &[f32], inputs: usize, together: usize) -> Vec<f32> {
    let mut quads = Vec::with_capacity(x.len());
    for rows in x.chunks(together * inputs) {
        let whole = inputs / QUAD * QUAD;
        for start in (0..whole).step_by(QUAD) {
            for row in rows.chunks_exact(inputs) {
                quads.extend_from_slice(&row[start..start + QUAD]);
            }
        }
        for start in whole..inputs {
            quads.extend(rows.chunks_exact(inputs).map(|row| row[start]));
        }
    }
    quads
}

/// Floats of a cache line.
const LINE: usize = 16;

/// A cache line: vectors that lie in one are read and written at once.
#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "used as floats")] [f32; LINE]);

/// The floats of lines.
fn floats(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a line is floats and nothing else.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}

/// Some columns of some rows of the target.
struct Tile<'a> {
    product: Product<'a>,
    /// The rows as [`quads`].
    quads: &'a [f32],
    rows: Range<usize>,
    columns: Range<usize>,
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let full_weight = self.product.weight;
        let [stride, _] = full_weight.strides();
        let panel = VECTORS * S::F32_LANES;
        let whole = self.columns.len() / panel * panel;
        let first = self.columns.start;
        let weight = full_weight.data_from(0, first);
        self.panels::<S, VECTORS>(simd, first..first + whole, weight, stride);
        // The last columns, made whole vectors.
        let (first, rest) = (first + whole, self.columns.len() - whole);
        let lanes = rest.next_multiple_of(S::F32_LANES);
        let mut padded = Vec::new();
        let (weight, stride) = match rest {
            0 => return,
            _ if rest == lanes => (full_weight.data_from(0, first), stride),
            _ => {
                padded.resize(full_weight.rows * lanes, 0.0);
                for (input, to) in padded.chunks_exact_mut(lanes).enumerate() {
                    to[..rest].copy_from_slice(&full_weight.data_from(input, first)[..rest]);
                }
                (&padded[..], lanes)
            }
        };
        let columns = first..self.columns.end;
        match lanes / S::F32_LANES {
            1 => self.panels::<S, 1>(simd, columns, weight, stride),
            2 => self.panels::<S, 2>(simd, columns, weight, stride),
            _ => self.panels::<S, VECTORS>(simd, columns, weight, stride),
        }
    }
}

impl Tile<'_> {
    /// Writes columns in panels of `V` vectors, the last of which may be beyond their end. The weight's rows, `stride`
    /// elements apart, begin with the first column.
    #[inline(always)]
    fn panels<S: Simd, const V: usize>(
        &self,
        simd: S,
        columns: Range<usize>,
        weight: &[f32],
        stride: usize,
    ) {
        let (panel, count) = (V * S::F32_LANES, self.rows.len());
        let panels = columns.len().div_ceil(panel);
        let mut sums = vec![Line::default(); (panels * panel * count).div_ceil(LINE)];
        let sums = &mut floats(&mut sums)[..panels * panel * count];
        let of_panel = |number: usize| {
            let start = columns.start + number * panel;
            start..columns.end.min(start + panel)
        };
        if let Some(bias) = self.product.bias {
            for (index, sums) in sums.chunks_exact_mut(panel).enumerate() {
                let bias = &bias[of_panel(index / count)];
                sums[..bias.len()].copy_from_slice(bias);
            }
        }
        let Matrix {
            rows,
            columns: outputs,
            ..
        } = self.product.weight;
        multiply::<S, V>(simd, sums, self.quads, weight, stride, rows);
        for (index, sums) in sums.chunks_exact(panel).enumerate() {
            let columns = of_panel(index / count);
            let start = (self.rows.start + index % count) * outputs + columns.start;
            // SAFETY: no other task has these columns of these rows.
            let target = unsafe { self.product.target.part(start, columns.len()) };
            for (target, sum) in target.iter_mut().zip(sums) {
                target.write(*sum);
            }
        }
    }
}

/// Adds products to panels of sums, each `[rows, panel]` with `V` vectors to a panel: of `x` as [`quads`] and a weight of
/// `inputs` rows, `stride` elements apart.
#[inline(always)]
fn multiply<S: Simd, const V: usize>(
    simd: S,
    sums: &mut [f32],
    x: &[f32],
    weight: &[f32],
    stride: usize,
    inputs: usize,
) {
    if sums.is_empty() || inputs == 0 {
        return;
    }
    let panel = V * S::F32_LANES;
    let rows = x.len() / inputs;
    let columns = sums.len() / rows;
    assert!(columns.is_multiple_of(panel) && sums.len() == rows * columns);
    assert!(weight.len() >= (inputs - 1) * stride + columns);
    let whole = inputs / QUAD * QUAD;
    let (quads, singles) = x.split_at(whole * rows);
    for (number, x) in quads.chunks_exact(QUAD * rows).enumerate() {
        let weight = &weight[number * QUAD * stride..];
        // SAFETY: the weight has a quad of rows from here on, each of them as long as the sums'.
        unsafe { add::<S, QUAD, V>(simd, sums, x, weight, stride, rows) };
    }
    for (number, x) in singles.chunks_exact(rows).enumerate() {
        let weight = &weight[(whole + number) * stride..];
        // SAFETY: the weight has a row from here on, as long as the sums'.
        unsafe { add::<S, 1, V>(simd, sums, x, weight, stride, rows) };
    }
}

/// Adds the products of `Q` elements of each row with as many rows of the weight.
///
/// # Safety
/// Sums are panels of `rows` rows, `x` has `Q` elements for each row, and each of the `Q` rows of the weight, `stride` elements apart,
/// has an element for each column.
#[inline(always)]
unsafe fn add<S: Simd, const Q: usize, const V: usize>(
    simd: S,
    sums: &mut [f32],
    x: &[f32],
    weight: &[f32],
    stride: usize,
    rows: usize,
) {
    let panel = V * S::F32_LANES;
    let at = |start: *const f32, vector: usize| start.wrapping_add(vector * S::F32_LANES);
    let panels = sums.len() / (rows * panel);
    let mut sum = sums.as_mut_ptr();
    for number in 0..panels {
        let weight = weight.as_ptr().wrapping_add(number * panel);
        let mut weights = [[simd.splat_f32s(0.0); V]; Q];
        for (input, weights) in weights.iter_mut().enumerate() {
            let weight = weight.wrapping_add(input * stride);
            for (vector, weights) in weights.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *weights = unsafe { at(weight, vector).cast::<S::f32s>().read_unaligned() };
            }
            prefetch(weight.wrapping_add(AHEAD * stride), panel);
        }
        let mut x = x.as_ptr();
        for _ in 0..rows {
            // SAFETY: the caller's promise.
            unsafe {
                let mut row = [simd.splat_f32s(0.0); V];
                for (vector, row) in row.iter_mut().enumerate() {
                    *row = at(sum, vector).cast::<S::f32s>().read_unaligned();
                }
                for (input, weights) in weights.iter().enumerate() {
                    let x = simd.splat_f32s(*x.add(input));
                    for (row, weights) in row.iter_mut().zip(weights) {
                        *row = simd.mul_add_f32s(x, *weights, *row);
                    }
                }
                for (vector, row) in row.iter().enumerate() {
                    at(sum, vector)
                        .cast_mut()
                        .cast::<S::f32s>()
                        .write_unaligned(*row);
                }
                sum = sum.add(panel);
                x = x.add(Q);
            }
        }
    }
}

/// Asks memory for `count` elements of a row of the weight, which may lie beyond its end.
#[inline(always)]
fn prefetch(weight: *const f32, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for start in (0..count).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, wherever it points; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(weight.wrapping_add(start).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (weight, count);
}

/// Some columns of the target.
struct Dots<'a> {
    product: Product<'a>,
    columns: Range<usize>,
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut column = self.columns.start;
        while column < self.columns.end {
            let next = match self.columns.end - column {
                DOT_COLUMNS.. => {
                    self.columns::<S, DOT_COLUMNS>(simd, column);
                    DOT_COLUMNS
                }
                _ => {
                    self.columns::<S, 1>(simd, column);
                    1
                }
            };
            column += next;
        }
    }
}

impl Dots<'_> {
    /// `C` columns of all rows.
    #[inline(always)]
    fn columns<S: Simd, const C: usize>(&self, simd: S, column: usize) {
        let mut row = 0;
        while row < self.product.rows {
            let next = match self.product.rows - row {
                DOT_ROWS.. => {
                    self.tile::<S, DOT_ROWS, C>(simd, row, column);
                    DOT_ROWS
                }
                _ => {
                    self.tile::<S, 1, C>(simd, row, column);
                    1
                }
            };
            row += next;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const C: usize>(&self, simd: S, row: usize, column: usize) {
        let (inputs, outputs) = (self.product.weight.rows, self.product.weight.columns);
        let x: [&[f32]; R] =
            std::array::from_fn(|r| &self.product.x[(row + r) * inputs..][..inputs]);
        let weights: [&[f32]; C] =
            std::array::from_fn(|c| &self.product.weight.data_from(0, column + c)[..inputs]);
        let vectors = inputs / S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); C]; R];
        for vector in 0..vectors {
            let at = |numbers: &[f32]| {
                let start = numbers.as_ptr().wrapping_add(vector * S::F32_LANES);
                // SAFETY: there are as many whole vectors.
                unsafe { start.cast::<S::f32s>().read_unaligned() }
            };
            let weights = weights.map(at);
            for (sums, x) in sums.iter_mut().zip(x) {
                let x = at(x);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add_f32s(x, weights, *sum);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            // SAFETY: no other task has these columns.
            let target = unsafe { self.product.target.part((row + r) * outputs + column, C) };
            for (c, sum) in sums.into_iter().enumerate() {
                let mut sum = simd.reduce_sum_f32s(sum);
                for input in vectors * S::F32_LANES..inputs {
                    sum = x[r][input].mul_add(weights[c][input], sum);
                }
                target[c].write(self.product.bias.map_or(0.0, |bias| bias[column + c]) + sum);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may panic
mod tests {
    use super::*;
    use crate::random;

    fn numbers(name: &str, count: usize) -> Vec<f32> {
        random::normals(&mut random::stream(1, name), count)
            .into_iter()
            .map(|z| z as f32)
            .collect()
    }

    /// A weight `[inputs, outputs]` with contiguous rows, and one with contiguous columns.
    fn weights(numbers: &[f32], inputs: usize, outputs: usize) -> [Matrix<'_>; 2] {
        [
            Matrix::dense(numbers, inputs, outputs),
            Matrix::dense(numbers, outputs, inputs).t(),
        ]
    }

    fn product(x: &[f32], weight: Matrix<'_>, bias: Option<&[f32]>) -> Vec<f32> {
        let rows = x.len() / weight.rows;
        let mut target = vec![MaybeUninit::new(f32::NAN); rows * weight.columns];
        row_product(&mut target, x, weight, bias);
        // SAFETY: numbers were there before the product.
        let number = |number: MaybeUninit<f32>| unsafe { number.assume_init() };
        target.into_iter().map(number).collect()
    }

    /// Rows, inputs and outputs: one of each, less than a quad and a panel, blocks and panels that are not whole.
    const SHAPES: [[usize; 3]; 8] = [
        [1, 1, 1],
        [1, 7, 5],
        [2, 8, 16],
        [3, 37, 301],
        [4, 400, 333],
        [5, 3, 48],
        [64, 130, 97],
        [131, 66, 400],
    ];

    #[test]
    fn sums_are_those_in_f64() {
        for [rows, inputs, outputs] in SHAPES {
            let x = numbers("x", rows * inputs);
            let bias = numbers("bias", outputs);
            let w = numbers("w", inputs * outputs);
            for weight in weights(&w, inputs, outputs) {
                let product = product(&x, weight, Some(&bias));
                for (at, product) in product.into_iter().enumerate() {
                    let (row, output) = (at / outputs, at % outputs);
                    let terms = (0..inputs)
                        .map(|i| {
                            let weight = weight.data_from(i, output)[0];
                            f64::from(x[row * inputs + i]) * f64::from(weight)
                        })
                        .chain([f64::from(bias[output])]);
                    let exact: f64 = terms.clone().sum();
                    // Whatever the order, each term is rounded at most once for each of the others.
                    let magnitude: f64 = terms.map(f64::abs).sum();
                    let bound = (inputs as f64 + 1.0) * 2f64.powi(-24) * magnitude;
                    let error = (f64::from(product) - exact).abs();
                    assert!(error <= bound, "{product}, {exact}");
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_is_beside_it() {
        for [rows, inputs, outputs] in SHAPES {
            let x = numbers("x", rows * inputs);
            let bias = numbers("bias", outputs);
            let w = numbers("w", inputs * outputs);
            for weight in weights(&w, inputs, outputs) {
                let together = product(&x, weight, Some(&bias));
                for row in 0..rows {
                    let x = &x[row * inputs..][..inputs];
                    let alone = product(x, weight, Some(&bias));
                    assert_eq!(alone, together[row * outputs..][..outputs]);
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        // Of few columns, parts of the rows are tasks.
        for [rows, inputs, outputs] in [[3, 300, 1000], [40, 200, 50]] {
            let (x, w) = (numbers("x", rows * inputs), numbers("w", inputs * outputs));
            for weight in weights(&w, inputs, outputs) {
                let on = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                    let pool = pool.build().unwrap();
                    pool.install(|| product(&x, weight, None))
                };
                let one = on(1);
                for threads in [2, 3, 7] {
                    assert_eq!(on(threads), one, "{threads} threads");
                }
            }
        }
    }

    #[test]
    fn a_weight_amid_another_matrix_is_read_where_it_lies() {
        let (x, w) = (numbers("x", 2 * 20), numbers("w", 30 * 90));
        let around = Matrix::dense(&w, 30, 90);
        let rows = Matrix::new(around.data_from(4, 7), [20, 50], [90, 1]);
        let dense: Vec<f32> = (0..20)
            .flat_map(|row| rows.data_from(row, 0)[..50].to_vec())
            .collect();
        assert_eq!(
            product(&x, rows, None),
            product(&x, Matrix::dense(&dense, 20, 50), None)
        );
    }

    #[test]
    fn gradients_take_the_usual_way() {
        use burn::tensor::{Device, Tensor};
        let device = Device::flex();
        let x = Tensor::<2>::ones([1, 3], &device);
        let w = Tensor::<2>::ones([3, 2], &device);
        let product = crate::ops::few_rows(&x, &w, None).unwrap();
        let product: Vec<f32> = product.try_into_vec_as().unwrap();
        assert_eq!(product, [3.0, 3.0]);
        let tracked = Tensor::<2>::ones([3, 2], &device.autodiff()).require_grad();
        assert!(crate::ops::few_rows(&x, &tracked, None).is_none());
        let many = Tensor::<2>::ones([ROWS + 1, 3], &Device::flex());
        assert!(crate::ops::few_rows(&many, &w, None).is_none());
    }
}
