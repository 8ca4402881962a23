//! Counterfactual memorisation: what models save on a document because they were trained on it (Zhang et al. 2021,
//! <https://arxiv.org/abs/2112.12938>).
//!
//! Many models are trained on random subsets of the documents (`data.subset`). What models without a document need for it,
//! less what models with it need, in bits per byte, is what they have memorised of it: what other documents teach, all of
//! the models know. A document with a copy elsewhere in the text is not memorised in this sense.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::Estimate;
use crate::show::statistics::quantile_of_sorted;

/// Share of false discoveries among the documents that are called memorised.
pub(super) const FALSE_DISCOVERIES: f64 = 0.05;

/// Smallest number of models with a document, and without it.
pub(super) const MIN_MODELS: usize = 2;

/// Bits that models with and without a document in their training text need for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentMemory {
    /// Number of the document in the training text, from 0.
    pub document: usize,
    /// Bytes of its text.
    pub bytes: usize,
    /// Number of models that were trained on it.
    pub with: usize,
    /// Number of models that were not.
    pub without: usize,
    /// Bits that models with it save for each of its bytes, with Welch's interval over models.
    pub saved: Estimate,
    /// Probability of savings as large, if the document made no difference (Welch's test, one-sided).
    pub p_value: f64,
    /// Whether it is memorised, with a share of false discoveries of 5 % at most (Benjamini & Hochberg 1995).
    pub is_memorised: bool,
    /// The beginning of its text.
    pub text: String,
}

/// A document, and what each model needs for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    pub(super) document: usize,
    pub(super) bytes: usize,
    pub(super) text: String,
    /// Bits per byte of each model.
    pub(super) bits: Vec<f64>,
    /// Whether each model was trained on it.
    pub(super) is_with: Vec<bool>,
}

/// Memorisation of the documents of a training text, measured over models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Savings {
    /// Mean over documents of the bits saved per byte, with an interval over models by the bootstrap.
    pub mean: Option<Estimate>,
    /// Quantiles over documents of the bits saved per byte.
    pub quantiles: Vec<Quantile>,
    /// Number of documents that are memorised.
    pub memorised: usize,
    /// Every document, from the one with the largest savings on.
    pub documents: Vec<DocumentMemory>,
}

/// A quantile of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantile {
    /// Share of the distribution below it.
    pub share: f64,
    /// The quantile, in bits per byte.
    pub value: f64,
}

impl Measured {
    fn groups(&self) -> [Vec<f64>; 2] {
        [true, false].map(|with| {
            let pairs = self.bits.iter().zip(&self.is_with);
            pairs
                .filter(|(_, is_with)| **is_with == with)
                .map(|(bits, _)| *bits)
                .collect()
        })
    }

    /// Returns the bits saved per byte of models with weights; not a number without models of either kind.
    fn saved(&self, weights: &[f64]) -> f64 {
        let (mut sums, mut totals) = ([0.0; 2], [0.0; 2]);
        for ((bits, is_with), weight) in self.bits.iter().zip(&self.is_with).zip(weights) {
            sums[usize::from(*is_with)] += weight * bits;
            totals[usize::from(*is_with)] += weight;
        }
        sums[0] / totals[0] - sums[1] / totals[1]
    }

    fn memory(self) -> Option<DocumentMemory> {
        let [with, without] = self.groups();
        let (saved, p_value) = welch(&without, &with)?;
        Some(DocumentMemory {
            document: self.document,
            bytes: self.bytes,
            with: with.len(),
            without: without.len(),
            saved,
            p_value,
            is_memorised: false,
            text: self.text,
        })
    }
}

/// Returns the difference of two means with its interval, and the probability of one as large without a difference
/// (Welch 1947); `None` with fewer than two numbers of either kind.
fn welch(one: &[f64], other: &[f64]) -> Option<(Estimate, f64)> {
    let moments = |numbers: &[f64]| {
        let count = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
        (mean, squares / (count - 1.0) / count, count - 1.0)
    };
    if one.len() < MIN_MODELS || other.len() < MIN_MODELS {
        return None;
    }
    let ((a, u, m), (b, v, n)) = (moments(one), moments(other));
    let (value, error) = (a - b, (u + v).sqrt());
    if error == 0.0 {
        let estimate = Estimate {
            value,
            standard_error: Some(0.0),
            interval: Some([value; 2]),
        };
        return Some((estimate, f64::from(u8::from(value <= 0.0))));
    }
    let degrees = (u + v).powi(2) / (u * u / m + v * v / n);
    let student = StudentsT::new(0.0, 1.0, degrees).ok()?;
    let margin = student.inverse_cdf(0.975) * error;
    let estimate = Estimate {
        value,
        standard_error: Some(error),
        interval: Some([value - margin, value + margin]),
    };
    Some((estimate, student.sf(value / error)))
}

/// Returns the largest p-value that is a discovery, with this share of false ones at most; 0 without discoveries.
fn discoveries(p_values: &[f64], share: f64) -> f64 {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let mut ranked = sorted.iter().enumerate().rev();
    let is_found = |(index, p): &(usize, &f64)| **p <= share * (index + 1) as f64 / count;
    ranked.find(is_found).map_or(0.0, |(_, p)| *p)
}

