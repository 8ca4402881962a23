// The fuzz target that a binary of this name is: included by each file of fuzz_targets/.

#[path = "../targets/target.rs"]
mod target;

libfuzzer_sys::fuzz_target!(init: {
    // libFuzzer's hook ends the process even where a panic of a library is caught and becomes an error. A panic that
    // nobody catches still ends it.
    let _ = std::panic::take_hook();
}, |bytes: &[u8]| {
    let target = targets::TARGETS.iter().find(|target| target.name == env!("CARGO_BIN_NAME"));
    (target.unwrap().accepts)(bytes);
});
