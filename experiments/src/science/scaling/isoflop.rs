//! Approaches 1 and 2 of Hoffmann et al. 2022 to the compute-optimal size: the minimum over training curves, and
//! parabolas through runs of equal compute.
//!
//! Approach 2 is biased: a law with `α ≠ β` is no parabola in log N, so that the vertex of one is not its minimum. The
//! bias is computed here for a fitted law on the sizes of the data themselves: the same parabolas through losses without
//! noise, against the exact optimum of the law.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::law::Fitted;
use super::observations::Observation;

/// Largest ratio of FLOPs within a budget.
const BUDGET_WIDTH: f64 = 1.25;

/// Fewest sizes of a budget that has a parabola.
const SIZES: usize = 4;

/// Number of budgets at which training curves are compared, as in Hoffmann et al.
const CURVE_BUDGETS: usize = 1500;

/// The compute-optimal size at a budget.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// Training FLOPs C.
    pub flops: f64,
    /// Parameters N with the lowest loss.
    pub parameters: f64,
    /// Tokens D with them.
    pub tokens: f64,
    /// The lowest loss.
    pub loss: f64,
}

/// A power law through the optima of budgets: `N = k C^a`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frontier {
    /// The exponent a.
    pub exponent: f64,
    /// 95 % interval of the exponent from the scatter of the optima; `None` with fewer than three, or where neighbouring
    /// optima are not independent.
    pub interval: Option<[f64; 2]>,
    /// Logarithm of k.
    pub log_coefficient: f64,
    /// The optima, by FLOPs.
    pub optima: Vec<Optimum>,
}

/// Runs of about the same compute, and the parabola through their losses by log N.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Geometric mean of the FLOPs.
    pub flops: f64,
    /// Indices of the observations.
    pub runs: Vec<usize>,
    /// Coefficients of `L = c_0 + c_1 x + c_2 x²`, with `x = ln N`; `None` with fewer than four sizes.
    pub parabola: Option<[f64; 3]>,
    /// The vertex; `None` unless it is a minimum between the sizes of the budget.
    pub optimum: Option<Optimum>,
}

/// Bias of approach 2 on a law, computed without noise on the sizes of the data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bias {
    /// Exponent of the parabolas' vertices minus that of the law.
    pub exponent: f64,
    /// Parameters at the vertex over those of the exact optimum, minus 1, at the largest budget.
    pub parameters: f64,
    /// Tokens at the vertex over those of the exact optimum, minus 1, at the largest budget.
    pub tokens: f64,
}

/// Approaches 1 and 2 on the same runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Approaches {
    /// Approach 1: the minimum over training curves; `None` if only the ends of runs are known.
    pub curves: Option<Frontier>,
    /// Approach 2: parabolas through runs of equal compute.
    pub parabolas: Option<Frontier>,
    /// The runs by budget.
    pub budgets: Vec<Budget>,
    /// Bias of approach 2 on the fitted law.
    pub bias: Option<Bias>,
}

impl Approaches {
    /// Number of optima of approach 1 that are kept.
    const KEPT: usize = 60;

    pub(super) fn of(observations: &[Observation], fitted: &Fitted) -> Self {
        let losses: Vec<f64> = observations.iter().map(|run| run.loss).collect();
        let budgets = budgets(observations, &losses);
        // The ends of runs are no training curves.
        let has_curves = observations.iter().any(|run| run.curve.len() > 1);
        let mut curves = has_curves.then(|| curve_frontier(observations)).flatten();
        if let Some(frontier) = &mut curves {
            let every = frontier.optima.len().div_ceil(Self::KEPT).max(1);
            frontier.optima = frontier.optima.iter().step_by(every).copied().collect();
        }
        Self {
            curves,
            parabolas: parabola_frontier(&budgets),
            bias: bias(observations, fitted),
            budgets,
        }
    }
}

