//! What a comparison under way tells whoever watches it.

use super::{Check, Entrant, Envelope, Verdict};

/// Everything that will be run, in the order in which it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The experiment's name.
    pub name: String,
    /// Optimizer steps of each run.
    pub steps: usize,
    /// Training tokens in a step.
    pub tokens_per_step: usize,
    /// Whether all runs take each step together.
    pub lockstep: bool,
    /// What all others are measured against.
    pub reference: Entrant,
    /// The runs. Events name them by their place here.
    pub runs: Vec<PlannedRun>,
    /// What was asked for and cannot run here, and why.
    pub unavailable: Vec<(Entrant, String)>,
}

/// A run of a [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlannedRun {
    /// What it is for.
    pub role: Role,
    /// What it runs on.
    pub entrant: Entrant,
}

/// What a run of a comparison is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All others are measured against it.
    Reference,
    /// Shows what rounding does: its initial weights are moved by one unit in the last place.
    Rounding,
    /// Shows what another seed does.
    Seed(u64),
    /// Is compared.
    Entrant,
}

/// What happens, as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Comes first.
    Planned(Plan),
    /// A run is about to take its first step; its kernels may be compiled first.
    Started {
        /// Its place in the plan.
        run: usize,
    },
    /// Step 0 of an entrant was checked against the reference.
    Checked {
        /// Its place in the plan.
        run: usize,
        /// All checks.
        checks: Vec<Check>,
    },
    /// A run took a step.
    Step {
        /// Its place in the plan.
        run: usize,
        /// Counted from 0.
        step: usize,
        /// Nats per token.
        loss: f64,
        /// Wall-clock time of the step.
        seconds: f64,
        /// ‖weights − reference's weights‖ / ‖reference's weights‖ after it; in lockstep only.
        weights_distance: Option<f64>,
    },
    /// An envelope reaches further, or is known: its bounds for steps `0..loss.len()`.
    Enveloped(Envelope),
    /// A run took its last step, or failed.
    Ended {
        /// Its place in the plan.
        run: usize,
        /// See [`Entry::peak_memory_bytes`](super::Entry::peak_memory_bytes).
        peak_memory_bytes: Option<u64>,
        /// Why it failed, if it did.
        failure: Option<String>,
    },
    /// An entrant has its verdict.
    Judged {
        /// Its place in the plan.
        run: usize,
        /// The verdict.
        verdict: Verdict,
        /// Why, in a sentence.
        reason: String,
    },
}

/// Somebody who watches a comparison.
pub trait Watcher {
    /// Called on the thread that runs the comparison, which waits meanwhile.
    fn event(&mut self, event: Event);

    /// Whether the comparison shall stop after the step under way.
    fn wants_to_stop(&self) -> bool;
}
