//! Tokenizers that Hugging Face `tokenizers` runs: any `tokenizer.json`, and byte-pair encodings
//! trained here. That crate may panic on a file it did not write; nothing of that gets past here.

use std::{cmp::Reverse, collections::HashMap, io::IsTerminal, sync::OnceLock};

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::{
    AddedToken, Model, ModelWrapper, ProgressFormat, Tokenizer, Trainer,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::byte_level::ByteLevel,
};

use super::{
    END_OF_TEXT,
    gpt2::{PIECE, Words, into_pieces, limited_pre_tokenizer, pieces},
    token_bytes::{Spelling, TokenBytes, byte_token, spelled},
};
use crate::{DataError, panics};

/// Tokens of the smallest byte-pair encoding: the bytes and the end of text.
pub(super) const MIN_BPE_TOKENS: usize = 257;

/// Token ids are below this. A vocabulary is a table, and a single id of 4e9 would make it fill the
/// memory; the largest published ones have 2^18 tokens.
pub(super) const MAX_TOKENS: usize = 1 << 24;

/// A pair of tokens that occurs once in the text is not merged: such a token is learned by heart.
const MIN_PAIR_COUNT: u64 = 2;

/// Of the text to train on, only so many bytes are read: pairs are counted in 32 bits with a sign,
/// and there are no more pairs than bytes.
const MAX_TRAINING_BYTES: usize = i32::MAX as usize;

/// Bytes of different words that are counted to train a byte-pair encoding. Where there are more, the rarer
/// half is forgotten, as word2vec's `ReduceVocab` does: a word that is frequent is counted but for a few
/// of its first times. The trainer holds some hundred bytes for each of these.
const MAX_TRAINING_WORDS: usize = 2 << 20;

/// Pieces of text whose words are counted in parallel.
const COUNTED_AT_ONCE: usize = 32;

/// Texts that are longer are encoded in parallel.
const LONG: usize = 1 << 18;

/// What the end of a text is called, in the order in which they are looked for.
const NAMES_OF_END_OF_TEXT: [&str; 7] = [
    END_OF_TEXT,
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|eot_id|>",
    "<|im_end|>",
];

#[derive(Debug)]
pub(super) struct HuggingFace {
    /// Takes special tokens in a text as text.
    tokenizer: Tokenizer,
    /// The same, but with an eye for special tokens: made when it is first used.
    with_special_tokens: OnceLock<Tokenizer>,
    json: String,
    /// The words of a text, where the model takes them one by one and they are of a kind that is known.
    words: Option<Words>,
    /// No special token has white space in its name, or begins with a letter.
    plain_specials: bool,
    spelling: Spelling,
    is_exact: bool,
    end_of_text: Option<u32>,
}

