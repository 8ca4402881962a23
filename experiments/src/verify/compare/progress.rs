//! Plan and events of a comparison, for an observer of its progress.

use super::{Check, Entrant, Envelope, Unit, Verdict};

/// All runs of a comparison, in the order in which they start.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The experiment's name.
    pub name: String,
    /// Optimizer steps of each run.
    pub steps: usize,
    /// Unit in which a step is counted.
    pub unit: Unit,
    /// Number of these units in a step.
    pub items_per_step: usize,
    /// Whether all runs take each step together.
    pub lockstep: bool,
    /// The reference that all others are compared against.
    pub reference: Entrant,
    /// The runs. Events refer to them by index.
    pub runs: Vec<PlannedRun>,
    /// Requested backends that cannot run here, with the reasons.
    pub unavailable: Vec<(Entrant, String)>,
}

/// Run of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedRun {
    /// Its purpose.
    pub role: Role,
    /// Its backend and precision.
    pub entrant: Entrant,
}

/// Purpose of a run in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All others are compared against it.
    Reference,
    /// It measures rounding: its initial weights are moved by one unit in the last place.
    Rounding,
    /// It measures the effect of another seed.
    Seed(u64),
    /// It runs a backend under test.
    Entrant,
}

/// Event of a comparison under way.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The runs are planned. This is the first event.
    Planned(Plan),
    /// A run is about to take its first step; its kernels may be compiled first.
    Started {
        /// Index of the run in the plan.
        run: usize,
    },
    /// A step of a backend under test was checked against the reference.
    Checked {
        /// Index of the run in the plan.
        run: usize,
        /// All checks of the run so far.
        checks: Vec<Check>,
    },
    /// A run took a step.
    Step {
        /// Index of the run in the plan.
        run: usize,
        /// Step, counted from 0.
        step: usize,
        /// Loss, in nats per token.
        loss: f64,
        /// Wall-clock time of the step.
        seconds: f64,
        /// ‖weights − reference's weights‖ / ‖reference's weights‖ after the step; `None` unless in lockstep.
        weights_distance: Option<f64>,
    },
    /// An envelope is known, or covers more steps: `0..loss.len()`.
    Enveloped(Envelope),
    /// A run took its last step, or failed.
    Ended {
        /// Index of the run in the plan.
        run: usize,
        /// See [`Entry::peak_memory_bytes`](super::Entry::peak_memory_bytes).
        peak_memory_bytes: Option<u64>,
        /// Reason of a failure; `None` if the run succeeded.
        failure: Option<String>,
    },
    /// A backend under test has its verdict.
    Judged {
        /// Index of the run in the plan.
        run: usize,
        /// The verdict.
        verdict: Verdict,
        /// Reason of the verdict, in a sentence.
        reason: String,
    },
}

/// Observer of a comparison under way.
pub trait Watcher {
    /// Receives an event, on the thread that runs the comparison. The comparison waits for it to return.
    fn event(&mut self, event: Event);

    /// Returns whether the comparison must stop after the step under way.
    fn wants_to_stop(&self) -> bool;
}
