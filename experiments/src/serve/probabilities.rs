//! Probabilities of tokens: those of prompts, computed in batches, and those of one position.

use foretoken_model::ops::among_threads;
use foretoken_model::{ModelError, Transformer};

use crate::text::predict::Distribution;

/// Lengths of prompts are padded to a multiple of this. So the shape that a prompt is computed in does not depend on the
/// prompts beside it.
const GRAIN: usize = 8;

/// Maximum number of logits that are held at once, if one position of all prompts has no more.
const MAX_LOGITS: usize = 1 << 22;

/// A token with its probability, and the alternatives to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TokenProbability {
    pub(super) id: u32,
    /// ln p; `None` for a token without a prediction.
    pub(super) log_probability: Option<f64>,
    /// The most probable tokens with their ln p.
    pub(super) top: Vec<(u32, f64)>,
}

impl TokenProbability {
    /// Returns the first token of a text, which has no prediction.
    pub(super) fn first(id: u32) -> Self {
        Self {
            id,
            log_probability: None,
            top: Vec::new(),
        }
    }

    /// Returns the probability of a token under the logits of its position, with `alternatives`.
    pub(super) fn new(id: u32, logits: &[f32], alternatives: usize) -> Result<Self, ModelError> {
        let distribution = Distribution::new(logits)?;
        let top = distribution.most_probable(alternatives);
        let with_probability = |id: u32| (id, distribution.log_probability(id));
        Ok(Self {
            id,
            log_probability: Some(distribution.log_probability(id)),
            top: top.into_iter().map(with_probability).collect(),
        })
    }
}

/// A prompt with the probabilities of its tokens.
pub(super) struct ScoredPrompt {
    /// All its tokens.
    pub(super) tokens: Vec<TokenProbability>,
    /// Logits of the token after it.
    pub(super) next: Vec<f32>,
}

/// Returns the length that a prompt is padded to.
pub(super) fn padded(length: usize, context: usize) -> usize {
    length.next_multiple_of(GRAIN).min(context)
}

/// Computes prompts that are padded to the same length, with the number of alternatives of each.
///
/// # Errors
///
/// Returns an error if the device fails, or logits are not those of a distribution.
pub(super) fn score(
    model: &Transformer,
    prompts: &[(&[u32], usize)],
) -> Result<Vec<ScoredPrompt>, ModelError> {
    let longest = prompts.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
    let length = padded(longest, model.config().context);
    let rows: Vec<Vec<u32>> = prompts
        .iter()
        .map(|(ids, _)| [*ids, &vec![0; length - ids.len()]].concat())
        .collect();
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let mut scored: Vec<ScoredPrompt> = prompts
        .iter()
        .map(|(ids, _)| ScoredPrompt {
            tokens: vec![TokenProbability::first(ids[0])],
            next: Vec::new(),
        })
        .collect();
    let vocabulary = model.config().vocab_size;
    among_threads(&model.device(), || {
        let hidden = model.hidden(model.tokens(&rows));
        let positions = (MAX_LOGITS / (rows.len() * vocabulary)).clamp(1, length);
        for start in (0..length).step_by(positions) {
            let count = positions.min(length - start);
            let part = hidden.clone().narrow(1, start, count);
            let logits = model.logits_from_hidden(part);
            let logits: Vec<f32> = logits
                .try_into_vec_as()
                .map_err(|error| ModelError::Read(error.to_string()))?;
            let places = logits.chunks_exact(vocabulary).enumerate();
            for (place, logits) in places {
                let (row, position) = (place / count, start + place % count);
                let (ids, alternatives) = prompts[row];
                match ids.get(position + 1) {
                    Some(id) => {
                        let token = TokenProbability::new(*id, logits, alternatives)?;
                        scored[row].tokens.push(token);
                    }
                    None if position + 1 == ids.len() => scored[row].next = logits.to_vec(),
                    None => {}
                }
            }
        }
        Ok(())
    })?;
    Ok(scored)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use foretoken_model::ModelConfig;

    use super::*;

    #[test]
    fn a_batch_changes_no_bit_and_probabilities_are_those_of_the_logits() {
        let config = ModelConfig::new(31, 20, 2, 2, 16);
        let model = config.init(5, &Device::flex()).unwrap();
        let prompts: [&[u32]; 3] = [&[1, 2, 3, 4, 5], &[7], &[30, 29, 28, 27, 26, 25, 24, 23]];
        let together = score(&model, &prompts.map(|ids| (ids, 3))).unwrap();
        for (ids, scored) in prompts.iter().zip(&together) {
            let alone = score(&model, &[(*ids, 3)]).unwrap().remove(0);
            assert_eq!(alone.tokens, scored.tokens);
            assert_eq!(alone.next, scored.next);
            let logits = model.logits(model.tokens(&[*ids]));
            let logits: Vec<f32> = logits.try_into_vec_as().unwrap();
            let rows: Vec<&[f32]> = logits.chunks_exact(31).collect();
            assert_eq!(scored.tokens[0], TokenProbability::first(ids[0]));
            for (place, token) in scored.tokens.iter().enumerate().skip(1) {
                let row: Vec<f64> = rows[place - 1].iter().map(|one| f64::from(*one)).collect();
                let total = row.iter().map(|logit| logit.exp()).sum::<f64>().ln();
                let expected = row[ids[place] as usize] - total;
                assert!((token.log_probability.unwrap() - expected).abs() < 1e-5);
                let highest = row.iter().copied().fold(f64::MIN, f64::max) - total;
                assert!((token.top[0].1 - highest).abs() < 1e-5);
                assert!(token.top[0].1 >= token.top[1].1 && token.top.len() == 3);
            }
        }
    }
}
