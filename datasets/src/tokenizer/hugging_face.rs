//! Tokenizers that run on Hugging Face `tokenizers`: any `tokenizer.json`, and byte-pair encodings trained here. The
//! crate may panic on malformed files; here, its panics become errors.

use std::{cmp::Reverse, collections::HashMap, io::IsTerminal, sync::OnceLock};

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::{
    AddedToken, Model, ModelWrapper, ProgressFormat, Tokenizer, Trainer,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::{
    end_of_text::{END_OF_TEXT, END_OF_TEXT_NAMES},
    gpt2::{PIECE, Words, into_pieces, limited_pre_tokenizer, pieces},
    token_bytes::{Spelling, TokenBytes, byte_token, to_byte_level},
};
use crate::{DataError, panics};

/// Number of tokens in the smallest byte-pair encoding: the bytes and the end of text.
pub(super) const MIN_BPE_TOKENS: usize = 257;

/// Bound of token ids. A vocabulary is a table, which a single id of 4e9 would make too large for memory. The largest
/// published vocabularies have 2^18 tokens.
pub(super) const MAX_TOKENS: usize = 1 << 24;

/// Minimum number of occurrences of a pair that is merged. A token that occurs once would only be memorised.
const MIN_PAIR_COUNT: u64 = 2;

/// Maximum number of bytes of text to train on. The trainer counts pairs in signed 32-bit integers, and there are no
/// more pairs than bytes.
const MAX_TRAINING_BYTES: usize = i32::MAX as usize;

/// Maximum number of bytes of different words that are counted for training, because the trainer needs some hundred
/// bytes of memory for each. If there are more, the rarer half is dropped, like in `ReduceVocab` of word2vec. A
/// frequent word loses only a few of its first occurrences.
const MAX_TRAINING_WORDS: usize = 2 << 20;

/// Number of pieces of text whose words are counted in parallel.
const COUNTED_AT_ONCE: usize = 32;

/// Number of bytes above which a text is encoded in parallel.
const LONG: usize = 1 << 18;

/// Tokenizer of the library, with what is derived from it.
#[derive(Debug)]
pub(super) struct HuggingFace {
    /// Tokenizer that encodes names of special tokens as text.
    tokenizer: Tokenizer,
    /// Tokenizer that encodes names of special tokens as these tokens. It is created at its first use.
    with_special_tokens: OnceLock<Tokenizer>,
    json: String,
    /// Rule of splitting text into words, if it is a known one and the model encodes each word by itself.
    words: Option<Words>,
    /// Whether the names of all special tokens are without white space and do not begin with a letter.
    plain_specials: bool,
    spelling: Spelling,
    is_exact: bool,
    end_of_text: Option<u32>,
}

impl HuggingFace {
    /// Reads a `tokenizer.json`, without truncation, padding and dropout.
    pub(super) fn from_json(json: &str) -> Result<(Self, TokenBytes), String> {
        let mut file: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let Some(parts) = file.as_object_mut() else {
            return Err("it is not a JSON object".into());
        };
        for unwanted in ["truncation", "padding"] {
            parts.insert(unwanted.into(), Value::Null);
        }
        if let Some(dropout) = file.pointer_mut("/model/dropout") {
            *dropout = Value::Null;
        }
        check_prefixes(&file["model"])?;
        let declared: Vec<(String, Value)> = file["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|token| Some((token["content"].as_str()?.into(), token["id"].clone())))
            .collect();

        let tokenizer: Tokenizer = guarded(|| Ok(serde_json::from_value(file)?))?;
        if let Some(id) = tokenizer.get_vocab(true).into_values().max()
            && id as usize >= MAX_TOKENS
        {
            return Err(format!(
                "its largest token id is {id}, but ids must be below {MAX_TOKENS}"
            ));
        }
        // The library does not read the ids of added tokens from the file, but numbers them after those of the model.
        for (content, id) in declared {
            let given = tokenizer.token_to_id(&content);
            if given.is_none() || id.as_u64() != given.map(u64::from) {
                return Err(format!(
                    "its added token {content:?} has id {id}, but Hugging Face tokenizers gives it {}: number the added \
                     tokens without a gap, after those of the model",
                    given.map_or("none".into(), |id| id.to_string())
                ));
            }
        }
        Self::new(tokenizer)
    }

    /// Trains a byte-pair encoding of at most `vocab_size` tokens, including the end of text.
    pub(super) fn train<T: AsRef<str> + Send>(
        vocab_size: usize,
        texts: impl Iterator<Item = Result<T, DataError>> + Send,
        progress: bool,
    ) -> Result<(Self, TokenBytes), DataError> {
        // The library draws bars on stderr, but prints an empty line on stdout after each.
        let visible =
            progress && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size - 1)
            .min_frequency(MIN_PAIR_COUNT)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .show_progress(visible)
            .progress_format(if visible {
                ProgressFormat::Indicatif
            } else {
                ProgressFormat::Silent
            })
            .build();

        let counts = count_words(texts)?;
        let trained = guarded(|| with_words(&trainer, counts)).and_then(|trainer| {
            let mut model = BPE::default();
            guarded(|| trainer.train(&mut model))?;
            let mut tokenizer = Tokenizer::new(model);
            tokenizer
                .with_pre_tokenizer(Some(limited_pre_tokenizer()))
                .with_decoder(Some(ByteLevel::new(false, false, true)));
            add_end_of_text(&mut tokenizer)?;
            Self::new(tokenizer)
        });
        trained.map_err(|reason| DataError::Tokenize {
            action: "be trained on these texts",
            reason,
        })
    }

    /// Returns a copy with an end-of-text token.
    pub(super) fn with_end_of_text(&self) -> Result<(Self, TokenBytes), String> {
        let mut tokenizer = self.tokenizer.clone();
        add_end_of_text(&mut tokenizer)?;
        Self::new(tokenizer)
    }

    fn new(mut tokenizer: Tokenizer) -> Result<(Self, TokenBytes), String> {
        tokenizer.set_encode_special_tokens(true);
        let names = tokens_by_id(&tokenizer)?;
        let spelling = Spelling::from_decoder(tokenizer.get_decoder());

        let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let mut tokens = TokenBytes::default();
        for (id, name) in (0..).zip(&names) {
            if let Some(token) = added.get(&id) {
                tokens.push(token.content.as_bytes(), token.special);
            } else if let Some(name) = name {
                let bytes = match spelling.bytes(name) {
                    Some(bytes) => bytes,
                    None => guarded(|| tokenizer.decode(&[id], false))?.into(),
                };
                tokens.push(&bytes, false);
            } else {
                tokens.push(&[], false);
            }
        }

        let end_of_text = END_OF_TEXT_NAMES.iter().find_map(|&name| {
            let id = tokenizer.token_to_id(name)?;
            added.get(&id)?.special.then_some(id)
        });
        let words = tokenizer
            .get_pre_tokenizer()
            .and_then(Words::from_pre_tokenizer)
            .filter(|_| {
                tokenizer.get_normalizer().is_none() && added.values().all(|token| token.special)
            });
        let plain_specials = added.values().all(|token| {
            !token.content.contains(char::is_whitespace)
                && !token.content.starts_with(|c: char| c.is_ascii_alphabetic())
        });
        let absorbs_spaces = added
            .values()
            .any(|token| !token.special && (token.lstrip || token.rstrip));
        let is_exact = spelling != Spelling::Other
            && !absorbs_spaces
            && probes().iter().all(|probe| {
                encode(&tokenizer, probe).is_ok_and(|ids| {
                    let bytes: Vec<&[u8]> = ids.iter().map(|&id| tokens.text(id)).collect();
                    bytes.concat() == probe.as_bytes()
                })
            });

        let json = guarded(|| tokenizer.to_string(true))? + "\n";
        let loaded = Self {
            tokenizer,
            with_special_tokens: OnceLock::new(),
            json,
            words,
            plain_specials,
            spelling,
            is_exact,
            end_of_text,
        };
        Ok((loaded, tokens))
    }

    pub(super) fn model(&self) -> &ModelWrapper {
        self.tokenizer.get_model()
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    pub(super) fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    pub(super) fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Whether the bytes of tokens in sequence are their text.
    pub(super) fn is_byte_level(&self) -> bool {
        self.spelling == Spelling::ByteLevel
    }

    /// Whether the name of a token is that of a byte, such as `<0x0A>`.
    pub(super) fn is_byte(&self, id: u32) -> bool {
        let name = self.tokenizer.id_to_token(id);
        name.is_some_and(|name| byte_token(&name).is_some())
    }

    /// Returns the tokens that the post-processor puts before a text.
    pub(super) fn start_of_text(&self) -> Result<Vec<u32>, DataError> {
        const PROBE: &str = "a";
        let plain = encode(&self.tokenizer, PROBE)?;
        let mut ids = guarded(|| self.tokenizer.encode_fast(PROBE, true))
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(cannot_encode)?;
        let start = ids.windows(plain.len().max(1)).position(|ids| ids == plain);
        ids.truncate(start.unwrap_or(0));
        Ok(ids)
    }

    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let Some(words) = self.words else {
            return encode(&self.tokenizer, text);
        };
        if text.len() <= LONG {
            return self.encode_words(words, text);
        }
        let pieces: Vec<&str> = pieces(text, PIECE).collect();
        let ids: Vec<Vec<u32>> = pieces
            .into_par_iter()
            .map(|piece| self.encode_words(words, piece))
            .collect::<Result<_, _>>()?;
        Ok(ids.concat())
    }

    /// Encodes like [`encode`], but without the library's record of the origin of every byte, which is not needed and
    /// takes most of the time.
    fn encode_words(&self, words: Words, text: &str) -> Result<Vec<u32>, DataError> {
        let model = self.tokenizer.get_model();
        let mut ids = Vec::with_capacity(text.len() / 3);
        let encoded = guarded(|| {
            for word in words.split(text) {
                let tokens = model.tokenize(&to_byte_level(word))?;
                ids.extend(tokens.into_iter().map(|token| token.id));
            }
            Ok(())
        });
        encoded.map(|()| ids).map_err(cannot_encode)
    }

    /// Returns the length of a prefix that can be encoded apart from the rest, whatever follows; 0 if none is known.
    pub(super) fn stable_prefix(&self, text: &str, special_tokens: bool) -> usize {
        match self.words {
            // The name of a special token cannot extend over the end of a line.
            Some(_) if special_tokens && self.plain_specials => Words::stable_lines(text),
            Some(words) if !special_tokens => words.stable_prefix(text),
            _ => 0,
        }
    }

    /// Returns what [`stable_prefix`](Self::stable_prefix) does, for the words that [`train`](Self::train) counts.
    pub(super) fn stable_prefix_for_training(text: &str) -> usize {
        Words::Limited.stable_prefix(text)
    }

    pub(super) fn encode_with_special_tokens(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let tokenizer = self.with_special_tokens.get_or_init(|| {
            let mut tokenizer = self.tokenizer.clone();
            tokenizer.set_encode_special_tokens(false);
            tokenizer
        });
        encode(tokenizer, text)
    }

    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        guarded(|| self.tokenizer.decode(ids, false)).map_err(|reason| DataError::Tokenize {
            action: "decode these ids",
            reason,
        })
    }
}

