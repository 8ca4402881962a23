//! Measures generation of GPT-2 (124M) in f32, on Flex and, if built with it, on libtorch, compared with `transformers` of
//! Hugging Face with the same weights on the same cores. Each runs in its own process, and they alternate.
//!
//! Decoding one text reads every weight once per token, so the bytes read per second are compared with those of a plain
//! read. Decoding many texts at once is bound by arithmetic, and is compared with the fastest matrix product measured, of
//! Flex and PyTorch.
//!
//! It needs a `python3` that imports `transformers`; `.ci/env.sh` provides one. Arguments choose cases by their number.

use std::error::Error;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use foretoken::backend::Backend;
use foretoken::engine::memory::peak_resident_bytes;
use foretoken::outln;
use foretoken_model::{
    GenerationConfig, ModelConfig, Pretrained, Sampler, SamplingConfig, generate,
};
use rayon::prelude::*;
use serde_json::{Value, json};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/generate.py");
/// Processes of each competitor.
const ROUNDS: usize = 3;
/// Prompts read by each process to time their reading.
const READINGS: usize = 3;
/// Texts at once, tokens of each prompt, and tokens that continue each.
const CASES: [Case; 4] = [
    Case::new(1, 18, 64),
    Case::new(8, 18, 64),
    Case::new(64, 18, 32),
    Case::new(1, 742, 64),
];

#[derive(Clone, Copy)]
struct Case {
    batch: usize,
    prompt: usize,
    tokens: usize,
}

impl Case {
    const fn new(batch: usize, prompt: usize, tokens: usize) -> Self {
        Self {
            batch,
            prompt,
            tokens,
        }
    }

    fn arguments(self) -> [String; 4] {
        [self.batch, self.prompt, self.tokens, READINGS].map(|number| number.to_string())
    }
}

/// Backends of this build.
fn backends() -> Vec<&'static str> {
    let mut backends = vec!["flex"];
    if cfg!(feature = "libtorch") {
        backends.push("libtorch");
    }
    backends
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, mode, backend, directory, batch, prompt, tokens, _] = &args[..]
        && mode == "--ours"
    {
        let case = Case::new(batch.parse()?, prompt.parse()?, tokens.parse()?);
        return ours(backend, Path::new(directory), case);
    }
    let chosen = |number: &usize| {
        let mut numbers = args.iter().filter_map(|arg| arg.parse::<usize>().ok());
        let any = args.iter().any(|arg| arg.parse::<usize>().is_ok());
        !any || numbers.any(|chosen| chosen == *number)
    };
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
    let config = Pretrained::open(Path::new(directory))?.config().clone();
    let limits = Limits::measured()?;
    outln!(
        "GPT-2 (124M) in f32 on {} threads, greedy; medians over {ROUNDS} rounds, ratios within a round",
        rayon::current_num_threads()
    );
    outln!(
        "a plain read reaches {:.1} GB/s, the fastest matrix product {:.0} GFLOP/s",
        limits.read_bytes_per_second / 1e9,
        limits.operations_per_second / 1e9
    );
    let chosen = (1..=CASES.len()).filter(chosen);
    let mut measured: Vec<Measured> = chosen.map(|number| Measured::new(number - 1)).collect();
    // All cases in every round, so that one text and many are compared while the machine is equally fast.
    for _ in 0..ROUNDS {
        for measured in &mut measured {
            measured.measure(directory)?;
        }
    }
    let one = measured.iter().find(|measured| measured.case.batch == 1);
    for measured in &measured {
        measured.print(&config, &limits, one)?;
    }
    Ok(())
}

/// What the machine can do.
struct Limits {
    read_bytes_per_second: f64,
    operations_per_second: f64,
}

impl Limits {
    fn measured() -> Result<Self, Box<dyn Error>> {
        let mut limits = Self {
            read_bytes_per_second: 0.0,
            operations_per_second: 0.0,
        };
        for _ in 0..ROUNDS {
            let theirs = output(Command::new("python3").args([PEER, "peak"]))?;
            let theirs = number(&theirs, "/operations_per_second")?;
            let product = theirs.max(operations_per_second());
            limits.operations_per_second = limits.operations_per_second.max(product);
            let read = read_bytes_per_second();
            limits.read_bytes_per_second = limits.read_bytes_per_second.max(read);
        }
        Ok(limits)
    }
}

