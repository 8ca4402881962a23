//! Arithmetic in f64 whose bits are the same on every machine.
//!
//! Every sum is taken in the order of its terms, and no product is fused with a sum: Rust never contracts them. Vector
//! instructions compute several sums side by side, never parts of one sum, so that their width changes no bit.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use crate::vectors::vectorized;

/// Columns that are computed side by side.
pub(super) const PANEL: usize = 8;

/// Rows that are computed side by side.
pub(super) const ROWS: usize = 4;

/// Minimum number of multiplications in a parallel task.
pub(super) const GRAIN: usize = 1 << 18;

/// A matrix, `[inputs, outputs]`, in panels of [`PANEL`] columns. A panel is stored row by row, and the last one is filled
/// up with zeros.
pub(super) struct Matrix<T> {
    pub(super) panels: Vec<Vec<T>>,
    pub(super) inputs: usize,
    outputs: usize,
}

impl<T: Copy + Default + Into<f64> + Send + Sync> Matrix<T> {
    /// Creates a matrix from its elements, `at(input, output)`.
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        at: impl Fn(usize, usize) -> T + Sync,
    ) -> Self {
        let panel = |panel: usize| {
            let columns = panel * PANEL..(panel + 1) * PANEL;
            let element = |input, output| match output < outputs {
                true => at(input, output),
                false => T::default(),
            };
            (0..inputs)
                .flat_map(|input| columns.clone().map(move |output| (input, output)))
                .map(|(input, output)| element(input, output))
                .collect()
        };
        Self {
            panels: (0..outputs.div_ceil(PANEL)).map(panel).collect(),
            inputs,
            outputs,
        }
    }

    /// Appends a column.
    pub(super) fn push_column(&mut self, column: &[T]) {
        let place = self.outputs % PANEL;
        if place == 0 {
            self.panels.push(vec![T::default(); self.inputs * PANEL]);
        }
        if let Some(panel) = self.panels.last_mut() {
            let rows = panel.chunks_exact_mut(PANEL);
            rows.zip(column)
                .for_each(|(row, value)| row[place] = *value);
        }
        self.outputs += 1;
    }

    /// Appends a row.
    pub(super) fn push_row(&mut self, row: &[T]) {
        for (panel, part) in self.panels.iter_mut().zip(row.chunks(PANEL)) {
            panel.extend(part);
            panel.extend(std::iter::repeat_n(T::default(), PANEL - part.len()));
        }
        self.inputs += 1;
    }

    /// Returns the elements of a column.
    pub(super) fn column(&self, output: usize) -> impl Iterator<Item = T> {
        let rows = self.panels[output / PANEL].chunks_exact(PANEL);
        rows.map(move |row| row[output % PANEL])
    }

    /// Multiplies rows by the matrix: `[rows, inputs] -> [rows, outputs]`.
    pub(super) fn product(&self, x: &[f64]) -> Vec<f64> {
        let rows = x.len() / self.inputs;
        let mut panels = vec![0.0; self.panels.len() * rows * PANEL];
        let least = (GRAIN / (rows * self.inputs * PANEL)).max(1);
        panels
            .par_chunks_mut(rows * PANEL)
            .zip(self.panels.par_iter())
            .with_min_len(least)
            .for_each(|(to, panel)| multiply(x, panel, to));
        let mut y = vec![0.0; rows * self.outputs];
        for (number, panel) in panels.chunks_exact(rows * PANEL).enumerate() {
            let start = number * PANEL;
            let width = PANEL.min(self.outputs - start);
            for (row, sums) in panel.chunks_exact(PANEL).enumerate() {
                y[row * self.outputs + start..][..width].copy_from_slice(&sums[..width]);
            }
        }
        y
    }
}

/// Multiplies rows by a panel: `[rows, inputs] × [inputs, PANEL] -> [rows, PANEL]`.
pub(super) fn multiply<T: Copy + Into<f64>>(x: &[f64], panel: &[T], to: &mut [f64]) {
    vectorized(
        #[inline(always)]
        || multiply_tiles(x, panel, to),
    );
}

#[inline(always)]
fn multiply_tiles<T: Copy + Into<f64>>(x: &[f64], panel: &[T], to: &mut [f64]) {
    let inputs = panel.len() / PANEL;
    let mut tiles = x.chunks_exact(ROWS * inputs);
    let mut sums = to.chunks_exact_mut(ROWS * PANEL);
    for (x, to) in tiles.by_ref().zip(sums.by_ref()) {
        tile::<T, ROWS>(x, panel, to);
    }
    let rows = tiles.remainder().chunks_exact(inputs);
    let sums = sums.into_remainder().chunks_exact_mut(PANEL);
    for (x, to) in rows.zip(sums) {
        tile::<T, 1>(x, panel, to);
    }
}