/// Counts the occurrences of each word, up to [`MAX_TRAINING_BYTES`] and [`MAX_TRAINING_WORDS`].
fn count_words<T: AsRef<str> + Send>(
    texts: impl Iterator<Item = Result<T, DataError>>,
) -> Result<HashMap<String, u64>, DataError> {
    let mut failure = None;
    let mut bytes_left = MAX_TRAINING_BYTES;
    let mut pieces = texts
        .map_while(|text| text.map_err(|error| failure = Some(error)).ok())
        .flat_map(into_pieces)
        .map_while(|piece| {
            bytes_left = bytes_left.checked_sub(piece.len())?;
            Some(piece)
        });
    let mut counts = HashMap::new();
    let mut different = 0;
    loop {
        let batch: Vec<String> = pieces.by_ref().take(COUNTED_AT_ONCE).collect();
        let counted: Vec<HashMap<&str, u64>> = batch
            .par_iter()
            .map(|piece| {
                let mut counts = HashMap::new();
                for word in Words::Limited.split(piece) {
                    *counts.entry(word).or_default() += 1;
                }
                counts
            })
            .collect();
        for words in counted {
            for (word, count) in words {
                match counts.get_mut(word) {
                    Some(known) => *known += count,
                    None => {
                        different += word.len();
                        counts.insert(word.to_owned(), count);
                    }
                }
            }
            // The limit is checked after each piece, so that dropped words do not depend on the order of a hash table.
            if different > MAX_TRAINING_WORDS {
                different = drop_rarer_half(&mut counts);
            }
        }
        if batch.len() < COUNTED_AT_ONCE {
            break;
        }
    }
    drop(pieces);
    failure.map_or(Ok(counts), Err)
}

