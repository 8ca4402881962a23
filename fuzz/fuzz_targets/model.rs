#![no_main]

#[path = "../targets/model.rs"]
mod targets;
include!("../targets/main.rs");