/// Reports of all rounds of a case.
struct Measured {
    case: Case,
    /// Of each backend.
    ours: Vec<Vec<Value>>,
    theirs: Vec<Value>,
}

impl Measured {
    fn new(case: usize) -> Self {
        Self {
            case: CASES[case],
            ours: vec![Vec::new(); backends().len()],
            theirs: Vec::new(),
        }
    }

    /// Runs a round.
    fn measure(&mut self, directory: &str) -> Result<(), Box<dyn Error>> {
        let arguments = self.case.arguments();
        for (reports, backend) in self.ours.iter_mut().zip(backends()) {
            let mut command = Command::new(std::env::current_exe()?);
            let command = command.args(["--ours", backend, directory]);
            reports.push(output(command.args(&arguments))?);
        }
        let mut command = Command::new("python3");
        let command = command.args([PEER, "run", directory]);
        self.theirs.push(output(command.args(&arguments))?);
        Ok(())
    }

    /// Prints what came out; many texts are compared with those of `one`.
    fn print(
        &self,
        config: &ModelConfig,
        limits: &Limits,
        one: Option<&Self>,
    ) -> Result<(), Box<dyn Error>> {
        let Case {
            batch,
            prompt,
            tokens,
        } = self.case;
        let theirs = &self.theirs;
        let drawn = |seconds: f64| batch as f64 / seconds;
        let read = |seconds: f64| (batch * prompt) as f64 / seconds;
        outln!("");
        outln!("batch {batch}: a prompt of {prompt} tokens, continued by {tokens}");
        outln!("  {:24} {:>9} {:>9}", "tokens/s", "drawn", "prompt");
        for (name, path) in [("generate()", "library"), ("in a loop", "loop")] {
            let speed = drawn(median(theirs, &format!("/{path}/step"))?);
            let prompt_speed = read(median(theirs, &format!("/{path}/reading"))?);
            let name = format!("transformers {name}");
            outln!("  {name:24} {speed:9.1} {prompt_speed:9.0}");
        }
        for (number, backend) in backends().into_iter().enumerate() {
            let reports = &self.ours[number];
            let speed = drawn(median(reports, "/step")?);
            let prompt_speed = read(median(reports, "/reading")?);
            outln!("  {backend:24} {speed:9.1} {prompt_speed:9.0}");
            for (name, path) in [("drawn", "step"), ("prompt", "reading")] {
                let ours = format!("/{path}");
                let against =
                    |method: &str| ratio(theirs, &format!("/{method}/{path}"), reports, &ours);
                let (library, looped) = (against("library")?, against("loop")?);
                outln!("    {name:7} {library:.2} x generate(), {looped:.2} x loop");
            }
            if let Some(one) = one
                && batch > 1
            {
                let times = batch as f64 * ratio(&one.ours[number], "/step", reports, "/step")?;
                outln!("    drawn   {times:.2} x one text");
            }
            let (bytes, operations) = work(config, self.case);
            let steps = speed / batch as f64;
            outln!(
                "    weights and cache at {:.1} GB/s, {:.0} % of a plain read; {:.0} GFLOP/s, {:.0} % of a matrix product",
                bytes * steps / 1e9,
                100.0 * bytes * steps / limits.read_bytes_per_second,
                operations * steps / 1e9,
                100.0 * operations * steps / limits.operations_per_second
            );
            let peak = median(reports, "/peak_memory_bytes")?;
            outln!(
                "    peak memory {:.0} MB, {:.2} x weights and cache; transformers {:.0} MB",
                peak / 1e6,
                peak / needed_bytes(config, self.case),
                median(theirs, "/peak_memory_bytes")? / 1e6
            );
        }
        Ok(())
    }
}

/// Bytes read and floating-point operations in a step of all texts, in the middle of the continuation. The token embedding
/// is read as the head, and rows of the position embedding are not counted.
fn work(config: &ModelConfig, case: Case) -> (f64, f64) {
    let seen = case.prompt + case.tokens / 2;
    let cache = 2 * config.layers * config.kv_heads * config.head_width() * seen;
    let attention = 4 * config.layers * config.heads * config.head_width() * seen;
    let weights = config.parameters_without_positions();
    let bytes = 4 * (weights + case.batch * cache);
    let operations = case.batch * (2 * weights + attention);
    (bytes as f64, operations as f64)
}

