//! A file as tokens, with what the tokens do not say aside.
//!
//! The bytes of the tokens in sequence are the file for text that the tokenizer represents exactly. Other bytes (invalid
//! UTF-8, a character that the vocabulary lacks, white space that the tokenizer normalises) are edits of that sequence,
//! which are stored beside the tokens, compressed with zstd. So every file comes back byte for byte.

use std::sync::atomic::AtomicBool;

use foretoken_datasets::{DataError, Tokenizer};

use super::format::{Reader, write_number};
use crate::Error;
use crate::science::check;

/// Largest number of bytes that are encoded at once. Text is cut behind a newline if possible.
const PART: usize = 4 << 20;

/// Level of zstd for edits, which are few or not text.
const LEVEL: i32 = 19;

/// A change to the bytes of the tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    /// Bytes of the tokens between the edit before and this one.
    kept: usize,
    /// Bytes of the tokens that are left out here.
    removed: usize,
    /// Bytes that are put in their place.
    inserted: Vec<u8>,
}

/// Content of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) tokens: Vec<u32>,
    edits: Vec<Edit>,
    /// Bytes of the tokens since the last edit.
    since: usize,
}

impl Content {
    /// Divides a file.
    ///
    /// # Errors
    ///
    /// Returns an error if `interrupt` is set.
    pub(super) fn of(
        file: &[u8],
        tokenizer: &Tokenizer,
        interrupt: &AtomicBool,
    ) -> Result<Self, Error> {
        let mut content = Self::default();
        for chunk in file.utf8_chunks() {
            let mut text = chunk.valid();
            while !text.is_empty() {
                let (part, rest) = text.split_at(part_length(text));
                content.add_text(part, tokenizer, interrupt)?;
                text = rest;
            }
            content.insert(chunk.invalid());
        }
        Ok(content)
    }

    /// Takes a file as one edit of no tokens.
    pub(super) fn without_tokens(file: &[u8]) -> Self {
        let mut content = Self::default();
        content.insert(file);
        content
    }

    /// Returns the number of bytes that edits put in.
    pub(super) fn inserted(&self) -> usize {
        self.edits.iter().map(|edit| edit.inserted.len()).sum()
    }

    fn insert(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.edits.last_mut() {
            Some(last) if self.since == 0 => last.inserted.extend(bytes),
            _ => self.edits.push(Edit {
                kept: std::mem::take(&mut self.since),
                removed: 0,
                inserted: bytes.into(),
            }),
        }
    }

    fn remove(&mut self, bytes: usize) {
        match self.edits.last_mut() {
            Some(last) if self.since == 0 => last.removed += bytes,
            _ => self.edits.push(Edit {
                kept: std::mem::take(&mut self.since),
                removed: bytes,
                inserted: Vec::new(),
            }),
        }
    }

    fn add_text(
        &mut self,
        text: &str,
        tokenizer: &Tokenizer,
        interrupt: &AtomicBool,
    ) -> Result<(), Error> {
        // Pieces that are left, the next one last.
        let mut pieces = vec![text];
        while let Some(text) = pieces.pop() {
            check(interrupt)?;
            let ids = match tokenizer.encode(text) {
                Ok(ids) => ids,
                Err(DataError::UnknownCharacter {
                    character, offset, ..
                }) => {
                    let (before, from) = text.split_at(offset);
                    if before.is_empty() {
                        let (unknown, after) = from.split_at(character.len_utf8());
                        self.insert(unknown.as_bytes());
                        pieces.extend(Some(after).filter(|after| !after.is_empty()));
                    } else {
                        pieces.extend([from, before]);
                    }
                    continue;
                }
                // Some tokenizers have no token for a word that they do not know.
                Err(_) => Vec::new(),
            };
            let bytes: Vec<u8> = ids
                .iter()
                .flat_map(|id| tokenizer.token_bytes(*id))
                .copied()
                .collect();
            match (bytes.strip_suffix(text.as_bytes()), middle_line(text)) {
                // Some tokenizers put a space before every text.
                (Some(before), _) if before.len() <= 1 => {
                    if !before.is_empty() {
                        self.remove(before.len());
                    }
                    self.tokens.extend(ids);
                    self.since += text.len();
                }
                // What the tokenizer changes is looked for by halves, and a line that it changes is stored as it is.
                (None | Some(_), Some(at)) => {
                    let (first, second) = text.split_at(at);
                    pieces.extend([second, first]);
                }
                _ => self.insert(text.as_bytes()),
            }
        }
        Ok(())
    }

