//! The time that runs will take, from a measured short step of each model.
//!
//! Measurements are kept in the user's cache, so that a plan is measured once on each machine.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoader;
use foretoken_datasets::Monitor;
use serde::{Deserialize, Serialize};

use super::directory::SweepDirectory;
use super::index::Entry;
use super::run::Shared;
use super::run::{Cost, Run};
use crate::backend::machine;
use crate::cache;
use crate::engine::event::{Event, Scope};
use crate::engine::session::{Observer, Session, SessionOptions};
use crate::experiment::Keep;
use crate::record::start::prepare;
use crate::science::check;
use crate::{Error, Experiment};

/// Most models that are measured. The times of others are interpolated between them.
const MAX_MEASURED: usize = 16;

/// Time for which steps are repeated, after one that is not timed.
const MEASURE_FOR: Duration = Duration::from_millis(300);

/// Least and most timed steps.
const STEPS: std::ops::RangeInclusive<usize> = 2..=20;

/// Time of a run besides steps and evaluations: its start, checkpoints and the end.
const OVERHEAD: f64 = 0.4;

/// Measured times of one model on its data.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Times {
    /// Seconds of a step of one micro-batch.
    step: f64,
    /// Seconds of the evaluation of one window.
    window: f64,
    /// Windows of the validation split.
    windows: usize,
}

/// Estimated times of the runs of a sweep.
#[derive(Debug, Clone, Default)]
pub struct Speeds {
    times: HashMap<String, RunTime>,
}

#[derive(Debug, Clone, Copy)]
struct RunTime {
    /// Seconds of the steps that the run takes itself, of its evaluations, its start and its end.
    own: f64,
    /// Seconds that the steps of its trunk would take.
    shared: f64,
}

impl Speeds {
    /// Returns the seconds that a run takes, without the steps of its trunk; `None` if unknown.
    pub fn seconds(&self, run: &str) -> Option<f64> {
        self.times.get(run).map(|time| time.own)
    }

    /// Returns the seconds until all of these runs have ended, `jobs` of them side by side; `None` if any is unknown.
    pub fn total<'r>(&self, runs: impl IntoIterator<Item = &'r str>, jobs: usize) -> Option<f64> {
        let seconds = runs.into_iter().map(|run| self.seconds(run));
        let seconds = seconds.collect::<Option<Vec<_>>>()?;
        Some(side_by_side(&seconds, jobs))
    }

    /// Returns the seconds that `jobs` processes save because runs share steps.
    pub(super) fn saved(&self, jobs: usize) -> f64 {
        let shared: f64 = self.times.values().map(|time| time.shared).sum();
        shared / jobs.max(1) as f64
    }
}

/// Returns the seconds of work that `jobs` processes divide, none of which does less than the longest piece.
pub(super) fn side_by_side(seconds: &[f64], jobs: usize) -> f64 {
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    longest.max(seconds.iter().sum::<f64>() / jobs.max(1) as f64)
}

/// A run whose time is estimated.
struct Item<'a> {
    name: &'a str,
    experiment: Cow<'a, Experiment>,
    cost: Cost,
    shared: Option<&'a Shared>,
}

impl<'a> Item<'a> {
    /// Returns `None` for a run that is refused.
    fn of(run: &'a Run) -> Option<Self> {
        Some(Self {
            name: &run.name,
            experiment: Cow::Borrowed(&run.experiment),
            cost: run.cost?,
            shared: run.shared.as_ref(),
        })
    }
}

/// Estimates the times of runs. Measures a short step of each model that was not measured before, and reports how many
/// there are to `measuring`. Runs that cannot be measured here, for example for want of a device, have no estimate.
///
/// # Errors
///
/// Returns an error if it is interrupted.
pub fn estimate(
    runs: &[Run],
    monitor: Monitor<'_>,
    measuring: &mut dyn FnMut(usize),
) -> Result<Speeds, Error> {
    let items: Vec<_> = runs.iter().filter_map(Item::of).collect();
    let mut models = models(&items);
    let mut new: Vec<&String> = models
        .iter()
        .filter(|(_, model)| model.times.is_none())
        .map(|(key, _)| key)
        .collect();
    new.sort_by(|a, b| models[*a].work.total_cmp(&models[*b].work));
    let new: Vec<String> = spread(&new).into_iter().cloned().collect();
    if !new.is_empty() {
        measuring(new.len());
    }
    for key in new {
        check(monitor.interrupt)?;
        if let Some(model) = models.get_mut(&key)
            && let Ok(times) = measure(model.experiment, monitor)
        {
            cache::keep_measurement(&key, times);
            model.times = Some(times);
        }
    }
    Ok(times_of(&items, &models))
}

