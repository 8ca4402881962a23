//! Invariance checks: a backend must compute the same logits in every way in which the program computes them, by steps
//! with a key/value cache as by a full pass, and for many windows at once as for one at a time.
//!
//! Each backend is compared with itself, on validation windows and with its own weights after its last step. Trained
//! weights attend more sharply than initial ones, so that a wrong mask, position or cache entry changes the logits more,
//! and they are the weights with which users generate and score text.

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::tensor::Tensor;
use foretoken_model::BatchReader;
use foretoken_model::ops::among_threads;
use serde::{Deserialize, Serialize};

use super::Verdict;
use crate::backend::precision::Precision;
use crate::engine::language_model::LanguageModel;
use crate::engine::parameters::distance;
use crate::engine::perturbation::Perturbation;
use crate::engine::rounding::{FACTOR, nudged};
use crate::engine::session::Session;
use crate::{Error, json};

/// Number of windows in a batch.
const WINDOWS: usize = 8;

/// Largest number of tokens in a window, which bounds the time of the checks.
const MAX_LENGTH: usize = 128;

/// Number of steps with a cache after the prefix of a window.
const STEPS: usize = 8;

/// Number of full passes with moved weights, which measure rounding.
const MOVED: u64 = 2;

/// Comparison of logits of the same tokens and weights, computed by the same backend in two ways.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invariance {
    /// The two ways.
    pub of: Computation,
    /// `Identical` if all bits are, `Rounding` if rounding explains the difference, `Differs` if it does not, and
    /// `Unavailable` if the precision is too coarse to tell.
    pub verdict: Verdict,
    /// ‖difference‖ / ‖expected logits‖ in the Euclidean norm, at the position at which it is the largest.
    #[serde(deserialize_with = "json::number")]
    pub error: f64,
    /// The largest error that rounding explains: the root mean square of what moving every weight by one unit in the last
    /// place changes in the backend's own full pass, times a factor. Infinite if such a change is NaN.
    #[serde(deserialize_with = "json::number")]
    pub bound: f64,
    /// Largest absolute difference of a logit.
    #[serde(deserialize_with = "json::number")]
    pub max_abs_difference: f64,
}

/// Way to compute logits, and the way that it is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Computation {
    /// A prefix and steps of one token with a cache, compared with a full pass; one window at a time.
    CachedSteps,
    /// A full pass of 8 windows, compared with one of each window.
    Batch,
    /// Steps with a cache for 8 windows whose prefixes differ in length, compared with those for each window.
    CachedBatch,
}

impl Computation {
    /// All ways, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::CachedSteps, Self::Batch, Self::CachedBatch];

    /// Returns the name for headings of columns.
    pub fn words(self) -> &'static str {
        match self {
            Self::CachedSteps => "cached steps",
            Self::Batch => "batch of 8",
            Self::CachedBatch => "cached batch of 8",
        }
    }

    /// Returns the subject of a sentence about a difference.
    fn subject(self) -> &'static str {
        match self {
            Self::CachedSteps => "steps with a cache compute other logits than a full pass",
            Self::Batch => "a batch of 8 windows has other logits than one window at a time",
            Self::CachedBatch => {
                "steps with a cache compute other logits for a batch of 8 windows than for one at a time"
            }
        }
    }
}

/// Logits of some positions of one window, in f64 on the host.
type Positions = Vec<Vec<f64>>;

impl Invariance {
    /// Judges the logits of `actual` against those of `expected`, window by window.
    fn judge(of: Computation, actual: &[Positions], expected: &[Positions], bound: f64) -> Self {
        let error = worst_error(actual, expected);
        let pairs = || actual.iter().flatten().zip(expected.iter().flatten());
        let logits = || pairs().flat_map(|(actual, expected)| actual.iter().zip(expected));
        let verdict = if logits().all(|(a, b)| a.to_bits() == b.to_bits()) && error == 0.0 {
            Verdict::Identical
        } else if !bound.is_finite() {
            Verdict::Unavailable
        } else if error <= bound {
            // A bound of at least 1 explains even logits of 0 everywhere.
            match bound < 1.0 {
                true => Verdict::Rounding,
                false => Verdict::Unavailable,
            }
        } else {
            Verdict::Differs
        };
        Self {
            of,
            verdict,
            error,
            bound,
            max_abs_difference: worst(logits().map(|(a, b)| (a - b).abs())),
        }
    }

    /// Returns whether rounding does not explain the difference.
    pub fn differs(&self) -> bool {
        self.verdict == Verdict::Differs
    }

