//! Logits to a token, on the host, so that a seed means the same choice on every backend.
//!
//! Every setting acts on what the ones before it leave: repetition penalty, temperature, top-k, top-p, min-p. That
//! is the order of Hugging Face `transformers` (`GenerationMixin._get_logits_processor`). Two things are decided
//! here that are left to chance there: of equal logits the lower id ranks first, also at the edge of
//! top-k and top-p; and a draw inverts the distribution function in the order of ids. In that order a logit
//! whose last bit differs between two backends moves a border by as much, where in the order of ranks it
//! could swap two tokens.

use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::random;

/// How the next token is chosen. The default draws from the model's own distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Divides the positive and multiplies the negative logits of tokens that the text already holds: above
    /// 1 discourages repetition, below 1 encourages it, and 1 does nothing (Keskar et al. 2019,
    /// <https://arxiv.org/abs/1909.05858>).
    pub repetition_penalty: f64,
    /// Divides the logits: below 1 sharpens the distribution, above 1 flattens it, and 0 always takes the
    /// most probable token.
    pub temperature: f64,
    /// Keep only this many of the most probable tokens.
    pub top_k: Option<usize>,
    /// Then keep only the fewest of the most probable tokens that hold this much of the probability
    /// (Holtzman et al. 2019, <https://arxiv.org/abs/1904.09751>). One token is always kept.
    pub top_p: Option<f64>,
    /// Then keep only tokens that are at least this many times as probable as the most probable one (Nguyen et
    /// al. 2024, <https://arxiv.org/abs/2407.01082>).
    pub min_p: Option<f64>,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
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
        let refuse = |name, value, expected| {
            Err(ModelError::OutOfRange {
                name,
                value,
                expected,
            })
        };
        let (penalty, temperature) = (self.repetition_penalty, self.temperature);
        if !(penalty > 0.0 && penalty.is_finite()) {
            return refuse("repetition_penalty", penalty, "above 0, and finite");
        }
        if !(temperature >= 0.0 && temperature.is_finite()) {
            return refuse("temperature", temperature, "0 (greedy) or more, and finite");
        }
        if self.top_k == Some(0) {
            return Err(ModelError::Zero { name: "top_k" });
        }
        match (self.top_p, self.min_p) {
            (Some(top_p), _) if !(top_p > 0.0 && top_p <= 1.0) => {
                refuse("top_p", top_p, "above 0 and at most 1")
            }
            (_, Some(min_p)) if !(0.0..=1.0).contains(&min_p) => {
                refuse("min_p", min_p, "at least 0 and at most 1")
            }
            _ => Ok(()),
        }
    }
}

/// Draws tokens; the sequence of draws is a function of the configuration, the seed, the logits and the
/// texts.
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplingConfig,
    rng: ChaCha8Rng,
}

/// A token that may be drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    /// Its probability over that of the most probable token.
    weight: f64,
}

impl Sampler {
    /// A sampler at the start of the random stream of `seed`.
    ///
    /// # Errors
    /// When the configuration does not [`validate`](SamplingConfig::validate).
    pub fn new(config: SamplingConfig, seed: u64) -> Result<Self, ModelError> {
        Self::nth(config, seed, 0)
    }

    /// One of several samplers for texts that are drawn with the same seed: each `index` has a random stream of
    /// its own, whatever their number, and index 0 that of [`new`](Self::new).
    ///
    /// # Errors
    /// When the configuration does not [`validate`](SamplingConfig::validate).
    pub fn nth(config: SamplingConfig, seed: u64, index: usize) -> Result<Self, ModelError> {
        config.validate()?;
        let rng = match index {
            0 => random::stream(seed, "sampling"),
            _ => random::stream(seed, &format!("sampling.{index}")),
        };
        Ok(Self { config, rng })
    }

    /// Chooses a token, given the logits of all and the `text` so far, which only the repetition penalty
    /// reads. A logit of minus infinity excludes its token.
    ///
    /// # Errors
    /// When a logit is NaN or plus infinity, or none is above minus infinity: no distribution has such
    /// logits. When `text` holds an id without a logit.
    pub fn sample(&mut self, logits: &[f32], text: &[u32]) -> Result<u32, ModelError> {
        let candidates = self.candidates(logits, text)?;
        if let [only] = candidates[..] {
            return Ok(only.token);
        }
        // Below the total, which the same sum reaches again: a token of weight 0 is never drawn.
        let total: f64 = candidates.iter().map(|candidate| candidate.weight).sum();
        let point = random::uniform(&mut self.rng) * total;
        let mut sum = 0.0;
        let reaches = |candidate: &Candidate| {
            sum += candidate.weight;
            sum > point
        };
        let drawn = candidates.iter().position(reaches);
        Ok(candidates[drawn.unwrap_or(candidates.len() - 1)].token)
    }

