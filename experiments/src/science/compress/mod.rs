//! Compression of files with a model: the bits that its loss promises, had.
//!
//! A model that gives the next token the probability `p` codes it in −log₂ p bits (Shannon 1948), so that the size of a
//! compressed file is the cross-entropy of its text under the model. A file that decodes is the proof of a number of
//! bits per byte.

mod bits;
mod codec;
mod coder;
mod content;
mod format;
mod table;

use std::sync::atomic::AtomicBool;

use foretoken_datasets::Tokenizer;
use foretoken_model::{PortableModel, Transformer};
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use table::{ComparisonTable, TableRow};

use bits::Bits;
use codec::{Codec, Computation, Mismatch};
use content::Content;
use format::{BLOCK, Conditions, Header, MAX_STREAMS, Parts, stream_lengths};

use crate::Error;
use crate::engine::memory::{refuse_file, refuse_streams};
use crate::record::identity::weights_hash;

/// Bytes of a file for each stream, by default.
const BYTES_PER_STREAM: usize = 16 << 10;

/// Largest default number of streams.
const STREAMS: usize = 64;

/// Backend of a compressed file whose probabilities have the same bits on every machine.
pub const PORTABLE: &str = "portable";

/// A model with all that decides the probabilities that it gives.
pub struct Compressor<'m> {
    model: &'m Transformer,
    tokenizer: &'m Tokenizer,
    /// Tokens that precede every text.
    start: Vec<u32>,
    conditions: Conditions,
}

/// A compressed file.
#[derive(Debug, Clone, PartialEq)]
pub struct Compressed {
    /// The bytes to write.
    pub file: Vec<u8>,
    /// Sizes of its parts.
    pub sizes: Sizes,
}

/// Sizes of a compressed file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sizes {
    /// Bytes of the file that was compressed.
    pub bytes: u64,
    /// Bytes of the compressed file.
    pub compressed_bytes: u64,
    /// Bits of the compressed file over bytes of the file; `None` for an empty one.
    pub bits_per_byte: Option<f64>,
    /// Tokens of the file.
    pub tokens: u64,
    /// Streams that were coded side by side.
    pub streams: usize,
    /// Sum of −log₂ of the probabilities of all tokens, as they were coded.
    pub model_bits: f64,
    /// Bits of the streams.
    pub stream_bits: u64,
    /// Bytes that hold them.
    pub stream_bytes: u64,
    /// Estimate of the bytes that one stream would save: those of the additional beginnings without context, ends, and
    /// checksums.
    pub streams_cost_bytes: f64,
    /// Bytes of the header, with the checksums of blocks.
    pub header_bytes: u64,
    /// Bytes of what no token stands for, compressed.
    pub edit_bytes: u64,
    /// Bytes of the file that no token stands for.
    pub edited_bytes: u64,
}

