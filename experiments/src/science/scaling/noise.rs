//! The noise of losses around a fitted law, estimated from the residuals, and samples with new noise.
//!
//! Runs that differ only in their seed are a group. What all runs of a group have in common is the error of the law and
//! of the data's order; what they differ in is seed noise, which is measured where a group has several runs. Both may be
//! larger for some sizes than for others: their size is a power law in the law's variables, fitted to the sizes of the
//! residuals. New samples draw from smoothed residuals: a residual of the pool plus a normal kernel, scaled back to the
//! variance of the pool (Silverman & Young 1987). Without smoothing, the residuals of 0 that a fit with absolute values
//! goes through would make the samples too easy.

use serde::{Deserialize, Serialize};

use super::form::{Form, Point};
use super::objective::{Matrix, Sample, VARIABLES, Vector, jacobian, residuals, solve};
use crate::science::random::Random;

/// Weight of the penalty on the exponents of the noise's size: a normal distribution of standard deviation 0.3 before
/// any residual is seen.
const PENALTY: f64 = 1.0 / (0.3 * 0.3);

/// Largest leverage of a group, so that a point that the fit must go through does not have infinite noise.
const LARGEST_LEVERAGE: f64 = 0.9;

/// The noise of log losses around the law, at the centre of the data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoiseSummary {
    /// Standard deviation of a run.
    pub deviation: f64,
    /// Standard deviation between seeds; `None` if no two runs differ in their seed only.
    pub seeds: Option<f64>,
    /// Exponents with which the noise changes with N, D and C.
    pub exponents: [f64; 3],
}

/// Distribution of the noise of log losses.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Noise {
    /// Standard deviation of what the runs of a group share.
    between: f64,
    /// Standard deviation between seeds; `None` if no group has two runs.
    within: Option<f64>,
    shared: Pool,
    seeds: Pool,
    size: Size,
}

/// Residuals with a mean square of 1.
#[derive(Debug, Clone, PartialEq)]
struct Pool {
    values: Vec<f64>,
    bandwidth: f64,
}

impl Pool {
    fn new(mut values: Vec<f64>) -> Self {
        let size = mean_square(&values).sqrt();
        if size > 0.0 {
            values.iter_mut().for_each(|value| *value /= size);
        }
        Self {
            bandwidth: 1.06 * (values.len().max(1) as f64).powf(-0.2),
            values,
        }
    }

    fn draw(&self, random: &mut Random) -> f64 {
        let residual = self.values[random.index(self.values.len())];
        (residual + self.bandwidth * random.normal())
            / (1.0 + self.bandwidth * self.bandwidth).sqrt()
    }
}

fn mean_square(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| value * value).sum();
    squares / values.len().max(1) as f64
}

/// Size of the noise relative to that at the centre of the data: a power law in N, D and C.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Size {
    exponents: [f64; 3],
    /// Range of the logarithms of each variable in the data.
    range: [[f64; 2]; 3],
}

impl Size {
    /// Fits the size to residuals as if these had Laplace's distribution: minimises `Σ |r| / s + ln s` for
    /// `ln s = γ_0 + γ · x`, by Newton's method, over the variables that the form has.
    fn fit(form: &Form, sample: &Sample, residuals: &[f64]) -> Self {
        let range = [0, 1, 2].map(|variable| {
            let values = sample.x[variable].iter();
            values.fold([0.0f64, 0.0f64], |[low, high], x| {
                [low.min(*x), high.max(*x)]
            })
        });
        let mut used = [false; 3];
        for variable in form.columns.iter().filter_map(|column| column.variable) {
            used[variable.index()] = true;
        }
        let free: Vec<usize> = (0..4).filter(|i| *i == 3 || used[*i]).collect();
        let mean = residuals.iter().map(|r| r.abs()).sum::<f64>() / residuals.len() as f64;
        let mut size = Self {
            exponents: [0.0; 3],
            range,
        };
        if mean == 0.0 {
            return size;
        }
        let mut intercept = mean.ln();
        for _ in 0..50 {
            let mut gradient: Vector = [0.0; VARIABLES];
            let mut hessian: Matrix = [[0.0; VARIABLES]; VARIABLES];
            for (row, residual) in residuals.iter().enumerate() {
                let x = [sample.x[0][row], sample.x[1][row], sample.x[2][row], 1.0];
                let log = intercept + (0..3).map(|i| size.exponents[i] * x[i]).sum::<f64>();
                let share = residual.abs() * (-log).exp();
                for i in 0..4 {
                    gradient[i] += (1.0 - share) * x[i];
                    for j in 0..4 {
                        // The expected Hessian, which is positive definite.
                        hessian[i][j] += x[i] * x[j];
                    }
                }
            }
            for i in 0..3 {
                gradient[i] += PENALTY * size.exponents[i];
                hessian[i][i] += PENALTY;
            }
            let Some(step) = solve(&hessian, &gradient.map(|slope| -slope), &free) else {
                break;
            };
            intercept += step[3].clamp(-1.0, 1.0);
            for (exponent, step) in size.exponents.iter_mut().zip(step) {
                *exponent += step.clamp(-0.5, 0.5);
            }
            if free.iter().all(|i| step[*i].abs() < 1e-10) {
                break;
            }
        }
        size
    }

