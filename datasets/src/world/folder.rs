//! A world in words and in files: its parameters, its exact expectations, and its texts.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::{FactsConfig, MarkovConfig, Stream, Text, World, WorldKind};
use crate::DataError;
use crate::files::{sha256, write_atomically};

/// Facts about a world that are known exactly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorldDescription {
    /// Kind of the world.
    pub kind: WorldKind,
    /// Its seed.
    pub seed: u64,
    /// Its other parameters.
    pub parameters: Parameters,
    /// Entropy of a document, in bits.
    pub bits_per_document: f64,
    /// Mean length of a document, in bytes.
    pub bytes_per_document: f64,
    /// Entropy of an endless text, in bits per byte.
    pub bits_per_byte: f64,
    /// Entropy rate of a chain without ends of documents, in bits per symbol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_bits_per_symbol: Option<f64>,
    /// Exponent that theory predicts for facts by training tokens, see [`FactsConfig::data_exponent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_exponent: Option<f64>,
    /// Exponent that theory predicts for facts by parameters, see [`FactsConfig::parameter_exponent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter_exponent: Option<f64>,
}

/// Parameters of a world, by its kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Parameters {
    /// Parameters of the grammar.
    Grammar {
        /// Factor of its lexicon.
        scale: usize,
    },
    /// Parameters of facts.
    Facts(FactsConfig),
    /// Parameters of chains.
    Markov(MarkovConfig),
}

/// Content of `world.json`: a world, and the texts beside the file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorldFolder {
    /// The world.
    #[serde(flatten)]
    pub world: WorldDescription,
    /// The training text, `train.txt`.
    pub train: TextDescription,
    /// The validation text, `valid.txt`.
    pub valid: TextDescription,
}

/// Facts about a text that are known exactly.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TextDescription {
    /// Number of documents.
    pub documents: u64,
    /// Bytes of the text.
    pub bytes: usize,
    /// `−log₂` of its probability.
    pub bits: f64,
    /// Bits over bytes: the floor of this text.
    pub bits_per_byte: f64,
    /// SHA-256 of the text, in hexadecimal.
    pub sha256: String,
}

impl TextDescription {
    fn of(text: &Text) -> Self {
        Self {
            documents: text.documents,
            bytes: text.text.len(),
            bits: text.bits,
            bits_per_byte: text.bits / text.text.len() as f64,
            sha256: sha256(text.text.as_bytes()),
        }
    }
}

impl World {
    /// Returns what is known about the world.
    pub fn describe(&self) -> WorldDescription {
        let config = self.config();
        let facts = (config.kind == WorldKind::Facts).then(|| config.of_facts());
        let expected = self.expected();
        WorldDescription {
            kind: config.kind,
            seed: config.seed,
            parameters: match config.kind {
                WorldKind::Grammar => Parameters::Grammar {
                    scale: config.scale(),
                },
                WorldKind::Facts => Parameters::Facts(config.of_facts()),
                WorldKind::Markov => Parameters::Markov(config.of_chains()),
            },
            bits_per_document: expected.bits,
            bytes_per_document: expected.bytes,
            bits_per_byte: expected.bits_per_byte(),
            chain_bits_per_symbol: self.process().endless_rate(),
            data_exponent: facts.and_then(|facts| facts.data_exponent()),
            parameter_exponent: facts.and_then(|facts| facts.parameter_exponent()),
        }
    }

    /// Writes the training and the validation text and `world.json` into a new or empty folder.
    ///
    /// # Errors
    ///
    /// A folder that is not empty, and files that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<WorldFolder, DataError> {
        let failed = |reason| DataError::Write {
            path: folder.into(),
            reason,
        };
        if folder.exists() && fs::read_dir(folder).map_err(failed)?.next().is_some() {
            return Err(DataError::Dataset {
                path: folder.into(),
                reason: "is not empty: name a new folder".into(),
            });
        }
        fs::create_dir_all(folder).map_err(failed)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            write_atomically(&path, bytes).map_err(|reason| DataError::Write { path, reason })
        };
        let text = |stream, name: &str| {
            let text = self.text(stream, self.config().size(stream));
            write(name, text.text.as_bytes())?;
            Ok::<_, DataError>(TextDescription::of(&text))
        };
        let written = WorldFolder {
            world: self.describe(),
            train: text(Stream::Train, "train.txt")?,
            valid: text(Stream::Valid, "valid.txt")?,
        };
        let json = serde_json::to_vec_pretty(&written).map_err(|error| failed(error.into()))?;
        write("world.json", &json)?;
        Ok(written)
    }
}
