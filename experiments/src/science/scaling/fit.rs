//! Fits of a law by variable projection.
//!
//! For given exponents a law is linear in its coefficients. So the exponents are searched on a grid of one or two
//! dimensions, and at each of its points the coefficients follow from non-negative least squares of relative residuals
//! (Golub & Pereyra 1973; for scaling laws Open-Athena 2026). From the best points of the grid, Newton's method with the
//! exact Hessian goes to the minimum of the objective itself, the sum of Huber losses of log residuals: first with a
//! threshold so large that all residuals are in the quadratic part, then with smaller ones down to that of the
//! objective, so that also a threshold near zero, where the objective is a sum of absolute values, has its exact
//! minimum.

use super::form::{COLUMNS, EXPONENTS, Form, Point};
use super::law::{Fitted, Law};
use super::objective::{
    Expansion, Matrix, Sample, VARIABLES, Vector, expand, objective, residuals, solve,
};

/// Bounds of a free exponent. A fit that ends at one has an exponent that the data do not determine.
pub(super) const EXPONENT_BOUNDS: [f64; 2] = [1e-3, 8.0];

/// Exponents of the grid: its ends, and its number of points for each exponent.
const GRID: ([f64; 2], usize) = ([0.03, 2.5], 16);

/// Number of minima of the grid from which Newton's method starts.
const STARTS: usize = 3;

/// Ratio of consecutive thresholds.
const SHRINK: f64 = 0.2;

/// Most steps of Newton's method for a threshold before the last, and for the last.
const STEPS: [usize; 2] = [12, 200];

/// A minimum of the objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Minimum {
    pub point: Point,
    pub objective: f64,
}

/// Fits all parameters of a law. Returns `None` if no start has a finite objective.
pub(super) fn fit(law: Law, sample: &Sample, threshold: f64) -> Option<Minimum> {
    fit_form(&law.form(), sample, threshold)
}

/// Fits a form from the grid.
pub(super) fn fit_form(form: &Form, sample: &Sample, threshold: f64) -> Option<Minimum> {
    let starts = grid_minima(form, sample);
    let minima = starts
        .iter()
        .map(|start| refine(form, sample, start, threshold));
    minima
        .min_by(|a, b| a.objective.total_cmp(&b.objective))
        .filter(|m| m.objective.is_finite())
}

/// Returns the best local minima of the grid of exponents, the lowest first.
fn grid_minima(form: &Form, sample: &Sample) -> Vec<Point> {
    let ([low, high], count) = GRID;
    let step = (high / low).ln() / (count - 1) as f64;
    let v = |index: usize| low.ln() + step * index as f64;
    let columns = if form.exponents > 1 { count } else { 1 };
    let rows = if form.exponents > 0 { count } else { 1 };
    let exponents: Vec<f64> = (0..count).map(v).collect();
    let bases = Bases::new(form, sample, &exponents);
    let mut grid = Vec::with_capacity(rows * columns);
    for i in 0..rows {
        for j in 0..columns {
            grid.push((bases.project(form, sample, [i, j]), [v(i), v(j)]));
        }
    }
    let mut minima = Vec::new();
    for i in 0..rows {
        for j in 0..columns {
            let ((c, value), v) = grid[i * columns + j];
            let is_least = |i: usize, j: usize| grid[i * columns + j].0.1 >= value;
            let near = |at: usize, of: usize| at.saturating_sub(1)..(at + 2).min(of);
            if value.is_finite() && near(i, rows).all(|i| near(j, columns).all(|j| is_least(i, j)))
            {
                minima.push((Point { v, c }, value));
            }
        }
    }
    minima.sort_by(|a, b| a.1.total_cmp(&b.1));
    minima.truncate(STARTS);
    minima.into_iter().map(|(point, _)| point).collect()
}

/// Powers of the variables at the exponents of the grid, divided by the losses that they add up to.
struct Bases<'g> {
    grid: &'g [f64],
    /// Exponentials `exp(-e x)` of column, exponent and row.
    powers: Vec<Vec<Vec<f64>>>,
    /// `exp(-y / q)` by power and row.
    inverse_losses: Vec<Vec<f64>>,
}

impl<'g> Bases<'g> {
    fn new(form: &Form, sample: &Sample, grid: &'g [f64]) -> Self {
        let both = |v: f64| [v; EXPONENTS];
        let powers = form.columns.iter().map(|column| {
            grid.iter()
                .map(|v| {
                    let exponent = column.exponent.value(&both(*v));
                    let power = |x: f64| (-exponent * x).exp();
                    match column.variable {
                        Some(x) => sample.x[x.index()].iter().map(|x| power(*x)).collect(),
                        None => vec![1.0; sample.len()],
                    }
                })
                .collect()
        });
        let powers = powers.collect();
        let inverse_losses = grid.iter().map(|v| {
            let power = form.power.value(&both(*v));
            sample.y.iter().map(|y| (-y / power).exp()).collect()
        });
        Self {
            grid,
            powers,
            inverse_losses: inverse_losses.collect(),
        }
    }