    /// Describes a difference that rounding does not explain.
    pub(crate) fn reason(&self) -> String {
        format!(
            "{}: they are off by {:.1e}, and rounding explains {:.1e}",
            self.of.subject(),
            self.error,
            self.bound
        )
    }
}

/// Returns the [`Invariance::error`]; infinite if the shapes differ, and NaN if a logit is NaN.
fn worst_error(actual: &[Positions], expected: &[Positions]) -> f64 {
    let counts = |of: &[Positions]| of.iter().map(Vec::len).collect::<Vec<_>>();
    if counts(actual) != counts(expected) {
        return f64::INFINITY;
    }
    let pairs = actual.iter().flatten().zip(expected.iter().flatten());
    worst(pairs.map(|(actual, expected)| distance([(&actual[..], &expected[..])])))
}

/// Returns the largest value, with NaN as the largest; 0 if there is none.
fn worst(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |worst: f64, value| {
        match worst.is_nan() || value.is_nan() {
            true => f64::NAN,
            false => worst.max(value),
        }
    })
}

/// Token window, of which the logits after `prefix` tokens and after each of the next steps are compared.
#[derive(Debug, Clone)]
struct Window {
    tokens: Vec<u32>,
    prefix: usize,
    /// Number of steps after the prefix.
    steps: usize,
}

impl Window {
    /// Creates windows whose prefixes differ in length, so that a batch of them needs padding.
    fn all(rows: Vec<Vec<u32>>) -> Vec<Self> {
        let window = |(number, mut tokens): (usize, Vec<u32>)| {
            tokens.truncate(MAX_LENGTH);
            let steps = STEPS.min(tokens.len() - 1);
            Self {
                prefix: (tokens.len() - steps).saturating_sub(number).max(1),
                tokens,
                steps,
            }
        };
        rows.into_iter().enumerate().map(window).collect()
    }
}

/// Checks a run's model in every way; one result for each [`Computation`].
pub(super) fn measure(
    session: &Session,
    precision: Precision,
    perturbation: &Perturbation,
) -> Result<Vec<Invariance>, Error> {
    let model = session.model().valid();
    let windows = Window::all(validation_rows(session)?);
    let mut cached_windows = windows.clone();
    if let Some(change) = perturbation.cached {
        for Window { tokens, prefix, .. } in &mut cached_windows {
            change(&mut tokens[..*prefix]);
        }
    }
    among_threads(session.device(), || {
        let full = one_at_a_time(&windows, |window| full_pass(&model, window))?;
        let batch = full_pass(&model, &windows)?;
        let cached = one_at_a_time(&cached_windows, |window| cached_steps(&model, window))?;
        let cached_batch = cached_steps(&model, &cached_windows)?;
        let bound = rounding(&model, precision, &windows, &batch)?;
        Ok(vec![
            Invariance::judge(Computation::CachedSteps, &cached, &full, bound),
            Invariance::judge(Computation::Batch, &batch, &full, bound),
            Invariance::judge(Computation::CachedBatch, &cached_batch, &cached, bound),
        ])
    })
}

/// Reads the first validation windows, and repeats them if there are too few.
fn validation_rows(session: &Session) -> Result<Vec<Vec<u32>>, Error> {
    let loader = session.eval_loader(WINDOWS)?;
    let mut rows = Vec::new();
    for batch in loader.iter() {
        let inputs = batch
            .map_err(|error| Error::Training(error.to_string()))?
            .inputs;
        let [_, length] = inputs.dims();
        let ids: Vec<i64> = inputs.try_into_vec_as().map_err(Error::device)?;
        let row = |ids: &[i64]| ids.iter().map(|id| *id as u32).collect();
        rows.extend(ids.chunks(length).map(row));
    }
    Ok(rows.into_iter().cycle().take(WINDOWS).collect())
}

/// Computes each window by itself.
fn one_at_a_time(
    windows: &[Window],
    compute: impl Fn(&[Window]) -> Result<Vec<Positions>, Error>,
) -> Result<Vec<Positions>, Error> {
    let mut all = Vec::with_capacity(windows.len());
    for window in windows {
        all.extend(compute(std::slice::from_ref(window))?);
    }
    Ok(all)
}

