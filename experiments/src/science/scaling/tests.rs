//! Tests of fits: published numbers, surfaces whose minimum is known, both methods against each other, and the coverage of
//! intervals.

mod coverage;
mod golden;
mod surfaces;
