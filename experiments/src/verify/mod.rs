//! Tests of backends against a reference: whole runs are compared, single operations are bisected.

pub mod bisect;
pub mod compare;
