//! Arithmetic on slices, for whatever vector instructions the processor has.
//!
//! A function marked `#[inline(always)]` here becomes part of the closure given to [`vectorized`](crate::vectors::vectorized), which is compiled for
//! several instruction sets. No multiplication is fused with an addition: the bits are the same in all of them.

use std::mem::MaybeUninit;

/// Independent sums, maxima and so on, as many as fill the widest vector registers.
const LANES: usize = 16;

/// `e^x` to 2 units in the last place; NaN stays NaN. Range reduction and polynomial are those of Cephes' `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and subtracting it rounds to the nearest integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Beyond them the result is 0 or infinite. Written so that NaN passes.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let power = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let n = shifted - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // In two factors, since one alone may be beyond what an f32 holds.
    let half = power >> 1;
    let two_to = |power: i32| f32::from_bits((power.wrapping_add(127) as u32) << 23);
    // Wrapping, which it never does: a check would keep the loop from vector instructions.
    p * two_to(half) * two_to(power.wrapping_sub(half))
}

/// `1 / (1 + e^-x)`
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent to 8 units in the last place: the rational approximation of Eigen.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // From there on it is 1 in f32. Written so that NaN passes.
    let x = if x < -7.905_311 { -7.905_311 } else { x };
    let x = if x > 7.905_311 { 7.905_311 } else { x };
    let s = x * x;
    let p = -2.760_768_5e-16;
    let p = p * s + 2.000_188e-13;
    let p = p * s - 8.604_672e-11;
    let p = p * s + 5.122_297e-8;
    let p = p * s + 1.485_722_4e-5;
    let p = p * s + 6.372_619_3e-4;
    let p = p * s + 4.893_524_6e-3;
    let q = 1.198_258_4e-6;
    let q = q * s + 1.185_347_1e-4;
    let q = q * s + 2.268_434_6e-3;
    let q = q * s + 4.893_525e-3;
    x * p / q
}

/// The standard normal distribution's `Φ(x)`, and its density at `x`. `Φ` is as near below 0 as it is above, relative to
/// itself: 16 units in the last place. `erfc(|x| / √2) exp(x² / 2)` is a polynomial in `1 / (1 + 0.3 |x| / √2)`, fitted to
/// 2.4e-8.
#[inline(always)]
pub(super) fn normal(x: f32) -> [f32; 2] {
    const INVERSE_ROOT_2_PI: f32 = 0.398_942_3;
    let u = 1.0 / (1.0 + 0.212_132_03 * x.abs());
    let r = -0.065_279_29;
    let r = r * u + 0.245_367_8;
    let r = r * u - 0.261_649_58;
    let r = r * u + 0.280_390_5;
    let r = r * u - 0.052_024_324;
    let r = r * u + 0.109_561_26;
    let r = r * u + 0.073_602_74;
    let r = r * u + 0.085_442_2;
    let r = r * u + 0.084_588_67;
    let e = exp(-0.5 * x * x);
    let tail = r * u * e;
    // Written so that NaN passes.
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    [below, e * INVERSE_ROOT_2_PI]
}

/// Adds up what `of` makes of the elements at each place, in an order that follows from their number alone.
#[inline(always)]
pub(super) fn sum<const N: usize>(slices: [&[f32]; N], of: impl Fn([f32; N]) -> f32) -> f32 {
    let count = slices[0].len();
    let chunks = slices.map(|slice| slice[..count].as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for block in 0..count / LANES {
        let values = chunks.map(|(blocks, _)| blocks[block]);
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += of(values.map(|values| values[lane]));
        }
    }
    let mut total = folded(sums, |a, b| a + b);
    for index in 0..count % LANES {
        total += of(chunks.map(|(_, rest)| rest[index]));
    }
    total
}

/// `to[i] ← to[i] + Σ_j weights[j] row(j)[i]`, in the order of the rows.
#[inline(always)]
pub(super) fn add_weighted<'r>(
    to: &mut [f32],
    weights: &[f32],
    row: impl Fn(usize) -> &'r [f32] + Copy,
) {
    // As many lanes at a time as there are, so that rows are read once.
    let (to, rest) = to.split_at_mut(to.len() / (4 * LANES) * (4 * LANES));
    add_weighted_blocks::<{ 4 * LANES }>(to, 0, weights, row);
    let start = to.len();
    let (to, rest) = rest.split_at_mut(rest.len() / LANES * LANES);
    match to.len() / LANES {
        3 => add_weighted_blocks::<{ 3 * LANES }>(to, start, weights, row),
        2 => add_weighted_blocks::<{ 2 * LANES }>(to, start, weights, row),
        _ => add_weighted_blocks::<LANES>(to, start, weights, row),
    }
    add_weighted_blocks::<1>(rest, start + to.len(), weights, row);
}

/// [`add_weighted`], `N` columns at a time, to columns from `start` on.
#[inline(always)]
fn add_weighted_blocks<'r, const N: usize>(
    to: &mut [f32],
    start: usize,
    weights: &[f32],
    row: impl Fn(usize) -> &'r [f32],
) {
    for (block, to) in to.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        let start = start + block * N;
        // In registers while the rows pass by.
        let mut sums = *to;
        for (number, weight) in weights.iter().enumerate() {
            let x = &row(number)[start..start + N];
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum += weight * x;
            }
        }
        *to = sums;
    }
}

/// `to[i] ← of(x[i])`
#[inline(always)]
pub(super) fn map(to: &mut [MaybeUninit<f32>], x: &[f32], of: impl Fn(f32) -> f32) {
    for (to, x) in to.iter_mut().zip(x) {
        to.write(of(*x));
    }
}

