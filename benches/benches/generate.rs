//! Measures tokens per second and memory of generation at batch 1: GPT-2 (124M) in f32 on Flex, compared with
//! `transformers` of Hugging Face with the same weights on the same cores. Each runs in its own process, and they
//! alternate.
//!
//! Decoding reads every weight once per token, so the bytes read per second are compared with those of a copy.
//!
//! It needs a `python3` that imports `transformers`; `.ci/env.sh` provides one.

use std::error::Error;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use burn::tensor::Device;
use foretoken::engine::memory::peak_resident_bytes;
use foretoken::outln;
use foretoken_model::{GenerationConfig, Pretrained, Sampler, SamplingConfig, generate};
use rayon::prelude::*;
use serde_json::{Value, json};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/generate.py");
/// Tokens of the prompt and tokens to generate, for a short cache and for one of most of the context.
const LENGTHS: [(usize, usize); 2] = [(16, 64), (896, 64)];
/// Processes of each competitor.
const ROUNDS: usize = 3;
/// Texts that each process generates.
const TEXTS: usize = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, directory, prompt, tokens] = &args[..]
        && mode == "--ours"
    {
        return ours(Path::new(directory), prompt.parse()?, tokens.parse()?);
    }
    let folder = tempfile::tempdir()?;
    let directory = folder
        .path()
        .to_str()
        .ok_or("the temporary folder's name")?;
    let made = Command::new("python3")
        .args([PEER, "make", directory])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        outln!("python3 cannot import transformers: run `source .ci/env.sh` first");
        return Ok(());
    }
    for (prompt, tokens) in LENGTHS {
        compare(directory, prompt, tokens)?;
    }
    Ok(())
}

fn compare(directory: &str, prompt: usize, tokens: usize) -> Result<(), Box<dyn Error>> {
    let numbers = [prompt, tokens].map(|number| number.to_string());
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut copied = Vec::new();
    for _ in 0..ROUNDS {
        let mut command = Command::new(std::env::current_exe()?);
        ours.push(output(command.args(["--ours", directory]).args(&numbers))?);
        let mut command = Command::new("python3");
        let texts = TEXTS.to_string();
        command
            .args([PEER, "run", directory])
            .args(&numbers)
            .arg(texts);
        theirs.push(output(&mut command)?);
        copied.push(copy_bytes_per_second());
    }
    let median = |values: &[Value], path: &str| -> Result<f64, Box<dyn Error>> {
        let numbers = values
            .iter()
            .map(|value| value.pointer(path).and_then(Value::as_f64));
        let mut numbers = numbers
            .collect::<Option<Vec<f64>>>()
            .ok_or("not a number")?;
        numbers.sort_by(f64::total_cmp);
        Ok(numbers[numbers.len() / 2])
    };
    let rate = |seconds: f64| tokens as f64 / seconds;
    let speed = rate(median(&ours, "/seconds")?);
    let decoding = median(&ours, "/seconds_per_decoded_token")?;
    let library = rate(median(&theirs, "/seconds/library")?);
    let looped = rate(median(&theirs, "/seconds/loop")?);
    let read = median(&ours, "/bytes_per_decoded_token")? / decoding;
    copied.sort_by(f64::total_cmp);
    let copy = copied[copied.len() / 2];
    let peak = median(&ours, "/peak_memory_bytes")?;
    let needed = median(&ours, "/weights_and_cache_bytes")?;
    let their_peak = median(&theirs, "/peak_memory_bytes")?;
    outln!("generate/gpt2: {prompt} tokens continued by {tokens}, median of {ROUNDS} rounds");
    outln!("  foretoken, flex              {speed:7.2} tokens/s");
    outln!(
        "  transformers generate()      {library:7.2} tokens/s   foretoken is {:.2} times as fast",
        speed / library
    );
    outln!(
        "  transformers, model in a loop{looped:7.2} tokens/s   foretoken is {:.2} times as fast",
        speed / looped
    );
    outln!(
        "  decoding alone {:.1} ms per token: reads {:.2} GB/s; a copy reads and writes {:.2} GB/s",
        1e3 * decoding,
        read / 1e9,
        copy / 1e9
    );
    outln!(
        "  peak memory {:.0} MB, {:.2} times weights and cache ({:.0} MB); transformers {:.0} MB",
        peak / 1e6,
        peak / needed,
        needed / 1e6,
        their_peak / 1e6
    );
    Ok(())
}

fn output(command: &mut Command) -> Result<Value, Box<dyn Error>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs in a separate process: loads the model, generates, and prints measurements as JSON.
fn ours(directory: &Path, prompt: usize, tokens: usize) -> Result<(), Box<dyn Error>> {
    let pretrained = Pretrained::open(directory)?;
    let model = pretrained.load(&Device::flex())?;
    let config = pretrained.config().clone();
    drop(pretrained);
    let prompts = [(0..prompt as u32).collect::<Vec<_>>()];
    let run = |tokens| -> Result<(f64, f64), Box<dyn Error>> {
        let sampler = Sampler::new(SamplingConfig::greedy(), 0)?;
        let started = Instant::now();
        let mut first = 0.0;
        let note_first = |_, _| {
            if first == 0.0 {
                first = started.elapsed().as_secs_f64();
            }
            ControlFlow::Continue(())
        };
        let length = GenerationConfig::new(tokens);
        black_box(generate(
            &model,
            &prompts,
            &length,
            &mut [sampler],
            note_first,
        )?);
        Ok((first, started.elapsed().as_secs_f64()))
    };
    run(4)?;
    let (mut seconds, mut decoding) = (0.0, 0.0);
    for _ in 0..TEXTS {
        let (first, all) = run(tokens)?;
        seconds += all / TEXTS as f64;
        decoding += (all - first) / (TEXTS * (tokens - 1)) as f64;
    }
    let cached_token = 4 * 2 * config.layers * config.kv_heads * config.head_width();
    let columns = prompt + tokens - 1;
    // Only one row of the position embedding is read. The token embedding is read as the head.
    let weights_read = 4 * config.parameters_without_positions();
    let cache_read = cached_token * (prompt + tokens / 2);
    let report = json!({
        "seconds": seconds,
        "seconds_per_decoded_token": decoding,
        "bytes_per_decoded_token": weights_read + cache_read,
        "weights_and_cache_bytes": 4 * config.parameters() + cached_token * columns,
        "peak_memory_bytes": peak_resident_bytes().ok_or("no VmHWM")?,
    });
    outln!("{report}");
    Ok(())
}

/// Measures the bytes that a copy on all cores reads and writes per second: the best of several copies.
fn copy_bytes_per_second() -> f64 {
    let source = vec![1u8; 256 << 20];
    let mut target = vec![0u8; source.len()];
    let part = source.len() / rayon::current_num_threads();
    let seconds = (0..5).map(|_| {
        let started = Instant::now();
        target
            .par_chunks_mut(part)
            .zip(source.par_chunks(part))
            .for_each(|(target, source)| target.copy_from_slice(source));
        black_box(&target);
        started.elapsed().as_secs_f64()
    });
    2.0 * source.len() as f64 / seconds.fold(f64::INFINITY, f64::min)
}
