//! Meaning of the bytes of a token file: headers, offsets and lengths in the format of foretoken and in foreign
//! formats. Files are opened elsewhere.

use std::{ops::Range, path::Path};

use crate::DataError;

/// Bytes of tokens per checksum.
pub(super) const BLOCK: usize = 65536;
/// Bytes of the header in the format of foretoken.
pub(super) const HEADER: usize = 64;

const MAGIC: [u8; 8] = *b"FORETOKN";
const VERSION: u32 = 1;
/// Offsets of the fields of the header.
const VERSION_AT: usize = 8;
const WIDTH_AT: usize = 12;
const TOKENS_AT: usize = 16;
const VOCAB_SIZE_AT: usize = 24;
const BLOCK_AT: usize = 32;
const ZEROS_AT: usize = 36;
const CRC_AT: usize = 60;

/// Bytes of the header of llm.c, which has 256 numbers of 4 bytes: magic, version, number of tokens, and unused ones.
const LLM_C_HEADER: usize = 1024;
/// Versions of the format of llm.c.
const LLM_C: [LlmC; 2] = [
    // GPT-2.
    LlmC {
        magic: 20_240_520,
        version: 1,
        width: 2,
    },
    // Llama 3.
    LlmC {
        magic: 20_240_801,
        version: 7,
        width: 4,
    },
];

struct LlmC {
    magic: u32,
    version: u32,
    width: usize,
}

impl LlmC {
    fn first_bytes(&self) -> [u8; 8] {
        (u64::from(self.version) << 32 | u64::from(self.magic)).to_le_bytes()
    }
}

const EXPECTED: &str = "expected a file of foretoken data build, of llm.c or modded-nanoGPT, or of nanoGPT with a \
                        name that ends in .bin";

/// Fault at an offset. It becomes an error once the file is known.
#[derive(Debug)]
pub(super) struct Fault {
    offset: usize,
    reason: String,
}

impl Fault {
    pub(super) fn new(offset: usize, reason: impl Into<String>) -> Self {
        Self {
            offset,
            reason: reason.into(),
        }
    }

    /// Moves the fault `start` bytes towards the end of the file.
    pub(super) fn shifted(mut self, start: usize) -> Self {
        self.offset += start;
        self
    }

    pub(super) fn into_error(self, path: &Path) -> DataError {
        DataError::TokenFile {
            path: path.into(),
            offset: self.offset as u64,
            reason: self.reason,
        }
    }
}

/// Location of tokens and checksums in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Offset of the first token.
    pub(super) start: usize,
    /// Bytes per token: 2 or 4.
    pub(super) width: usize,
    pub(super) tokens: usize,
    /// Number that all ids are below, if it is known.
    pub(super) vocab_size: Option<usize>,
    /// Whether a checksum of each block follows the tokens.
    pub(super) checksums: bool,
}

impl Layout {
    /// Reads the layout of a file of these `bytes`, and checks the checksum of its checksums. Tokens are not read,
    /// except by `width`, which determines the bytes per token of a file without a header.
    pub(super) fn read(
        bytes: &[u8],
        path: &Path,
        width: impl FnOnce(&[u8]) -> Result<usize, Fault>,
    ) -> Result<Self, Fault> {
        if bytes.is_empty() {
            return Err(Fault::new(0, format!("the file is empty: {EXPECTED}")));
        }
        if unfinished(bytes) {
            return Err(Fault::new(
                0,
                "the file is not finished: run the command that writes it again",
            ));
        }
        if bytes.starts_with(&MAGIC) {
            return Self::foretoken(bytes);
        }
        for format in &LLM_C {
            if bytes.starts_with(&format.magic.to_le_bytes()) {
                return Self::llm_c(bytes, format);
            }
        }
        // Without a header, any bytes could be tokens. Bytes that are almost a header are a damaged header.
        for start in [MAGIC, LLM_C[0].first_bytes(), LLM_C[1].first_bytes()] {
            if start.starts_with(bytes) {
                return Err(cut(bytes.len()));
            }
            let equal = start.iter().zip(bytes).filter(|(a, b)| a == b).count();
            if equal + 1 >= start.len() {
                return Err(Fault::new(
                    0,
                    "the header is damaged, or it is not that of a token file: copy or build the file again",
                ));
            }
        }
        if path.extension().is_some_and(|end| end == "bin") {
            return Ok(Self::nano_gpt(bytes, width(bytes)?));
        }
        Err(Fault::new(
            0,
            format!("this is not a token file: {EXPECTED}"),
        ))
    }

