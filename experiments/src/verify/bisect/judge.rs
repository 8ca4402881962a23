//! Decides how large an error rounding explains, by measurement for every quantity.
//!
//! The operation is recomputed in f64 several times with all of its inputs moved by one unit roundoff `u` of the
//! precision, up or down at random. The resulting change of the result is its *noise*, which is large when the
//! operation is ill-conditioned for any reason. The noise does not show rounding inside the operation:
//! - Sums. A sum of `n` terms rounds `n` times. With terms of either sign, sequential partial sums grow
//!   like `√n` terms, and their roundings add up to `n u` terms, which is `√n` times the noise; with terms of
//!   one sign, to `√n u` times the sum. So noise and one rounding of the result are multiplied by `√n`. Blocked
//!   and pairwise sums do better.
//! - Cancellation between intermediate numbers, such as `p - 1` in the gradient of a loss. The bound covers it
//!   if those numbers are about as large as the tensor's usual element, or as a size that is known for the
//!   operation.
//!
//! An error is compared twice. In the Euclidean norm over the tensor, fluctuations average out, which reveals small
//! systematic errors. The comparison of single elements reveals one wrong number among many.

use std::fmt;

use foretoken_model::Operation;

use super::findings::Direction;
use super::numbers::{MASKED, absolute_floor};
use super::replay::{Recomputation, ReferenceValues};
use crate::backend::precision::Precision;

/// Number of random draws from which the noise is measured.
pub(super) const DRAWS: u64 = 6;

/// Factor from noise and rounding to the error that is allowed for a tensor. On Flex, NdArray, LibTorch and wgpu
/// (SwiftShader), before and after training, correct results reach 0.22 of the bound, with chains of ten roundings
/// in the derivatives of activations and in updates.
const EUCLIDEAN: f64 = 4.0;

/// Factor for a single element. It is larger than that of a tensor, because the largest error of many is a few times
/// the usual one. Correct results reach 0.21 of the bound.
const ELEMENT: f64 = 16.0;

/// The kind of a quantity: a result of an operation, or of an update.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum QuantityKind {
    /// An input as the pass provides it.
    Input(usize),
    /// The output.
    Output,
    /// The gradient of the output, summed over all operations that read it.
    OutputGradient,
    /// The gradient of an input.
    InputGradient(usize),
    /// This operation's contribution to the gradient of the parameter at this path.
    ParameterGradient(String),
    /// A parameter after two updates with fixed gradients.
    Update,
}

impl QuantityKind {
    /// Returns the stage in which it is computed.
    pub(super) fn direction(&self) -> Direction {
        match self {
            Self::Input(_) | Self::Output => Direction::Forward,
            Self::OutputGradient | Self::InputGradient(_) | Self::ParameterGradient(_) => {
                Direction::Backward
            }
            Self::Update => Direction::Update,
        }
    }
}

impl fmt::Display for QuantityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(index) => write!(f, "input {index}"),
            Self::Output => write!(f, "output"),
            Self::OutputGradient => write!(f, "gradient of output"),
            Self::InputGradient(index) => write!(f, "gradient of input {index}"),
            Self::ParameterGradient(path) => write!(f, "gradient of parameter {path}"),
            Self::Update => write!(f, "updated parameter"),
        }
    }
}

/// A compared quantity: its true value, and the inputs of the bound on its error.
pub(super) struct Quantity {
    /// The operation's index; `None` for an update.
    pub(super) operation: Option<usize>,
    pub(super) path: String,
    pub(super) kind: QuantityKind,
    pub(super) shape: Vec<usize>,
    pub(super) expected: Vec<f64>,
    /// The root mean square change of each element under the random draws.
    pub(super) noise: Vec<f64>,
    /// The number of terms in the longest sum behind an element.
    pub(super) terms: usize,
    /// The size of intermediate numbers that cancel; 0 if there are none or it is unknown.
    pub(super) cancellation: f64,
    /// The size that errors are relative to; `None` for the norm of the value.
    pub(super) size: Option<f64>,
}

