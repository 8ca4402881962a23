//! Strings of bits, the highest bit of a byte first: streams end anywhere and lie one behind the other.

/// A string of bits. What is left of its last byte is zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) bytes: Vec<u8>,
    /// Number of bits.
    pub(super) length: u64,
}

impl Bits {
    /// Returns the bits of `bytes` up to the last one that is 1.
    pub(super) fn up_to_last_one(mut bytes: Vec<u8>) -> Self {
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        let zeros = bytes.last().map_or(0, |byte| byte.trailing_zeros());
        let length = 8 * bytes.len() as u64 - u64::from(zeros);
        Self { bytes, length }
    }

    /// Appends bits.
    pub(super) fn append(&mut self, more: &Self) {
        let shift = self.length % 8;
        match (shift, self.bytes.last_mut()) {
            (1.., Some(last)) => {
                let mut held = u16::from(*last) << 8;
                self.bytes.pop();
                for byte in &more.bytes {
                    held |= u16::from(*byte) << (8 - shift);
                    self.bytes.push((held >> 8) as u8);
                    held <<= 8;
                }
                self.bytes.push((held >> 8) as u8);
            }
            _ => self.bytes.extend(&more.bytes),
        }
        self.length += more.length;
        self.bytes.truncate(self.length.div_ceil(8) as usize);
    }

    /// Returns `length` bits of `bytes` from `start` on, or `None` if there are not so many.
    pub(super) fn part(bytes: &[u8], start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        let first = usize::try_from(start / 8).ok()?;
        let mut part = bytes
            .get(first..usize::try_from(end.div_ceil(8)).ok()?)?
            .to_vec();
        let shift = start % 8;
        if shift > 0 {
            for index in 0..part.len() {
                let next = part.get(index + 1).copied().unwrap_or(0);
                part[index] = part[index] << shift | next >> (8 - shift);
            }
        }
        part.truncate(length.div_ceil(8) as usize);
        if let (1.., Some(last)) = (length % 8, part.last_mut()) {
            *last &= 0xff << (8 - length % 8);
        }
        Some(Self {
            bytes: part,
            length,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bits one by one, which is how they are meant.
    fn ones_and_zeros(bits: &Bits) -> Vec<bool> {
        let bit = |index: u64| bits.bytes[index as usize / 8] >> (7 - index % 8) & 1 == 1;
        (0..bits.length).map(bit).collect()
    }

    fn bits() -> impl Strategy<Value = Bits> {
        prop::collection::vec(any::<u8>(), 0..6).prop_map(Bits::up_to_last_one)
    }

    proptest! {
        #[test]
        fn parts_come_back(parts in prop::collection::vec(bits(), 0..8)) {
            let mut all = Bits::default();
            let mut expected = Vec::new();
            for part in &parts {
                all.append(part);
                expected.extend(ones_and_zeros(part));
            }
            prop_assert_eq!(ones_and_zeros(&all), expected);
            prop_assert_eq!(all.bytes.len() as u64, all.length.div_ceil(8));
            let mut start = 0;
            for part in &parts {
                prop_assert_eq!(Bits::part(&all.bytes, start, part.length), Some(part.clone()));
                start += part.length;
            }
            let beyond = 8 * all.bytes.len() as u64 + 1 - start;
            prop_assert_eq!(Bits::part(&all.bytes, start, beyond), None);
            prop_assert_eq!(Bits::part(&all.bytes, u64::MAX, 1), None);
        }
    }

    #[test]
    fn zeros_at_the_end_are_left_out() {
        let bits = Bits::up_to_last_one(vec![1, 0b0101_0000, 0, 0]);
        assert_eq!(
            (bits.bytes.as_slice(), bits.length),
            (&[1, 0b0101_0000][..], 12)
        );
        assert_eq!(Bits::up_to_last_one(vec![0, 0]), Bits::default());
    }
}
