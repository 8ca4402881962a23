//! Subsets of the documents of a training text, which a hash of their numbers chooses: models that are trained on different
//! subsets show what a document does to a model.

use rand_chacha::rand_core::RngCore;

use crate::{Corpus, DataError, DocumentIndex, Split, permutation::random_of};

/// A choice of documents: a pure function of a document's number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Subset {
    /// Share of the documents that are chosen, above 0 and below 1.
    pub share: f64,
    /// Seed of the choice.
    pub seed: u64,
}

impl Subset {
    /// Returns whether a document is chosen, given its number in the training text. Choices are independent.
    pub fn contains(&self, document: u64) -> bool {
        let mut random = random_of(b"foretoken/subset/members", self.seed, document);
        // The constant is 2^64. A float keeps 53 bits, which is precise enough.
        (random.next_u64() as f64) < self.share * 18_446_744_073_709_551_616.0
    }
}

impl Corpus {
    /// Returns the corpus with a subset of its training documents, in memory. The tokenizer and the validation text are
    /// those of the whole corpus.
    ///
    /// # Errors
    ///
    /// Documents without borders, tokens that cannot be read, and a subset without documents.
    pub fn subset(&self, subset: Subset) -> Result<Self, DataError> {
        if !self.has_borders() {
            return Err(refused(
                "this text has one document, or a tokenizer without an end-of-text token, so that there are no documents \
                 to choose from: remove the key, or build tokens of several documents with foretoken data build"
                    .into(),
            ));
        }
        self.subset_of(&self.training_documents()?, 0, subset)
    }

    /// Does what [`subset`](Self::subset) does, given the documents. The first `lead` of them are always kept, and have no
    /// number.
    pub(crate) fn subset_of(
        &self,
        index: &DocumentIndex,
        lead: usize,
        subset: Subset,
    ) -> Result<Self, DataError> {
        let (mut ids, mut starts) = (Vec::new(), Vec::new());
        for document in 0..index.documents() {
            let is_kept = document
                .checked_sub(lead)
                .is_none_or(|number| subset.contains(number as u64));
            if is_kept {
                starts.push(ids.len() as u64);
                let tokens = index.tokens(document, self.train.tokens());
                ids.extend(self.train.to_vec(tokens)?);
            }
        }
        if starts.len() <= lead {
            return Err(refused(format!(
                "chooses none of the {} documents: raise data.subset.share",
                index.documents() - lead
            )));
        }
        Ok(self.with_training(
            Split::from_ids(ids, self.tokenizer.token_lengths().into()),
            DocumentIndex::from_starts(starts),
        ))
    }
}

fn refused(reason: String) -> DataError {
    DataError::Dataset {
        path: "data.subset".into(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_independent_with_the_share_as_their_probability() {
        let chosen = |share: f64, seed: u64| -> Vec<bool> {
            let subset = Subset { share, seed };
            (0..10_000).map(|number| subset.contains(number)).collect()
        };
        let count = |chosen: &[bool]| chosen.iter().filter(|is| **is).count() as f64;
        for share in [0.1f64, 0.5, 0.9] {
            let deviation = (1e4 * share * (1.0 - share)).sqrt();
            assert!((count(&chosen(share, 3)) - 1e4 * share).abs() < 4.0 * deviation);
        }
        let both: Vec<bool> = chosen(0.5, 1)
            .iter()
            .zip(chosen(0.5, 2))
            .map(|(one, other)| *one && other)
            .collect();
        assert!((count(&both) - 2500.0).abs() < 4.0 * 43.3);
        // A larger share adds documents.
        let pairs = chosen(0.3, 7).into_iter().zip(chosen(0.6, 7));
        assert!(pairs.into_iter().all(|(small, large)| !small || large));
        assert_eq!(chosen(0.5, 1), chosen(0.5, 1));
    }
}