/// Computes windows of one length in one full pass, with the operations of training.
fn full_pass(model: &LanguageModel, windows: &[Window]) -> Result<Vec<Positions>, Error> {
    let rows: Vec<&[u32]> = windows.iter().map(|window| &window.tokens[..]).collect();
    let length = rows[0].len();
    let positions = windows.iter().map(|window| length + 1 - window.prefix);
    let positions = positions.max().unwrap_or(1);
    let logits = model.last_logits(model.transformer.tokens(&rows), positions);
    let of_window = |(logits, window): (Positions, &Window)| {
        let first = window.prefix + positions - length - 1;
        logits
            .into_iter()
            .skip(first)
            .take(window.steps + 1)
            .collect()
    };
    let logits = read(logits)?;
    Ok(logits.into_iter().zip(windows).map(of_window).collect())
}

/// Computes windows as a generation does: a prefix of each, then one token of each at a time, with a cache.
fn cached_steps(model: &LanguageModel, windows: &[Window]) -> Result<Vec<Positions>, Error> {
    let mut reader = BatchReader::new(&model.transformer);
    let running = vec![true; windows.len()];
    let steps = windows[0].steps;
    let mut all = vec![Positions::new(); windows.len()];
    for step in 0..=steps {
        let texts = windows.iter();
        let texts = texts.map(|window| window.tokens[..window.prefix + step].to_vec());
        let texts: Vec<Vec<u32>> = texts.collect();
        let logits = reader.next_logits_on_device(&texts, &running, steps + 1 - step);
        for (all, new) in all.iter_mut().zip(read(logits)?) {
            all.extend(new);
        }
    }
    Ok(all)
}

/// Reads `[windows, positions, vocab_size]`.
fn read(logits: Tensor<3>) -> Result<Vec<Positions>, Error> {
    let [_, positions, vocab_size] = logits.dims();
    let values: Vec<f64> = logits.try_into_vec_as().map_err(Error::device)?;
    let rows = |window: &[f64]| window.chunks(vocab_size).map(<[f64]>::to_vec).collect();
    Ok(values.chunks(positions * vocab_size).map(rows).collect())
}