/// Groups observations into budgets, by FLOPs.
pub(super) fn budgets(observations: &[Observation], losses: &[f64]) -> Vec<Budget> {
    let mut order: Vec<usize> = (0..observations.len()).collect();
    order.sort_by(|a, b| observations[*a].flops.total_cmp(&observations[*b].flops));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match groups.last_mut() {
            Some(group)
                if observations[index].flops <= observations[group[0]].flops * BUDGET_WIDTH =>
            {
                group.push(index);
            }
            _ => groups.push(vec![index]),
        }
    }
    groups
        .into_iter()
        .map(|runs| budget(observations, losses, runs))
        .collect()
}

fn budget(observations: &[Observation], losses: &[f64], runs: Vec<usize>) -> Budget {
    let logs = runs.iter().map(|run| observations[*run].flops.ln());
    let flops = (logs.sum::<f64>() / runs.len() as f64).exp();
    let mut sizes: Vec<f64> = runs
        .iter()
        .map(|run| observations[*run].parameters.ln())
        .collect();
    let points: Vec<(f64, f64)> = sizes
        .iter()
        .copied()
        .zip(runs.iter().map(|run| losses[*run]))
        .collect();
    sizes.sort_by(f64::total_cmp);
    let ends = [sizes[0], sizes[sizes.len() - 1]];
    sizes.dedup_by(|a, b| (*a - *b).abs() < 1e-3);
    let parabola = (sizes.len() >= SIZES).then(|| parabola(&points)).flatten();
    let optimum = parabola.and_then(|[c0, c1, c2]| {
        let vertex = -c1 / (2.0 * c2);
        let inside = c2 > 0.0 && ends[0] < vertex && vertex < ends[1];
        let parameters = vertex.exp();
        inside.then(|| Optimum {
            flops,
            parameters,
            tokens: flops / (6.0 * parameters),
            loss: c0 + vertex * (c1 + c2 * vertex),
        })
    });
    Budget {
        flops,
        runs,
        parabola,
        optimum,
    }
}

/// Returns the parabola of least squares.
fn parabola(points: &[(f64, f64)]) -> Option<[f64; 3]> {
    let count = points.len() as f64;
    let mean = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mut matrix = [[0.0; 5]; 5];
    let mut right = [0.0; 5];
    for (x, y) in points {
        let powers = [1.0, x - mean, (x - mean) * (x - mean)];
        for i in 0..3 {
            right[i] += powers[i] * y;
            for j in 0..3 {
                matrix[i][j] += powers[i] * powers[j];
            }
        }
    }
    let [c0, c1, c2, ..] = super::objective::solve(&matrix, &right, &[0, 1, 2])?;
    Some([c0 - c1 * mean + c2 * mean * mean, c1 - 2.0 * c2 * mean, c2])
}

/// Fits `N = k C^a` to the vertices of the budgets; `None` with fewer than two.
pub(super) fn parabola_frontier(budgets: &[Budget]) -> Option<Frontier> {
    frontier(
        budgets.iter().filter_map(|budget| budget.optimum).collect(),
        true,
    )
}

/// Fits `N = k C^a` to optima by least squares of logarithms.
fn frontier(optima: Vec<Optimum>, independent: bool) -> Option<Frontier> {
    let count = optima.len() as f64;
    let points = || {
        optima
            .iter()
            .map(|optimum| (optimum.flops.ln(), optimum.parameters.ln()))
    };
    let mean_x = points().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points().map(|(_, y)| y).sum::<f64>() / count;
    let xx: f64 = points().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
    let xy: f64 = points().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    if optima.len() < 2 || xx < 1e-6 {
        return None;
    }
    let exponent = xy / xx;
    let interval = (independent && optima.len() > 2).then(|| {
        let squares: f64 = points()
            .map(|(x, y)| (y - mean_y - exponent * (x - mean_x)).powi(2))
            .sum();
        let freedom = count - 2.0;
        let student = StudentsT::new(0.0, 1.0, freedom).expect("there is a degree of freedom");
        let margin = student.inverse_cdf(0.975) * (squares / freedom / xx).sqrt();
        [exponent - margin, exponent + margin]
    });
    Some(Frontier {
        exponent,
        interval,
        log_coefficient: mean_y - exponent * mean_x,
        optima,
    })
}

