//! The next-token distribution in whole numbers, for entropy coding.
//!
//! Of a vocabulary of `V` tokens with logits `z`, token `i` has the frequency
//! `1 + ⌊exp(z_i - max z) / Σ exp(z_j - max z) · (TOTAL - 2 V)⌋`. Every token can be coded, and the frequencies are a
//! distribution by themselves: their sum is what they are divided by. Nothing is mixed in but the 1, which costs
//! `V / TOTAL / ln 2` bits per token: 7e-5 with 50 257 tokens.
//!
//! Exponentials are those of the libm crate, and sums are taken in the order of the ids: the same logits give the same
//! numbers on every machine.

use std::ops::Range;

use crate::error::ModelError;
use crate::sampling::check;

/// Upper bound of the sum of all frequencies.
const TOTAL: u64 = 1 << 30;

/// Frequencies of all tokens after one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frequencies {
    /// Sum of the frequencies of all tokens below each id; the last one is the sum of all.
    cumulative: Vec<u32>,
}

impl Frequencies {
    /// Returns the frequencies of the distribution with these logits, whose exponentials are computed in f32.
    ///
    /// # Errors
    ///
    /// Returns [`ModelError::InvalidLogit`] if there is no largest finite logit, or one is NaN.
    ///
    /// # Panics
    ///
    /// Panics if there are no logits, or more than 2^29.
    pub fn of(logits: &[f32]) -> Result<Self, ModelError> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self::from_weights(logits, |logit| f64::from(libm::expf(logit - highest)))
    }

    /// Returns the frequencies of the distribution with these logits, whose exponentials are computed in f64.
    ///
    /// # Errors
    ///
    /// Returns the error of [`of`](Self::of).
    ///
    /// # Panics
    ///
    /// Panics if there are no logits, or more than 2^29.
    pub fn of_f64(logits: &[f64]) -> Result<Self, ModelError> {
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self::from_weights(logits, |logit| libm::exp(logit - highest))
    }

    fn from_weights<T: Copy + Into<f64>>(
        logits: &[T],
        weight: impl Fn(T) -> f64,
    ) -> Result<Self, ModelError> {
        let vocabulary = logits.len() as u64;
        assert!(
            0 < vocabulary && vocabulary <= TOTAL / 2,
            "there are tokens"
        );
        check(logits)?;
        let weights: Vec<f64> = logits.iter().map(|logit| weight(*logit)).collect();
        let total = weights.iter().fold(0.0, |sum, weight| sum + weight);
        // Rounding may make this a little too large for the shares to add up to less, by less than one per token.
        let scale = (TOTAL - 2 * vocabulary) as f64 / total;
        let mut cumulative = Vec::with_capacity(logits.len() + 1);
        let mut sum = 0u32;
        cumulative.push(sum);
        for weight in weights {
            sum += 1 + (weight * scale) as u32;
            cumulative.push(sum);
        }
        Ok(Self { cumulative })
    }

    /// Returns equal frequencies of `vocabulary` tokens.
    ///
    /// # Panics
    ///
    /// Panics if there are no tokens, or more than 2^29.
    pub fn uniform(vocabulary: usize) -> Self {
        assert!(
            0 < vocabulary && vocabulary as u64 <= TOTAL / 2,
            "there are tokens"
        );
        Self {
            cumulative: (0..=vocabulary as u32).collect(),
        }
    }

    /// Returns the sum of all frequencies, which is at most 2^30.
    pub fn total(&self) -> u64 {
        self.cumulative.last().copied().map_or(0, u64::from)
    }

    /// Returns the places of a token among all: as many as its frequency, after those of all tokens with a lower id.
    ///
    /// # Panics
    ///
    /// Panics if the token is not in the vocabulary.
    pub fn places(&self, token: u32) -> Range<u64> {
        let token = token as usize;
        u64::from(self.cumulative[token])..u64::from(self.cumulative[token + 1])
    }

    /// Returns the token that has a place.
    ///
    /// # Panics
    ///
    /// Panics if the place is not below the total.
    pub fn token_at(&self, place: u64) -> u32 {
        assert!(place < self.total(), "the place is below the total");
        let after = self
            .cumulative
            .partition_point(|start| u64::from(*start) <= place);
        after as u32 - 1
    }

    /// Returns -log₂ of the probability of a token.
    ///
    /// # Panics
    ///
    /// Panics if the token is not in the vocabulary.
    pub fn bits(&self, token: u32) -> f64 {
        let places = self.places(token);
        (self.total() as f64 / (places.end - places.start) as f64).log2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_belongs_to_its_token() {
        let logits = [0.0, -3.0, f32::NEG_INFINITY, 4.0, 4.0, -200.0];
        let frequencies = Frequencies::of(&logits).unwrap();
        let mut next = 0;
        for token in 0..logits.len() as u32 {
            let places = frequencies.places(token);
            assert_eq!(places.start, next);
            assert!(!places.is_empty());
            for place in [places.start, places.end - 1] {
                assert_eq!(frequencies.token_at(place), token);
            }
            next = places.end;
        }
        assert_eq!(next, frequencies.total());
        assert!(next <= TOTAL && next > TOTAL - 2 * logits.len() as u64 - 2);
    }

    #[test]
    fn bits_are_those_of_the_softmax() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 / 10.0).collect();
        let frequencies = Frequencies::of(&logits).unwrap();
        let total: f64 = logits.iter().map(|z| f64::from(*z).exp()).sum();
        for token in [0, 1, 50, 999] {
            let exact = total.log2() - f64::from(logits[token as usize]) / std::f64::consts::LN_2;
            // One place in 2^30 p, and the share of the ones.
            let bound = 2.0 / (exact.exp2().recip() * TOTAL as f64) + 1e-5;
            let error = (frequencies.bits(token) - exact).abs();
            assert!(error < bound, "{error} {bound}");
        }
        let sum: f64 = (0..1000)
            .map(|token| frequencies.bits(token).exp2().recip())
            .sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }

    #[test]
    fn any_vocabulary_keeps_below_the_total() {
        for vocabulary in [1, 2, 257, 50_257, 131_072] {
            for spread in [0.0, 1e-3, 5.0, 80.0] {
                let logits: Vec<f32> = (0..vocabulary).map(|i| (i % 17) as f32 * spread).collect();
                let wide: Vec<f64> = logits.iter().copied().map(f64::from).collect();
                for frequencies in [Frequencies::of(&logits), Frequencies::of_f64(&wide)] {
                    let frequencies = frequencies.unwrap();
                    assert!(frequencies.total() <= TOTAL);
                    assert_eq!(
                        frequencies.token_at(frequencies.total() - 1),
                        vocabulary - 1
                    );
                }
            }
        }
    }

    #[test]
    fn logits_that_are_not_numbers_are_refused() {
        for (logits, expected) in [
            (&[0.0, f32::NAN][..], 1),
            (&[f32::INFINITY, 0.0], 0),
            (&[f32::NEG_INFINITY], 0),
        ] {
            let wide: Vec<f64> = logits.iter().copied().map(f64::from).collect();
            for refused in [Frequencies::of(logits), Frequencies::of_f64(&wide)] {
                let error = refused.unwrap_err();
                let ModelError::InvalidLogit { token, .. } = error else {
                    panic!("{error}");
                };
                assert_eq!(token, expected);
            }
        }
    }

    #[test]
    fn logits_in_f64_give_finer_frequencies() {
        // 2^-26, which f32 rounds away beside 8.
        let logits = [8.0, 8.0 + 2f64.powi(-26)];
        let frequencies = Frequencies::of_f64(&logits).unwrap();
        // Shares of the places that differ by 2^-27.
        let [first, second] = [0, 1].map(|token| frequencies.places(token));
        let more = (second.end - second.start) - first.end;
        assert!((7..=9).contains(&more), "{first:?} {second:?}");
        assert_eq!(
            Frequencies::of_f64(&[0.0; 4]).unwrap(),
            Frequencies::of(&[0.0; 4]).unwrap()
        );
    }

    #[test]
    fn uniform_frequencies_are_equal() {
        let frequencies = Frequencies::uniform(256);
        assert!((0..256).all(|token| frequencies.bits(token) == 8.0));
    }
}
