//! Confidence intervals of what a fit determines.
//!
//! A value of a quantity belongs to the interval unless holding it there raises the objective too much: the interval has
//! the values `q` with `objective(q) / objective - 1 ≤ k`, where `objective(q)` is the minimum over all other
//! parameters. The profile follows the curvature of the law, and does not depend on how a quantity is parametrised. `k`
//! is not taken from a table, because the Huber loss is not the log-likelihood of the noise: it is the 95 % quantile of
//! the same ratio over samples that are drawn from the fitted law with noise like that of its residuals, where the true
//! value is known ([`Noise`]). An interval is unbounded where the ratio stays below `k`: the data do not determine the
//! quantity.
//!
//! Beside it stands the bootstrap over runs (Efron 1979), which draws groups of runs with replacement, seeds kept
//! together: its standard errors and its covariance.

use rayon::prelude::*;

use super::fit::{EXPONENT_BOUNDS, Minimum, fit_form, refine};
use super::form::{Form, Point};
use super::law::{Fitted, Law, Quantity};
use super::noise::Noise;
use super::objective::{Sample, residuals};
use crate::science::random::Random;

/// Share of intervals that contain the true value.
pub const LEVEL: f64 = 0.95;

/// How a sample is fitted, and what came out.
#[derive(Debug, Clone)]
pub(super) struct Problem<'s> {
    pub law: Law,
    pub sample: &'s Sample,
    /// Indices of the observations of each group: runs that differ only in their seed.
    pub groups: &'s [Vec<usize>],
    pub threshold: f64,
    pub minimum: Minimum,
}

/// A fit of a drawn sample.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draw {
    pub fitted: Fitted,
    /// For each of the profiled quantities, how much holding it at its true value raises the objective, as a share.
    pub ratios: Vec<f64>,
}

/// Samples drawn from the fitted law, and their fits.
#[derive(Debug, Clone)]
pub(super) struct Calibration {
    pub noise: Noise,
    pub quantities: Vec<Quantity>,
    pub draws: Vec<Draw>,
}

impl Problem<'_> {
    pub(super) fn fitted(&self) -> Fitted {
        self.minimum.fitted(self.law, self.sample)
    }

    /// Draws samples from the fitted law and fits each of them.
    pub(super) fn calibrate(&self, count: usize, seed: u64) -> Calibration {
        let form = self.law.form();
        let fitted = self.fitted();
        let residuals = residuals(&form, self.sample, &self.minimum.point);
        let noise = Noise::estimate(&form, self.sample, &self.minimum.point, self.groups);
        let quantities: Vec<Quantity> = self
            .law
            .quantities()
            .filter(|quantity| !quantity.is_scale())
            .collect();
        let restricted: Vec<_> = quantities
            .iter()
            .map(|quantity| self.restricted(*quantity, fitted.get(*quantity)?, &self.minimum.point))
            .collect();
        let draw = |number: usize| {
            let mut random = Random::stream(seed, number as u64);
            let mut sample = self.sample.clone();
            let noise = noise.draw(&sample, self.groups, &mut random);
            for ((y, residual), noise) in sample.y.iter_mut().zip(&residuals).zip(noise) {
                *y += noise - residual;
            }
            let full = refine(&form, &sample, &self.minimum.point, self.threshold);
            let ratio = |restricted: &Option<(Form, Point)>| {
                let Some((form, start)) = restricted else {
                    return f64::NAN;
                };
                let held = refine(form, &sample, start, self.threshold);
                excess(held.objective, full.objective).max(0.0)
            };
            Draw {
                fitted: full.fitted(self.law, &sample),
                ratios: restricted.iter().map(ratio).collect(),
            }
        };
        let draws = (0..count).into_par_iter().map(draw).collect();
        Calibration {
            noise,
            quantities,
            draws,
        }
    }

    /// Returns the form with a quantity held at a value, and a start near `point`.
    fn restricted(&self, quantity: Quantity, value: f64, point: &Point) -> Option<(Form, Point)> {
        let form = self.law.form_with(quantity, value)?;
        let start = restrict(self.law, quantity, value, point);
        Some((form, start))
    }

    /// Returns the ends of the interval of a quantity: the values at which the objective exceeds its minimum by the share
    /// `allowed`. `None` for an end that the data do not determine.
    pub(super) fn profile_interval(&self, quantity: Quantity, allowed: f64) -> [Option<f64>; 2] {
        let Some(centre) = self.fitted().get(quantity) else {
            return [None; 2];
        };
        [-1.0, 1.0].map(|direction| self.profile_end(quantity, centre, direction, allowed))
    }

    fn profile_end(
        &self,
        quantity: Quantity,
        centre: f64,
        direction: f64,
        allowed: f64,
    ) -> Option<f64> {
        let [low, high] = domain(quantity);
        let mut last = centre;
        let mut point = self.minimum.point;
        let probe = |value: f64, from: &Point| {
            let (form, start) = self.restricted(quantity, value, from)?;
            let mut minimum = refine(&form, self.sample, &start, self.threshold);
            if excess(minimum.objective, self.minimum.objective) > allowed {
                // A search from afar must not end an interval early.
                let elsewhere = fit_form(&form, self.sample, self.threshold)?;
                if elsewhere.objective < minimum.objective {
                    minimum = elsewhere;
                }
            }
            let released = self.law.release(&form, &minimum.point);
            Some((
                excess(minimum.objective, self.minimum.objective) - allowed,
                released,
            ))
        };
        let mut step = 0.02 * centre.abs().max(1e-3);
        let mut last_excess = -allowed;
        let mut outside = None;
        for _ in 0..60 {
            let next = (last + direction * step).clamp(low, high);
            let (value, found) = probe(next, &point)?;
            if value > 0.0 {
                outside = Some((next, value));
                break;
            }
            if next <= low || next >= high {
                return None;
            }
            (last, last_excess, point) = (next, value, found);
            step *= 1.6;
        }
        let (mut far, mut far_excess) = outside?;
        // The ratio grows with about the square of the distance, or with the distance: the secant, kept inside by a share.
        for _ in 0..30 {
            if (far - last).abs() <= 1e-5 * centre.abs().max(1e-6) {
                break;
            }
            let share = (-last_excess / (far_excess - last_excess)).clamp(0.1, 0.9);
            let next = last + share * (far - last);
            let (value, found) = probe(next, &point)?;
            match value > 0.0 {
                true => (far, far_excess) = (next, value),
                false => (last, last_excess, point) = (next, value, found),
            }
        }
        Some(0.5 * (last + far))
    }

    /// Fits samples of groups that are drawn with replacement.
    pub(super) fn bootstrap(&self, count: usize, seed: u64) -> Vec<Fitted> {
        let form = self.law.form();
        let draw = |number: usize| {
            let mut random = Random::stream(seed, (1 << 32) + number as u64);
            let mut sample = self.sample.clone();
            sample.weights.fill(0.0);
            for _ in 0..self.groups.len() {
                for i in &self.groups[random.index(self.groups.len())] {
                    sample.weights[*i] += 1.0;
                }
            }
            refine(&form, &sample, &self.minimum.point, self.threshold).fitted(self.law, &sample)
        };
        (0..count).into_par_iter().map(draw).collect()
    }
}

