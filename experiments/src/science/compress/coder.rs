//! A range coder (Martin 1979, "Range encoding") with a 64-bit range and carry propagation.
//!
//! Coding a symbol of frequency `f` out of `total` replaces the range `r` by `⌊r / total⌋ · f`. The range is at least
//! 2^56 before every symbol and totals are below 2^31, so rounding down costs less than `log2(1 / (1 - 2^-25))`, which is
//! less than 2^-24 bits per symbol. The end of a stream costs at most 2 bits beyond the information that it carries,
//! because only as many bits are written as identify the last range.

use super::bits::Bits;

/// Totals of frequencies are below this.
pub(super) const MAX_TOTAL: u64 = 1 << 31;

/// The range is kept at or above this.
const BOTTOM: u64 = 1 << 56;

/// Encodes symbols into bytes.
#[derive(Debug)]
pub(super) struct Encoder {
    /// Lower end of the range, below 2^64; the byte that a carry would change is in `held`.
    low: u64,
    range: u64,
    /// Last byte that is not written yet, because a carry may still raise it; `None` before the first one.
    held: Option<u8>,
    /// Number of bytes 255 after it, which a carry would turn into 0.
    full: usize,
    bytes: Vec<u8>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            low: 0,
            range: u64::MAX,
            held: None,
            full: 0,
            bytes: Vec::new(),
        }
    }

    /// Encodes the symbol with frequencies `start..start + frequency` out of `total`.
    ///
    /// # Panics
    ///
    /// If the frequency is 0, or the frequencies exceed the total.
    pub(super) fn encode(&mut self, start: u64, frequency: u64, total: u64) {
        assert!(frequency > 0 && start + frequency <= total && total < MAX_TOTAL);
        let unit = self.range / total;
        let (low, carry) = self.low.overflowing_add(unit * start);
        self.low = low;
        self.range = unit * frequency;
        if carry {
            self.carry();
        }
        while self.range < BOTTOM {
            self.push((self.low >> 56) as u8);
            self.low <<= 8;
            self.range <<= 8;
        }
    }

    /// Adds 1 to the bytes that are held.
    fn carry(&mut self) {
        // The first symbol has no bytes before it, and its range ends at 2^64 − 1.
        if let Some(held) = &mut self.held {
            *held += 1;
        }
        for _ in 0..std::mem::take(&mut self.full) {
            // The byte before each is final now.
            self.bytes.extend(self.held.replace(0));
        }
    }

    fn push(&mut self, byte: u8) {
        match (byte, self.held) {
            (255, Some(_)) => self.full += 1,
            _ => {
                self.bytes.extend(self.held.replace(byte));
                self.bytes
                    .extend(std::iter::repeat_n(255, std::mem::take(&mut self.full)));
            }
        }
    }

    /// Ends the stream: the bits that identify the last range. The decoder reads zeros behind them.
    pub(super) fn finish(mut self) -> Bits {
        // The number with the fewest bits in [low, low + range).
        let low = u128::from(self.low);
        let end = low + u128::from(self.range);
        let of_bits = |bits: u32| low.next_multiple_of(1 << (64 - bits));
        let number = (0..=64).map(of_bits).find(|number| *number < end);
        let number = number.unwrap_or(low);
        if number >> 64 > 0 {
            self.carry();
        }
        for byte in (number as u64).to_be_bytes() {
            self.push(byte);
        }
        let full = self.full;
        self.bytes.extend(self.held);
        self.bytes.extend(std::iter::repeat_n(255, full));
        Bits::up_to_last_one(self.bytes)
    }
}

/// Decodes symbols from the bytes of an [`Encoder`]. Behind their end it reads zeros.
#[derive(Debug)]
pub(super) struct Decoder<'b> {
    bytes: &'b [u8],
    range: u64,
    /// The encoded number minus the lower end of the range.
    offset: u64,
}