    /// Returns the non-negative coefficients with the least squares of relative residuals, and half the sum of them.
    fn project(&self, form: &Form, sample: &Sample, at: [usize; 2]) -> ([f64; COLUMNS], f64) {
        let index = |exponent: super::form::Exponent| match exponent {
            super::form::Exponent::Free { index, .. } => at[index],
            super::form::Exponent::Fixed(_) => 0,
        };
        let v = [self.grid[at[0]], self.grid[at[1]]];
        let power = form.power.value(&v);
        let inverse = &self.inverse_losses[index(form.power)];
        let powers: Vec<&[f64]> = form
            .columns
            .iter()
            .enumerate()
            .map(|(number, column)| self.powers[number][index(column.exponent)].as_slice())
            .collect();
        let n = form.columns.len();
        let mut gram = [[0.0; COLUMNS]; COLUMNS];
        let mut right = [0.0; COLUMNS];
        let mut total = 0.0;
        for row in 0..sample.len() {
            let weight = sample.weights[row];
            let mut x = [0.0; COLUMNS];
            let mut target = 1.0;
            for number in 0..n {
                x[number] = powers[number][row] * inverse[row];
                if let Some(fixed) = form.columns[number].fixed {
                    target -= fixed * x[number];
                    x[number] = 0.0;
                }
            }
            total += weight * target * target;
            for i in 0..n {
                right[i] += weight * x[i] * target;
                for j in 0..=i {
                    gram[i][j] += weight * x[i] * x[j];
                }
            }
        }
        let free: Vec<usize> = (0..n)
            .filter(|i| form.columns[*i].fixed.is_none())
            .collect();
        let (mut c, explained) = non_negative_least_squares(&gram, &right, &free);
        for (c, column) in c.iter_mut().zip(&form.columns) {
            *c = column.fixed.unwrap_or(*c);
        }
        (c, 0.5 * power * power * (total - explained).max(0.0))
    }
}

/// Returns the `c ≥ 0` with the least `cᵀ G c - 2 cᵀ r`, and `2 cᵀ r - cᵀ G c` of it. `gram` needs its lower triangle
/// only. With three variables at most, each set of positive ones is tried.
fn non_negative_least_squares(
    gram: &[[f64; COLUMNS]; COLUMNS],
    right: &[f64; COLUMNS],
    free: &[usize],
) -> ([f64; COLUMNS], f64) {
    let mut wide: Matrix = [[0.0; VARIABLES]; VARIABLES];
    let mut wide_right: Vector = [0.0; VARIABLES];
    for i in 0..COLUMNS {
        wide_right[i] = right[i];
        for j in 0..=i {
            (wide[i][j], wide[j][i]) = (gram[i][j], gram[i][j]);
        }
    }
    let mut best = ([0.0; COLUMNS], 0.0);
    for subset in 1u32..1 << free.len() {
        let chosen: Vec<usize> = (0..free.len())
            .filter(|bit| subset >> bit & 1 == 1)
            .map(|bit| free[bit])
            .collect();
        let Some(c) = solve(&wide, &wide_right, &chosen) else {
            continue;
        };
        if chosen.iter().any(|i| c[*i] <= 0.0) {
            continue;
        }
        // At the least squares of the chosen variables cᵀ G c = cᵀ r.
        let explained = chosen.iter().map(|i| c[*i] * right[*i]).sum();
        if explained > best.1 {
            best = ([c[0], c[1], c[2]], explained);
        }
    }
    best
}

/// Goes from a start to the minimum of the objective, through falling thresholds.
pub(super) fn refine(form: &Form, sample: &Sample, start: &Point, threshold: f64) -> Minimum {
    let sizes = residuals(form, sample, start).into_iter().map(f64::abs);
    let largest = sizes.fold(0.0, f64::max).min(1.0).max(threshold);
    let mut point = *start;
    let mut now = largest;
    while now > threshold * 1.5 {
        point = newton(form, sample, &point, now, STEPS[0]).point;
        now *= SHRINK;
    }
    newton(form, sample, &point, threshold, STEPS[1])
}

/// Returns the variables that a form has.
fn variables(form: &Form) -> impl Iterator<Item = usize> {
    let coefficients = form.columns.iter().enumerate();
    let free = coefficients.filter(|(_, column)| column.fixed.is_none());
    (0..form.exponents).chain(free.map(|(index, _)| EXPONENTS + index))
}

fn bounds(variable: usize) -> [f64; 2] {
    match variable < EXPONENTS {
        true => EXPONENT_BOUNDS.map(f64::ln),
        false => [0.0, f64::INFINITY],
    }
}

fn get(point: &Point, variable: usize) -> f64 {
    match variable < EXPONENTS {
        true => point.v[variable],
        false => point.c[variable - EXPONENTS],
    }
}