    /// What is drawn from, in the order of ids.
    fn candidates(&self, logits: &[f32], text: &[u32]) -> Result<Vec<Candidate>, ModelError> {
        check(logits)?;
        let penalised;
        let logits = match self.config.repetition_penalty {
            1.0 => logits,
            penalty => {
                penalised = penalise(logits, text, penalty)?;
                &penalised
            }
        };
        let best = best(logits);
        if self.config.temperature == 0.0 {
            let only = Candidate {
                token: best as u32,
                weight: 1.0,
            };
            return Ok(vec![only]);
        }

        // Relative to the best, which weighs 1: no overflow, and a positive total.
        let candidate = |token: u32| {
            let relative = f64::from(logits[token as usize]) - f64::from(logits[best]);
            Candidate {
                token,
                weight: libm::exp(relative / self.config.temperature),
            }
        };
        let mut candidates: Vec<Candidate> = match self.config.top_k {
            Some(k) if k < logits.len() => {
                let mut tokens = highest(logits.iter().copied(), k);
                tokens.sort_unstable();
                tokens.into_iter().map(candidate).collect()
            }
            _ => (0..logits.len() as u32).map(candidate).collect(),
        };
        if let Some(top_p) = self.config.top_p {
            candidates = nucleus(candidates, logits, top_p);
        }
        if let Some(min_p) = self.config.min_p {
            candidates.retain(|candidate| candidate.weight >= min_p);
        }
        Ok(candidates)
    }
}

/// The fewest of the most probable candidates that hold `top_p` of the weight of all; all of them if rounding
/// keeps their sum below it.
fn nucleus(mut candidates: Vec<Candidate>, logits: &[f32], top_p: f64) -> Vec<Candidate> {
    let weight = |candidates: &[Candidate]| candidates.iter().map(|c| c.weight).sum::<f64>();
    let rank = |candidate: &Candidate| rank_key(logits[candidate.token as usize], candidate.token);
    let enough = top_p * weight(&candidates);
    // Bisection: the first `few` by rank hold less than enough, the first `many` as much or all. Each half is put in
    // its place without being sorted, so that a whole vocabulary costs about two passes over it.
    let (mut few, mut many) = (0, candidates.len());
    let mut held = 0.0;
    while many - few > 1 {
        let middle = (few + many) / 2;
        candidates[few..many].select_nth_unstable_by_key(middle - few, rank);
        let more = weight(&candidates[few..middle]);
        if held + more >= enough {
            many = middle;
        } else {
            few = middle;
            held += more;
        }
    }
    candidates.truncate(many);
    candidates.sort_unstable_by_key(|candidate| candidate.token);
    candidates
}

/// The positions of the `k` highest logits, highest first, and of equal ones the earlier first. One pass, with
/// 2 `k` of them in hand.
fn highest(logits: impl Iterator<Item = f32>, k: usize) -> Vec<u32> {
    let mut keys = Vec::new();
    let mut limit = u64::MAX;
    for (position, logit) in (0..).zip(logits) {
        let key = rank_key(logit, position);
        if key < limit {
            keys.push(key);
            if keys.len() == 2 * k {
                limit = *keys.select_nth_unstable(k - 1).1;
                keys.truncate(k);
            }
        }
    }
    keys.sort_unstable();
    keys.truncate(k);
    // The lower half of a key is the position.
    keys.into_iter().map(|key| key as u32).collect()
}

/// A number that is the lower, the higher the logit is, and of equal logits the earlier the position.
fn rank_key(logit: f32, position: u32) -> u64 {
    // Adding 0 makes one zero of two. The bits of positive floats ascend with their values, those of
    // negative ones descend.
    let bits = (logit + 0.0).to_bits();
    let descending = match bits >> 31 {
        1 => bits,
        _ => !(bits | 1 << 31),
    };
    u64::from(descending) << 32 | u64::from(position)
}

/// Logits that are looked at together, without a branch, which lets the compiler use vectors.
const TOGETHER: usize = 64;

