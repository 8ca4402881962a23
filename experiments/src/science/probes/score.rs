//! Score of one item.

use std::f64::consts::LN_2;

use serde::Serialize;

/// Score of one item, from the likelihoods of its answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemScore {
    /// ln p of the right answer after the context, in nats.
    pub log_likelihood: f64,
    /// ln p of the most probable wrong answer, in nats.
    pub wrong_log_likelihood: f64,
    /// Probability of the right answer among the answers of the item: `p_right / Σ p`.
    pub p_right: f64,
    /// Brier score over the answers of the item: `Σ (p - [right])²`, from 0 for the best to 2 (Brier 1950).
    pub brier: f64,
    /// Whether the right answer is more probable than every wrong one.
    pub is_right: bool,
    /// Whether greedy decoding writes exactly the right answer.
    pub is_exact: bool,
    /// Bytes of the right answer.
    pub bytes: usize,
    /// Text that greedy decoding writes, in as many tokens as the right answer has; `None` if it was not decoded.
    pub greedy: Option<String>,
    /// Insertions, deletions and substitutions of characters between the greedy and the right answer (Levenshtein 1966).
    pub edit_distance: Option<usize>,
}

impl ItemScore {
    /// Returns the score of an item, given the log-likelihoods of its answers in nats, the right one first, and the right
    /// and the greedy answer. Greedy decoding writes the right answer if each of its tokens is the most probable one.
    pub(super) fn new(
        log_likelihoods: &[f64],
        is_exact: bool,
        bytes: usize,
        right: &str,
        greedy: Option<String>,
    ) -> Self {
        let right_nats = log_likelihoods[0];
        let wrong = log_likelihoods[1..].iter().copied();
        let wrong_nats = wrong.fold(f64::NEG_INFINITY, f64::max);
        let highest = right_nats.max(wrong_nats);
        let total: f64 = log_likelihoods
            .iter()
            .map(|nats| (nats - highest).exp())
            .sum();
        let share = |nats: f64| (nats - highest).exp() / total;
        let brier = log_likelihoods.iter().enumerate().map(|(answer, nats)| {
            let truth = f64::from(u8::from(answer == 0));
            (share(*nats) - truth).powi(2)
        });
        Self {
            log_likelihood: right_nats,
            wrong_log_likelihood: wrong_nats,
            p_right: share(right_nats),
            brier: brier.sum(),
            is_right: right_nats > wrong_nats,
            is_exact,
            bytes,
            edit_distance: greedy
                .as_deref()
                .map(|greedy| strsim::levenshtein(greedy, right)),
            greedy,
        }
    }

    /// Returns the bits of the right answer.
    pub fn bits(&self) -> f64 {
        -self.log_likelihood / LN_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_follow_from_the_likelihoods_of_the_answers() {
        let nats = [0.25f64, 0.125, 0.125].map(f64::ln);
        let score = ItemScore::new(&nats, false, 4, "Umber", Some("Umbre".into()));
        assert!((score.p_right - 0.5).abs() < 1e-15);
        assert!((score.brier - (0.25 + 2.0 * 0.0625)).abs() < 1e-15);
        assert!((score.bits() - 2.0).abs() < 1e-15);
        assert_eq!(score.wrong_log_likelihood, 0.125f64.ln());
        assert!(score.is_right && !score.is_exact);
        assert_eq!(score.edit_distance, Some(2));
        // Equal likelihoods are no preference.
        let equal = ItemScore::new(&[-3.0, -3.0], true, 1, "a", Some("a".into()));
        assert!(!equal.is_right && equal.edit_distance == Some(0));
        assert!((equal.brier - 0.5).abs() < 1e-15);
        // Likelihoods that underflow have shares all the same.
        let tiny = ItemScore::new(&[-2000.0, -2001.0], false, 1, "a", None);
        assert!((tiny.p_right - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12);
    }
}
