//! How well a fit is conditioned: eigenvalues of `Jᵀ J` of the predicted log losses.

use serde::{Deserialize, Serialize};

use super::form::{EXPONENTS, Exponent, Point};
use super::law::{Fitted, Law};
use super::objective::{Matrix, Sample, VARIABLES, Vector, expand, solve};

/// Condition numbers: the largest eigenvalue over the smallest. `None` if the matrix is singular.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// All parameters, as they stand in the formula.
    pub parameters: Option<f64>,
    /// The exponents, with all coefficients at their best for each: what variable projection searches in.
    pub projected: Option<f64>,
}

impl Condition {
    pub(super) fn of(law: Law, sample: &Sample, point: &Point) -> Self {
        let fitted = Fitted::of_point(law, point, &sample.means);
        Self {
            parameters: parameters(sample, &fitted),
            projected: projected(law, sample, point),
        }
    }
}

/// Returns the condition number by the parameters of the formula, from central differences.
fn parameters(sample: &Sample, fitted: &Fitted) -> Option<f64> {
    const STEP: f64 = 1e-5;
    let count = fitted.law.parameters().len();
    let log_loss = |fitted: &Fitted, row: usize| {
        let [n, d, c] = [0, 1, 2].map(|i| (sample.x[i][row] + sample.means[i]).exp());
        fitted.loss(n, d, c).ln()
    };
    let mut gram: Matrix = [[0.0; VARIABLES]; VARIABLES];
    for row in 0..sample.len() {
        let mut slopes: Vector = [0.0; VARIABLES];
        for (index, slope) in slopes.iter_mut().enumerate().take(count) {
            let step = STEP * fitted.values[index].max(1e-3);
            let mut ends = [*fitted; 2];
            ends[0].values[index] -= step;
            ends[1].values[index] += step;
            *slope = (log_loss(&ends[1], row) - log_loss(&ends[0], row)) / (2.0 * step);
        }
        for i in 0..count {
            for j in 0..count {
                gram[i][j] += slopes[i] * slopes[j];
            }
        }
    }
    ratio(&eigenvalues(&gram, count))
}

/// Returns the condition number by the exponents, after the coefficients are eliminated: the Schur complement
/// `G_vv - G_vc G_cc⁻¹ G_cv`.
fn projected(law: Law, sample: &Sample, point: &Point) -> Option<f64> {
    let form = law.form();
    let gram = expand(&form, sample, point, f64::INFINITY).gauss_newton;
    let coefficients: Vec<usize> = (0..form.columns.len())
        .map(|index| EXPONENTS + index)
        .filter(|index| gram[*index][*index] > 0.0 && point.c[*index - EXPONENTS] > 0.0)
        .collect();
    let mut exponents = [1.0; EXPONENTS];
    for exponent in form
        .columns
        .iter()
        .map(|column| column.exponent)
        .chain([form.power])
    {
        if let Exponent::Free { index, .. } = exponent {
            exponents[index] = exponent.value(&point.v);
        }
    }
    let mut complement: Matrix = [[0.0; VARIABLES]; VARIABLES];
    for i in 0..form.exponents {
        let solved = solve(&gram, &gram[i], &coefficients)?;
        for j in 0..form.exponents {
            let explained: f64 = coefficients.iter().map(|k| gram[j][*k] * solved[*k]).sum();
            // From derivatives by logarithms of the exponents to those by the exponents.
            complement[i][j] = (gram[i][j] - explained) / (exponents[i] * exponents[j]);
        }
    }
    ratio(&eigenvalues(&complement, form.exponents))
}

fn ratio(values: &[f64]) -> Option<f64> {
    let high = values.iter().copied().fold(0.0, f64::max);
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    (low > 1e-15 * high).then(|| high / low)
}

/// Returns the eigenvalues of the symmetric matrix of the first `n` rows, by Jacobi's rotations.
fn eigenvalues(matrix: &Matrix, n: usize) -> Vec<f64> {
    let mut a = *matrix;
    for _ in 0..60 {
        let mut changed = false;
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 || a[p][q].abs() <= 1e-18 * (a[p][p] * a[q][q]).abs().sqrt() {
                    continue;
                }
                changed = true;
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / t.hypot(1.0);
                let s = t * c;
                for row in &mut a[..n] {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                let (of_p, of_q) = (a[p], a[q]);
                for (k, (x, y)) in of_p.into_iter().zip(of_q).enumerate() {
                    (a[p][k], a[q][k]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
        if !changed {
            break;
        }
    }
    (0..n).map(|i| a[i][i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_are_those_of_a_matrix_with_known_ones() {
        // Rotations of diag(1e8, 3, 1e-4).
        let diagonal = [1e8, 3.0, 1e-4];
        let (c, s) = (0.8, 0.6);
        let rotations = [
            [[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]],
            [[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]],
        ];
        let mut matrix: Matrix = [[0.0; VARIABLES]; VARIABLES];
        for (i, value) in diagonal.into_iter().enumerate() {
            matrix[i][i] = value;
        }
        for rotation in rotations {
            let old = matrix;
            for i in 0..3 {
                for j in 0..3 {
                    matrix[i][j] = 0.0;
                    for k in 0..3 {
                        for l in 0..3 {
                            matrix[i][j] += rotation[i][k] * old[k][l] * rotation[j][l];
                        }
                    }
                }
            }
        }
        let mut values = eigenvalues(&matrix, 3);
        values.sort_by(|a, b| b.total_cmp(a));
        assert!((values[0] / 1e8 - 1.0).abs() < 1e-12, "{values:?}");
        assert!((values[1] / 3.0 - 1.0).abs() < 1e-6, "{values:?}");
    }
}
