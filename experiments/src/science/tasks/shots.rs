//! Examples in prompts, drawn as the harness draws them: with Python's `random.sample` from a generator that is seeded
//! once for each task. So the same seed gives the same prompts there and here.

use rand_mt::Mt;

/// Python's `random.Random`, as far as `sample` needs it.
pub(super) struct PythonRandom(Mt);

impl PythonRandom {
    /// Returns the generator of `random.Random(seed)`.
    pub(super) fn new(seed: u64) -> Self {
        let words = [seed as u32, (seed >> 32) as u32];
        let words = if words[1] == 0 {
            &words[..1]
        } else {
            &words[..]
        };
        Self(Mt::new_with_key(words.iter().copied()))
    }

    /// Returns a number of `0..bound`; `bound` is from 1 to 2³².
    fn below(&mut self, bound: usize) -> usize {
        let bits = usize::BITS - bound.leading_zeros();
        loop {
            // A bound of 2³² needs 33 bits in Python, which are never wanted here.
            let number = (self.0.next_u32() >> (32 - bits.min(32))) as usize;
            if number < bound {
                return number;
            }
        }
    }

    /// Draws `count` different numbers of `0..total`, in the order of the draws.
    ///
    /// # Panics
    ///
    /// Panics if `count` is more than `total`.
    pub(super) fn sample(&mut self, total: usize, count: usize) -> Vec<usize> {
        assert!(count <= total, "a sample is not larger than what it is of");
        // Where Python keeps a set of the drawn numbers, which changes how many random numbers it takes.
        let mut set_size = 21;
        if count > 5 {
            let digits = (count as f64 * 3.0).log(4.0).ceil();
            set_size += 4f64.powf(digits) as usize;
        }
        if total <= set_size {
            let mut pool: Vec<usize> = (0..total).collect();
            return (0..count)
                .map(|drawn| {
                    let place = self.below(total - drawn);
                    let number = pool[place];
                    pool[place] = pool[total - drawn - 1];
                    number
                })
                .collect();
        }
        let mut sample = Vec::with_capacity(count);
        while sample.len() < count {
            let number = self.below(total);
            if !sample.contains(&number) {
                sample.push(number);
            }
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are printed by Python 3: `r = random.Random(1234)`, and `r.sample(range(total), count)` repeatedly.
    #[test]
    fn samples_are_those_of_python() {
        let mut random = PythonRandom::new(1234);
        for (total, count, expected) in [
            (30, 5, &[24, 14, 3, 0, 2][..]),
            (30, 5, &[29, 25, 18, 1, 21]),
            (30, 5, &[22, 2, 3, 24, 11]),
            (1000, 3, &[242, 17, 31]),
            (1000, 3, &[807, 16, 354]),
            (5, 5, &[4, 3, 2, 1, 0]),
            (22, 6, &[2, 5, 3, 0, 16, 15]),
            (21, 6, &[7, 2, 17, 14, 19, 16]),
        ] {
            assert_eq!(random.sample(total, count), expected, "{count} of {total}");
        }
    }

    #[test]
    fn seeds_are_those_of_python() {
        for (seed, expected) in [
            (0, [3_626_764_237, 1_654_615_998, 3_255_389_356]),
            ((1 << 40) + 7, [2_635_837_658, 3_209_733_218, 3_500_038_837]),
        ] {
            let mut random = PythonRandom::new(seed);
            assert_eq!([(); 3].map(|()| random.0.next_u32()), expected);
        }
    }
}
