//! AdamW in place, some rows at a time: ATen's fused update is not in `tch`.

use tch::Tensor;

use super::pieces::pieces;
use crate::ops::AdamW;

/// Changes weights and moments.
pub(super) fn update(
    [weights, first, second]: [&Tensor; 3],
    gradient: &Tensor,
    scale: &Tensor,
    update: AdamW,
) {
    let scale = scale.to_kind(gradient.kind());
    for piece in pieces(weights) {
        let state = [weights, first, second].map(|of| piece.of(of));
        update_piece(state, piece.of(gradient) * &scale, update);
    }
}

/// The same with the `gradient` scaled already.
///
/// The step is `lr m̂ / (√v̂ + epsilon)` with numerator and denominator times `√(1 - β₂ᵗ)`.
fn update_piece(state: [Tensor; 3], gradient: Tensor, update: AdamW) {
    let [mut weights, mut first, mut second] = state;
    let [first_correction, second_correction] = update.corrections();
    let root = second_correction.sqrt();
    // First the gradient, in the end the step.
    let mut room = gradient;
    let _ = first.lerp_(&room, 1.0 - update.beta_1);
    let _ = room.square_();
    let _ = second.lerp_(&room, 1.0 - update.beta_2);
    let _ = second.sqrt_out(&room);
    let _ = room.g_add_scalar_(update.epsilon * root);
    let _ = first.div_out(&room, &room);
    let _ = room.g_mul_scalar_(update.learning_rate * root / first_correction);
    let _ = weights.g_mul_scalar_(1.0 - update.learning_rate * update.weight_decay);
    let _ = weights.g_sub_(&room);
}