/// Returns by which share an objective exceeds its minimum. A minimum that is rounding only counts as a small one.
fn excess(objective: f64, minimum: f64) -> f64 {
    const ROUNDING: f64 = 1e-20;
    (objective - minimum) / minimum.max(ROUNDING)
}

/// Returns the values that a quantity can have in a fit.
fn domain(quantity: Quantity) -> [f64; 2] {
    match quantity {
        Quantity::E => [0.0, f64::MAX],
        Quantity::OptimalExponent => [1e-3, 1.0 - 1e-3],
        _ => EXPONENT_BOUNDS,
    }
}

/// Returns a point of the restricted form near a point of the free one.
fn restrict(law: Law, quantity: Quantity, value: f64, point: &Point) -> Point {
    let [first, second] = point.v;
    let mut start = *point;
    match (law, quantity) {
        (_, Quantity::E) => start.c[0] = value,
        (Law::Chinchilla, Quantity::Alpha) => start.v = [second, 0.0],
        // α + β stays.
        (Law::Chinchilla, Quantity::OptimalExponent) => {
            start.v = [(first.exp() + second.exp()).ln(), 0.0];
        }
        (Law::Kaplan, Quantity::AlphaN | Quantity::OptimalExponent) => start.v = [second, 0.0],
        _ => {}
    }
    start
}

impl Calibration {
    /// Returns the share by which the objective may exceed its minimum within the interval of a quantity.
    pub(super) fn allowed(&self, quantity: Quantity) -> Option<f64> {
        let index = self
            .quantities
            .iter()
            .position(|other| *other == quantity)?;
        let ratios = self.draws.iter().map(|draw| draw.ratios[index]);
        quantile(ratios.filter(|ratio| ratio.is_finite()).collect(), LEVEL)
    }
}

/// Returns the quantile of values such that a further one is below it with this probability: the value of rank
/// `share · (n + 1)`, interpolated. `None` without values.
pub(super) fn quantile(mut values: Vec<f64>, share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let rank = (share * (values.len() as f64 + 1.0) - 1.0).clamp(0.0, last as f64);
    let (below, part) = (rank.floor() as usize, rank.fract());
    let above = values[(below + 1).min(last)];
    Some(values[below] + part * (above - values[below]))
}
