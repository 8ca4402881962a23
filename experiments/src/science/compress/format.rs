//! The file format of compressed files. All numbers are LEB128 unless a size is given.
//!
//! ```text
//! 4 bytes    "FTZ" and the version, 3
//! 4 bytes    length of the header, little-endian: of everything before the edits
//! 8 bytes    beginning of the SHA-256 of the weights
//! 8 bytes    beginning of the SHA-256 of the tokenizer
//! text       backend and precision, such as "flex:f32", after its length
//! numbers    bytes of the file, tokens, context, streams, bytes of the edits, and bits of each stream
//! 4 bytes    CRC-32 of each block of tokens of each stream, then of the file
//! 4 bytes    CRC-32 of everything before
//! bytes      edits
//! bits       the streams, one behind the other, and zeros up to the next byte
//! ```

use super::bits::Bits;

/// First bytes of a compressed file.
const MAGIC: [u8; 4] = *b"FTZ\x03";

/// Tokens in a block, which has a checksum of its own.
pub(super) const BLOCK: usize = 4096;

/// Largest number of streams.
pub(super) const MAX_STREAMS: usize = 4096;

/// Conditions under which the same probabilities are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conditions {
    /// Beginning of the SHA-256 of the weights.
    pub(super) weights: [u8; 8],
    /// Beginning of the SHA-256 of the tokenizer.
    pub(super) tokenizer: [u8; 8],
    /// Backend and precision.
    pub(super) backend: String,
    /// Tokens that the model reads at once.
    pub(super) context: u64,
}

/// Everything before the coded streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) conditions: Conditions,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// Tokens of the file.
    pub(super) tokens: u64,
    /// CRC-32 of the file.
    pub(super) crc: u32,
    /// Bytes of the edits.
    pub(super) edits: u64,
    /// Bits of each stream.
    pub(super) streams: Vec<u64>,
    /// CRC-32 of the bytes of the tokens of each block of each stream, stream by stream.
    pub(super) blocks: Vec<u32>,
}

/// A compressed file in its parts.
#[derive(Debug)]
pub(super) struct Parts<'f> {
    pub(super) header: Header,
    /// Edits, compressed.
    pub(super) edits: &'f [u8],
    /// Bytes of each stream, as a decoder reads them.
    pub(super) streams: Vec<Vec<u8>>,
}

/// Returns the number of tokens in each of `streams` streams: equal numbers, except that the last ones have fewer.
pub(super) fn stream_lengths(tokens: u64, streams: usize) -> impl Iterator<Item = u64> {
    let each = tokens.div_ceil(streams.max(1) as u64);
    (0..streams as u64)
        .map(move |stream| tokens.saturating_sub(stream.saturating_mul(each)).min(each))
}

fn blocks_of(tokens: u64, streams: usize) -> u64 {
    stream_lengths(tokens, streams)
        .map(|length| length.div_ceil(BLOCK as u64))
        .sum()
}

