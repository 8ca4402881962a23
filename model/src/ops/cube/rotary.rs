//! Rotary positions, in place: a unit has a pair.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{UNITS, buffer, for_each, own, whole};
use crate::ops::{Heads, Turn};

/// Where pairs lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Pairs {
    /// Of one head.
    half: usize,
    /// Heads of queries and keys.
    heads: usize,
    /// Of a row.
    columns: usize,
    length: usize,
    /// 1, or -1 where they are turned back.
    sign: f32,
}

#[cube(launch_unchecked)]
fn kernel(qkv: &mut [f32], cosines: &[f32], sines: &[f32], pairs: &Pairs) {
    let of_row = pairs.heads * pairs.half;
    let row = ABSOLUTE_POS / of_row;
    if row * pairs.columns < qkv.len() {
        let pair = ABSOLUTE_POS % of_row;
        let (head, i) = (pair / pairs.half, pair % pairs.half);
        let angle = row % pairs.length * pairs.half + i;
        let (cosine, sine) = (cosines[angle], sines[angle] * pairs.sign);
        let first = row * pairs.columns + 2 * head * pairs.half + i;
        let second = first + pairs.half;
        let (x, y) = (qkv[first], qkv[second]);
        qkv[first] = x * cosine - y * sine;
        qkv[second] = y * cosine + x * sine;
    }
}

pub(super) fn rotate(
    qkv: CubeTensor,
    rotation: [CubeTensor; 2],
    heads: Heads,
    turn: Turn,
) -> CubeTensor {
    let (qkv, [cosines, sines]) = (own(qkv), rotation.map(whole));
    let [rows, columns]: [usize; 2] = qkv.meta.shape().dims();
    let (half, turned) = (heads.head_width(columns) / 2, heads.heads + heads.kv_heads);
    let sign = match turn {
        Turn::Forward => 1.0,
        Turn::Back => -1.0,
    };
    // SAFETY: units beyond the last row have nothing to do, and there are as many angles as pairs of a head in a sequence.
    unsafe {
        kernel::launch_unchecked(
            &qkv.client,
            for_each(&qkv, rows * turned * half),
            CubeDim::new_1d(UNITS),
            buffer(&qkv),
            buffer(&cosines),
            buffer(&sines),
            PairsLaunch::new(half, turned, columns, heads.length, sign),
        );
    }
    qkv
}
