//! Texts to evaluate on, as token ids with the documents that they belong to.

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use foretoken_datasets::{ReadOptions, SourceFile, Split, Tokenizer, documents};

use super::context::ContextPolicy;
use crate::Error;
use crate::science::check;

/// Sizes of a piece of text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextSize {
    /// Bytes in UTF-8.
    pub bytes: usize,
    /// Unicode characters.
    pub characters: usize,
    /// Words: the longest pieces without white space.
    pub words: usize,
}

impl TextSize {
    fn of(text: &str) -> Self {
        Self {
            bytes: text.len(),
            characters: text.chars().count(),
            words: text.split_whitespace().count(),
        }
    }
}

impl std::ops::AddAssign for TextSize {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.characters += other.characters;
        self.words += other.words;
    }
}

/// A document: its targets, and the size of the text that they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its number in the text, from 0.
    pub number: usize,
    /// Positions of its tokens that are scored, in its segment. The end-of-text token after a document belongs to it.
    pub targets: Range<usize>,
    /// Size of the text of these tokens.
    pub size: TextSize,
    /// Bytes of its first token, if no token precedes it, so that it is not scored.
    pub skipped_bytes: usize,
}

/// Tokens that are read in sequence: no window crosses the border of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Token ids, those before the first scored one included.
    pub ids: Vec<u32>,
    /// Its documents, in order. Their targets are contiguous and end with the segment.
    pub documents: Vec<Document>,
}

impl Segment {
    /// Returns the position of the first scored token.
    pub(super) fn first(&self) -> usize {
        let first = self.documents.first();
        first.map_or(self.ids.len(), |document| document.targets.start)
    }
}

/// A text with a name: a file, or a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Path of the file, or name of the dataset.
    pub name: String,
    /// Its segments, in order.
    pub segments: Vec<Segment>,
    /// Tokens of its documents that have no prediction, because no token precedes them.
    pub not_scored: u64,
}

impl Text {
    /// Returns the number of targets.
    pub fn targets(&self) -> usize {
        let of = |segment: &Segment| segment.ids.len() - segment.first();
        self.segments.iter().map(of).sum()
    }
}

/// Encodes documents for a model.
#[derive(Debug)]
pub struct Encoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Tokens before every text, which are not scored.
    start: Vec<u32>,
    policy: ContextPolicy,
}

impl<'t> Encoder<'t> {
    /// Creates an encoder. `start` holds the tokens that precede every text in the model's training.
    pub fn new(tokenizer: &'t Tokenizer, start: Vec<u32>, policy: ContextPolicy) -> Self {
        Self {
            tokenizer,
            start,
            policy,
        }
    }

    /// Reads a file of text.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, or has a character that the tokenizer does not know.
    pub fn file(
        &self,
        file: &SourceFile,
        options: &ReadOptions,
        interrupt: &AtomicBool,
    ) -> Result<Text, Error> {
        let name = file.path.display().to_string();
        let mut builder = Builder::new(self);
        for (number, document) in documents(file, options)?.enumerate() {
            check(interrupt)?;
            let text = document?.text;
            let ids = self.tokenizer.encode(&text);
            let ids = ids.map_err(|error| Error::Experiment {
                origin: name.clone(),
                message: format!("the model's tokenizer cannot encode it: {error}"),
            })?;
            if !ids.is_empty() {
                builder.add(number, &ids, TextSize::of(&text));
            }
        }
        Ok(builder.finish(name))
    }

    /// Takes the tokens of a split, of which each document ends with the token `end`, which belongs to it. With
    /// [`ContextPolicy::Documents`], each document follows the end of another; otherwise the text is one document.
    ///
    /// # Errors
    ///
    /// Returns an error if tokens cannot be read.
    pub fn split_at(
        &self,
        name: &str,
        split: &Split,
        end: u32,
        interrupt: &AtomicBool,
    ) -> Result<Text, Error> {
        if self.policy != ContextPolicy::Documents {
            return self.split(name, split, interrupt);
        }
        let ids = split.to_vec(0..split.tokens())?;
        // The end of the document before the first one is not a document.
        let documents = ids.strip_prefix(&[end]).unwrap_or(&ids);
        let after_end = Self {
            start: vec![end],
            ..*self
        };
        let mut builder = Builder::new(&after_end);
        for (number, document) in documents.split_inclusive(|id| *id == end).enumerate() {
            check(interrupt)?;
            builder.add(number, document, self.size_of(document));
        }
        Ok(builder.finish(name.into()))
    }

