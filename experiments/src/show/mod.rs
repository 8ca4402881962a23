//! What people see while work is under way: dashboards, plain lines, progress bars; and the terminal that these share.

pub mod metrics;
pub mod output;
pub mod progress;
pub mod renderer;
pub mod signals;
pub mod terminal;