    /// Returns the size at centred logarithms, which are moved into the range of the data.
    fn at(&self, x: [f64; 3]) -> f64 {
        let terms =
            (0..3).map(|i| self.exponents[i] * x[i].clamp(self.range[i][0], self.range[i][1]));
        terms.sum::<f64>().exp()
    }
}

impl Noise {
    /// Estimates the noise from the residuals of a fit. `groups` has the indices of the observations of each group.
    ///
    /// The variance of a residual is smaller than that of the noise by its leverage, the diagonal of
    /// `J (Jᵀ J)⁻¹ Jᵀ`, which is corrected for each group.
    pub(super) fn estimate(
        form: &Form,
        sample: &Sample,
        point: &Point,
        groups: &[Vec<usize>],
    ) -> Self {
        let mut residuals = residuals(form, sample, point);
        let leverages = leverages(form, sample, point);
        for group in groups {
            let leverage: f64 = group.iter().map(|i| leverages[*i]).sum();
            let factor = (1.0 - leverage.min(LARGEST_LEVERAGE)).sqrt();
            group.iter().for_each(|i| residuals[*i] /= factor);
        }
        let size = Size::fit(form, sample, &residuals);
        let row = |i: usize| [sample.x[0][i], sample.x[1][i], sample.x[2][i]];
        for (i, residual) in residuals.iter_mut().enumerate() {
            *residual /= size.at(row(i));
        }
        let (mut shared, mut seeds) = (Vec::new(), Vec::new());
        let (mut squares, mut inverse_sizes) = (0.0, 0.0);
        for group in groups {
            let count = group.len() as f64;
            let mean = group.iter().map(|i| residuals[*i]).sum::<f64>() / count;
            shared.push(mean);
            inverse_sizes += 1.0 / count;
            if group.len() > 1 {
                // The correction is that of the mean, which the law explains in part. Differences it does not explain.
                let leverage: f64 = group.iter().map(|i| leverages[*i]).sum();
                let factor = (1.0 - leverage.min(LARGEST_LEVERAGE)).sqrt();
                for i in group {
                    let difference = (residuals[*i] - mean) * factor;
                    squares += difference * difference;
                    // Differences from a mean of their own are smaller than the noise.
                    seeds.push(difference * (count / (count - 1.0)).sqrt());
                }
            }
        }
        let of_shared = mean_square(&shared);
        // A fit with absolute values goes through about as many points as it has parameters. Without these the density
        // of the pool at 0, which decides how precise such a fit is, is that of the noise.
        shared.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
        let parameters = form.exponents + form.columns.len();
        if shared.len() > 3 * parameters {
            shared.drain(..parameters);
        }
        let freedom = residuals.len() - groups.len();
        let within = (freedom > 0).then(|| (squares / freedom as f64).sqrt());
        let of_seeds = within.unwrap_or(0.0).powi(2) * inverse_sizes / groups.len() as f64;
        Self {
            between: (of_shared - of_seeds).max(0.0).sqrt(),
            within,
            shared: Pool::new(shared),
            seeds: Pool::new(seeds),
            size,
        }
    }

    /// Returns the noise of every observation of a new sample.
    pub(super) fn draw(
        &self,
        sample: &Sample,
        groups: &[Vec<usize>],
        random: &mut Random,
    ) -> Vec<f64> {
        let mut noise = vec![0.0; sample.len()];
        for group in groups {
            let shared = self.between * self.shared.draw(random);
            for i in group {
                let x = [sample.x[0][*i], sample.x[1][*i], sample.x[2][*i]];
                noise[*i] = self.size.at(x) * (shared + self.seed(random));
            }
        }
        noise
    }

    /// Returns the noise of a new run, given its centred logarithms of N, D and C.
    pub(super) fn draw_one(&self, x: [f64; 3], random: &mut Random) -> f64 {
        self.size.at(x) * (self.between * self.shared.draw(random) + self.seed(random))
    }

    fn seed(&self, random: &mut Random) -> f64 {
        self.within
            .map_or(0.0, |within| within * self.seeds.draw(random))
    }

    /// Returns the noise at the centre of the data.
    pub(super) fn summary(&self) -> NoiseSummary {
        NoiseSummary {
            deviation: self.between.hypot(self.within.unwrap_or(0.0)),
            seeds: self.within,
            exponents: self.size.exponents,
        }
    }
}

/// Returns the leverage of each observation; 0 where the data do not determine all parameters.
fn leverages(form: &Form, sample: &Sample, point: &Point) -> Vec<f64> {
    let rows = jacobian(form, sample, point);
    let mut gram: Matrix = [[0.0; VARIABLES]; VARIABLES];
    for row in &rows {
        for i in 0..VARIABLES {
            for j in 0..VARIABLES {
                gram[i][j] += row[i] * row[j];
            }
        }
    }
    let free: Vec<usize> = (0..VARIABLES).filter(|i| gram[*i][*i] > 0.0).collect();
    let leverage = |row: &Vector| {
        let solved = solve(&gram, row, &free)?;
        Some(row.iter().zip(solved).map(|(a, b)| a * b).sum())
    };
    rows.iter()
        .map(|row| leverage(row).unwrap_or(0.0))
        .collect()
}