    /// Takes the tokens of a split, whose documents are divided by end-of-text tokens.
    ///
    /// # Errors
    ///
    /// Returns an error if tokens cannot be read.
    pub fn split(&self, name: &str, split: &Split, interrupt: &AtomicBool) -> Result<Text, Error> {
        let border = self.tokenizer.end_of_text();
        let ids = split.to_vec(0..split.tokens())?;
        let mut builder = Builder::new(self);
        for (number, document) in ids.split(|id| Some(*id) == border).enumerate() {
            check(interrupt)?;
            builder.add(number, document, self.size_of(document));
        }
        Ok(builder.finish(name.into()))
    }

    /// Returns the size of the text that tokens stand for; special tokens have none.
    fn size_of(&self, ids: &[u32]) -> TextSize {
        let bytes = ids.iter().flat_map(|id| self.tokenizer.token_bytes(*id));
        let bytes: Vec<u8> = bytes.copied().collect();
        TextSize {
            bytes: bytes.len(),
            ..TextSize::of(&String::from_utf8_lossy(&bytes))
        }
    }
}

/// Segments of a text while its documents are added.
struct Builder<'e> {
    encoder: &'e Encoder<'e>,
    segments: Vec<Segment>,
    not_scored: u64,
}

impl<'e> Builder<'e> {
    fn new(encoder: &'e Encoder<'e>) -> Self {
        Self {
            encoder,
            segments: Vec::new(),
            not_scored: 0,
        }
    }

    /// Adds a document. One without tokens leaves only the end-of-text token that divides it from the one before.
    fn add(&mut self, number: usize, ids: &[u32], size: TextSize) {
        let Encoder {
            tokenizer,
            start,
            policy,
        } = self.encoder;
        let border = tokenizer.end_of_text();
        let segment = match (policy, border, self.segments.last_mut()) {
            (ContextPolicy::Stride(_), Some(border), Some(segment)) => {
                segment.ids.push(border);
                if let Some(before) = segment.documents.last_mut() {
                    before.targets.end += 1;
                }
                segment
            }
            _ => {
                let before = match (policy, border) {
                    (ContextPolicy::Documents, Some(border)) if start.is_empty() => vec![border],
                    _ => start.clone(),
                };
                self.segments.push(Segment {
                    ids: before,
                    documents: Vec::new(),
                });
                self.segments.last_mut().expect("one was added")
            }
        };
        let begin = segment.ids.len();
        segment.ids.extend(ids);
        let mut document = Document {
            number,
            targets: begin..segment.ids.len(),
            size,
            skipped_bytes: 0,
        };
        // No token precedes the first one of a segment, so that it has no prediction.
        if begin == 0 && !ids.is_empty() {
            document.targets.start = 1;
            self.not_scored += 1;
            let first = tokenizer.token_bytes(ids[0]);
            document.skipped_bytes = first.len().min(document.size.bytes);
            document.size.bytes -= document.skipped_bytes;
            let characters = first.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
            document.size.characters -= characters.min(document.size.characters);
        }
        if !document.targets.is_empty() {
            segment.documents.push(document);
        }
    }

