//! Sums over target tokens, from which loss, perplexity, bits per byte and accuracy follow, and the output of a step that
//! carries them.

use burn::tensor::{ExecutionError, Tensor};
use burn::train::ItemLazy;
use burn::train::metric::Adaptor;

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

/// One optimizer step, or one evaluation batch, as the dashboard sees it.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Loss, accuracy and their units.
    pub totals: Totals,
    /// Wall-clock time, including the data and a device sync.
    pub seconds: f64,
    /// Floating-point operations per token over the measured peak per second: seconds per token at
    /// full utilisation. 0 where the peak is unknown.
    pub seconds_per_token_at_peak: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Global gradient norm before clipping.
    pub gradient_norm: f64,
}

/// What a step hands to burn-train: sums still on the device, or the report made of them.
pub enum StepOutput {
    /// Not read yet.
    Pending {
        /// Weighted sums of nats and of correct predictions, `[2]`: one read fetches both.
        sums: Box<Tensor<1>>,
        /// The weight of all targets.
        weight: f64,
        /// Number of targets that count.
        tokens: usize,
        /// Bytes of the targets.
        bytes: usize,
    },
    /// On the host.
    Ready(Report),
    /// Progress that is part of a report still to come.
    Partial,
}

impl StepOutput {
    /// Waits for the device and returns the sums.
    ///
    /// # Errors
    ///
    /// When the device failed on the way.
    pub fn read(self) -> Result<Totals, ExecutionError> {
        match self {
            Self::Pending {
                sums,
                weight,
                tokens,
                bytes,
            } => {
                let mut sums = sums
                    .try_into_data()?
                    .iter::<f64>()
                    .collect::<Vec<_>>()
                    .into_iter();
                let mut next = || sums.next().unwrap_or(f64::NAN);
                Ok(Totals {
                    nats: next(),
                    correct: next(),
                    weight,
                    tokens,
                    bytes,
                })
            }
            Self::Ready(report) => Ok(report.totals),
            Self::Partial => Ok(Totals::default()),
        }
    }
}

impl StepOutput {
    /// The weight of the targets of a batch, known without waiting for the device.
    pub(crate) fn weight(&self) -> f64 {
        match self {
            Self::Pending { weight, .. } => *weight,
            Self::Ready(report) => report.totals.weight,
            Self::Partial => 0.0,
        }
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl Adaptor<Option<Report>> for StepOutput {
    fn adapt(&self) -> Option<Report> {
        match self {
            Self::Ready(report) => Some(*report),
            Self::Pending { .. } | Self::Partial => None,
        }
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
