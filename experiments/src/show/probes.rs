//! Probes on displays: a plot for each family on burn-train's dashboard, and a line elsewhere.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::TensorReadError;
use burn::train::metric::{
    Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes, NumericEntry,
    SerializedEntry,
};

use crate::engine::event::{Probed, ProbedFamily};
use crate::engine::language_model::Figures;

/// Measure that is plotted.
const ACCURACY: &str = "accuracy";

/// Columns of a line.
const WIDTH: usize = 80;

/// Returns the lines of probes: the number of right answers of each family, and of its items.
pub(super) fn line(probed: &Probed, steps: usize) -> String {
    let width = steps.to_string().len();
    let mut lines = vec![format!(
        "step {:>width$}/{steps}  probes right:",
        probed.step
    )];
    let indent = lines[0].chars().count();
    for family in &probed.families {
        let right = value(family, ACCURACY) * family.items as f64;
        let part = format!("{} {right:.0}/{}", family.name, family.items);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + part.chars().count() <= WIDTH => {
                let gap = if line.ends_with(':') { " " } else { "  " };
                *line += gap;
                *line += &part;
            }
            _ => lines.push(format!("{:indent$} {part}", "")),
        }
    }
    lines.join("\n")
}

fn value(family: &ProbedFamily, measure: &str) -> f64 {
    let measure = family.measures.get(measure);
    measure.map_or(f64::NAN, |measure| measure.value)
}

fn percent(family: &ProbedFamily, measure: &str) -> f64 {
    100.0 * value(family, measure)
}

/// Describes the measures of a family, with the number of its items and the interval of its accuracy.
fn described(family: &ProbedFamily) -> String {
    let interval = family.measures.get(ACCURACY);
    let interval = interval.and_then(|measure| measure.interval);
    let interval = interval.map_or(String::new(), |[low, high]| {
        format!(", {:.0} to {:.0} %", 100.0 * low, 100.0 * high)
    });
    let chance = family.chance.map_or(String::new(), |chance| {
        format!(", chance {:.0} %", 100.0 * chance)
    });
    format!(
        "right {:.1} % ({} items{interval}{chance}) - exact {:.1} % - {:.3} bits/byte",
        percent(family, ACCURACY),
        family.items,
        percent(family, "exact_match"),
        value(family, "bits_per_byte")
    )
}

/// The latest probes of a family, which the dashboard has not plotted yet.
type Unplotted = Arc<Mutex<Option<ProbedFamily>>>;

/// Families of probes, each with the metric that plots it.
pub(super) struct ProbePlots(Vec<(String, Unplotted)>);

impl ProbePlots {
    pub(super) fn new(families: Vec<String>) -> Self {
        let families = families.into_iter();
        Self(families.map(|name| (name, Unplotted::default())).collect())
    }

    /// Returns the metrics, which read the results that are set later.
    pub(super) fn metrics(&self) -> impl Iterator<Item = ProbeMetric> {
        self.0.iter().map(|(name, unplotted)| ProbeMetric {
            name: Arc::new(format!("Probe: {name}")),
            unplotted: unplotted.clone(),
            last: None,
            is_point: false,
        })
    }

    /// Sets the results that the metrics plot with the next step.
    pub(super) fn set(&self, probed: &Probed) {
        for family in &probed.families {
            for (name, unplotted) in &self.0 {
                if *name == family.name {
                    let mut unplotted = unplotted.lock().unwrap_or_else(PoisonError::into_inner);
                    *unplotted = Some(family.clone());
                }
            }
        }
    }
}

/// Accuracy of a family of probes as a burn-train metric of training steps. Only steps with probes are points.
#[derive(Clone)]
pub(super) struct ProbeMetric {
    name: MetricName,
    unplotted: Unplotted,
    last: Option<ProbedFamily>,
    /// Whether the last update was a point.
    is_point: bool,
}

