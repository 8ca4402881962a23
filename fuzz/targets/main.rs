// Runs the fuzz target with the name of the binary. Each file of fuzz_targets/ includes this file.

#[path = "../targets/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(init: {
    // libFuzzer's hook would end the process even if a panic of a library is caught and becomes an error. Uncaught
    // panics still end it.
    let _ = std::panic::take_hook();
}, |bytes: &[u8]| {
    let target = targets::TARGETS.iter().find(|target| target.name == env!("CARGO_BIN_NAME"));
    (target.unwrap().accepts)(bytes);
});
