//! How large an error rounding explains, measured for every quantity by itself.
//!
//! The operation is recomputed in f64 several times with all numbers that go into it moved by one unit roundoff
//! `u` of the precision, up or down at random. How far the result moves is its *noise*: large where the
//! operation is ill-conditioned, in whatever way. What it does not show is rounding inside:
//! - Sums. A sum of `n` terms rounds `n` times on its way. With terms of either sign, sequential partial sums grow
//!   like `√n` terms, and their roundings add up to `n u` terms, which is `√n` times the noise; with terms of
//!   one sign, to `√n u` times the sum. So noise and one rounding of the result are multiplied by `√n`. Sums in
//!   blocks or in pairs do better.
//! - Cancellation between numbers that the operation makes itself, such as `p - 1` in the gradient of a loss. It is
//!   explained where those numbers are about as large as the tensor's usual element, or as a size that is known for
//!   the operation.
//!
//! An error is compared twice. In the Euclidean norm over the tensor, fluctuations average out: small systematic
//! errors show. Element by element, one wrong number among many shows.

use std::fmt;

use foretoken_model::Operation;

use super::findings::Direction;
use super::numbers::{HIDDEN, smallest};
use super::replay::{Given, Recomputed};
use crate::backend::precision::Precision;

/// How often numbers are moved.
pub(super) const DRAWS: u64 = 6;

/// How many times noise and rounding explain the error of a tensor. On Flex, NdArray, LibTorch and wgpu
/// (SwiftShader), before and after training, what is right reaches 0.22 of it: chains of ten roundings, in the
/// derivatives of activations and in updates.
const EUCLIDEAN: f64 = 4.0;

/// How many times they explain the error of an element: the largest of many is a few times the usual one. What is
/// right reaches 0.21 of it.
const ELEMENT: f64 = 16.0;

/// A number of an operation, or of a parameter, that is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Of {
    /// An input as the pass brings it.
    Input(usize),
    /// The output.
    Output,
    /// The sum of the gradients of all who read the output.
    Arriving,
    /// The gradient of an input.
    InputGradient(usize),
    /// The gradient of the parameter at this path, as this operation adds to it.
    ParameterGradient(String),
    /// A parameter after two updates with given gradients.
    Update,
}

impl Of {
    /// In which stage it is computed.
    pub(super) fn direction(&self) -> Direction {
        match self {
            Self::Input(_) | Self::Output => Direction::Forward,
            Self::Arriving | Self::InputGradient(_) | Self::ParameterGradient(_) => {
                Direction::Backward
            }
            Self::Update => Direction::Update,
        }
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(index) => write!(f, "input {index}"),
            Self::Output => write!(f, "output"),
            Self::Arriving => write!(f, "gradient of output"),
            Self::InputGradient(index) => write!(f, "gradient of input {index}"),
            Self::ParameterGradient(path) => write!(f, "gradient of parameter {path}"),
            Self::Update => write!(f, "updated parameter"),
        }
    }
}

/// A quantity, its true value, and what rounding explains.
pub(super) struct Quantity {
    /// The operation's number; none for an update.
    pub(super) operation: Option<usize>,
    pub(super) path: String,
    pub(super) of: Of,
    pub(super) shape: Vec<usize>,
    pub(super) expected: Vec<f64>,
    /// Root mean square of how far each element moves.
    pub(super) noise: Vec<f64>,
    /// Terms in the longest sum that an element is made of.
    pub(super) terms: usize,
    /// Size of what cancels inside, where that is known.
    pub(super) inside: f64,
    /// What errors are relative to, where that is not the size of the value.
    pub(super) size: Option<f64>,
}

/// An error and what explains it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// ‖actual − expected‖ / ‖expected‖
    pub(super) error: f64,
    /// What rounding explains of it.
    pub(super) bound: f64,
    /// The largest of error / bound, over the tensor and over its elements: 1 is the limit.
    pub(super) ratio: f64,
    /// The element with the largest error relative to its own bound.
    pub(super) worst: usize,
}

impl Measured {
    pub(super) fn exceeds(&self) -> bool {
        // NaN exceeds.
        !matches!(
            self.ratio.partial_cmp(&1.0),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        )
    }
}

impl Quantity {
    /// Adds what a draw shows; [`finish`](Self::finish) ends it.
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