impl ProbeMetric {
    fn entry(&self) -> SerializedEntry {
        match &self.last {
            Some(family) => {
                SerializedEntry::new(described(family), percent(family, ACCURACY).to_string())
            }
            None => SerializedEntry::new("-".into(), SerializedEntry::NOT_AVAILABLE.into()),
        }
    }

    fn accuracy(&self) -> Option<f64> {
        self.last.as_ref().map(|family| percent(family, ACCURACY))
    }
}

impl Metric for ProbeMetric {
    type Input = Figures;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: Some("%".into()),
            higher_is_better: true,
        }
        .into()
    }

    fn update(
        &mut self,
        _: &Self::Input,
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        let mut unplotted = self
            .unplotted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let new = unplotted.take();
        drop(unplotted);
        self.is_point = new.is_some();
        if new.is_some() {
            self.last = new;
        }
        Ok(self.entry())
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        self.is_point = false;
        Ok(self.entry())
    }

    fn clear(&mut self) {}
}

impl Numeric for ProbeMetric {
    fn value(&self) -> Option<NumericEntry> {
        let accuracy = self.accuracy().filter(|_| self.is_point);
        accuracy.map(NumericEntry::Value)
    }

    fn running_value(&self) -> Option<NumericEntry> {
        self.accuracy().map(NumericEntry::Value)
    }

    fn final_value(&self) -> NumericEntry {
        NumericEntry::Final(self.accuracy().unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::data::dataloader::Progress;

    use super::*;
    use crate::engine::event::ProbedMeasure;

    fn probed(accuracy: f64) -> Probed {
        let measure = |value| ProbedMeasure {
            value,
            interval: Some([0.5 * value, 0.5 + 0.5 * value]),
        };
        Probed {
            step: 64,
            tokens: 0,
            seconds: 0.1,
            families: vec![ProbedFamily {
                name: "sums".into(),
                items: 16,
                chance: Some(1.0 / 3.0),
                measures: BTreeMap::from([
                    (ACCURACY.into(), measure(accuracy)),
                    ("exact_match".into(), measure(0.25)),
                    ("bits_per_byte".into(), measure(1.5)),
                ]),
            }],
        }
    }

    #[test]
    fn a_step_is_a_point_only_with_new_probes() {
        let plots = ProbePlots::new(vec!["sums".into(), "facts".into()]);
        let mut metrics: Vec<ProbeMetric> = plots.metrics().collect();
        let metadata = MetricMetadata {
            progress: Progress::new(1, 2, None),
            iteration: Some(1),
            lr: None,
        };
        let mut values = || {
            let update = |metric: &mut ProbeMetric| {
                metric.update(&Figures::default(), &metadata).unwrap();
                metric.value().map(|entry| entry.current())
            };
            metrics.iter_mut().map(update).collect::<Vec<_>>()
        };
        assert_eq!(values(), [None, None]);
        plots.set(&probed(0.5));
        assert_eq!(values(), [Some(50.0), None]);
        assert_eq!(values(), [None, None]);
        plots.set(&probed(0.75));
        assert_eq!(values(), [Some(75.0), None]);
        assert_eq!(metrics[0].running_value().unwrap().current(), 75.0);
    }

    #[test]
    fn a_line_names_every_family_with_its_items() {
        let mut probed = probed(0.875);
        assert_eq!(
            line(&probed, 3200),
            "step   64/3200  probes right: sums 14/16"
        );
        assert_eq!(
            described(&probed.families[0]),
            "right 87.5 % (16 items, 44 to 94 %, chance 33 %) - exact 25.0 % - 1.500 bits/byte"
        );
        let family = probed.families[0].clone();
        probed.families = vec![family; 6];
        let lines = line(&probed, 3200);
        let mut lines = lines.lines();
        assert_eq!(lines.next().unwrap().matches("sums 14/16").count(), 4);
        assert_eq!(
            lines.next(),
            Some("                              sums 14/16  sums 14/16")
        );
        assert_eq!(lines.next(), None);
    }
}
