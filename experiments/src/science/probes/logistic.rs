//! Fit of accuracy by bits per byte: the second step of predicting a task from its likelihoods.
//!
//! `accuracy = a / (1 + e^{-k (L - L0)}) + b`, where `L` is the bits per byte of the right answers (Bhagia et al. 2024,
//! "Establishing Task Scaling Laws via Compute-Efficient Model Ladders", arXiv 2412.04403). `b` is the accuracy of a model
//! that knows nothing, `a + b` that of one that knows everything, and `k` is negative, because accuracy falls as `L` rises.
//!
//! For given `k` and `L0` the curve is linear in `a` and `b`. So these follow from least squares with `0 ≤ b`,
//! `0 ≤ a` and `a + b ≤ 1`, and the other two are searched on a grid that closes in on the best point.

use serde::{Deserialize, Serialize};

/// Points of the grid in each direction: at first, and when it closes in.
const GRID: [usize; 2] = [24, 7];

/// Grids after the first one, each this share as wide as the one before.
const ROUNDS: usize = 14;
const SHRINK: f64 = 0.5;

/// Steepness `-k` times the range of `L`, from the least to the greatest.
const STEEPNESS: [f64; 2] = [1.0, 200.0];

/// Number of parameters.
pub(super) const PARAMETERS: usize = 4;

/// A fitted curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// Rise from the accuracy without knowledge.
    pub a: f64,
    /// Steepness, in inverse bits per byte, at most 0.
    pub k: f64,
    /// Bits per byte in the middle of the rise.
    pub l0: f64,
    /// Accuracy without knowledge.
    pub b: f64,
}

impl Logistic {
    /// Returns the accuracy at some bits per byte.
    pub fn accuracy(&self, bits_per_byte: f64) -> f64 {
        self.a * share(self.k, self.l0, bits_per_byte) + self.b
    }

    /// Fits points of bits per byte and accuracy by least squares; `None` for fewer points than parameters, or if all bits
    /// per byte are equal.
    pub(super) fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let of = |select: fn(f64, f64) -> f64, start| {
            points.iter().map(|point| point.0).fold(start, select)
        };
        let (low, high) = (of(f64::min, f64::INFINITY), of(f64::max, f64::NEG_INFINITY));
        let range = high - low;
        if points.len() < PARAMETERS || !range.is_finite() || range <= 0.0 {
            return None;
        }
        // Ends of the grid of L0 and of ln(-k · range).
        let mut ends = [
            [low - 0.5 * range, high + 0.5 * range],
            STEEPNESS.map(f64::ln),
        ];
        let mut best = (f64::INFINITY, [0.0; 2], [0.0; 2]);
        for round in 0..=ROUNDS {
            let count = GRID[usize::from(round > 0)];
            let at = |[low, high]: [f64; 2], index: usize| {
                low + (high - low) * index as f64 / (count - 1) as f64
            };
            for i in 0..count {
                for j in 0..count {
                    let place = [at(ends[0], i), at(ends[1], j)];
                    let (error, linear) = project(points, -place[1].exp() / range, place[0]);
                    if error < best.0 {
                        best = (error, place, linear);
                    }
                }
            }
            let factor = if round == 0 {
                2.0 / (count - 1) as f64
            } else {
                SHRINK
            };
            for (ends, middle) in ends.iter_mut().zip(best.1) {
                let half = 0.5 * factor * (ends[1] - ends[0]);
                *ends = [middle - half, middle + half];
            }
        }
        let (_, [l0, steepness], [a, b]) = best;
        Some(Self {
            a,
            k: -steepness.exp() / range,
            l0,
            b,
        })
    }
}

/// Returns `1 / (1 + e^{-k (x - l0)})`.
fn share(k: f64, l0: f64, x: f64) -> f64 {
    1.0 / (1.0 + (-k * (x - l0)).exp())
}

