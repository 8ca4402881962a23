//! Capacities of models of several sizes: the most that runs of a size hold, or a lower bound.

use serde::Serialize;

use super::capacity::Memorised;
use crate::science::evaluate::Estimate;
use crate::show::format::significant;

/// Largest share of the memorised bits that comes in the second half of a training that has reached a capacity.
const LATE: f64 = 0.05;

/// Capacity of the models of a size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
    /// Parameters of the model.
    pub parameters: usize,
    /// The run that holds most.
    pub run: String,
    /// Bits that it holds.
    pub bits: Estimate,
    /// Bits that it holds for each parameter.
    pub per_parameter: Estimate,
    /// Share of the bits that came after the checkpoint halfway, if the run has one.
    pub late_share: Option<f64>,
    /// The reason for which these bits are a lower bound of the capacity; `None` if they are the capacity, as far as
    /// training and texts show.
    pub lower_bound: Option<LowerBound>,
}

/// Reason for which the bits that a model holds are a lower bound of its capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LowerBound {
    /// The model holds nine tenths of its text or more. Larger texts, of which a model of this size holds less, show only
    /// that it has not learnt them.
    TextTooSmall,
    /// More than 5 % of the bits came in the second half of training.
    StillLearning,
    /// The run has no checkpoint halfway, so that it is not known whether it was still learning.
    NoCheckpointHalfway,
}

impl Capacity {
    /// Takes the run that holds most of the runs of a size.
    fn of_size(parameters: usize, runs: &[&Memorised]) -> Option<Self> {
        let held = runs.iter().filter_map(|run| Some((run, run.bits?)));
        let (run, bits) = held.max_by(|a, b| a.1.value.total_cmp(&b.1.value))?;
        let late_share = run.late_share();
        let lower_bound = match (run.overflows(), late_share) {
            (false, _) => Some(LowerBound::TextTooSmall),
            (true, None) => Some(LowerBound::NoCheckpointHalfway),
            (true, Some(share)) => (share > LATE).then_some(LowerBound::StillLearning),
        };
        Some(Self {
            parameters,
            run: run.run.clone(),
            bits,
            per_parameter: bits.scaled(1.0 / parameters as f64),
            late_share,
            lower_bound,
        })
    }

    /// Says why the bits are a lower bound, or nothing.
    pub fn note(&self) -> String {
        match (self.lower_bound, self.late_share) {
            (None, _) => String::new(),
            (Some(LowerBound::TextTooSmall), _) => "lower bound: it holds its text".into(),
            (Some(LowerBound::StillLearning), Some(share)) => {
                format!("lower bound: {} % came late", significant(100.0 * share, 2))
            }
            _ => "lower bound: no checkpoint halfway".into(),
        }
    }
}

/// Capacities of models of several sizes, with what they have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacities {
    /// The sizes, ascending.
    pub models: Vec<Capacity>,
    /// Mean of the bits per parameter over the sizes whose capacity is reached.
    pub per_parameter: Option<Estimate>,
    /// Slope of the line of least squares through parameters and capacities of these sizes, in bits per parameter.
    pub slope: Option<Estimate>,
}

impl Capacities {
    /// Takes the run that holds most of each size.
    pub fn of(runs: &[Memorised]) -> Self {
        let mut sizes: Vec<usize> = runs.iter().map(|run| run.parameters).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let models: Vec<Capacity> = sizes
            .into_iter()
            .filter_map(|parameters| {
                let of_size = runs.iter().filter(|run| run.parameters == parameters);
                Capacity::of_size(parameters, &of_size.collect::<Vec<_>>())
            })
            .collect();
        let reached = models.iter().filter(|model| model.lower_bound.is_none());
        let points: Vec<(f64, f64)> = reached
            .map(|model| (model.parameters as f64, model.bits.value))
            .collect();
        Self {
            per_parameter: Estimate::of_mean(points.iter().map(|(n, bits)| bits / n)),
            slope: Estimate::of_slope(&points),
            models,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::capacity::Halfway;
    use super::*;

    fn run(parameters: usize, text_bits: f64, bits: f64) -> Memorised {
        Memorised {
            run: format!("{parameters}-{text_bits}"),
            parameters,
            documents: 10,
            text_bits,
            steps: 100,
            epochs: 9.0,
            bits: Some(Estimate {
                value: bits,
                standard_error: Some(1.0),
                interval: Some([bits - 2.0, bits + 2.0]),
            }),
            halfway: Some(Halfway {
                step: 50,
                bits: 0.96 * bits,
            }),
        }
    }

    /// Returns what is said of models of 1000 parameters that hold these bits of a text of 8000.
    fn lower_bound(bits: f64, halfway: Option<f64>) -> Option<LowerBound> {
        let mut run = run(1000, 8000.0, bits);
        run.halfway = halfway.map(|bits| Halfway { step: 50, bits });
        Capacities::of(&[run]).models[0].lower_bound
    }

    #[test]
    fn models_that_still_learn_have_a_lower_bound() {
        assert_eq!(lower_bound(3500.0, Some(3400.0)), None);
        // A model that has forgotten a little is not still learning.
        assert_eq!(lower_bound(3500.0, Some(3600.0)), None);
        assert_eq!(
            lower_bound(3500.0, Some(3000.0)),
            Some(LowerBound::StillLearning)
        );
        assert_eq!(
            lower_bound(3500.0, None),
            Some(LowerBound::NoCheckpointHalfway)
        );
        assert_eq!(
            lower_bound(7900.0, Some(7899.0)),
            Some(LowerBound::TextTooSmall)
        );
        // The larger text is not learnt yet, so that it says nothing of the capacity.
        let runs = [run(1000, 2000.0, 1990.0), run(1000, 8000.0, 500.0)];
        let found = &Capacities::of(&runs).models[0];
        assert_eq!(found.lower_bound, Some(LowerBound::TextTooSmall));
    }

    #[test]
    fn capacity_is_the_most_of_any_text_if_it_was_too_large() {
        let runs = [
            run(1000, 2000.0, 1990.0),
            run(1000, 8000.0, 3500.0),
            run(1000, 32_000.0, 3300.0),
            run(2000, 32_000.0, 7000.0),
            run(4000, 8000.0, 7900.0),
        ];
        let found = Capacities::of(&runs);
        let of: Vec<_> = found
            .models
            .iter()
            .map(|model| (model.parameters, model.bits.value, model.lower_bound))
            .collect();
        assert_eq!(
            of,
            [
                (1000, 3500.0, None),
                (2000, 7000.0, None),
                (4000, 7900.0, Some(LowerBound::TextTooSmall))
            ]
        );
        assert_eq!(found.models[0].run, "1000-8000");
        assert_eq!(found.models[0].per_parameter.value, 3.5);
        // Of the two sizes whose capacity is reached.
        assert_eq!(found.per_parameter.unwrap().value, 3.5);
        assert_eq!(found.slope.unwrap().value, 3.5);
        assert_eq!(found.slope.unwrap().interval, None);
        assert!((runs[0].late_share().unwrap() - 0.04).abs() < 1e-12);
        assert!(!runs[0].overflows() && runs[2].overflows());
    }
}