/// An error and its bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measurement {
    /// ‖actual − expected‖ / ‖expected‖
    pub(super) error: f64,
    /// The largest error that rounding explains.
    pub(super) bound: f64,
    /// The largest of error / bound over the tensor and over its elements. Above 1, rounding does not explain it.
    pub(super) ratio: f64,
    /// The element with the largest error relative to its own bound.
    pub(super) worst: usize,
}

impl Measurement {
    pub(super) fn exceeds(&self) -> bool {
        // NaN counts as too large.
        !matches!(
            self.ratio.partial_cmp(&1.0),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        )
    }
}

impl Quantity {
    /// Adds a draw to the noise. [`finish`](Self::finish) takes the root after the last one.
    pub(super) fn add_draw(&mut self, moved: Option<&[f64]>) {
        let zeros = vec![0.0; self.expected.len()];
        let moved = moved.unwrap_or(&zeros).iter().zip(&self.expected);
        for (noise, (moved, expected)) in self.noise.iter_mut().zip(moved) {
            let difference = moved - expected;
            if difference.is_finite() {
                *noise += difference * difference / DRAWS as f64;
            }
        }
    }

    pub(super) fn finish(&mut self) {
        self.noise
            .iter_mut()
            .for_each(|noise| *noise = noise.sqrt());
    }

    /// Compares a value with the true one. A missing value counts as 0, as a missing gradient does.
    pub(super) fn measure(&self, actual: Option<&[f64]>, precision: Precision) -> Measurement {
        let zeros = vec![0.0; self.expected.len()];
        let actual = actual.unwrap_or(&zeros);
        if actual.len() != self.expected.len() {
            return Measurement {
                error: f64::INFINITY,
                bound: 0.0,
                ratio: f64::INFINITY,
                worst: 0,
            };
        }
        let (u, least) = (precision.unit_roundoff(), absolute_floor(precision));
        let growth = (self.terms as f64).sqrt();
        let pairs = || self.expected.iter().zip(actual).enumerate();
        let masked = |expected: f64, actual: f64| expected <= MASKED && actual <= MASKED;
        let unmasked = || pairs().filter(|(_, (e, a))| !masked(**e, **a));
        let is_finite = |(_, (e, _)): &(usize, (&f64, &f64))| e.is_finite() && **e > MASKED;
        let usual = unmasked().filter(is_finite);
        let (count, squares) = usual.fold((0, 0.0), |(count, squares), (_, (e, _))| {
            (count + 1, squares + e * e)
        });
        let scale = (squares / f64::max(f64::from(count), 1.0)).sqrt();

        let (mut error, mut noise) = (0.0, 0.0);
        let (mut worst, mut largest) = (0, 0.0);
        for (index, (expected, actual)) in unmasked() {
            let difference = match expected.is_finite() {
                true => (actual - expected).abs(),
                false if expected == actual || expected.is_nan() && actual.is_nan() => 0.0,
                false => f64::INFINITY,
            };
            error += difference * difference;
            let moved = self.noise[index];
            noise += moved * moved;
            let explained = growth * (moved + u * (expected.abs() + scale + self.cancellation));
            let ratio = difference / (ELEMENT * (explained + least));
            if ratio > largest || ratio.is_nan() {
                (worst, largest) = (index, if ratio.is_nan() { f64::INFINITY } else { ratio });
            }
        }
        // Cancellation affects few elements of a row.
        let columns = self.shape.last().copied().unwrap_or(1).max(1) as f64;
        let count = f64::from(count);
        let cancellation = self.cancellation * (count / columns).sqrt();
        let explained = growth * (noise.sqrt() + u * (squares.sqrt() + cancellation));
        let bound = EUCLIDEAN * (explained + least * count.sqrt());
        let size = self.size.unwrap_or(squares.sqrt());
        let size = if size > 0.0 { size } else { 1.0 };
        let error = error.sqrt();
        let ratio = match error == 0.0 {
            true => 0.0,
            false => (error / bound).max(largest),
        };
        Measurement {
            error: error / size,
            bound: bound / size,
            ratio: if error.is_nan() { f64::INFINITY } else { ratio },
            worst,
        }
    }
}