    fn foretoken(bytes: &[u8]) -> Result<Self, Fault> {
        let header = Header::read(bytes)?;
        let width = width_of(header.vocab_size);
        // No sum overflows a u128.
        let token_bytes = u128::from(header.tokens) * width as u128;
        let table = token_bytes.div_ceil(BLOCK as u128) * 4 + 4;
        check_length(bytes, HEADER as u128 + token_bytes + table)?;
        let layout = Self {
            start: HEADER,
            width,
            tokens: header.tokens as usize,
            vocab_size: Some(header.vocab_size),
            checksums: true,
        };
        let table = layout.table();
        if crc32fast::hash(&bytes[table.clone()]) != u32_at(bytes, table.end) {
            return Err(Fault::new(
                table.start,
                "the checksums do not match their own checksum, so the file is damaged: copy or build it again",
            ));
        }
        Ok(layout)
    }

    fn llm_c(bytes: &[u8], format: &LlmC) -> Result<Self, Fault> {
        if bytes.len() < LLM_C_HEADER {
            return Err(cut(bytes.len()));
        }
        let (version, tokens) = (u32_at(bytes, 4), u32_at(bytes, 8));
        if version != format.version {
            let expected = format.version;
            let reason = format!(
                "the llm.c format has version {version}, but this program reads version {expected}: convert the file again"
            );
            return Err(Fault::new(4, reason));
        }
        // In llm.c, this is a signed number.
        if tokens > i32::MAX as u32 {
            let reason = format!(
                "the file has a negative number of tokens, {}: convert it again",
                tokens as i32
            );
            return Err(Fault::new(8, reason));
        }
        let token_bytes = u128::from(tokens) * format.width as u128;
        check_length(bytes, LLM_C_HEADER as u128 + token_bytes)?;
        Ok(Self {
            start: LLM_C_HEADER,
            width: format.width,
            tokens: tokens as usize,
            vocab_size: None,
            checksums: false,
        })
    }

    fn nano_gpt(bytes: &[u8], width: usize) -> Self {
        Self {
            start: 0,
            width,
            tokens: bytes.len() / width,
            vocab_size: None,
            checksums: false,
        }
    }

    pub(super) fn token_bytes(&self) -> usize {
        self.tokens * self.width
    }

    pub(super) fn blocks(&self) -> usize {
        self.token_bytes().div_ceil(BLOCK)
    }

    /// Returns the range of a block in the file.
    pub(super) fn block(&self, index: usize) -> Range<usize> {
        let end = self.token_bytes().min((index + 1) * BLOCK);
        self.start + index * BLOCK..self.start + end
    }

    /// Returns the range of the checksums of the blocks in the file. Their own checksum follows.
    pub(super) fn table(&self) -> Range<usize> {
        let start = self.start + self.token_bytes();
        start..start + self.blocks() * 4
    }
}