    /// Compares a value with the true one. One that is missing is 0: a gradient that did not come.
    pub(super) fn measure(&self, actual: Option<&[f64]>, precision: Precision) -> Measured {
        let zeros = vec![0.0; self.expected.len()];
        let actual = actual.unwrap_or(&zeros);
        if actual.len() != self.expected.len() {
            return Measured {
                error: f64::INFINITY,
                bound: 0.0,
                ratio: f64::INFINITY,
                worst: 0,
            };
        }
        let (u, least) = (precision.unit_roundoff(), smallest(precision));
        let growth = (self.terms as f64).sqrt();
        let pairs = || self.expected.iter().zip(actual).enumerate();
        let hidden = |expected: f64, actual: f64| expected <= HIDDEN && actual <= HIDDEN;
        let seen = || pairs().filter(|(_, (e, a))| !hidden(**e, **a));
        let is_finite = |(_, (e, _)): &(usize, (&f64, &f64))| e.is_finite() && **e > HIDDEN;
        let usual = seen().filter(is_finite);
        let (count, squares) = usual.fold((0, 0.0), |(count, squares), (_, (e, _))| {
            (count + 1, squares + e * e)
        });
        let scale = (squares / f64::max(f64::from(count), 1.0)).sqrt();

        let (mut error, mut noise) = (0.0, 0.0);
        let (mut worst, mut largest) = (0, 0.0);
        for (index, (expected, actual)) in seen() {
            let difference = match expected.is_finite() {
                true => (actual - expected).abs(),
                false if expected == actual || expected.is_nan() && actual.is_nan() => 0.0,
                false => f64::INFINITY,
            };
            error += difference * difference;
            let moved = self.noise[index];
            noise += moved * moved;
            let explained = growth * (moved + u * (expected.abs() + scale + self.inside));
            let ratio = difference / (ELEMENT * (explained + least));
            if ratio > largest || ratio.is_nan() {
                (worst, largest) = (index, if ratio.is_nan() { f64::INFINITY } else { ratio });
            }
        }
        // What cancels inside does so in few elements of a row.
        let columns = self.shape.last().copied().unwrap_or(1).max(1) as f64;
        let count = f64::from(count);
        let inside = self.inside * (count / columns).sqrt();
        let explained = growth * (noise.sqrt() + u * (squares.sqrt() + inside));
        let bound = EUCLIDEAN * (explained + least * count.sqrt());
        let size = self.size.unwrap_or(squares.sqrt());
        let size = if size > 0.0 { size } else { 1.0 };
        let error = error.sqrt();
        let ratio = match error == 0.0 {
            true => 0.0,
            false => (error / bound).max(largest),
        };
        Measured {
            error: error / size,
            bound: bound / size,
            ratio: if error.is_nan() { f64::INFINITY } else { ratio },
            worst,
        }
    }
}

/// A quantity's value.
pub(super) fn value<'a>(recomputed: &'a Recomputed, of: &Of) -> Option<&'a [f64]> {
    let value = match of {
        Of::Input(index) => recomputed.inputs.get(*index),
        Of::Output => Some(&recomputed.output),
        Of::Arriving => Some(&recomputed.arriving),
        Of::InputGradient(index) => recomputed.input_gradients.get(*index),
        Of::ParameterGradient(path) => recomputed.parameter_gradients.get(path),
        Of::Update => None,
    };
    value.map(Vec::as_slice)
}

/// All quantities of an operation that the reference has recomputed, forward ones first. `shape_of` tells the
/// shape of a parameter.
pub(super) fn quantities(
    operation: usize,
    given: &Given,
    recomputed: &Recomputed,
    length: usize,
    shape_of: &dyn Fn(&str) -> Vec<usize>,
) -> Vec<Quantity> {
    let inputs = 0..recomputed.inputs.len();
    let parameters = recomputed.parameter_gradients.keys();
    let all = inputs
        .clone()
        .map(Of::Input)
        .chain([Of::Output, Of::Arriving])
        .chain(inputs.map(Of::InputGradient))
        .chain(parameters.cloned().map(Of::ParameterGradient));
    all.filter_map(|of| {
        let expected = value(recomputed, &of)?.to_vec();
        if expected.is_empty() {
            return None;
        }
        let shape = match &of {
            Of::Input(index) | Of::InputGradient(index) => given.place.inputs[*index].clone(),
            Of::ParameterGradient(path) => shape_of(path),
            Of::Output | Of::Arriving | Of::Update => given.shape.to_vec(),
        };
        Some(Quantity {
            operation: Some(operation),
            path: given.place.path.clone(),
            terms: terms(&of, given, length),
            inside: inside(&of, given, recomputed),
            noise: vec![0.0; expected.len()],
            of,
            shape,
            expected,
            size: None,
        })
    })
    .collect()
}