/// Keeps the most frequent words, up to half of [`MAX_TRAINING_WORDS`], and returns their bytes. A hash decides between
/// words of equal counts, so that the choice is not related to their text.
fn drop_rarer_half(counts: &mut HashMap<String, u64>) -> usize {
    let mut words: Vec<(String, u64)> = counts.drain().collect();
    words.sort_by_cached_key(|(word, count)| {
        (
            Reverse(*count),
            crc32fast::hash(word.as_bytes()),
            word.clone(),
        )
    });
    let mut kept = 0;
    counts.extend(words.into_iter().take_while(|(word, _)| {
        kept += word.len();
        kept <= MAX_TRAINING_WORDS / 2
    }));
    counts.keys().map(String::len).sum()
}

/// Creates a trainer with these counts of words. The trainer has no function that accepts counts, so they are set in
/// its JSON form.
fn with_words(
    trainer: &BpeTrainer,
    counts: HashMap<String, u64>,
) -> tokenizers::Result<BpeTrainer> {
    let mut fields = serde_json::to_value(trainer)?;
    fields["words"] = counts
        .into_iter()
        .map(|(word, count)| (to_byte_level(&word), Value::from(count)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    Ok(serde_json::from_value(fields)?)
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, DataError> {
    guarded(|| tokenizer.encode_fast(text, false))
        .map(|encoding| encoding.get_ids().to_vec())
        .map_err(cannot_encode)
}

fn cannot_encode(reason: String) -> DataError {
    DataError::Tokenize {
        action: "encode this text",
        reason,
    }
}

fn add_end_of_text(tokenizer: &mut Tokenizer) -> Result<(), String> {
    let token = AddedToken::from(END_OF_TEXT, true);
    guarded(|| tokenizer.add_special_tokens([token]))?;
    Ok(())
}

/// Returns the name of each token, by id; `None` for a gap.
fn tokens_by_id(tokenizer: &Tokenizer) -> Result<Vec<Option<String>>, String> {
    let vocabulary: HashMap<String, u32> = tokenizer.get_vocab(true);
    let size = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
    let mut names = vec![None; size];
    for (name, id) in vocabulary {
        let place: &mut Option<String> = &mut names[id as usize];
        if let Some(other) = place {
            return Err(format!(
                "its tokens {other:?} and {name:?} have the same id {id}"
            ));
        }
        *place = Some(name);
    }
    // Id that the library would give to the next added token, which is not always after the last id.
    let in_model = tokenizer.get_model().get_vocab_size();
    let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
    let next = match added.keys().max() {
        Some(&last) if last as usize >= in_model => last as usize + 1,
        _ => in_model,
    };
    match names.get(next) {
        Some(Some(name)) => Err(format!(
            "its ids have gaps, and the next added token would get id {next} of {name:?}: number the tokens without a \
             gap"
        )),
        _ => Ok(names),
    }
}

/// Checks that the second half of every merge begins with the prefix for tokens inside a word, because the library
/// removes the prefix without checking.
fn check_prefixes(model: &Value) -> Result<(), String> {
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("");
    let merges = model["merges"].as_array().into_iter().flatten();
    if prefix.is_empty() {
        return Ok(());
    }
    for merge in merges {
        let second = match merge {
            Value::String(pair) => pair.split(' ').nth(1),
            pair => pair[1].as_str(),
        };
        if second.is_none_or(|second| !second.starts_with(prefix)) {
            return Err(format!(
                "the second half of its merge {merge} does not begin with the prefix {prefix:?}"
            ));
        }
    }
    Ok(())
}

/// Returns texts that most tokenizers that change text would change: every byte of UTF-8, white space at the ends and
/// in runs, capitals, and characters with other normal forms.
fn probes() -> [String; 3] {
    let mut all_bytes: String = ('\0'..='\u{7FF}').collect();
    all_bytes.extend((1..=0x10).filter_map(|high| char::from_u32(high * 0x1000)));
    all_bytes.extend((1..=0x10).filter_map(|high| char::from_u32(high * 0x10000)));
    all_bytes.extend(['\u{800}', '\u{D000}', '\u{E000}', '\u{F8FF}']);
    [
        all_bytes,
        "Word, word.  ÉCOLE e\u{301} ﬁ \u{212B}\r\n\n Ⅷ½\u{3000}x'S don't 12345 ".into(),
        "  two spaces\t\t".into(),
    ]
}

/// Runs the library, and turns its errors and panics into a message of one line.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match panics::catch(work) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(error.to_string().replace('\n', " ")),
        None => Err("Hugging Face tokenizers panicked".into()),
    }
}
