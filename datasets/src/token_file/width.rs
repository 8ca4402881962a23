//! Bytes per id of a token file without a header: nanoGPT writes 2, and larger vocabularies need 4.
//!
//! Neither the name nor the length shows the number. In 4-byte ids read as 2-byte ids, every second id is nearly 0;
//! 2-byte ids read as 4-byte ids are far outside any vocabulary. So ordinary text in 2-byte ids is recognised, and in
//! all other cases the user has to state the number.

use super::format::Fault;

/// Maximum number of pieces of a file that are inspected. They are spread evenly.
const PIECES: usize = 64;
/// Bytes per piece.
const PIECE: usize = 1 << 16;

/// Minimum number of pairs of 2-byte ids that cannot look like 4-byte ids by chance.
const SURE_PAIRS: usize = 64;

/// Bound of the upper halves of 4-byte ids. All known vocabularies have less than 2^20 tokens.
const UPPER_BOUND: u16 = 1 << 4;

/// Returns the number of bytes per id of a file without a header. `stated` is the number that the user states.
pub(super) fn width(
    bytes: &[u8],
    vocab_size: usize,
    stated: Option<usize>,
) -> Result<usize, Fault> {
    let wide = Halves::new(bytes).filter(|halves| halves.look_wide(vocab_size));
    match stated {
        Some(width) if !bytes.len().is_multiple_of(width) => {
            let end = bytes.len() - bytes.len() % width;
            Err(Fault::new(
                end,
                format!(
                    "the file ends within an id of {width} bytes: it was cut, or data.id_bytes (--id-bytes) is wrong"
                ),
            ))
        }
        Some(2) => match wide {
            Some(halves) if halves.pairs >= SURE_PAIRS => Err(Fault::new(
                0,
                "data.id_bytes is 2, but these are ids of 4 bytes, because every second pair of bytes is nearly 0: state \
                 data.id_bytes = 4 (--id-bytes 4)",
            )),
            _ => Ok(2),
        },
        Some(width) => match first_outside(bytes, vocab_size) {
            Some((offset, id)) => Err(Fault::new(
                offset,
                format!(
                    "data.id_bytes is {width}, but then the id here is {id}, outside the vocabulary of {vocab_size} \
                     tokens: state data.id_bytes = 2 (--id-bytes 2), or use the tokenizer that the ids \
                     were made with"
                ),
            )),
            None => Ok(width),
        },
        None if !bytes.len().is_multiple_of(2) => Err(Fault::new(
            bytes.len() - 1,
            "the file ends within a token of 2 bytes: it was cut, or it is not a token file of nanoGPT",
        )),
        None if wide.is_some() => Err(Fault::new(
            0,
            "the file has no header, and its ids may have 4 bytes or 2: state data.id_bytes = 4, as their values \
             suggest, or 2 (--id-bytes)",
        )),
        None if vocab_size > 1 << 16 => Err(Fault::new(
            0,
            format!(
                "the file has no header, and 2 bytes per id cannot hold every id of a vocabulary of {vocab_size} \
                 tokens: state data.id_bytes = 2 or 4 (--id-bytes), or use the tokenizer that the ids were made with"
            ),
        )),
        None => Ok(2),
    }
}

/// Statistics of the bytes read as 4-byte ids.
struct Halves {
    /// Number of 4-byte ids, each a pair of 2-byte ids.
    pairs: usize,
    /// Largest lower half.
    lower: u16,
    /// Largest upper half.
    upper: u16,
    /// Largest id.
    id: u32,
}

impl Halves {
    /// Inspects the bytes; `None` if the length is not a multiple of 4.
    fn new(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(4) {
            return None;
        }
        let mut halves = Self {
            pairs: 0,
            lower: 0,
            upper: 0,
            id: 0,
        };
        for id in pieces(bytes).flat_map(|(_, piece)| ids(piece)) {
            halves.pairs += 1;
            halves.lower = halves.lower.max(id as u16);
            halves.upper = halves.upper.max((id >> 16) as u16);
            halves.id = halves.id.max(id);
        }
        Some(halves)
    }

    /// Whether these may be 4-byte ids: all are in the vocabulary, or the upper halves are small and the lower halves
    /// are not. In 2-byte ids, odd and even positions do not differ like this.
    fn look_wide(&self, vocab_size: usize) -> bool {
        let in_vocabulary = (self.id as usize) < vocab_size;
        in_vocabulary || (self.upper < UPPER_BOUND && self.lower >= 1 << 8)
    }
}

