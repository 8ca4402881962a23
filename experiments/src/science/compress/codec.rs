//! Streams of tokens to bytes and back, side by side in one batch of the model.
//!
//! Encoding takes exactly the steps of decoding: one token of each stream at a time, through the same key/value cache and
//! in batches of the same shape. So the decoder computes the probabilities that the encoder had, bit for bit, on any
//! backend that computes the same twice.

use std::sync::atomic::AtomicBool;

use foretoken_model::{
    BatchReader, Frequencies, ModelConfig, ModelError, PortableModel, PortableReader, Transformer,
};
use rayon::prelude::*;

use super::bits::Bits;
use super::coder::{Decoder, Encoder};
use super::format::BLOCK;
use crate::Error;
use crate::science::check;

/// A model with the tokens that precede every stream.
pub(super) struct Codec<'m> {
    pub(super) computation: Computation<'m>,
    /// Tokens before every stream. Without any, the first token of a stream is coded as one of equally probable ones.
    pub(super) start: &'m [u32],
    pub(super) interrupt: &'m AtomicBool,
}

/// The computation of probabilities.
pub(super) enum Computation<'m> {
    /// On the device of the model.
    Backend(&'m Transformer),
    /// With the same bits on every machine.
    Portable(Box<PortableModel>),
}

/// A reader of growing texts.
enum Reader<'c> {
    Backend(BatchReader<'c>),
    Portable(PortableReader<'c>),
}

/// Coded streams.
pub(super) struct Coded {
    pub(super) streams: Vec<Bits>,
    /// Sum of −log₂ of the probabilities that were coded.
    pub(super) bits: f64,
    /// Bits that the beginnings of streams took more than as many tokens after them, an estimate of what starting without
    /// context costs.
    pub(super) start_bits: f64,
}

/// Where a decoded stream is not what was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// Number of the stream, from 0.
    pub(super) stream: usize,
    /// Number of the block in the stream, from 0.
    pub(super) block: usize,
}

impl Computation<'_> {
    fn config(&self) -> &ModelConfig {
        match self {
            Self::Backend(model) => model.config(),
            Self::Portable(model) => model.config(),
        }
    }

    fn reader(&self) -> Reader<'_> {
        match self {
            Self::Backend(model) => Reader::Backend(BatchReader::new(model)),
            Self::Portable(model) => Reader::Portable(PortableReader::new(model)),
        }
    }
}

impl Reader<'_> {
    /// Returns the frequencies of the token after each text, given that at most `remaining` are still asked for.
    fn frequencies(
        &mut self,
        texts: &[Vec<u32>],
        remaining: usize,
    ) -> Result<Vec<Frequencies>, ModelError> {
        let running = vec![true; texts.len()];
        match self {
            Self::Backend(reader) => {
                let logits = reader.next_logits(texts, &running, remaining)?;
                let of = |logits: &Vec<f32>| Frequencies::of(logits);
                logits.par_iter().map(of).collect()
            }
            Self::Portable(reader) => {
                let logits = reader.next_logits(texts, &running);
                let of = |logits: &Vec<f64>| Frequencies::of_f64(logits);
                logits.par_iter().map(of).collect()
            }
        }
    }
}

impl Codec<'_> {
    /// Encodes streams, the longest of which comes first. `progress` is called with the number of tokens of each step.
    pub(super) fn encode(
        &self,
        streams: &[&[u32]],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Coded, Error> {
        let mut encoders: Vec<Encoder> = streams.iter().map(|_| Encoder::new()).collect();
        let mut bits = 0.0;
        // Bits and tokens of beginnings, and of all after them.
        let mut parts = [[0.0; 2]; 2];
        let beginning = self.computation.config().context;
        let lengths: Vec<usize> = streams.iter().map(|stream| stream.len()).collect();
        self.run(&lengths, progress, &mut |stream, step, frequencies| {
            let token = streams[stream][step];
            let places = frequencies.places(token);
            let frequency = places.end - places.start;
            encoders[stream].encode(places.start, frequency, frequencies.total());
            let token_bits = frequencies.bits(token);
            bits += token_bits;
            let part = &mut parts[usize::from(step >= beginning)];
            part[0] += token_bits;
            part[1] += 1.0;
            Ok(token)
        })?;
        Ok(Coded {
            streams: encoders.into_iter().map(Encoder::finish).collect(),
            bits,
            start_bits: match parts {
                [[early, tokens], [later, count]] if count > 0.0 => early - tokens * later / count,
                _ => 0.0,
            },
        })
    }

    /// Decodes streams of the given numbers of tokens. `check` is called with each block of tokens and its place, and
    /// says whether it is what was encoded; the first block that is not ends the decoding.
    pub(super) fn decode(
        &self,
        streams: &[Vec<u8>],
        lengths: &[usize],
        matches: &dyn Fn(Mismatch, &[u32]) -> bool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Result<Vec<Vec<u32>>, Mismatch>, Error> {
        let mut decoders: Vec<Decoder<'_>> =
            streams.iter().map(|bytes| Decoder::new(bytes)).collect();
        let mut decoded: Vec<Vec<u32>> = vec![Vec::new(); streams.len()];
        let mut mismatch = None;
        let result = self.run(lengths, progress, &mut |stream, step, frequencies| {
            let decoder = &mut decoders[stream];
            let token = frequencies.token_at(decoder.place(frequencies.total()));
            let places = frequencies.places(token);
            decoder.accept(places.start, places.end - places.start, frequencies.total());
            let decoded = &mut decoded[stream];
            decoded.push(token);
            let ended = step + 1 == lengths[stream];
            if ended || decoded.len().is_multiple_of(BLOCK) {
                let block = step / BLOCK;
                let place = Mismatch { stream, block };
                if !matches(place, &decoded[block * BLOCK..]) {
                    mismatch = Some(place);
                    return Err(());
                }
            }
            Ok(token)
        });
        match (mismatch, result) {
            (Some(mismatch), _) => Ok(Err(mismatch)),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Ok(Ok(decoded)),
        }
    }

    /// Takes a step of the model for each token of the longest stream. `code` gives the token of a stream at a step, or
    /// ends the run.
    fn run(
        &self,
        lengths: &[usize],
        progress: &mut dyn FnMut(usize),
        code: &mut dyn FnMut(usize, usize, &Frequencies) -> Result<u32, ()>,
    ) -> Result<(), Error> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut texts: Vec<Vec<u32>> = vec![self.start.to_vec(); lengths.len()];
        let mut reader = self.computation.reader();
        let uniform = Frequencies::uniform(self.computation.config().vocab_size);
        for step in 0..longest {
            check(self.interrupt)?;
            let frequencies: Vec<Frequencies> = match texts[0].is_empty() {
                true => Vec::new(),
                false => reader.frequencies(&texts, longest - step)?,
            };
            let mut coded = 0;
            for (stream, text) in texts.iter_mut().enumerate() {
                // A stream that has ended keeps its row, so that the shape of the batch stays.
                let token = match step < lengths[stream] {
                    true => {
                        coded += 1;
                        let frequencies = frequencies.get(stream).unwrap_or(&uniform);
                        match code(stream, step, frequencies) {
                            Ok(token) => token,
                            Err(()) => return Ok(()),
                        }
                    }
                    false => 0,
                };
                text.push(token);
            }
            progress(coded);
        }
        Ok(())
    }
}