/// Header of a finished file in the format of foretoken.
pub(super) struct Header {
    pub(super) tokens: u64,
    pub(super) vocab_size: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or_else(|| cut(bytes.len()))?;
        if !header.starts_with(&MAGIC) {
            return Err(Fault::new(
                0,
                "this is not a token file of foretoken: name another file",
            ));
        }
        if crc32fast::hash(&header[..CRC_AT]) != u32_at(header, CRC_AT) {
            return Err(Fault::new(
                0,
                "the header does not match its checksum, so the file is damaged: copy or build it again",
            ));
        }
        let version = u32_at(header, VERSION_AT);
        if version != VERSION {
            return Err(Fault::new(
                VERSION_AT,
                format!(
                    "the format has version {version}, but this program reads version {VERSION}: use a newer foretoken"
                ),
            ));
        }
        let vocab_size = u64_at(header, VOCAB_SIZE_AT);
        let vocab_size = usize::try_from(vocab_size)
            .ok()
            .filter(|&vocab_size| is_vocab_size(vocab_size))
            .ok_or_else(|| {
                let reason = format!(
                    "the vocabulary of {vocab_size} tokens exceeds 2^32: build the file again"
                );
                Fault::new(VOCAB_SIZE_AT, reason)
            })?;
        let width = u32_at(header, WIDTH_AT);
        if width as usize != width_of(vocab_size) {
            let reason = format!(
                "the header states {width} bytes per token for a vocabulary of {vocab_size} tokens: build the file again"
            );
            return Err(Fault::new(WIDTH_AT, reason));
        }
        let block = u32_at(header, BLOCK_AT);
        if block as usize != BLOCK {
            let reason = format!(
                "the header states {block} bytes per block, expected {BLOCK}: use a newer foretoken"
            );
            return Err(Fault::new(BLOCK_AT, reason));
        }
        if let Some(place) = header[ZEROS_AT..CRC_AT].iter().position(|&byte| byte != 0) {
            let reason = "the header has an unknown field: use a newer foretoken";
            return Err(Fault::new(ZEROS_AT + place, reason));
        }
        let tokens = u64_at(header, TOKENS_AT);
        Ok(Self { tokens, vocab_size })
    }

    /// Returns the bytes of the header.
    pub(super) fn to_bytes(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(VERSION_AT, &VERSION.to_le_bytes());
        put(WIDTH_AT, &(width_of(self.vocab_size) as u32).to_le_bytes());
        put(TOKENS_AT, &self.tokens.to_le_bytes());
        put(VOCAB_SIZE_AT, &(self.vocab_size as u64).to_le_bytes());
        put(BLOCK_AT, &(BLOCK as u32).to_le_bytes());
        let crc = crc32fast::hash(&header[..CRC_AT]);
        header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        header
    }
}

/// Whether 32 bits suffice for the ids of a vocabulary.
pub(super) fn is_vocab_size(vocab_size: usize) -> bool {
    vocab_size.saturating_sub(1) <= u32::MAX as usize
}

/// Returns the bytes per token of a vocabulary.
pub(super) fn width_of(vocab_size: usize) -> usize {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// Whether a file begins like an unfinished one. A file of nanoGPT that begins with token 0 32 times does so, too;
/// refusing it is better than reading a file without its last tokens.
pub(super) fn unfinished(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0; HEADER])
}

/// Decodes ids of `width` bytes each.
pub(super) fn decode(bytes: &[u8], width: usize, out: &mut [u32]) {
    if width == 2 {
        for (id, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *id = u16::from_le_bytes(*bytes).into();
        }
    } else {
        for (id, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
            *id = u32::from_le_bytes(*bytes);
        }
    }
}

/// Encodes ids as `width` bytes each.
pub(super) fn encode(ids: &[u32], width: usize, out: &mut Vec<u8>) {
    if width == 2 {
        out.extend(ids.iter().flat_map(|&id| (id as u16).to_le_bytes()));
    } else {
        out.extend(ids.iter().flat_map(|&id| id.to_le_bytes()));
    }
}

/// Checks that all ids are in the vocabulary.
pub(super) fn check_ids(bytes: &[u8], width: usize, vocab_size: usize) -> Result<(), Fault> {
    let outside = |id: &u32| *id as usize >= vocab_size;
    let found = if width == 2 {
        let mut ids = bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
        ids.position(|id| outside(&id.into()))
    } else {
        let mut ids = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b));
        ids.position(|id| outside(&id))
    };
    let Some(index) = found else { return Ok(()) };
    let mut id = [0];
    decode(&bytes[index * width..], width, &mut id);
    Err(outside_vocabulary(index * width, id[0], vocab_size))
}

pub(super) fn outside_vocabulary(offset: usize, id: u32, vocab_size: usize) -> Fault {
    Fault::new(
        offset,
        format!(
            "token id {id} is outside the vocabulary of {vocab_size} tokens: use the tokenizer that the \
             ids were made with"
        ),
    )
}

fn cut(length: usize) -> Fault {
    Fault::new(
        length,
        "the file ends within its header, so it was cut: copy or build it again",
    )
}

fn check_length(bytes: &[u8], expected: u128) -> Result<(), Fault> {
    let length = bytes.len();
    if (length as u128) < expected {
        let reason = format!(
            "the file ends here, but its header requires {expected} bytes, so it was cut: copy or build it again"
        );
        return Err(Fault::new(length, reason));
    }
    if (length as u128) > expected {
        let reason = format!(
            "the file ends here by its header, but it continues to byte {length}: copy or build it again"
        );
        return Err(Fault::new(expected as usize, reason));
    }
    Ok(())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(number)
}