/// Finds the first 4-byte id outside the vocabulary, and returns it with its offset.
fn first_outside(bytes: &[u8], vocab_size: usize) -> Option<(usize, u32)> {
    pieces(bytes).find_map(|(start, piece)| {
        let mut ids = ids(piece).enumerate();
        let (index, id) = ids.find(|(_, id)| *id as usize >= vocab_size)?;
        Some((start + 4 * index, id))
    })
}

fn ids(piece: &[u8]) -> impl Iterator<Item = u32> {
    let (ids, _) = piece.as_chunks();
    ids.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Returns the pieces that are inspected, with their offsets.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let count = bytes.len().div_ceil(PIECE);
    crate::mapped::spread(count, PIECES).map(|piece| {
        let start = piece * PIECE;
        (start, &bytes[start..bytes.len().min(start + PIECE)])
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn narrow(ids: &[u32]) -> Vec<u8> {
        ids.iter()
            .flat_map(|id| (*id as u16).to_le_bytes())
            .collect()
    }

    fn wide(ids: &[u32]) -> Vec<u8> {
        ids.iter().flat_map(|id| id.to_le_bytes()).collect()
    }

    fn refusal(bytes: &[u8], vocab_size: usize, stated: Option<usize>) -> String {
        width(bytes, vocab_size, stated)
            .unwrap_err()
            .into_error("a.bin".as_ref())
            .to_string()
    }

    #[test]
    fn files_of_nano_gpt_need_no_statement() {
        let text: Vec<u32> = (0..1000).map(|i| (i * 7919 + 13) % 50257).collect();
        for stated in [None, Some(2)] {
            assert_eq!(width(&narrow(&text), 50257, stated).unwrap(), 2);
            // A vocabulary of 65 characters, as in shakespeare_char.
            let characters: Vec<u32> = text.iter().map(|id| id % 65).collect();
            assert_eq!(width(&narrow(&characters), 65, stated).unwrap(), 2);
            assert_eq!(width(&[], 65, stated).unwrap(), 2);
        }
        let error = refusal(&narrow(&text), 50257, Some(4));
        assert!(error.contains("data.id_bytes = 2"), "{error}");
    }

    #[test]
    fn ids_of_4_bytes_have_to_be_stated() {
        let large: Vec<u32> = (66_000..67_000).collect();
        let small: Vec<u32> = (0..1000).map(|i| (i * 7919 + 13) % 50257).collect();
        for (ids, vocab_size) in [(&large, 70_000), (&small, 50_257), (&small, 128_256)] {
            let bytes = wide(ids);
            let error = refusal(&bytes, vocab_size, None);
            assert!(error.contains("state data.id_bytes = 4"), "{error}");
            assert_eq!(width(&bytes, vocab_size, Some(4)).unwrap(), 4);
            let error = refusal(&bytes, vocab_size, Some(2));
            assert!(error.contains("these are ids of 4 bytes"), "{error}");
            let error = refusal(&bytes[..3998], vocab_size, Some(4));
            assert!(
                error.contains("byte 3996") && error.contains("was cut"),
                "{error}"
            );
        }
        // With the tokenizer of another vocabulary, they are still not read as 2-byte ids.
        let error = refusal(&wide(&large), 50_257, None);
        assert!(error.contains("data.id_bytes = 4"), "{error}");
        let error = refusal(&wide(&large), 50_257, Some(4));
        assert!(
            error.contains("66000, outside the vocabulary of 50257"),
            "{error}"
        );
    }

    #[test]
    fn width_has_to_be_stated_for_vocabularies_above_16_bits() {
        let ids: Vec<u32> = (0..1001).map(|i| (i * 7919 + 13) % 60_000).collect();
        let error = refusal(&narrow(&ids), 128_256, None);
        assert!(error.contains("cannot hold every id"), "{error}");
        assert_eq!(width(&narrow(&ids), 128_256, Some(2)).unwrap(), 2);
    }

    proptest! {
        /// Any ids give the right width or a refusal.
        #[test]
        fn ids_are_never_read_with_the_wrong_width(
            vocab_size in prop::sample::select(vec![65_usize, 300, 50_257, 65_536, 70_000, 200_000]),
            seeds in prop::collection::vec(any::<u32>(), 130..400),
            is_wide in any::<bool>(),
            stated in prop::sample::select(vec![None, Some(2), Some(4)]),
        ) {
            let ids: Vec<u32> = seeds.iter().map(|seed| seed % vocab_size as u32).collect();
            let bytes = match is_wide {
                true => wide(&ids),
                false => narrow(&ids),
            };
            if let Ok(found) = width(&bytes, vocab_size, stated) {
                prop_assert_eq!(found, if is_wide { 4 } else { 2 });
            }
        }
    }
}