impl HuggingFace {
    /// Reads a `tokenizer.json`. Truncation, padding and dropout are left out.
    pub(super) fn from_json(json: &str) -> Result<(Self, TokenBytes), String> {
        let mut file: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let Some(parts) = file.as_object_mut() else {
            return Err("it is no JSON object".into());
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
                "its largest token id is {id}, and the limit is {MAX_TOKENS}"
            ));
        }
        // The ids of added tokens are not read from the file but counted on from the model's.
        for (content, id) in declared {
            let given = tokenizer.token_to_id(&content);
            if given.is_none() || id.as_u64() != given.map(u64::from) {
                return Err(format!(
                    "its added token {content:?} has id {id}, where Hugging Face tokenizers gives {}: \
                     number the added tokens without a gap, after those of the model",
                    given.map_or("none".into(), |id| id.to_string())
                ));
            }
        }
        Self::new(tokenizer)
    }

    /// Trains a byte-pair encoding. With the end of text, it has at most `vocab_size` tokens.
    pub(super) fn train<T: AsRef<str> + Send>(
        vocab_size: usize,
        texts: impl Iterator<Item = Result<T, DataError>> + Send,
        progress: bool,
    ) -> Result<(Self, TokenBytes), DataError> {
        // The bars are drawn on stderr, but each is followed by an empty line on stdout.
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

    /// The same with an end of text, if there is none.
    pub(super) fn with_end_of_text(&self) -> Result<(Self, TokenBytes), String> {
        let mut tokenizer = self.tokenizer.clone();
        add_end_of_text(&mut tokenizer)?;
        Self::new(tokenizer)
    }

    fn new(mut tokenizer: Tokenizer) -> Result<(Self, TokenBytes), String> {
        tokenizer.set_encode_special_tokens(true);
        let names = tokens_by_id(&tokenizer)?;
        let spelling = Spelling::of(tokenizer.get_decoder());

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

        let end_of_text = NAMES_OF_END_OF_TEXT.iter().find_map(|&name| {
            let id = tokenizer.token_to_id(name)?;
            added.get(&id)?.special.then_some(id)
        });
        let words = tokenizer
            .get_pre_tokenizer()
            .and_then(Words::of)
            .filter(|_| {
                tokenizer.get_normalizer().is_none() && added.values().all(|token| token.special)
            });
        let plain_specials = added.values().all(|token| {
            !token.content.contains(char::is_whitespace)
                && !token.content.starts_with(|c: char| c.is_ascii_alphabetic())
        });
        let swallows_spaces = added
            .values()
            .any(|token| !token.special && (token.lstrip || token.rstrip));
        let is_exact = spelling != Spelling::Other
            && !swallows_spaces
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

    /// A text is what its tokens show, one after the other.
    pub(super) fn is_byte_level(&self) -> bool {
        self.spelling == Spelling::ByteLevel
    }

    /// Whether the token is called after a byte, such as `<0x0A>`.
    pub(super) fn is_byte(&self, id: u32) -> bool {
        let name = self.tokenizer.id_to_token(id);
        name.is_some_and(|name| byte_token(&name).is_some())
    }

    /// What the post-processor puts before a text.
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

    /// What [`encode`] does, without the crate's record of where every byte comes from: that takes
    /// most of its time, and nobody asks.
    fn encode_words(&self, words: Words, text: &str) -> Result<Vec<u32>, DataError> {
        let model = self.tokenizer.get_model();
        let mut ids = Vec::with_capacity(text.len() / 3);
        let encoded = guarded(|| {
            for word in words.split(text) {
                let tokens = model.tokenize(&spelled(word))?;
                ids.extend(tokens.into_iter().map(|token| token.id));
            }
            Ok(())
        });
        encoded.map(|()| ids).map_err(cannot_encode)
    }

    /// The end of a beginning of a text that is encoded alike whatever follows, and leaves the encoding of
    /// the rest as it is; 0 where none is known.
    pub(super) fn settled(&self, text: &str, special_tokens: bool) -> usize {
        match self.words {
            // The name of a special token may be cut in the middle of a line, but not at its end.
            Some(_) if special_tokens && self.plain_specials => Words::settled_by_line(text),
            Some(words) if !special_tokens => words.settled(text),
            _ => 0,
        }
    }

    /// Does what [`settled`](Self::settled) does, for the words that [`train`](Self::train) counts.
    pub(super) fn settled_for_training(text: &str) -> usize {
        Words::Limited.settled(text)
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

/// How often each word occurs in the texts; see [`MAX_TRAINING_BYTES`] and [`MAX_TRAINING_WORDS`].
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
            // Piece by piece, so that no order of a hash table decides what is forgotten.
            if different > MAX_TRAINING_WORDS {
                different = forget_rarer_half(&mut counts);
            }
        }
        if batch.len() < COUNTED_AT_ONCE {
            break;
        }
    }
    drop(pieces);
    failure.map_or(Ok(counts), Err)
}

/// Keeps the most frequent words, up to half of [`MAX_TRAINING_WORDS`]; among equals, a choice that has
/// nothing to do with what the words are. Returns how many bytes are kept.
fn forget_rarer_half(counts: &mut HashMap<String, u64>) -> usize {
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

/// A trainer that has counted these words. The trainer counts for itself, all words of all texts; that it
/// can be written and read as JSON is the way to give it a table.
fn with_words(
    trainer: &BpeTrainer,
    counts: HashMap<String, u64>,
) -> tokenizers::Result<BpeTrainer> {
    let mut fields = serde_json::to_value(trainer)?;
    fields["words"] = counts
        .into_iter()
        .map(|(word, count)| (spelled(&word), Value::from(count)))
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

/// The name of each token, by id; `None` where there is a gap.
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
    // Where the crate would put the next added token, which is not always after the last id.
    let in_model = tokenizer.get_model().get_vocab_size();
    let added = tokenizer.get_added_vocabulary().get_added_tokens_decoder();
    let next = match added.keys().max() {
        Some(&last) if last as usize >= in_model => last as usize + 1,
        _ => in_model,
    };
    match names.get(next) {
        Some(Some(name)) => Err(format!(
            "its ids have gaps, and the next one, {next}, belongs to {name:?}: number the tokens \
             without a gap"
        )),
        _ => Ok(names),
    }
}

/// With a prefix for tokens inside a word, the second half of every merge has to have it: the crate
/// cuts it off without looking.
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

/// Texts in which little escapes a tokenizer that changes what it is given: every byte that UTF-8
/// has, white space at the ends and in runs, capitals, and characters with other normal forms.
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

/// What the crate says, in one line, also where it panics.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match panics::catch(work) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(error.to_string().replace('\n', " ")),
        None => Err("Hugging Face tokenizers panics".into()),
    }
}
