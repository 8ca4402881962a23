//! Displays of work under way: dashboards, plain lines and progress bars. Also the terminal, and formats of numbers,
//! axes and quantiles, which reports use too.

pub mod axis;
pub(crate) mod burn_train;
pub mod dashboard;
pub mod format;
pub(crate) mod lines;
pub mod metrics;
pub mod output;
mod probes;
pub mod progress;
pub(crate) mod screen;
pub mod signals;
pub mod statistics;
pub mod terminal;
