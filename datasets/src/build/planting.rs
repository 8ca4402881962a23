//! Copies of canaries between the documents of a build.

use super::{
    canaries::{Canaries, Canary, CanaryOptions},
    pieces::Piece,
};
use crate::{
    DataError, Tokenizer,
    permutation::{below, random_of},
};

/// Canaries, and the places of their copies.
#[derive(Debug)]
pub(super) struct Planting {
    pub(super) canaries: Canaries,
    /// Number of documents before each copy, ascending, and the number of its canary.
    places: Vec<(u64, usize)>,
    /// Bytes of all copies.
    pub(super) bytes: u64,
}

impl Planting {
    /// Draws canaries, and places for their copies before, between and behind all documents.
    pub(super) fn new(
        options: &CanaryOptions,
        tokenizer: &Tokenizer,
        documents: u64,
    ) -> Result<Self, DataError> {
        let canaries = Canaries::draw(options, tokenizer)?;
        let mut random = random_of(b"foretoken/canary/places.", options.seed, 0);
        let mut places = Vec::new();
        let mut bytes = 0;
        for (number, canary) in canaries.canaries.iter().enumerate() {
            let document = canaries.document(&canary.name, &canary.secret);
            bytes += canary.copies * document.len() as u64;
            for _ in 0..canary.copies {
                places.push((below(documents + 1, &mut random), number));
            }
        }
        places.sort_unstable();
        // Copies at one place follow each other in a random order, not in that of the canaries.
        for here in places.chunk_by_mut(|one, other| one.0 == other.0) {
            for last in (1..here.len()).rev() {
                here.swap(last, below(last as u64 + 1, &mut random) as usize);
            }
        }
        Ok(Self {
            canaries,
            places,
            bytes,
        })
    }

    /// Returns the number of documents that are planted.
    pub(super) fn documents(&self) -> u64 {
        self.places.len() as u64
    }

    /// Puts copies of canaries between the pieces of documents, for training.
    pub(super) fn plant<'p>(
        &'p self,
        pieces: impl Iterator<Item = Result<Piece, DataError>> + 'p,
    ) -> impl Iterator<Item = Result<Piece, DataError>> + 'p {
        Planted {
            planting: self,
            pieces,
            next: 0,
            documents: 0,
            is_between: true,
        }
    }

    fn piece(&self, canary: usize) -> Piece {
        let Canary { name, secret, .. } = &self.canaries.canaries[canary];
        let text = self.canaries.document(name, secret);
        Piece {
            train: text.len(),
            text,
            replaced: 0,
            last: true,
        }
    }
}

struct Planted<'p, I> {
    planting: &'p Planting,
    pieces: I,
    /// Number of copies so far.
    next: usize,
    /// Number of documents so far, without copies.
    documents: u64,
    /// Whether no document has begun.
    is_between: bool,
}

impl<I: Iterator<Item = Result<Piece, DataError>>> Iterator for Planted<'_, I> {
    type Item = Result<Piece, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_between
            && let Some(&(place, canary)) = self.planting.places.get(self.next)
            && place <= self.documents
        {
            self.next += 1;
            return Some(Ok(self.planting.piece(canary)));
        }
        let piece = self.pieces.next()?;
        if let Ok(piece) = &piece {
            self.is_between = piece.last;
            self.documents += u64::from(piece.last);
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::canaries::tests::options, *};

    fn piece(text: &str, last: bool) -> Piece {
        Piece {
            text: text.into(),
            train: text.len(),
            replaced: 0,
            last,
        }
    }

    #[test]
    fn copies_are_between_documents_and_not_inside_of_them() {
        let planting = Planting::new(&options(), &Tokenizer::byte(), 3).unwrap();
        assert_eq!(planting.documents(), 3 * (1 + 3));
        let documents = [("a", false), ("b", true), ("c", true), ("", true)];
        let pieces = documents.map(|(text, last)| Ok(piece(text, last)));
        let planted: Vec<String> = planting
            .plant(pieces.into_iter())
            .map(|piece| piece.unwrap().text)
            .collect();
        let at = |text| planted.iter().position(|piece| piece == text).unwrap();
        assert_eq!(at("b"), at("a") + 1);
        assert_eq!(planted.len(), 4 + 12);
        let bytes: usize = planted.iter().map(String::len).sum();
        assert_eq!(planting.bytes as usize, bytes - "abc".len());
        for canary in &planting.canaries.canaries {
            let document = planting.canaries.document(&canary.name, &canary.secret);
            let copies = planted.iter().filter(|piece| **piece == document).count();
            assert_eq!(copies as u64, canary.copies);
        }
        let copies: Vec<u64> = planting
            .canaries
            .canaries
            .iter()
            .map(|c| c.copies)
            .collect();
        assert_eq!(copies, [1, 3, 1, 3, 1, 3, 0, 0, 0, 0, 0, 0]);
        assert!((planting.canaries.entropy_bits - 8.0 * 26f64.log2()).abs() < 1e-9);
    }
}
