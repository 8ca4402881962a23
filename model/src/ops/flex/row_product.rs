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
use gemm::Parallelism;
use pulp::{Simd, WithSimd};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use super::math::map;
use super::matrix::{Matrix, Shared, contiguous, elements, made_by_rows, product_into};
use crate::vectors::vectorized;

/// Rows of the weight that are multiplied together.
const QUAD: usize = 4;

/// Vectors of a panel: with a quad's weights and a row's sums, as many as 16 registers hold.
const VECTORS: usize = 3;

/// Rows of `x` that share a pass over the weight.
const ROWS: usize = 64;

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
    let x = contiguous(x.clone());
    let [rows, _]: [usize; 2] = x.layout().shape().dims();
    if rows > ROWS {
        return None;
    }
    let weight = Matrix::of(weight);
    let bias = bias.map(contiguous);
    let bias = bias.as_ref().map(elements);
    let write = |_, row: &mut [_]| match bias {
        Some(bias) => map(row, bias, |bias| bias),
        None => row.fill(MaybeUninit::new(0.0)),
    };
    // SAFETY: a row is as wide as the bias.
    let mut product = unsafe { made_by_rows([rows, weight.columns], write) };
    add_row_product(product.storage_mut::<f32>(), elements(&x), weight);
    Some(product)
}

/// `target ← target + x weight`, the target `[x.rows, weight.columns]`, on all threads.
pub(super) fn add_row_product(target: &mut [f32], x: &[f32], weight: Matrix<'_>) {
    let (inputs, outputs) = (weight.rows, weight.columns);
    if inputs == 0 || outputs == 0 {
        return;
    }
    let rows = target.len() / outputs;
    assert_eq!(target.len(), rows * outputs, "the target has whole rows");
    assert_eq!(x.len(), rows * inputs, "inner sizes of a product");
    let small = rows * inputs * outputs < SMALL;
    let threads = if small {
        1
    } else {
        rayon::current_num_threads()
    };
    match weight.strides() {
        [_, 1] => by_columns(Shared::over(target), x, weight, rows, threads),
        [1, _] => by_dots(Shared::over(target), x, weight, rows, threads),
        _ => {
            let x = Matrix::dense(x, rows, inputs);
            product_into(target, true, x, weight, 1.0, Parallelism::Rayon(0));
        }
    }
}

/// Runs `work` for every number below `count`.
fn for_each(count: usize, threads: usize, work: impl Fn(usize) + Sync + Send) {
    match threads {
        1 => (0..count).for_each(work),
        _ => (0..count).into_par_iter().with_max_len(1).for_each(work),
    }
}

fn by_columns(target: Shared, x: &[f32], weight: Matrix<'_>, rows: usize, threads: usize) {
    let outputs = weight.columns;
    let together = rows.div_ceil(rows.div_ceil(ROWS));
    let blocks = rows.div_ceil(together);
    let most = (TILE / together).clamp(COLUMNS, MOST_COLUMNS);
    // Enough tasks that threads end together.
    let width = outputs.div_ceil((4 * threads).div_ceil(blocks));
    let width = width
        .next_multiple_of(COLUMNS)
        .min(most / COLUMNS * COLUMNS);
    let quads = match together {
        1 => None,
        _ => Some(quads(x, weight.rows, together)),
    };
    let x = quads.as_deref().unwrap_or(x);
    let parts = outputs.div_ceil(width);
    for_each(blocks * parts, threads, |task| {
        let (block, part) = (task % blocks, task / blocks);
        let first = block * together;
        let count = together.min(rows - first);
        let tile = Tile {
            target,
            x: &x[first * weight.rows..][..count * weight.rows],
            weight,
            rows: first..first + count,
            columns: part * width..outputs.min((part + 1) * width),
        };
        vectorized(tile);
    });
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

/// Some columns of some rows of the target, and what is added to them.
struct Tile<'a> {
    target: Shared,
    /// The rows as [`quads`].
    x: &'a [f32],
    weight: Matrix<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let panel = VECTORS * S::F32_LANES;
        let (inputs, outputs) = (self.weight.rows, self.weight.columns);
        let count = self.rows.len();
        let panels = self.columns.len().div_ceil(panel);
        let mut sums = vec![Line::default(); (panels * panel * count).div_ceil(LINE)];
        let sums = &mut floats(&mut sums)[..panels * panel * count];
        let place = |number: usize, row: usize| {
            let columns = self.columns.start + number * panel..self.columns.end;
            let columns = columns.start..columns.end.min(columns.start + panel);
            let start = (self.rows.start + row) * outputs + columns.start;
            // SAFETY: no other task has these columns of these rows.
            unsafe { self.target.part(start, columns.len()) }
        };
        for (index, sums) in sums.chunks_exact_mut(panel).enumerate() {
            for (sum, target) in sums.iter_mut().zip(place(index / count, index % count)) {
                // SAFETY: the target holds numbers.
                *sum = unsafe { target.assume_init() };
            }
        }
        let whole = self.columns.len() / panel;
        let [stride, _] = self.weight.strides();
        let from = self.weight.data_from(0, self.columns.start);
        multiply(
            simd,
            &mut sums[..whole * panel * count],
            self.x,
            from,
            stride,
            inputs,
        );
        if whole < panels {
            // The last columns, made a whole panel.
            let rest = self.columns.len() - whole * panel;
            let mut weight = vec![0.0f32; inputs * panel];
            for (input, to) in weight.chunks_exact_mut(panel).enumerate() {
                let from = &from[input * stride + whole * panel..][..rest];
                to[..rest].copy_from_slice(from);
            }
            let sums = &mut sums[whole * panel * count..];
            multiply(simd, sums, self.x, &weight, panel, inputs);
        }
        for (index, sums) in sums.chunks_exact(panel).enumerate() {
            for (sum, target) in sums.iter().zip(place(index / count, index % count)) {
                target.write(*sum);
            }
        }
    }
}

