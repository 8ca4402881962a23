//! Observations that a law is fitted to: size, tokens, FLOPs and loss of finished runs.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::objective::Sample;
use super::run::{Convention, Floor, LARGEST, Run, refused};
use super::table::Columns;
use super::{runs, table};
use crate::Error;
use crate::record::run::{refuse_duplicates, runs_of};

/// A run as it is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Path of the run, or file and line.
    pub name: String,
    /// Parameters N.
    pub parameters: f64,
    /// Training tokens D.
    pub tokens: f64,
    /// Training FLOPs C.
    pub flops: f64,
    /// Loss L.
    pub loss: f64,
    /// FLOPs and losses along the run; empty if only its end is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, f64)>,
}

/// Runs read from all sources.
#[derive(Debug, Clone, PartialEq)]
pub struct Observations {
    runs: Vec<Run>,
    /// The sources, as given.
    pub sources: Vec<String>,
    /// Runs of directories that are not finished, with the reason.
    pub skipped: Vec<String>,
    /// Known least loss in the unit of the loss, if all runs have the same.
    pub floor: Option<(Floor, f64)>,
}

impl Observations {
    /// Reads CSV files, run directories and sweep directories.
    ///
    /// # Errors
    ///
    /// Returns an error if a source cannot be read, a row is not one of positive numbers, there are too many runs, or runs
    /// of this program are on different data.
    pub fn read(sources: &[PathBuf], columns: &Columns) -> Result<Self, Error> {
        let mut paths = Vec::new();
        for source in sources {
            match source.is_dir() {
                true => paths.extend(runs_of(source)?),
                false => paths.push(source.clone()),
            }
        }
        refuse_duplicates(paths.iter().map(PathBuf::as_path))?;
        let mut runs = Vec::new();
        let mut skipped = Vec::new();
        for source in sources {
            match source.is_dir() {
                true => runs::read(source, &mut runs, &mut skipped)?,
                false => table::read(source, columns, &mut runs)?,
            }
            if runs.len() > LARGEST {
                let message = format!(
                    "has more than {LARGEST} runs together with the sources before it; leave some out"
                );
                return Err(refused(source.display().to_string(), message));
            }
        }
        let sources = sources
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        runs::check_comparable(&runs)?;
        let floor = common_floor(&runs);
        Ok(Self {
            runs,
            sources,
            skipped,
            floor,
        })
    }

    /// Removes the `count` runs with the largest losses.
    pub fn drop_largest(&mut self, count: usize) {
        self.runs.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        self.runs.drain(..count.min(self.runs.len()));
    }

    /// Returns the number of runs.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there are no runs.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns the conventions in which every run has a count, or has none.
    pub fn conventions(&self) -> Vec<Convention> {
        let known = |convention: &Convention| {
            let index = *convention as usize;
            self.runs.iter().all(|run| run.parameters[index].is_some())
        };
        Convention::ALL.into_iter().filter(known).collect()
    }

    /// Returns the runs with parameters of a convention; by FLOPs, then by parameters, then by name, so that the order
    /// of the sources does not matter.
    ///
    /// # Errors
    ///
    /// Returns an error if a run has no such count, or neither tokens nor FLOPs.
    pub fn with(&self, convention: Convention) -> Result<Vec<Observation>, Error> {
        let mut observations = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let Some(parameters) = run.parameters[convention as usize] else {
                let message = format!(
                    "has no count of {}; choose another --params",
                    convention.words()
                );
                return Err(refused(run.name.as_str(), message));
            };
            let (tokens, flops) = match (run.tokens, run.flops) {
                (Some(tokens), Some(flops)) => (tokens, flops),
                (Some(tokens), None) => (tokens, 6.0 * parameters * tokens),
                (None, Some(flops)) => (flops / (6.0 * parameters), flops),
                (None, None) => {
                    return Err(refused(run.name.as_str(), "has neither tokens nor FLOPs"));
                }
            };
            let positive = |value: f64| value.is_finite() && value > 0.0;
            if ![parameters, tokens, flops].into_iter().all(positive) {
                let message =
                    "has numbers so large or small that N, D or C is not a number above 0";
                return Err(refused(run.name.as_str(), message));
            }
            let per_token = flops / tokens;
            let curve = run
                .curve
                .iter()
                .map(|(tokens, loss)| (tokens * per_token, *loss));
            observations.push(Observation {
                name: run.name.clone(),
                parameters,
                tokens,
                flops,
                loss: run.loss,
                curve: curve.collect(),
            });
        }
        observations.sort_by(|a, b| {
            let sizes = a
                .flops
                .total_cmp(&b.flops)
                .then(a.parameters.total_cmp(&b.parameters));
            sizes.then_with(|| a.name.cmp(&b.name))
        });
        Ok(observations)
    }
}

/// Returns the first known least loss of which every run has the same.
fn common_floor(runs: &[Run]) -> Option<(Floor, f64)> {
    let has = |run: &Run, (floor, entropy): (Floor, f64)| {
        let same = |other: &(Floor, f64)| {
            other.0 == floor && (other.1 - entropy).abs() <= 1e-6 * entropy.abs()
        };
        run.floors.iter().any(same)
    };
    let mut candidates = runs.first()?.floors.iter().copied();
    candidates.find(|candidate| runs.iter().all(|run| has(run, *candidate)))
}

/// Returns the observations as a sample.
pub(super) fn sample(observations: &[Observation]) -> Sample {
    let points = observations.iter();
    Sample::new(points.map(|run| ([run.parameters, run.tokens, run.flops], run.loss)))
}

/// Returns the indices of observations that differ only in their seed: those with the same N, D and C.
pub(super) fn groups(observations: &[Observation]) -> Vec<Vec<usize>> {
    let mut numbers = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, run) in observations.iter().enumerate() {
        let key = [run.parameters, run.tokens, run.flops].map(f64::to_bits);
        let number = *numbers.entry(key).or_insert(groups.len());
        match groups.get_mut(number) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(floors: &[(Floor, f64)]) -> Run {
        Run {
            name: "run".into(),
            parameters: [Some(1.0); 3],
            tokens: Some(1.0),
            flops: None,
            loss: 2.0,
            floors: floors.to_vec(),
            origin: None,
            curve: Vec::new(),
        }
    }

    #[test]
    fn floor_of_windows_is_preferred_where_all_runs_have_the_same() {
        let text = (Floor::Text, 1.0);
        let window = (Floor::Window, 1.2);
        let both = run(&[window, text]);
        assert_eq!(common_floor(&[both.clone(), both.clone()]), Some(window));
        let other_window = run(&[(Floor::Window, 1.3), text]);
        assert_eq!(common_floor(&[both.clone(), other_window]), Some(text));
        assert_eq!(common_floor(&[both.clone(), run(&[text])]), Some(text));
        assert_eq!(common_floor(&[both, run(&[])]), None);
    }
}
