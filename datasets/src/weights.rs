//! Loss weights of targets.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::{DataError, mapped};

/// Loss weights of the targets of a dataset.
#[derive(Clone, Debug)]
pub enum LossWeights {
    /// One weight of at least 0 for all targets.
    Constant(f32),
    /// One weight per token, used when the token is a target.
    PerToken(TokenWeights),
}

/// Returns a weight of 1 for all targets.
impl Default for LossWeights {
    fn default() -> Self {
        Self::Constant(1.)
    }
}

impl LossWeights {
    /// Checks that these are valid weights for a text of `tokens` tokens.
    pub(crate) fn check(&self, tokens: usize) -> Result<(), DataError> {
        match self {
            Self::Constant(weight) if is_weight(*weight) => Ok(()),
            Self::Constant(weight) => Err(DataError::Dataset {
                path: PathBuf::from("the loss weight"),
                reason: format!(
                    "{weight} is not a valid weight: give a finite number of at least 0"
                ),
            }),
            Self::PerToken(file) => file.check(tokens),
        }
    }

    /// Returns a SHA-256 that differs between different weights. It covers evenly spread pieces of a file over 1 GiB,
    /// and all of a smaller one.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        match self {
            Self::Constant(weight) => hasher.update(weight.to_le_bytes()),
            Self::PerToken(file) => {
                hasher.update((file.map.len() as u64).to_le_bytes());
                mapped::sample(&file.map, &mut hasher);
            }
        }
        hasher.finalize().into()
    }

    /// Fills `out` with the weights of the tokens from `start` on.
    pub(crate) fn read(&self, start: usize, out: &mut [f32]) -> Result<(), DataError> {
        match self {
            Self::Constant(weight) => {
                out.fill(*weight);
                Ok(())
            }
            Self::PerToken(file) => file.read(start, out),
        }
    }
}

fn is_weight(weight: f32) -> bool {
    weight.is_finite() && weight >= 0.
}

/// Memory-mapped file of one little-endian `f32` of at least 0 per token of a text, without a header. Each weight is
/// checked when it is read. Cloning shares the map.
#[derive(Clone, Debug)]
pub struct TokenWeights {
    path: Arc<Path>,
    map: Arc<Mmap>,
}

/// Bytes per weight.
const BYTES: usize = size_of::<f32>();

impl TokenWeights {
    /// Maps a file into memory.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path: Arc<Path> = path.as_ref().into();
        Ok(Self {
            map: Arc::new(mapped::map(&path)?),
            path,
        })
    }

    fn check(&self, tokens: usize) -> Result<(), DataError> {
        if tokens.checked_mul(BYTES) != Some(self.map.len()) {
            return Err(self.wrong(
                self.map.len(),
                format!(
                    "the file ends here, but {tokens} tokens need a weight of {BYTES} bytes each: write one \
                     little-endian f32 for each token of the text"
                ),
            ));
        }
        Ok(())
    }

    fn read(&self, start: usize, out: &mut [f32]) -> Result<(), DataError> {
        let (bytes, _) = self.map[start * BYTES..].as_chunks::<BYTES>();
        for (token, (weight, bytes)) in (start..).zip(out.iter_mut().zip(bytes)) {
            *weight = f32::from_le_bytes(*bytes);
            if !is_weight(*weight) {
                return Err(self.wrong(
                    token * BYTES,
                    format!(
                        "the loss weight of token {token} is {weight}: write finite numbers of at least 0"
                    ),
                ));
            }
        }
        Ok(())
    }

    fn wrong(&self, offset: usize, reason: String) -> DataError {
        DataError::TokenFile {
            path: self.path.to_path_buf(),
            offset: offset as u64,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(weights: &[f32]) -> (tempfile::TempDir, LossWeights) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        fs::write(&path, bytes).unwrap();
        let weights = TokenWeights::open(path).unwrap();
        (folder, LossWeights::PerToken(weights))
    }

    #[test]
    fn weights_of_a_file_are_read_unchanged() {
        let (_folder, weights) = open(&[0., 0.5, -0., 3., f32::MIN_POSITIVE]);
        weights.check(5).unwrap();
        let mut out = [9.; 4];
        weights.read(1, &mut out).unwrap();
        assert_eq!(out, [0.5, 0., 3., f32::MIN_POSITIVE]);
        weights.read(5, &mut []).unwrap();
        LossWeights::Constant(2.).read(7, &mut out).unwrap();
        assert_eq!(out, [2.; 4]);
    }

    #[test]
    fn wrong_length_is_an_error() {
        for (weights, tokens) in [(3, 2), (3, 4), (0, 1), (3, usize::MAX)] {
            let (_folder, file) = open(&vec![1.; weights]);
            let error = file.check(tokens).unwrap_err();
            let DataError::TokenFile { offset, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!(*offset, 4 * weights as u64);
            assert!(error.to_string().contains(&tokens.to_string()), "{error}");
        }
    }

    #[test]
    fn invalid_weight_is_an_error_when_it_is_read() {
        for wrong in [-1., f32::NAN, f32::INFINITY, -f32::MIN_POSITIVE] {
            let (_folder, file) = open(&[1., 1., wrong, 1.]);
            file.check(4).unwrap();
            file.read(0, &mut [0.; 2]).unwrap();
            file.read(3, &mut [0.]).unwrap();
            let error = file.read(1, &mut [0.; 3]).unwrap_err();
            assert!(
                matches!(error, DataError::TokenFile { offset: 8, .. }),
                "{error}"
            );
            let error = LossWeights::Constant(wrong).check(4).unwrap_err();
            assert!(error.to_string().contains("loss weight"), "{error}");
        }
        assert!(LossWeights::Constant(0.).check(4).is_ok());
    }

    #[test]
    fn missing_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = TokenWeights::open(folder.path().join("none")).unwrap_err();
        assert!(matches!(error, DataError::Missing { .. }));
    }
}
