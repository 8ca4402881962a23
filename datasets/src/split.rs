//! Training or validation tokens, read as one stream from memory, from a token file, or from several of these.

use std::{ops::Range, sync::Arc};

use sha2::{Digest, Sha256};

use crate::{DataError, TokenFile};

/// Number of tokens in memory at a time when a whole split is read.
const CHUNK: usize = 1 << 16;

/// Sequence of tokens, and the number of bytes of text that each stands for. Cloning shares the tokens.
#[derive(Clone, Debug)]
pub struct Split {
    /// Shards, each with its end in the stream.
    shards: Arc<[(usize, Shard)]>,
    /// Bytes of text of each token of the vocabulary, by id. All ids in the shards are below its length.
    token_lengths: Arc<[usize]>,
}

/// Contiguous range of the stream.
#[derive(Clone, Debug)]
enum Shard {
    Memory(Arc<[u32]>),
    File(TokenFile),
}

impl Shard {
    fn tokens(&self) -> usize {
        match self {
            Self::Memory(ids) => ids.len(),
            Self::File(file) => file.tokens(),
        }
    }

    fn read(&self, start: usize, out: &mut [u32]) -> Result<(), DataError> {
        match self {
            Self::Memory(ids) => out.copy_from_slice(&ids[start..start + out.len()]),
            Self::File(file) => file.read(start, out)?,
        }
        Ok(())
    }

    fn fingerprint(&self) -> [u8; 32] {
        match self {
            Self::Memory(ids) => {
                let mut hasher = Sha256::new();
                for id in ids.iter() {
                    hasher.update(id.to_le_bytes());
                }
                hasher.finalize().into()
            }
            Self::File(file) => file.fingerprint(),
        }
    }
}

