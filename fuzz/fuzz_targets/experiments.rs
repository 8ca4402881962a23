#![no_main]

#[path = "../targets/experiments.rs"]
mod targets;
include!("../targets/main.rs");