/// Estimates the times of runs that have not ended, from earlier measurements only.
///
/// # Errors
///
/// Returns an error if the experiment of a run is missing or damaged.
pub fn kept(sweep: &SweepDirectory, entries: &[Entry]) -> Result<Speeds, Error> {
    let mut items = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.state.has_ended()) {
        let experiment = Experiment::load(&sweep.experiment_file(&entry.name), &[])?;
        items.extend(entry.cost.map(|cost| Item {
            name: &entry.name,
            experiment: Cow::Owned(experiment),
            cost,
            shared: entry.shared.as_ref(),
        }));
    }
    Ok(times_of(&items, &models(&items)))
}

/// Returns the distinct models of runs, with what is known about them.
fn models<'i>(items: &'i [Item]) -> BTreeMap<String, Model<'i>> {
    let mut models = BTreeMap::new();
    for item in items {
        let steps = item.cost.steps as f64 * item.experiment.train.accumulation as f64;
        let key = key(&item.experiment);
        models.entry(key).or_insert_with_key(|key| Model {
            experiment: item.experiment.as_ref(),
            work: item.cost.flops / steps,
            times: cache::kept_measurement(key),
        });
    }
    models
}

fn times_of(items: &[Item], models: &BTreeMap<String, Model>) -> Speeds {
    let mut known: Vec<(f64, Times)> = models
        .values()
        .filter_map(|model| Some((model.work, model.times?)))
        .collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0));
    let times = items.iter().filter_map(|item| {
        let model = models.get(&key(&item.experiment))?;
        let times = match model.times {
            Some(times) => times,
            None => interpolated(&known, model.work)?,
        };
        Some((item.name.to_owned(), run_time(item, &times)))
    });
    Speeds {
        times: times.collect(),
    }
}

/// A model to be measured.
struct Model<'a> {
    experiment: &'a Experiment,
    /// Floating-point operations of a step of one micro-batch.
    work: f64,
    times: Option<Times>,
}

/// Returns at most [`MAX_MEASURED`] items, evenly spread from the first to the last.
fn spread<T: Copy>(items: &[T]) -> Vec<T> {
    let count = items.len().min(MAX_MEASURED);
    let place = |index: usize| index * (items.len() - 1) / (count - 1).max(1);
    (0..count).map(|index| items[place(index)]).collect()
}

/// Describes everything that the time of a step and of an evaluation depends on.
fn key(experiment: &Experiment) -> String {
    let plain = plain(experiment);
    format!(
        "step {}\n{}",
        machine(experiment.backend.name),
        plain.to_toml()
    )
}

/// Returns the experiment with one value for each key that changes no speed.
fn plain(experiment: &Experiment) -> Experiment {
    let mut plain = experiment.clone();
    plain.name = String::new();
    plain.optimizer = Default::default();
    plain.schedule = Default::default();
    plain.optimizer.name = experiment.optimizer.name;
    let train = &mut plain.train;
    train.seed = 0;
    train.steps = STEPS.end() + 1;
    train.accumulation = 1;
    train.eval_every = 1;
    train.eval_windows = 0;
    train.final_eval_windows = 0;
    train.keep = Keep::default();
    train.early_stop = 0;
    train.sample_tokens = 0;
    plain
}