/// Adds products to panels of sums, each `[rows, panel]`: of `x` as [`quads`] and a weight of `inputs` rows, `stride`
/// elements apart.
#[inline(always)]
fn multiply<S: Simd>(
    simd: S,
    sums: &mut [f32],
    x: &[f32],
    weight: &[f32],
    stride: usize,
    inputs: usize,
) {
    let panel = VECTORS * S::F32_LANES;
    let rows = x.len() / inputs;
    let columns = sums.len() / rows;
    if columns == 0 {
        return;
    }
    assert!(columns.is_multiple_of(panel) && sums.len() == rows * columns);
    assert!(weight.len() >= (inputs - 1) * stride + columns);
    let whole = inputs / QUAD * QUAD;
    let (quads, singles) = x.split_at(whole * rows);
    for (number, x) in quads.chunks_exact(QUAD * rows).enumerate() {
        let weight = &weight[number * QUAD * stride..];
        // SAFETY: the weight has a quad of rows from here on, each of them as long as the sums'.
        unsafe { add::<S, QUAD>(simd, sums, x, weight, stride, rows) };
    }
    for (number, x) in singles.chunks_exact(rows).enumerate() {
        let weight = &weight[(whole + number) * stride..];
        // SAFETY: the weight has a row from here on, as long as the sums'.
        unsafe { add::<S, 1>(simd, sums, x, weight, stride, rows) };
    }
}

