#![no_main]

#[path = "../targets/datasets.rs"]
mod targets;
include!("../targets/main.rs");