impl<'b> Decoder<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        let mut decoder = Self {
            bytes,
            range: u64::MAX,
            offset: 0,
        };
        for _ in 0..8 {
            decoder.offset = decoder.offset << 8 | decoder.next();
        }
        decoder
    }

    fn next(&mut self) -> u64 {
        match self.bytes.split_first() {
            Some((byte, rest)) => {
                self.bytes = rest;
                u64::from(*byte)
            }
            None => 0,
        }
    }

    /// Returns the place of the next symbol among frequencies that add up to `total`, from 0 to `total` − 1. Call
    /// [`accept`](Self::accept) with the frequencies of the symbol that has this place.
    pub(super) fn place(&self, total: u64) -> u64 {
        // Bytes that no encoder wrote may be beyond the range.
        (self.offset / (self.range / total)).min(total - 1)
    }

    /// Advances behind the symbol with frequencies `start..start + frequency` out of `total`.
    pub(super) fn accept(&mut self, start: u64, frequency: u64, total: u64) {
        let unit = self.range / total;
        self.offset = self.offset.wrapping_sub(unit * start);
        self.range = unit * frequency;
        while self.range < BOTTOM {
            self.offset = self.offset << 8 | self.next();
            self.range <<= 8;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Frequencies, and the symbols that are coded with them.
    fn coded(symbols: &[(u64, u64, u64)]) -> Bits {
        let mut encoder = Encoder::new();
        for (start, frequency, total) in symbols {
            encoder.encode(*start, *frequency, *total);
        }
        encoder.finish()
    }

    fn bits(symbols: &[(u64, u64, u64)]) -> f64 {
        let bits =
            |(_, frequency, total): &(u64, u64, u64)| -(*frequency as f64 / *total as f64).log2();
        symbols.iter().map(bits).sum()
    }

    fn assert_decodes(bytes: &[u8], symbols: &[(u64, u64, u64)]) {
        let mut decoder = Decoder::new(bytes);
        for (start, frequency, total) in symbols {
            let place = decoder.place(*total);
            assert!((*start..start + frequency).contains(&place));
            decoder.accept(*start, *frequency, *total);
        }
    }

    /// Any symbol: a total up to the largest, and frequencies anywhere in it, the smallest and the largest too.
    fn symbol() -> impl Strategy<Value = (u64, u64, u64)> {
        (1..MAX_TOTAL).prop_flat_map(|total| {
            let frequency = prop_oneof![Just(1), Just(total), 1..=total];
            frequency.prop_flat_map(move |frequency| {
                let start = prop_oneof![Just(0), Just(total - frequency), 0..=total - frequency];
                start.prop_map(move |start| (start, frequency, total))
            })
        })
    }

    proptest! {
        #[test]
        fn symbols_come_back_and_the_size_is_their_information(
            symbols in prop::collection::vec(symbol(), 0..300)
        ) {
            let stream = coded(&symbols);
            assert_decodes(&stream.bytes, &symbols);
            let excess = stream.length as f64 - bits(&symbols);
            let bound = 2.0 + symbols.len() as f64 * 2f64.powi(-24);
            prop_assert!(excess <= bound, "{excess} bits above the information");
        }

        #[test]
        fn any_bytes_decode_to_something(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            totals in prop::collection::vec(1..MAX_TOTAL, 0..100)
        ) {
            let mut decoder = Decoder::new(&bytes);
            for total in totals {
                let place = decoder.place(total);
                prop_assert!(place < total);
                decoder.accept(place, 1, total);
            }
        }
    }

    #[test]
    fn a_long_stream_costs_its_information() {
        // 100 000 symbols of 0.0145 bits each, whose rounding would show.
        let symbols = vec![(7, 990_000_000, 1_000_000_000); 100_000];
        let stream = coded(&symbols);
        assert_decodes(&stream.bytes, &symbols);
        let excess = stream.length as f64 - bits(&symbols);
        assert!(excess <= 2.0 + 0.006, "{excess}");
        // A stream may have fewer bits than its information, because its length stands elsewhere. Its bytes do not.
        let excess = 8.0 * stream.bytes.len() as f64 - bits(&symbols);
        assert!((0.0..=9.0 + 0.006).contains(&excess), "{excess}");
    }

    #[test]
    fn nothing_is_coded_in_nothing() {
        assert_eq!(coded(&[]), Bits::default());
        assert_eq!(coded(&[(0, 5, 5); 10]), Bits::default());
    }

    /// The largest symbol again and again makes low end in many bytes 255, which a carry then turns over.
    #[test]
    fn carries_reach_far_back() {
        for run in [1, 7, 8, 9, 30, 200] {
            let mut symbols = vec![(254, 1, 256); 3];
            symbols.extend(vec![(255, 1, 256); run]);
            symbols.push((1_000_000_000, 1, 1_000_000_001));
            symbols.extend(vec![(255, 1, 256); run]);
            symbols.push((0, 1, 256));
            assert_decodes(&coded(&symbols).bytes, &symbols);
        }
    }
}