/// The highest logit's position; of equal ones the first. There is at least one, and none is NaN.
fn best(logits: &[f32]) -> usize {
    let mut best = 0;
    for (block, together) in logits.chunks(TOGETHER).enumerate() {
        let higher = |above: bool, logit: &f32| above | (*logit > logits[best]);
        if together.iter().fold(false, higher) {
            for (place, logit) in together.iter().enumerate() {
                if *logit > logits[best] {
                    best = block * TOGETHER + place;
                }
            }
        }
    }
    best
}

/// The logits, with those of the tokens of `text` divided by `penalty` or multiplied with it, so that they
/// go down if it is above 1. How often a token occurs does not matter.
fn penalise(logits: &[f32], text: &[u32], penalty: f64) -> Result<Vec<f32>, ModelError> {
    let mut penalised = logits.to_vec();
    for token in text {
        let Some(&logit) = logits.get(*token as usize) else {
            return Err(ModelError::UnknownToken {
                token: *token,
                vocab_size: logits.len(),
            });
        };
        if logit > f32::NEG_INFINITY {
            let logit = f64::from(logit);
            let lowered = match logit < 0.0 {
                true => logit * penalty,
                false => logit / penalty,
            };
            penalised[*token as usize] = lowered.clamp(f32::MIN.into(), f32::MAX.into()) as f32;
        }
    }
    Ok(penalised)
}

