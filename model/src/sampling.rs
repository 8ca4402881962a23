//! Logits to a token, on the host, so that a seed means the same choice on every backend.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::random;

/// How the next token is chosen. The default draws from the model's own distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Divides the logits: below 1 sharpens the distribution, above 1 flattens it, and 0 always takes the
    /// most probable token.
    pub temperature: f64,
    /// Keep only this many of the most probable tokens.
    pub top_k: Option<usize>,
    /// Then keep only the fewest of the most probable tokens that hold this much of the probability
    /// (Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>). One token is always kept.
    pub top_p: Option<f64>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
        }
    }
}

impl SamplingConfig {
    /// Always the most probable token; of several, the lowest id.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Checks that every number means something.
    ///
    /// # Errors
    /// Names the number that does not, and the range it must lie in.
    pub fn validate(&self) -> Result<(), ModelError> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(ModelError::OutOfRange {
                name: "temperature",
                value: self.temperature,
                expected: "0 (greedy) or more, and finite",
            });
        }
        if self.top_k == Some(0) {
            return Err(ModelError::Zero { name: "top_k" });
        }
        match self.top_p {
            Some(top_p) if !(top_p > 0.0 && top_p <= 1.0) => Err(ModelError::OutOfRange {
                name: "top_p",
                value: top_p,
                expected: "above 0 and at most 1",
            }),
            _ => Ok(()),
        }
    }
}

/// Draws tokens; the sequence of draws is a function of the configuration, the seed and the logits.
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplingConfig,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of the random stream of `seed`.
    ///
    /// # Errors
    /// When the configuration does not [`validate`](SamplingConfig::validate).
    pub fn new(config: SamplingConfig, seed: u64) -> Result<Self, ModelError> {
        config.validate()?;
        Ok(Self {
            config,
            rng: random::stream(seed, "sampling"),
        })
    }

    /// Chooses a token, given the logits of all. A logit of minus infinity excludes its token.
    ///
    /// # Errors
    /// When a logit is NaN or plus infinity, or none is above minus infinity: no distribution has such
    /// logits.
    pub fn sample(&mut self, logits: &[f32]) -> Result<usize, ModelError> {
        check(logits)?;
        // Most probable first, then by id: a total order, so that ties cannot depend on the sort.
        let by_rank = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
        let mut tokens: Vec<usize> = (0..logits.len()).collect();

        let keep = if self.config.temperature == 0.0 {
            1
        } else {
            self.config.top_k.unwrap_or(tokens.len()).min(tokens.len())
        };
        if keep < tokens.len() {
            tokens.select_nth_unstable_by(keep - 1, by_rank);
            tokens.truncate(keep);
        }
        if let [token] = tokens[..] {
            return Ok(token);
        }
        tokens.sort_unstable_by(by_rank);

        // Relative to the first, the largest, which weighs 1: no overflow, and a positive total.
        let relative = |token: &usize| f64::from(logits[*token]) - f64::from(logits[tokens[0]]);
        let mut weights: Vec<f64> = tokens
            .iter()
            .map(|token| libm::exp(relative(token) / self.config.temperature))
            .collect();
        if let Some(top_p) = self.config.top_p {
            let enough = top_p * weights.iter().sum::<f64>();
            weights.truncate(count_until(&weights, |total| total >= enough));
        }

        // Below the total, which the same sum reaches again: a token of weight 0 is never drawn.
        let point = random::uniform(&mut self.rng) * weights.iter().sum::<f64>();
        let rank = count_until(&weights, |total| total > point) - 1;
        Ok(tokens[rank])
    }
}

/// How many weights it takes, from the first, until `reached(their sum)`; all of them if it never is.
fn count_until(weights: &[f64], reached: impl Fn(f64) -> bool) -> usize {
    let mut total = 0.0;
    for (index, weight) in weights.iter().enumerate() {
        total += weight;
        if reached(total) {
            return index + 1;
        }
    }
    weights.len()
}

