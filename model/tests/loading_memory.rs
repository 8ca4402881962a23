//! How much memory it takes to load a model.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)] // a test may panic

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use burn::module::Module;
use burn::tensor::Device;
use foretoken_model::{Export, ModelConfig, Pretrained, WeightType};

/// Names the folder to load in a process that does nothing else: resident memory is the process's, and what
/// was freed in it may still be there.
const FOLDER: &str = "FORETOKEN_TEST_FOLDER";

/// A field of `/proc/self/status`, in bytes.
fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

/// The most that was ever resident while the model was loaded, beyond what was before.
fn peak(folder: &Path) -> u64 {
    let before = status("VmRSS");
    let model = Pretrained::open(folder).unwrap();
    let model = model.load(&Device::flex()).unwrap();
    assert!(model.num_params() > 0);
    status("VmHWM") - before
}

#[test]
fn loading_takes_little_more_than_the_weights() {
    if let Some(folder) = env::var_os(FOLDER) {
        println!("peak={}", peak(Path::new(&folder)));
        return;
    }
    let root = tempfile::tempdir().unwrap();
    // 25 M parameters; the embedding and the head are a third of them each.
    let gpt2 = ModelConfig::new(16_384, 512, 3, 8, 512).with_tied_head(false);
    let llama = ModelConfig::llama(16_384, 512, 3, 8, 4, 512);
    for (name, config) in [("gpt2", gpt2), ("llama", llama)] {
        let model = config.init(0, &Device::flex()).unwrap();
        for weight_type in [WeightType::F32, WeightType::BF16] {
            let folder = root.path().join(format!("{name}-{weight_type}"));
            let export = Export {
                weight_type,
                tokenizer: None,
                end_of_text: None,
            };
            export.write(&model, &folder).unwrap();

            let mut command = Command::new(env::current_exe().unwrap());
            command.env(FOLDER, &folder).args(["--nocapture"]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let printed = String::from_utf8(output.stdout).unwrap();
            let peak = printed.lines().find_map(|line| line.split("peak=").nth(1));
            let peak: f64 = peak.unwrap().parse().unwrap();
            let ratio = peak / (4 * config.parameters()) as f64;
            println!("{name}, {weight_type}: {ratio:.2}");
            // Less than 1 would mean that something else was measured.
            assert!(
                (1.0..1.2).contains(&ratio),
                "{name}, {weight_type}: {ratio:.2} of the weights"
            );
        }
    }
}