/// Refuses logits that are no distribution.
pub(crate) fn check<T: Copy + Into<f64>>(logits: &[T]) -> Result<(), ModelError> {
    let value = |logit: &T| -> f64 { (*logit).into() };
    let invalid = |logit: &T| value(logit).is_nan() | (value(logit) == f64::INFINITY);
    let any = |together: &[T]| {
        together
            .iter()
            .fold(false, |any, logit| any | invalid(logit))
    };
    let found = match logits.chunks(TOGETHER).any(any) {
        true => logits.iter().position(invalid),
        false => None,
    };
    let token = match found {
        Some(token) => token,
        None if logits.iter().all(|logit| value(logit) == f64::NEG_INFINITY) => 0,
        None => return Ok(()),
    };
    Err(ModelError::InvalidLogit {
        token,
        value: logits.get(token).map_or(f64::NEG_INFINITY, value) as f32,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOGITS: [f32; 6] = [0.3, 2.0, -1.0, 1.2, f32::NEG_INFINITY, 0.9];

    fn with(set: impl FnOnce(&mut SamplingConfig)) -> SamplingConfig {
        let mut config = SamplingConfig::default();
        set(&mut config);
        config
    }

    fn sampler(config: SamplingConfig) -> Sampler {
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
    fn assert_distribution(config: SamplingConfig, text: &[u32], expected: [f64; 6]) {
        let mut sampler = sampler(config);
        let draws = 20_000;
        let mut counts = [0u32; 6];
        for _ in 0..draws {
            counts[sampler.sample(&LOGITS, text).unwrap() as usize] += 1;
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
            let config = with(|c| c.temperature = temperature);
            assert_distribution(config, &[], probabilities(temperature, &all));
        }
    }

    #[test]
    fn top_k_keeps_the_k_most_probable() {
        for (k, kept) in [(1, &[1][..]), (2, &[1, 3]), (3, &[1, 3, 5])] {
            let config = with(|c| (c.temperature, c.top_k) = (0.8, Some(k)));
            assert_distribution(config, &[], probabilities(0.8, kept));
        }
        let all = probabilities(1.0, &[0, 1, 2, 3, 5]);
        assert_distribution(with(|c| c.top_k = Some(100)), &[], all);
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
            let config = with(|c| c.top_p = Some(p));
            assert_distribution(config, &[], probabilities(1.0, kept));
        }
    }

    #[test]
    fn min_p_keeps_what_is_near_the_most_probable() {
        // Over the most probable, in order of rank: 1, 0.45, 0.33, 0.18, 0.05.
        for (p, kept) in [
            (1.0, &[1][..]),
            (0.4, &[1, 3]),
            (0.2, &[1, 3, 5]),
            (0.05, &[0, 1, 3, 5]),
            (0.0, &[0, 1, 2, 3, 5]),
        ] {
            let config = with(|c| c.min_p = Some(p));
            assert_distribution(config, &[], probabilities(1.0, kept));
        }
        // At twice the temperature the ratios are their square roots: 1, 0.67, 0.58, 0.43, 0.22.
        let config = with(|c| (c.temperature, c.min_p) = (2.0, Some(0.4)));
        assert_distribution(config, &[], probabilities(2.0, &[0, 1, 3, 5]));
    }

    #[test]
    fn a_repetition_penalty_lowers_what_the_text_holds_however_often() {
        let logits = [0.3, 2.0 / 1.5, -1.5, 1.2, f64::NEG_INFINITY, 0.9];
        let weights = logits.map(f64::exp);
        let total: f64 = weights.iter().sum();
        let config = with(|c| c.repetition_penalty = 1.5);
        let text = [2, 1, 1, 2, 1, 4];
        assert_distribution(config, &text, weights.map(|weight| weight / total));
    }

    #[test]
    fn settings_act_on_what_those_before_them_leave() {
        // Of the two kept, the first holds 0.69: alone enough for 0.65, not for 0.75.
        let config = |temperature, top_p| {
            with(|c| (c.temperature, c.top_k, c.top_p) = (temperature, Some(2), Some(top_p)))
        };
        assert_distribution(config(1.0, 0.65), &[], probabilities(1.0, &[1]));
        assert_distribution(config(1.0, 0.75), &[], probabilities(1.0, &[1, 3]));
        // At half the temperature it holds 0.83.
        assert_distribution(config(0.5, 0.75), &[], probabilities(0.5, &[1]));

        // The penalty first: it takes the first rank from token 1, whose logit is then 0.2.
        let config = SamplingConfig {
            repetition_penalty: 10.0,
            temperature: 0.5,
            top_k: Some(4),
            top_p: Some(0.9),
            min_p: Some(0.5),
        };
        let mut penalised = LOGITS.map(f64::from);
        penalised[1] = 0.2;
        // Of tokens 3, 5, 0 and 1 the first three hold 0.93, and 0 is 0.17 times as probable as 3.
        let kept = [3, 5].map(|token: usize| (penalised[token] / 0.5).exp());
        let mut expected = [0.0; 6];
        (expected[3], expected[5]) = (kept[0] / (kept[0] + kept[1]), kept[1] / (kept[0] + kept[1]));
        assert_distribution(config, &[1], expected);
    }

    /// The same distribution by sorting everything, as the definitions read.
    fn by_definition(config: &SamplingConfig, logits: &[f32], text: &[u32]) -> Vec<Candidate> {
        let penalty = config.repetition_penalty;
        let logit = |token: usize| {
            let logit = f64::from(logits[token]);
            let lowered = match text.contains(&(token as u32)) {
                true if logit < 0.0 => logit * penalty,
                true => logit / penalty,
                false => logit,
            };
            lowered as f32
        };
        let mut tokens: Vec<usize> = (0..logits.len()).collect();
        tokens.sort_by(|a, b| logit(*b).partial_cmp(&logit(*a)).unwrap().then(a.cmp(b)));
        tokens.truncate(config.top_k.unwrap_or(tokens.len()));
        let first = logit(tokens[0]);
        let weight = |token: usize| {
            libm::exp((f64::from(logit(token)) - f64::from(first)) / config.temperature)
        };
        if let Some(top_p) = config.top_p {
            let total: f64 = tokens.iter().map(|token| weight(*token)).sum();
            let mut before = 0.0;
            tokens.retain(|token| {
                let keep = before < top_p * total;
                before += weight(*token);
                keep
            });
        }
        tokens.retain(|token| weight(*token) >= config.min_p.unwrap_or(0.0));
        tokens.sort();
        let candidate = |token: usize| Candidate {
            token: token as u32,
            weight: weight(token),
        };
        tokens.into_iter().map(candidate).collect()
    }

    proptest! {
        #[test]
        fn no_shortcut_changes_the_distribution(
            // Steps of a quarter: many ties, and -0 beside 0.
            steps in prop::collection::vec(-24i32..24, 1..1500),
            penalty in prop::sample::select(&[0.5, 1.0, 1.3][..]),
            temperature in prop::sample::select(&[0.2, 1.0, 40.0][..]),
            top_k in prop::option::of(1usize..2000),
            top_p in prop::option::of(0.01f64..0.999),
            min_p in prop::option::of(0.0f64..0.9),
            text in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let negative_zero = |step: i32| if step == 7 { -0.0 } else { step as f32 / 4.0 };
            let logits: Vec<f32> = steps.into_iter().map(negative_zero).collect();
            let text: Vec<u32> = text.iter().map(|at| at.index(logits.len()) as u32).collect();
            let config = SamplingConfig {
                repetition_penalty: penalty, temperature, top_k, top_p, min_p,
            };
            let expected = by_definition(&config, &logits, &text);
            prop_assert_eq!(sampler(config).candidates(&logits, &text).unwrap(), expected);
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        let mut greedy = sampler(SamplingConfig::greedy());
        assert_eq!(greedy.sample(&[0.0, 3.0, 1.0, 3.0], &[]), Ok(1));
        assert_eq!(greedy.sample(&[-0.5; 5], &[]), Ok(0));
        assert_eq!(greedy.sample(&[f32::NEG_INFINITY, -1e30], &[]), Ok(1));
        let mut penalised = sampler(SamplingConfig {
            repetition_penalty: 2.0,
            ..SamplingConfig::greedy()
        });
        assert_eq!(penalised.sample(&[0.0, 3.0, 1.6, 3.0], &[1, 3]), Ok(2));
    }

    #[test]
    fn extreme_settings_stay_in_range() {
        for temperature in [1e-300, 1e-3, 1.0, 1e300] {
            for repetition_penalty in [1e-300, 1.0, 1e300] {
                let mut sampler = sampler(with(|c| {
                    (c.temperature, c.repetition_penalty) = (temperature, repetition_penalty);
                    (c.top_p, c.min_p) = (Some(0.9), Some(1e-9));
                }));
                for logits in [[1e38, -1e38, 0.0], [f32::MAX, f32::MAX, f32::MIN]] {
                    assert!(sampler.sample(&logits, &[0, 1]).unwrap() < 3);
                }
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let draw = |seed, index| -> Vec<u32> {
            let mut sampler = Sampler::nth(SamplingConfig::default(), seed, index).unwrap();
            let draws = (0..50).map(|_| sampler.sample(&LOGITS, &[]).unwrap());
            draws.collect()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 1), draw(1, 2));
        let mut first = sampler(SamplingConfig::default());
        assert_eq!(draw(11, 0)[0], first.sample(&LOGITS, &[]).unwrap());
    }

    #[test]
    fn logits_without_a_distribution_are_an_error() {
        let nowhere = [f32::NEG_INFINITY; 2];
        let penalised = with(|c| c.repetition_penalty = 2.0);
        for config in [
            SamplingConfig::greedy(),
            with(|c| c.top_k = Some(1)),
            penalised,
        ] {
            let mut sampler = sampler(config);
            for (logits, token) in [
                (&[0.0, f32::NAN][..], 1),
                (&[f32::INFINITY, 0.0], 0),
                (&nowhere, 0),
                (&[], 0),
            ] {
                match sampler.sample(logits, &[]) {
                    Err(ModelError::InvalidLogit { token: found, .. }) => assert_eq!(found, token),
                    other => panic!("{logits:?} gives {other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_penalty_on_a_token_without_a_logit_is_an_error() {
        let mut sampler = sampler(with(|c| c.repetition_penalty = 2.0));
        let unknown = ModelError::UnknownToken {
            token: 6,
            vocab_size: 6,
        };
        assert_eq!(sampler.sample(&LOGITS, &[5, 6]), Err(unknown));
    }

    #[test]
    fn a_setting_without_meaning_is_refused() {
        type Set = fn(&mut SamplingConfig, f64);
        let settings: [(&str, Set, &[f64]); 4] = [
            (
                "repetition_penalty",
                |c, value| c.repetition_penalty = value,
                &[0.0, -1.0, f64::NAN, f64::INFINITY],
            ),
            (
                "temperature",
                |c, value| c.temperature = value,
                &[-1.0, f64::NAN, f64::INFINITY],
            ),
            (
                "top_p",
                |c, value| c.top_p = Some(value),
                &[0.0, -0.1, 1.1, f64::NAN],
            ),
            (
                "min_p",
                |c, value| c.min_p = Some(value),
                &[-0.1, 1.1, f64::NAN],
            ),
        ];
        for (name, set, values) in settings {
            for value in values {
                let error = Sampler::new(with(|c| set(c, *value)), 0).unwrap_err();
                let message = error.to_string();
                assert!(
                    message.starts_with(&format!("{name} is {value}; it must be")),
                    "{message}"
                );
            }
        }
        let error = Sampler::new(with(|c| c.top_k = Some(0)), 0).unwrap_err();
        assert_eq!(error.to_string(), "top_k is 0; it must be at least 1");
    }
}