    fn finish(mut self, name: String) -> Text {
        self.segments
            .retain(|segment| !segment.documents.is_empty());
        Text {
            name,
            segments: self.segments,
            not_scored: self.not_scored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::byte().with_end_of_text()
    }

    fn text(policy: ContextPolicy, start: Vec<u32>, tokenizer: &Tokenizer) -> Text {
        let encoder = Encoder::new(tokenizer, start, policy);
        let mut builder = Builder::new(&encoder);
        for (number, document) in ["ab c", "", "d"].into_iter().enumerate() {
            let ids = tokenizer.encode(document).unwrap();
            builder.add(number, &ids, encoder.size_of(&ids));
        }
        builder.finish("text".into())
    }

    const EOT: u32 = 256;

    fn size(bytes: usize, words: usize) -> TextSize {
        TextSize {
            bytes,
            characters: bytes,
            words,
        }
    }

    #[test]
    fn a_stream_scores_every_token_but_the_first_and_borders_end_documents() {
        let text = text(ContextPolicy::Stride(8), vec![], &tokenizer());
        assert_eq!(text.segments.len(), 1);
        let segment = &text.segments[0];
        let (a, b, space, c, d) = (97, 98, 32, 99, 100);
        assert_eq!(segment.ids, [a, b, space, c, EOT, EOT, d]);
        let document = |number, targets, size, skipped_bytes| Document {
            number,
            targets,
            size,
            skipped_bytes,
        };
        // The first token is not scored, so its byte is not counted.
        let expected = [
            document(0, 1..6, size(3, 2), 1),
            document(2, 6..7, size(1, 1), 0),
        ];
        assert_eq!(segment.documents, expected);
        assert_eq!(segment.first(), 1);
    }

    #[test]
    fn documents_by_themselves_follow_the_token_that_ends_a_text() {
        let text = text(ContextPolicy::Documents, vec![], &tokenizer());
        let ids: Vec<_> = text
            .segments
            .iter()
            .map(|segment| segment.ids.clone())
            .collect();
        assert_eq!(ids, [vec![EOT, 97, 98, 32, 99], vec![EOT, 100]]);
        assert_eq!(text.segments[0].documents[0].size, size(4, 2));
        assert_eq!(text.segments[1].documents[0].targets, 1..2);
    }

    #[test]
    fn tokens_before_a_text_are_not_scored() {
        let text = text(ContextPolicy::Stride(8), vec![7, 7], &tokenizer());
        assert_eq!(text.segments[0].first(), 2);
        assert_eq!(text.segments[0].documents[0].size, size(4, 2));
    }

    #[test]
    fn without_a_border_documents_are_apart() {
        let tokenizer = Tokenizer::byte();
        let text = text(ContextPolicy::Stride(8), vec![], &tokenizer);
        assert_eq!(
            text.segments.len(),
            1,
            "a document of one token has no target"
        );
        assert_eq!(text.segments[0].ids, [97, 98, 32, 99]);
    }

    #[test]
    fn characters_and_words_are_those_of_unicode() {
        let size = TextSize::of("naïve  \u{2003}äöü\n");
        assert_eq!((size.bytes, size.characters, size.words), (18, 12, 2));
    }

    #[test]
    fn documents_that_end_with_a_token_follow_the_end_of_another() {
        let tokenizer = Tokenizer::byte();
        let ids = tokenizer.encode("\nab\nc\n").unwrap();
        let split = Split::from_ids(ids, tokenizer.token_lengths().into());
        let text = |policy| {
            let encoder = Encoder::new(&tokenizer, vec![], policy);
            let text = encoder.split_at("valid", &split, 10, &AtomicBool::new(false));
            let segments = text.unwrap().segments;
            let ids = segments.iter().map(|segment| segment.ids.clone());
            (ids.collect::<Vec<_>>(), segments[0].documents[0].clone())
        };
        let (ids, first) = text(ContextPolicy::Documents);
        assert_eq!(ids, [vec![10, 97, 98, 10], vec![10, 99, 10]]);
        assert_eq!((first.targets, first.size), (1..4, size(3, 1)));
        let (ids, _) = text(ContextPolicy::Stride(4));
        assert_eq!(ids, [vec![10, 97, 98, 10, 99, 10]]);
    }

    /// What a stream scores is the text that was given, whole and in order.
    #[test]
    fn a_split_keeps_its_tokens() {
        let tokenizer = tokenizer();
        let ids = vec![EOT, 97, EOT, EOT, 98, 99, EOT];
        let lengths = tokenizer.token_lengths().into();
        let split = Split::from_ids(ids.clone(), lengths);
        let encoder = Encoder::new(&tokenizer, vec![], ContextPolicy::Stride(4));
        let text = encoder
            .split("valid", &split, &AtomicBool::new(false))
            .unwrap();
        assert_eq!(text.segments[0].ids, ids);
        let targets: Vec<_> = text.segments[0]
            .documents
            .iter()
            .map(|document| document.targets.clone())
            .collect();
        assert_eq!(targets, [1..4, 4..7]);
    }
}