fn measure(experiment: &Experiment, monitor: Monitor<'_>) -> Result<Times, Error> {
    let setup = prepare(plain(experiment), None, monitor)?;
    let options = SessionOptions::of(&setup.experiment);
    let mut session = Session::new(&setup, options)?;
    session.step()?;
    let began = Instant::now();
    let mut steps = Vec::new();
    while steps.len() < *STEPS.start()
        || steps.len() < *STEPS.end() && began.elapsed() < MEASURE_FOR
    {
        steps.push(session.step()?.figures.seconds);
    }
    // The median, because other processes may disturb some.
    steps.sort_by(f64::total_cmp);
    let step = steps[steps.len() / 2];
    let windows = session.eval_loader(0)?.num_items();
    let some = session.eval_loader(setup.experiment.train.batch.min(windows))?;
    let began = Instant::now();
    session.evaluate(&some, Scope::Last, &mut Silent, &|| false)?;
    Ok(Times {
        step,
        window: began.elapsed().as_secs_f64() / some.num_items().max(1) as f64,
        windows,
    })
}

/// Observer that records nothing.
struct Silent;

impl Observer for Silent {
    fn observe(&mut self, _: &Event<'_>, _: &Session) -> Result<(), Error> {
        Ok(())
    }
}

/// Interpolates between measured models: logarithms of times are linear in those of work.
fn interpolated(known: &[(f64, Times)], work: f64) -> Option<Times> {
    let after = known.partition_point(|(other, _)| *other < work);
    let (below, above) = match (after.checked_sub(1).map(|at| known[at]), known.get(after)) {
        (Some(below), Some(above)) => (below, *above),
        (Some(one), None) | (None, Some(&one)) => {
            let scale = work / one.0;
            return Some(Times {
                step: one.1.step * scale,
                window: one.1.window * scale,
                ..one.1
            });
        }
        (None, None) => return None,
    };
    let share = (work / below.0).ln() / (above.0 / below.0).ln();
    let between = |a: f64, b: f64| a * (b / a).powf(share);
    Some(Times {
        step: between(below.1.step, above.1.step),
        window: between(below.1.window, above.1.window),
        windows: below.1.windows,
    })
}

fn run_time(item: &Item, times: &Times) -> RunTime {
    let train = &item.experiment.train;
    let shared = item.shared.map_or(0, |shared| shared.step);
    let own = train.steps.saturating_sub(shared);
    let some = |windows: usize| match windows {
        0 => times.windows,
        windows => windows.min(times.windows),
    };
    let all = train.steps.div_ceil(train.eval_every);
    let evaluations = all.saturating_sub(shared / train.eval_every);
    let at_end = match some(train.eval_windows) == some(train.final_eval_windows) {
        true => 0,
        false => some(train.final_eval_windows),
    };
    let windows = evaluations as f64 * some(train.eval_windows) as f64 + at_end as f64;
    let steps = |steps: usize| steps as f64 * train.accumulation as f64 * times.step;
    RunTime {
        own: OVERHEAD + steps(own) + windows * times.window,
        shared: steps(shared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(step: f64) -> Times {
        Times {
            step,
            window: step / 10.0,
            windows: 7,
        }
    }

    #[test]
    fn times_are_interpolated_on_logarithms() {
        let known = [(1e6, times(0.01)), (1e8, times(0.1))];
        let between = interpolated(&known, 1e7).unwrap();
        assert!((between.step - 0.1_f64.powf(1.5)).abs() < 1e-12);
        assert_eq!(interpolated(&known, 1e9).unwrap().step, 1.0);
        assert_eq!(interpolated(&known, 1e5).unwrap().step, 0.001);
        assert!(interpolated(&[], 1e5).is_none());
    }

    #[test]
    fn measured_models_are_spread_from_the_first_to_the_last() {
        let items: Vec<usize> = (0..100).collect();
        let some = spread(&items);
        assert_eq!((some.len(), some[0], some[15]), (16, 0, 99));
        assert_eq!(spread(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(spread(&[1]), [1]);
        assert_eq!(spread::<usize>(&[]), [0; 0]);
    }

    #[test]
    fn work_side_by_side_takes_at_least_its_longest_piece() {
        assert_eq!(side_by_side(&[1.0, 2.0, 9.0], 1), 12.0);
        assert_eq!(side_by_side(&[1.0, 2.0, 9.0], 4), 9.0);
        assert_eq!(side_by_side(&[], 4), 0.0);
    }
}
