//! Test that a build needs bounded memory, however long a document is.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may panic, and it prints its measurements
#![cfg(target_os = "linux")]

use std::{fs, io::Write, path::Path, sync::atomic::AtomicBool};

use foretoken_datasets::{BuildOptions, Monitor, ReadOptions, build};

/// Maximum memory without the tokenizer, as promised by the guide (docs/src/data.md).
const LIMIT: u64 = 256 << 20;

/// Returns the peak of resident memory since the last [`reset_peak`], in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    1024 * kilobytes.parse::<u64>().unwrap()
}

fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Writes a compressed text of one document.
fn write_text(path: &Path, bytes: usize, line: &str) {
    let file = fs::File::create(path).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    for _ in 0..bytes / line.len() {
        encoder.write_all(line.as_bytes()).unwrap();
    }
    encoder.finish().unwrap();
}

/// All cases are in one test, because the peak is that of the process.
#[test]
fn text_of_any_size_needs_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "It was the best of times, it was the worst of times: 1859.\n";
    let genome = "ACGTTGCATTAGCCAATGCAGTACCATGCAAC";
    for (tokenizer, line, bytes) in [
        ("byte", lines, 160 << 20),
        ("char", genome, 160 << 20),
        ("bpe:300", lines, 60 << 20),
        ("bpe:300", genome, 60 << 20),
    ] {
        let file = folder.path().join("text.txt.gz");
        write_text(&file, bytes, line);
        let out = folder.path().join("out");
        let options = BuildOptions {
            inputs: vec![file.to_str().unwrap().into()],
            tokenizer: tokenizer.parse().unwrap(),
            read: ReadOptions::default(),
            valid: 0.1,
            shard_tokens: BuildOptions::DEFAULT_SHARD_TOKENS,
            special_tokens: false,
            canaries: None,
        };
        static NEVER: AtomicBool = AtomicBool::new(false);
        let silent = Monitor {
            report: &|_| {},
            interrupt: &NEVER,
            bars: false,
        };
        reset_peak();
        let before = peak();
        let manifest = build(&options, &out, silent).unwrap().manifest;
        let used = peak() - before;
        assert!(manifest.train.bytes + manifest.valid.bytes > bytes as u64 - 100);
        println!(
            "{tokenizer}: {} MiB for {} MiB of text",
            used >> 20,
            bytes >> 20
        );
        // Each of these texts would exceed the limit if it were held in memory.
        assert!(used < LIMIT.min(bytes as u64), "{tokenizer}: {used} bytes");
        fs::remove_dir_all(&out).unwrap();
    }
}
