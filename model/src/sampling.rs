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