/// Damped Newton's method within the bounds: of `(H + λ Jᵀ J) s = -g`, λ falls after a step that lowers the objective as
/// expected, and grows after one that does not (Levenberg & Marquardt).
fn newton(form: &Form, sample: &Sample, start: &Point, threshold: f64, steps: usize) -> Minimum {
    let mut at = Minimum {
        point: *start,
        objective: objective(form, sample, start, threshold),
    };
    let all: Vec<usize> = variables(form).collect();
    let mut damping = 1e-6;
    let mut rejected = 0;
    let mut expansion = expand(form, sample, &at.point, threshold);
    for _ in 0..steps {
        let free: Vec<usize> = all
            .iter()
            .copied()
            .filter(|variable| {
                let [low, high] = bounds(*variable);
                let (value, slope) = (get(&at.point, *variable), expansion.gradient[*variable]);
                !(value <= low && slope >= 0.0 || value >= high && slope <= 0.0)
            })
            .collect();
        let Some(step) = step(&expansion, &free, damping) else {
            damping = (damping * 10.0).max(1e-8);
            if damping > 1e12 {
                break;
            }
            continue;
        };
        let mut next = at.point;
        for variable in &free {
            let [low, high] = bounds(*variable);
            // An exponent changes at most by a factor of e in a step.
            let change = match *variable < EXPONENTS {
                true => step[*variable].clamp(-1.0, 1.0),
                false => step[*variable],
            };
            let value = (get(&at.point, *variable) + change).clamp(low, high);
            match *variable < EXPONENTS {
                true => next.v[*variable] = value,
                false => next.c[*variable - EXPONENTS] = value,
            }
        }
        let value = objective(form, sample, &next, threshold);
        let expected: f64 = free
            .iter()
            .map(|i| -expansion.gradient[*i] * step[*i])
            .sum::<f64>()
            * 0.5;
        let fallen = at.objective - value;
        if fallen > 0.0 {
            at = Minimum {
                point: next,
                objective: value,
            };
            expansion = expand(form, sample, &at.point, threshold);
            damping = if fallen > 0.25 * expected {
                damping * 0.1
            } else {
                damping * 4.0
            };
            rejected = 0;
            if fallen < 1e-15 * at.objective {
                break;
            }
        } else {
            // Rounding of the objective hides smaller changes.
            if expected <= 1e-16 * at.objective {
                break;
            }
            damping = (damping * 10.0).max(1e-8);
            rejected += 1;
            if rejected > 30 {
                break;
            }
        }
    }
    at
}

/// Returns the step of the damped Newton equations; `None` if they are not positive definite.
fn step(expansion: &Expansion, free: &[usize], damping: f64) -> Option<Vector> {
    let mut matrix = expansion.hessian;
    for i in free {
        for j in free {
            matrix[*i][*j] += damping * expansion.gauss_newton[*i][*j];
        }
        matrix[*i][*i] += damping * 1e-9 * expansion.gauss_newton[*i][*i];
    }
    solve(&matrix, &expansion.gradient.map(|slope| -slope), free)
}

/// Fits the scale of the residuals, too: minimises the negative log-likelihood of residuals whose density is
/// `exp(-huber(r / σ)) / (Z σ)` (Besiroglu et al. 2024). Returns the minimum over the parameters for the threshold `δ σ`,
/// and σ. The threshold of `huber` is `threshold`, in units of σ.
pub(super) fn fit_with_scale(law: Law, sample: &Sample, threshold: f64) -> Option<(Minimum, f64)> {
    let form = law.form();
    let mut minimum = fit(law, sample, threshold)?;
    let mut scale = 1.0;
    for _ in 0..50 {
        let next = best_scale(
            &residuals(&form, sample, &minimum.point),
            &sample.weights,
            threshold,
        );
        let change = (next / scale - 1.0f64).abs();
        scale = next;
        if change < 1e-12 {
            break;
        }
        minimum = refine(&form, sample, &minimum.point, threshold * scale);
    }
    Some((minimum, scale))
}

/// Returns the σ with the least `Σ huber(r / σ) + n ln σ`: where `Σ ψ(r / σ) r / σ = n`, whose left side falls with σ.
pub(super) fn best_scale(residuals: &[f64], weights: &[f64], threshold: f64) -> f64 {
    let count: f64 = weights.iter().sum();
    let excess = |log: f64| {
        let scale = log.exp();
        let terms = residuals.iter().zip(weights).map(|(residual, weight)| {
            let r = residual / scale;
            weight * r * r.clamp(-threshold, threshold)
        });
        terms.sum::<f64>() - count
    };
    let (mut low, mut high) = (-80.0, 20.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        match excess(middle) > 0.0 {
            true => low = middle,
            false => high = middle,
        }
    }
    (0.5f64 * (low + high)).exp()
}

impl Minimum {
    /// Returns the law with its parameters.
    pub(super) fn fitted(&self, law: Law, sample: &Sample) -> Fitted {
        Fitted::of_point(law, &self.point, &sample.means)
    }
}
