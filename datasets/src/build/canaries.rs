//! Canaries: documents with a secret of known entropy, which a build plants in its training text (Carlini et al. 2019, The
//! Secret Sharer, <https://arxiv.org/abs/1802.08232>). How much more likely a model finds a secret than others of the same
//! format is what it has memorised. As many canaries are drawn and not planted: they are the controls.

use std::{collections::HashSet, path::Path};

use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::error::dataset;
use crate::{
    DataError, Tokenizer,
    files::{read_small, sha256},
    manifest::Manifest,
    permutation::{below, random_of},
};

/// Value of `format` in every file.
const FORMAT: &str = "foretoken canaries";

/// Version of the file that this program writes and reads.
const VERSION: u32 = 1;

/// Place of the name in a prefix.
const NAME: &str = "{}";

/// Smallest entropy of a secret, in bits: no secret is in the text by chance.
const MIN_ENTROPY: f64 = 20.0;

/// Candidates for each name that is drawn, so that few draws are repeated.
const NAMES: f64 = 1000.0;

/// Largest number of documents that are planted, whose places are held in memory.
const MAX_PLANTED: u64 = 10_000_000;

/// Largest file that is read, in bytes: more than the most and longest secrets take.
const LARGEST: u64 = 512 << 20;

/// Options of canaries, which determine them together with the tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryOptions {
    /// Number of canaries that are planted, and of controls, which are not.
    pub count: usize,
    /// Copies of each canary; canaries take these numbers in turn.
    pub copies: Vec<u64>,
    /// Seed of names, secrets and places.
    pub seed: u64,
    /// Text before a secret, in which `{}` stands for the name of the canary.
    pub prefix: String,
    /// Symbols of secrets; the letters from a to z that the tokenizer has, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alphabet: Option<String>,
    /// Number of symbols of a secret.
    pub symbols: usize,
}

impl CanaryOptions {
    /// Default of [`prefix`](Self::prefix).
    pub const PREFIX: &str = "The access code of {} is ";

    /// Default of [`symbols`](Self::symbols).
    pub const SYMBOLS: usize = 8;

    pub(super) fn check(&self) -> Result<(), DataError> {
        let planted: u64 = (0..self.count).map(|number| self.copies_of(number)).sum();
        if self.prefix.matches(NAME).count() != 1 {
            return Err(refused(
                "--canary-prefix",
                format!(
                    "{:?} has to contain {NAME} once, for the name of the canary",
                    self.prefix
                ),
            ));
        }
        if self.copies.is_empty() || self.copies.contains(&0) {
            return Err(refused(
                "--canary-copies",
                "give numbers from 1 on; controls, with 0 copies, are always drawn".into(),
            ));
        }
        if self.count < self.copies.len() {
            return Err(refused(
                "--canaries",
                format!(
                    "{} canaries are fewer than the {} numbers of --canary-copies: plant more",
                    self.count,
                    self.copies.len()
                ),
            ));
        }
        if planted > MAX_PLANTED {
            return Err(refused(
                "--canary-copies",
                format!("{planted} documents are more than {MAX_PLANTED}: plant fewer copies"),
            ));
        }
        Ok(())
    }

    fn copies_of(&self, number: usize) -> u64 {
        match self.copies.len() {
            0 => 0,
            groups => self.copies[number % groups],
        }
    }
}

/// Contents of `canaries.json`, which lies beside the tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canaries {
    format: String,
    version: u32,
    /// Seed of names, secrets and places.
    pub seed: u64,
    /// Text before a secret, in which `{}` stands for the name of the canary.
    pub prefix: String,
    /// Symbols of secrets, each of which is equally likely.
    pub alphabet: String,
    /// Number of symbols of a secret.
    pub symbols: usize,
    /// Number of possible secrets.
    pub candidates: f64,
    /// Entropy of a secret in bits, log₂ of the candidates.
    pub entropy_bits: f64,
    /// The canaries that were planted, and then the controls.
    pub canaries: Vec<Canary>,
}

/// A canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Its name, which no other canary has.
    pub name: String,
    /// Its secret.
    pub secret: String,
    /// Number of its copies in the training text; 0 for a control.
    pub copies: u64,
}

impl Canaries {
    /// Name of the file in its folder.
    pub const FILE: &str = "canaries.json";

