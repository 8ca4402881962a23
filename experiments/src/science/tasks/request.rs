//! Contexts and continuations as token ids, encoded and cut as the harness does it.

use foretoken_datasets::Tokenizer;

use super::text::is_space;
use crate::Error;

/// Tokens of a context and of a continuation after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// Ids of both, at least one of each.
    pub(super) ids: Vec<u32>,
    /// Position of the first token of the continuation.
    pub(super) first: usize,
    /// Number of tokens that were cut from the left, because the model's context is too short.
    pub(super) cut: usize,
}

/// Encodes pairs of context and continuation for a model.
#[derive(Debug)]
pub struct PairEncoder<'t> {
    tokenizer: &'t Tokenizer,
    /// Tokens before every text.
    start: Vec<u32>,
    /// Tokens in place of an empty context.
    prefix: Vec<u32>,
    /// Number of tokens that the model reads at once.
    context: usize,
    /// Text and tokens of the last context, because the choices of an item often share it.
    last: (String, Vec<u32>),
}

impl<'t> PairEncoder<'t> {
    /// Creates an encoder. `start` holds the tokens that precede every text, and `end` those that end one, of which the
    /// first stands for an empty context if nothing precedes texts.
    pub fn new(tokenizer: &'t Tokenizer, start: Vec<u32>, end: &[u32], context: usize) -> Self {
        let prefix = match start.is_empty() {
            true => end.iter().take(1).copied().collect(),
            false => start.clone(),
        };
        Self {
            tokenizer,
            start,
            prefix,
            context,
            last: Default::default(),
        }
    }

    /// Encodes a pair. White space at the end of the context is moved to the continuation; both are encoded together,
    /// and what the context's own tokens leave is the continuation. If the model's context is too short, the beginning is
    /// cut off.
    pub(super) fn encode(&mut self, context: &str, continuation: &str) -> Result<Request, Error> {
        let kept = context.trim_end_matches(is_space);
        let continuation = format!("{}{continuation}", &context[kept.len()..]);
        let (mut ids, first) = match kept.is_empty() {
            true => self.alone(&continuation)?,
            false => self.after(kept, &continuation)?,
        };
        if ids.len() <= first {
            return Err(refused(format!(
                "the tokenizer encodes the choice {:?} to no token",
                shortened(&continuation)
            )));
        }
        let targets = ids.len() - first;
        if targets > self.context {
            return Err(refused(format!(
                "the choice {:?} has {targets} tokens, more than the {} that the model reads at once",
                shortened(&continuation),
                self.context
            )));
        }
        // The last token is a target only.
        let cut = ids.len().saturating_sub(self.context + 1);
        ids.drain(..cut);
        Ok(Request {
            ids,
            first: first - cut,
            cut,
        })
    }

    fn alone(&self, continuation: &str) -> Result<(Vec<u32>, usize), Error> {
        let ids = self.tokenizer.encode(continuation)?;
        if self.prefix.is_empty() {
            return Err(refused(format!(
                "the context of {:?} is empty, and the tokenizer has no token that starts or ends a text to stand for \
                 it; leave this task out, or give another tokenizer",
                shortened(continuation)
            )));
        }
        match ids.first() == self.prefix.first() {
            // The text brings the token itself.
            true => Ok((ids, 1)),
            false => Ok(([&self.prefix[..], &ids].concat(), self.prefix.len())),
        }
    }

    fn after(&mut self, context: &str, continuation: &str) -> Result<(Vec<u32>, usize), Error> {
        if self.last.0 != context {
            let ids = self.tokenizer.encode(context)?;
            self.last = (context.to_owned(), [&self.start[..], &ids].concat());
        }
        let context_ids = &self.last.1;
        let whole = self.tokenizer.encode(&format!("{context}{continuation}"))?;
        let rest = context_ids.len() - self.start.len();
        let rest = whole.get(rest..).unwrap_or_default();
        Ok(([&context_ids[..], rest].concat(), context_ids.len()))
    }
}

/// Returns the beginning of a text for messages.
fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Creates an error whose origin, the item, is not known here.
fn refused(message: String) -> Error {
    Error::Experiment {
        origin: String::new(),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(tokenizer: &Tokenizer, context: usize) -> PairEncoder<'_> {
        let end: Vec<u32> = tokenizer.end_of_text().into_iter().collect();
        PairEncoder::new(tokenizer, vec![], &end, context)
    }

    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn spaces_belong_to_the_continuation() {
        let tokenizer = Tokenizer::byte();
        let mut encoder = encoder(&tokenizer, 100);
        let request = encoder.encode("ab \n", " c").unwrap();
        assert_eq!((request.ids, request.first), (bytes("ab \n c"), 2));
    }

    #[test]
    fn an_empty_context_is_the_token_between_texts() {
        let tokenizer = Tokenizer::byte().with_end_of_text();
        for context in ["", "  "] {
            let request = encoder(&tokenizer, 100).encode(context, " a").unwrap();
            let expected = [&[256][..], &bytes(context), &bytes(" a")].concat();
            assert_eq!((request.ids, request.first), (expected, 1));
        }
        let start = PairEncoder::new(&tokenizer, vec![7, 8], &[256], 100).encode("", "a");
        assert_eq!(start.unwrap().ids, [7, 8, 97]);
        let without = Tokenizer::byte();
        let error = encoder(&without, 100).encode("", "a").unwrap_err();
        assert!(error.to_string().contains("is empty"), "{error}");
    }

    #[test]
    fn the_beginning_is_cut_off() {
        let tokenizer = Tokenizer::byte();
        let mut encoder = encoder(&tokenizer, 5);
        let fits = encoder.encode("abc", " de").unwrap();
        assert_eq!((fits.ids, fits.first, fits.cut), (bytes("abc de"), 3, 0));
        let cut = encoder.encode("xyabc", " de").unwrap();
        assert_eq!((cut.ids, cut.first, cut.cut), (bytes("abc de"), 3, 2));
        let all = encoder.encode("xyabc", " defg").unwrap();
        assert_eq!((all.ids, all.first, all.cut), (bytes("c defg"), 1, 4));
        let error = encoder.encode("x", " defgh").unwrap_err().to_string();
        assert!(error.contains("6 tokens, more than the 5"), "{error}");
    }

    /// A context that joins with the continuation keeps the tokens that it has alone.
    #[test]
    fn tokens_across_the_border_are_split_as_in_the_harness() {
        let text = "low lower lowest ".repeat(50);
        let tokenizer = Tokenizer::from_spec("bpe:270", &text).unwrap();
        let (context, continuation) = ("low", "er");
        let [alone, whole] = [context, "lower"].map(|text| tokenizer.encode(text).unwrap());
        let mut encoder = encoder(&tokenizer, 100);
        let request = encoder.encode(context, continuation);
        match whole.len() > alone.len() {
            true => assert_eq!(
                request.unwrap().ids,
                [&alone[..], &whole[alone.len()..]].concat()
            ),
            false => {
                let error = request.unwrap_err().to_string();
                assert!(error.contains("to no token"), "{error}");
            }
        }
    }
}