/// Terms in the longest sum that makes an element.
fn terms(of: &Of, given: &Given, length: usize) -> usize {
    let [rows, columns] = given.shape;
    let dims = |input: usize| &given.place.inputs[input];
    let last = |input: usize| dims(input).last().copied().unwrap_or(1);
    let operation = given.place.operation;
    // Query heads that share a key.
    let group = || dims(0)[1].div_ceil(dims(1)[1].max(1));
    let terms = match of {
        Of::Input(_) | Of::Update => 1,
        // Norm and residual, or queries, keys and values, and the matrices of a feed-forward layer.
        Of::Arriving => 3,
        Of::ParameterGradient(_) => rows,
        Of::Output => match operation {
            Operation::Norm | Operation::Turn => columns,
            Operation::Linear | Operation::Scores | Operation::Mix | Operation::Loss => last(0),
            Operation::Embedding
            | Operation::Positions
            | Operation::Activation
            | Operation::Residual
            | Operation::LogitCap => 1,
        },
        Of::InputGradient(input) => match (operation, input) {
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

/// The size of numbers that cancel inside, beyond what the result and its noise tell.
fn inside(of: &Of, given: &Given, recomputed: &Recomputed) -> f64 {
    let size = |values: &[f64]| {
        let seen = values.iter().filter(|v| v.is_finite() && **v > HIDDEN);
        let (count, squares) = seen.fold((0.0, 0.0), |(count, squares), value| {
            (count + 1.0, squares + value * value)
        });
        (squares / f64::max(count, 1.0)).sqrt()
    };
    let upstream = size(&given.upstream);
    match (given.place.operation, of) {
        // ln Σ exp(logit - largest) adds 1 for the largest.
        (Operation::Loss, Of::Output) => 1.0,
        // p - 1 at the target.
        (Operation::Loss, Of::InputGradient(_)) => {
            let sizes = given.upstream.iter().map(|value| value.abs());
            sizes.fold(0.0, f64::max)
        }
        // The gradient of a weight, minus its mean over the weights.
        (Operation::Mix, Of::InputGradient(0)) => {
            upstream * (given.shape[1] as f64).sqrt() * size(&recomputed.inputs[1])
        }
        // The gradient, minus its mean and its part along the row.
        (Operation::Norm, Of::InputGradient(_)) => {
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
            of: Of::Output,
            shape: vec![1, expected.len()],
            noise: vec![0.0; expected.len()],
            expected,
            terms: 4,
            inside: 0.0,
            size: None,
        }
    }

    #[test]
    fn rounding_is_explained_and_a_wrong_element_is_not() {
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
        // And in f16 nobody could tell.
        let half = quantity.measure(Some(&single), Precision::F16);
        assert!(half.ratio < 1e-3);
    }

    #[test]
    fn what_is_no_number_or_missing_exceeds() {
        let quantity = quantity(vec![1.0, 2.0]);
        let exceeds = |actual: Option<&[f64]>| quantity.measure(actual, Precision::BF16).exceeds();
        assert!(exceeds(Some(&[1.0, f64::NAN])));
        assert!(exceeds(Some(&[1.0, f64::INFINITY])));
        assert!(exceeds(None));
        assert!(exceeds(Some(&[1.0])));
        assert!(!exceeds(Some(&[1.0, 2.0])));
    }

    #[test]
    fn what_is_hidden_stays_hidden_or_exceeds() {
        let quantity = quantity(vec![0.5, -1e9, 0.25]);
        let measured = |actual: &[f64]| quantity.measure(Some(actual), Precision::F32);
        assert_eq!(measured(&[0.5, f64::NEG_INFINITY, 0.25]).ratio, 0.0);
        assert!(measured(&[0.5, 0.5, 0.25]).exceeds());
        assert!(measured(&[0.5, -1e9, -1e9]).exceeds());
        assert!(measured(&[0.5 + 1e-4, -1e9, 0.25]).exceeds());
    }
}
