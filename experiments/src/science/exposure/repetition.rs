//! Repetition in texts (Welleck et al. 2019, <https://arxiv.org/abs/1908.04319>).

use std::collections::HashSet;

use serde::Serialize;

use crate::science::bootstrap::Bootstrap;
use crate::science::evaluate::Estimate;

/// Numbers ℓ of tokens among which a token is looked for.
const WINDOWS: [usize; 4] = [16, 32, 128, 512];

/// Lengths n of n-grams. In texts of characters, 16 are about three words.
const NGRAMS: [usize; 5] = [1, 2, 3, 4, 16];

/// Repetition in texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repetition {
    /// rep/ℓ: share of the tokens that are among the ℓ tokens before them, for each ℓ up to the length of the texts.
    pub rep: Vec<Repeated>,
    /// seq-rep-n: 1 − the number of different n-grams over that of all n-grams of a text, as a mean over texts.
    pub seq_rep: Vec<Repeated>,
}

/// A share of repeated tokens or n-grams.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Repeated {
    /// ℓ or n.
    pub tokens: usize,
    /// The share.
    pub share: Option<Estimate>,
}

impl Repetition {
    /// Returns rep/ℓ.
    pub fn rep(&self, window: usize) -> Option<Estimate> {
        let found = self.rep.iter().find(|repeated| repeated.tokens == window)?;
        found.share
    }

    /// Returns seq-rep-n.
    pub fn seq_rep(&self, n: usize) -> Option<Estimate> {
        let found = self.seq_rep.iter().find(|repeated| repeated.tokens == n)?;
        found.share
    }
}

/// A text: its tokens, and those of them that are looked at, which follow the context before them. For tokens that were
/// written they are the end of the text.
pub(super) struct Text<'t> {
    /// Tokens of the text.
    pub(super) tokens: &'t [u32],
    /// Number of tokens before the first one that is looked at.
    pub(super) first: usize,
    /// Token at each place from there on.
    pub(super) written: &'t [u32],
}

/// Measures the repetition of texts.
pub(super) fn repetition(bootstrap: Bootstrap, texts: &[Text<'_>]) -> Repetition {
    let longest = texts
        .iter()
        .map(|text| text.tokens.len())
        .max()
        .unwrap_or(0);
    let windows = WINDOWS.into_iter().enumerate();
    let fitting = windows.filter(|(index, window)| *index == 0 || *window < longest);
    let rep = fitting.map(|(_, window)| {
        let counts: Vec<[f64; 2]> = texts.iter().map(|text| text.repeated(window)).collect();
        (window, counts)
    });
    let seq_rep = NGRAMS.into_iter().map(|n| {
        let shares = texts
            .iter()
            .map(|text| match unique_share(text.written, n) {
                Some(unique) => [1.0 - unique, 1.0],
                None => [0.0, 0.0],
            });
        (n, shares.collect())
    });
    let estimate = |(tokens, sums): (usize, Vec<[f64; 2]>)| Repeated {
        tokens,
        share: bootstrap.estimate(texts.len(), |weights| {
            let weighted = || weights.iter().zip(&sums);
            let x: f64 = weighted().map(|(weight, sums)| weight * sums[0]).sum();
            let y: f64 = weighted().map(|(weight, sums)| weight * sums[1]).sum();
            x / y
        }),
    };
    Repetition {
        rep: rep.map(estimate).collect(),
        seq_rep: seq_rep.map(estimate).collect(),
    }
}

impl Text<'_> {
    /// Returns the number of written tokens that are among the `window` tokens of the text before them, and of all.
    fn repeated(&self, window: usize) -> [f64; 2] {
        let places = (self.first..).zip(self.written);
        let repeated = places.filter(|(place, token)| {
            self.tokens[place.saturating_sub(window)..*place].contains(token)
        });
        [repeated.count() as f64, self.written.len() as f64]
    }
}

/// Returns the number of different n-grams over that of all; `None` without any.
fn unique_share(tokens: &[u32], n: usize) -> Option<f64> {
    let ngrams = tokens.windows(n);
    let all = ngrams.len();
    let unique: HashSet<&[u32]> = ngrams.collect();
    (all > 0).then(|| unique.len() as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_their_definitions() {
        let bootstrap = Bootstrap { draws: 50, seed: 0 };
        let tokens: Vec<u32> = [&[9, 8][..], &[1, 2, 1, 2, 1, 2, 8]].concat();
        let texts = [Text {
            tokens: &tokens,
            first: 2,
            written: &tokens[2..],
        }];
        let found = repetition(bootstrap, &texts);
        // All but the first 1 and 2 are repeated; 8 is in the prompt.
        assert_eq!(found.rep(16).unwrap().value, 5.0 / 7.0);
        assert_eq!(found.rep(128), None, "the text is shorter");
        // Of 12, 21, 12, 21, 12, 28 three differ.
        assert!((found.seq_rep(2).unwrap().value - 0.5).abs() < 1e-12);
        assert!((found.seq_rep(4).unwrap().value - (1.0 - 3.0 / 4.0)).abs() < 1e-12);
        assert_eq!(found.seq_rep(16), None);
    }

    #[test]
    fn predictions_are_looked_for_in_the_text_that_they_follow() {
        let (tokens, predicted) = ([1, 2, 3, 4], [1, 5, 3]);
        let text = Text {
            tokens: &tokens,
            first: 1,
            written: &predicted,
        };
        // 1 after 1, 5 after 1 2, and 3 after 1 2 3.
        assert_eq!(text.repeated(16), [2.0, 3.0]);
        assert_eq!(text.repeated(1), [2.0, 3.0]);
        assert_eq!(unique_share(&[], 1), None);
    }
}
