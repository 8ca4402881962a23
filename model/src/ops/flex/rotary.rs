//! Rotary positions, in place.

use burn::backend::flex::FlexTensor;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::matrix::{contiguous, elements, own, rows_of_a_block};
use crate::ops::{Heads, Turn};
use crate::vectors::vectorized;

pub(super) fn rotate(
    qkv: FlexTensor,
    rotation: [FlexTensor; 2],
    heads: Heads,
    turn: Turn,
) -> FlexTensor {
    let mut qkv = own(qkv);
    let [_, columns]: [usize; 2] = qkv.layout().shape().dims();
    let width = heads.head_width(columns);
    let (half, turned) = (width / 2, (heads.heads + heads.kv_heads) * width);
    let rotation = rotation.map(contiguous);
    let [cosines, sines] = rotation.each_ref().map(elements);
    let sign = match turn {
        Turn::Forward => 1.0,
        Turn::Back => -1.0,
    };
    let together = rows_of_a_block(columns);
    let blocks = qkv.storage_mut::<f32>().par_chunks_mut(together * columns);
    blocks.enumerate().for_each(|(block, rows)| {
        vectorized(
            #[inline(always)]
            || {
                for (row, qkv) in rows.chunks_exact_mut(columns).enumerate() {
                    let position = (block * together + row) % heads.length;
                    let angles = position * half..(position + 1) * half;
                    let (cosines, sines) = (&cosines[angles.clone()], &sines[angles]);
                    for head in qkv[..turned].chunks_exact_mut(width) {
                        let (first, second) = head.split_at_mut(half);
                        for i in 0..half {
                            let (x, y) = (first[i], second[i]);
                            let (cosine, sine) = (cosines[i], sines[i] * sign);
                            first[i] = x * cosine - y * sine;
                            second[i] = y * cosine + x * sine;
                        }
                    }
                }
            },
        );
    });
    qkv
}