impl Split {
    /// Creates a split of tokens in memory. `token_lengths` are the bytes of text of each token of the vocabulary, by
    /// id; see [`Tokenizer::token_lengths`](crate::Tokenizer::token_lengths).
    ///
    /// # Panics
    ///
    /// If an id is outside the vocabulary.
    pub fn from_ids(ids: Vec<u32>, token_lengths: Arc<[usize]>) -> Self {
        let vocab_size = token_lengths.len();
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            panic!("token id {id} is outside the vocabulary of {vocab_size} tokens");
        }
        Self::new([Shard::Memory(ids.into())], token_lengths)
    }

    /// Joins files in sequence, without reading their tokens.
    ///
    /// # Errors
    ///
    /// A file of another vocabulary. The ids of foreign files are checked when they are read.
    pub fn from_files(
        files: Vec<TokenFile>,
        token_lengths: Arc<[usize]>,
    ) -> Result<Self, DataError> {
        let shards: Vec<Shard> = files
            .into_iter()
            .map(|file| Ok(Shard::File(file.with_vocab_size(token_lengths.len())?)))
            .collect::<Result<_, DataError>>()?;
        Ok(Self::new(shards, token_lengths))
    }

    /// Joins splits in sequence.
    ///
    /// # Errors
    ///
    /// Splits of different vocabularies.
    ///
    /// # Panics
    ///
    /// If there is no split.
    pub fn concat(splits: Vec<Self>) -> Result<Self, DataError> {
        let token_lengths = splits
            .first()
            .expect("at least one split")
            .token_lengths
            .clone();
        if let Some(other) = splits.iter().find(|s| s.token_lengths != token_lengths) {
            return Err(DataError::MixedVocabularies {
                one: token_lengths.len(),
                other: other.token_lengths.len(),
            });
        }
        let shards = splits
            .iter()
            .flat_map(|split| split.shards.iter().map(|(_, shard)| shard.clone()));
        Ok(Self::new(shards, token_lengths))
    }

    fn new(shards: impl IntoIterator<Item = Shard>, token_lengths: Arc<[usize]>) -> Self {
        let mut end = 0;
        let ending = |shard: Shard| {
            end += shard.tokens();
            (end, shard)
        };
        Self {
            shards: shards.into_iter().map(ending).collect(),
            token_lengths,
        }
    }

    /// Returns the number of tokens.
    pub fn tokens(&self) -> usize {
        self.shards.last().map_or(0, |(end, _)| *end)
    }

    /// Fills `out` with the ids from position `start` on.
    ///
    /// # Errors
    ///
    /// A damaged file, see [`TokenFile::read`].
    ///
    /// # Panics
    ///
    /// If there are fewer tokens.
    pub fn read(&self, start: usize, out: &mut [u32]) -> Result<(), DataError> {
        let tokens = self.tokens();
        assert!(
            start <= tokens && out.len() <= tokens - start,
            "a split of {tokens} tokens does not have {} from {start} on",
            out.len()
        );
        let (mut at, mut rest) = (start, out);
        let first = self.shards.partition_point(|(end, _)| *end <= start);
        for (end, shard) in &self.shards[first..] {
            if rest.is_empty() {
                break;
            }
            let (here, later) = rest.split_at_mut(rest.len().min(end - at));
            shard.read(at + shard.tokens() - end, here)?;
            at += here.len();
            rest = later;
        }
        Ok(())
    }

    /// Returns the ids of a range of tokens.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// If there are fewer tokens.
    pub fn to_vec(&self, range: Range<usize>) -> Result<Vec<u32>, DataError> {
        let mut ids = vec![0; range.len()];
        self.read(range.start, &mut ids)?;
        Ok(ids)
    }

    /// Returns the number of bytes of text that some tokens of this vocabulary stand for.
    ///
    /// # Panics
    ///
    /// If an id is outside the vocabulary.
    pub fn bytes_of(&self, ids: &[u32]) -> usize {
        ids.iter().map(|&id| self.token_lengths[id as usize]).sum()
    }

    /// Returns the number of bytes of text that all tokens stand for. It reads all of them.
    ///
    /// # Errors
    ///
    /// The errors of [`read`](Self::read).
    pub fn bytes(&self) -> Result<usize, DataError> {
        self.bytes_until(&mut || Ok(()))
    }

    /// Does what [`bytes`](Self::bytes) does, until `go_on` returns an error. It is called before each piece.
    pub(crate) fn bytes_until(
        &self,
        go_on: &mut dyn FnMut() -> Result<(), DataError>,
    ) -> Result<usize, DataError> {
        let mut ids = vec![0; CHUNK.min(self.tokens())];
        let mut bytes = 0;
        let mut start = 0;
        while start < self.tokens() {
            go_on()?;
            let chunk = ids.len().min(self.tokens() - start);
            let ids = &mut ids[..chunk];
            self.read(start, ids)?;
            bytes += self.bytes_of(ids);
            start += chunk;
        }
        Ok(bytes)
    }

    /// Returns a SHA-256 that differs between splits of different tokens; see [`TokenFile::fingerprint`] for files. The
    /// same tokens in other shards have another fingerprint.
    ///
    /// # Errors
    ///
    /// None at present; storage whose reading can fail may need one.
    pub fn fingerprint(&self) -> Result<[u8; 32], DataError> {
        let mut hasher = Sha256::new();
        for (end, shard) in self.shards.iter() {
            hasher.update((*end as u64).to_le_bytes());
            hasher.update(shard.fingerprint());
        }
        Ok(hasher.finalize().into())
    }

    /// Returns the number of bytes of the tokens in their files.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let bytes = |(_, shard): &(usize, Shard)| match shard {
            Shard::File(file) => file.token_bytes() as u64,
            Shard::Memory(_) => 0,
        };
        self.shards.iter().map(bytes).sum()
    }

    /// Checks every byte of all files. `progress` is called with the number of bytes that have been checked.
    ///
    /// # Errors
    ///
    /// The first damage, and the error of `progress`; see [`TokenFile::verify`].
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(u64) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut done = 0;
        for (_, shard) in self.shards.iter() {
            if let Shard::File(file) = shard {
                file.verify(&mut |bytes| progress(done + bytes))?;
                done += file.token_bytes() as u64;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::TokenFileWriter;

    /// Creates ids below 300 that are not periodic in the length of a block.
    fn ids(count: usize) -> Vec<u32> {
        (0..count as u32)
            .map(|i| i.wrapping_mul(2_654_435_761) >> 16 & 0xFF)
            .collect()
    }

    fn lengths(vocab_size: usize) -> Arc<[usize]> {
        (0..vocab_size).map(|id| id % 5).collect()
    }

    fn file(folder: &TempDir, name: &str, ids: &[u32], vocab_size: usize) -> TokenFile {
        let path = folder.path().join(name);
        let mut writer = TokenFileWriter::create(&path, vocab_size).unwrap();
        writer.append(ids).unwrap();
        writer.finish().unwrap();
        TokenFile::open(path).unwrap()
    }

    /// Creates a split of files that together hold `ids`, divided at `cuts`.
    fn in_files(folder: &TempDir, ids: &[u32], cuts: &[usize]) -> Split {
        let bounds = [&[0], cuts, &[ids.len()]].concat();
        let files = bounds
            .windows(2)
            .map(|b| file(folder, &format!("{}-{}", b[0], b[1]), &ids[b[0]..b[1]], 300))
            .collect();
        Split::from_files(files, lengths(300)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn any_division_into_shards_reads_as_one_stream(
            tokens in 0usize..100_000,
            shards in prop::sample::select(vec![1usize, 2, 7]),
            places in prop::collection::vec(any::<prop::sample::Index>(), 6),
            in_memory: bool,
            ranges in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 50),
        ) {
            let ids = ids(tokens);
            let mut cuts: Vec<usize> =
                places[..shards - 1].iter().map(|place| place.index(tokens + 1)).collect();
            cuts.sort_unstable();
            let folder = tempfile::tempdir().unwrap();
            let mut split = in_files(&folder, &ids, &cuts);
            prop_assert_eq!(split.shards.len(), shards);
            let in_ids = Split::from_ids(ids.clone(), lengths(300));
            let mut expected = ids;
            if in_memory {
                split = Split::concat(vec![split, in_ids.clone()]).unwrap();
                expected = expected.repeat(2);
            }
            prop_assert_eq!(split.tokens(), expected.len());
            for (one, other) in ranges {
                let (one, other) = (one.index(expected.len() + 1), other.index(expected.len() + 1));
                let range = one.min(other)..one.max(other);
                prop_assert_eq!(&split.to_vec(range.clone()).unwrap(), &expected[range]);
            }
            prop_assert_eq!(split.to_vec(0..split.tokens()).unwrap(), &expected[..]);
            let bytes: usize = expected.iter().map(|id| *id as usize % 5).sum();
            prop_assert_eq!(split.bytes().unwrap(), bytes);
            prop_assert_eq!(split.bytes_of(&expected), bytes);
        }
    }

    #[test]
    fn concurrent_threads_read_the_right_ids() {
        let folder = tempfile::tempdir().unwrap();
        let ids = ids(300_000);
        let split = in_files(&folder, &ids, &[1, 70_000, 70_000, 200_003]);
        thread::scope(|scope| {
            for thread in 0..7 {
                let (split, ids) = (split.clone(), &ids);
                scope.spawn(move || {
                    let mut out = [0; 1025];
                    for i in 0..600 {
                        let start = (i * 7919 + thread * 31) * 193 % (ids.len() - out.len());
                        split.read(start, &mut out).unwrap();
                        assert_eq!(out, ids[start..start + out.len()]);
                    }
                });
            }
        });
    }

    #[test]
    fn ids_of_files_are_limited_to_the_vocabulary() {
        let folder = tempfile::tempdir().unwrap();
        let ours = file(&folder, "ours", &[0, 1, 2], 300);
        let error = Split::from_files(vec![ours], lengths(299)).unwrap_err();
        for part in ["ours", "300", "299"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let path = folder.path().join("foreign.bin");
        std::fs::write(&path, [1, 0, 2, 0, 3, 0]).unwrap();
        let foreign = || vec![TokenFile::open(&path).unwrap()];
        let split = Split::from_files(foreign(), lengths(4)).unwrap();
        assert_eq!(split.bytes().unwrap(), 6);
        let split = Split::from_files(foreign(), lengths(3)).unwrap();
        let error = split.to_vec(0..1).unwrap_err();
        assert!(
            matches!(error, DataError::TokenFile { offset: 4, .. }),
            "{error}"
        );
    }

    #[test]
    fn splits_of_different_vocabularies_are_not_joined() {
        let split = |vocab_size| Split::from_ids(vec![0, 1], lengths(vocab_size));
        let error = Split::concat(vec![split(4), split(4), split(5)]).unwrap_err();
        assert!(
            matches!(error, DataError::MixedVocabularies { one: 4, other: 5 }),
            "{error}"
        );
    }

    #[test]
    fn different_splits_have_different_fingerprints() {
        let folder = tempfile::tempdir().unwrap();
        let ids = ids(1000);
        let other: Vec<u32> = ids.iter().map(|id| id ^ 1).collect();
        let splits = [
            Split::from_ids(ids.clone(), lengths(300)),
            Split::from_ids(other.clone(), lengths(300)),
            Split::from_ids(ids[..999].to_vec(), lengths(300)),
            in_files(&folder, &ids, &[]),
            in_files(&folder, &ids[..999], &[]),
            in_files(&folder, &ids, &[500]),
        ];
        let prints = splits.each_ref().map(|split| split.fingerprint().unwrap());
        let again = in_files(&folder, &ids, &[]);
        assert_eq!(again.fingerprint().unwrap(), prints[3]);
        for (i, print) in prints.iter().enumerate() {
            assert!(!prints[..i].contains(print), "split {i}");
        }
    }

    #[test]
    fn verify_finds_damage_in_unread_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let ids = ids(100_000);
        let split = in_files(&folder, &ids, &[50_000]);
        let mut seen = vec![];
        let mut see = |done| {
            seen.push(done);
            Ok(())
        };
        split.verify(&mut see).unwrap();
        assert_eq!(seen, [65_536, 100_000, 165_536, 200_000]);

        let path = folder.path().join("50000-100000");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[64 + 70_000] ^= 4;
        let damaged = folder.path().join("damaged");
        std::fs::write(&damaged, bytes).unwrap();
        let open = |path| TokenFile::open(path).unwrap();
        let files = vec![open(folder.path().join("0-50000")), open(damaged)];
        let split = Split::from_files(files, lengths(300)).unwrap();
        assert_eq!(split.to_vec(0..82_000).unwrap(), ids[..82_000]);
        for error in [
            split.verify(&mut |_| Ok(())).unwrap_err(),
            split.bytes().unwrap_err(),
            split.to_vec(99_000..99_001).unwrap_err(),
        ] {
            assert!(
                matches!(error, DataError::TokenFile { offset: 65_600, .. }),
                "{error}"
            );
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }
}
