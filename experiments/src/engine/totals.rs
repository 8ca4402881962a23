//! Sums over target tokens: the only source of loss, perplexity, bits per byte and accuracy.

use burn::tensor::{ExecutionError, Tensor};

/// Sums over target tokens, from which every quality measure follows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Totals {
    /// Negative log-likelihood of all targets, in nats, each times its weight.
    pub nats: f64,
    /// The weight of the targets that the model ranked first.
    pub correct: f64,
    /// The weight of all targets: their number, unless the experiment weights them.
    pub weight: f64,
    /// Number of targets that count.
    pub tokens: usize,
    /// Bytes that the targets stand for.
    pub bytes: usize,
}

impl Totals {
    /// Cross-entropy in nats per token: the objective.
    pub fn loss(&self) -> f64 {
        self.nats / self.weight
    }

    /// exp(loss): the size of a uniform choice that would surprise as much.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits to code one byte of text with this model: nats / ln 2 / bytes. Unlike the loss, comparable
    /// across tokenizers. Where targets have weights, their weighted mean stands for each of them.
    pub fn bits_per_byte(&self) -> f64 {
        let nats = self.nats * (self.tokens as f64 / self.weight);
        nats / std::f64::consts::LN_2 / self.bytes as f64
    }

    /// Share of targets that the model ranked first, by weight.
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

/// Sums of a batch that the device may still compute.
pub struct Sums {
    /// Weighted sums of nats and of correct predictions, `[2]`: one read fetches both.
    pub(crate) nats_and_correct: Tensor<1>,
    /// The weight of all targets.
    pub(crate) weight: f64,
    /// Number of targets that count.
    pub(crate) tokens: usize,
    /// Bytes that the targets stand for.
    pub(crate) bytes: usize,
}

impl Sums {
    /// Waits for the device.
    ///
    /// # Errors
    ///
    /// When the device failed on the way.
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
    fn units_are_those_of_the_field() {
        // Two tokens of two bytes each, both at probability 1/16: 4 bits per token, 2 bits per byte.
        let totals = Totals {
            nats: 2.0 * 16f64.ln(),
            correct: 1.0,
            weight: 2.0,
            tokens: 2,
            bytes: 4,
        };
        // Weighted alike, targets are as surprising as before.
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
