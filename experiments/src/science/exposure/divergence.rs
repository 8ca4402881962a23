//! Divergences of a model's next-token distribution from the oracle's.

/// Returns `ln p` of every token, given the logits of all.
pub(super) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let relative = |logit: &f32| f64::from(*logit) - f64::from(highest);
    let total: f64 = logits.iter().map(|logit| relative(logit).exp()).sum();
    let log_total = total.ln();
    logits
        .iter()
        .map(|logit| relative(logit) - log_total)
        .collect()
}

/// Returns KL(o‖p) in nats: the sum over tokens of `o (ln o − ln p)`. Tokens that the oracle does not know have no part.
pub(super) fn divergence(oracle: &[f64], log_p: &[f64]) -> f64 {
    let terms = oracle.iter().zip(log_p).filter(|(o, _)| **o > 0.0);
    terms.map(|(o, log_p)| o * (o.ln() - log_p)).sum()
}

/// Returns KL(s‖p) in nats for the oracle smoothed by a uniform distribution of this weight, `s = (1 − w) o + w / V`. After
/// an impossible prefix, where the oracle says nothing, `s` is uniform.
pub(super) fn smoothed_divergence(oracle: Option<&[f64]>, weight: f64, log_p: &[f64]) -> f64 {
    let uniform = 1.0 / log_p.len() as f64;
    let of_token = |token: usize| match oracle {
        Some(oracle) => {
            (1.0 - weight) * oracle.get(token).copied().unwrap_or(0.0) + weight * uniform
        }
        None => uniform,
    };
    let terms = log_p.iter().enumerate();
    terms
        .map(|(token, log_p)| match of_token(token) {
            0.0 => 0.0,
            s => s * (s.ln() - log_p),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_its_definition() {
        let log_p = log_softmax(&[0.25f32.ln(), 0.5f32.ln(), 0.25f32.ln()]);
        let expected = 0.5 * 2f64.ln() + 0.5 * 1f64.ln();
        assert!((divergence(&[0.5, 0.5], &log_p) - expected).abs() < 1e-7);
        // Against itself, up to the rounding of f32 logits.
        assert!(divergence(&[0.25, 0.5, 0.25], &log_p).abs() < 1e-7);
    }

    #[test]
    fn smoothing_mixes_with_the_uniform_distribution() {
        let log_p = [0.7f64.ln(), 0.2f64.ln(), 0.1f64.ln()];
        let mixed = [0.9 + 0.1 / 3.0, 0.1 / 3.0, 0.1 / 3.0];
        let expected = divergence(&mixed, &log_p);
        let smoothed = smoothed_divergence(Some(&[1.0, 0.0]), 0.1, &log_p);
        assert!((smoothed - expected).abs() < 1e-12);
        let uniform = divergence(&[1.0 / 3.0; 3], &log_p);
        assert!((smoothed_divergence(None, 0.1, &log_p) - uniform).abs() < 1e-12);
        let exact = smoothed_divergence(Some(&[1.0, 0.0]), 0.0, &log_p);
        assert!((exact - divergence(&[1.0], &log_p)).abs() < 1e-12);
    }

    #[test]
    fn logits_of_any_size_are_normalised() {
        let log_p = log_softmax(&[1e30, 1e30, -1e30]);
        assert!((log_p[0] - 0.5f64.ln()).abs() < 1e-12);
        assert!(log_p[2] < -1e29);
    }
}
