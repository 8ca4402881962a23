//! `[data]` → tokens, and the floor under the loss where it is known.

use foretoken_datasets::world::{Stream, World};
use foretoken_datasets::{Corpus, read_text};

use crate::Error;
use crate::experiment::DataSection;

/// A corpus ready to be cut into windows.
pub struct Data {
    /// Tokenizer, training and validation tokens.
    pub corpus: Corpus,
    /// Entropy of the validation text in bits per byte, for text whose source is known.
    pub floor_bits_per_byte: Option<f64>,
}

impl Data {
    /// Reads or draws the text and turns it into tokens.
    ///
    /// # Errors
    ///
    /// When there is no text, or it does not fit the tokenizer.
    pub fn load(section: &DataSection) -> Result<Self, Error> {
        if let Some(config) = &section.world {
            let world = World::new(config);
            let (train, _) = world.text(Stream::Train, config.train_bytes);
            let (valid, bits) = world.text(Stream::Valid, config.valid_bytes);
            return Ok(Self {
                corpus: Corpus::from_parts(&train, &valid, &section.tokenizer)?,
                floor_bits_per_byte: Some(bits / valid.len() as f64),
            });
        }
        let text = read_text(section.path.as_deref().unwrap_or_default())?;
        Ok(Self {
            corpus: Corpus::from_text(&text, &section.tokenizer)?,
            floor_bits_per_byte: None,
        })
    }
}