fn check(logits: &[f32]) -> Result<(), ModelError> {
    let invalid = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    let token = match logits.iter().position(invalid) {
        Some(token) => token,
        None if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) => 0,
        None => return Ok(()),
    };
    Err(ModelError::InvalidLogit {
        token,
        value: logits.get(token).copied().unwrap_or(f32::NEG_INFINITY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 6] = [0.3, 2.0, -1.0, 1.2, f32::NEG_INFINITY, 0.9];

    fn sampler(temperature: f64, top_k: Option<usize>, top_p: Option<f64>) -> Sampler {
        let config = SamplingConfig {
            temperature,
            top_k,
            top_p,
        };
        Sampler::new(config, 11).unwrap()
    }

    /// Probabilities of `LOGITS` at a temperature, with only the tokens of `kept`.
    fn probabilities(temperature: f64, kept: &[usize]) -> [f64; 6] {
        let mut weights = [0.0; 6];
        for token in kept {
            weights[*token] = (f64::from(LOGITS[*token]) / temperature).exp();
        }
        let total: f64 = weights.iter().sum();
        weights.map(|weight| weight / total)
    }

    #[track_caller]
    fn assert_distribution(mut sampler: Sampler, expected: [f64; 6]) {
        let draws = 20_000;
        let mut counts = [0u32; 6];
        for _ in 0..draws {
            counts[sampler.sample(&LOGITS).unwrap()] += 1;
        }
        let mut chi_square = 0.0;
        for (count, probability) in counts.into_iter().zip(expected) {
            if probability == 0.0 {
                assert_eq!(count, 0, "{counts:?}");
            } else {
                let mean = probability * f64::from(draws);
                chi_square += (f64::from(count) - mean).powi(2) / mean;
            }
        }
        // At most 4 degrees of freedom, for which 23.5 is exceeded with probability 1e-4.
        assert!(
            chi_square < 23.5,
            "χ² = {chi_square}: {counts:?}, {expected:?}"
        );
    }

    #[test]
    fn draws_follow_the_temperature() {
        let all = [0, 1, 2, 3, 5];
        for temperature in [0.5, 1.0, 3.0] {
            let expected = probabilities(temperature, &all);
            assert_distribution(sampler(temperature, None, None), expected);
        }
    }

    #[test]
    fn top_k_keeps_the_k_most_probable() {
        for (k, kept) in [(1, &[1][..]), (2, &[1, 3]), (3, &[1, 3, 5])] {
            let expected = probabilities(0.8, kept);
            assert_distribution(sampler(0.8, Some(k), None), expected);
        }
        let all = probabilities(1.0, &[0, 1, 2, 3, 5]);
        assert_distribution(sampler(1.0, Some(100), None), all);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_hold_p() {
        // In order of rank: 0.49, 0.22, 0.16, 0.09, 0.02.
        for (p, kept) in [
            (1e-9, &[1][..]),
            (0.45, &[1]),
            (0.6, &[1, 3]),
            (0.8, &[1, 3, 5]),
            (1.0, &[0, 1, 2, 3, 5]),
        ] {
            let expected = probabilities(1.0, kept);
            assert_distribution(sampler(1.0, None, Some(p)), expected);
        }
    }

    #[test]
    fn top_p_counts_what_top_k_and_temperature_leave() {
        // Of the two kept, the first holds 0.69: alone enough for 0.65, not for 0.75.
        assert_distribution(sampler(1.0, Some(2), Some(0.65)), probabilities(1.0, &[1]));
        assert_distribution(
            sampler(1.0, Some(2), Some(0.75)),
            probabilities(1.0, &[1, 3]),
        );
        // At half the temperature it holds 0.83.
        assert_distribution(sampler(0.5, Some(2), Some(0.75)), probabilities(0.5, &[1]));
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let mut greedy = Sampler::new(SamplingConfig::greedy(), 0).unwrap();
        assert_eq!(greedy.sample(&[0.0, 3.0, 1.0, 3.0]), Ok(1));
        assert_eq!(greedy.sample(&[-0.5; 5]), Ok(0));
        assert_eq!(greedy.sample(&[f32::NEG_INFINITY, -1e30]), Ok(1));
    }

    #[test]
    fn extreme_logits_and_temperatures_stay_in_range() {
        for temperature in [1e-300, 1e-3, 1.0, 1e300] {
            let mut sampler = sampler(temperature, None, Some(0.9));
            for logits in [[1e38, -1e38, 0.0], [f32::MAX, f32::MAX, f32::MIN]] {
                assert!(sampler.sample(&logits).unwrap() < 3);
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let draw = |seed| -> Vec<usize> {
            let mut sampler = Sampler::new(SamplingConfig::default(), seed).unwrap();
            (0..50).map(|_| sampler.sample(&LOGITS).unwrap()).collect()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn logits_without_a_distribution_are_an_error() {
        let nowhere = [f32::NEG_INFINITY; 2];
        for mut sampler in [sampler(0.0, None, None), sampler(1.0, Some(1), Some(0.5))] {
            for (logits, token) in [
                (&[0.0, f32::NAN][..], 1),
                (&[f32::INFINITY, 0.0], 0),
                (&nowhere, 0),
                (&[], 0),
            ] {
                match sampler.sample(logits) {
                    Err(ModelError::InvalidLogit { token: found, .. }) => assert_eq!(found, token),
                    other => panic!("{logits:?} gives {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_setting_without_meaning_is_refused() {
        let refused = |temperature, top_k, top_p| {
            let config = SamplingConfig {
                temperature,
                top_k,
                top_p,
            };
            Sampler::new(config, 0).unwrap_err().to_string()
        };
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(refused(temperature, None, None).starts_with("temperature is"));
        }
        assert_eq!(
            refused(1.0, Some(0), None),
            "top_k is 0; it must be at least 1"
        );
        for top_p in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(refused(1.0, None, Some(top_p)).starts_with("top_p is"));
        }
    }
}