/// Returns the least sum of squares for these `k` and `L0`, with `a` and `b`.
fn project(points: &[(f64, f64)], k: f64, l0: f64) -> (f64, [f64; 2]) {
    let n = points.len() as f64;
    let (mut s, mut ss, mut y, mut sy) = (0.0, 0.0, 0.0, 0.0);
    for (x, value) in points {
        let at = share(k, l0, *x);
        s += at;
        ss += at * at;
        y += value;
        sy += at * value;
    }
    let error = |[a, b]: [f64; 2]| {
        let residual = |(x, value): &(f64, f64)| (value - a * share(k, l0, *x) - b).powi(2);
        points.iter().map(residual).sum::<f64>()
    };
    let determinant = n * ss - s * s;
    if determinant > 1e-12 * n * ss {
        let a = (n * sy - s * y) / determinant;
        let b = (y - a * s) / n;
        if a >= 0.0 && b >= 0.0 && a + b <= 1.0 {
            return (error([a, b]), [a, b]);
        }
    }
    // The best points of the three sides of the triangle of possible values.
    let bounded = |value: f64| {
        if value.is_finite() {
            value.clamp(0.0, 1.0)
        } else {
            0.0
        }
    };
    let constant = bounded(y / n);
    let without_floor = bounded(sy / ss);
    let rest = n - 2.0 * s + ss;
    let to_one = bounded(((n - s) - (y - sy)) / rest);
    [
        [0.0, constant],
        [without_floor, 0.0],
        [to_one, 1.0 - to_one],
    ]
    .map(|linear| (error(linear), linear))
    .into_iter()
    .min_by(|one, other| one.0.total_cmp(&other.0))
    .unwrap_or((f64::INFINITY, [0.0; 2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(law: Logistic, at: &[f64]) -> Vec<(f64, f64)> {
        at.iter().map(|x| (*x, law.accuracy(*x))).collect()
    }

    #[test]
    fn points_on_a_curve_give_the_curve() {
        let at: Vec<f64> = (0..12).map(|i| 0.1 + 0.25 * f64::from(i)).collect();
        for (a, k, l0, b) in [
            (0.6, -4.0, 1.2, 0.35),
            (1.0, -3.0, 0.9, 0.0),
            (0.5, -8.0, 2.0, 0.5),
        ] {
            let law = Logistic { a, k, l0, b };
            let fitted = Logistic::fit(&points(law, &at)).unwrap();
            for x in [0.05, 0.7, 1.5, 2.6] {
                let difference = fitted.accuracy(x) - law.accuracy(x);
                assert!(difference.abs() < 2e-3, "{fitted:?} at {x}: {difference}");
            }
        }
    }

    #[test]
    fn fitted_values_are_accuracies() {
        // Points that rise with the bits per byte, which no curve with k < 0 does.
        let rising: Vec<(f64, f64)> = (0..8).map(|i| (f64::from(i), f64::from(i) / 7.0)).collect();
        for points in [
            rising,
            vec![(1.0, 1.0), (2.0, 1.0), (3.0, 0.0), (4.0, 0.0), (5.0, 0.0)],
        ] {
            let fitted = Logistic::fit(&points).unwrap();
            assert!(fitted.a >= 0.0 && fitted.b >= 0.0 && fitted.a + fitted.b <= 1.0 + 1e-12);
            assert!(fitted.k < 0.0);
        }
    }

    #[test]
    fn too_few_or_equal_points_have_no_curve() {
        assert_eq!(Logistic::fit(&[(1.0, 0.5), (2.0, 0.4), (3.0, 0.3)]), None);
        assert_eq!(Logistic::fit(&[(1.0, 0.5); 9]), None);
    }

    #[test]
    fn no_point_of_the_triangle_is_better_than_the_projection() {
        let points = [(0.2, 0.9), (0.8, 0.95), (1.5, 0.2), (2.5, 0.0), (3.0, 0.1)];
        for (k, l0) in [(-2.0, 1.0), (-9.0, 1.4), (-1.0, 2.5)] {
            let (least, [a, b]) = project(&points, k, l0);
            assert!(a >= 0.0 && b >= 0.0 && a + b <= 1.0);
            for i in 0..=40 {
                for j in 0..=40 - i {
                    let law = Logistic {
                        a: f64::from(i) / 40.0,
                        k,
                        l0,
                        b: f64::from(j) / 40.0,
                    };
                    let error = |(x, y): &(f64, f64)| (y - law.accuracy(*x)).powi(2);
                    assert!(points.iter().map(error).sum::<f64>() >= least - 1e-12);
                }
            }
        }
    }
}
