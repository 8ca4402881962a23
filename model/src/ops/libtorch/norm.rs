//! LayerNorm by ATen's kernels; RMSNorm, for which it has none on a CPU, some rows at a time, sums in f32 at least.

use tch::{Kind, Tensor};

use super::pieces::pieces;
use super::{at_least_f32, operators};

/// RMSNorm into `into`, which may be `x`.
pub(super) fn rms(x: &Tensor, gamma: &Tensor, beta: Option<&Tensor>, epsilon: f64, into: &Tensor) {
    let gamma = gamma.to_kind(at_least_f32(x.kind()));
    for piece in pieces(x) {
        let (mut y, _) = normalised(&piece.of(x), epsilon);
        let _ = y.g_mul_(&gamma);
        if let Some(beta) = beta {
            let _ = y.g_add_(beta);
        }
        piece.of(into).copy_(&y);
    }
}

/// LayerNorm. Beside rows in half precision ATen keeps means and scales in f32 if gain and bias are f32.
pub(super) fn layer(x: &Tensor, gamma: &Tensor, beta: Option<&Tensor>, epsilon: f64) -> Tensor {
    let (width, kind) = (x.size()[1], at_least_f32(x.kind()));
    let (gamma, beta) = (gamma.to_kind(kind), beta.map(|beta| beta.to_kind(kind)));
    x.native_layer_norm(width, Some(gamma), beta, epsilon).0
}

/// LayerNorm: gradients of input, gain and bias, where they are `wanted`.
pub(super) fn layer_backward(
    [x, gamma, grad]: [&Tensor; 3],
    epsilon: f64,
    wanted: [bool; 3],
) -> [Option<Tensor>; 3] {
    let kind = gamma.kind();
    let gain = gamma.to_kind(at_least_f32(x.kind()));
    let of = operators::layer_norm_backward([x, &gain, grad], epsilon, wanted);
    let [of_x, of_gamma, of_beta] = of;
    let [of_gamma, of_beta] = [of_gamma, of_beta].map(|of| of.map(|of| of.to_kind(kind)));
    [of_x, of_gamma, of_beta]
}

/// RMSNorm's `x̂` and, `[rows, 1]`, `1 / s`.
fn normalised(x: &Tensor, epsilon: f64) -> (Tensor, Tensor) {
    let width = x.size()[1];
    let x = x.to_kind(at_least_f32(x.kind()));
    let mut inverse = x.norm_scalaropt_dim(2.0, 1, true);
    let _ = inverse.square_();
    let _ = inverse.g_mul_scalar_(1.0 / width as f64);
    let _ = inverse.g_add_scalar_(epsilon);
    let _ = inverse.rsqrt_();
    (&x * &inverse, inverse)
}

/// Gradients of gain and bias as they add up.
struct Sum(Option<Tensor>);

impl Sum {
    /// Of vectors like `like`, where it is `wanted`.
    fn new(wanted: bool, like: &Tensor) -> Self {
        Self(wanted.then(|| like.zeros_like()))
    }

    /// The sum of rows.
    fn add(&mut self, rows: &Tensor) {
        if let Some(sum) = &mut self.0 {
            let _ = sum.g_add_(&rows.sum_dim_intlist(0, false, None));
        }
    }

    fn result(self, kind: Kind) -> Option<Tensor> {
        self.0.map(|sum| sum.to_kind(kind))
    }
}

/// RMSNorm: gradients of gain and bias where they are `wanted`; that of the input into `into`, which may be `x` or `grad`.
pub(super) fn backward(
    [x, gamma, grad]: [&Tensor; 3],
    epsilon: f64,
    wanted: [bool; 2],
    into: Option<&Tensor>,
) -> [Option<Tensor>; 2] {
    let sums = at_least_f32(x.kind());
    let gain = gamma.to_kind(sums);
    let mut of = wanted.map(|wanted| Sum::new(wanted, &gain));
    for piece in pieces(x) {
        let (normal, inverse) = normalised(&piece.of(x), epsilon);
        let grad = piece.of(grad).to_kind(sums);
        let product = &grad * &normal;
        of[0].add(&product);
        of[1].add(&grad);
        if let Some(into) = into {
            let of_x = of_input(&gain, [grad, normal, inverse], product);
            piece.of(into).copy_(&of_x);
        }
    }
    of.map(|sum| sum.result(gamma.kind()))
}

/// `(g - x̂ mean(g x̂)) / s`, given `grad`, `x̂`, `1 / s` and the product of the first two.
///
/// The mean of the product with the gain is a product of a matrix and a vector.
fn of_input(gain: &Tensor, [grad, normal, inverse]: [Tensor; 3], product: Tensor) -> Tensor {
    let along = -(product.mv(gain) / gain.size()[0] as f64).unsqueeze(1);
    let mut of_x = product;
    let _ = grad.mul_out(&of_x, gain);
    let _ = of_x.addcmul_(&normal, &along);
    let _ = of_x.g_mul_(&inverse);
    of_x
}
