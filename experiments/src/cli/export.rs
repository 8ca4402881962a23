//! The command `foretoken export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foretoken::record::run::claim_name;
use foretoken::record::source::{Checkpoint, Source};
use foretoken::show::format::Shown;
use foretoken::show::progress::bytes_bar;
use foretoken::{Error, outln};
use foretoken_model::WeightType;

/// Write a model for Hugging Face's transformers
///
/// Writes config.json, model.safetensors and the tokenizer's files: a folder that
/// transformers.AutoModelForCausalLM.from_pretrained loads. Weights that transformers saved in one file, and that
/// `foretoken import` read, are exported as the same bytes. An architecture without a class in transformers is
/// refused, with the name of the unsupported field.
#[derive(Args)]
#[command(after_help = "\
Examples:
  foretoken export runs/world-flex-1 --out world
  python3 -c \"import transformers; transformers.AutoModelForCausalLM.from_pretrained('world')\"
  foretoken export models/gpt2 --out gpt2-again
  foretoken export Llama-3.2-1B/ --dtype f16 --out llama-f16")]
pub(super) struct ExportArgs {
    /// A run directory, a model written by `foretoken import`, or a Hugging Face folder
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Folder to write; it must be absent or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Element type of the stored weights: f32, f16 or bf16 [default: unchanged]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<WeightType>,
    /// Checkpoint of a run: best, last, or a step number
    #[arg(long, value_name = "WHICH", default_value = "best")]
    checkpoint: Checkpoint,
}

pub(super) fn run(args: ExportArgs) -> Result<ExitCode, Error> {
    let source = Source::open(&args.model, args.checkpoint, None)?;
    let _claim = claim_name(&args.out)?;
    let bar = bytes_bar("exporting");
    source.export(&args.out, args.dtype, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    outln!(
        "{} written to {}",
        source.description().shown(),
        args.out.shown()
    );
    Ok(ExitCode::SUCCESS)
}
