//! Sequences of a prefix and a suffix, cut out of windows.

use super::sample::Piece;
use crate::science::random::Random;

/// Sequences of a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequences {
    rows: Vec<Vec<u32>>,
    /// Whether prefixes begin with the documents, after the token that ends the document before. Otherwise sequences have
    /// one length, and prefixes of all lengths end at the same place.
    by_document: bool,
}

impl Sequences {
    /// Cuts a sequence of at most `length` tokens out of each window: the beginning of its document, if `border` ends
    /// documents, and otherwise `length` tokens at a random place.
    pub(super) fn cut(
        pieces: Vec<Piece>,
        border: Option<u32>,
        length: usize,
        random: &mut Random,
    ) -> Self {
        let cut = |Piece { ids, .. }: Piece| match border {
            // A window begins inside of a document if the document is longer than a window.
            Some(border) if ids[0] != border => None,
            Some(_) => Some(ids[..ids.len().min(1 + length)].to_vec()),
            None => {
                let places = (ids.len() + 1)
                    .checked_sub(length)
                    .filter(|places| *places > 0)?;
                let place = random.index(places);
                Some(ids[place..place + length].to_vec())
            }
        };
        Self {
            rows: pieces.into_iter().filter_map(cut).collect(),
            by_document: border.is_some(),
        }
    }

    /// Returns the number of sequences.
    pub fn count(&self) -> usize {
        self.rows.len()
    }

    /// Returns the number of tokens before each prefix.
    pub(super) fn lead(&self) -> usize {
        usize::from(self.by_document)
    }

    /// Returns the number of each sequence that has a prefix of this length and the suffix, and its tokens, with those
    /// before the prefix.
    pub(super) fn with_prefix(
        &self,
        prefix: usize,
        suffix: usize,
    ) -> impl Iterator<Item = (usize, &[u32])> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(move |(number, row)| {
            let first = match self.by_document {
                true => 0,
                false => row.len().checked_sub(prefix + suffix)?,
            };
            let tokens = row.get(first..first + self.lead() + prefix + suffix)?;
            Some((number, tokens))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(rows: &[&[u32]], border: Option<u32>) -> Sequences {
        let piece = |ids: &&[u32]| Piece {
            ids: ids.to_vec(),
            first: 1,
        };
        let pieces = rows.iter().map(piece).collect();
        Sequences::cut(pieces, border, 6, &mut Random::stream(1, 0))
    }

    #[test]
    fn prefixes_of_all_lengths_have_the_same_suffix() {
        let sequences = cut(
            &[
                &[0, 1, 2, 3, 4, 5, 6, 7, 8],
                &[9; 5],
                &[10, 11, 12, 13, 14, 15],
            ],
            None,
        );
        // The second window is too short.
        assert_eq!((sequences.count(), sequences.lead()), (2, 0));
        let of = |prefix, number| -> Vec<u32> {
            let mut found = sequences.with_prefix(prefix, 2);
            found.find(|(n, _)| *n == number).unwrap().1.to_vec()
        };
        assert_eq!(of(4, 1), [10, 11, 12, 13, 14, 15]);
        assert_eq!(of(1, 1), [13, 14, 15]);
        assert_eq!(of(4, 0)[4..], of(2, 0)[2..]);
        assert_eq!(of(4, 0)[5] - of(4, 0)[0], 5, "tokens are consecutive");
    }

    #[test]
    fn documents_keep_their_start() {
        let sequences = cut(
            &[
                &[9, 1, 2, 3, 9],
                &[9, 5, 9],
                &[9, 6, 7, 8, 6, 7, 8, 6, 9],
                &[7, 8, 9],
            ],
            Some(9),
        );
        // The last window begins inside of a document.
        assert_eq!((sequences.count(), sequences.lead()), (3, 1));
        let of = |prefix| -> Vec<(usize, Vec<u32>)> {
            let found = sequences.with_prefix(prefix, 2);
            found.map(|(number, ids)| (number, ids.to_vec())).collect()
        };
        assert_eq!(of(1), [(0, vec![9, 1, 2, 3]), (2, vec![9, 6, 7, 8])]);
        assert_eq!(of(4), [(2, vec![9, 6, 7, 8, 6, 7, 8])]);
    }
}