impl Savings {
    /// Compares models with and without each document.
    pub(super) fn of(measured: Vec<Measured>, bootstrap: Bootstrap) -> Self {
        let models = measured.first().map_or(0, |measured| measured.bits.len());
        let mean = bootstrap.estimate(models, |weights| {
            let saved = measured.iter().map(|measured| measured.saved(weights));
            // A draw of models may have none with a document, or none without it.
            let known: Vec<f64> = saved.filter(|saved| saved.is_finite()).collect();
            known.iter().sum::<f64>() / known.len() as f64
        });
        let documents = measured.into_iter().filter_map(Measured::memory);
        let mut documents: Vec<DocumentMemory> = documents.collect();
        documents.sort_by(|a, b| b.saved.value.total_cmp(&a.saved.value));
        let p_values: Vec<f64> = documents.iter().map(|document| document.p_value).collect();
        let level = discoveries(&p_values, FALSE_DISCOVERIES);
        for document in &mut documents {
            document.is_memorised = level > 0.0 && document.p_value <= level;
        }
        let ascending: Vec<f64> = documents
            .iter()
            .rev()
            .map(|document| document.saved.value)
            .collect();
        let quantile = |share| {
            let value = quantile_of_sorted(&ascending, share)?;
            Some(Quantile { share, value })
        };
        let shares = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0];
        Self {
            mean,
            quantiles: shares.into_iter().filter_map(quantile).collect(),
            memorised: documents
                .iter()
                .filter(|document| document.is_memorised)
                .count(),
            documents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::science::random::Random;

    const BOOTSTRAP: Bootstrap = Bootstrap {
        draws: 300,
        seed: 1,
    };

    /// Documents of `models` models, in which those with the document save as many bits as `saved` says.
    fn documents(models: usize, seed: u64, saved: impl Fn(usize) -> f64) -> Vec<Measured> {
        let mut random = Random::stream(seed, 0);
        // Some models are better than others, on all documents.
        let quality: Vec<f64> = (0..models).map(|_| 0.05 * random.normal()).collect();
        (0..200)
            .map(|document| {
                let is_with: Vec<bool> = (0..models)
                    .map(|model| (model + document * 7 / 3) % 4 < 2)
                    .collect();
                let pairs = quality.iter().zip(&is_with);
                let bits = pairs.map(|(quality, is_with)| {
                    let effect = f64::from(u8::from(*is_with)) * saved(document);
                    3.0 + quality + 0.1 * random.normal() - effect
                });
                Measured {
                    document,
                    bytes: 10,
                    text: String::new(),
                    bits: bits.collect(),
                    is_with,
                }
            })
            .collect()
    }

    #[test]
    fn memorised_documents_are_found_and_few_others() {
        let measured = documents(16, 3, |document| 0.6 * f64::from(u8::from(document < 50)));
        let savings = Savings::of(measured, BOOTSTRAP);
        let is_true = |document: &&DocumentMemory| document.document < 50;
        let found = savings.documents.iter().filter(|found| found.is_memorised);
        let right = found.clone().filter(is_true).count();
        assert_eq!(right, 50);
        assert!(savings.memorised - right <= 8, "{}", savings.memorised);
        // A quarter of the documents saves 0.6 bits.
        let mean = savings.mean.unwrap();
        assert!((mean.value - 0.15).abs() < 0.02, "{mean:?}");
        assert_eq!(mean.contains(0.15), Some(true));
        assert!(
            savings
                .documents
                .is_sorted_by(|a, b| a.saved.value >= b.saved.value)
        );
        let median = savings.quantiles[3];
        assert_eq!(median.share, 0.5);
        assert!(median.value.abs() < 0.06, "{median:?}");
    }

    /// If no document makes a difference, none is found in at least 93 % of 200 sweeps.
    #[test]
    fn documents_that_make_no_difference_are_not_memorised() {
        let found = (0..200).filter(|seed| {
            let measured = documents(8, 100 + seed, |_| 0.0);
            Savings::of(measured, Bootstrap { draws: 2, seed: 1 }).memorised > 0
        });
        assert!(found.count() <= 14);
    }

    /// The expected numbers are those of the formulas, with 3.0278 degrees of freedom, and the tail of Student's density
    /// summed numerically.
    #[test]
    fn intervals_and_probabilities_are_those_of_welch() {
        let (one, other) = ([3.1, 2.9, 3.4, 3.3], [2.2, 2.8, 2.1]);
        let (estimate, p) = welch(&one, &other).unwrap();
        assert!((estimate.value - 0.808_333).abs() < 1e-5, "{estimate:?}");
        assert!((estimate.standard_error.unwrap() - 0.245_091).abs() < 1e-5);
        assert!((p - 0.022_594).abs() < 1e-5, "{p}");
        assert_eq!(welch(&one[..1], &other), None);
        let (same, p) = welch(&[1.0, 1.0], &[1.0, 1.0]).unwrap();
        assert_eq!((same.value, p), (0.0, 1.0));
    }

    #[test]
    fn discoveries_are_those_of_benjamini_and_hochberg() {
        // Their table of 15 p-values, of which four are discoveries at 5 %.
        let p_values = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        assert_eq!(discoveries(&p_values, 0.05), 0.0095);
        assert_eq!(discoveries(&[0.3, 0.9], 0.05), 0.0);
        assert_eq!(discoveries(&[], 0.05), 0.0);
    }
}