    /// Reads the canaries of a folder of tokens; `None` if none were planted.
    ///
    /// # Errors
    ///
    /// A folder without a manifest, and a file that is damaged or of another build.
    pub fn read(folder: &Path) -> Result<Option<Self>, DataError> {
        let Some(entry) = Manifest::read(folder)?.canaries else {
            return Ok(None);
        };
        let path = folder.join(Self::FILE);
        let json = read_small(&path, LARGEST).map_err(|reason| DataError::Read {
            path: path.clone(),
            reason,
        })?;
        if sha256(&json) != entry.sha256 {
            return Err(dataset(
                &path,
                "is not of this dataset, or was changed: restore it, or build the dataset again"
                    .into(),
            ));
        }
        let canaries: Self = serde_json::from_slice(&json).map_err(|error| {
            dataset(
                &path,
                format!("cannot be read ({error}): build the dataset again"),
            )
        })?;
        match (canaries.format.as_str(), canaries.version) {
            (FORMAT, VERSION) => Ok(Some(canaries)),
            (format, version) => Err(dataset(
                &path,
                format!(
                    "its format is {format:?} version {version}, but this program reads {FORMAT:?} version {VERSION}: \
                     build the dataset again"
                ),
            )),
        }
    }

    /// Returns the document of a canary with another secret.
    pub fn document(&self, name: &str, secret: &str) -> String {
        self.prefix.replacen(NAME, name, 1) + secret
    }

    /// Draws secrets of the same format, all of which differ from that of the canary with this number.
    pub fn references(&self, canary: usize, count: usize, seed: u64) -> Vec<String> {
        let alphabet: Vec<char> = self.alphabet.chars().collect();
        let mut random = random_of(b"foretoken/canary/others.", seed, canary as u64);
        let own = &self.canaries[canary].secret;
        let drawn = std::iter::repeat_with(|| word(&alphabet, self.symbols, &mut random));
        drawn.filter(|secret| secret != own).take(count).collect()
    }

    pub(super) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("canaries are always JSON");
        json + "\n"
    }

    /// Draws the canaries.
    pub(super) fn draw(options: &CanaryOptions, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let alphabet = alphabet(options, tokenizer)?;
        let size = alphabet.len() as f64;
        let entropy_bits = options.symbols as f64 * size.log2();
        if entropy_bits < MIN_ENTROPY {
            return Err(refused(
                "--canary-symbols",
                format!(
                    "{} symbols of {} have {entropy_bits:.1} bits, and secrets need {MIN_ENTROPY}: give more symbols",
                    options.symbols,
                    alphabet.len()
                ),
            ));
        }
        let number = 2 * options.count;
        let name_symbols = (NAMES * number as f64).log(size).ceil() as usize;
        let mut random = random_of(b"foretoken/canary/secrets", options.seed, 0);
        let mut names = HashSet::new();
        let mut canaries = Vec::with_capacity(number);
        while canaries.len() < number {
            let name = word(&alphabet, name_symbols, &mut random);
            if !names.insert(name.clone()) {
                continue;
            }
            let copies = match canaries.len() < options.count {
                true => options.copies_of(canaries.len()),
                false => 0,
            };
            canaries.push(Canary {
                name,
                secret: word(&alphabet, options.symbols, &mut random),
                copies,
            });
        }
        Ok(Self {
            format: FORMAT.into(),
            version: VERSION,
            seed: options.seed,
            prefix: options.prefix.clone(),
            symbols: options.symbols,
            candidates: size.powf(options.symbols as f64),
            entropy_bits,
            alphabet: alphabet.into_iter().collect(),
            canaries,
        })
    }
}

