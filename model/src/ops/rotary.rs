//! Rotary positions (Su et al. 2021, <https://arxiv.org/abs/2104.09864>): pairs of elements of queries and keys, `i` and
//! `i + head_width / 2`, turned by angles that grow with the position.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;

use super::Heads;
use super::plain::Plain;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// By the angles.
    Forward,
    /// By the angles negated, as a gradient is.
    Back,
}

/// `qkv` as [`Heads`] lays it out, its queries and keys turned by angles whose cosines and sines are `rotation`,
/// `[length, head_width / 2]` each.
pub(crate) fn rotate<B: Backend>(
    qkv: FloatTensor<B>,
    rotation: [FloatTensor<B>; 2],
    heads: Heads,
    turn: Turn,
) -> FloatTensor<B> {
    let qkv = Plain::<B>(qkv);
    let (columns, width) = (qkv.columns(), heads.head_width(qkv.columns()));
    let Heads { batch, length, .. } = heads;
    let (turned, all) = (
        heads.heads + heads.kv_heads,
        heads.heads + 2 * heads.kv_heads,
    );
    let half = width / 2;
    let angles = rotation.map(|of| Plain::<B>(of).reshape([1, length, 1, half]));
    let [cosines, sines] = angles;
    let sines = match turn {
        Turn::Forward => sines,
        Turn::Back => sines * -1.0,
    };
    let qkv = qkv.reshape([batch, length, all, width]);
    let part = |start| qkv.clone().narrow(2, 0, turned).narrow(3, start, half);
    let (first, second) = (part(0), part(half));
    let turned_parts = vec![
        first.clone() * cosines.clone() - second.clone() * sines.clone(),
        second * cosines + first * sines,
    ];
    let values = qkv.narrow(2, turned, heads.kv_heads);
    let all = Plain::cat(vec![Plain::cat(turned_parts, 3), values], 2);
    all.reshape([batch * length, columns]).0
}
