//! Predictions of a model: the distribution of the next token, and the surprisal of each token of a text.
//!
//! A surprisal is `-log₂ p(token)`, in bits. Its mean over the model's own distribution is the entropy.

use std::f64::consts::LN_2;
use std::ops::Range;

use foretoken_datasets::Tokenizer;
use foretoken_model::{ModelError, Transformer};
use serde::Serialize;

use crate::Error;

/// The probabilities of all tokens at one position of a text.
pub(crate) struct Distribution<'l> {
    logits: &'l [f32],
    /// ln Σ exp(logit).
    log_total: f64,
}

impl<'l> Distribution<'l> {
    /// Reads the logits of all tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if they are not those of a distribution.
    pub(crate) fn new(logits: &'l [f32]) -> Result<Self, ModelError> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let relative = |logit: &f32| f64::from(*logit) - f64::from(highest);
        let total: f64 = logits.iter().map(|logit| relative(logit).exp()).sum();
        if !total.is_finite() {
            let invalid = |logit: &f32| !logit.is_finite();
            let token = logits.iter().position(invalid).unwrap_or_default();
            let value = logits[token];
            return Err(ModelError::InvalidLogit { token, value });
        }
        Ok(Self {
            logits,
            log_total: f64::from(highest) + total.ln(),
        })
    }

    /// Returns ln p of a token.
    pub(crate) fn log_probability(&self, token: u32) -> f64 {
        f64::from(self.logits[token as usize]) - self.log_total
    }

    /// Returns the `count` most probable tokens in order. Of equally probable tokens the lower id is first.
    pub(crate) fn most_probable(&self, count: usize) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..self.logits.len() as u32).collect();
        let count = count.min(ids.len());
        let order = |a: &u32, b: &u32| {
            let [x, y] = [a, b].map(|id| self.logits[*id as usize]);
            y.total_cmp(&x).then(a.cmp(b))
        };
        if count > 0 && count < ids.len() {
            ids.select_nth_unstable_by(count - 1, order);
        }
        ids.truncate(count);
        ids.sort_unstable_by(order);
        ids
    }

    fn bits(&self, token: u32) -> f64 {
        -self.log_probability(token) / LN_2
    }

    fn entropy(&self) -> f64 {
        let ids = 0..self.logits.len() as u32;
        let expected = |bits: f64| {
            if bits.is_finite() {
                (-bits).exp2() * bits
            } else {
                0.0
            }
        };
        ids.map(|id| expected(self.bits(id))).sum()
    }

    /// Returns the rank of a token, from 1 for the most probable. Among equally probable tokens the lower id is first.
    fn rank(&self, token: u32) -> usize {
        let logit = self.logits[token as usize];
        let before =
            |(id, other): (usize, &f32)| *other > logit || (*other == logit && id < token as usize);
        1 + self
            .logits
            .iter()
            .enumerate()
            .filter(|place| before(*place))
            .count()
    }
}

/// The distribution of the token after a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NextToken {
    /// Mean surprisal, in bits.
    pub entropy_bits: f64,
    /// 2 to the power of the entropy: the number of equally probable tokens with the same entropy.
    pub perplexity: f64,
    /// The most probable tokens, in order.
    pub top: Vec<Candidate>,
    /// The total probability of all other tokens.
    pub rest: f64,
}

/// A possible next token.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Its id.
    pub id: u32,
    /// Its text, or the name of a special token.
    pub text: String,
    /// Its probability.
    pub probability: f64,
    /// Its surprisal.
    pub bits: f64,
}

/// Returns the distribution of the token after a text, with the `top` most probable tokens. The model attends only to
/// the last `context` tokens.
///
/// # Errors
///
/// Returns an error if the device fails or the model's logits are not finite.
pub fn next_token(
    model: &Transformer,
    tokenizer: &Tokenizer,
    text: &[u32],
    context: usize,
    top: usize,
) -> Result<NextToken, Error> {
    let start = text.len().saturating_sub(context);
    let logits = logits(model, &text[start..])?;
    let last = logits.rchunks_exact(model.config().vocab_size).next();
    let distribution = Distribution::new(last.ok_or(ModelError::EmptyPrompt)?)?;
    let mut ids: Vec<u32> = (0..distribution.logits.len() as u32).collect();
    ids.sort_by(|a, b| {
        distribution
            .bits(*a)
            .total_cmp(&distribution.bits(*b))
            .then(a.cmp(b))
    });
    let (shown, others) = ids.split_at(top.min(ids.len()));
    let probability = |id: &u32| (-distribution.bits(*id)).exp2();
    let candidate = |id: &u32| Candidate {
        id: *id,
        text: tokenizer.token_text(*id),
        probability: probability(id),
        bits: distribution.bits(*id),
    };
    let entropy_bits = distribution.entropy();
    Ok(NextToken {
        entropy_bits,
        perplexity: entropy_bits.exp2(),
        top: shown.iter().map(candidate).collect(),
        rest: others.iter().map(probability).sum(),
    })
}

