//! Displays of work under way: dashboards, plain lines and progress bars, and the terminal that they share.

pub(crate) mod burn_train;
pub mod dashboard;
pub(crate) mod lines;
pub mod metrics;
pub mod output;
pub mod progress;
pub mod signals;
pub mod terminal;
