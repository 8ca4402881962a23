//! Rotary positions, in place, some rows at a time.

use tch::Tensor;

use super::pieces::pieces;
use crate::ops::{Heads, Turn};

/// Turns queries and keys of `qkv`, by the cosines and sines of `rotation`, `[length, head_width / 2]` each.
pub(super) fn rotate(qkv: &Tensor, rotation: [&Tensor; 2], heads: Heads, turn: Turn) {
    let Heads { batch, length, .. } = heads;
    let [batch, length] = [batch, length].map(|size| size as i64);
    let half = rotation[0].size()[1];
    let turned = (heads.heads + heads.kv_heads) as i64;
    // One row per sequence and position; its heads; first and second elements of pairs.
    let columns = turned * 2 * half;
    let pairs = qkv.narrow(1, 0, columns).unflatten(1, [turned, 2, half]);
    let angles = rotation.map(|of| {
        let of = of.unsqueeze(0).expand([batch, length, half], false);
        of.reshape([batch * length, 1, half])
    });
    let sign = match turn {
        Turn::Forward => 1.0,
        Turn::Back => -1.0,
    };
    for piece in pieces(&pairs) {
        let [cosines, sines] = angles.each_ref().map(|of| piece.of(of));
        let pairs = piece.of(&pairs);
        let [mut first, mut second] = [0, 1].map(|which| pairs.select(2, which));
        let sines = sines * sign;
        let before = first.copy();
        let _ = first.g_mul_(&cosines);
        let _ = first.g_sub_(&(&second * &sines));
        let _ = second.g_mul_(&cosines);
        let _ = second.g_add_(&(before * sines));
    }
}
