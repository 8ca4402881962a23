//! The objective of a fit: the Huber loss of the residuals of log losses, with its gradient and its Hessian.

use super::form::{COLUMNS, Column, EXPONENTS, Exponent, Form, Point};

/// Largest number of variables of a form.
pub(super) const VARIABLES: usize = EXPONENTS + COLUMNS;

pub(super) type Vector = [f64; VARIABLES];
pub(super) type Matrix = [[f64; VARIABLES]; VARIABLES];

/// Observations as they are fitted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// Logarithms of N, D and C, minus [`Self::means`].
    pub x: [Vec<f64>; 3],
    /// Logarithms of losses.
    pub y: Vec<f64>,
    /// How often each observation counts.
    pub weights: Vec<f64>,
    /// Means of the logarithms of N, D and C.
    pub means: [f64; 3],
}

impl Sample {
    /// Returns observations that count once, given N, D, C and the loss of each.
    pub(super) fn new(points: impl Iterator<Item = ([f64; 3], f64)>) -> Self {
        let mut x = [const { Vec::new() }; 3];
        let mut y = Vec::new();
        for (variables, loss) in points {
            for (values, variable) in x.iter_mut().zip(variables) {
                values.push(variable.ln());
            }
            y.push(loss.ln());
        }
        let count = y.len() as f64;
        let means = [0, 1, 2].map(|index| x[index].iter().sum::<f64>() / count);
        for (values, mean) in x.iter_mut().zip(means) {
            values.iter_mut().for_each(|value| *value -= mean);
        }
        Self {
            x,
            weights: vec![1.0; y.len()],
            y,
            means,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.y.len()
    }

    /// Returns the logarithm of a column's variable over its mean in an observation; 0 for the constant.
    fn logarithm(&self, column: &Column, row: usize) -> f64 {
        column
            .variable
            .map_or(0.0, |variable| self.x[variable.index()][row])
    }
}

/// The Huber loss: `r² / 2` up to a threshold, and `δ (|r| - δ / 2)` beyond.
pub(super) fn huber(residual: f64, threshold: f64) -> f64 {
    let size = residual.abs();
    match size <= threshold {
        true => 0.5 * residual * residual,
        false => threshold * (size - 0.5 * threshold),
    }
}

/// Returns the exponents of the columns at a point.
fn exponents(form: &Form, point: &Point) -> [f64; COLUMNS] {
    let mut exponents = [0.0; COLUMNS];
    for (exponent, column) in exponents.iter_mut().zip(&form.columns) {
        *exponent = column.exponent.value(&point.v);
    }
    exponents
}

/// Returns the residuals `log L - log prediction` at a point.
pub(super) fn residuals(form: &Form, sample: &Sample, point: &Point) -> Vec<f64> {
    let exponents = exponents(form, point);
    let power = form.power.value(&point.v);
    let residual = |row: usize| {
        let mut sum = 0.0;
        for (index, column) in form.columns.iter().enumerate() {
            let x = sample.logarithm(column, row);
            sum += point.c[index] * (-exponents[index] * x).exp();
        }
        sample.y[row] - power * sum.ln()
    };
    (0..sample.len()).map(residual).collect()
}

/// Returns `Σ huber(log L - log prediction)` at a point; infinite if a prediction is not a positive number.
pub(super) fn objective(form: &Form, sample: &Sample, point: &Point, threshold: f64) -> f64 {
    let residuals = residuals(form, sample, point);
    let losses = residuals.iter().zip(&sample.weights);
    let sum: f64 = losses
        .map(|(residual, weight)| weight * huber(*residual, threshold))
        .sum();
    if sum.is_nan() { f64::INFINITY } else { sum }
}

/// The objective around a point, by variables: exponents `v`, then coefficients `c`.
#[derive(Debug, Clone)]
pub(super) struct Expansion {
    pub gradient: Vector,
    /// Hessian of the objective.
    pub hessian: Matrix,
    /// `Jᵀ J` of the predicted log losses: the Hessian of half the sum of squares without the curvature of the law.
    pub gauss_newton: Matrix,
}

/// Derivatives of an exponent by its variable: the index, the first and the second.
fn derivatives(exponent: Exponent, value: f64) -> Option<(usize, f64, f64)> {
    match exponent {
        Exponent::Fixed(_) => None,
        Exponent::Free { index, power, .. } => Some((index, power * value, power * power * value)),
    }
}

/// Returns the derivatives of each predicted log loss by the variables.
pub(super) fn jacobian(form: &Form, sample: &Sample, point: &Point) -> Vec<Vector> {
    let exponents = exponents(form, point);
    let power = form.power.value(&point.v);
    let row = |row: usize| {
        let mut sum = 0.0;
        let mut by = [0.0; VARIABLES];
        for (index, column) in form.columns.iter().enumerate() {
            let x = sample.logarithm(column, row);
            let basis = (-exponents[index] * x).exp();
            sum += point.c[index] * basis;
            if column.fixed.is_none() {
                by[EXPONENTS + index] = basis;
            }
            if let Some((v, first, _)) = derivatives(column.exponent, exponents[index]) {
                by[v] -= point.c[index] * basis * x * first;
            }
        }
        let mut by = by.map(|by| power * by / sum);
        if let Some((v, first, _)) = derivatives(form.power, power) {
            by[v] += sum.ln() * first;
        }
        by
    };
    (0..sample.len()).map(row).collect()
}

/// Expands the objective around a point.
pub(super) fn expand(form: &Form, sample: &Sample, point: &Point, threshold: f64) -> Expansion {
    let mut expansion = Expansion {
        gradient: [0.0; VARIABLES],
        hessian: [[0.0; VARIABLES]; VARIABLES],
        gauss_newton: [[0.0; VARIABLES]; VARIABLES],
    };
    let columns = form.columns.len();
    let exponents = exponents(form, point);
    let mut slopes = [None; COLUMNS];
    for (index, column) in form.columns.iter().enumerate() {
        slopes[index] = derivatives(column.exponent, exponents[index]);
    }
    let power = form.power.value(&point.v);
    let power_slope = derivatives(form.power, power);
    for row in 0..sample.len() {
        let weight = sample.weights[row];
        if weight == 0.0 {
            continue;
        }
        // S and its derivatives.
        let mut sum = 0.0;
        let mut by = [0.0; VARIABLES];
        let mut second = [[0.0; VARIABLES]; VARIABLES];
        for index in 0..columns {
            let x = sample.logarithm(&form.columns[index], row);
            let basis = (-exponents[index] * x).exp();
            let term = point.c[index] * basis;
            sum += term;
            by[EXPONENTS + index] = basis;
            if let Some((v, first, curvature)) = slopes[index] {
                by[v] -= term * x * first;
                second[v][v] += term * (x * x * first * first - x * curvature);
                let cross = -basis * x * first;
                second[v][EXPONENTS + index] = cross;
                second[EXPONENTS + index][v] = cross;
            }
        }
        let log = sum.ln();
        let residual = sample.y[row] - power * log;
        let slope = residual.clamp(-threshold, threshold);
        let inside = residual.abs() <= threshold;
        // f = q ln S and its derivatives.
        let mut f = by.map(|by| power * by / sum);
        if let Some((v, first, _)) = power_slope {
            f[v] += log * first;
        }
        let bend = weight * slope;
        for i in 0..VARIABLES {
            expansion.gradient[i] -= bend * f[i];
            for j in 0..=i {
                let square = weight * f[i] * f[j];
                let curvature = power * (second[i][j] - by[i] * by[j] / sum) / sum;
                expansion.gauss_newton[i][j] += square;
                expansion.hessian[i][j] += if inside { square } else { 0.0 } - bend * curvature;
            }
        }
        if let Some((v, first, twice)) = power_slope {
            for (i, by) in by.iter().enumerate() {
                let curvature = first * by / sum;
                expansion.hessian[v.max(i)][v.min(i)] -= bend * curvature;
            }
            expansion.hessian[v][v] -= bend * (first * by[v] / sum + log * twice);
        }
    }
    for matrix in [&mut expansion.hessian, &mut expansion.gauss_newton] {
        let lower = *matrix;
        for (i, row) in lower.iter().enumerate() {
            for (j, value) in row.iter().enumerate().take(i) {
                matrix[j][i] = *value;
            }
        }
    }
    expansion
}

/// Solves `matrix · x = right` for the variables in `free` by Cholesky's decomposition; the others are 0. `None` unless
/// the matrix is positive definite.
pub(super) fn solve(matrix: &Matrix, right: &Vector, free: &[usize]) -> Option<Vector> {
    let n = free.len();
    let mut factor = [[0.0; VARIABLES]; VARIABLES];
    for i in 0..n {
        for j in 0..=i {
            let mut sum = matrix[free[i]][free[j]];
            for (a, b) in factor[i][..j].iter().zip(&factor[j][..j]) {
                sum -= a * b;
            }
            if i == j {
                // A pivot that is rounding of the diagonal says that the matrix is singular.
                if sum.is_nan() || sum <= 1e-14 * matrix[free[i]][free[i]].abs() || sum <= 0.0 {
                    return None;
                }
                factor[i][i] = sum.sqrt();
            } else {
                factor[i][j] = sum / factor[j][j];
            }
        }
    }
    let mut y = [0.0; VARIABLES];
    for i in 0..n {
        let mut sum = right[free[i]];
        for j in 0..i {
            sum -= factor[i][j] * y[j];
        }
        y[i] = sum / factor[i][i];
    }
    let mut x = [0.0; VARIABLES];
    for i in (0..n).rev() {
        let mut sum = y[i];
        for j in i + 1..n {
            sum -= factor[j][i] * x[free[j]];
        }
        x[free[i]] = sum / factor[i][i];
    }
    Some(x)
}
