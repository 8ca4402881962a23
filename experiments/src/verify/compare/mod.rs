//! Comparison of one experiment on many backends, with a verdict on each.

mod comparison;
pub mod dashboard;
mod directory;
mod experiment;
mod finished;
mod invariance;
mod judge;
mod live;
mod memory;
mod page;
mod plan;
mod progress;
mod runs;
mod statistics;
mod step_checks;
mod subject;
mod text;
mod training;
mod variant;
mod verdict;

pub use comparison::{
    Check, Checked, Comparison, Entrant, Entry, Envelope, Interval, Judge, Outcome, Outcomes,
    Recorded, Reference, Seeds,
};
#[doc(hidden)]
pub use directory::compare_unwritten;
pub use directory::{Compared, compare, write};
pub use finished::of_runs;
pub use invariance::{Computation, Invariance};
pub use page::{read, write_report};
pub use plan::CompareOptions;
pub use progress::{Event, Plan, PlannedRun, Role, Watcher};
pub use statistics::OUTCOME_LEVEL;
pub use subject::{Subject, Target, compare_subject, print_comparison};
pub use training::Unit;
pub use verdict::Verdict;