/// Computes the bias of approach 2 on a law, on the sizes and budgets of the data; `None` unless two budgets have a
/// vertex without noise.
pub(super) fn bias(observations: &[Observation], fitted: &Fitted) -> Option<Bias> {
    let losses: Vec<f64> = observations
        .iter()
        .map(|run| fitted.loss(run.parameters, run.tokens, run.flops))
        .collect();
    let frontier = parabola_frontier(&budgets(observations, &losses))?;
    let last = frontier.optima.last()?;
    let exact = |optimum: &Optimum| fitted.optimum(optimum.flops);
    let (parameters, tokens) = exact(last)?;
    let exact_optima = frontier.optima.iter().filter_map(|optimum| {
        let (parameters, tokens) = exact(optimum)?;
        Some(Optimum {
            parameters,
            tokens,
            ..*optimum
        })
    });
    let exact = self::frontier(exact_optima.collect(), false)?;
    Some(Bias {
        exponent: frontier.exponent - exact.exponent,
        parameters: last.parameters / parameters - 1.0,
        tokens: last.tokens / tokens - 1.0,
    })
}

/// Approach 1: at each of 1500 budgets, the size whose training curve is lowest there. A curve is a run's evaluations, or
/// the runs of one size at several budgets. `None` with fewer than two different optima.
pub(super) fn curve_frontier(observations: &[Observation]) -> Option<Frontier> {
    let curves = curves(observations);
    let all = || curves.iter().flat_map(|(_, curve)| curve.iter());
    let low = all().map(|(flops, _)| *flops).fold(f64::INFINITY, f64::min);
    let high = all()
        .map(|(flops, _)| *flops)
        .fold(f64::NEG_INFINITY, f64::max);
    let mut optima: Vec<Optimum> = Vec::new();
    for index in 0..CURVE_BUDGETS {
        let log = low + (high - low) * index as f64 / (CURVE_BUDGETS - 1) as f64;
        let losses = curves
            .iter()
            .filter_map(|(parameters, curve)| Some((*parameters, interpolate(curve, log)?)));
        let Some((parameters, loss)) = losses.min_by(|a, b| a.1.total_cmp(&b.1)) else {
            continue;
        };
        let flops = log.exp();
        optima.push(Optimum {
            flops,
            parameters,
            tokens: flops / (6.0 * parameters),
            loss: loss.exp(),
        });
    }
    let varies = optima
        .windows(2)
        .any(|pair| pair[0].parameters != pair[1].parameters);
    // Neighbouring budgets share their curve, so their scatter says little.
    varies.then(|| frontier(optima, false)).flatten()
}

/// Logarithms of FLOPs and losses along a training curve, by FLOPs.
type Curve = Vec<(f64, f64)>;

fn curves(observations: &[Observation]) -> Vec<(f64, Curve)> {
    let mut curves: Vec<(f64, Curve)> = Vec::new();
    let mut by_size: Vec<&Observation> = Vec::new();
    for run in observations {
        match run.curve.len() {
            0 | 1 => by_size.push(run),
            _ => {
                let curve = run
                    .curve
                    .iter()
                    .map(|(flops, loss)| (flops.ln(), loss.ln()));
                curves.push((run.parameters, curve.collect()));
            }
        }
    }
    by_size.sort_by(|a, b| a.parameters.total_cmp(&b.parameters));
    let same = |a: &&Observation, b: &&Observation| (b.parameters / a.parameters).ln() < 0.01;
    for runs in by_size.chunk_by(|a, b| same(a, b)) {
        let curve = runs.iter().map(|run| (run.flops.ln(), run.loss.ln()));
        curves.push((runs[0].parameters, curve.collect()));
    }
    for (_, curve) in &mut curves {
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

/// Returns the log loss of a curve between its ends.
fn interpolate(curve: &Curve, log_flops: f64) -> Option<f64> {
    let after = curve.partition_point(|(x, _)| *x < log_flops);
    let (x1, y1) = *curve.get(after)?;
    let Some((x0, y0)) = after.checked_sub(1).map(|before| curve[before]) else {
        return (x1 == log_flops).then_some(y1);
    };
    let share = if x1 > x0 {
        (log_flops - x0) / (x1 - x0)
    } else {
        1.0
    };
    Some(y0 + share * (y1 - y0))
}