/// The surprisals of the tokens of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Surprisals {
    /// Their sum, in bits.
    pub total_bits: f64,
    /// Their mean over the tokens.
    pub bits_per_token: f64,
    /// Their sum over the bytes of text that the tokens encode; `None` if they encode no byte.
    pub bits_per_byte: Option<f64>,
    /// 2 to the power of the bits per token.
    pub perplexity: f64,
    /// The number of bytes of text that the tokens encode.
    pub bytes: usize,
    /// The number of windows, more than one if the text is longer than the context.
    pub windows: usize,
    /// The scored tokens, in order.
    pub tokens: Vec<Surprisal>,
}

/// The surprisal of one token of a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Surprisal {
    /// The token's id.
    pub id: u32,
    /// Its text, or the name of a special token.
    pub text: String,
    /// -log₂ of its probability.
    pub bits: f64,
    /// Its probability.
    pub probability: f64,
    /// Its rank among all tokens, from 1 for the most probable.
    pub rank: usize,
    /// The expected surprisal at this position: the entropy of the distribution.
    pub entropy_bits: f64,
}

/// Returns the surprisal of every token of `text` from `first` on, given the tokens before it. `first` is at least 1,
/// because the first token has no prediction.
///
/// A text longer than `context` is read in windows that overlap by half, and each window scores the tokens that earlier
/// ones have not. So every token is predicted from at least half a context, if as many tokens precede it.
///
/// # Errors
///
/// Returns an error if the device fails or the model's logits are not finite.
///
/// # Panics
///
/// Panics if `first` is 0 or beyond the end of the text, or `context` is 0 or more than the model's.
pub fn surprisals(
    model: &Transformer,
    tokenizer: &Tokenizer,
    text: &[u32],
    first: usize,
    context: usize,
) -> Result<Surprisals, Error> {
    assert!(first > 0 && first < text.len(), "there are tokens to score");
    let mut tokens = Vec::with_capacity(text.len() - first);
    let mut windows = 0;
    for window in sliding(text.len() - 1, first, context) {
        windows += 1;
        let logits = logits(model, &text[window.clone()])?;
        let unscored = first + tokens.len();
        // The logits at a position are those of the next token.
        let next = (window.start + 1..).zip(logits.chunks_exact(model.config().vocab_size));
        for (position, logits) in next.skip_while(|(position, _)| *position < unscored) {
            let id = text[position];
            let distribution = Distribution::new(logits)?;
            let bits = distribution.bits(id);
            tokens.push(Surprisal {
                id,
                text: tokenizer.token_text(id),
                bits,
                probability: (-bits).exp2(),
                rank: distribution.rank(id),
                entropy_bits: distribution.entropy(),
            });
        }
    }
    let total_bits: f64 = tokens.iter().map(|token| token.bits).sum();
    let bytes = tokens
        .iter()
        .map(|token| tokenizer.token_bytes(token.id).len())
        .sum();
    let bits_per_token = total_bits / tokens.len() as f64;
    Ok(Surprisals {
        total_bits,
        bits_per_token,
        bits_per_byte: (bytes > 0).then(|| total_bits / bytes as f64),
        perplexity: bits_per_token.exp2(),
        bytes,
        windows,
        tokens,
    })
}

/// Returns windows over the first `inputs` tokens of a text that predict every token from `first` on. The first window
/// is as long as the context if possible, and each later one ends half a context further.
fn sliding(inputs: usize, first: usize, context: usize) -> impl Iterator<Item = Range<usize>> {
    let stride = (context / 2).max(1);
    let end = context.max(first - 1 + stride).min(inputs);
    let next = move |end: &usize| (*end < inputs).then(|| (end + stride).min(inputs));
    std::iter::successors(Some(end), next).map(move |end| end.saturating_sub(context)..end)
}

