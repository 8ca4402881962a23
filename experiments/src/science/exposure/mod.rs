//! Free running against teacher forcing: how the errors of a model accumulate when it reads what it has written itself.
//!
//! A model is trained on contexts of the data, and writes on contexts of its own. With the exact distribution of the text,
//! what this costs is measured and not argued about: the divergence from it on both kinds of contexts, how often a text
//! becomes impossible, and whether the model comes back.

mod accumulate;
mod divergence;
mod figures;
mod page;
mod predictor;
mod record;
mod repetition;
mod sequences;
mod strategy;
mod study;
mod support;
#[cfg(test)]
mod tests;
mod walk;

pub use accumulate::Accumulated;
pub use record::{
    DataRecord, ExposureRecord, Method, OracleRecord, SmoothedRecord, StrategyRecord,
};
pub use repetition::{Repeated, Repetition};
pub use sequences::{Sequences, Shape};
pub use strategy::{DEFAULT_STRATEGIES, Strategy};
pub use study::{Judge, Settings, Study};
pub use support::{Recovery, Support};