/// Returns a quantity's value in a recomputed operation.
pub(super) fn value<'a>(recomputed: &'a Recomputation, kind: &QuantityKind) -> Option<&'a [f64]> {
    let value = match kind {
        QuantityKind::Input(index) => recomputed.inputs.get(*index),
        QuantityKind::Output => Some(&recomputed.output),
        QuantityKind::OutputGradient => Some(&recomputed.output_gradient),
        QuantityKind::InputGradient(index) => recomputed.input_gradients.get(*index),
        QuantityKind::ParameterGradient(path) => recomputed.parameter_gradients.get(path),
        QuantityKind::Update => None,
    };
    value.map(Vec::as_slice)
}

/// Returns all quantities of an operation that the reference has recomputed, forward ones first. `shape_of` returns
/// the shape of a parameter.
pub(super) fn quantities(
    operation: usize,
    given: &ReferenceValues,
    recomputed: &Recomputation,
    length: usize,
    shape_of: &dyn Fn(&str) -> Vec<usize>,
) -> Vec<Quantity> {
    let inputs = 0..recomputed.inputs.len();
    let parameters = recomputed.parameter_gradients.keys();
    let all = inputs
        .clone()
        .map(QuantityKind::Input)
        .chain([QuantityKind::Output, QuantityKind::OutputGradient])
        .chain(inputs.map(QuantityKind::InputGradient))
        .chain(parameters.cloned().map(QuantityKind::ParameterGradient));
    all.filter_map(|kind| {
        let expected = value(recomputed, &kind)?.to_vec();
        if expected.is_empty() {
            return None;
        }
        let shape = match &kind {
            QuantityKind::Input(index) | QuantityKind::InputGradient(index) => {
                given.place.inputs[*index].clone()
            }
            QuantityKind::ParameterGradient(path) => shape_of(path),
            QuantityKind::Output | QuantityKind::OutputGradient | QuantityKind::Update => {
                given.shape.to_vec()
            }
        };
        Some(Quantity {
            operation: Some(operation),
            path: given.place.path.clone(),
            terms: terms(&kind, given, length),
            cancellation: cancellation(&kind, given, recomputed),
            noise: vec![0.0; expected.len()],
            kind,
            shape,
            expected,
            size: None,
        })
    })
    .collect()
}

/// Returns the number of terms in the longest sum behind an element.
fn terms(kind: &QuantityKind, given: &ReferenceValues, length: usize) -> usize {
    let [rows, columns] = given.shape;
    let dims = |input: usize| &given.place.inputs[input];
    let last = |input: usize| dims(input).last().copied().unwrap_or(1);
    let operation = given.place.operation;
    // The number of query heads that share a key.
    let group = || dims(0)[1].div_ceil(dims(1)[1].max(1));
    let terms = match kind {
        QuantityKind::Input(_) | QuantityKind::Update => 1,
        // An output has at most three readers: norm and residual, queries, keys and values, or the matrices of a
        // feed-forward layer.
        QuantityKind::OutputGradient => 3,
        QuantityKind::ParameterGradient(_) => rows,
        QuantityKind::Output => match operation {
            Operation::Norm | Operation::Turn => columns,
            Operation::Linear | Operation::Scores | Operation::Mix | Operation::Loss => last(0),
            Operation::Embedding
            | Operation::Positions
            | Operation::Activation
            | Operation::Residual
            | Operation::LogitCap => 1,
        },
        QuantityKind::InputGradient(input) => match (operation, input) {
            (Operation::Norm | Operation::Turn | Operation::Linear, _) => columns,
            (Operation::Scores, 0) => length,
            (Operation::Mix, 0) => length + columns,
            (Operation::Scores | Operation::Mix, _) => length * group(),
            (Operation::Loss, _) => last(0),
            _ => 1,
        },
    };
    terms.max(1)
}

