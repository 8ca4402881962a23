//! What is measured of a step or an evaluation, in which unit, and how it reaches the dashboard.

use std::sync::Arc;

use burn::tensor::{ExecutionError, Tensor, TensorReadError};
use burn::train::ItemLazy;
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

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

/// The measures that the dashboard plots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Nats per token.
    Loss,
    /// exp(loss).
    Perplexity,
    /// Bits per byte of text.
    BitsPerByte,
    /// Percent of next tokens ranked first.
    Accuracy,
    /// Target tokens per second.
    TokensPerSecond,
    /// Percent of the measured matrix-product peak.
    Mfu,
    /// Learning rate.
    LearningRate,
    /// Global norm before clipping.
    GradientNorm,
}

impl Measure {
    /// Everything, in the order of the dashboard.
    pub const ALL: [Self; 8] = [
        Self::Loss,
        Self::Perplexity,
        Self::BitsPerByte,
        Self::Accuracy,
        Self::TokensPerSecond,
        Self::Mfu,
        Self::LearningRate,
        Self::GradientNorm,
    ];

    /// Those that also mean something on validation windows.
    pub const OF_EVALUATION: [Self; 4] = [
        Self::Loss,
        Self::Perplexity,
        Self::BitsPerByte,
        Self::Accuracy,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::Perplexity => "Perplexity",
            Self::BitsPerByte => "Bits per byte",
            Self::Accuracy => "Accuracy",
            Self::TokensPerSecond => "Tokens/s",
            Self::Mfu => "MFU",
            Self::LearningRate => "Learning rate",
            Self::GradientNorm => "Gradient norm",
        }
    }

    fn unit(self) -> Option<&'static str> {
        match self {
            Self::Loss => Some("nats/token"),
            Self::Accuracy | Self::Mfu => Some("%"),
            _ => None,
        }
    }

    fn higher_is_better(self) -> bool {
        matches!(self, Self::Accuracy | Self::TokensPerSecond | Self::Mfu)
    }

    /// The measure over everything in `report`.
    pub fn of(self, report: &Report) -> f64 {
        let tokens = report.totals.tokens as f64;
        match self {
            Self::Loss => report.totals.loss(),
            Self::Perplexity => report.totals.perplexity(),
            Self::BitsPerByte => report.totals.bits_per_byte(),
            Self::Accuracy => 100.0 * report.totals.accuracy(),
            Self::TokensPerSecond => tokens / report.seconds,
            Self::Mfu => 100.0 * report.seconds_per_token_at_peak * tokens / report.seconds,
            Self::LearningRate => report.learning_rate,
            Self::GradientNorm => report.gradient_norm,
        }
    }
}

/// A [`Measure`] as a burn-train metric. The value of an interval is that of its summed totals, so that
/// perplexity is exp of the mean loss and not a mean of perplexities.
#[derive(Clone)]
pub struct StepMetric {
    measure: Measure,
    name: MetricName,
    /// Said after every value.
    note: String,
    last: Option<Report>,
    interval: Option<Report>,
    /// The interval before, shown until the next one has something to show.
    before: Option<Report>,
}

impl StepMetric {
    /// A metric that has seen nothing.
    pub fn new(measure: Measure) -> Self {
        Self {
            measure,
            name: Arc::new(measure.name().to_string()),
            note: String::new(),
            last: None,
            interval: None,
            before: None,
        }
    }

    /// The same metric with its lower bound said beside it.
    pub fn with_floor(mut self, floor: Option<f64>) -> Self {
        self.note = floor.map_or(String::new(), |floor| format!(" (floor {floor:.3})"));
        self
    }

    fn entry(&self) -> SerializedEntry {
        let shown = self.interval.or(self.before);
        let Some(interval) = shown.map(|report| self.measure.of(&report)) else {
            return SerializedEntry::new("-".into(), SerializedEntry::NOT_AVAILABLE.into());
        };
        let last = self.last.map(|report| self.measure.of(&report));
        let step = last.map_or(String::new(), |last| {
            format!(" - step {}", self.format(last))
        });
        SerializedEntry::new(
            format!("interval {}{step}{}", self.format(interval), self.note),
            last.unwrap_or(interval).to_string(),
        )
    }

    fn format(&self, value: f64) -> String {
        let number = match value.abs() {
            v if v >= 1000.0 => format!("{value:.0}"),
            v if v >= 10.0 => format!("{value:.2}"),
            v if v >= 0.01 || v == 0.0 => format!("{value:.4}"),
            _ => format!("{value:.2e}"),
        };
        match self.measure.unit() {
            Some("%") => format!("{number} %"),
            _ => number,
        }
    }
}

impl Metric for StepMetric {
    type Input = Option<Report>;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: self.measure.unit().map(str::to_string),
            higher_is_better: self.measure.higher_is_better(),
        }
        .into()
    }

    fn update(
        &mut self,
        report: &Self::Input,
        _metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.last = *report;
        if let Some(report) = report {
            match &mut self.interval {
                Some(interval) => {
                    interval.totals += report.totals;
                    interval.seconds += report.seconds;
                    // These have no sum worth having; an interval shows its last.
                    interval.learning_rate = report.learning_rate;
                    interval.gradient_norm = report.gradient_norm;
                }
                None => self.interval = Some(*report),
            }
        }
        Ok(self.entry())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        self.last = None;
        Ok(self.entry())
    }

    fn clear(&mut self) {
        self.before = self.interval.take();
    }
}

impl Numeric for StepMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.last
            .map(|report| NumericEntry::Value(self.measure.of(&report)))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.interval
            .map(|report| NumericEntry::Value(self.measure.of(&report)))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(
            self.interval
                .map_or(f64::NAN, |report| self.measure.of(&report)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::data::dataloader::Progress;

    fn report(nats: f64, tokens: usize, bytes: usize, seconds: f64) -> Report {
        Report {
            totals: Totals {
                nats,
                correct: tokens as f64 / 4.0,
                weight: tokens as f64,
                tokens,
                bytes,
            },
            seconds,
            seconds_per_token_at_peak: 0.5 * seconds / tokens as f64,
            learning_rate: 1e-3,
            gradient_norm: 2.0,
        }
    }

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

    #[test]
    fn an_interval_is_measured_over_its_sums() {
        let metadata = MetricMetadata {
            progress: Progress::new(1, 2, None),
            iteration: Some(1),
            lr: None,
        };
        let value = |measure| {
            let mut metric = StepMetric::new(measure);
            metric
                .update(&Some(report(10.0, 10, 10, 1.0)), &metadata)
                .unwrap();
            metric
                .update(&Some(report(90.0, 30, 90, 3.0)), &metadata)
                .unwrap();
            metric.final_value().current()
        };
        assert!((value(Measure::Loss) - 2.5).abs() < 1e-12);
        assert!((value(Measure::Perplexity) - 2.5f64.exp()).abs() < 1e-9);
        assert!((value(Measure::BitsPerByte) - 1.0 / std::f64::consts::LN_2).abs() < 1e-12);
        assert!((value(Measure::TokensPerSecond) - 10.0).abs() < 1e-12);
        assert!((value(Measure::Accuracy) - 25.0).abs() < 1e-12);
        assert!((value(Measure::Mfu) - 50.0).abs() < 1e-9);
    }
}