/// `to[i] ← of(x[i], y[i])`
#[inline(always)]
pub(super) fn map_2(
    to: &mut [MaybeUninit<f32>],
    x: &[f32],
    y: &[f32],
    of: impl Fn(f32, f32) -> f32,
) {
    for ((to, x), y) in to.iter_mut().zip(x).zip(y) {
        to.write(of(*x, *y));
    }
}

/// `to[i] ← of(x[i], y[i], z[i])`
#[inline(always)]
pub(super) fn map_3(
    to: &mut [MaybeUninit<f32>],
    x: &[f32],
    y: &[f32],
    z: &[f32],
    of: impl Fn(f32, f32, f32) -> f32,
) {
    for (((to, x), y), z) in to.iter_mut().zip(x).zip(y).zip(z) {
        to.write(of(*x, *y, *z));
    }
}

/// `to[i], grad[i] ← of(x[i], grad[i])`
#[inline(always)]
pub(super) fn map_again(
    to: &mut [MaybeUninit<f32>],
    grad: &mut [f32],
    x: &[f32],
    of: impl Fn(f32, f32) -> [f32; 2],
) {
    for ((to, grad), x) in to.iter_mut().zip(grad).zip(x) {
        let [y, of_x] = of(*x, *grad);
        to.write(y);
        *grad = of_x;
    }
}

/// The largest number; minus infinity where there is none.
#[inline(always)]
pub(super) fn largest(numbers: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = numbers.as_chunks::<LANES>();
    for block in blocks {
        for (lane, number) in lanes.iter_mut().zip(block) {
            *lane = larger(*lane, *number);
        }
    }
    rest.iter().copied().fold(folded(lanes, larger), larger)
}

/// Lanes to one, halves at a time.
#[inline(always)]
fn folded(mut lanes: [f32; LANES], with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = with(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `number ← e^(number - maximum)`; their sum.
#[inline(always)]
pub(super) fn exp_in_place(numbers: &mut [f32], maximum: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (blocks, rest) = numbers.as_chunks_mut::<LANES>();
    for block in blocks {
        for (sum, number) in sums.iter_mut().zip(block) {
            *number = exp(*number - maximum);
            *sum += *number;
        }
    }
    let mut total = folded(sums, |a, b| a + b);
    for number in rest {
        *number = exp(*number - maximum);
        total += *number;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error over `numbers`, in units in the last place.
    fn worst(numbers: impl Iterator<Item = f32>, of: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let error = |x: f32| {
            let exact = exact(f64::from(x));
            let unit = f64::from((exact as f32).abs().next_up()) - f64::from((exact as f32).abs());
            (f64::from(of(x)) - exact).abs() / unit
        };
        numbers.map(error).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_as_near_as_they_say() {
        let over = |low: f32, high: f32| {
            (0..=200_000).map(move |i| low + (high - low) * i as f32 / 200_000.0)
        };
        assert!(worst(over(-103.0, 88.7), exp, f64::exp) < 2.0);
        assert!(worst(over(-1.0, 1.0), exp, f64::exp) < 2.0);
        assert!(worst(over(-9.0, 9.0), tanh, f64::tanh) < 8.0);
        assert!(worst(over(-1e-3, 1e-3), tanh, f64::tanh) < 4.0);
        assert!(worst(over(-80.0, 80.0), sigmoid, |x| 1.0 / (1.0 + (-x).exp())) < 4.0);
        let distribution = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        assert!(worst(over(-4.0, 8.0), |x| normal(x)[0], distribution) < 16.0);
        let density = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
        assert!(worst(over(-4.0, 4.0), |x| normal(x)[1], density) < 16.0);
    }

    #[test]
    fn ends_are_exact_and_nan_passes() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(-1e9), exp(f32::NEG_INFINITY)], [0.0; 2]);
        assert_eq!([exp(89.0), exp(f32::INFINITY)], [f32::INFINITY; 2]);
        assert_eq!([tanh(1e9), tanh(-1e9)], [1.0, -1.0]);
        assert_eq!(normal(1e9), [1.0, 0.0]);
        assert_eq!(normal(-1e9), [0.0, 0.0]);
        let all = [exp, tanh, sigmoid, |x| normal(x)[0], |x| normal(x)[1]];
        assert!(all.iter().all(|f| f(f32::NAN).is_nan()));
    }

    #[test]
    fn weighted_rows_are_added_to_what_is_there() {
        for width in [1, 15, 16, 40, 48, 64, 101, 128] {
            let rows: Vec<Vec<f32>> = (0..3)
                .map(|row| (0..width).map(|i| (row * width + i) as f32).collect())
                .collect();
            let mut to = vec![1.0; width];
            add_weighted(&mut to, &[2.0, 0.0, -1.0], |row| &rows[row]);
            for (i, to) in to.into_iter().enumerate() {
                assert_eq!(to, 1.0 + 2.0 * rows[0][i] - rows[2][i]);
            }
        }
    }

    #[test]
    fn folds_take_every_number_once() {
        for count in [0, 1, 15, 16, 17, 100] {
            let numbers: Vec<f32> = (0..count).map(|i| i as f32).collect();
            let expected: f32 = numbers.iter().sum();
            assert_eq!(sum([&numbers], |[x]| x), expected);
            if count > 0 {
                assert_eq!(largest(&numbers), (count - 1) as f32);
            }
            let mut powers = numbers.clone();
            let total = exp_in_place(&mut powers, count as f32);
            let again: f32 = powers.iter().sum();
            assert!((total - again).abs() <= 1e-6 * again);
        }
    }
}