#[inline(always)]
fn tile<T: Copy + Into<f64>, const R: usize>(x: &[f64], panel: &[T], to: &mut [f64]) {
    let (panel, _) = panel.as_chunks::<PANEL>();
    let rows: [&[f64]; R] = std::array::from_fn(|row| &x[row * panel.len()..][..panel.len()]);
    let mut sums = [[0.0; PANEL]; R];
    for (input, weights) in panel.iter().enumerate() {
        let weights: [f64; PANEL] = weights.map(Into::into);
        for (sums, x) in sums.iter_mut().zip(rows) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += x[input] * weight;
            }
        }
    }
    to.copy_from_slice(sums.as_flattened());
}

/// Replaces every number. `of` has to be `#[inline(always)]`.
pub(super) fn map(x: &mut [f64], of: impl Fn(f64) -> f64) {
    vectorized(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x = of(*x)),
    );
}

/// Returns e^x to 2 units in the last place. Beyond -708 and 709, where f64 ends, the result is that at the bound.
///
/// Range reduction is that of FreeBSD's `exp`: x = n ln 2 + r. The polynomial is e^r's Taylor series, which is cut off
/// below 2^-57 for |r| ≤ ln 2 / 2. Nothing branches, and no number is subnormal.
#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    // Adding and subtracting it rounds to the nearest integer, which is then in the low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    // 1 / 13! to 1 / 2!
    const COEFFICIENTS: [f64; 12] = [
        1.0 / 6_227_020_800.0,
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
    ];
    // Written so that NaN passes.
    let x = if x < -708.0 { -708.0 } else { x };
    let x = if x > 709.0 { 709.0 } else { x };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 0.0;
    for coefficient in COEFFICIENTS {
        p = p * r + coefficient;
    }
    let p = 1.0 + (r + r * r * p);
    let exponent = shifted.to_bits() << 52;
    p * f64::from_bits(exponent.wrapping_add(1f64.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_near_that_of_libm() {
        for i in -7079..7090 {
            let x = f64::from(i) * 0.1 + 1e-4 * f64::from(i % 7);
            let (ours, theirs) = (exp(x), libm::exp(x));
            let error = (ours - theirs).abs() / theirs;
            assert!(error <= 2.0 * f64::EPSILON, "exp({x}): {ours} {theirs}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(-1e300), exp(f64::NEG_INFINITY)], [exp(-708.0); 2]);
        assert_eq!(exp(f64::INFINITY), exp(709.0));
        assert!(exp(f64::NAN).is_nan());
    }

    /// Numbers whose sums depend on the order, and on a product that is not rounded.
    fn numbers(count: usize, seed: u64) -> Vec<f64> {
        let number = |i| (i * 2_654_435_761 + seed * 40_503) % 1_000_003;
        (0..count as u64)
            .map(|i| number(i) as f64 / 7e4 - 7.0)
            .collect()
    }

    #[test]
    fn products_are_sums_in_order() {
        for (rows, inputs, outputs) in [(1, 5, 1), (4, 300, 8), (7, 129, 61), (9, 1, 17)] {
            let x = numbers(rows * inputs, 1);
            let weights: Vec<f32> = numbers(inputs * outputs, 2)
                .iter()
                .map(|weight| *weight as f32)
                .collect();
            let matrix = Matrix::new(inputs, outputs, |k, j| weights[k * outputs + j]);
            let mut expected = Vec::new();
            for x in x.chunks(inputs) {
                for output in 0..outputs {
                    let mut sum = 0.0;
                    for (input, x) in x.iter().enumerate() {
                        sum += x * f64::from(weights[input * outputs + output]);
                    }
                    expected.push(sum);
                }
            }
            assert_eq!(matrix.product(&x), expected);
            let column: Vec<f32> = matrix.column(outputs - 1).collect();
            let last = weights.iter().skip(outputs - 1).step_by(outputs);
            assert!(column.iter().eq(last));
        }
    }

    #[test]
    fn a_matrix_grows_by_columns_and_rows() {
        let values = numbers(5 * 19, 3);
        let x = numbers(5, 4);
        let whole = Matrix::new(5, 19, |k, j| values[k * 19 + j]);
        let mut by_columns = Matrix::new(5, 0, |_, _| 0.0);
        for output in 0..19 {
            by_columns.push_column(&whole.column(output).collect::<Vec<_>>());
        }
        assert_eq!(by_columns.product(&x), whole.product(&x));
        let mut by_rows = Matrix::new(0, 19, |_, _| 0.0);
        for row in values.chunks(19) {
            by_rows.push_row(row);
        }
        assert_eq!(by_rows.product(&x), whole.product(&x));
    }

    #[test]
    fn vector_instructions_change_no_bit() {
        let (x, panel) = (numbers(6 * 200, 5), numbers(200 * PANEL, 6));
        let [mut vector, mut plain] = [(); 2].map(|()| vec![0.0; 6 * PANEL]);
        multiply(&x, &panel, &mut vector);
        multiply_tiles(&x, &panel, &mut plain);
        assert_eq!(vector, plain);
        let mut vector = x.clone();
        map(&mut vector, exp);
        assert!(vector.iter().zip(x).all(|(vector, x)| *vector == exp(x)));
    }
}
