//! Predictions of a fitted law, with intervals.
//!
//! The errors of predictions are distributed like those of fits to samples that were drawn from the fitted law, whose
//! truth is known (the basic bootstrap): an interval has the prediction, divided by the quantiles of drawn predictions
//! over the prediction. That of a measured loss has the noise of a run in it, too.

use super::estimates::basic_interval;
use super::intervals::quantile;
use super::law::Fitted;
use super::noise::Noise;
use super::observations::{Observation, groups, sample};
use super::prediction::{HeldOut, LossPrediction, OptimumPrediction, Prediction};
use super::run::refused;
use super::study::FitRecord;
use crate::Error;
use crate::science::random::Random;

/// Ratio to the largest or the smallest size in the data from which a prediction is labelled as extrapolation.
pub const FAR: f64 = 10.0;

/// Predicts from a fit.
pub struct Predictor<'r> {
    record: &'r FitRecord,
    noise: Noise,
    means: [f64; 3],
}

impl<'r> Predictor<'r> {
    /// Prepares predictions of a fit.
    pub fn new(record: &'r FitRecord) -> Self {
        let sample = sample(&record.observations);
        let groups = groups(&record.observations);
        let form = record.settings.law.form();
        let point = record.fitted.point(&sample.means);
        Self {
            record,
            noise: Noise::estimate(&form, &sample, &point, &groups),
            means: sample.means,
        }
    }

    fn drawn(&self) -> impl Iterator<Item = Fitted> {
        let law = self.record.settings.law;
        self.record.draws.iter().map(move |values| Fitted {
            law,
            values: *values,
        })
    }

    /// Returns the loss of a run by the law.
    pub(super) fn value(&self, run: &Observation) -> f64 {
        self.record
            .fitted
            .loss(run.parameters, run.tokens, run.flops)
    }

    /// Predicts the loss of a run of N parameters on D tokens with C FLOPs.
    pub fn loss(&self, parameters: f64, tokens: f64, flops: f64) -> LossPrediction {
        let loss = |fitted: &Fitted| fitted.loss(parameters, tokens, flops);
        self.loss_at(
            [parameters, tokens, flops],
            loss(&self.record.fitted),
            self.drawn().map(|f| loss(&f)).collect(),
        )
    }

    fn loss_at(&self, at: [f64; 3], value: f64, drawn: Vec<f64>) -> LossPrediction {
        let mut x = at.map(f64::ln);
        for (x, mean) in x.iter_mut().zip(self.means) {
            *x -= mean;
        }
        let mut random = Random::stream(self.record.settings.seed, u64::MAX);
        let errors: Vec<f64> = drawn
            .iter()
            .map(|drawn| self.noise.draw_one(x, &mut random) - (drawn / value).ln())
            .collect();
        let run_interval = match errors.iter().all(|error| error.is_finite()) {
            true => {
                [0.025, 0.975].map(|share| quantile(errors.clone(), share).map(|e| value * e.exp()))
            }
            false => [None; 2],
        };
        let [parameters, tokens, flops] = at;
        LossPrediction {
            parameters,
            tokens,
            flops,
            loss: Prediction {
                value,
                interval: basic_interval(value, drawn),
            },
            run_interval,
            extrapolation: self.extrapolation(at),
        }
    }

    /// Predicts the parameters and tokens with the lowest loss of a compute budget C = 6 N D; `None` for a law without an
    /// optimum.
    pub fn optimum(&self, flops: f64) -> Option<OptimumPrediction> {
        let (parameters, tokens) = self.record.fitted.optimum(flops)?;
        let optima: Vec<(f64, f64)> = self
            .drawn()
            .filter_map(|fitted| fitted.optimum(flops))
            .collect();
        let prediction = |value: f64, drawn: &dyn Fn(&(f64, f64)) -> f64| Prediction {
            value,
            interval: basic_interval(value, optima.iter().map(drawn).collect()),
        };
        Some(OptimumPrediction {
            flops,
            parameters: prediction(parameters, &|(n, _)| *n),
            tokens: prediction(tokens, &|(_, d)| *d),
            ratio: prediction(tokens / parameters, &|(n, d)| d / n),
            loss: self.loss(parameters, tokens, flops),
        })
    }

    /// Returns what lies far beyond the data.
    fn extrapolation(&self, at: [f64; 3]) -> Vec<(String, f64)> {
        let words = ["parameters", "tokens", "FLOPs"];
        let mut far = Vec::new();
        for (index, value) in at.into_iter().enumerate() {
            let values = self
                .record
                .observations
                .iter()
                .map(|run| [run.parameters, run.tokens, run.flops][index]);
            let high = values.clone().fold(0.0, f64::max);
            let low = values.fold(f64::INFINITY, f64::min);
            if value > FAR * high {
                far.push((
                    format!("more {} than the largest run", words[index]),
                    value / high,
                ));
            } else if value * FAR < low {
                far.push((
                    format!("fewer {} than the smallest run", words[index]),
                    low / value,
                ));
            }
        }
        far
    }
}

/// Divides runs into those that are fitted and those with the largest budgets: more FLOPs than the largest divided by
/// `factor`.
///
/// # Errors
///
/// Returns an error if no run would be left.
pub fn hold_out(
    observations: Vec<Observation>,
    factor: f64,
) -> Result<(Vec<Observation>, Vec<Observation>), Error> {
    let largest = observations.iter().map(|run| run.flops).fold(0.0, f64::max);
    let (held, kept): (Vec<_>, Vec<_>) = observations
        .into_iter()
        .partition(|run| run.flops * factor > largest);
    match kept.is_empty() {
        true => Err(refused(
            "--hold-out",
            "leaves no run to fit; choose a smaller factor",
        )),
        false => Ok((kept, held)),
    }
}

impl FitRecord {
    /// Predicts runs that were not fitted.
    pub fn hold_out(&mut self, held: &[Observation]) {
        let predictor = Predictor::new(self);
        let one = |run: &Observation| {
            let prediction = predictor.loss(run.parameters, run.tokens, run.flops);
            let [low, high] = prediction.run_interval;
            HeldOut {
                name: run.name.clone(),
                measured: run.loss,
                inside: low.is_some_and(|low| low <= run.loss)
                    && high.is_some_and(|high| run.loss <= high),
                prediction,
            }
        };
        let held = held.iter().map(one).collect();
        self.held_out = held;
    }
}
