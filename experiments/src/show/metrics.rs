//! Measures of a step or an evaluation, with their units, as metrics of burn-train's dashboard.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

use crate::engine::totals::Report;

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
    use burn::data::dataloader::Progress;

    use super::*;
    use crate::engine::totals::Totals;

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
