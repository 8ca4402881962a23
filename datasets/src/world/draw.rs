//! Random numbers of the worlds. Each is exactly uniform, so that the bits reported for a choice are exact.

use rand_chacha::rand_core::RngCore;

/// Draws a uniform integer in `0..bound` by rejection. Every value has *exactly* the same probability.
pub(super) fn below(rng: &mut impl RngCore, bound: u32) -> u32 {
    let limit = u32::MAX - u32::MAX % bound;
    loop {
        let draw = rng.next_u32();
        if draw < limit {
            return draw % bound;
        }
    }
}

/// Does what [`below`] does, for bounds of up to 64 bits.
pub(super) fn below_wide(rng: &mut impl RngCore, bound: u64) -> u64 {
    let limit = u64::MAX - u64::MAX % bound;
    loop {
        let draw = rng.next_u64();
        if draw < limit {
            return draw % bound;
        }
    }
}

/// Shuffles with the algorithm of Fisher and Yates.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut impl RngCore) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last as u32 + 1) as usize);
    }
}
