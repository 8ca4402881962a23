//! Building takes a bounded amount of memory, however long a document is.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test may panic, and says what it measured
#![cfg(target_os = "linux")]

use std::{fs, io::Write, path::Path, sync::atomic::AtomicBool};

use foretoken_datasets::{BuildOptions, Monitor, ReadOptions, build};

/// What the guide promises (docs/src/data.md), beyond the tokenizer.
const MOST: u64 = 256 << 20;

/// The peak of the memory of this process since it was last forgotten, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    1024 * kilobytes.parse::<u64>().unwrap()
}

fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// A compressed text of one document.
fn write_text(path: &Path, bytes: usize, line: &str) {
    let file = fs::File::create(path).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    for _ in 0..bytes / line.len() {
        encoder.write_all(line.as_bytes()).unwrap();
    }
    encoder.finish().unwrap();
}

/// One test, for the peak is that of the process.
#[test]
fn a_text_of_any_size_takes_little_memory() {
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
        };
        static NEVER: AtomicBool = AtomicBool::new(false);
        let silent = Monitor {
            report: &|_| {},
            interrupt: &NEVER,
            bars: false,
        };
        forget_peak();
        let before = peak();
        let manifest = build(&options, &out, silent).unwrap().manifest;
        let took = peak() - before;
        assert!(manifest.train.bytes + manifest.valid.bytes > bytes as u64 - 100);
        println!(
            "{tokenizer}: {} MiB for {} MiB of text",
            took >> 20,
            bytes >> 20
        );
        // Of a text held whole, each of these would take more.
        assert!(took < MOST.min(bytes as u64), "{tokenizer}: {took} bytes");
        fs::remove_dir_all(&out).unwrap();
    }
}