/// Returns the size of intermediate numbers that cancel and that neither the result nor its noise shows.
fn cancellation(kind: &QuantityKind, given: &ReferenceValues, recomputed: &Recomputation) -> f64 {
    let size = |values: &[f64]| {
        let unmasked = values.iter().filter(|v| v.is_finite() && **v > MASKED);
        let (count, squares) = unmasked.fold((0.0, 0.0), |(count, squares), value| {
            (count + 1.0, squares + value * value)
        });
        (squares / f64::max(count, 1.0)).sqrt()
    };
    let upstream = size(&given.upstream);
    match (given.place.operation, kind) {
        // ln Σ exp(logit - largest) adds 1 for the largest.
        (Operation::Loss, QuantityKind::Output) => 1.0,
        // The gradient at the target is p - 1.
        (Operation::Loss, QuantityKind::InputGradient(_)) => {
            let sizes = given.upstream.iter().map(|value| value.abs());
            sizes.fold(0.0, f64::max)
        }
        // The mean over the attention weights is subtracted from the gradient of each.
        (Operation::Mix, QuantityKind::InputGradient(0)) => {
            upstream * (given.shape[1] as f64).sqrt() * size(&recomputed.inputs[1])
        }
        // The gradient's mean and its component along the row are subtracted from it.
        (Operation::Norm, QuantityKind::InputGradient(_)) => {
            let input = size(&recomputed.inputs[0]);
            match input > 0.0 {
                true => upstream * size(&recomputed.output) / input,
                false => 0.0,
            }
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(expected: Vec<f64>) -> Quantity {
        Quantity {
            operation: Some(0),
            path: "norm".into(),
            kind: QuantityKind::Output,
            shape: vec![1, expected.len()],
            noise: vec![0.0; expected.len()],
            expected,
            terms: 4,
            cancellation: 0.0,
            size: None,
        }
    }

    #[test]
    fn rounding_stays_within_the_bound_and_a_wrong_element_exceeds_it() {
        let expected: Vec<f64> = (0..1000).map(|i| f64::from(i).sin()).collect();
        let quantity = quantity(expected.clone());
        let measured = |actual: &[f64]| quantity.measure(Some(actual), Precision::F32);
        assert_eq!(measured(&expected).ratio, 0.0);
        let single: Vec<f64> = expected.iter().map(|v| f64::from(*v as f32)).collect();
        let rounding = measured(&single);
        assert!(!rounding.exceeds() && rounding.error > 1e-8, "{rounding:?}");
        let mut wrong = single.clone();
        wrong[321] += 1e-5;
        let wrong = measured(&wrong);
        assert!(wrong.exceeds(), "{wrong:?}");
        assert_eq!(wrong.worst, 321);
        // In f16 the same error is far below rounding.
        let half = quantity.measure(Some(&single), Precision::F16);
        assert!(half.ratio < 1e-3);
    }

    #[test]
    fn non_finite_or_missing_values_exceed_the_bound() {
        let quantity = quantity(vec![1.0, 2.0]);
        let exceeds = |actual: Option<&[f64]>| quantity.measure(actual, Precision::BF16).exceeds();
        assert!(exceeds(Some(&[1.0, f64::NAN])));
        assert!(exceeds(Some(&[1.0, f64::INFINITY])));
        assert!(exceeds(None));
        assert!(exceeds(Some(&[1.0])));
        assert!(!exceeds(Some(&[1.0, 2.0])));
    }

    #[test]
    fn masked_scores_must_stay_masked() {
        let quantity = quantity(vec![0.5, -1e9, 0.25]);
        let measured = |actual: &[f64]| quantity.measure(Some(actual), Precision::F32);
        assert_eq!(measured(&[0.5, f64::NEG_INFINITY, 0.25]).ratio, 0.0);
        assert!(measured(&[0.5, 0.5, 0.25]).exceeds());
        assert!(measured(&[0.5, -1e9, -1e9]).exceeds());
        assert!(measured(&[0.5 + 1e-4, -1e9, 0.25]).exceeds());
    }
}