/// Returns the [`Invariance::bound`]: how far rounding may move the logits of `windows`, which are `expected` with
/// unmoved weights.
fn rounding(
    model: &LanguageModel,
    precision: Precision,
    windows: &[Window],
    expected: &[Positions],
) -> Result<f64, Error> {
    let mut squares = 0.0;
    for member in 0..MOVED {
        let moved = LanguageModel {
            transformer: nudged(model.transformer.clone(), precision, member),
            ..model.clone()
        };
        let error = worst_error(&full_pass(&moved, windows)?, expected);
        if error.is_nan() {
            return Ok(f64::INFINITY);
        }
        // Every logit has at least one rounding error of its own.
        squares += error.max(precision.unit_roundoff()).powi(2);
    }
    Ok(FACTOR * (squares / MOVED as f64).sqrt())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use foretoken_model::ModelConfig;

    use super::*;
    use crate::backend::Backend;

    fn judged(actual: &[f64], expected: &[f64], bound: f64) -> Invariance {
        let positions = |logits: &[f64]| vec![vec![vec![2.0, 1.0], logits.to_vec()]];
        Invariance::judge(
            Computation::Batch,
            &positions(actual),
            &positions(expected),
            bound,
        )
    }

    #[test]
    fn verdict_follows_from_bits_error_and_bound() {
        let expected = [3.0, 4.0];
        for (actual, bound, verdict, error) in [
            ([3.0, 4.0], 1e-6, Verdict::Identical, 0.0),
            ([3.0, 4.0], f64::INFINITY, Verdict::Identical, 0.0),
            ([3.0, 4.0 + 5e-7], 1e-6, Verdict::Rounding, 1e-7),
            ([3.0, 4.0 + 5e-5], 1e-6, Verdict::Differs, 1e-5),
            ([0.0, 0.0], 0.99, Verdict::Differs, 1.0),
            // A bound that explains logits of 0 explains everything.
            ([0.0, 0.0], 1.01, Verdict::Unavailable, 1.0),
            ([3.0, 4.5], f64::INFINITY, Verdict::Unavailable, 0.1),
            ([3.0, f64::NAN], 1e-6, Verdict::Differs, f64::NAN),
        ] {
            let judged = judged(&actual, &expected, bound);
            assert_eq!(judged.verdict, verdict, "{judged:?}");
            let same = (judged.error - error).abs() <= 1e-6 * error;
            assert!(
                same || error.is_nan() && judged.error.is_nan(),
                "{judged:?}"
            );
        }
        // The sign of 0 is a bit.
        let signs = judged(&[0.0, 4.0], &[-0.0, 4.0], 1e-6);
        assert_eq!(signs.verdict, Verdict::Rounding);
        assert_eq!(signs.max_abs_difference, 0.0);

        let judged = judged(&[3.0, 4.5], &expected, 1e-6);
        assert_eq!(judged.max_abs_difference, 0.5);
        assert_eq!(
            judged.reason(),
            "a batch of 8 windows has other logits than one window at a time: they are off by 1.0e-1, and rounding \
             explains 1.0e-6"
        );
        let shorter = Invariance::judge(Computation::Batch, &[], &[vec![vec![1.0]]], 1.0);
        assert_eq!(shorter.verdict, Verdict::Differs);
    }

    fn rows(length: usize) -> Vec<Vec<u32>> {
        let row = |number: u32| {
            let ids = (0..length as u32).map(|at| (at * at + number * (at + 5)) % 31);
            ids.collect()
        };
        (0..WINDOWS as u32).map(row).collect()
    }

    #[test]
    fn prefixes_differ_in_length_where_windows_are_long_enough() {
        let shape = |length| {
            let windows = Window::all(rows(length));
            assert!(windows.iter().all(|w| w.prefix + w.steps <= w.tokens.len()));
            let prefixes: Vec<usize> = windows.iter().map(|window| window.prefix).collect();
            (prefixes, windows[0].steps, windows[0].tokens.len())
        };
        assert_eq!(shape(16), (vec![8, 7, 6, 5, 4, 3, 2, 1], 8, 16));
        assert_eq!(shape(12), (vec![4, 3, 2, 1, 1, 1, 1, 1], 8, 12));
        assert_eq!(shape(2), (vec![1; 8], 1, 2));
        assert_eq!(shape(1), (vec![1; 8], 0, 1));
        let long = vec![120, 119, 118, 117, 116, 115, 114, 113];
        assert_eq!(shape(1000), (long, 8, 128));
    }

    /// Returns the verdicts on steps whose cache is filled with `cached`, on a full pass of `batch`, and on steps for
    /// `batch`; all of them against full passes of `windows`.
    fn checked(
        model: &LanguageModel,
        windows: &[Window],
        cached: &[Window],
        batch: &[Window],
    ) -> Result<[Verdict; 3], Error> {
        let full = one_at_a_time(windows, |window| full_pass(model, window))?;
        let bound = rounding(model, Precision::F32, windows, &full)?;
        assert!(bound < 1e-4, "{bound:e}");
        let computed = [
            one_at_a_time(cached, |window| cached_steps(model, window))?,
            full_pass(model, batch)?,
            cached_steps(model, batch)?,
        ];
        Ok(computed
            .map(|logits| Invariance::judge(Computation::Batch, &logits, &full, bound).verdict))
    }

    #[test]
    fn wrong_cache_entry_and_exchanged_rows_differ_and_every_backend_agrees_with_itself() {
        let gpt2 = ModelConfig::new(31, 24, 2, 4, 32);
        let llama = ModelConfig {
            window: Some(9),
            ..ModelConfig::llama(31, 24, 2, 4, 2, 32)
        };
        let backends = [Backend::Flex, Backend::NdArray, Backend::LibTorch];
        for backend in backends.into_iter().filter(|backend| backend.compiled_in()) {
            for config in [&gpt2, &llama] {
                let transformer = config.init(7, &backend.device().unwrap()).unwrap();
                let model = LanguageModel::new(transformer, 0);
                let windows = Window::all(rows(24));
                let clean = |model: &LanguageModel| {
                    let verdicts = checked(model, &windows, &windows, &windows).unwrap();
                    let agree = [Verdict::Identical, Verdict::Rounding];
                    assert!(
                        verdicts.iter().all(|verdict| agree.contains(verdict)),
                        "{backend} {config:?}: {verdicts:?}"
                    );
                };
                clean(&model);
                clean(&model.clone().with_fused(false));

                // One entry of one window's cache is of another token. It is the last, because the Llama attends to the
                // last 9 tokens alone.
                let mut stale = windows.clone();
                let last = stale[3].prefix - 1;
                stale[3].tokens[last] = (stale[3].tokens[last] + 1) % 31;
                let mut exchanged = windows.clone();
                exchanged.swap(5, 6);
                for (window, of) in exchanged.iter_mut().zip(&windows) {
                    window.prefix = of.prefix;
                }
                let wrong = checked(&model, &windows, &stale, &exchanged).unwrap();
                assert_eq!(wrong, [Verdict::Differs; 3], "{backend} {config:?}");
            }
        }
    }
}
