//! Measures the peak of memory of a training step beyond the weights, by context, with fused and with plain operations:
//! `cargo bench -p foretoken-benches --bench memory`. Each measurement runs in its own process.

use std::process::{Command, ExitCode};

use burn::tensor::{Int, Tensor};
use foretoken::backend::Backend;
use foretoken::engine::memory::{forget_peak, peak_resident_bytes};
use foretoken::{errln, outln};
use foretoken_benches::{BABY, usable_backends};
use foretoken_model::{Dropout, ModelConfig, Pass};

const CONTEXTS: [usize; 4] = [256, 512, 1024, 2048];

/// Option that requests one measurement instead of the table.
const ONE: &str = "--one";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip_while(|it| it != ONE)
        .skip(1)
        .collect();
    let result = match arguments.as_slice() {
        [] => table(),
        [backend, context, fused] => one(backend, context, fused).map(|bytes| outln!("{bytes}")),
        _ => Err(format!("usage: {ONE} BACKEND CONTEXT FUSED").into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn table() -> Result<()> {
    outln!(
        "Peak of a step beyond the memory before it, one sequence, {}:",
        BABY.name
    );
    outln!(
        "{:>10} {:>8} {:>12} {:>12} {:>12} {:>12}",
        "backend",
        "context",
        "fused",
        "per token",
        "plain",
        "per token"
    );
    for backend in usable_backends() {
        for context in CONTEXTS {
            let mut row = format!("{:>10} {context:>8}", backend.to_string());
            for fused in [true, false] {
                let bytes = measured(backend, context, fused)?;
                let megabytes = bytes as f64 / 1e6;
                let kilobytes = bytes as f64 / 1e3 / context as f64;
                row += &format!(" {megabytes:>9.1} MB {kilobytes:>9.1} kB");
            }
            outln!("{row}");
        }
    }
    Ok(())
}

/// Measures the peak in bytes in a separate process.
fn measured(backend: Backend, context: usize, fused: bool) -> Result<u64> {
    let output = Command::new(std::env::current_exe()?)
        .args([
            ONE,
            &backend.to_string(),
            &context.to_string(),
            &fused.to_string(),
        ])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

fn one(backend: &str, context: &str, fused: &str) -> Result<u64> {
    let device = backend.parse::<Backend>()?.device()?.autodiff();
    let (context, fused): (usize, bool) = (context.parse()?, fused.parse()?);
    let config = ModelConfig {
        context,
        ..BABY.model()
    };
    let model = config.init(1, &device)?;
    let dropout = Dropout::new(1, 0);
    let pass = Pass::training(&dropout);
    let pass = if fused { pass } else { pass.plain() };
    let step = |length: usize| {
        let tokens = || Tensor::<2, Int>::zeros([1, length], &device);
        let loss = model.next_token_loss_in(pass, tokens(), tokens());
        drop(loss.mean().backward());
        device.sync()
    };
    // A short step first creates everything that is created only once.
    step(16)?;
    forget_peak();
    let before = peak_resident_bytes().ok_or("the peak of memory is known only on Linux")?;
    step(context)?;
    Ok(peak_resident_bytes().unwrap_or(before) - before)
}
