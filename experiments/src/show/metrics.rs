//! Measures of a step or an evaluation as metrics of burn-train's dashboard.

use std::sync::Arc;

use burn::tensor::TensorReadError;
use burn::train::metric::{
    Adaptor, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry,
};

use crate::engine::language_model::Figures;

/// Measure of a step or an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Cross-entropy in nats per token.
    Loss,
    /// exp(loss).
    Perplexity,
    /// Cross-entropy in bits per byte of text.
    BitsPerByte,
    /// Percentage of next tokens that are ranked first.
    Accuracy,
    /// Target tokens per second.
    TokensPerSecond,
    /// Model FLOPs utilisation: a percentage of the measured matrix-product peak.
    Mfu,
    /// Learning rate.
    LearningRate,
    /// Global norm of the gradient before clipping.
    GradientNorm,
}

impl Measure {
    /// All measures, in the order of the dashboard.
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

    /// Measures of an evaluation.
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

    /// Computes the measure from the sums of steps or of an evaluation. The MFU is relative to
    /// `seconds_per_token_at_peak`, the seconds per token at the measured matrix-product peak.
    pub fn of(self, figures: &Figures, seconds_per_token_at_peak: f64) -> f64 {
        let totals = &figures.totals;
        let tokens = totals.tokens as f64;
        match self {
            Self::Loss => totals.loss(),
            Self::Perplexity => totals.perplexity(),
            Self::BitsPerByte => totals.bits_per_byte(),
            Self::Accuracy => 100.0 * totals.accuracy(),
            Self::TokensPerSecond => tokens / figures.seconds,
            Self::Mfu => 100.0 * seconds_per_token_at_peak * tokens / figures.seconds,
            Self::LearningRate => figures.learning_rate,
            Self::GradientNorm => figures.gradient_norm,
        }
    }
}

impl Adaptor<Figures> for Figures {
    fn adapt(&self) -> Figures {
        *self
    }
}

/// A [`Measure`] as a burn-train metric. The value of an interval is computed from its summed totals, so that
/// perplexity is exp of the mean loss and not a mean of perplexities.
#[derive(Clone)]
pub struct StepMetric {
    measure: Measure,
    seconds_per_token_at_peak: f64,
    name: MetricName,
    /// Text after every value.
    note: String,
    /// Whether items hold the sums so far of an evaluation. Its last item is a point of the curve.
    of_evaluation: bool,
    last: Option<Figures>,
    interval: Option<Figures>,
    /// Previous interval, which is shown until the next one has a value.
    previous: Option<Figures>,
}

impl StepMetric {
    /// Returns a metric of training steps.
    pub fn new(measure: Measure, seconds_per_token_at_peak: f64) -> Self {
        Self {
            measure,
            seconds_per_token_at_peak,
            name: Arc::new(measure.name().to_string()),
            note: String::new(),
            of_evaluation: false,
            last: None,
            interval: None,
            previous: None,
        }
    }

    /// Returns the metric of evaluations, whose items hold the sums so far.
    pub fn of_evaluation(mut self) -> Self {
        self.of_evaluation = true;
        self
    }

    fn measured(&self, figures: &Figures) -> f64 {
        self.measure.of(figures, self.seconds_per_token_at_peak)
    }

    /// Returns the metric with its lower bound after every value.
    pub fn with_floor(mut self, floor: Option<f64>) -> Self {
        self.note = floor.map_or(String::new(), |floor| format!(" (floor {floor:.3})"));
        self
    }

    fn entry(&self) -> SerializedEntry {
        let shown = self.interval.or(self.previous);
        let Some(interval) = shown.map(|figures| self.measured(&figures)) else {
            return SerializedEntry::new("-".into(), SerializedEntry::NOT_AVAILABLE.into());
        };
        let last = self.last.map(|figures| self.measured(&figures));
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
    type Input = Figures;

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
        figures: &Self::Input,
        metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let is_point = !self.of_evaluation || metadata.progress.is_completed();
        self.last = is_point.then_some(*figures);
        if let Some(figures) = self.last {
            match &mut self.interval {
                Some(interval) => interval.add(&figures),
                None => self.interval = Some(figures),
            }
        }
        Ok(self.entry())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        self.last = None;
        Ok(self.entry())
    }

    fn clear(&mut self) {
        self.previous = self.interval.take();
    }
}

impl Numeric for StepMetric {
    fn value(&self) -> Option<NumericEntry> {
        self.last
            .map(|figures| NumericEntry::Value(self.measured(&figures)))
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.interval
            .map(|figures| NumericEntry::Value(self.measured(&figures)))
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(
            self.interval
                .map_or(f64::NAN, |figures| self.measured(&figures)),
        )
    }
}

#[cfg(test)]
mod tests {
    use burn::data::dataloader::Progress;

    use super::*;
    use crate::engine::totals::Totals;

    fn figures(nats: f64, tokens: usize, bytes: usize, seconds: f64) -> Figures {
        Figures {
            totals: Totals {
                nats,
                correct: tokens as f64 / 4.0,
                weight: tokens as f64,
                tokens,
                bytes,
            },
            seconds,
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
            let mut metric = StepMetric::new(measure, 0.05);
            metric
                .update(&figures(10.0, 10, 10, 1.0), &metadata)
                .unwrap();
            metric
                .update(&figures(90.0, 30, 90, 3.0), &metadata)
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