/// Adds the products of `Q` elements of each row with as many rows of the weight.
///
/// # Safety
/// Sums are panels of `rows` rows, `x` has `Q` elements for each row, and each of the `Q` rows of the weight, `stride` elements apart,
/// has an element for each column.
#[inline(always)]
unsafe fn add<S: Simd, const Q: usize>(
    simd: S,
    sums: &mut [f32],
    x: &[f32],
    weight: &[f32],
    stride: usize,
    rows: usize,
) {
    let panel = VECTORS * S::F32_LANES;
    let at = |start: *const f32, vector: usize| start.wrapping_add(vector * S::F32_LANES);
    let panels = sums.len() / (rows * panel);
    let mut sum = sums.as_mut_ptr();
    for number in 0..panels {
        let weight = weight.as_ptr().wrapping_add(number * panel);
        let mut weights = [[simd.splat_f32s(0.0); VECTORS]; Q];
        for (input, weights) in weights.iter_mut().enumerate() {
            let weight = weight.wrapping_add(input * stride);
            for (vector, weights) in weights.iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *weights = unsafe { at(weight, vector).cast::<S::f32s>().read_unaligned() };
            }
            prefetch::<S>(weight.wrapping_add(AHEAD * stride));
        }
        let mut x = x.as_ptr();
        for _ in 0..rows {
            // SAFETY: the caller's promise.
            unsafe {
                let mut row = [simd.splat_f32s(0.0); VECTORS];
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

/// Asks memory for a panel of a row of the weight, which may lie beyond its end.
#[inline(always)]
fn prefetch<S: Simd>(weight: *const f32) {
    #[cfg(target_arch = "x86_64")]
    for start in (0..VECTORS * S::F32_LANES).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing, wherever it points; every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(weight.wrapping_add(start).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = weight;
}

fn by_dots(target: Shared, x: &[f32], weight: Matrix<'_>, rows: usize, threads: usize) {
    let outputs = weight.columns;
    for_each(outputs.div_ceil(DOTS), threads, |part| {
        let columns = part * DOTS..outputs.min((part + 1) * DOTS);
        let dots = Dots {
            target,
            x,
            weight,
            rows,
            columns,
        };
        vectorized(dots);
    });
}

/// Some columns of the target, and what is added to them.
struct Dots<'a> {
    target: Shared,
    x: &'a [f32],
    weight: Matrix<'a>,
    rows: usize,
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
        while row < self.rows {
            let next = match self.rows - row {
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
        let (inputs, outputs) = (self.weight.rows, self.weight.columns);
        let x: [&[f32]; R] = std::array::from_fn(|r| &self.x[(row + r) * inputs..][..inputs]);
        let weights: [&[f32]; C] =
            std::array::from_fn(|c| &self.weight.data_from(0, column + c)[..inputs]);
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
            let target = unsafe { self.target.part((row + r) * outputs + column, C) };
            for (c, sum) in sums.into_iter().enumerate() {
                let mut sum = simd.reduce_sum_f32s(sum);
                for input in vectors * S::F32_LANES..inputs {
                    sum = x[r][input].mul_add(weights[c][input], sum);
                }
                // SAFETY: the target holds numbers.
                let before = unsafe { target[c].assume_init() };
                target[c].write(before + sum);
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

    fn product(x: &[f32], weight: Matrix<'_>, before: &[f32]) -> Vec<f32> {
        let mut target = before.to_vec();
        add_row_product(&mut target, x, weight);
        target
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
            let before = numbers("before", rows * outputs);
            let w = numbers("w", inputs * outputs);
            for weight in weights(&w, inputs, outputs) {
                let product = product(&x, weight, &before);
                for (at, product) in product.into_iter().enumerate() {
                    let (row, output) = (at / outputs, at % outputs);
                    let terms = (0..inputs)
                        .map(|i| {
                            let weight = weight.data_from(i, output)[0];
                            f64::from(x[row * inputs + i]) * f64::from(weight)
                        })
                        .chain([f64::from(before[at])]);
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
            let before = numbers("before", rows * outputs);
            let w = numbers("w", inputs * outputs);
            for weight in weights(&w, inputs, outputs) {
                let together = product(&x, weight, &before);
                for row in 0..rows {
                    let x = &x[row * inputs..][..inputs];
                    let alone = product(x, weight, &before[row * outputs..][..outputs]);
                    assert_eq!(alone, together[row * outputs..][..outputs]);
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let (rows, inputs, outputs) = (3, 300, 1000);
        let (x, w) = (numbers("x", rows * inputs), numbers("w", inputs * outputs));
        let before = vec![0.0; rows * outputs];
        for weight in weights(&w, inputs, outputs) {
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().unwrap();
                pool.install(|| product(&x, weight, &before))
            };
            let one = on(1);
            for threads in [2, 3, 7] {
                assert_eq!(on(threads), one, "{threads} threads");
            }
        }
    }

    #[test]
    fn a_weight_amid_another_matrix_is_read_where_it_lies() {
        let (x, w) = (numbers("x", 2 * 20), numbers("w", 30 * 90));
        let before = vec![0.0; 2 * 50];
        let around = Matrix::dense(&w, 30, 90);
        let rows = Matrix::new(around.data_from(4, 7), [20, 50], [90, 1]);
        let dense: Vec<f32> = (0..20)
            .flat_map(|row| rows.data_from(row, 0)[..50].to_vec())
            .collect();
        assert_eq!(
            product(&x, rows, &before),
            product(&x, Matrix::dense(&dense, 20, 50), &before)
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