impl<'m> Compressor<'m> {
    /// Creates a compressor. `start` holds the tokens that precede every text in the model's training, and `backend` names
    /// backend and precision, such as `flex:f32`, or is [`PORTABLE`].
    ///
    /// # Errors
    ///
    /// Returns an error if the device fails.
    pub fn new(
        model: &'m Transformer,
        tokenizer: &'m Tokenizer,
        start: Vec<u32>,
        backend: String,
    ) -> Result<Self, Error> {
        let mut weights = [0; 8];
        let hash = weights_hash(model)?;
        for (byte, digits) in weights.iter_mut().zip(hash.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        let hash = Sha256::digest(tokenizer.to_json());
        let mut of_tokenizer = [0; 8];
        of_tokenizer.copy_from_slice(&hash[..8]);
        Ok(Self {
            model,
            tokenizer,
            start,
            conditions: Conditions {
                weights,
                tokenizer: of_tokenizer,
                backend,
                context: model.config().context as u64,
            },
        })
    }

    /// Compresses a file with the model, or without it if it would grow.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`compress_with_model`](Self::compress_with_model).
    pub fn compress(
        &self,
        file: &[u8],
        streams: Option<usize>,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Compressed, Error> {
        let compressed = self.compress_with_model(file, streams, interrupt, progress)?;
        if compressed.file.len() <= file.len() {
            return Ok(compressed);
        }
        let content = Content::without_tokens(file);
        let stored = self.compress_content(file, &content, None, interrupt, &mut |_| {})?;
        Ok(match stored.file.len() < compressed.file.len() {
            true => stored,
            false => compressed,
        })
    }

    /// Compresses a file in `streams` streams, or in a number that suits its size. `progress` is called with the number of
    /// tokens of each step, after their total.
    ///
    /// # Errors
    ///
    /// Returns an error if the tokenizer or the device fails, or `interrupt` is set.
    pub fn compress_with_model(
        &self,
        file: &[u8],
        streams: Option<usize>,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Compressed, Error> {
        let content = Content::of(file, self.tokenizer, interrupt)?;
        self.compress_content(file, &content, streams, interrupt, progress)
    }

    fn compress_content(
        &self,
        file: &[u8],
        content: &Content,
        streams: Option<usize>,
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Compressed, Error> {
        let tokens = content.tokens.len() as u64;
        let suited = || (file.len() / BYTES_PER_STREAM).clamp(1, STREAMS);
        let streams = streams.unwrap_or_else(suited).min(MAX_STREAMS);
        // No stream without a token.
        let streams = match content.tokens.len() {
            0 => 0,
            tokens => tokens.div_ceil(tokens.div_ceil(streams)),
        };
        refuse_streams(
            "--streams",
            self.model.config(),
            streams,
            &self.model.device(),
        )?;
        let parts: Vec<&[u32]> = split(&content.tokens, streams);
        progress(Progress::Total(tokens));
        let codec = self.codec(&self.conditions.backend, interrupt)?;
        let coded = codec.encode(&parts, &mut |tokens| progress(Progress::Done(tokens)))?;
        let edits = content
            .edits_to_bytes()
            .map_err(Error::io("compress", "edits"))?;
        let blocks = parts.iter().flat_map(|part| part.chunks(BLOCK));
        let header = Header {
            conditions: self.conditions.clone(),
            bytes: file.len() as u64,
            tokens,
            crc: crc32fast::hash(file),
            edits: edits.len() as u64,
            streams: coded.streams.iter().map(|stream| stream.length).collect(),
            blocks: blocks.map(|block| self.crc(block)).collect(),
        };
        let mut bytes = header.to_bytes();
        let header_bytes = bytes.len() as u64;
        bytes.extend(&edits);
        let mut streams_in_one = Bits::default();
        for stream in &coded.streams {
            streams_in_one.append(stream);
        }
        bytes.extend(&streams_in_one.bytes);
        let sizes = Sizes {
            bytes: header.bytes,
            compressed_bytes: bytes.len() as u64,
            bits_per_byte: (!file.is_empty()).then(|| 8.0 * bytes.len() as f64 / file.len() as f64),
            tokens,
            streams,
            model_bits: coded.bits,
            stream_bits: streams_in_one.length,
            stream_bytes: streams_in_one.bytes.len() as u64,
            streams_cost_bytes: streams_cost_bytes(&header, coded.start_bits),
            header_bytes,
            edit_bytes: header.edits,
            edited_bytes: content.inserted() as u64,
        };
        Ok(Compressed { file: bytes, sizes })
    }

    /// Returns the file that was compressed. `name` is its name in messages. A [`PORTABLE`] file needs no backend of its
    /// own.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is damaged, or was compressed with another model, tokenizer, backend or precision; if
    /// what is decoded is not what was encoded; or if the device fails or `interrupt` is set.
    pub fn decompress(
        &self,
        name: &str,
        file: &[u8],
        interrupt: &AtomicBool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<u8>, Error> {
        let refuse = |message: String| Error::Experiment {
            origin: name.into(),
            message,
        };
        let Parts {
            header,
            edits,
            streams,
        } = Header::read(file).map_err(refuse)?;
        self.check(&header.conditions).map_err(refuse)?;
        refuse_file(name, header.bytes)?;
        refuse_streams(
            name,
            self.model.config(),
            streams.len(),
            &self.model.device(),
        )?;
        progress(Progress::Total(header.tokens));
        let lengths: Vec<usize> = stream_lengths(header.tokens, streams.len())
            .map(|length| length as usize)
            .collect();
        let first_blocks: Vec<usize> = lengths
            .iter()
            .scan(0, |next, length| {
                let first = *next;
                *next += length.div_ceil(BLOCK);
                Some(first)
            })
            .collect();
        let matches = |place: Mismatch, tokens: &[u32]| {
            let block = first_blocks[place.stream] + place.block;
            header.blocks.get(block) == Some(&self.crc(tokens))
        };
        let codec = self.codec(&header.conditions.backend, interrupt)?;
        let decoded = codec.decode(&streams, &lengths, &matches, &mut |tokens| {
            progress(Progress::Done(tokens));
        })?;
        let decoded = decoded.map_err(|Mismatch { stream, block }| {
            let reason = match header.conditions.backend.as_str() {
                PORTABLE => "the file is damaged there".into(),
                backend => format!(
                    "the file is damaged there, or {backend} computes other bits here than where it was compressed"
                ),
            };
            refuse(format!(
                "block {block} of stream {stream} decodes to other bytes than were compressed: {reason}"
            ))
        })?;
        let tokens: Vec<u8> = decoded
            .iter()
            .flatten()
            .flat_map(|id| self.tokenizer.token_bytes(*id))
            .copied()
            .collect();
        let restored = content::edited(&tokens, edits, header.bytes).map_err(refuse)?;
        match crc32fast::hash(&restored) == header.crc {
            true => Ok(restored),
            false => Err(refuse("is damaged: its checksum does not match".into())),
        }
    }

    fn codec<'s>(&'s self, backend: &str, interrupt: &'s AtomicBool) -> Result<Codec<'s>, Error> {
        let computation = match backend {
            PORTABLE => Computation::Portable(Box::new(PortableModel::new(self.model)?)),
            _ => Computation::Backend(self.model),
        };
        Ok(Codec {
            computation,
            start: &self.start,
            interrupt,
        })
    }

    /// Returns the checksum of the bytes of some tokens.
    fn crc(&self, tokens: &[u32]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for token in tokens {
            hasher.update(self.tokenizer.token_bytes(*token));
        }
        hasher.finalize()
    }

    /// Refuses a file of other conditions. The error says which differ.
    fn check(&self, theirs: &Conditions) -> Result<(), String> {
        let ours = &self.conditions;
        let hex = |bytes: &[u8]| -> String {
            bytes[..4]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        // First, because weights in another precision are other weights.
        if theirs.backend != ours.backend && theirs.backend != PORTABLE {
            return Err(format!(
                "was compressed on {}, and this is {}, which may compute other bits; give --backend {}",
                theirs.backend, ours.backend, theirs.backend
            ));
        }
        if theirs.weights != ours.weights {
            return Err(format!(
                "was compressed with other weights ({}…, and this model has {}…); name that model",
                hex(&theirs.weights),
                hex(&ours.weights)
            ));
        }
        if theirs.tokenizer != ours.tokenizer {
            return Err(format!(
                "was compressed with another tokenizer ({}…, and this one is {}…); name it with --tokenizer",
                hex(&theirs.tokenizer),
                hex(&ours.tokenizer)
            ));
        }
        if theirs.context != ours.context {
            return Err(format!(
                "was compressed with a context of {} tokens, and this model has {}",
                theirs.context, ours.context
            ));
        }
        Ok(())
    }
}

/// Returns the backend and precision that a compressed file names, such as `flex:f32`, or [`PORTABLE`].
///
/// # Errors
///
/// Returns an error if the file is damaged, or is not a compressed one. `name` is its name in the message.
pub fn backend_of(name: &str, file: &[u8]) -> Result<String, Error> {
    match Header::read(file) {
        Ok(parts) => Ok(parts.header.conditions.backend),
        Err(message) => Err(Error::Experiment {
            origin: name.into(),
            message,
        }),
    }
}

/// Progress of a compression or a decompression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Number of tokens of the file.
    Total(u64),
    /// Number of tokens that a step has coded.
    Done(usize),
}

/// Estimates the bytes that one stream would save. `start_bits` are the bits that all beginnings cost.
fn streams_cost_bytes(header: &Header, start_bits: f64) -> f64 {
    let streams = header.streams.len();
    if streams < 2 {
        return 0.0;
    }
    let additional = streams as f64 - 1.0;
    let blocks = header.blocks.len() as u64 - header.tokens.div_ceil(BLOCK as u64);
    // A stream ends with a bit more than its information, and its length takes some three bytes.
    additional * (start_bits.max(0.0) / 8.0 / streams as f64 + 3.0) + 4.0 * blocks as f64
}

/// Divides tokens into streams.
fn split(tokens: &[u32], streams: usize) -> Vec<&[u32]> {
    let mut rest = tokens;
    stream_lengths(tokens.len() as u64, streams)
        .map(|length| {
            let (part, later) = rest.split_at(length as usize);
            rest = later;
            part
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use foretoken_model::ModelConfig;

    use super::*;

    const TEXT: &str = "The cat is calm. She likes music, and rain, and the capital of Cydra.\n";

    fn model() -> Transformer {
        let config = ModelConfig::llama(256, 24, 2, 4, 2, 32);
        config.init(7, &Device::default()).unwrap()
    }

    #[test]
    fn a_portable_file_has_the_same_bytes_on_every_machine() {
        let (model, tokenizer) = (model(), Tokenizer::byte());
        let file = TEXT.repeat(3);
        let on = |backend: &str| Compressor::new(&model, &tokenizer, vec![10], backend.into());
        let goes_on = AtomicBool::new(false);
        let compressed = on(PORTABLE)
            .unwrap()
            .compress_with_model(file.as_bytes(), Some(3), &goes_on, &mut |_| {})
            .unwrap()
            .file;
        assert_eq!(backend_of("file", &compressed).unwrap(), PORTABLE);
        assert_eq!(
            format!("{:x}", Sha256::digest(&compressed)),
            "3146d4d336b86d0644fa8fbd6b6cb7b764ddc9539096b99c94c1207b2d777d6a"
        );
        // On whatever backend the model is.
        for backend in [PORTABLE, "flex:f32"] {
            let compressor = on(backend).unwrap();
            let restored = compressor.decompress("a.ftz", &compressed, &goes_on, &mut |_| {});
            assert_eq!(restored.unwrap(), file.as_bytes(), "{backend}");
        }
    }
}