/// Returns the logits after each token, one position after another.
fn logits(model: &Transformer, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
    model
        .logits(model.tokens(&[tokens]))
        .try_into_vec_as()
        .map_err(|error| ModelError::Read(error.to_string()))
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use foretoken_model::ModelConfig;

    use super::*;

    const CONTEXT: usize = 8;

    /// An untrained model, with weights so large that its predictions are not uniform.
    fn model() -> Transformer {
        use burn::module::{Module, ModuleMapper, Param};
        struct Enlarge;
        impl ModuleMapper for Enlarge {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|tensor| if D > 1 { tensor * 20.0 } else { tensor })
            }
        }
        let config = ModelConfig::new(256, CONTEXT, 1, 2, 8);
        config
            .init(1, &Device::default())
            .unwrap()
            .map(&mut Enlarge)
    }

    fn text(length: usize) -> Vec<u32> {
        (0..length as u32).map(|i| i * 37 % 256).collect()
    }

    /// Returns the probability of each token after `before`, by the plain formula.
    fn probabilities(model: &Transformer, before: &[u32]) -> Vec<f64> {
        let logits = logits(model, before).unwrap();
        let last = logits[logits.len() - 256..].iter();
        let weights: Vec<f64> = last.map(|logit| f64::from(*logit).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    #[track_caller]
    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()), "{a} and {b}");
    }

    #[test]
    fn next_token_has_the_models_distribution() {
        let (model, tokenizer) = (model(), Tokenizer::byte());
        let text = text(20);
        // The model attends only to the end of the text.
        let expected = probabilities(&model, &text[12..]);
        let next = next_token(&model, &tokenizer, &text, CONTEXT, 5).unwrap();
        assert_eq!(next.top.len(), 5);
        for pair in next.top.windows(2) {
            assert!(pair[0].probability >= pair[1].probability);
        }
        for candidate in &next.top {
            close(candidate.probability, expected[candidate.id as usize]);
            close(candidate.bits, -candidate.probability.log2());
        }
        let shown: f64 = next.top.iter().map(|candidate| candidate.probability).sum();
        close(shown + next.rest, 1.0);
        let highest = expected.iter().copied().fold(0.0, f64::max);
        close(next.top[0].probability, highest);
        let entropy = expected.iter().map(|p| -p * p.log2()).sum();
        close(next.entropy_bits, entropy);
        close(next.perplexity.log2(), entropy);
        let all = next_token(&model, &tokenizer, &text, CONTEXT, 1000).unwrap();
        assert_eq!((all.top.len(), all.rest), (256, 0.0));
    }

    #[test]
    fn a_surprisal_is_that_of_the_window_before_the_token() {
        let (model, tokenizer) = (model(), Tokenizer::byte());
        let text = text(30);
        for first in [1, 5, 20, 29] {
            let scored = surprisals(&model, &tokenizer, &text, first, CONTEXT).unwrap();
            assert_eq!(scored.tokens.len(), 30 - first);
            let mut total = 0.0;
            for (place, token) in (first..).zip(&scored.tokens) {
                // The window has at least half a context, if as many tokens precede.
                let fits = |start: &usize| {
                    let probability =
                        probabilities(&model, &text[*start..place])[text[place] as usize];
                    (token.probability - probability).abs() < 1e-6 * probability
                };
                let starts = place.saturating_sub(CONTEXT)..=place.saturating_sub(CONTEXT / 2);
                assert!(starts.into_iter().any(|start| fits(&start)), "{token:?}");
                close(token.bits, -token.probability.log2());
                assert_eq!(token.id, text[place]);
                total += token.bits;
            }
            close(scored.total_bits, total);
            close(scored.bits_per_token, total / scored.tokens.len() as f64);
            close(scored.bits_per_byte.unwrap(), scored.bits_per_token);
            close(
                scored.perplexity,
                (total / scored.tokens.len() as f64).exp2(),
            );
        }
    }

    #[test]
    fn ranks_count_from_the_most_probable() {
        let logits = [0.5, 2.0, -1.0, 2.0];
        let distribution = Distribution::new(&logits).unwrap();
        assert_eq!([0, 1, 2, 3].map(|id| distribution.rank(id)), [3, 1, 4, 2]);
        let excluded = [0.0, f32::NEG_INFINITY];
        let distribution = Distribution::new(&excluded).unwrap();
        assert_eq!((distribution.bits(0), distribution.entropy()), (0.0, 0.0));
        for (broken, token) in [(&[0.0, f32::NAN][..], 1), (&[f32::INFINITY, 0.0], 0)] {
            let error = Distribution::new(broken).err();
            assert!(
                matches!(error, Some(ModelError::InvalidLogit { token: at, .. }) if at == token)
            );
        }
    }

    #[test]
    fn windows_overlap_by_half_and_cover_every_token() {
        let windows = |inputs, first, context| -> Vec<(usize, usize)> {
            let windows = sliding(inputs, first, context);
            windows.map(|window| (window.start, window.end)).collect()
        };
        assert_eq!(windows(5, 1, 8), [(0, 5)]);
        assert_eq!(windows(8, 3, 8), [(0, 8)]);
        assert_eq!(windows(14, 1, 8), [(0, 8), (4, 12), (6, 14)]);
        assert_eq!(windows(20, 12, 8), [(7, 15), (11, 19), (12, 20)]);
        assert_eq!(windows(3, 1, 1), [(0, 1), (1, 2), (2, 3)]);
    }
}
