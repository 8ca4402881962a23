//! Whether backends agree: whole runs compared with a reference, and single operations bisected.

pub mod bisect;
pub mod compare;
