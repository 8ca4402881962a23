//! One run in memory: the data, the model in training, its optimizer and its schedule, and the only training step and
//! evaluation loop of the program. Prints nothing, and knows no run directory and no terminal.

pub mod data;
pub mod learner;
pub mod memory;
pub mod optimizer;
pub(crate) mod parameters;
pub(crate) mod records;
pub(crate) mod setup;
pub(crate) mod step;