/// Returns the symbols of secrets, all of which the tokenizer represents.
fn alphabet(options: &CanaryOptions, tokenizer: &Tokenizer) -> Result<Vec<char>, DataError> {
    let prefix = options.prefix.replacen(NAME, "", 1);
    let unknown = |c: &char| tokenizer.encode(c.encode_utf8(&mut [0; 4])).is_err();
    if let Some(unknown) = prefix.chars().find(unknown) {
        return Err(refused(
            "--canary-prefix",
            format!(
                "the tokenizer has no {unknown:?}, which is in {:?}: give a text of characters that it has",
                options.prefix
            ),
        ));
    }
    let is_represented =
        |symbol: &char| is_kept(tokenizer, &options.prefix.replacen(NAME, "", 1), *symbol);
    let Some(given) = &options.alphabet else {
        let letters: Vec<char> = ('a'..='z').filter(is_represented).collect();
        return match letters.len() {
            0 | 1 => Err(refused(
                "--canaries",
                format!(
                    "the tokenizer represents {} of the letters from a to z after {:?}: give --canary-alphabet, or \
                     another --canary-prefix",
                    letters.len(),
                    options.prefix
                ),
            )),
            _ => Ok(letters),
        };
    };
    let symbols: Vec<char> = given.chars().collect();
    let wrong = |reason: String| refused("--canary-alphabet", reason);
    let distinct: HashSet<char> = symbols.iter().copied().collect();
    if distinct.len() < 2 || distinct.len() < symbols.len() {
        return Err(wrong(format!(
            "{given:?}: give different symbols, 2 or more"
        )));
    }
    match symbols.iter().find(|symbol| !is_represented(symbol)) {
        Some(symbol) => Err(wrong(format!(
            "the tokenizer does not represent {symbol:?} after {:?}: leave it out",
            options.prefix
        ))),
        None => Ok(symbols),
    }
}

/// Whether the tokens of a text with this symbol at its end keep both, and none is a special token.
fn is_kept(tokenizer: &Tokenizer, prefix: &str, symbol: char) -> bool {
    let text = format!("{prefix}{symbol}");
    let Ok(ids) = tokenizer.encode(&text) else {
        return false;
    };
    let special = tokenizer.encode_with_special_tokens(&text);
    let decoded = tokenizer.decode(&ids);
    special.is_ok_and(|special| special == ids)
        && decoded.is_ok_and(|decoded| decoded.ends_with(&text))
}

/// Draws a word of uniformly random symbols.
fn word(alphabet: &[char], symbols: usize, random: &mut impl RngCore) -> String {
    (0..symbols)
        .map(|_| alphabet[below(alphabet.len() as u64, random) as usize])
        .collect()
}

fn refused(flag: &str, reason: String) -> DataError {
    dataset(Path::new(flag), reason)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Options of six canaries, with 1 and 3 copies in turn.
    pub(in crate::build) fn options() -> CanaryOptions {
        CanaryOptions {
            count: 6,
            copies: vec![1, 3],
            seed: 4,
            prefix: CanaryOptions::PREFIX.into(),
            alphabet: None,
            symbols: CanaryOptions::SYMBOLS,
        }
    }

    #[test]
    fn secrets_consist_of_symbols_that_the_tokenizer_has() {
        let known = "The access code of {} is 0123456789 xyz";
        let tokenizer = Tokenizer::char(known);
        let letters: String = {
            let mut letters: Vec<char> = known.chars().filter(char::is_ascii_lowercase).collect();
            letters.sort_unstable();
            letters.dedup();
            letters.into_iter().collect()
        };
        let drawn = Canaries::draw(&options(), &tokenizer).unwrap();
        assert_eq!(drawn.alphabet, letters);
        let digits = CanaryOptions {
            alphabet: Some("0123456789".into()),
            ..options()
        };
        assert_eq!(
            Canaries::draw(&digits, &tokenizer).unwrap().alphabet,
            "0123456789"
        );
        let without_digits = Tokenizer::char("The access code of is xyz");
        let without_prefix = Tokenizer::char("abcdefghijk 0123456789");
        let few = CanaryOptions {
            symbols: 3,
            ..digits.clone()
        };
        for (options, tokenizer, parts) in [
            (&digits, &without_digits, ["--canary-alphabet", "'0'"]),
            (&digits, &without_prefix, ["--canary-prefix", "'T'"]),
            (&few, &tokenizer, ["--canary-symbols", "10.0 bits"]),
        ] {
            let error = Canaries::draw(options, tokenizer).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn references_are_other_secrets_of_the_same_format() {
        let drawn = Canaries::draw(&options(), &Tokenizer::byte()).unwrap();
        let references = drawn.references(2, 500, 9);
        assert_eq!(references, drawn.references(2, 500, 9));
        assert_ne!(references, drawn.references(3, 500, 9));
        assert_ne!(references, drawn.references(2, 500, 8));
        let distinct: HashSet<&String> = references.iter().collect();
        assert_eq!(distinct.len(), 500);
        for secret in &references {
            assert_ne!(*secret, drawn.canaries[2].secret);
            assert_eq!(secret.chars().count(), drawn.symbols);
            assert!(secret.chars().all(|symbol| drawn.alphabet.contains(symbol)));
        }
    }
}
