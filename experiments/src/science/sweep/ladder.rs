//! Ladders: runs that differ only in their number of steps share the steps at which their learning rates are the same.
//!
//! With warm-up, stable phase and decay (WSD), runs of several horizons have one trunk, and each horizon is a decay that
//! branches from it (Hägele et al. 2024, arXiv 2405.18392). The longest run is the trunk: it keeps the checkpoints at
//! which the others begin their decay.

use std::collections::BTreeMap;

use super::run::{Run, Shared};
use crate::Experiment;
use crate::engine::schedule::Schedule;
use crate::experiment::{Keep, ScheduleName};

/// Most steps that an explicit list of kept checkpoints names in place of `train.keep = N`.
const MAX_KEPT: usize = 10_000;

/// Finds ladders, and lets the longest run of each keep the checkpoints that the others need.
pub(super) fn share(runs: &mut [Run]) {
    let mut ladders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        if run.cost.is_some() && can_share(&run.experiment) {
            let key = without_steps(&run.experiment);
            ladders.entry(key).or_default().push(index);
        }
    }
    for mut ladder in ladders.into_values() {
        ladder.sort_by_key(|index| runs[*index].experiment.train.steps);
        let Some(trunk) = ladder.pop() else { continue };
        let mut kept = Vec::new();
        for index in ladder {
            let step = shared_steps(&runs[index].experiment, &runs[trunk].experiment);
            if step > 0 {
                kept.push(step);
                runs[index].shared = Some(Shared {
                    trunk: runs[trunk].name.clone(),
                    step,
                });
            }
        }
        let train = &mut runs[trunk].experiment.train;
        if !kept.is_empty() {
            train.keep = keeping(&train.keep, kept, train.steps);
        }
    }
}

/// Whether a run can share steps: its schedule has a stable phase, and what it does at a step does not depend on its
/// evaluations.
fn can_share(experiment: &Experiment) -> bool {
    let stable = [ScheduleName::Wsd, ScheduleName::Constant];
    let keep = &experiment.train.keep;
    let can_list = match keep {
        Keep::Steps(_) => true,
        Keep::Every(period) => experiment.train.steps / period <= MAX_KEPT,
    };
    stable.contains(&experiment.schedule.name) && experiment.train.early_stop == 0 && can_list
}

/// Returns the text of an experiment without its name and its number of steps.
fn without_steps(experiment: &Experiment) -> String {
    let mut same = experiment.clone();
    same.name = String::new();
    same.train.steps = 1;
    same.to_toml()
}

/// Returns the number of steps before the first one at which the learning rates differ.
fn shared_steps(run: &Experiment, trunk: &Experiment) -> usize {
    let (ours, theirs) = (Schedule::new(run), Schedule::new(trunk));
    // The rates are the same up to the decay of the shorter run, and differ from there on.
    let (mut same, mut different) = (0, run.train.steps);
    while same < different {
        let middle = same + (different - same) / 2;
        match ours.rate(middle) == theirs.rate(middle) {
            true => same = middle + 1,
            false => different = middle,
        }
    }
    same
}

/// Returns the checkpoints that are kept, with more steps.
fn keeping(keep: &Keep, more: Vec<usize>, steps: usize) -> Keep {
    let mut kept = match keep {
        Keep::Steps(kept) => kept.clone(),
        Keep::Every(period) => (*period..=steps).step_by(*period).collect(),
    };
    kept.extend(more);
    kept.sort_unstable();
    kept.dedup();
    Keep::Steps(kept)
}