    /// Returns the edits as bytes; none if there is no edit.
    pub(super) fn edits_to_bytes(&self) -> Result<Vec<u8>, std::io::Error> {
        if self.edits.is_empty() {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        for edit in &self.edits {
            for number in [edit.kept, edit.removed, edit.inserted.len()] {
                write_number(&mut bytes, number as u64);
            }
        }
        let mut all = Vec::new();
        write_number(&mut all, self.edits.len() as u64);
        all.extend(bytes);
        for edit in &self.edits {
            all.extend(&edit.inserted);
        }
        zstd::encode_all(all.as_slice(), LEVEL)
    }
}

/// Returns the file of which `tokens` are the bytes of the tokens, and `edits` the bytes of the edits. `length` is the
/// length of the file. The error says what does not fit.
pub(super) fn edited(tokens: &[u8], edits: &[u8], length: u64) -> Result<Vec<u8>, String> {
    if edits.is_empty() {
        return match tokens.len() as u64 == length {
            true => Ok(tokens.into()),
            false => Err("its tokens are not as long as the file that it names".into()),
        };
    }
    let damaged = || "its edits are damaged".to_owned();
    // Each edit removes or inserts a byte at least, and takes 30 bytes at most.
    let changed = length.saturating_add(tokens.len() as u64);
    let most = changed.saturating_mul(31).saturating_add(10);
    let mut unpacked = Vec::new();
    let decoder = zstd::Decoder::new(edits).map_err(|_| damaged())?;
    std::io::Read::read_to_end(&mut std::io::Read::take(decoder, most), &mut unpacked)
        .map_err(|_| damaged())?;
    let mut reader = Reader::new(&unpacked);
    let count = reader.number().ok_or_else(damaged)?;
    if count > changed {
        return Err(damaged());
    }
    // What is inserted follows all numbers, which are read once to find it.
    let mut numbers = reader.clone();
    for _ in 0..3 * count {
        reader.number().ok_or_else(damaged)?;
    }
    let mut inserted = reader.rest();
    let mut file = Vec::new();
    let mut tokens = tokens;
    for _ in 0..count {
        let mut next = || {
            let number = numbers.number().ok_or_else(damaged)?;
            usize::try_from(number).map_err(|_| damaged())
        };
        let [kept, removed, put_in] = [next()?, next()?, next()?];
        if (removed, put_in) == (0, 0) {
            return Err(damaged());
        }
        let (keep, rest) = tokens.split_at_checked(kept).ok_or_else(damaged)?;
        let (_, rest) = rest.split_at_checked(removed).ok_or_else(damaged)?;
        let (put_in, later) = inserted.split_at_checked(put_in).ok_or_else(damaged)?;
        file.extend(keep);
        file.extend(put_in);
        (tokens, inserted) = (rest, later);
    }
    file.extend(tokens);
    match file.len() as u64 == length && inserted.is_empty() {
        true => Ok(file),
        false => Err(damaged()),
    }
}

/// Returns the beginning of a line near the middle of a text; `None` if it has only one line.
fn middle_line(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (before, after) = bytes.split_at(bytes.len() / 2);
    let newline = |byte: &u8| *byte == b'\n';
    let before = before.iter().rposition(newline);
    let after = || {
        after
            .iter()
            .position(newline)
            .map(|at| at + bytes.len() / 2)
    };
    let start = before.or_else(after)? + 1;
    (start < bytes.len()).then_some(start)
}

/// Returns where to cut a text: behind the last newline in the largest part, or else between two characters.
fn part_length(text: &str) -> usize {
    if text.len() <= PART {
        return text.len();
    }
    let end = text.floor_char_boundary(PART);
    text[..end].rfind('\n').map_or(end, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restored(file: &[u8], tokenizer: &Tokenizer) -> (Content, Vec<u8>) {
        let content = Content::of(file, tokenizer, &AtomicBool::new(false)).unwrap();
        let tokens: Vec<u8> = content
            .tokens
            .iter()
            .flat_map(|id| tokenizer.token_bytes(*id))
            .copied()
            .collect();
        let edits = content.edits_to_bytes().unwrap();
        let restored = edited(&tokens, &edits, file.len() as u64).unwrap();
        (content, restored)
    }

    #[test]
    fn edits_that_change_nothing_are_refused_before_they_take_memory() {
        let mut bytes = Vec::new();
        write_number(&mut bytes, 50_000_000);
        bytes.resize(150_000_000, 0);
        let edits = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        assert!(edits.len() < 20_000);
        for length in [0, 1] {
            assert!(edited(b"", &edits, length).is_err());
        }
        let mut bytes = Vec::new();
        for number in [1, 0, 0, 0] {
            write_number(&mut bytes, number);
        }
        let edits = zstd::encode_all(bytes.as_slice(), 1).unwrap();
        assert!(edited(b"a", &edits, 1).is_err());
    }

    #[test]
    fn a_text_is_halved_at_a_line() {
        for (text, expected) in [
            ("", None),
            ("one", None),
            ("one\n", None),
            ("a\nb", Some(2)),
            ("a\nb\nc\nd", Some(2)),
            ("a long line\nb", Some(12)),
            ("\n\n", Some(1)),
        ] {
            assert_eq!(middle_line(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_of_the_vocabulary_has_no_edits() {
        let text = "naïve 猫\n";
        let (content, file) = restored(text.as_bytes(), &Tokenizer::byte());
        assert_eq!((file, content.edits.len()), (text.into(), 0));
        assert!(content.edits_to_bytes().unwrap().is_empty());
        assert_eq!(content.tokens.len(), text.len());
    }

    #[test]
    fn what_the_vocabulary_lacks_is_an_edit() {
        let tokenizer = Tokenizer::char("abc \n");
        let file = "abc 猫犬 cab\nxx".as_bytes();
        let (content, back) = restored(file, &tokenizer);
        assert_eq!(back, file);
        assert_eq!(content.edits.len(), 2);
        assert_eq!(content.inserted(), 8);
        assert_eq!(content.tokens.len(), 4 + 5);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(file in prop::collection::vec(prop_oneof![
            4 => prop::sample::select(b"abc \n".to_vec()), 1 => any::<u8>()], 0..300)) {
            for tokenizer in [Tokenizer::byte(), Tokenizer::char("abc \n")] {
                prop_assert_eq!(&restored(&file, &tokenizer).1, &file);
            }
        }

        #[test]
        fn any_edits_are_an_error_or_a_file(
            edits in prop::collection::vec(any::<u8>(), 0..100),
            packed in any::<bool>(),
            length in 0..1000u64
        ) {
            let edits = if packed { zstd::encode_all(edits.as_slice(), 1).unwrap() } else { edits };
            if let Ok(file) = edited(b"some tokens", &edits, length) {
                prop_assert_eq!(file.len() as u64, length);
            }
        }
    }
}
