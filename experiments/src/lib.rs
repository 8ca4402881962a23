//! Placeholder.

pub mod backend;
pub mod environment;
