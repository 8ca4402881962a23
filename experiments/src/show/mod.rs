//! Displays of work under way: dashboards, plain lines and progress bars, and the terminal that they share.

pub mod metrics;
pub mod output;
pub mod progress;
pub mod renderer;
pub mod signals;
pub mod terminal;