impl Header {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Conditions {
            weights,
            tokenizer,
            backend,
            context,
        } = &self.conditions;
        let mut bytes = Vec::from(MAGIC);
        bytes.extend([0; 4]);
        bytes.extend(weights);
        bytes.extend(tokenizer);
        write_number(&mut bytes, backend.len() as u64);
        bytes.extend(backend.as_bytes());
        let streams = self.streams.len() as u64;
        for number in [self.bytes, self.tokens, *context, streams, self.edits] {
            write_number(&mut bytes, number);
        }
        for stream in &self.streams {
            write_number(&mut bytes, *stream);
        }
        for crc in self.blocks.iter().chain([&self.crc]) {
            bytes.extend(crc.to_le_bytes());
        }
        // A header is much shorter than 4 GiB, as long as a file has fewer than 2^42 tokens.
        let length = bytes.len() as u32 + 4;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Divides a file into its parts. The error says what is wrong with the file.
    pub(super) fn read(file: &[u8]) -> Result<Parts<'_>, String> {
        let damaged = || "is damaged, or is cut off".to_owned();
        let mut reader = Reader::new(file);
        match reader.take(4) {
            Some(magic) if magic == MAGIC => {}
            Some(magic) if magic[..3] == MAGIC[..3] => {
                return Err(format!(
                    "is of version {} of the format; this program reads version {}",
                    magic[3], MAGIC[3]
                ));
            }
            _ => return Err("is not a file of foretoken compress".into()),
        }
        let length = reader.take(4).and_then(|length| length.try_into().ok());
        let length = u32::from_le_bytes(length.ok_or_else(damaged)?) as usize;
        let (header, rest) = file.split_at_checked(length).ok_or_else(damaged)?;
        let (checked, crc) = header.split_last_chunk::<4>().ok_or_else(damaged)?;
        if *crc != crc32fast::hash(checked).to_le_bytes() {
            return Err(damaged());
        }
        let mut fields = Reader::new(checked.get(8..).ok_or_else(damaged)?);
        let header = Self::fields(&mut fields).ok_or_else(damaged)?;
        if !fields.rest().is_empty() {
            return Err(damaged());
        }
        let mut reader = Reader::new(rest);
        let mut part = |length: u64| reader.take(usize::try_from(length).ok()?);
        let edits = part(header.edits).ok_or_else(damaged)?;
        let mut lengths = header.streams.iter();
        let bits = lengths.try_fold(0u64, |bits, length| bits.checked_add(*length));
        let coded = bits.and_then(|bits| part(bits.div_ceil(8)));
        let coded = coded.ok_or_else(damaged)?;
        if !reader.rest().is_empty() {
            return Err("has bytes behind its end".into());
        }
        let mut start = 0;
        let stream = |length: &u64| {
            let stream = Bits::part(coded, start, *length)?;
            start += length;
            Some(stream.bytes)
        };
        let streams = header.streams.iter().map(stream);
        Ok(Parts {
            streams: streams.collect::<Option<_>>().ok_or_else(damaged)?,
            header,
            edits,
        })
    }

    fn fields(reader: &mut Reader<'_>) -> Option<Self> {
        let weights = reader.take(8)?.try_into().ok()?;
        let tokenizer = reader.take(8)?.try_into().ok()?;
        let length = usize::try_from(reader.number()?).ok()?;
        let backend = String::from_utf8(reader.take(length)?.into()).ok()?;
        // It stands in messages.
        if !backend.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let (bytes, tokens, context) = (reader.number()?, reader.number()?, reader.number()?);
        let streams = usize::try_from(reader.number()?).ok()?;
        if streams > MAX_STREAMS {
            return None;
        }
        let edits = reader.number()?;
        let lengths = (0..streams).map(|_| reader.number());
        let lengths = lengths.collect::<Option<Vec<u64>>>()?;
        if (streams == 0) != (tokens == 0) {
            return None;
        }
        // There are as many checksums as the file has bytes for.
        let blocks = usize::try_from(blocks_of(tokens, streams)).ok()?;
        let crcs = reader.take(blocks.checked_mul(4)?)?;
        let (crcs, _) = crcs.as_chunks::<4>();
        let crc = u32::from_le_bytes(reader.take(4)?.try_into().ok()?);
        Some(Self {
            conditions: Conditions {
                weights,
                tokenizer,
                backend,
                context,
            },
            bytes,
            tokens,
            crc,
            edits,
            streams: lengths,
            blocks: crcs.iter().map(|crc| u32::from_le_bytes(*crc)).collect(),
        })
    }
}

/// Appends a number in LEB128.
pub(super) fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Bytes that are read from the front.
#[derive(Debug, Clone)]
pub(super) struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Reads a number in LEB128; `None` if it does not end or does not fit into 64 bits.
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 127);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 128 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn rest(&self) -> &'b [u8] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(tokens: u64, streams: usize) -> Header {
        Header {
            conditions: Conditions {
                weights: *b"weights!",
                tokenizer: *b"tokens..",
                backend: "flex:f32".into(),
                context: 128,
            },
            bytes: 3 * tokens,
            tokens,
            crc: 0x1234_5678,
            edits: 2,
            streams: (0..streams as u64).collect(),
            blocks: (0..blocks_of(tokens, streams) as u32).collect(),
        }
    }

    fn file(header: &Header) -> Vec<u8> {
        let streams: u64 = header.streams.iter().sum();
        let mut file = header.to_bytes();
        file.resize(file.len() + header.edits as usize, 7);
        file.resize(file.len() + streams.div_ceil(8) as usize, 7);
        file
    }

    #[test]
    fn headers_come_back() {
        for (tokens, streams) in [(0, 0), (1, 1), (4096, 1), (4097, 1), (100_000, 7), (5, 3)] {
            let header = header(tokens, streams);
            let file = file(&header);
            let parts = Header::read(&file).unwrap();
            assert_eq!(parts.header, header);
            assert_eq!((parts.edits, parts.streams.len()), (&[7, 7][..], streams));
        }
    }

    #[test]
    fn streams_have_all_tokens() {
        for (tokens, streams) in [(10, 3), (2, 5), (64, 64), (1000, 7)] {
            let lengths: Vec<u64> = stream_lengths(tokens, streams).collect();
            assert_eq!(lengths.iter().sum::<u64>(), tokens);
            assert!(lengths.windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }

    #[test]
    fn every_changed_or_missing_byte_of_a_header_is_found() {
        let header = header(5000, 3);
        let whole = file(&header);
        let length = header.to_bytes().len();
        for place in 0..length {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(Header::read(&changed).is_err(), "{place}");
        }
        for end in 0..whole.len() {
            assert!(Header::read(&whole[..end]).is_err(), "{end}");
        }
        let longer = [&whole[..], &[0]].concat();
        assert!(
            Header::read(&longer)
                .unwrap_err()
                .contains("behind its end")
        );
        assert!(
            Header::read(b"PK\x03\x04")
                .unwrap_err()
                .contains("not a file of")
        );
        assert!(Header::read(b"FTZ\x01").unwrap_err().contains("version 1"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let file = [&MAGIC[..], &bytes].concat();
            let _ = Header::read(&file);
        }

        #[test]
        fn numbers_come_back(number in any::<u64>()) {
            let mut bytes = Vec::new();
            write_number(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.number(), Some(number));
            prop_assert!(reader.rest().is_empty());
        }
    }
}