/// Bytes of weights, and of the cache at the end.
fn needed_bytes(config: &ModelConfig, case: Case) -> f64 {
    let columns = case.batch * (case.prompt + case.tokens - 1);
    let cache = 2 * config.layers * config.kv_heads * config.head_width() * columns;
    4.0 * (config.parameters() + cache) as f64
}

fn number(value: &Value, path: &str) -> Result<f64, Box<dyn Error>> {
    let number = value.pointer(path).and_then(Value::as_f64);
    number.ok_or_else(|| format!("no number {path}").into())
}

fn median(values: &[Value], path: &str) -> Result<f64, Box<dyn Error>> {
    let numbers = values.iter().map(|value| number(value, path));
    Ok(middle(numbers.collect::<Result<_, _>>()?))
}

/// The median over rounds of a number of one competitor over that of another.
fn ratio(above: &[Value], of: &str, below: &[Value], by: &str) -> Result<f64, Box<dyn Error>> {
    let rounds = above.iter().zip(below);
    let ratios = rounds.map(|(above, below)| Ok(number(above, of)? / number(below, by)?));
    Ok(middle(ratios.collect::<Result<_, Box<dyn Error>>>()?))
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn output(command: &mut Command) -> Result<Value, Box<dyn Error>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs in a separate process: loads the model, generates, and prints measurements as JSON.
fn ours(backend: &str, directory: &Path, case: Case) -> Result<(), Box<dyn Error>> {
    let device = backend.parse::<Backend>()?.device()?;
    let pretrained = Pretrained::open(directory)?;
    let model = pretrained.load(&device)?;
    drop(pretrained);
    let prompts = vec![(0..case.prompt as u32).collect::<Vec<_>>(); case.batch];
    // Seconds to the first token, and of all.
    let run = |tokens| -> Result<(f64, f64), Box<dyn Error>> {
        let mut samplers = (0..case.batch)
            .map(|_| Sampler::new(SamplingConfig::greedy(), 0))
            .collect::<Result<Vec<_>, _>>()?;
        let started = Instant::now();
        let mut first = 0.0;
        let note_first = |_, _| {
            if first == 0.0 {
                first = started.elapsed().as_secs_f64();
            }
            ControlFlow::Continue(())
        };
        let length = GenerationConfig::new(tokens);
        let texts = generate(&model, &prompts, &length, &mut samplers, note_first)?;
        black_box(texts);
        Ok((first, started.elapsed().as_secs_f64()))
    };
    run(2)?;
    let readings = (0..READINGS).map(|_| Ok(run(1)?.0));
    let reading = middle(readings.collect::<Result<_, Box<dyn Error>>>()?);
    let (first, all) = run(case.tokens)?;
    let report = json!({
        "reading": reading,
        "step": (all - first) / (case.tokens - 1) as f64,
        "peak_memory_bytes": peak_resident_bytes().ok_or("no VmHWM")?,
    });
    outln!("{report}");
    Ok(())
}

/// Measures the bytes that all cores read per second, searching them for a byte that is not there: the best of several.
fn read_bytes_per_second() -> f64 {
    let bytes = vec![1u8; 512 << 20];
    let part = bytes.len() / rayon::current_num_threads();
    let seconds = (0..4).map(|_| {
        let started = Instant::now();
        let found = bytes
            .par_chunks(part)
            .any(|part| memchr::memchr(0, black_box(part)).is_some());
        black_box(found);
        started.elapsed().as_secs_f64()
    });
    bytes.len() as f64 / seconds.fold(f64::INFINITY, f64::min)
}

/// Measures the operations per second of Flex's matrix product: the best of several.
fn operations_per_second() -> f64 {
    const SIZE: usize = 1536;
    let random = || {
        let shape = [SIZE, SIZE];
        Tensor::<2>::random(shape, Distribution::Default, &Device::flex())
    };
    let (a, b) = (random(), random());
    let seconds = (0..8).map(|_| {
        let started = Instant::now();
        black_box(a.clone().matmul(b.clone()));
        started.elapsed().as_secs_f64()
    });
    2.0 * (SIZE as f64).powi(3) / seconds.fold(f64::INFINITY, f64::min)
}
