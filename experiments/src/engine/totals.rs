//! Sums over target tokens, the only source of loss, perplexity, bits per byte and accuracy.

use burn::tensor::{ExecutionError, Tensor};

/// Sums over target tokens, from which every quality measure follows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Weighted sum of negative log-likelihoods, in nats.
    pub nats: f64,
    /// Total weight of the targets that the model ranked first.
    pub correct: f64,
    /// Total weight of all targets: their number, unless the experiment weights them.
    pub weight: f64,
    /// Number of targets with a weight.
    pub tokens: usize,
    /// Bytes of text of the targets.
    pub bytes: usize,
}

impl Totals {
    /// Returns the cross-entropy in nats per token, which is the objective.
    pub fn loss(&self) -> f64 {
        self.nats / self.weight
    }

    /// Returns exp(loss): the number of equally likely tokens with the same loss.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Returns the bits to code one byte of text with this model: nats / ln 2 / bytes. Unlike losses, they are
    /// comparable across tokenizers. If targets have weights, the nats are the weighted mean times the number of
    /// targets.
    pub fn bits_per_byte(&self) -> f64 {
        let nats = self.nats * (self.tokens as f64 / self.weight);
        nats / std::f64::consts::LN_2 / self.bytes as f64
    }

    /// Returns the share of targets that the model ranked first, by weight.
    pub fn accuracy(&self) -> f64 {
        self.correct / self.weight
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.nats += other.nats;
        self.correct += other.correct;
        self.weight += other.weight;
        self.tokens += other.tokens;
        self.bytes += other.bytes;
    }
}

/// Sums of a batch, which the device may still compute.
pub struct Sums {
    /// Weighted sums of nats and of correct predictions, `[2]`, in one tensor, so that one read fetches both.
    pub(crate) nats_and_correct: Tensor<1>,
    /// Total weight of all targets.
    pub(crate) weight: f64,
    /// Number of targets with a weight.
    pub(crate) tokens: usize,
    /// Bytes of text of the targets.
    pub(crate) bytes: usize,
}

impl Sums {
    /// Waits for the device, and returns the totals.
    ///
    /// # Errors
    ///
    /// Returns an error if the device failed.
    pub fn read(self) -> Result<Totals, ExecutionError> {
        let sums = self.nats_and_correct.try_into_data()?;
        let mut sums = sums.iter::<f64>();
        let mut next = || sums.next().unwrap_or(f64::NAN);
        Ok(Totals {
            nats: next(),
            correct: next(),
            weight: self.weight,
            tokens: self.tokens,
            bytes: self.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_give_loss_perplexity_bits_per_byte_and_accuracy() {
        // Two tokens of two bytes each with probability 1/16 have 4 bits per token and 2 bits per byte.
        let totals = Totals {
            nats: 2.0 * 16f64.ln(),
            correct: 1.0,
            weight: 2.0,
            tokens: 2,
            bytes: 4,
        };
        // Equal weights change no mean.
        let weighted = Totals {
            nats: 3.0 * totals.nats,
            correct: 3.0,
            weight: 6.0,
            ..totals
        };
        for totals in [totals, weighted] {
            assert!((totals.loss() - 16f64.ln()).abs() < 1e-12);
            assert!((totals.perplexity() - 16.0).abs() < 1e-9);
            assert!((totals.bits_per_byte() - 2.0).abs() < 1e-12);
            assert!((totals.accuracy() - 0.5).abs() < 1e-12);
        }
    }
}
