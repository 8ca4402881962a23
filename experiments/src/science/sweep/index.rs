//! The index of a sweep: one JSON line for each run, with its state, keys, cost and result.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::run::{Cost, Run, Shared};
use crate::Error;
use crate::record::result::Summary;

/// State of a run of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not begun.
    Waiting,
    /// A process trains it.
    Running,
    /// It has begun, and no process trains it.
    Stopped,
    /// It has a result.
    Done,
    /// Its loss, its gradient or its weights are no longer finite.
    Diverged,
    /// It cannot be trained: its experiment is refused, or its data or its backend.
    Refused,
    /// It failed for another reason. The next process that runs the sweep tries it again.
    Failed,
}

impl State {
    /// Every state, in the order in which they are counted.
    pub const ALL: [Self; 7] = [
        Self::Done,
        Self::Running,
        Self::Stopped,
        Self::Waiting,
        Self::Diverged,
        Self::Refused,
        Self::Failed,
    ];

    /// Returns the name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Done => "done",
            Self::Diverged => "diverged",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Returns whether nothing more happens to the run.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running | Self::Stopped)
    }
}

/// One run in the index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the run, and of its directory in `runs/`.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Values of its axes, and then of its formulas.
    pub keys: Map<String, Value>,
    /// Its seed, `train.seed`.
    pub seed: u64,
    /// Its cost; `None` if its experiment is refused.
    #[serde(flatten)]
    pub cost: Option<Cost>,
    /// The run whose first steps it shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
    /// Its result, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Summary>,
    /// Why it diverged, was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Entry {
    /// Returns the entry of a run that has not begun.
    pub fn new(run: &Run) -> Self {
        let value = |value: &toml::Value| serde_json::to_value(value).unwrap_or_default();
        let keys = run.keys.iter();
        Self {
            name: run.name.clone(),
            state: match run.refusal {
                Some(_) => State::Refused,
                None => State::Waiting,
            },
            keys: keys.map(|(key, of)| (key.clone(), value(of))).collect(),
            seed: run.experiment.train.seed,
            cost: run.cost,
            shared: run.shared.clone(),
            result: None,
            reason: run.refusal.clone(),
        }
    }

    /// Returns whether no process tries it again: it is done, has diverged, or is refused by the plan.
    pub fn is_final(&self) -> bool {
        self.cost.is_none() || matches!(self.state, State::Done | State::Diverged)
    }

    /// Returns the share of its steps that it takes itself, from 0 to 1.
    pub fn own_share(&self) -> f64 {
        let steps = self.cost.map_or(0, |cost| cost.steps);
        match (&self.shared, steps) {
            (Some(shared), 1..) => 1.0 - shared.step as f64 / steps as f64,
            _ => 1.0,
        }
    }

    /// Returns the floating-point operations of the steps that it takes itself.
    pub fn own_flops(&self) -> f64 {
        self.cost.map_or(0.0, |cost| cost.flops) * self.own_share()
    }
}

/// Returns the text of an index.
pub(super) fn to_text(entries: &[Entry]) -> Result<String, Error> {
    let mut text = String::new();
    for entry in entries {
        text += &serde_json::to_string(entry)?;
        text.push('\n');
    }
    Ok(text)
}

/// Reads the text of an index. The error says which line is wrong.
pub(super) fn from_text(text: &str) -> Result<Vec<Entry>, String> {
    let entry = |(number, line): (usize, &str)| {
        let refused =
            |reason: String| format!("line {} is not the entry of a run: {reason}", number + 1);
        let entry: Entry =
            serde_json::from_str(line).map_err(|error| refused(error.to_string()))?;
        let trunk = entry.shared.iter().map(|shared| &shared.trunk);
        let wrong = trunk.chain([&entry.name]).find(|name| !is_name(name));
        match wrong.cloned() {
            Some(name) => Err(refused(format!("{name:?} cannot name a directory"))),
            None => Ok(entry),
        }
    };
    text.lines().enumerate().map(entry).collect()
}

/// Whether a text can be the name of a run, which must not lead out of the sweep's directory.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\\'])
}
