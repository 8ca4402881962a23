//! The classical route to a fit of Chinchilla's law: L-BFGS in the logarithms of the coefficients from a grid of starts
//! (Hoffmann et al. 2022, appendix D.3).
//!
//! It minimises the same objective as variable projection, about a thousand times slower, and is here to check it.

use std::convert::Infallible;

use basin::{CostFunction, Executor, FirstOrderState, Gradient, Lbfgs};
use rayon::prelude::*;

use super::fit::Minimum;
use super::law::{Fitted, Law};
use super::objective::{Sample, huber, objective};

/// Most steps of L-BFGS from a start, and from one of the best ends of these.
const STEPS: [u64; 2] = [150, 5000];

/// Number of ends that are continued.
const CONTINUED: usize = 16;

/// Euclidean norm of the gradient of the scaled objective at which L-BFGS stops.
const TOLERANCE: f64 = 1e-8;

/// The objective by `ln A, ln B, ln E, α, β`, divided by the square of the threshold and the number of observations:
/// unscaled, its gradients are so small that an optimiser stops early (Besiroglu et al. 2024).
struct LogParameters<'s> {
    sample: &'s Sample,
    threshold: f64,
}

impl LogParameters<'_> {
    /// Returns the objective and its gradient.
    fn evaluate(&self, x: &[f64]) -> (f64, [f64; 5]) {
        let [parameters, tokens, _] = &self.sample.x;
        let (mut sum, mut gradient) = (0.0, [0.0; 5]);
        for (row, y) in self.sample.y.iter().enumerate() {
            let logs = [
                x[0] - x[3] * parameters[row],
                x[1] - x[4] * tokens[row],
                x[2],
            ];
            let largest = logs[0].max(logs[1]).max(logs[2]);
            let terms = logs.map(|log| (log - largest).exp());
            let total = terms[0] + terms[1] + terms[2];
            let residual = y - largest - total.ln();
            let weight = self.sample.weights[row];
            sum += weight * huber(residual, self.threshold);
            let slope = -weight * residual.clamp(-self.threshold, self.threshold);
            for (gradient, term) in gradient.iter_mut().zip(terms) {
                *gradient += slope * term / total;
            }
            gradient[3] -= slope * terms[0] / total * parameters[row];
            gradient[4] -= slope * terms[1] / total * tokens[row];
        }
        let scale = 1.0 / (self.threshold * self.threshold * self.sample.len() as f64);
        (sum * scale, gradient.map(|slope| slope * scale))
    }
}

impl CostFunction for LogParameters<'_> {
    type Param = Vec<f64>;
    type Output = f64;
    type Error = Infallible;

    fn cost(&self, x: &Vec<f64>) -> Result<f64, Infallible> {
        Ok(self.evaluate(x).0)
    }
}

impl Gradient for LogParameters<'_> {
    type Gradient = Vec<f64>;

    fn gradient(&self, x: &Vec<f64>) -> Result<Vec<f64>, Infallible> {
        Ok(self.evaluate(x).1.into())
    }
}

/// Returns the 4500 starts of Hoffmann et al.: `ln A` and `ln B` of 0, 5, …, 25, `ln E` of -1, -0.5, …, 1, and exponents
/// of 0, 0.5, …, 2.
fn starts() -> Vec<[f64; 5]> {
    let range = |from: f64, step: f64, count: usize| {
        (0..count).map(move |index| from + step * index as f64)
    };
    let mut starts = Vec::new();
    for a in range(0.0, 5.0, 6) {
        for b in range(0.0, 5.0, 6) {
            for e in range(-1.0, 0.5, 5) {
                for alpha in range(0.0, 0.5, 5) {
                    starts.extend(range(0.0, 0.5, 5).map(|beta| [a, b, e, alpha, beta]));
                }
            }
        }
    }
    starts
}

/// Fits Chinchilla's law from the grid of starts, of which every `every`-th is taken. Returns the best minimum; `None` if
/// no start ends at a finite objective with positive parameters.
pub(super) fn fit(sample: &Sample, threshold: f64, every: usize) -> Option<Minimum> {
    let form = Law::Chinchilla.form();
    let [mean_n, mean_d, _] = sample.means;
    let from = |start: Vec<f64>, steps: u64| {
        let problem = LogParameters { sample, threshold };
        let solver = Lbfgs::new()
            .unbounded()
            .with_absolute_gradient_tolerance(TOLERANCE);
        let state = FirstOrderState::new(start);
        let executor = Executor::new(problem, solver, state).max_iter(steps);
        let result = executor.run().ok()?;
        let end = result.param().clone();
        let value = LogParameters { sample, threshold }.evaluate(&end).0;
        value.is_finite().then_some((end, value))
    };
    // Variables are centred here and not in the grid.
    let centred = |[a, b, e, alpha, beta]: [f64; 5]| {
        vec![a - alpha * mean_n, b - beta * mean_d, e, alpha, beta]
    };
    let starts = starts();
    let starts = starts.par_iter().step_by(every);
    let mut ends: Vec<_> = starts
        .filter_map(|start| from(centred(*start), STEPS[0]))
        .collect();
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    ends.truncate(CONTINUED);
    let continued = ends
        .into_par_iter()
        .filter_map(|(end, _)| from(end, STEPS[1]));
    let minimum = |(x, _): (Vec<f64>, f64)| {
        let fitted = Fitted::new(
            Law::Chinchilla,
            &[
                x[2].exp(),
                (x[0] + x[3] * mean_n).exp(),
                (x[1] + x[4] * mean_d).exp(),
                x[3],
                x[4],
            ],
        );
        let mut values = fitted.values.iter();
        let is_law = values.all(|value| value.is_finite() && *value > 0.0);
        let point = is_law.then(|| fitted.point(&sample.means))?;
        let objective = objective(&form, sample, &point, threshold);
        objective
            .is_finite()
            .then_some(Minimum { point, objective })
    };
    continued
        .filter_map(minimum)
        .min_by(|a, b| a.objective.total_cmp(&b.objective))
}
